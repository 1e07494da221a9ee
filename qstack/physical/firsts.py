"""Which requests an arm asks for the first time: both the node and its station can tell."""

from __future__ import annotations

from qstack.messages.common import RequestId
from qstack.units import BootId, NodeName


class Firsts:
    """Remembers what one end's arms have asked for, as one number for each origin.

    The numbers of an origin's requests grow, so one above all that were asked for is new. A
    request that is asked for late, after one with a larger number, is not known to be new.
    """

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: dict[NodeName, tuple[BootId, int]] = {}

    def ask(self, request: RequestId | None) -> bool:
        """Take what an arm asks for; return whether it is known to be asked the first time."""
        if request is None:
            return False
        boot, highest = self._highest.get(request.origin, (0, -1))
        if boot == request.boot and request.number <= highest:
            return False
        self._highest[request.origin] = (request.boot, request.number)
        return True

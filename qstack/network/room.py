"""Room for halves where both sides of a circuit live in the same communication qubits.

If halves of one side could take all qubits of a node, the other side could never bring the half
that would free them. A node between the ends therefore takes only so many halves per side, see
`Reservations.limit`, and tells the node before it how many it may ask the link for. The word is
soft: it names the last link request that the sender has seen and how many pairs beyond that it
takes, so nothing drifts when requests fail or are cancelled. Where each side has qubits of its own
nothing is said and nothing is limited.
"""

from __future__ import annotations

from qstack.messages.circuits import CircuitRoom
from qstack.messages.common import RequestId
from qstack.messages.link import LinkRequest
from qstack.network.desk import Desk
from qstack.network.places import Place, Side


class Room:
    """What a node between takes on its upstream side, and what the node before knows of it."""

    __slots__ = ("_desk", "_expected", "_limit", "_place", "_seen", "_told")

    def __init__(self, desk: Desk, place: Place) -> None:
        self._desk = desk
        self._place = place
        self._limit = 0
        self._expected: dict[RequestId, int] = {}
        self._seen = 0
        self._told = 0

    def accepted(self, request: LinkRequest) -> None:
        """A link request of the node before entered the queue."""
        self._expected[request.id] = request.number
        self._seen = max(self._seen, request.id.number)
        self._told = max(0, self._told - request.number)

    def arrived(self, request: RequestId) -> None:
        """It brought a half."""
        left = self._expected.get(request, 0)
        if left > 0:
            self._expected[request] = left - 1

    def ended(self, request: RequestId) -> None:
        """It brings no more."""
        self._expected.pop(request, None)

    def balance(self, limit: int, held: int) -> None:
        """Tell the node before of room, if it may run short, or if the limit is another.

        `limit`: 0 for none. `held`: halves of this side that are here.
        """
        if not limit and not self._limit:
            return
        free = max(0, limit - held - sum(self._expected.values()))
        news = limit != self._limit
        short = free > self._told and (not self._told or free - self._told >= max(1, limit // 2))
        if news or short:
            self._limit, self._told = limit, free
            place = self._place
            word = CircuitRoom(place.id, self._seen, free if limit else UNLIMITED)
            self._desk.send(place.neighbour(Side.UP), word)


UNLIMITED = -1
"""`more` of a node that has no limit any more."""

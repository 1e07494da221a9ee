"""What one end of a link is to do now: the link's latest order, as far as it can be followed."""

from __future__ import annotations

from qstack.messages.common import RequestId
from qstack.physical.arming import Wish, same_work, wish_for
from qstack.physical.opening import Opening
from qstack.physical.service import Rest, Serve


class Task:
    """The order, what is left of it, and what forbids it: a device's trouble, or the link's hours.

    `number` counts the pieces of work: what is emitted for one serves no other.
    """

    __slots__ = ("_works_for", "measures", "number", "opening", "order", "remaining", "troubles")

    def __init__(self, opening: Opening | None) -> None:
        self.opening = opening
        self.order: Serve | Rest | None = None
        self.measures = False
        """Whether the order is to measure, for which it takes no memory."""
        self.remaining = 0
        self.number = 0
        self.troubles: dict[str, str] = {}
        self._works_for: Serve | None = None

    def take(self, order: Serve | Rest) -> None:
        """Another order replaces what was there."""
        self.order = order
        self.remaining = order.pairs if isinstance(order, Serve) else 0
        self.measures = isinstance(order, Serve) and order.plan is not None

    def target(self) -> Serve | None:
        """Return what to work for now."""
        order = self.order
        if type(order) is not Serve or self.troubles:
            return None
        return order if self.opening is None else self.opening.clipped(order)

    def turn(self) -> tuple[Wish, bool]:
        """Turn to the present target; return what to ask for, and whether it is work anew."""
        target, former = self.target(), self._works_for
        changed = target is None or former is None or not same_work(target, former)
        if changed and not (target is None and former is None):
            self.number += 1
        self._works_for = target
        version = 0 if self.order is None else self.order.queue_version
        return wish_for(target, version), changed and target is not None

    def count(self, request: RequestId, asked: RequestId | None) -> bool:
        """A pair of `request` came; return whether it is one of the order's: that was asked for."""
        if not self.remaining or (request is not asked and request != asked):
            return False
        self.remaining -= 1
        return True

"""What the head-end keeps of each of its circuits, and what a request needs of one."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from qstack.messages.link import LinkRequest
from qstack.network.admission import Verdict
from qstack.network.course import Course, Promise
from qstack.network.manner import manner_of, rate_for_set
from qstack.network.orders import Order
from qstack.network.places import Place
from qstack.units import Instant, LinkName, NodeName

TRIES = 12
"""Routes that are tried for a request: each that is refused names one link more to avoid."""

_LESS = 1 - 1e-9


@attrs.define(eq=False)
class Plan:
    """A circuit of this node's. `waiting` for it to be installed, or for more to be reserved.

    `avoid` links and nodes that refused, `last` with these words; `fewer`: links that have but so
    many qubits for its rounds. `dry`: what is only looked at. `need_hz`: what is reserved serves so
    many pairs per second of lab time, 0 for none; it served `former_hz` before the ask that is on
    its way, 0 if none is. `before`: what routes said is reserved of links before they were tried
    for it, or more of them was asked for. `left`: a node on it gave its room to others, so that no
    more requests are put on it. `unseen`: nobody has looked yet whether it keeps its promise, or
    it did not.
    """

    promise: Promise
    waiting: list[Order] = attrs.field(factory=list)
    avoid: frozenset[str] = frozenset()
    tries: int = 1
    last: Verdict | None = None
    dry: LinkRequest | None = None
    course: Course | None = None
    refresh_at: Instant | None = None
    idle_until: Instant | None = None
    left: bool = False
    fewer: dict[LinkName, int] = attrs.field(factory=dict)
    need_hz: float = 0.0
    former_hz: float = 0.0
    before: dict[LinkName, float] = attrs.field(factory=dict)
    unseen: bool = True

    def shares_for(self, place: Place, need_hz: float) -> tuple[float, ...]:
        """Return the parts of the legs' time that serve so many pairs per second."""
        return tuple(leg.share * need_hz / self.need_hz for leg in place.install.legs)

    def concerns(self, origins: set[NodeName]) -> bool:
        """Whether news of these nodes may say that its course does not keep its promise."""
        return self.unseen or (
            self.course is not None and not origins.isdisjoint(self.course.route.nodes)
        )


def needs_less(plan: Plan, orders: Collection[Order]) -> bool:
    """Whether these requests together need less than what is reserved for them."""
    return sum(order.need_hz for order in orders) < plan.need_hz * _LESS


def promise_of(
    remote: NodeName, request: LinkRequest, trust_min: int = 0, *, purify: bool = False
) -> Promise:
    """Return what a request must have in common with those that it shares a circuit with."""
    reserved = request.remaining_ns > 0
    said = remote, request.fidelity_min, reserved, purify, trust_min
    return Promise(*said, manner_of(request))


def need_of(request: LinkRequest) -> float:
    """Return the pairs per second of lab time that serve a request in time; 0: it has any."""
    if not request.remaining_ns:
        return 0.0
    return rate_for_set(request.number, request.within_ns, request.remaining_ns)

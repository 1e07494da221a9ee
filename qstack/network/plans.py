"""What a head-end wants of a circuit of its own: for whom, by which course, until when."""

from __future__ import annotations

import attrs

from qstack.messages.link import LinkRequest
from qstack.network.admission import Verdict
from qstack.network.course import Course, Promise
from qstack.network.orders import Order
from qstack.units import Instant, LinkName, NodeName


@attrs.define(eq=False)
class CircuitPlan:
    """A circuit of this node's. `waiting` for it to be installed; `avoid` links and nodes
    that refused, `last` with these words. `dry`: what is only looked at. `left`: a node on it gave
    its room to others, so that no more requests are put on it. `fewer`: links that have but so many
    qubits for its rounds."""

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


def promise_of(
    remote: NodeName, request: LinkRequest, trust_min: int = 0, *, purify: bool = False
) -> Promise:
    """Return what a request must have in common with others to share their circuit."""
    return Promise(remote, request.fidelity_min, request.remaining_ns > 0, purify, trust_min)

"""What an operator decides of a node, beyond its hardware and its addresses."""

from __future__ import annotations

from qstack.machine import record
from qstack.messages.circuits import Method
from qstack.network.service import METHODS, TimeDivision
from qstack.units import MILLISECOND, SECOND, Duration


@record
class Policy:
    """What the operator of a node decides of circuits. Durations in lab ns.

    `trust` is how much others may rely on the node, as routes are told; larger is more. Circuits
    that begin here are forgotten elsewhere `lease_ns` after the last word of this node, which takes
    down one that has had no request for `idle_ns`. `methods`: with which circuits that end here
    may purify; none: never. `division`: that, and by whom, the network's links are divided in time.
    """

    trust: int = 0
    lease_ns: Duration = 30 * SECOND
    idle_ns: Duration = 500 * MILLISECOND
    methods: tuple[Method, ...] = METHODS
    division: TimeDivision | None = None

"""How the pairs of a circuit are handed over: what its requests must have in common.

An end treats a half when it comes, before the other end's word of it: it measures it, hands it
over early, or holds it for a set. So it must know by the circuit alone what to do. Requests of the
same manner share a circuit; those that hold sets, or want halves early, have one for themselves,
one after the other.
"""

from __future__ import annotations

import math

from qstack.errors import ErrorCode
from qstack.link.service import senseless
from qstack.machine import record
from qstack.messages.common import PLAIN_Z, BasisPlan, PairKind
from qstack.messages.link import LinkRequest
from qstack.network.admission import Verdict
from qstack.units import SECOND, Duration

MOST_HELD = 1_024
"""Pairs of one set: no node holds more at once, and what a set takes is summed over its pairs."""


@record
class Manner:
    """`plans`, of the head-end and of the tail-end: both measure each half as soon as it comes.

    `early`: halves go to users when they come. `within_ns`: pairs of a set are handed over
    together, none of them there for longer; 0: each as it comes. `halves`: so many at once each
    end must be able to hold.
    """

    plans: tuple[BasisPlan, BasisPlan] | None = None
    early: bool = False
    within_ns: Duration = 0
    halves: int = 1

    @property
    def alone(self) -> bool:
        """Whether a circuit has one request of this manner at a time."""
        return self.early or self.halves > 1

    @property
    def beyond_links(self) -> bool:
        """Whether no link does this by itself."""
        return self.early or self.within_ns > 0

    @property
    def purified(self) -> bool:
        """Whether pairs may go through rounds at the ends before."""
        return not (self.beyond_links or self.alone)


PLAIN = Manner()


def manner_of(request: LinkRequest) -> Manner:
    """Return how a request wants its pairs."""
    if request.kind is PairKind.MEASURE:
        return Manner((request.origin_plan, request.peer_plan))
    held = request.atomic or request.within_ns > 0
    return Manner(None, request.early, request.within_ns, request.number if held else 1)


def manner_for(kind: PairKind, number: int, within_ns: Duration) -> Manner:
    """Return the manner of a request for so many pairs of a kind, for predictions.

    How halves are measured does not matter for these.
    """
    if kind is PairKind.MEASURE:
        return Manner((PLAIN_Z, PLAIN_Z))
    return Manner(within_ns=within_ns, halves=number) if within_ns else PLAIN


def nonsense(request: LinkRequest) -> Verdict | None:
    """Return why an end-to-end request makes no sense, or None."""
    complaint = senseless(request) or _unlike(request)
    return Verdict(ErrorCode.CREATE, complaint) if complaint else None


def _unlike(request: LinkRequest) -> str:
    """Why the ways of handing over that a request asks for exclude each other; empty if not."""
    kept = request.kind is PairKind.KEEP
    if request.within_ns < 0:
        return f"all pairs within {request.within_ns} ns; 0 means each as it comes"
    if request.within_ns and not kept:
        return f"all pairs within a time of each other are kept ones, not {request.kind.name}"
    if request.within_ns and request.number > MOST_HELD:
        return f"{request.number} pairs within a time of each other: {MOST_HELD} are possible"
    if request.early and not kept:
        return f"halves that are handed over early are kept ones, not {request.kind.name}"
    if request.early and (request.within_ns or request.atomic):
        return "halves that are handed over early are not held for others"
    if request.early and request.final_bell is not None:
        return "halves that are handed over early are their users': nobody else turns them"
    return ""


# --- how long a set takes ---------------------------------------------------------------------


def set_ns(rate_hz: float, number: int, within_ns: Duration) -> float:
    """Return how long a set takes on the average, at most, in ns; pairs come at random.

    Exact for up to two pairs. For more it is the time of somebody who begins anew with none when
    `within_ns` passed since the first of a set: with S the wait for the others,
    ``(1 / rate + E[min(S, within)]) / P(S <= within)``. The network keeps the younger ones.
    """
    if rate_hz <= 0:
        return math.inf
    gap = SECOND / rate_hz
    if number == 1 or not within_ns:
        return number * gap
    mean = within_ns / gap
    term = few = math.exp(-mean)
    for count in range(1, number - 1):
        term *= mean / count
        few += term
    last = few + term * mean / (number - 1)  # fewer than `number` come within, besides the first
    if few >= 1:
        return math.inf
    waited = (number - 1) * gap * (1 - last) + within_ns * few
    return (gap + waited) / (1 - few)


def rate_for_set(number: int, within_ns: Duration, remaining_ns: Duration) -> float:
    """Return the least rate, in pairs per second, at which a set takes no longer than this."""
    low = number * SECOND / remaining_ns
    if not within_ns or set_ns(low, number, within_ns) <= remaining_ns:
        return low
    high = low
    while set_ns(high, number, within_ns) > remaining_ns:
        high *= 2
        if not math.isfinite(high):
            return math.inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if set_ns(middle, number, within_ns) > remaining_ns:
            low = middle
        else:
            high = middle
    return high


_HALVINGS = 40

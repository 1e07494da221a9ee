"""What a run for pairs is asked for, and what it came to."""

from __future__ import annotations

from collections.abc import Callable

from qstack.errors import RequestFailed
from qstack.machine import record
from qstack.messages.application import Terms
from qstack.messages.common import PLAIN_Z, Basis, BasisPlan, BasisSet, PairId, PairInfo, PairKind
from qstack.programs.tomography import PERFECT, Readout
from qstack.units import Duration, Instant

PLANS = {
    "X": BasisPlan(BasisSet.XYZ, 1.0, 0.0, 0.0, 0.0, 0.0),
    "Y": BasisPlan(BasisSet.XYZ, 0.0, 1.0, 0.0, 0.0, 0.0),
    "Z": PLAIN_Z,
}
DRAWN = BasisPlan(BasisSet.XYZ, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)
AXIS_OF = {Basis.X: "X", Basis.Y: "Y", Basis.Z: "Z"}


@record
class PairRecord:
    """A pair of which both ends have reported. `axes` and `outcomes` in the order (a, b).

    `latency_ns`: from the request to the OK at `a`.
    """

    pair: PairId
    info: PairInfo
    axes: tuple[str, str]
    outcomes: tuple[int, int]
    latency_ns: Duration


@record
class PairsOptions:
    """What to ask for, and how to tell the time.

    `now` returns lab time. `per_request`: pairs in one request, 0 for all; requests follow
    each other. `timeout_ns` of lab time for each request, 0 for none. `within_ns`: kept pairs of a
    request are handed over together, none of them there for longer, 0 for each as it comes; both
    memories must hold them all. `early`: kept halves are handed over when they come, are
    measured at once on a drawn axis, and of what pair they were is told later. `on_pair` is called
    with each complete pair. `predicted_rate_hz`: at most, of attempts that succeed or of the route,
    0 where unknown; `promised_fidelity`: that of the route to a node that is no neighbour, or 0.
    `readouts`: of a's and b's memories, for the correction of the outcomes. `trust_min`: what nodes
    on the way must be trusted with.
    """

    count: int
    now: Callable[[], Instant]
    kind: PairKind = PairKind.KEEP
    fidelity_min: float = 0.0
    timeout_ns: Duration = 0
    per_request: int = 0
    purpose: int = 0
    priority: int = 0
    predicted_rate_hz: float = 0.0
    promised_fidelity: float = 0.0
    readouts: tuple[Readout, Readout] = (PERFECT, PERFECT)
    on_pair: Callable[[PairRecord], None] | None = None
    trust_min: int = 0
    within_ns: Duration = 0
    early: bool = False

    def terms(self, remote: str, number: int) -> Terms:
        """Return those of a request for so many pairs with a node."""
        return Terms(
            remote=remote,
            number=number,
            fidelity_min=self.fidelity_min,
            max_time_ns=self.timeout_ns,
            purpose=self.purpose,
            priority=self.priority,
            weight=1.0,
            atomic=False,
            consecutive=False,
            trust_min=self.trust_min,
            within_ns=self.within_ns,
        )


@record
class PairsReport:
    """Measured against predicted. Fidelities are None where too little was measured.

    `delivered` (a, b) counts OKs, `complete` pairs of which both ends have an outcome, `used`
    those that count for the fidelity, `expired` voided pairs. `correlators` are those of X, Y
    and Z, as if every pair were Phi+, corrected for readout; `fidelity_raw` is not. Rates are
    pairs per second of lab time, the first OK not counted. `latency_ns`: quantiles of request to
    OK, and `interval_ns` those of OK to OK, at `QUANTILES` of :mod:`qstack.programs.figures`.
    `error` is empty where all requests were fulfilled, else `failure` is what ended the run.
    `records` are the complete pairs that are not void, `latencies` and `intervals` all times that
    the quantiles are of.
    `predicted_fidelity` is the mean goodness of the delivered pairs, `promised_fidelity` what the
    route to a distant node promises. `hops`: links that the pairs went over, each number with how
    many pairs. `age_ns`: quantiles of the pairs' ages at delivery, and `oldest_ns` those of the
    oldest pair of each request that asked for all within a time. Of halves that were handed over
    early, at a and at b: `discarded` belonged to no pair, and `in_advance` were read before it was
    told whether they do; None where none were asked for.
    """

    wanted: int
    delivered: tuple[int, int]
    complete: int
    used: int
    expired: int
    bells: tuple[tuple[str, int], ...]
    correlators: tuple[float | None, float | None, float | None]
    fidelity: float | None
    fidelity_error: float | None
    fidelity_raw: float | None
    predicted_fidelity: float | None
    predicted_fidelity_low: float | None
    rate_hz: float | None
    predicted_rate_hz: float | None
    latency_ns: tuple[Duration, ...]
    interval_ns: tuple[Duration, ...]
    elapsed_ns: Duration
    error: str
    failure: RequestFailed | None = None
    records: tuple[PairRecord, ...] = ()
    latencies: tuple[Duration, ...] = ()
    intervals: tuple[Duration, ...] = ()
    promised_fidelity: float | None = None
    hops: tuple[tuple[int, int], ...] = ()
    age_ns: tuple[Duration, ...] = ()
    oldest_ns: tuple[Duration, ...] = ()
    discarded: tuple[int, int] | None = None
    in_advance: tuple[int, int] | None = None

"""A user and its node: requests and their results (the user port)."""

from __future__ import annotations

from qstack.bell import BellIndex
from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.circuits import Method
from qstack.messages.common import Basis, BasisPlan, PairId, PairInfo, Qubit, RequestId
from qstack.messages.devices import Gate
from qstack.messages.wire import Delivery, Layer, message, payload
from qstack.units import Duration, LinkName, NodeName


@payload
class Terms:
    """What every request for pairs states.

    `remote`: the other end. `number`: how many pairs. `fidelity_min` in [0, 1].
    `max_time_ns`: 0 for no limit. `purpose`: a port-like tag that the remote must listen on.
    `priority`: larger is earlier. `weight`: share under weighted fair scheduling. `atomic`: both
    ends have the memory for all pairs at once. `consecutive`: over a link, nothing in between.
    `trust_min`: what every node between the two ends must be trusted with at least, as their
    operators say. `within_ns`, for kept pairs: all are handed over together, and none was there for
    longer when the last came; 0: each as it comes.
    """

    remote: NodeName
    number: int
    fidelity_min: float
    max_time_ns: Duration
    purpose: int
    priority: int
    weight: float
    atomic: bool
    consecutive: bool
    trust_min: int = 0
    within_ns: Duration = 0


# --- user to node; `reference` is the user's own number for the call ---------------------


@message(0x60, Layer.APPLICATION, Delivery.RELIABLE)
@record
class CreateKeep:
    """Ask for pairs to keep; `final_bell` None takes them as they are heralded.

    `early`: each end gets its halves as HalfReady when they come, and hears later of each whether
    it belongs to a pair: by HalfConfirmed or HalfDiscarded.
    """

    reference: int
    terms: Terms
    store: bool
    final_bell: BellIndex | None
    early: bool = False


@message(0x61, Layer.APPLICATION, Delivery.RELIABLE)
@record
class CreateMeasure:
    """Ask for pairs to be measured at both ends at once."""

    reference: int
    terms: Terms
    local: BasisPlan
    remote: BasisPlan


@message(0x62, Layer.APPLICATION, Delivery.RELIABLE)
@record
class CreatePrepare:
    """Prepare the remote half by measuring the local one."""

    reference: int
    terms: Terms
    store: bool
    local: BasisPlan
    correct: bool


@message(0x63, Layer.APPLICATION, Delivery.RELIABLE)
@record
class Cancel:
    """End a running request of mine; what was delivered stays delivered."""

    reference: int
    request: RequestId


@message(0x64, Layer.APPLICATION, Delivery.RELIABLE)
@record
class Listen:
    """Take pairs that others ask for with this purpose. Answered by Answer."""

    reference: int
    purpose: int


@message(0x65, Layer.APPLICATION, Delivery.RELIABLE)
@record
class StopListen:
    """Refuse later requests with this purpose; running ones finish."""

    reference: int
    purpose: int


@message(0x66, Layer.APPLICATION, Delivery.RELIABLE)
@record
class MeasureQubit:
    """Measure a qubit of mine and free it. Answered by Measured."""

    reference: int
    qubit: Qubit
    plan: BasisPlan


@message(0x67, Layer.APPLICATION, Delivery.RELIABLE)
@record
class FreeQubit:
    """Give a qubit of mine back, whatever it holds. No answer."""

    qubit: Qubit


@message(0x68, Layer.APPLICATION, Delivery.RELIABLE)
@record
class ApplyGate:
    """Apply a gate to one or two qubits of mine. Answered by Answer."""

    reference: int
    gate: Gate
    qubit: Qubit
    other: Qubit | None
    angle: float


@message(0x69, Layer.APPLICATION, Delivery.RELIABLE)
@record
class AskStatus:
    """Ask what the node knows and has counted. Answered by Status."""

    reference: int


@message(0x79, Layer.APPLICATION, Delivery.RELIABLE)
@record
class Drain:
    """Take nothing new on a link of this node (None: at this node at all), or do so again.

    What runs is finished. Holds until it is taken back, or the node's process ends. Answered by
    Answer.
    """

    reference: int
    link: LinkName | None
    drain: bool


@message(0x7A, Layer.APPLICATION, Delivery.RELIABLE)
@record
class TryPairs:
    """A dry run: would a request on these terms be served now? Answered by Tried.

    Every node on the way is asked and nothing is kept, made or emitted.
    """

    reference: int
    terms: Terms


# --- node to user -----------------------------------------------------------------------


@message(0x70, Layer.APPLICATION, Delivery.RELIABLE)
@record
class Created:
    """The request's network-wide id; its results follow."""

    reference: int
    request: RequestId


@message(0x71, Layer.APPLICATION, Delivery.RELIABLE)
@record
class Answer:
    """The call is done (`code` None), or was refused."""

    reference: int
    code: ErrorCode | None
    reason: str


@message(0x72, Layer.APPLICATION, Delivery.RELIABLE)
@record
class PairReady:
    """OK for K (and for R at the receiver): a half is yours, in `qubit`.

    For R, `outcome` and `basis` are the creator's and `corrected` says whether a Pauli turned
    the qubit into the state of outcome 0; for K they are None and False.
    """

    request: RequestId
    remote: NodeName
    purpose: int
    info: PairInfo
    qubit: Qubit
    outcome: int | None
    basis: Basis | None
    corrected: bool


@message(0x73, Layer.APPLICATION, Delivery.RELIABLE)
@record
class OutcomeReady:
    """OK for M (and for R at the creator): the measured axis and outcome, raw."""

    request: RequestId
    remote: NodeName
    purpose: int
    info: PairInfo
    basis: Basis
    outcome: int


@message(0x74, Layer.APPLICATION, Delivery.RELIABLE)
@record
class RequestDone:
    """All pairs of the request were delivered; `tested` more were spent on test rounds."""

    request: RequestId
    delivered: int
    tested: int


@message(0x75, Layer.APPLICATION, Delivery.RELIABLE)
@record
class RequestEnded:
    """The request ended with an error; `delivered` pairs stay valid."""

    request: RequestId
    code: ErrorCode
    reason: str
    delivered: int


@message(0x76, Layer.APPLICATION, Delivery.RELIABLE)
@record
class PairExpired:
    """EXPIRE: a delivered pair is void. The qubit stays yours; free it."""

    request: RequestId
    pair: PairId
    reason: str


@message(0x77, Layer.APPLICATION, Delivery.RELIABLE)
@record
class Measured:
    """The answer to MeasureQubit; `held_ns` from initialisation to readout."""

    reference: int
    qubit: Qubit
    basis: Basis
    outcome: int
    held_ns: Duration


@message(0x78, Layer.APPLICATION, Delivery.RELIABLE, bulk=True)
@record
class Status:
    """What the node knows, as JSON text: for people and tools, not for protocols."""

    reference: int
    text: str


@message(0x7B, Layer.APPLICATION, Delivery.RELIABLE)
@record
class Tried:
    """What a dry run found. `code` None: it would be served; otherwise why not, by `reason`.

    `nodes` from end to end over `links`. `rate_hz`: pairs per second of lab time that the way has
    at most; `promised_hz`: those that the request would be promised, 0 without a maximum time.
    `fidelity`: the mean at hand-over, after `rounds` of purification by `method`. `latency_ns`: of
    control messages from end to end. `cutoffs_ns`: so long each node between keeps a half that
    waits for its partner. All but `reason` are empty and zero where it would not be served.
    """

    reference: int
    code: ErrorCode | None
    reason: str
    nodes: tuple[NodeName, ...]
    links: tuple[LinkName, ...]
    rate_hz: float
    promised_hz: float
    fidelity: float
    latency_ns: Duration
    cutoffs_ns: tuple[Duration, ...]
    method: Method
    rounds: int


@message(0x7D, Layer.APPLICATION, Delivery.RELIABLE)
@record
class HalfReady:
    """A half is yours before it is known what it is a half of: one of HalfConfirmed, HalfDiscarded.

    `half` is the pair of this end's first link; it names the half in the notice.
    """

    request: RequestId
    remote: NodeName
    purpose: int
    half: PairId
    qubit: Qubit


@message(0x7E, Layer.APPLICATION, Delivery.RELIABLE)
@record
class HalfConfirmed:
    """OK for a half that was handed over early: it is, or was when it was used, one of this pair.

    `info` as of now, for a half that was not used; `info.bell` is the frame of one that was. The
    qubit stays yours.
    """

    request: RequestId
    remote: NodeName
    purpose: int
    info: PairInfo
    half: PairId
    qubit: Qubit


@message(0x7F, Layer.APPLICATION, Delivery.RELIABLE)
@record
class HalfDiscarded:
    """A half that was handed over early belongs to no pair. The qubit stays yours; free it."""

    request: RequestId
    half: PairId
    qubit: Qubit
    reason: str

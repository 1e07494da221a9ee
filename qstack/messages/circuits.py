"""Node with neighbour, along circuits: install, requests, tracking of pairs, expiry.

Everything here goes hop by hop over the adjacencies of neighbouring nodes, in one ordered channel.
*Downstream* is away from the head-end, which made the circuit, and *upstream* towards it; the
other end is the tail-end. A message for a circuit that the receiver does not know is nothing.
"""

from __future__ import annotations

from enum import IntEnum

from qstack.bell import BellIndex
from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.common import HASHED, Basis, PairId, RequestId
from qstack.messages.link import LinkRequest
from qstack.messages.wire import Delivery, Layer, message, payload
from qstack.units import BootId, Duration, LinkName, NodeName


class Method(IntEnum):
    """How the rounds of purification on a hop, or at the ends of a circuit, follow each other."""

    NONE = 0
    NESTED_DEJMPS = 1
    """Two equal pairs, each already purified, in each round."""
    PUMPED_DEJMPS = 2
    """One pair, again and again with a fresh elementary one."""
    NESTED_BBPSSW = 3
    PUMPED_BBPSSW = 4
    NESTED_LOSS = 5
    """The first round against photon loss, for pairs of one click; nested DEJMPS from then on."""


@payload
class CircuitId:
    """A circuit, network-wide: its head-end, in which life, the how-manieth."""

    origin: NodeName
    boot: BootId
    number: int

    def __hash__(self) -> int:
        return self.number & HASHED

    def __str__(self) -> str:
        return f"{self.origin}.{self.boot & 0xFFFF:04x}.{self.number}"


@payload
class Leg:
    """One hop of a circuit: a link, and the node that it leads to, seen from the head-end.

    `fidelity_min`: what the link is asked for. `share`: part of the link's time, in [0, 1], that
    the circuit reserves, 0 for what is left over. `cutoff_ns`: so long `node` holds a pair
    that waits for its partner, 0 for ever; of no meaning at the tail-end. `store`: halves move to
    storage. The two nodes of the hop purify its pairs by `method`, in so many `rounds`, before they
    are swapped; 0 for none. `latency_ns`: of their messages to each other, one way, as the
    head-end knows it.
    """

    link: LinkName
    node: NodeName
    fidelity_min: float
    share: float
    cutoff_ns: Duration
    store: bool
    method: Method = Method.NONE
    rounds: int = 0
    latency_ns: Duration = 0


@message(0x42, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitInstall:
    """Downstream: admit this circuit and pass it on. Answered by Installed or Refused.

    `legs` is the whole recorded path. `latency_ns`: of control messages from end to end, as the
    head-end knows it. The circuit is forgotten `lease_ns` after the last Install or Refresh. A
    `dry` one is looked at as others are and leaves nothing behind. Its ends purify all its pairs
    by `method`, in so many `rounds`; 0 for none. They must be able to hold `halves` halves at once.
    """

    circuit: CircuitId
    legs: tuple[Leg, ...]
    latency_ns: Duration
    lease_ns: Duration
    dry: bool
    method: Method = Method.NONE
    rounds: int = 0
    halves: int = 1


@message(0x43, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitInstalled:
    """Upstream: the sender and all after it admitted the circuit.

    `label` is the purpose under which the sender takes the circuit's requests on the link between;
    0 for a dry run.
    """

    circuit: CircuitId
    label: int


@message(0x44, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitRefused:
    """Upstream: `node` does not admit it. Nothing of it is left at the sender or after it.

    `link`: the link of that node which is the cause; empty if it is the node itself. `left`: with
    so many qubits on each side of it a circuit that asked for more could be admitted, 0 for none.
    """

    circuit: CircuitId
    node: NodeName
    code: ErrorCode
    reason: str
    link: LinkName = ""
    left: int = 0


@message(0x45, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitRefresh:
    """Downstream: the lease begins anew."""

    circuit: CircuitId


@message(0x46, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitRelease:
    """Either way: the circuit is over, with everything on it. `code` None: no longer needed."""

    circuit: CircuitId
    code: ErrorCode | None
    reason: str


@message(0x47, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitForward:
    """Downstream: a request that the tail-end is asked to take. Answered by CircuitAnswer."""

    circuit: CircuitId
    request: LinkRequest


@message(0x48, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitAnswer:
    """Upstream: the tail-end takes the request (None) or refuses it. Links start as it passes."""

    circuit: CircuitId
    request: RequestId
    code: ErrorCode | None
    reason: str


@message(0x49, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitComplete:
    """Downstream: no more pairs for this request. None: its number is reached.

    Links stop as it passes, unless another request runs on the circuit. Answered by
    CircuitClosed.
    """

    circuit: CircuitId
    request: RequestId
    code: ErrorCode | None
    reason: str


@message(0x4A, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitClosed:
    """Upstream: the tail-end is through with the request; `pairs` are all that it delivered.

    Pairs carry the head-end's id; those that it told of by CircuitDelivered are left out.
    """

    circuit: CircuitId
    request: RequestId
    pairs: tuple[PairId, ...]


@message(0x4B, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitStop:
    """Upstream: the tail-end wants the request to end, with this code."""

    circuit: CircuitId
    request: RequestId
    code: ErrorCode
    reason: str


@message(0x4C, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitTrack:
    """Either way: what has become of one end's half, as far as it is known where this passes.

    `origin` is the pair of the sending end's first link. `at` is the pair on the link between
    sender and receiver that its half leads to by now, `bell` the index of that longer pair,
    `weights` its errors I, Z, X, Y relative to it, but for the wait of the halves at the two ends.
    `doubt`: by how much the fidelity may be lower, from the intervals of the links. `age_ns`: how
    long the origin's half had waited since its link delivered it. `request`: whom the head-end
    gives the pair to; None from the tail-end, and where pairs are purified first. `measured`: the
    origin's half was, at that age: it fades no more. One that comes again while it waits asks for
    the origin's half back.
    """

    circuit: CircuitId
    origin: PairId
    at: PairId
    bell: BellIndex
    weights: tuple[float, float, float, float]
    doubt: float
    age_ns: Duration
    request: RequestId | None
    measured: bool = False


@message(0x4D, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitExpire:
    """Either way: what the pair `at`, on the link between sender and receiver, leads to is void.

    Each node passes it on to the pair that it swapped this one with, up to the end.
    """

    circuit: CircuitId
    at: PairId
    reason: str


@message(0x4F, Layer.NETWORK, Delivery.RELIABLE, bulk=True)
@record
class CircuitDelivered:
    """Either way: pairs, by the head-end's id, that the sending end has delivered.

    What an end has delivered and was not told of by the other end is void if the circuit breaks.
    """

    circuit: CircuitId
    pairs: tuple[PairId, ...]


@message(0x4E, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitOutcome:
    """Downstream: for PREPARE, what the head-end measured of its half of the pair `origin`."""

    circuit: CircuitId
    origin: PairId
    basis: Basis
    outcome: int


@message(0x54, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitGive:
    """Downstream: the head-end gives the purified `pair` to a request.

    It follows the DistilOutcome with which the head-end handed the pair over. `age_ns`: of the
    kept half at the head-end then. `goodness` and `goodness_low`: the fidelity that is told of it.
    """

    circuit: CircuitId
    pair: PairId
    request: RequestId
    age_ns: Duration
    goodness: float
    goodness_low: float


@message(0x55, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitRoom:
    """Upstream, one hop: how many halves the sender takes on the link between; the newest holds.

    `more` pairs in all may be asked for in link requests of the receiver with a number above
    `seen`, -1 for any number. Who was told nothing has no limit.
    """

    circuit: CircuitId
    seen: int
    more: int


@message(0x56, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitGather:
    """Downstream: these pairs, by the head-end's id, are the set that a request asked for.

    The head-end has handed over its halves of them, in this order. None of them had been there
    for longer than the request's `within_ns`, as the head-end sees it.
    """

    circuit: CircuitId
    request: RequestId
    pairs: tuple[PairId, ...]


@message(0x57, Layer.NETWORK, Delivery.RELIABLE)
@record
class CircuitShares:
    """Downstream: reserve these parts of the legs' time, in [0, 1], from now on; `code` is None.

    Answered upstream by the same with `code` None once all nodes hold it; where one cannot, by that
    one with a code, and those before it go back to what they held.
    """

    circuit: CircuitId
    shares: tuple[float, ...]
    code: ErrorCode | None
    reason: str

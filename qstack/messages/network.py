"""Node with node: what each advertises of itself and its links (link state), and purification."""

from __future__ import annotations

from enum import IntEnum

from qstack.machine import record
from qstack.messages.circuits import CircuitId
from qstack.messages.common import PairId
from qstack.messages.wire import Delivery, Layer, message, payload
from qstack.units import BootId, Duration, LinkName, NodeName


@payload
class LinkOffer:
    """A working point of a link, as the advertiser believes it to be.

    `rate_hz`: kept pairs per second of lab time, if nothing else ran on the link and its messages
    took no time. `weights`:
    probabilities of the errors I, Z, X, Y relative to the announced Bell state, the mean over
    click patterns, at delivery by the link. `fidelity_low`: lower bound of ``weights[0]``.
    `slot_ns`: attempts end at such intervals; 0 if that is not known. `tilt`: weight of |00> less
    that of |11>.
    """

    setting: str
    rate_hz: float
    weights: tuple[float, float, float, float]
    fidelity_low: float
    slot_ns: Duration = 0
    tilt: float = 0.0


@payload
class LinkMetric:
    """One end's view of a link. It exists for routes where both ends advertise it as up.

    `peer` is the other end. `latency_ns`: one way, of control messages between the ends.
    `reserved`: part of its time that circuits hold already, in [0, 1]. `windows`: when it works,
    as (begins, lasts) in ns, counted from when the update was made; empty: always. They come again
    every `repeats_ns`, in which all of them lie; 0: they do not. `joined`: so
    many (communication, storage) qubits has the advertiser there of which every two can meet in a
    round of purification, 0 where some cannot. `halves`: so many it can have there at once.
    `turn_ns`: so long a qubit that became free gives no pair, as the station must hear of it and
    the ends of the herald; measured. `waits`: its station or its other end is missed, or it is
    closed for long, so that what runs there waits; a link that is not up without that finishes what
    runs. One that is missed says no windows. `draining`: it
    finishes what runs and takes nothing new; it is not up then, whatever its state.
    """

    link: LinkName
    peer: NodeName
    up: bool
    latency_ns: Duration
    reserved: float
    windows: tuple[tuple[Duration, Duration], ...]
    offers: tuple[LinkOffer, ...]
    joined: tuple[int, int] = (0, 0)
    halves: int = 1
    turn_ns: Duration = 0
    waits: bool = False
    draining: bool = False
    repeats_ns: Duration = 0


@payload
class NodeMetric:
    """What a node can do for pairs of others, and how well its qubits last.

    `swaps`: it may stand between the ends of a circuit. `trust`: as the operator judged it;
    routes may ask for a minimum. `draining`: it finishes what runs and takes nothing new.
    `memories`: (communication, storage) qubits. `t1_ns`, `t2_ns`, `exponent`: fading, 0 for
    never. `keep`: probability that a two-qubit gate does what it should, fully mixing both
    qubits otherwise. `readout`: probability that an outcome is read right. `success`: of a whole
    swap. `turn`: as `keep`, of the H of a swap, on its one qubit.
    """

    swaps: bool
    trust: int
    draining: bool
    memories: tuple[int, int]
    t1_ns: Duration
    t2_ns: Duration
    exponent: float
    keep: float
    readout: float
    success: float
    turn: float


@message(0x40, Layer.NETWORK, Delivery.RELIABLE, bulk=True)
@record
class RouteUpdate:
    """All that `origin` advertises, passed on from node to node.

    `sequence` grows with each update of the origin, also over its restarts: a node that hears of a
    former life of its own goes on from there. `boot` is the life that it comes from. `age_ns`:
    since the origin made it, as far as the sender knows; transit is not counted.
    """

    origin: NodeName
    boot: BootId
    sequence: int
    age_ns: Duration
    node: NodeMetric
    links: tuple[LinkMetric, ...]


@payload
class RouteEntry:
    """Which update of an origin the sender has."""

    origin: NodeName
    boot: BootId
    sequence: int


@message(0x41, Layer.NETWORK, Delivery.RELIABLE, bulk=True)
@record
class RouteDigest:
    """Which updates the sender has, of all origins with names after `after` and up to `upto`.

    An empty `upto` has no end. Sent when the adjacency comes up; what the sender lacks, or has
    older, it is sent.
    """

    after: NodeName
    upto: NodeName
    entries: tuple[RouteEntry, ...]


# --- purification: the two ends of a circuit, hop by hop along it, or of one hop --------


class TurnAxis(IntEnum):
    """About which axis both halves are turned by a quarter before a round, opposite at the ends."""

    NONE = 0
    """Not at all, and the pair is kept only where both ends read 1: against photon loss."""
    X = 1
    """Z and Y errors change places, and so do Phi- and Psi-: the turn of DEJMPS."""
    Y = 2
    """Z and X errors change places, and so do Phi- and Psi+."""
    Z = 3
    """X and Y errors change places, and so do Psi+ and Psi-."""


@payload
class DistilAges:
    """How old the sender's half is, in ns since its initialisation.

    `stated_ns`: at the age for which the weights hold. `begun_ns`: when the round's gates began.
    """

    stated_ns: Duration
    begun_ns: Duration


@payload
class DistilInput:
    """One of the two pairs of a round, as the leading end knows it before its turn.

    `bell`: the announced Bell index. `weights`: probabilities of the errors I, Z, X, Y relative
    to it, with each half as old as its end states, or the receiver's `far_ns` old if that is
    given: the track of a half tells the other end of another age than that of its delivery. `tilt`:
    weight of |00> less that of |11>, for the same ages.
    """

    pair: PairId
    bell: int
    weights: tuple[float, float, float, float]
    turn: TurnAxis
    ages: DistilAges
    far_ns: Duration | None = None
    tilt: float = 0.0


@message(0x50, Layer.NETWORK, Delivery.RELIABLE)
@record
class DistilRound:
    """The leading end has done its part of round `number` and read `outcome`: do yours.

    Rounds count from 1 in the life of a circuit. `kept` is the control of the
    CNOT, `spent` its target, which was read. `sent_ns`: age of the leader's kept half now.
    Answered by DistilOutcome, or by a DistilVoid that names both pairs. `link`, in this and the
    other words of rounds: that of the hop whose nodes purify; empty: it is between the ends.
    """

    circuit: CircuitId
    number: int
    kept: DistilInput
    spent: DistilInput
    outcome: int
    sent_ns: Duration
    link: LinkName = ""


@message(0x51, Layer.NETWORK, Delivery.RELIABLE)
@record
class DistilOutcome:
    """The other end has done its part of round `number` and read `outcome`.

    `kept` and `spent`: the ages of its halves; `sent_ns`: that of the kept one now.
    """

    circuit: CircuitId
    number: int
    outcome: int
    kept: DistilAges
    spent: DistilAges
    sent_ns: Duration
    link: LinkName = ""


@message(0x52, Layer.NETWORK, Delivery.RELIABLE)
@record
class DistilVoid:
    """These pairs are void, and all that was made with any of them, handed over or not."""

    circuit: CircuitId
    pairs: tuple[PairId, ...]
    reason: str
    link: LinkName = ""


@message(0x53, Layer.NETWORK, Delivery.RELIABLE)
@record
class DistilEnd:
    """No more rounds on this circuit. `pairs`: what the sender gave up by that, which is void."""

    circuit: CircuitId
    pairs: tuple[PairId, ...]
    reason: str
    link: LinkName = ""

"""What a distillery is told and what it indicates."""

from __future__ import annotations

from enum import StrEnum

from qstack.bell import BellIndex, BellWeights
from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.circuits import CircuitId, Method
from qstack.messages.common import PairId, Qubit
from qstack.network.budget import Storage
from qstack.network.purification import MOST_NESTED, MOST_PUMPED
from qstack.network.rounds import Ends
from qstack.units import Duration, LinkName, NodeName

NESTED = frozenset({Method.NESTED_DEJMPS, Method.NESTED_BBPSSW, Method.NESTED_LOSS})
DRAWN = frozenset({Method.NESTED_BBPSSW, Method.PUMPED_BBPSSW})
"""Methods that twirl: the axis of each turn is drawn."""


@record
class DistilleryParameters:
    """Who purifies with whom, how, and with what.

    `leads`: whether this end decides which pairs meet; the other does not. `method` and `rounds`
    are a plan's and must be the same at both ends. `memory`: the device that
    holds the halves; `room`: who holds their slots. `storage` and `operations`, each (here,
    there): what is believed of the ends' memories and gates. `latency_ns`: of a message between the
    ends, one way. `patience_ns`: after this long without a word on a round the leading end gives it
    up, 0 never. `horizon_ns`: so long after its hand-over a purified pair may still expire; at
    least as long as the layer below says of its pairs, and longer than it takes to see
    that the peer is lost. `link`: that of the hop whose pairs these are, before they are swapped;
    empty where they are those of the circuit's ends.
    """

    node: NodeName
    peer: NodeName
    circuit: CircuitId
    method: Method
    rounds: int
    memory: str
    room: str
    storage: tuple[Storage, Storage]
    operations: Ends
    latency_ns: Duration
    patience_ns: Duration
    horizon_ns: Duration
    leads: bool
    link: LinkName = ""

    @property
    def nested(self) -> bool:
        """Whether equals meet, rather than one pair and fresh ones."""
        return self.method in NESTED

    def check(self) -> None:
        """Raise LocalProtocolError where no distillery can do this."""
        most = MOST_NESTED if self.nested else MOST_PUMPED
        if self.method is Method.NONE or not 1 <= self.rounds <= most:
            raise LocalProtocolError(f"{self.rounds} rounds of {self.method.name} are no plan")
        if self.node == self.peer:
            raise LocalProtocolError(f"{self.node} cannot purify with itself")


# --- requests ---------------------------------------------------------------------------


@record
class Deliver:
    """A pair is here: its half in `qubit`, held by the room of the parameters, is taken over.

    `weights`: probabilities of the errors I, Z, X, Y relative to `bell`, each half as old as it is
    when its own end delivers it; `age_ns` is the age of this one, since its initialisation.
    `far_ns`, where the leading end knows it: for that age of the other half the weights hold.
    `tilt`: weight of |00> less that of |11>, 0 where nothing is known of it.
    """

    pair: PairId
    qubit: Qubit
    bell: BellIndex
    weights: BellWeights
    age_ns: Duration
    far_ns: Duration | None = None
    tilt: float = 0.0


@record
class Expire:
    """EXPIRE: this pair is void, whether it was delivered, spent or handed over, or never came."""

    pair: PairId
    reason: str


@record
class Stop:
    """End: no more pairs are wanted. The peer is told."""

    reason: str


@record
class PeerGone:
    """The adjacency with the peer is lost, or its life is over."""

    reason: str


# --- indications ------------------------------------------------------------------------


class Cause(StrEnum):
    """Why pairs were discarded."""

    UNLIKE = "the outcomes disagree"
    EXPIRED = "a pair is void"
    FAULT = "a device failed"
    LATE = "the peer did not answer in time"
    ENDED = "there are no more rounds"


@record
class Purified:
    """A pair went through all rounds; `qubit` belongs to the receiver from now on.

    `weights`: relative to `bell`, with both halves as old as they are when handed over at their
    own ends, as far as this end can know; `age_ns` is the age of this half. `consumed`: the pairs
    that were spent on it, in the order of their rounds.
    """

    circuit: CircuitId
    pair: PairId
    qubit: Qubit
    bell: BellIndex
    weights: BellWeights
    age_ns: Duration
    rounds: int
    consumed: tuple[PairId, ...]


@record
class PurifiedExpired:
    """A pair that was handed over is void; its qubit stays with its owner, who frees it."""

    circuit: CircuitId
    pair: PairId
    reason: str


@record
class Discarded:
    """These pairs are no more; their slots are free again."""

    circuit: CircuitId
    pairs: tuple[PairId, ...]
    cause: Cause
    reason: str


@record
class DistilleryEnded:
    """Terminal, once: nothing is held any more. `purified` pairs were handed over."""

    circuit: CircuitId
    reason: str
    purified: int

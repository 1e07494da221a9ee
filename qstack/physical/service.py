"""What the physical layer offers to the link layer, one instance per link and node."""

from __future__ import annotations

from typing import TypeAlias

from qstack.bell import BellIndex, BellWeights
from qstack.machine import record
from qstack.messages.common import Basis, BasisPlan, PairKind, Pattern, Qubit, RequestId
from qstack.units import BootId, Duration, Instant, LinkName, NodeName, Picoseconds
from qstack.windows import Windows

Values: TypeAlias = tuple[tuple[str, float], ...]
"""Named numbers: the parameters of a working point, as (name, value) pairs."""


# --- parameters, given at construction ---------------------------------------------------


@record
class MemoryModel:
    """What the stack believes of one end's memory; times in ns, 0 where there is no decay.

    Coherence after t: ``exp(-(t / t2_ns) ** exponent)``; populations relax with `t1_ns`.
    `readout` are the probabilities to read 0 and 1 right. Fidelities are averages over pure
    input states: a depolarising map of fidelity f keeps ``2 f - 1`` of a correlator.
    `bell_measurement`: it takes MemoryBell, on the pairs of slots in `coupled`, and gives an index
    with probability `swap_success`.
    """

    t1_ns: Duration
    t2_ns: Duration
    exponent: float
    move_ns: Duration
    move_fidelity: float
    gate_ns: Duration
    gate_fidelity: float
    readout: tuple[float, float]
    bell_measurement: bool = False
    two_qubit_fidelity: float = 1.0
    swap_success: float = 1.0
    coupled: tuple[tuple[int, int], ...] = ()


@record
class EndParameters:
    """One end of a link: its devices, memories and distance to the station.

    `communication` and `storage` are slot numbers of device `memory`. `herald_line`: the
    emitter stops by itself after a success. `delay_ns`: one-way, station to node.
    """

    node: NodeName
    emitter: str
    memory: str
    communication: tuple[int, ...]
    storage: tuple[int, ...]
    herald_line: bool
    delay_ns: Duration
    model: MemoryModel


@record
class PatternPrior:
    """One click pattern of a working point, as predicted from the datasheets.

    `share` is its probability per attempt; `weights` the Bell weights (by absolute index) at
    emission; `bell` the index that it heralds; `spread` the uncertainty of ``weights[bell]``.
    `tilt`: weight of |00> less that of |11>, 0 where nothing is known of it.
    """

    clicks: int
    bell: BellIndex
    share: float
    weights: BellWeights
    spread: float
    tilt: float = 0.0


@record
class Setting:
    """A working point of a link: an opaque id, each end's device values, what comes out.

    `values` and `station_values` go unread to the devices. `window_ps` is the station's
    coincidence window. `keep` is false where only measured pairs can be had.
    """

    id: str
    values: tuple[tuple[NodeName, Values], ...]
    station_values: Values
    window_ps: Picoseconds
    patterns: tuple[PatternPrior, ...]
    calibration: str

    @property
    def success_probability(self) -> float:
        """The probability per attempt that any accepted pattern is seen."""
        return sum(pattern.share for pattern in self.patterns)

    def values_of(self, node: NodeName) -> Values:
        """The device values of one end."""
        return dict(self.values)[node]


@record
class LinkParameters:
    """All that a node or a station knows of a link before anything happens.

    `ends` in the order of their names: the first is master of the queue. `modes`: how many
    attempts fit into one cycle. `confirm_ns`: after this long without a confirmation the
    other side is asked. `horizon_ns`: time after an OK during which EXPIRE may follow.
    `test_rate`: the fraction of kept pairs that is spent on test rounds. `windows`: when the link
    is open, None for always.
    """

    name: LinkName
    scheme: str
    ends: tuple[EndParameters, EndParameters]
    station: NodeName
    analyser: str
    cycle_ns: Duration
    modes: int
    settings: tuple[Setting, ...]
    keep: bool
    scheduler: str
    queue_limit: int
    test_rate: float
    confirm_ns: Duration
    horizon_ns: Duration
    windows: Windows | None = None

    def end(self, node: NodeName) -> EndParameters:
        """The end at `node`."""
        return self.ends[0] if self.ends[0].node == node else self.ends[1]

    def other(self, node: NodeName) -> EndParameters:
        """The end that is not at `node`."""
        return self.ends[1] if self.ends[0].node == node else self.ends[0]

    @property
    def master(self) -> NodeName:
        """The end that orders the distributed queue: the lower name."""
        return min(self.ends[0].node, self.ends[1].node)

    def setting(self, identifier: str) -> Setting:
        """The working point of this id; KeyError where there is none."""
        for setting in self.settings:
            if setting.id == identifier:
                return setting
        raise KeyError(identifier)

    def patterns(self) -> tuple[Pattern, ...]:
        """Every click pattern that heralds a pair, over all settings."""
        table = {p.clicks: p.bell for setting in self.settings for p in setting.patterns}
        return tuple(Pattern(clicks, bell) for clicks, bell in sorted(table.items()))


# --- requests, from the link -------------------------------------------------------------


@record
class Serve:
    """Work for this request from now on, replacing what was served before.

    `pairs`: how many more successes are wanted. `plan`: measure my half at once as it says;
    None: keep it. `queue_version` is that of the queue that the choice was made from. Attempts
    are made in the cycles from `begin` to before `end` alone; 0: there is no such bound.
    """

    request: RequestId
    kind: PairKind
    setting: str
    pairs: int
    plan: BasisPlan | None
    queue_version: int
    begin: int = 0
    end: int = 0


@record
class Rest:
    """Make no more attempts. Answered, like every Serve, by Settled."""

    queue_version: int


PhysicalRequest: TypeAlias = Serve | Rest


# --- indications, to the link ------------------------------------------------------------


@record
class KeptReady:
    """A half of a heralded pair is in `qubit`, which now belongs to the link layer.

    `emitted_at` is local lab time, from the instant that the hardware stamped. `setting` is
    the working point that the pair was made at, whatever is served by now.
    """

    sequence: int
    station_boot: BootId
    request: RequestId
    bell: BellIndex
    clicks: int
    tags_ps: tuple[Picoseconds, ...]
    qubit: Qubit
    emitted_at: Instant
    setting: str = ""


@record
class MeasuredReady:
    """A half of a heralded pair was measured by the hardware; `setting` as in KeptReady."""

    sequence: int
    station_boot: BootId
    request: RequestId
    bell: BellIndex
    clicks: int
    tags_ps: tuple[Picoseconds, ...]
    basis: Basis
    outcome: int
    emitted_at: Instant
    setting: str = ""


@record
class PairMissing:
    """The station heralded this pair, but this node has no half of it: expire it."""

    sequence: int
    station_boot: BootId
    request: RequestId
    reason: str


@record
class Settled:
    """The station has taken the latest Serve or Rest of this queue version.

    Every success up to `last_sequence` has been indicated before, and no later success can
    belong to anything that was served before.
    """

    queue_version: int
    last_sequence: int


@record
class StationUp:
    """The station answers, in this life.

    If it is the life that was lost, every success of it that was not indicated follows, as
    PairMissing, before any new one.
    """

    station_boot: BootId


@record
class StationDown:
    """The station is lost or restarted: no half of what it heralds from now on will be had."""

    station_boot: BootId
    reason: str


@record
class ClockSeen:
    """The link's cycle 0 of this epoch began at `began`, local lab time, by the station's word.

    Indicated under time division, again where the estimate has moved by a cycle; it is late
    by the way of a message at most.
    """

    epoch: int
    began: Instant


@record
class WindowSeen:
    """A period of the link's windows began at `began`, local lab time, by the station's word.

    Indicated once for each life of the station's clock, and where that has moved.
    """

    began: Instant


@record
class DeviceTrouble:
    """A device of this link cannot work (`ready` false), or can again."""

    ready: bool
    reason: str


PhysicalIndication: TypeAlias = (
    KeptReady
    | MeasuredReady
    | PairMissing
    | Settled
    | StationUp
    | StationDown
    | ClockSeen
    | WindowSeen
    | DeviceTrouble
)

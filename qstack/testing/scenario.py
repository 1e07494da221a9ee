"""What a seed makes of the small network: its features, what its users ask, and its faults.

Swarm testing (Groce et al., ISSTA 2012): each seed switches a random subset of features and
faults on, because a bug that needs one to be absent is never met by runs that have them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from qstack.machine import record
from qstack.messages.common import BasisPlan, BasisSet, PairKind
from qstack.sim.faults import (
    CLOCK_DRIFT,
    CLOCK_OFFSET,
    CORRUPT,
    HARDWARE_LATE,
    HARDWARE_STALL,
    KINDS,
    PARTITION,
    Fault,
    Places,
)
from qstack.sim.schedule import Schedule
from qstack.sim.schedule import draw as draw_schedule
from qstack.stack import Timing
from qstack.testing.lab import PAIR, RING, ROW, Lab
from qstack.units import MICROSECOND, MILLISECOND, Chance, Duration, Instant, NodeName

FAULTS_END: Instant = 25 * MILLISECOND
"""When everything is healed, after the users began."""

TIMING = Timing(
    keepalive_ns=MILLISECOND,
    retransmit_floor_ns=500 * MICROSECOND,
    ack_delay_ns=200 * MICROSECOND,
    hello_interval_ns=MILLISECOND,
    lab_per_wall=1.0,
)

USER_NS: Duration = MICROSECOND
"""From a user in a process of its own to its node."""
SILENCE_NS: Duration = 8 * TIMING.keepalive_ns
"""After so long without a word a neighbour is lost: short against a run, long against a trip."""

LINGER_NS: tuple[Duration, ...] = tuple(
    each * MICROSECOND for each in (0, 300, 300, 300, 0, 3_000, 3_000, 12_000)
)
"""How long lingering users keep a whole pair: by turns, after the number of its herald."""

PLANS = tuple(
    BasisPlan(BasisSet.XYZ, first, second, 0.0, 0.0, 0.0)
    for first, second in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
)
"""Z, X and Y, without chance."""


@record
class Ask:
    """A request of one user for pairs with a neighbour, at an instant.

    It is cancelled `cancel_ns` after it (0: never) by `canceller`.
    """

    at: Instant
    node: NodeName
    remote: NodeName
    kind: PairKind
    number: int
    axis: int
    store: bool
    final_bell: int | None
    max_time_ns: Duration
    priority: int
    weight: float
    atomic: bool
    consecutive: bool
    fidelity_min: float
    cancel_ns: Duration
    canceller: NodeName


@record
class Isolation:
    """From `at` to `until` nothing reaches a party or leaves it, to its user neither."""

    at: Instant
    until: Instant
    name: NodeName


@record
class UserCrash:
    """The process of a node's user ends at `at`, and starts again at `until` in a new life."""

    at: Instant
    until: Instant
    node: NodeName


Mishap: TypeAlias = Isolation | UserCrash


@record
class Scenario:
    """All that a seed decides before the run begins. Instants count from when the users begin.

    `eager`: users give halves back at once and do not wait until the other has its own.
    `clumsy`: users give each half back a second time, late. `measuring`: they measure it instead.
    `sealed`: what the parties send each other is sealed, so that what is corrupted on the way is
    found, whatever it is. `lingering`: users keep whole pairs for a while, some for long.
    `here`: users live in the processes of their nodes, so that nothing parts one from the other.
    `schedule` are the faults of the network, `mishaps` those around it. `features` names what was
    switched on, of :data:`FEATURES` and :data:`FAULTS`.
    """

    seed: int
    features: tuple[str, ...]
    lab: Lab
    latency_ns: Duration
    wire_bytes: bool
    sealed: bool
    here: bool
    eager: bool
    clumsy: bool
    measuring: bool
    lingering: bool
    hold_ns: Duration
    asks: tuple[Ask, ...]
    schedule: Schedule
    mishaps: tuple[Mishap, ...]

    @property
    def judged_by_age(self) -> bool:
        """Whether the devices' clocks and ages are right, so that fidelities can be predicted."""
        wrong = (CLOCK_OFFSET, CLOCK_DRIFT, HARDWARE_LATE, HARDWARE_STALL)
        return not {fault.kind for fault in self.schedule.faults} & set(wrong)


FEATURES = (
    *("measure", "prepare", "store", "final", "cancel", "deadline", "priority", "atomic"),
    *("consecutive", "both-ways", "many-qubits", "one-qubit", "no-herald-line", "test-rounds"),
    *("weighted-fair", "strict-priority", "eager", "clumsy", "measuring", "decay", "bytes"),
    *("far", "two-settings", "long-hold", "slow-work", "two-photons"),
    *(ROW, RING, "lingering", "users-here"),
)
MISHAPS = ("isolate", "crash-user", "long-partition")
FAULTS = (*sorted(KINDS), *MISHAPS)
"""Corruption comes with seals and without checksums: it is for codec and seals to find.

A long partition is one between two parties that outlasts their patience; others seldom do.
"""


def draw(seed: int, without: Iterable[str] = (), only: Iterable[str] | None = None) -> Scenario:
    """Return the scenario of a seed; `without` and `only` switch features off by name."""
    chance = Chance(f"swarm/{seed}")
    allowed = set(FEATURES + FAULTS if only is None else only) - set(without)
    # Each name draws for itself, so that a new one does not change what the others make of a seed.
    likely = dict.fromkeys(FEATURES, 0.3)
    likely |= dict.fromkeys(FAULTS, 0.0 if chance.uniform() < 0.1 else 0.25)
    on = frozenset(n for n, share in likely.items() if chance.fork(n).uniform() < share) & allowed
    kinds = [name for name in on if name in KINDS]
    lab = _lab(on, chance.fork("lab"))
    schedule = draw_schedule(f"swarm/{seed}", kinds, lab.places, FAULTS_END)
    return Scenario(
        seed=seed,
        features=tuple(name for name in (*FEATURES, *FAULTS) if name in on),
        lab=lab,
        latency_ns=_pick(chance.fork("wires"), (20 * MICROSECOND, 50 * MICROSECOND)),
        wire_bytes="bytes" in on or CORRUPT in on,
        sealed=CORRUPT in on,
        here="users-here" in on,
        eager="eager" in on,
        clumsy="clumsy" in on,
        measuring="measuring" in on,
        lingering="lingering" in on,
        hold_ns=_hold_ns(on),
        asks=_asks(on, lab, chance),
        schedule=_with_long_partition(on, lab, without_checksums(schedule), chance.fork("parted")),
        mishaps=_mishaps(on, lab.places, chance.fork("mishaps")),
    )


def _hold_ns(on: frozenset[str]) -> Duration:
    """Return how long a user waits for the other one to have its half too, at most."""
    if "lingering" in on:
        return max(LINGER_NS) + MILLISECOND
    return 8 * MILLISECOND if "long-hold" in on else 2 * MILLISECOND


def _pick(chance: Chance, among: Iterable[Any]) -> Any:
    choices = tuple(among)
    return choices[chance.below(len(choices))]


def _lab(on: frozenset[str], chance: Chance) -> Lab:
    qubits = 16 if "many-qubits" in on else 1 if "one-qubit" in on else _pick(chance, (2, 4))
    scheduler = "first-come"
    for name in ("weighted-fair", "strict-priority"):
        if name in on:
            scheduler = name
    return Lab(
        qubits=qubits,
        storage=2 if "store" in on else 0,
        t2_ns=20 * MILLISECOND if "decay" in on else 10_000 * MILLISECOND,
        km=2.0 if "far" in on else 0.1,
        test_rate=0.2 if "test-rounds" in on else 0.0,
        scheduler=scheduler,
        herald_line="no-herald-line" not in on,
        confirm_ns=MILLISECOND,
        horizon_ns=30 * MILLISECOND,
        work_ns=MILLISECOND if "slow-work" in on else 0,
        second_setting=0.03 if "two-settings" in on else None,
        shape=RING if RING in on else ROW if ROW in on else PAIR,
        two_photons="two-photons" in on,
    )


def _asks(on: frozenset[str], lab: Lab, seed: Chance) -> tuple[Ask, ...]:
    chance, ends = seed.fork("asks"), seed.fork("ends")
    asks = []
    for _ in range((2 + chance.below(4)) * len(lab.joints)):
        _, *neighbours, _ = _pick(ends, lab.joints)
        asks.append(_ask(on, tuple(neighbours), chance))
    return tuple(sorted(asks, key=lambda ask: ask.at))


def _ask(on: frozenset[str], ends: tuple[NodeName, NodeName], chance: Chance) -> Ask:
    kinds = [PairKind.KEEP, PairKind.KEEP]
    kinds += [PairKind.MEASURE] * 2 if "measure" in on else []
    kinds += [PairKind.PREPARE] * 2 if "prepare" in on else []
    kind = _pick(chance, kinds)
    atomic = "atomic" in on and chance.uniform() < 0.5
    number = 1 + chance.below(2) if atomic else 1 + chance.below(12)
    node = _pick(chance, ends) if "both-ways" in on else ends[0]
    cancelled = "cancel" in on and chance.uniform() < 0.5
    timed = "deadline" in on and chance.uniform() < 0.5
    return Ask(
        at=chance.below(15 * MILLISECOND),
        node=node,
        remote=ends[1] if node == ends[0] else ends[0],
        kind=kind,
        number=number,
        axis=chance.below(3),
        store="store" in on and chance.uniform() < 0.5,
        final_bell=chance.below(4) if "final" in on and chance.uniform() < 0.7 else None,
        max_time_ns=MILLISECOND + chance.below(10 * MILLISECOND) if timed else 0,
        priority=chance.below(3) if "priority" in on else 0,
        weight=_pick(chance, (1.0, 2.0, 5.0)) if "priority" in on else 1.0,
        atomic=atomic,
        consecutive="consecutive" in on and chance.uniform() < 0.5,
        fidelity_min=0.95 if "two-settings" in on and chance.uniform() < 0.5 else 0.0,
        cancel_ns=1 + chance.below(3 * MILLISECOND) if cancelled else 0,
        canceller=_pick(chance, ends),
    )


def without_checksums(schedule: Schedule) -> Schedule:
    """Let what is corrupted arrive, so that others than UDP must find it."""
    faults = []
    for fault in schedule.faults:
        amounts = tuple((name, value) for name, value in fault.amounts if name != "checksum")
        if fault.kind == CORRUPT:
            amounts += (("checksum", 0.0),)
        faults.append(
            Fault(fault.kind, fault.at_ns, fault.for_ns, fault.where, fault.apart, amounts)
        )
    return Schedule(tuple(faults), schedule.heal_at_ns)


def _with_long_partition(
    on: frozenset[str], lab: Lab, schedule: Schedule, chance: Chance
) -> Schedule:
    if "long-partition" not in on:
        return schedule
    talk = [
        pair
        for _, first, second, station in lab.joints
        for pair in ((first, second), (first, station), (second, station))
    ]
    one, other = _pick(chance, talk)
    at_ns, for_ns = chance.below(12 * MILLISECOND), SILENCE_NS + chance.below(5 * MILLISECOND)
    one_way = (("one_way", float(chance.uniform() < 1 / 3)),)
    parted = Fault(PARTITION, at_ns, for_ns, (one,), (other,), one_way)
    faults = sorted((*schedule.faults, parted), key=lambda fault: fault.at_ns)
    return Schedule(tuple(faults), schedule.heal_at_ns)


def _mishaps(on: frozenset[str], places: Places, chance: Chance) -> tuple[Mishap, ...]:
    mishaps: list[Mishap] = []
    if "isolate" in on:
        mishaps.append(Isolation(*_span(chance), _pick(chance, places.parties)))
    if "crash-user" in on:
        mishaps.append(UserCrash(*_span(chance), _pick(chance, places.nodes)))
    return tuple(mishaps)


def _span(chance: Chance) -> tuple[Instant, Instant]:
    """Return a beginning and an end: as often a blink as long enough to be lost."""
    begin = chance.below(16 * MILLISECOND)
    length = round(0.1 * MILLISECOND * 10 ** (2.2 * chance.uniform()))
    return begin, min(begin + length, FAULTS_END)

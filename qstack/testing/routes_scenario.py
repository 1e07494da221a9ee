"""What a seed makes of a network of many nodes: its shape, what its users ask, and its faults.

As in :mod:`qstack.testing.scenario` each seed switches a random subset of features and faults on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import attrs

from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.sim.faults import (
    CLOCK_DRIFT,
    CLOCK_OFFSET,
    CORRUPT,
    HARDWARE_LATE,
    HARDWARE_STALL,
    KINDS,
    Places,
)
from qstack.sim.schedule import Schedule
from qstack.sim.schedule import draw as draw_schedule
from qstack.testing.routes_lab import SHAPES, RouteLab
from qstack.testing.scenario import Ask, Isolation, Mishap, UserCrash, without_checksums
from qstack.units import MICROSECOND, MILLISECOND, Chance, Duration, Instant, NodeName

FAULTS_END: Instant = 20 * MILLISECOND
"""When everything is healed, after the users began."""

SHARED_PURPOSE = 0
"""Everybody listens on it."""
RARE_PURPOSE = 1
"""Only every other node listens on it; who asks the others is refused."""

FIDELITIES = {False: (0.7, 0.9, 0.94), True: (0.93, 0.95, 0.965)}
"""What requests ask for that name a fidelity; where pairs can be purified, higher ones."""

REQUESTS = {"grid9": 20}
FEW_REQUESTS = 8
"""So many requests a run has; on the grid twenty."""


@record
class Call:
    """A request of one user for pairs with the user of `remote`.

    `within_ns` and `early` as of requests.
    """

    ask: Ask
    remote: NodeName
    purpose: int
    within_ns: Duration = 0
    early: bool = False


@record
class RouteScenario:
    """All that a seed decides before the run begins; fields as in a Scenario of two nodes.

    `shape` names the network, of :data:`~qstack.testing.routes_lab.SHAPES`. `sealed` as there.
    """

    seed: int
    features: tuple[str, ...]
    shape: str
    lab: RouteLab
    latency_ns: Duration
    wire_bytes: bool
    here: bool
    eager: bool
    clumsy: bool
    measuring: bool
    hold_ns: Duration
    lingering: bool
    calls: tuple[Call, ...]
    schedule: Schedule
    mishaps: tuple[Mishap, ...]
    sealed: bool = False

    @property
    def ages_hold(self) -> bool:
        """Whether the devices' clocks and ages are right."""
        wrong = (CLOCK_OFFSET, CLOCK_DRIFT, HARDWARE_LATE, HARDWARE_STALL)
        return not {fault.kind for fault in self.schedule.faults} & set(wrong)

    @property
    def exact_gates(self) -> bool:
        """Whether swaps do what they say each time, so that single states can be foretold."""
        return self.lab.gates == 1.0


FEATURES = (
    *("measure", "prepare", "final", "cancel", "deadline", "fidelity", "purposes", "burst"),
    *("weighted-fair", "eager", "clumsy", "measuring", "decay", "bytes", "far", "long-hold"),
    *("few-qubits", "no-herald-line", "slow-work", "noisy-gates", "hub", "neighbours", "purify"),
    *("users-here", "within", "early"),
)
MISHAPS = ("isolate", "crash-user")
FAULTS = (*sorted(set(KINDS) - {CORRUPT}), *MISHAPS)
"""All but corruption that no checksum finds: against that only a seal helps (:func:`crowded`)."""

CROWD = 20
"""So many circuits at once, between as many pairs of ends."""
CROWD_QUBITS = 10
"""For each link: of twenty circuits the middle of the grid carries so many at most, or nearly."""
CROWD_AT: Duration = 300 * MICROSECOND
CROWD_FAULTS = (*FAULTS, CORRUPT)
"""All there are: what is corrupted is found by seals, as in runs of two nodes."""


def draw(
    seed: int, without: Iterable[str] = (), only: Iterable[str] | None = None
) -> RouteScenario:
    """Return the scenario of a seed; `without` and `only` switch features off by name."""
    chance = Chance(f"routes/{seed}")
    allowed = set(FEATURES + FAULTS if only is None else only) - set(without)
    likely = dict.fromkeys(FEATURES, 0.25)
    likely |= dict.fromkeys(FAULTS, 0.0 if chance.uniform() < 0.1 else 0.2)
    on = frozenset(n for n, share in likely.items() if chance.fork(n).uniform() < share) & allowed
    shape = _pick(chance.fork("shape"), ("grid9", "grid9", "chain5", "ring6", "star"))
    lab = _lab(on, shape, chance.fork("lab"))
    kinds = [name for name in on if name in KINDS]
    return RouteScenario(
        seed=seed,
        features=tuple(name for name in (*FEATURES, *FAULTS) if name in on),
        shape=shape,
        lab=lab,
        latency_ns=_pick(chance.fork("wires"), (20 * MICROSECOND, 50 * MICROSECOND)),
        wire_bytes="bytes" in on,
        here="users-here" in on,
        eager="eager" in on,
        clumsy="clumsy" in on,
        measuring="measuring" in on,
        hold_ns=6 * MILLISECOND if "long-hold" in on else 2 * MILLISECOND,
        lingering=False,
        calls=_calls(on, shape, lab, chance.fork("calls")),
        schedule=_schedule(seed, kinds, lab),
        mishaps=_mishaps(on, lab, chance.fork("mishaps")),
    )


def crowded(
    seed: int, without: Iterable[str] = (), only: Iterable[str] | None = None
) -> RouteScenario:
    """Return a scenario of the grid with twenty circuits at once, under all faults of a seed.

    Features and faults are those of :func:`draw`, and corruption; qubits are never few. All
    requests come within :data:`CROWD_AT`, each between other ends over two links or more.
    """
    chance = Chance(f"crowd/{seed}")
    allowed = set(FEATURES + CROWD_FAULTS if only is None else only) - set(without)
    drawn = draw(seed, without, only)
    on = set(drawn.features) - {"few-qubits", "neighbours"}
    faulty = bool(drawn.schedule.faults or drawn.mishaps)
    if CORRUPT in allowed and faulty and chance.fork(CORRUPT).uniform() < 0.2:
        on.add(CORRUPT)
    features = frozenset(on)
    untyped: Any = _lab(features, "grid9", chance.fork("lab"))
    lab: RouteLab = attrs.evolve(untyped, qubits=CROWD_QUBITS)
    kinds = [name for name in sorted(features) if name in KINDS]
    changed: RouteScenario = attrs.evolve(
        cast(Any, drawn),
        features=tuple(name for name in (*FEATURES, *CROWD_FAULTS) if name in features),
        shape="grid9",
        lab=lab,
        wire_bytes=drawn.wire_bytes or CORRUPT in features,
        sealed=CORRUPT in features,
        calls=_crowd(features, lab, chance.fork("calls")),
        schedule=without_checksums(_schedule(seed, kinds, lab)),
        mishaps=_mishaps(features, lab, chance.fork("mishaps")),
    )
    return changed


def _crowd(on: frozenset[str], lab: RouteLab, chance: Chance) -> tuple[Call, ...]:
    near = {node: {node, *lab.neighbours(node)} for node in lab.nodes}
    ends = [(one, other) for one in lab.nodes for other in lab.nodes if other not in near[one]]
    calls = []
    for _ in range(CROWD):
        node, remote = ends.pop(chance.below(len(ends)))
        call = _call(on, lab, chance)
        changes = {"node": node, "remote": remote, "at": chance.below(CROWD_AT)}
        canceller = node if call.ask.canceller == call.ask.node else remote
        ask = _changed(call.ask, **changes, number=3 + chance.below(4), canceller=canceller)
        calls.append(Call(ask, remote, call.purpose, call.within_ns, call.early))
    return tuple(sorted(calls, key=lambda call: call.ask.at))


def _pick(chance: Chance, among: Iterable[Any]) -> Any:
    choices = tuple(among)
    return choices[chance.below(len(choices))]


def _lab(on: frozenset[str], shape: str, chance: Chance) -> RouteLab:
    return RouteLab(
        SHAPES[shape],
        qubits=1 if "few-qubits" in on else _pick(chance, (2, 4)),
        t2_ns=30 * MILLISECOND if "decay" in on else 10_000 * MILLISECOND,
        km=2.0 if "far" in on else 0.1,
        scheduler="weighted-fair" if "weighted-fair" in on else "first-come",
        herald_line="no-herald-line" not in on,
        hub="hub" in on,
        work_ns=100 * MICROSECOND if "slow-work" in on else 0,
        gates=0.98 if "noisy-gates" in on else 1.0,
        joined="purify" in on,
    )


def _schedule(seed: int, kinds: list[str], lab: RouteLab) -> Schedule:
    devices = tuple(sorted(name for name, _ in lab.world().devices))
    usable = tuple(name for name in devices if not name.endswith("-detector"))
    places = Places(lab.nodes, lab.stations, usable)
    return draw_schedule(f"routes/{seed}", kinds, places, FAULTS_END)


def _calls(on: frozenset[str], shape: str, lab: RouteLab, chance: Chance) -> tuple[Call, ...]:
    calls = [_call(on, lab, chance) for _ in range(REQUESTS.get(shape, FEW_REQUESTS))]
    return tuple(sorted(calls, key=lambda call: call.ask.at))


def _call(on: frozenset[str], lab: RouteLab, chance: Chance) -> Call:
    kinds = [PairKind.KEEP, PairKind.KEEP]
    kinds += [PairKind.MEASURE] * 2 if "measure" in on else []
    kinds += [PairKind.PREPARE] * 2 if "prepare" in on else []
    node = _pick(chance, lab.nodes)
    near = {node} if "neighbours" in on else {node, *lab.neighbours(node)}
    remote = _pick(chance, [name for name in lab.nodes if name not in near] or lab.nodes[-1:])
    cancelled = "cancel" in on and chance.uniform() < 0.4
    timed = "deadline" in on and chance.uniform() < 0.4
    bound = "fidelity" in on and chance.uniform() < 0.5
    high = "purify" in on and chance.uniform() < 0.7
    ask = Ask(
        at=0 if "burst" in on else chance.below(10 * MILLISECOND),
        node=node,
        remote=remote,
        kind=_pick(chance, kinds),
        number=1 + chance.below(3),
        axis=chance.below(3),
        store=False,
        final_bell=chance.below(4) if "final" in on and chance.uniform() < 0.7 else None,
        max_time_ns=MILLISECOND + chance.below(15 * MILLISECOND) if timed else 0,
        priority=0,
        weight=1.0,
        atomic=False,
        consecutive=False,
        fidelity_min=_pick(chance, FIDELITIES[high]) if bound or high else 0.0,
        cancel_ns=1 + chance.below(2 * MILLISECOND) if cancelled else 0,
        canceller=_pick(chance, (node, remote)),
    )
    rare = "purposes" in on and chance.uniform() < 0.3
    purpose = RARE_PURPOSE if rare else SHARED_PURPOSE
    if ask.kind is PairKind.KEEP and "within" in on and chance.uniform() < 0.5:
        within_ns = _pick(chance, (200 * MICROSECOND, MILLISECOND, 10 * MILLISECOND))
        # Without a last moment a set that takes too long would be waited for without end.
        limit = ask.max_time_ns or 20 * MILLISECOND
        return Call(_changed(ask, max_time_ns=limit), remote, purpose, within_ns)
    early = ask.kind is PairKind.KEEP and "early" in on and chance.uniform() < 0.5
    return Call(_changed(ask, final_bell=None) if early else ask, remote, purpose, 0, early)


def _changed(ask: Ask, **changes: Any) -> Ask:
    # The type checker does not see that our records are attrs classes.
    changed: Ask = attrs.evolve(cast(Any, ask), **changes)
    return changed


def _mishaps(on: frozenset[str], lab: RouteLab, chance: Chance) -> tuple[Mishap, ...]:
    mishaps: list[Mishap] = []
    if "isolate" in on:
        mishaps.append(Isolation(*_span(chance), _pick(chance, (*lab.nodes, *lab.stations))))
    if "crash-user" in on:
        mishaps.append(UserCrash(*_span(chance), _pick(chance, lab.nodes)))
    return tuple(mishaps)


def _span(chance: Chance) -> tuple[Instant, Duration]:
    """Return a beginning and an end: as often a blink as long enough to be lost."""
    begin = chance.below(12 * MILLISECOND)
    length = round(0.1 * MILLISECOND * 10 ** (2.2 * chance.uniform()))
    return begin, min(begin + length, FAULTS_END)

"""Two nodes and a station with scripted hardware and a faulty wire, in virtual time.

The hardware keeps the truth: each success has a token, which the station's clicks carry as
their time tag, and which every held slot is labelled with. So a test can see whether a node
was handed the half that the sequence number stands for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import attrs

from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import DRAINED, TICK, Device, Note, Send, Up
from qstack.messages import devices as dev
from qstack.messages.common import PLAIN_Z, Basis, PairKind, RequestId
from qstack.messages.physical import Arm, ArmReply
from qstack.physical.events import SlotsChanged
from qstack.physical.machine import NodePhysical, StationReachable, StationUnreachable
from qstack.physical.service import (
    EndParameters,
    KeptReady,
    LinkParameters,
    MeasuredReady,
    MemoryModel,
    PairMissing,
    PatternPrior,
    Rest,
    Serve,
    Setting,
    Settled,
)
from qstack.physical.slots import Slots
from qstack.physical.station import EndReachable, EndUnreachable, FromEnd, StationPhysical
from qstack.units import Chance

CYCLE = 1_000
CONFIRM = 400_000
NAMES = ("alice", "bob")
MODEL = MemoryModel(0, 0, 1.0, 0, 1.0, 0, 1.0, (1.0, 1.0))
SOFT = (Arm, ArmReply)


def parameters(
    *, modes: int = 1, memories: int = 1, herald_line: bool = True, name: str = "a-b"
) -> LinkParameters:
    weights = (0.0, 0.0, 1.0, 0.0)
    patterns = (
        PatternPrior(1, 2, 0.1, weights, 0.01),
        PatternPrior(2, 3, 0.1, (0.0, 0.0, 0.0, 1.0), 0.01),
    )
    values = tuple((node, (("alpha", 0.1),)) for node in NAMES)
    settings = tuple(
        Setting(label, values, (("gate", 1.0),), 1_000, patterns, "c1") for label in ("s", "t")
    )
    ends = tuple(
        EndParameters(
            node,
            f"{node}-emitter",
            f"{node}-memory",
            tuple(range(memories)),
            (),
            herald_line,
            20_000,
            MODEL,
        )
        for node in NAMES
    )
    return LinkParameters(
        name,
        "midpoint-bsm",
        (ends[0], ends[1]),
        "station",
        "bsa",
        CYCLE,
        modes,
        settings,
        True,
        "fifo",
        10,
        0.0,
        CONFIRM,
        1_000_000,
    )


@attrs.define
class Job:
    """One request of the stub link layer."""

    request: RequestId
    pairs: int
    kind: PairKind = PairKind.KEEP
    setting: str = "s"

    def serve(self, node: str, pairs: int, version: int) -> Serve:
        measures = self.kind is PairKind.MEASURE or (
            self.kind is PairKind.PREPARE and node == "alice"
        )
        plan = PLAIN_Z if measures else None
        return Serve(self.request, self.kind, self.setting, pairs, plan, version)


def job(number: int, pairs: int, kind: PairKind = PairKind.KEEP, setting: str = "s") -> Job:
    return Job(RequestId("alice", 7, number), pairs, kind, setting)


@attrs.define
class Armed:
    """A command that an emitter has, and the halves it may still yield; `before`: 0 for no end."""

    command: int
    slot: int | None
    not_before: int
    left: int
    cycles: int
    before: int = 0


class Hardware:
    """Emitters and analyser: in each cycle min(armed, armed) modes are tried, by the seed."""

    def __init__(self, lab: Lab, chance: Chance, success: float) -> None:
        self.lab = lab
        self.chance = chance
        self.success = success
        self.armed: dict[str, list[Armed]] = {name: [] for name in NAMES}
        self.holding: dict[tuple[str, int], int] = {}
        self.owned: set[tuple[str, int]] = set()
        self.emitted_at: dict[tuple[str, int], int] = {}
        self.outcomes: dict[tuple[str, int], int] = {}
        self.clock: int | None = None
        self.open: dev.StationOpen | None = None
        self.tokens = 0
        self.next_cycle = -1
        self.fail: Callable[[str, Any], Any] = lambda who, command: None

    def take(self, who: str, command: Any) -> None:
        self.lab.count(type(command).__name__)
        fault = self.fail(who, command)
        if fault is not None:
            self.report(who, fault)
        elif who in NAMES:
            self._emitter(who, command)
        else:
            self._analyser(command)
        self._plan()

    def report(self, who: str, event: Any) -> None:
        self.lab.by_device(who, event)

    def _emitter(self, who: str, command: Any) -> None:
        match command:
            case dev.EmitterArm():
                key = (who, command.slot)
                assert key not in self.owned, f"{key} is armed while the user holds its qubit"
                assert all(a.slot != command.slot for a in self.armed[who])
                begun = -1 if self.clock is None else (self.lab.now - self.clock) // CYCLE
                if command.exact and command.not_before <= begun:
                    late = f"cycle {command.not_before} has begun"
                    self.report(who, dev.Rejected(command.device, command.command, True, late))
                    return
                first = max(command.not_before, begun + 1)
                entry = Armed(
                    *(command.command, command.slot, first, 1, command.cycles, command.before)
                )
                self.armed[who].append(entry)
            case dev.EmitterMeasure():
                first, cycles = command.not_before, command.cycles
                entry = Armed(
                    *(command.command, None, first, command.pairs, cycles, command.before)
                )
                self.armed[who].append(entry)
            case dev.Abort():
                for entry in list(self.armed[who]):
                    if entry.command == command.target:
                        self.armed[who].remove(entry)
                        self.report(who, dev.Aborted(f"{who}-emitter", entry.command, "abort"))
                self.report(who, dev.Completed(f"{who}-emitter", command.command))

    def _analyser(self, command: Any) -> None:
        match command:
            case dev.StationClock():
                self.clock = self.lab.now
                if self.open is not None:
                    self.report("station", dev.Aborted("bsa", self.open.command, "clock"))
                    self.open = None
                for who in NAMES:
                    for entry in self.armed[who]:
                        self.report(who, dev.Aborted(f"{who}-emitter", entry.command, "clock"))
                    self.armed[who].clear()
                self.report("station", dev.Completed("bsa", command.command))
            case dev.StationOpen():
                former, self.open = self.open, command
                if former is not None:
                    self.report("station", dev.Aborted("bsa", former.command, "replaced"))
            case dev.Abort():
                if self.open is not None and self.open.command == command.target:
                    self.open = None
                    self.report("station", dev.Aborted("bsa", command.target, "abort"))
                self.report("station", dev.Completed("bsa", command.command))

    def exhaust(self, who: str) -> None:
        """The oldest command of an emitter runs out of cycles."""
        if self.armed[who]:
            entry = self.armed[who].pop(0)
            self.report(who, dev.Exhausted(f"{who}-emitter", entry.command, 5))

    def _single(self) -> list[Armed]:
        """What attempts once in a named cycle, whether anybody shares it or not."""
        return [entry for who in NAMES for entry in self.armed[who] if entry.cycles == 1]

    def _plan(self) -> None:
        """Find the next cycle in which something can happen."""
        if self.clock is None:
            return
        begun = (self.lab.now - self.clock) // CYCLE
        single = self._single()
        if single:
            cycle = min(entry.not_before for entry in single)
        elif self.open is not None and all(self.armed[who] for who in NAMES):
            cycle = begun + 1
        else:
            return
        at = self.clock + max(cycle, begun + 1) * CYCLE
        if at != self.next_cycle:
            self.next_cycle = at
            self.lab.at(at, lambda: self._cycle(at))

    def _modes(self, who: str, cycle: int) -> list[Armed]:
        modes: list[Armed] = []
        limit = self.lab.parameters.modes
        for entry in self.armed[who]:
            if entry.not_before <= cycle:
                modes += [entry] * min(entry.left, limit - len(modes))
        return modes

    def _cycle(self, at: int) -> None:
        if at != self.next_cycle or self.clock is None:
            return
        self.next_cycle = -1
        cycle = (self.lab.now - self.clock) // CYCLE
        self._end(cycle)
        sides = [self._modes(who, cycle) for who in NAMES]
        for mode in range(min(len(side) for side in sides) if self.open is not None else 0):
            clicks = 1 + self.chance.below(2) if self.chance.uniform() < self.success else 0
            if clicks or (self.open is not None and self.open.report_failures):
                self._attempt(cycle, mode, clicks, [side[mode] for side in sides])
        for who in NAMES:
            for entry in [e for e in self.armed[who] if e.cycles == 1 and e.not_before <= cycle]:
                self.armed[who].remove(entry)
                self.report(who, dev.Exhausted(f"{who}-emitter", entry.command, 0))
        self._plan()

    def _end(self, cycle: int) -> None:
        """End what was to end before this cycle."""
        for who in NAMES:
            for entry in [e for e in self.armed[who] if 0 < e.before <= cycle]:
                self.armed[who].remove(entry)
                self.report(who, dev.Exhausted(f"{who}-emitter", entry.command, 0))
        if self.open is not None and self.open.first_cycle + self.open.cycles <= cycle:
            command, self.open = self.open.command, None
            self.report("station", dev.Exhausted("bsa", command, cycle))

    def _attempt(self, cycle: int, mode: int, clicks: int, entries: list[Armed]) -> None:
        assert self.open is not None
        self.tokens += 1
        token = self.tokens
        for who, entry in zip(NAMES, entries, strict=True):
            if entry.slot is None and not clicks:
                continue  # a failure is no outcome
            entry.left -= 1
            if entry.left == 0:
                self.armed[who].remove(entry)
            device = f"{who}-emitter"
            self.emitted_at[who, token] = self.lab.now
            event: Any
            if entry.slot is None:
                outcome = self.outcomes[who, token] = self.chance.below(2)
                last = entry.left == 0
                event = dev.EmitterOutcome(
                    device, entry.command, cycle, mode, Basis.Z, outcome, 0, last
                )
            else:
                self.holding[who, entry.slot] = token
                heralded = self.lab.parameters.end(who).herald_line
                kind = dev.EmitterHeralded if heralded else dev.EmitterFired
                event = kind(device, entry.command, entry.slot, cycle, mode, 0)
            self.report(who, event)
        tags = (token,) if clicks else ()
        self.report(
            "station",
            dev.StationClicks(
                "bsa", self.open.command, self.open.link, cycle, mode, clicks, tags, 0
            ),
        )


@attrs.define
class Faults:
    """What the wire does, and how the devices' ports dawdle; times in ns."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: tuple[int, int] = (20_000, 20_000)
    hop: tuple[int, int] = (500, 500)
    hold: tuple[int, int] = (30_000, 30_000)


class Lab:
    """The whole arrangement; `now` is lab time in ns, and ages are stamped at arrival."""

    def __init__(
        self,
        seed: int = 1,
        success: float = 0.1,
        faults: Faults | None = None,
        link: LinkParameters | None = None,
    ) -> None:
        self.parameters = link or parameters()
        chance = Chance(seed)
        self.chance = chance.fork("wire")
        self.faults = faults or Faults()
        self.now = 0
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.order = 0
        self.counts: dict[str, int] = {}
        self.hardware = Hardware(self, chance.fork("hardware"), success)
        self.slots = {name: Slots(self.parameters.end(name).communication) for name in NAMES}
        self.nodes = {
            name: NodePhysical(self.parameters, name, self.slots[name], CommandIds())
            for name in NAMES
        }
        self.boot = 100
        self.ids = CommandIds()
        self.station = StationPhysical(self.parameters, self.ids, self.boot)
        self.jobs: list[Job] = []
        self.version = dict.fromkeys(NAMES, 1)
        self.done: dict[str, list[int]] = {name: [] for name in NAMES}
        self.ups: dict[str, list[Any]] = {name: [] for name in NAMES}
        self.sent: list[tuple[int, str, str, Any]] = []
        self.soft: dict[tuple[str, str, type], tuple[int, Any]] = {}
        self.arrived: dict[tuple[str, str, type], int] = {}
        self.ticks: dict[str, int] = {}
        self.free_at: dict[str, int] = {}
        self.notes: list[Note] = []
        self.lose: Callable[[str, str, Any], bool] = lambda source, target, message: False
        self.cut = False
        self.releases = dict.fromkeys(NAMES, 0)

    # --- time -------------------------------------------------------------------------------

    def at(self, when: int, what: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.heap, (when, self.order, what))

    def run(self, until: int | None = None, limit: int = 200_000) -> None:
        while self.heap and (until is None or self.heap[0][0] <= until):
            limit -= 1
            assert limit > 0, "it never comes to rest"
            when, _, what = heapq.heappop(self.heap)
            self.now = max(self.now, when)
            what()
        if until is not None:
            self.now = until

    def between(self, span: tuple[int, int]) -> int:
        return span[0] + (self.chance.below(span[1] - span[0]) if span[1] > span[0] else 0)

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    # --- starting ---------------------------------------------------------------------------

    def start(self, *jobs: Job) -> Lab:
        self.jobs = list(jobs)
        self.done = {name: [0] * len(jobs) for name in NAMES}
        self.connect()
        for name in NAMES:
            self.serve(name)
        return self

    def connect(self) -> None:
        self.cut = False
        for name in NAMES:
            self.step("station", EndReachable(name))
            self.step(name, StationReachable(self.boot))

    def disconnect(self) -> None:
        self.cut = True
        self.soft.clear()
        for name in NAMES:
            self.step("station", EndUnreachable(name, "cut"))
            self.step(name, StationUnreachable("cut"))

    def restart_station(self) -> None:
        self.cut = True
        self.soft.clear()
        self.boot += 1
        self.station = StationPhysical(self.parameters, self.ids, self.boot)
        for name in NAMES:
            self.step(name, StationUnreachable("restart"))
        self.connect()

    def current(self, name: str) -> Job | None:
        for index, each in enumerate(self.jobs):
            if self.done[name][index] < each.pairs:
                return each
        return None

    def serve(self, name: str) -> None:
        """The stub link layer: the first job that is not complete, or rest."""
        each = self.current(name)
        if each is None:
            self.step(name, Rest(self.version[name]))
        else:
            left = each.pairs - self.done[name][self.jobs.index(each)]
            self.step(name, each.serve(name, left, self.version[name]))

    # --- machines ---------------------------------------------------------------------------

    def step(self, who: str, event: Any) -> None:
        self.give(who, event)
        for _ in range(4):
            self.give(who, DRAINED)
            if who in NAMES and self.releases[who] != self.slots[who].releases:
                self.releases[who] = self.slots[who].releases
                self.give(who, SlotsChanged())
        self._plan(who)

    def give(self, who: str, event: Any) -> None:
        machine: Any = self.station if who == "station" else self.nodes[who]
        try:
            actions = machine.handle(event, self.now)
        except RemoteProtocolError as error:
            self.count("remote_errors")
            self.notes.append(Note("remote", (("error", str(error)),)))
            return
        for action in actions:
            match action:
                case Send():
                    self.post(who, action.peer, action.message)
                case Device():
                    self.later(who, f"command {who}", action.command)
                case Up():
                    self.ups[who].append(action.event)
                    self.user(who, action.event)
                case _:
                    self.notes.append(action)

    def _plan(self, who: str) -> None:
        machine: Any = self.station if who == "station" else self.nodes[who]
        deadline = machine.deadline
        if deadline is None:
            self.ticks.pop(who, None)
            return
        deadline = max(deadline, self.now)
        if self.ticks.get(who) != deadline:
            self.ticks[who] = deadline
            self.at(deadline, lambda: self._tick(who, deadline))

    def _tick(self, who: str, deadline: int) -> None:
        if self.ticks.get(who) == deadline:
            del self.ticks[who]
            self.step(who, TICK)

    # --- device ports: ordered, with a hop ---------------------------------------------------

    def later(self, who: str, port: str, command: Any) -> None:
        when = max(self.now + self.between(self.faults.hop), self.free_at.get(port, 0))
        self.free_at[port] = when
        self.at(when, lambda: self.hardware.take(who, command))

    def by_device(self, who: str, event: Any) -> None:
        port = f"event {who}"
        when = max(self.now + self.between(self.faults.hop), self.free_at.get(port, 0))
        self.free_at[port] = when
        stamped = self.now

        def deliver() -> None:
            aged = event
            if hasattr(event, "age_ns"):
                aged = attrs.evolve(event, age_ns=self.now - stamped)
            self.step(who, aged)

        self.at(when, deliver)

    # --- the wire ---------------------------------------------------------------------------

    def post(self, source: str, target: str, message: Any) -> None:
        self.count(type(message).__name__)
        self.sent.append((self.now, source, target, message))
        if isinstance(message, SOFT):
            key = (source, target, type(message))
            self.order += 1
            self.soft[key] = (self.order, message)
            self._soft(key, self.order)
        else:
            copies = 1 + (self.chance.uniform() < self.faults.duplicate)
            for _ in range(copies):
                self._fly(source, target, message)

    def _fly(self, source: str, target: str, message: Any) -> None:
        lost = self.cut or self.chance.uniform() < self.faults.loss
        if lost or self.lose(source, target, message):
            return
        boot = self.boot
        self.at(
            self.now + self.between(self.faults.delay),
            lambda: self._arrive(source, target, message) if self.boot == boot else None,
        )

    def _soft(self, key: tuple[str, str, type], number: int) -> None:
        """The newest of a soft kind goes on until it is there, as adjacency does."""
        newest = self.soft.get(key)
        if self.cut or newest is None or newest[0] != number:
            return
        source, target, _ = key
        boot = self.boot

        def land() -> None:
            if self.boot == boot and not self.cut and self.arrived.get(key, 0) < number:
                self.arrived[key] = number
                self._arrive(source, target, newest[1])

        lost = self.chance.uniform() < self.faults.loss or self.lose(source, target, newest[1])
        if lost:
            self.at(self.now + 100_000, lambda: self._soft(key, number))
        else:
            self.at(self.now + self.between(self.faults.delay), land)

    def _arrive(self, source: str, target: str, message: Any) -> None:
        if not self.cut:
            self.step(target, FromEnd(source, message) if target == "station" else message)

    # --- the user ---------------------------------------------------------------------------

    def user(self, name: str, event: Any) -> None:
        if isinstance(event, (KeptReady, MeasuredReady, PairMissing)):
            requests = [each.request for each in self.jobs]
            if event.request in requests:
                self.done[name][requests.index(event.request)] += 1
        if isinstance(event, KeptReady):
            token = event.tags_ps[0]
            assert self.hardware.holding[name, event.qubit.slot] == token
            assert self.hardware.emitted_at[name, token] == event.emitted_at
            self.hardware.owned.add((name, event.qubit.slot))
            self.at(self.now + self.between(self.faults.hold), lambda: self.free(name, event))
        if isinstance(event, MeasuredReady):
            token = event.tags_ps[0]
            assert self.hardware.outcomes[name, token] == event.outcome
            assert self.hardware.emitted_at[name, token] == event.emitted_at
        if isinstance(event, (KeptReady, MeasuredReady, PairMissing)):
            each = self.current(name)
            if each is None or each.request != event.request:
                self.at(self.now, lambda: self.serve(name))

    def free(self, name: str, event: KeptReady) -> None:
        self.hardware.owned.remove((name, event.qubit.slot))
        self.slots[name].release(event.qubit, "link")
        self.step(name, SlotsChanged())

    # --- what tests look at -----------------------------------------------------------------

    def results(self, name: str) -> list[Any]:
        kinds = (KeptReady, MeasuredReady, PairMissing)
        return [event for event in self.ups[name] if isinstance(event, kinds)]

    def sequences(self, name: str) -> list[tuple[int, int]]:
        return [(event.station_boot, event.sequence) for event in self.results(name)]

    def missing(self, name: str) -> list[Any]:
        return [event for event in self.results(name) if isinstance(event, PairMissing)]

    def settled(self, name: str) -> list[Settled]:
        return [event for event in self.ups[name] if isinstance(event, Settled)]

    def rested(self) -> None:
        """Let everything come to rest and see that nothing was leaked."""
        for name in NAMES:
            self.step(name, Rest(self.version[name]))
        self.run()
        for name in NAMES:
            assert self.slots[name].held() == {}, self.slots[name].held()
            assert not self.hardware.armed[name]
        assert self.hardware.open is None

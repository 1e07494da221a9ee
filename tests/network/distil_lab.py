"""Two distilleries, the wires and memories between them, and the truth about their pairs.

:class:`Frames` is the truth for long runs: which Pauli error each half has, kept apart from what
the machines believe. Phi+ stays Phi+ under what both ends do alike, so that errors and one random
bit per readout are everything. It also keeps what each end did to each pair, for the ends must
do the same.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from qstack.bell import BellWeights, werner
from qstack.hal.commands import CommandIds
from qstack.machine import TICK, Device, Send, Up
from qstack.messages.circuits import CircuitId, Method
from qstack.messages.common import Basis, PairId, Qubit
from qstack.messages.devices import Completed, Gate, MemoryGate, MemoryMeasure, MemoryResult
from qstack.network.budget import ETERNAL, IDEAL, Operations, Storage
from qstack.network.distillation.machine import Distillery
from qstack.network.distillation.service import (
    Deliver,
    Discarded,
    DistilleryEnded,
    DistilleryParameters,
    Purified,
    PurifiedExpired,
)
from qstack.network.rounds import Ends
from qstack.physical.slots import Owner, Slots
from qstack.units import Chance

CIRCUIT = CircuitId("alice", 7, 1)
NODES = ("alice", "bob")
OTHER = {"alice": "bob", "bob": "alice"}
AXES = {Gate.RX: (0, 3, 2, 1), Gate.RY: (0, 2, 1, 3), Gate.RZ: (0, 1, 3, 2)}
"""Index (x, z) of the error on a half after a quarter turn about each axis."""


def pair_id(number: int) -> PairId:
    return PairId("link", 99, number)


def parameters(node: str, method: Method, rounds: int, **changes: Any) -> DistilleryParameters:
    values: dict[str, Any] = {
        "node": node,
        "peer": OTHER[node],
        "circuit": CIRCUIT,
        "method": method,
        "rounds": rounds,
        "memory": f"{node}.memory",
        "room": "network",
        "storage": (ETERNAL, ETERNAL),
        "operations": (IDEAL, IDEAL),
        "latency_ns": 0,
        "patience_ns": 0,
        "horizon_ns": 1_000_000_000,
        "leads": node == "alice",
    }
    return DistilleryParameters(**(values | changes))


class End:
    """One end: its machine, its slots, and what it indicated."""

    def __init__(self, given: DistilleryParameters, seed: int = 1) -> None:
        self.node = given.node
        self.slots = Slots(range(64))
        self.machine = Distillery(given, self.slots, CommandIds(), Chance(seed))
        self.ups: list[Any] = []
        self.mine: dict[PairId, Qubit] = {}

    def delivered(
        self, pair: PairId, bell: int, weights: BellWeights, age_ns: int = 0
    ) -> tuple[Qubit, Deliver]:
        qubit = self.slots.take(Owner("network", pair))
        assert qubit is not None
        return qubit, Deliver(pair, qubit, bell, weights, age_ns)

    def step(self, event: Any, now: int) -> list[Any]:
        """Handle one event; indications are kept, their qubits pass to the application."""
        others = []
        for action in self.machine.handle(event, now):
            match action:
                case Up(Purified() as ready):
                    self.slots.give(ready.qubit, "network", Owner("application", ready.pair))
                    self.mine[ready.pair] = ready.qubit
                    self.ups.append(ready)
                case Up(PurifiedExpired() as expired):
                    self.slots.release(self.mine.pop(expired.pair), "application")
                    self.ups.append(expired)
                case Up(event=indication):
                    self.ups.append(indication)
                case _:
                    others.append(action)
        return others

    def free_all(self) -> None:
        """The application is done with what it was given."""
        while self.mine:
            self.slots.release(self.mine.popitem()[1], "application")

    def all(self, kind: type) -> list[Any]:
        return [each for each in self.ups if isinstance(each, kind)]

    @property
    def valid(self) -> dict[PairId, Purified]:
        """What was handed over and has not expired."""
        gone = {each.pair for each in self.all(PurifiedExpired)}
        return {each.pair: each for each in self.all(Purified) if each.pair not in gone}

    def fates(self) -> Counter[PairId]:
        """How often each pair met its end here, by hand-over or discard."""
        names: list[PairId] = []
        for each in self.ups:
            if isinstance(each, Purified):
                names += [each.pair, *each.consumed]
            elif isinstance(each, Discarded):
                names += each.pairs
        return Counter(names)

    def assert_all_given_back(self) -> None:
        assert self.machine.held == ()
        assert all(owner.room == "application" for owner in self.slots.held().values())
        assert len(self.slots.held()) == len(self.mine)
        assert len(self.all(DistilleryEnded)) == 1


@attrs.define
class HalfTruth:
    """The error of one half, index (x << 1) | z, and what was done to it; `born` and `settled`."""

    pair: PairId
    error: int
    born: int
    settled: int
    log: list[Any] = attrs.field(factory=list)


class Frames:
    """Pauli frames of all halves. `operations` and `storage` of each node are what is true."""

    def __init__(
        self,
        seed: int = 5,
        operations: Ends = (IDEAL, IDEAL),
        storage: tuple[Storage, Storage] = (ETERNAL, ETERNAL),
    ) -> None:
        self._chance = Chance(seed)
        self._noise = dict(zip(NODES, operations, strict=True))
        self._storage = dict(zip(NODES, storage, strict=True))
        self._bits: dict[PairId, int] = {}
        self.halves: dict[tuple[str, Qubit], HalfTruth] = {}
        self.by_slot: dict[tuple[str, int], HalfTruth] = {}
        self.by_pair: dict[tuple[str, PairId], HalfTruth] = {}

    def put(self, node: str, pair: PairId, slot: int, error: int, ages: tuple[int, int]) -> None:
        """A half is in this slot; `ages`: (its age, the instant)."""
        age, now = ages
        half = HalfTruth(pair, error, now - age, now)
        self.by_slot[node, slot] = self.by_pair[node, pair] = half

    def settle(self, node: str, half: HalfTruth, now: int) -> None:
        """Let decay flip the half as it may until now: dephasing, with a stretched exponent."""
        model = self._storage[node]
        if model.t2_ns and now > half.settled:
            spans = [
                ((at - half.born) / model.t2_ns) ** model.exponent for at in (half.settled, now)
            ]
            if self._chance.uniform() < (1 - math.exp(spans[0] - spans[1])) / 2:
                half.error ^= 1
        half.settled = max(half.settled, now)

    def command(self, node: str, command: MemoryGate | MemoryMeasure, now: int) -> Any:
        """Do what a memory is told and return its terminal event."""
        half = self.by_slot[node, command.slot]
        self.settle(node, half, now)
        if isinstance(command, MemoryMeasure):
            half.log.append("read")
            bit = self._bits.setdefault(half.pair, self._chance.bits(1))
            wrong = self._chance.uniform() >= self._noise[node].readout
            outcome = bit ^ half.error >> 1 ^ wrong
            return MemoryResult(
                command.device, command.command, command.slot, Basis.Z, outcome, now - half.born
            )
        if command.gate is Gate.CNOT:
            assert command.other is not None
            target = self.by_slot[node, command.other]
            self.settle(node, target, now)
            half.log.append(("control of", target.pair))
            target.log.append(("target of", half.pair))
            target.error ^= half.error & 2
            half.error ^= target.error & 1
            if self._chance.uniform() >= self._noise[node].keep:
                half.error, target.error = self._chance.bits(2), self._chance.bits(2)
        else:
            half.log.append(command.gate)
            half.error = AXES[command.gate][half.error]
        return Completed(command.device, command.command)

    def index(self, pair: PairId) -> int:
        """The Bell state that a pair truly is in; both ends must have done the same to it."""
        one, two = (self.by_pair[node, pair] for node in NODES)
        self.assert_alike(pair, set())
        return one.error ^ two.error

    def assert_alike(self, pair: PairId, seen: set[PairId]) -> None:
        """Both ends did the same to this pair and to all that it met."""
        if pair in seen:
            return
        seen.add(pair)
        one, two = (self.by_pair[node, pair] for node in NODES)
        assert one.log == two.log, (pair, one.log, two.log)
        for entry in one.log:
            if isinstance(entry, tuple):
                self.assert_alike(entry[1], seen)


Command: TypeAlias = Callable[[str, Any, int], Any]


class Timed:
    """Both ends on one heap: messages take `latency_ns`, readouts `readout_ns`, gates no time."""

    def __init__(
        self, ends: dict[str, End], command: Command, latency_ns: int, readout_ns: int = 0
    ) -> None:
        self.ends = ends
        self.now = 0
        self._command = command
        self._latency = latency_ns
        self._readout = readout_ns
        self._heap: list[tuple[int, int, str, Any]] = []
        self._order = 0

    def at(self, instant: int, node: str, event: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (instant, self._order, node, event))

    def run(self) -> None:
        """Play everything that is to happen."""
        while self._heap:
            self.now, _, node, event = heapq.heappop(self._heap)
            for action in self.ends[node].step(event, self.now):
                if isinstance(action, Send):
                    self.at(self.now + self._latency, action.peer, action.message)
                elif isinstance(action, Device):
                    lasts = self._readout * isinstance(action.command, MemoryMeasure)
                    done = self._command(node, action.command, self.now)
                    self.at(self.now + lasts, node, done)


class Shuffled:
    """Both ends with everything under way in the open: whoever drives says what happens next."""

    def __init__(self, ends: dict[str, End], world: Frames) -> None:
        self.ends = ends
        self.world = world
        self.now = 0
        self.wires: dict[str, deque[Any]] = {node: deque() for node in NODES}
        self.commands: dict[str, list[Any]] = {node: [] for node in NODES}
        self.cut = False

    def step(self, node: str, event: Any) -> None:
        self.now += 1
        for action in self.ends[node].step(event, self.now):
            if isinstance(action, Send):
                if not self.cut:
                    self.wires[action.peer].append(action.message)
            elif isinstance(action, Device):
                self.commands[node].append(action.command)

    def arrive(self, node: str) -> None:
        if self.wires[node]:
            self.step(node, self.wires[node].popleft())

    def work(self, node: str, which: int = 0) -> None:
        """A command of the memory ends: which of those that run."""
        if self.commands[node]:
            command = self.commands[node].pop(which % len(self.commands[node]))
            self.step(node, self.world.command(node, command, self.now))

    def tick(self, node: str) -> None:
        due = self.ends[node].machine.deadline
        if due is not None:
            self.now = max(self.now, due)
            self.step(node, TICK)

    def settle(self) -> None:
        """Let everything happen that is under way."""
        while any(self.wires.values()) or any(self.commands.values()):
            for node in NODES:
                self.arrive(node)
                self.work(node)


def noisy(keep: float, readout: float) -> Ends:
    return Operations(keep, readout), Operations(keep, readout)


# --- what most tests begin with ---------------------------------------------------------------

GOOD = werner(0.9)


def bench(method: Method = Method.NESTED_DEJMPS, rounds: int = 1, **changes: Any) -> Shuffled:
    ends = {node: End(parameters(node, method, rounds, **changes)) for node in NODES}
    return Shuffled(ends, Frames())


def deliver(rig: Shuffled, node: str, number: int, bell: int = 0, error: int = 0) -> None:
    """A perfect pair, or one with an error, of which alice holds the clean half."""
    pair = pair_id(number)
    qubit, event = rig.ends[node].delivered(pair, bell, GOOD)
    true = bell ^ error if node == "bob" else 0
    rig.world.put(node, pair, qubit.slot, true, (0, rig.now))
    rig.step(node, event)


def deliver_to_both(rig: Shuffled, *numbers: int) -> None:
    for number in numbers:
        for node in NODES:
            deliver(rig, node, number)


def names(numbers: tuple[int, ...]) -> set[Any]:
    return {pair_id(number) for number in numbers}

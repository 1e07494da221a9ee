"""Two links, a reliable wire between them, and a station oracle that heralds to both.

Everything is on one heap. Nothing here is a mock of our code: below the links stands a scripted
physical layer that keeps the contract of ``qstack.physical.service``.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import attrs

from qstack.bell import sign
from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.machine import Link, LinkPeerDown, LinkPeerUp
from qstack.link.service import (
    LinkAccepted,
    LinkCancel,
    LinkCreate,
    LinkDone,
    LinkExpired,
    LinkFailed,
    LinkListen,
    LinkOutcomeReady,
    LinkPairReady,
)
from qstack.machine import TICK, Device, Down, Send, Up
from qstack.messages.common import PLAIN_Z, Basis, PairKind, RequestId
from qstack.messages.devices import Completed, Faulted, MemoryMeasure, MemoryMove, MemoryResult
from qstack.messages.link import LinkRequest
from qstack.physical.service import (
    EndParameters,
    KeptReady,
    LinkParameters,
    MeasuredReady,
    MemoryModel,
    PairMissing,
    PatternPrior,
    Serve,
    Setting,
    Settled,
    StationDown,
    StationUp,
)
from qstack.physical.slots import Owner, Slots
from qstack.units import Chance

CYCLE = 10_000
DELAY = 50_000
CONFIRM = 1_000_000
HORIZON = 20_000_000
GOOD = MemoryModel(0, 1_000_000_000, 1.0, 20_000, 0.995, 5_000, 0.998, (0.99, 0.98))


def setting(name: str, fidelity: float, share: float, spread: float = 0.01) -> Setting:
    rest = (1 - fidelity) / 3
    patterns = (
        PatternPrior(1, 2, share / 2, (rest, rest, fidelity, rest), spread),
        PatternPrior(2, 3, share / 2, (rest, rest, rest, fidelity), spread),
    )
    return Setting(name, (("alice", ()), ("bob", ())), (), 1000, patterns, "first")


def parameters(**changes: Any) -> LinkParameters:
    alice, bob = (
        EndParameters(n, f"{n}.em", f"{n}.mem", (0, 1), (2, 3), True, DELAY, GOOD)
        for n in ("alice", "bob")
    )
    base: Any = LinkParameters(
        name="ab",
        scheme="midpoint-bsm",
        ends=(alice, bob),
        station="station",
        analyser="station.bsa",
        cycle_ns=CYCLE,
        modes=2,
        settings=(setting("fast", 0.85, 0.05), setting("fine", 0.95, 0.02)),
        keep=True,
        scheduler="first-come",
        queue_limit=32,
        test_rate=0.0,
        confirm_ns=CONFIRM,
        horizon_ns=HORIZON,
    )
    made: LinkParameters = attrs.evolve(base, **changes)
    return made


def request(origin: str, number: int, **changes: Any) -> LinkRequest:
    base: Any = LinkRequest(
        id=RequestId(origin, 7, next(_numbers)),
        kind=PairKind.KEEP,
        number=number,
        fidelity_min=0.6,
        remaining_ns=0,
        purpose=1,
        priority=0,
        weight=1.0,
        atomic=False,
        consecutive=False,
        store=False,
        origin_plan=PLAIN_Z,
        peer_plan=PLAIN_Z,
        final_bell=None,
    )
    made: LinkRequest = attrs.evolve(base, **changes)
    return made


_numbers = itertools.count(1)


class End:
    """One end: its link, its memories, and everything that was seen of it."""

    def __init__(self, rig: Rig, name: str, boot: int) -> None:
        self.name = name
        own = rig.parameters.end(name)
        self.slots = Slots(own.communication, own.storage)
        chance = Chance(f"{name}{boot}")
        self.link = Link(rig.parameters, name, self.slots, CommandIds(), chance)
        self.serve: Any = None
        self.seen = 0
        self.hears_station = True
        self.losses = 0
        self.gap: list[tuple[int, int, RequestId]] = []
        self.ups: list[Any] = []
        self.log: list[Any] = []
        self.boot = boot

    def of(self, kind: type, identifier: RequestId | None = None) -> list[Any]:
        found: list[Any] = [u for u in self.ups if isinstance(u, kind)]
        if identifier is not None and kind is not LinkAccepted:
            found = [u for u in found if u.request == identifier]
        return found

    def pairs(self, identifier: RequestId | None = None) -> list[int]:
        oks = (LinkPairReady, LinkOutcomeReady)
        return [
            u.info.pair.sequence
            for u in self.ups
            if isinstance(u, oks) and (identifier is None or u.request == identifier)
        ]

    def valid(self, identifier: RequestId) -> list[int]:
        void = {u.pair.sequence for u in self.of(LinkExpired, identifier)}
        return [s for s in self.pairs(identifier) if s not in void]

    def terminal(self, identifier: RequestId) -> list[Any]:
        return self.of(LinkDone, identifier) + self.of(LinkFailed, identifier)


class Rig:
    """The heap. `truth` are the real Bell weights, relative to the heralded state."""

    def __init__(self, seed: int = 1, **changes: Any) -> None:
        self.parameters = parameters(**changes)
        self.chance = Chance(seed)
        self.now = 0
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.ends = {n: End(self, n, 1) for n in ("alice", "bob")}
        self.wire_ns: Callable[[], int] = lambda: 2 * DELAY
        self.herald_ns: Callable[[], int] = lambda: DELAY
        self.success = 1.0
        self.hold_ns: int | None = 1_000
        self.fifo: dict[Any, int] = {}
        self.station_boot = 11
        self.sequence = 0
        self.station_arms: dict[str, tuple[Any, int]] = {}
        self.history: list[tuple[int, RequestId, int]] = []
        self.missing: dict[str, set[int]] = {"alice": set(), "bob": set()}
        self.bells: dict[int, int] = {}
        self.truth = (0.0, 0.0, 0.0, 1.0)
        self.errors: dict[int, int] = {}
        self.tests: dict[int, int] = {}
        self.slot_pair: dict[tuple[str, int], int] = {}
        self.force_bell: int | None = None
        self.faulty: set[str] = set()
        self.generation = 0
        self.refused: list[str] = []
        self.lied = False
        self.ticking: dict[str, int] = {}
        self.at(0, self._cycle)
        for end in self.ends.values():
            self._up(end, LinkListen(1, True))
            self.step(end, StationUp(self.station_boot))
        self.connect()

    # --- driving ---------------------------------------------------------------------

    def at(self, delay: int, action: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (self.now + delay, next(self.order), action))

    def in_order(self, key: Any, delay: int, action: Callable[[], None]) -> None:
        when = max(self.now + delay, self.fifo.get(key, 0))
        self.fifo[key] = when
        self.at(when - self.now, action)

    def run(self, duration: int) -> Rig:
        end = self.now + duration
        while self.heap and self.heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self.heap)
            action()
        self.now = end
        return self

    def connect(self) -> None:
        alice, bob = self.ends["alice"], self.ends["bob"]
        self.step(alice, LinkPeerUp(bob.boot))
        self.step(bob, LinkPeerUp(alice.boot))

    def create(self, wanted: LinkRequest) -> RequestId:
        self.step(self.ends[wanted.id.origin], LinkCreate(wanted))
        return wanted.id

    def cancel(self, name: str, identifier: RequestId) -> None:
        self.step(self.ends[name], LinkCancel(identifier, "enough"))

    def _up(self, end: End, event: Any) -> None:
        self.step(end, event)

    def step(self, end: End, event: Any) -> None:
        if self.ends[end.name] is not end:
            return
        actions = end.link.handle(event, self.now)
        end.log.append((self.now, event, actions))
        for action in actions:
            self._act(end, action)
        deadline = end.link.deadline
        if deadline is not None and self.ticking.get(end.name) != deadline:
            self.ticking[end.name] = deadline
            self.at(max(0, deadline - self.now), lambda: self._tick(end, deadline))

    def _tick(self, end: End, deadline: int) -> None:
        if self.ticking.get(end.name) == deadline:
            del self.ticking[end.name]
        self.step(end, TICK)

    def _act(self, end: End, action: Any) -> None:
        match action:
            case Send(peer, message):
                generation = self.generation

                def arrive() -> None:
                    if generation != self.generation:
                        return
                    try:
                        self.step(self.ends[peer], message)
                    except RemoteProtocolError as refusal:
                        self.refused.append(str(refusal))

                self.in_order(("wire", end.name), self.wire_ns(), arrive)
            case Down(serve):
                end.serve = serve
                seen = end.seen
                self.in_order(
                    ("arm", end.name), self.herald_ns(), lambda: self._armed(end, serve, seen)
                )
            case Device(_, command):
                self.at(1_000, lambda: self._execute(end, command))
            case Up(indication):
                end.ups.append(indication)
                if isinstance(indication, LinkPairReady) and self.hold_ns is not None:
                    self.at(self.hold_ns, lambda: self._use(end, indication.qubit))
            case _:
                pass

    def _use(self, end: End, qubit: Any) -> None:
        end.slots.release(qubit, "network")

    # --- station ---------------------------------------------------------------------

    def _armed(self, end: End, serve: Any, seen: int) -> None:
        if not end.hears_station:
            return
        left = 0
        if isinstance(serve, Serve):
            later = [1 for s, r, _ in self.history if s > seen and r == serve.request]
            left = serve.pairs - len(later)
        self.station_arms[end.name] = (serve, left)
        settled = Settled(serve.queue_version, self.sequence)
        self._hear(end, lambda: self.step(end, settled))

    def _hear(self, end: End, action: Callable[[], None]) -> None:
        boot, losses = self.station_boot, end.losses

        def arrive() -> None:
            if end.hears_station and (boot, losses) == (self.station_boot, end.losses):
                action()

        self.in_order(("herald", end.name), self.herald_ns(), arrive)

    def _cycle(self) -> None:
        self.at(CYCLE, self._cycle)
        if len(self.station_arms) < 2 or self.chance.uniform() >= self.success:
            return
        (one, left), (two, other) = self.station_arms["alice"], self.station_arms["bob"]
        if not (isinstance(one, Serve) and isinstance(two, Serve)) or min(left, other) < 1:
            return
        agree = (one.request, one.setting, one.queue_version)
        if agree != (two.request, two.setting, two.queue_version):
            return
        kept = {n: a for n, a in (("alice", one), ("bob", two)) if a.plan is None}
        if any(not self.ends[n].slots.free() for n in kept):
            return
        self.sequence += 1
        clicks = 1 + self.chance.below(2)
        bell = clicks + 1 if self.force_bell is None else self.force_bell
        self.bells[self.sequence] = bell
        draw, error = self.chance.uniform(), 0
        for index, weight in enumerate(self.truth):
            error = index
            if draw < weight:
                break
            draw -= weight
        self.errors[self.sequence] = bell ^ 3 ^ error
        self.history.append((self.sequence, one.request, self.now))
        for name, serve in (("alice", one), ("bob", two)):
            left_now = self.station_arms[name][1] - 1
            self.station_arms[name] = (serve, left_now)
            self._herald(self.ends[name], serve, clicks, bell)

    def _herald(self, end: End, serve: Serve, clicks: int, bell: int) -> None:
        sequence, emitted, boot = self.sequence, self.now - DELAY, self.station_boot
        head = (sequence, boot, serve.request)
        qubit = None
        if serve.plan is None:
            qubit = end.slots.take(Owner("physical", "ab"))
            assert qubit is not None

        def arrive() -> None:
            end.seen = sequence
            if sequence in self.missing[end.name]:
                if qubit is not None:
                    end.slots.release(qubit, "physical")
                self.step(end, PairMissing(*head, "no half"))
            elif qubit is not None:
                end.slots.give(qubit, "physical", Owner("link", "ab"))
                self.slot_pair[end.name, qubit.slot] = sequence
                self.step(end, KeptReady(*head, bell, clicks, (), qubit, emitted))
            else:
                event = MeasuredReady(*head, bell, clicks, (), Basis.Z, sequence % 2, emitted)
                self.step(end, event)

        def lost() -> None:
            if qubit is not None:
                end.slots.release(qubit, "physical")
            if end.hears_station and boot == self.station_boot:
                end.seen = sequence
                self.step(end, PairMissing(*head, "the station was lost"))
            else:
                end.gap.append(head)

        when = max(self.now + self.herald_ns(), self.fifo.get(("herald", end.name), 0))
        self.fifo["herald", end.name] = when

        losses = end.losses

        def decide() -> None:
            if end.hears_station and (boot, losses) == (self.station_boot, end.losses):
                arrive()
            else:
                lost()

        self.at(when - self.now, decide)

    def lose_station(self, name: str) -> None:
        """This end no longer hears the station; what is under way to it is lost."""
        end = self.ends[name]
        end.hears_station = False
        end.losses += 1
        self.station_arms.pop(name, None)
        self.step(end, StationDown(self.station_boot, "silent"))

    def find_station(self, name: str) -> None:
        end = self.ends[name]
        end.hears_station = True
        self.step(end, StationUp(self.station_boot))
        gap, end.gap = end.gap, []
        for head in gap:
            if head[1] == self.station_boot:
                end.seen = head[0]
                self.step(end, PairMissing(*head, "the station was lost"))

    def restart_station(self) -> None:
        old = self.station_boot
        self.station_boot += 1
        self.sequence = 0
        self.station_arms.clear()
        self.history.clear()
        for end in self.ends.values():
            end.seen = 0
            self.step(end, StationDown(old, "restarted"))
            self.step(end, StationUp(self.station_boot))

    def restart(self, name: str) -> None:
        """A node loses everything; the other is told, then both meet again."""
        self.generation += 1
        other = "bob" if name == "alice" else "alice"
        new = End(self, name, self.ends[name].boot + 1)
        new.seen = self.ends[name].seen
        self.ends[name] = new
        self.station_arms.pop(name, None)
        self.step(self.ends[other], LinkPeerDown("restarted"))
        self.step(new, LinkListen(1, True))
        self.step(new, StationUp(self.station_boot))
        self.connect()

    # --- memory ----------------------------------------------------------------------

    def _execute(self, end: End, command: Any) -> None:
        event: Any = Completed(command.device, command.command)
        if end.name in self.faulty:
            event = Faulted(command.device, command.command, "laser unlocked")
        elif isinstance(command, MemoryMove):
            self.slot_pair[end.name, command.target] = self.slot_pair[end.name, command.slot]
        elif isinstance(command, MemoryMeasure):
            event = self._measure(end, command)
        self.step(end, event)

    def _measure(self, end: End, command: MemoryMeasure) -> MemoryResult:
        sequence = self.slot_pair[end.name, command.slot]
        plan = command.plan
        axis = "X" if plan.first == 1 else "Y" if plan.second == 1 else "Z"
        bit = self.tests.get(sequence)
        if bit is None:
            bit = self.chance.below(2)
            self.tests[sequence] = bit
        elif sign(self.errors[sequence], axis) < 0:
            bit ^= 1
        zero, one = self.parameters.end(end.name).model.readout
        if self.chance.uniform() >= (one if bit else zero):
            bit ^= 1
        basis = {"X": Basis.X, "Y": Basis.Y, "Z": Basis.Z}[axis]
        return MemoryResult(command.device, command.command, command.slot, basis, bit, 0)

    # --- checks ----------------------------------------------------------------------

    def alike(self, identifier: RequestId) -> None:
        """Both ends ended once, alike, with the same valid pairs in the same order."""
        assert self.refused == [] or self.lied
        alice, bob = self.ends["alice"], self.ends["bob"]
        assert len(alice.terminal(identifier)) == 1
        assert len(bob.terminal(identifier)) == 1
        assert type(alice.terminal(identifier)[0]) is type(bob.terminal(identifier)[0])
        assert alice.terminal(identifier)[0].delivered == bob.terminal(identifier)[0].delivered
        assert alice.valid(identifier) == bob.valid(identifier)
        assert alice.valid(identifier) == sorted(alice.valid(identifier))

    def no_leak(self) -> None:
        for end in self.ends.values():
            assert end.slots.held() == {}

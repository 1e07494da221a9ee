"""A lossy wire in virtual time between two adjacencies, and what travels on it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from qstack.adjacency import (
    Adjacency,
    AdjacencyParameters,
    Delivered,
    Open,
    PeerLost,
    PeerUp,
    Post,
    State,
)
from qstack.codec import decode_datagram, encode_body, encode_datagram
from qstack.machine import DRAINED, TICK, Arrived, Note, Transmit, Up, record
from qstack.messages.common import PairKind
from qstack.messages.control import Hello
from qstack.messages.link import LinkExpire
from qstack.messages.physical import Arm, Beacon
from qstack.messages.wire import KIND_OF, VERSION, Datagram, Frame, Header
from qstack.units import MICROSECOND, MILLISECOND, SECOND, BootId, Chance, Duration, Instant

ALICE, BOB = 11, 22
HELLO_INTERVAL = 50 * MILLISECOND


KEEPALIVE = 100 * MILLISECOND


@record
class Faults:
    """What a wire does to datagrams: probabilities, and delays in lab ns."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_ns: Duration = 100 * MICROSECOND
    jitter_ns: Duration = 0


def parameters(name: str, peer: str, **changes: Any) -> AdjacencyParameters:
    """Parameters with the times of a live network; alice calls."""
    values: dict[str, Any] = {
        "name": name,
        "peer": peer,
        "role": "node",
        "port": "peer",
        "wire": True,
        "initiate": name == "alice",
        "keepalive_ns": 0,
        "retransmit_floor_ns": 2 * MILLISECOND,
        "ack_delay_ns": 1 * MILLISECOND,
        "hello_interval_ns": 50 * MILLISECOND,
    }
    return AdjacencyParameters(**(values | changes))


class FakeWire:
    """Two or more adjacencies, what travels between them, and what they indicated.

    Every datagram of adjacencies with `wire` goes through the codec. `cut` are names whose
    datagrams are lost; `lose` says of each datagram whether it is lost besides. `log` holds
    (instant, name, indication); `sent` every datagram that was transmitted.
    """

    def __init__(self, faults: Faults | None = None, seed: int = 1) -> None:
        self.faults = Faults() if faults is None else faults
        self.chance = Chance(seed)
        self.now: Instant = 0
        self.ends: dict[str, Adjacency] = {}
        self.cut: set[str] = set()
        self.lose: Callable[[Datagram], bool] = lambda datagram: False
        self.log: list[tuple[Instant, str, Any]] = []
        self.notes: list[tuple[str, Note]] = []
        self.sent: list[tuple[Instant, Datagram]] = []
        self._heap: list[tuple[Instant, int, str, Datagram]] = []
        self._order = 0

    def put(self, adjacency: Adjacency) -> Adjacency:
        """Open an adjacency, in the place of one with the same name if there is one."""
        name = adjacency.parameters.name
        self.ends[name] = adjacency
        self.step(name, Open())
        return adjacency

    def pair(self, **changes: Any) -> tuple[Adjacency, Adjacency]:
        """Open alice and bob."""
        return self.add("alice", "bob", 11, **changes), self.add("bob", "alice", 22, **changes)

    def add(self, name: str, peer: str, boot: BootId, **changes: Any) -> Adjacency:
        """Open an adjacency of these names."""
        return self.put(Adjacency(parameters(name, peer, **changes), boot))

    def step(self, name: str, event: Any, drain: bool = True) -> list[Any]:
        """Hand an event, and DRAINED after it, to an adjacency now; return what it indicated."""
        indicated: list[Any] = []
        for each in (event, DRAINED) if drain else (event,):
            for action in self.ends[name].handle(each, self.now):
                if type(action) is Transmit:
                    self._carry(name, action.datagram)
                elif type(action) is Up:
                    indicated.append(action.event)
                    self.log.append((self.now, name, action.event))
                else:
                    assert type(action) is Note
                    self.notes.append((name, action))
        return indicated

    def post(self, name: str, *messages: Any) -> None:
        """Post messages and let them leave bundled."""
        for message in messages:
            self.step(name, Post(message), drain=False)
        self.step(name, DRAINED, drain=False)

    def inject(self, name: str, datagram: Datagram) -> list[Any]:
        """Let a forged datagram arrive now."""
        return self.step(name, Arrived("peer", datagram))

    def run(self, duration: Duration) -> None:
        """Let time pass."""
        end = self.now + duration
        while (instant := self._next()) is not None and instant <= end:
            self.now = max(self.now, instant)
            self._turn()
        self.now = end

    def settle(self, limit: Duration = 600_000 * MILLISECOND) -> None:
        """Let time pass until nothing is due any more; AssertionError if that takes too long."""
        end = self.now + limit
        while (instant := self._next()) is not None:
            assert instant <= end, f"still busy at {instant}"
            self.now = max(self.now, instant)
            self._turn()

    def delivered(self, name: str) -> list[Any]:
        """The messages that this end delivered, in their order."""
        return [event.message for _, end, event in self.log if end == name and _is(event)]

    def changes(self, name: str) -> list[PeerUp | PeerLost]:
        """The PeerUp and PeerLost that this end indicated, in their order."""
        return [event for _, end, event in self.log if end == name and not _is(event)]

    def _next(self) -> Instant | None:
        due = [end.deadline for end in self.ends.values() if end.deadline is not None]
        if self._heap:
            due.append(self._heap[0][0])
        return min(due) if due else None

    def _turn(self) -> None:
        """Do one thing that is due: a datagram arrives, or a deadline has come."""
        if self._heap and self._heap[0][0] <= self.now:
            _, _, name, datagram = heapq.heappop(self._heap)
            self.step(name, Arrived("peer", datagram))
            return
        for name, end in self.ends.items():
            if end.deadline is not None and end.deadline <= self.now:
                self.step(name, TICK, drain=False)
                assert end.deadline is None or end.deadline > self.now, "a tick left its deadline"
                return

    def _carry(self, name: str, datagram: Datagram) -> None:
        if self.ends[name].parameters.wire:
            datagram = decode_datagram(encode_datagram(datagram))
        self.sent.append((self.now, datagram))
        target = datagram.header.destination
        if name in self.cut or target in self.cut or target not in self.ends:
            return
        if self.lose(datagram) or self.chance.uniform() < self.faults.loss:
            return
        for _ in range(2 if self.chance.uniform() < self.faults.duplicate else 1):
            delay = self.faults.delay_ns + int(self.chance.uniform() * self.faults.jitter_ns)
            self._order += 1
            heapq.heappush(self._heap, (self.now + delay, self._order, target, datagram))


def _is(event: Any) -> bool:
    return type(event) is Delivered


def reliable(channel: str, number: int) -> LinkExpire:
    return LinkExpire(channel, 1, number, number, "test")


def soft(key: str, number: int) -> Arm:
    return Arm(key, 1, number, None, PairKind.KEEP, "", 0, 0, 0, 0, 0)


def timed(number: int) -> Beacon:
    return Beacon("l", number, 1, 1, 0, 0)


def header(source: str, target: str, boots: tuple[int, int], number: int) -> Header:
    return Header(VERSION, source, target, *boots, number, 0, 0, 0, 0)


def forged(
    number: int, *frames: Frame, boots: tuple[int, int] = (BOB, ALICE), version: int = VERSION
) -> Datagram:
    """A datagram from bob to alice that bob never sent."""
    return Datagram(Header(version, "bob", "alice", *boots, number, 0, 0, 0, 0), frames)


def frame(message: Any, sequence: int, stream: str = "link/l", more: bool = False) -> Frame:
    return Frame(KIND_OF[type(message)].number, stream, sequence, more, encode_body(message))


def hello_frame(boot: int, echo: int, versions: tuple[int, ...] = (VERSION,)) -> Frame:
    return frame(Hello(versions, (), "node", boot, echo, ()), 0, "")


def up(faults: Faults | None = None, seed: int = 1, **changes: Any) -> FakeWire:
    wire = FakeWire(faults, seed)
    wire.pair(**changes)
    wire.run(SECOND)
    assert all(end.state is State.UP for end in wire.ends.values())
    return wire


def numbers(wire: FakeWire, name: str, cls: type[Any]) -> dict[str, list[int]]:
    """The numbers of delivered messages of a class, by link, in the order of delivery."""
    found: dict[str, list[int]] = {}
    for message in wire.delivered(name):
        if type(message) is cls:
            number = message.low if cls is LinkExpire else message.number
            found.setdefault(message.link, []).append(number)
    return found


def check_ordered_and_whole(wire: FakeWire, name: str, posted: dict[str, int]) -> None:
    expected = {channel: list(range(count)) for channel, count in posted.items() if count}
    assert numbers(wire, name, LinkExpire) == expected

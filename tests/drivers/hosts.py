"""Small pure hosts and what they speak, for tests of the drivers."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
import trio

from qstack.codec import encode_body, encode_datagram
from qstack.drivers.pump import Port
from qstack.drivers.udp import Address, UdpSocket
from qstack.errors import RemoteProtocolError
from qstack.machine import (
    TICK,
    Arrived,
    Device,
    Drained,
    FromDevice,
    Note,
    Tick,
    Transmit,
    Up,
)
from qstack.messages.control import Bye
from qstack.messages.devices import Completed, MemoryInitialise
from qstack.messages.wire import KIND_OF, Datagram, Frame, Header
from qstack.stack import FromNode, ToNode
from qstack.units import Chance, Instant

LOOPBACK: Address = ("127.0.0.1", 0)


def datagram(source: str, destination: str, number: int, text: str = "") -> Datagram:
    """A datagram of one frame, a Bye with this text."""
    header = Header(1, source, destination, 1, 2, number, 0, 0, 0, 0)
    kind = KIND_OF[Bye].number
    return Datagram(header, (Frame(kind, "", 0, False, encode_body(Bye(text))),))


def data(source: str, destination: str, number: int, text: str = "") -> bytes:
    return encode_datagram(datagram(source, destination, number, text))


def open_port(name: str = "peer", *, learns: bool = False) -> Port:
    socket = UdpSocket(LOOPBACK, owner="test", port_name=name)
    return Port(name, socket, {}, learns=learns)


@attrs.define(eq=False)
class EchoHost:
    """Answers all datagrams of a batch by one, which counts them, and records what it sees.

    A datagram with the text "wrong" is the peer's error, one with "bug" our own. A command of
    the device "memory" is sent for each "device", and each completion is noted.
    """

    name: str = "echo"
    boot: int = 7
    seed: int = 1
    deadline: Instant | None = None
    seen: list[Any] = attrs.field(factory=list)
    waiting: deque[str] = attrs.field(factory=deque)
    sent: int = 0
    stepped: trio.Event = attrs.field(factory=trio.Event)
    _chance: Chance = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._chance = Chance(self.seed)

    def start(self, now: Instant) -> list[Any]:
        self.seen.append("start")
        return [Note("started", (("draw", self._chance.bits(32)),))]

    def stop(self, reason: str, now: Instant) -> list[Any]:
        return [Note("stopped", (("reason", reason),))]

    def handle(self, event: Any, now: Instant) -> list[Any]:
        self.seen.append(event)
        self.stepped.set()
        self.stepped = trio.Event()
        match event:
            case Arrived():
                return self._arrived(event)
            case Tick():
                assert self.deadline is not None, "a tick that nobody asked for"
                assert self.deadline <= now, "a tick before its time"
                self.deadline = None
                return [Note("ticked", (("draw", self._chance.bits(32)),))]
            case ToNode():
                self.waiting.append(event.node)
                return [Up(FromNode(event.node, event.message))]
            case FromDevice():
                return [Note("completed", (("command", event.event.command),))]
            case Drained():
                return self._drained()
        raise TypeError(type(event).__name__)

    def _arrived(self, event: Arrived) -> list[Any]:
        text = event.datagram.frames[0].body
        if b"wrong" in text:
            raise RemoteProtocolError("the peer is wrong")
        if b"bug" in text:
            raise ZeroDivisionError("a bug")
        self.waiting.append(event.datagram.header.source)
        if b"device" in text:
            return [Device("memory", MemoryInitialise("memory", 5, 0))]
        return []

    def _drained(self) -> list[Any]:
        if not self.waiting:
            return []
        count, destination = len(self.waiting), self.waiting[0]
        self.waiting.clear()
        self.sent += 1
        return [Transmit("peer", datagram(self.name, destination, self.sent, f"{count} came"))]

    async def until(self, kind: type[Any], count: int = 1) -> None:
        """Return when this many events of this kind were seen."""
        while sum(isinstance(event, kind) for event in self.seen) < count:
            stepped = self.stepped
            await stepped.wait()


@attrs.define(eq=False)
class PureMemory:
    """A device: completes at once, or after `delay_ns`, or raises."""

    delay_ns: int = 0
    broken: bool = False
    deadline: Instant | None = None
    waiting: deque[int] = attrs.field(factory=deque)

    def handle(self, command: Any, now: Instant) -> list[Any]:
        if self.broken:
            raise KeyError("no such register") from OSError("cable unplugged")
        if command is TICK:
            self.deadline = None
            return [Completed("memory", self.waiting.popleft())]
        if self.delay_ns:
            self.waiting.append(command.command)
            self.deadline = now + self.delay_ns
            return []
        return [Completed("memory", command.command)]

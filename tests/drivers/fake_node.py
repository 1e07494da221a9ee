"""A node that is all user port: it answers by a script. A real host over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from qstack.adjacency import PeerLost, PeerUp
from qstack.config import Control, NetworkFile, NodeFile
from qstack.drivers.places import identity_of
from qstack.drivers.pump import LabClock, Port, Pump
from qstack.drivers.udp import UdpSocket, format_address
from qstack.errors import ErrorCode
from qstack.machine import Arrived, Drained, Tick
from qstack.messages.application import (
    Answer,
    ApplyGate,
    AskStatus,
    Cancel,
    Created,
    CreateKeep,
    CreateMeasure,
    FreeQubit,
    Listen,
    Measured,
    MeasureQubit,
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
    Status,
    StopListen,
    Terms,
)
from qstack.messages.common import Basis, PairId, PairInfo, Qubit, RequestId
from qstack.stack.hosting import Neighbours
from qstack.units import Chance, Instant
from tests.drivers.hosts import LOOPBACK

LATE = 99
"""A request for so many pairs ends after two, of which one expires afterwards."""


def terms(number: int) -> Terms:
    return Terms("bob", number, 0.0, 0, 0, 0, 1.0, False, False)


def info(sequence: int) -> PairInfo:
    return PairInfo(PairId("a-b", 9, sequence), 2, 1, "fast", 0.9, 0.88, 1_000, 0, True)


class FakeNode:
    """Keeps what it was told in `told`. Requests for more than 100 pairs it cannot fulfil.

    A request of zero pairs is never ended, but by Cancel. `incoming` pairs are delivered on
    Listen, as if another node had asked for them.
    """

    def __init__(self, network: NetworkFile, incoming: int = 0) -> None:
        self.told: list[Any] = []
        self.incoming = incoming
        identity = identity_of(network, "alice", "node", Chance(1))
        self.name, self.boot = identity.name, identity.boot
        self.neighbours = Neighbours(identity, self._deliver, self._changed)
        self.port: Port
        self.gone = trio.Event()
        self.freed = trio.Event()

    @property
    def deadline(self) -> Instant | None:
        return self.neighbours.deadline

    def start(self, now: Instant) -> list[Any]:
        return []

    def handle(self, event: Any, now: Instant) -> list[Any]:
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case Tick():
                return self.neighbours.tick(now)
            case Drained():
                return self.neighbours.drain(now)
        raise TypeError(type(event).__name__)

    def _changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        if isinstance(event, PeerLost):
            self.gone.set()
        return []

    def _deliver(self, peer: str, role: str, message: Any, now: Instant) -> list[Any]:
        self.told.append(message)
        out: list[Any] = []
        for answer in self._answers(message):
            out += self.neighbours.post(peer, answer, now)
        return out

    def _answers(self, message: Any) -> list[Any]:
        match message:
            case CreateKeep() | CreateMeasure():
                return self._create(message)
            case Listen():
                other = RequestId("bob", 5, 1)
                kept = [
                    PairReady(
                        other, "bob", message.purpose, info(n), Qubit(n, 1), None, None, False
                    )
                    for n in range(self.incoming)
                ]
                answer = Answer(message.reference, None, "")
                return [answer, *kept, *self._late(other, kept)]
            case MeasureQubit() if message.qubit.slot > 50:
                return [Answer(message.reference, ErrorCode.CREATE, "not yours")]
            case MeasureQubit():
                return [Measured(message.reference, message.qubit, Basis.Z, 1, 10)]
            case Cancel():
                ended = RequestEnded(message.request, ErrorCode.OTHER, "cancelled", 0)
                return [Answer(message.reference, None, ""), ended]
            case ApplyGate() | StopListen():
                return [Answer(message.reference, None, "")]
            case AskStatus():
                text = json.dumps({"node": "alice", "long": "x" * 3_000})
                return [Status(message.reference, text)]
            case FreeQubit():
                self.freed.set()
        return []

    def _late(self, request: RequestId, kept: list[PairReady]) -> list[Any]:
        """The request of another node ends, and then its first pair expires."""
        if self.incoming != LATE:
            return []
        return [RequestDone(request, 2, 0), PairExpired(request, kept[0].info.pair, "lost")]

    def _create(self, message: CreateKeep | CreateMeasure) -> list[Any]:
        number = message.terms.number
        request = RequestId("alice", self.boot, message.reference)
        out: list[Any] = [Created(message.reference, request)]
        if number > 100:
            return [*out, RequestEnded(request, ErrorCode.UNSUPPORTED, "too many", 0)]
        if number == LATE:
            # Two pairs, of which the first expires in time and the second when all is over.
            first, second = (
                PairReady(request, "bob", 0, info(n), Qubit(n, 1), None, None, False)
                for n in (0, 1)
            )
            in_time, late = (
                PairExpired(request, each.info.pair, "lost") for each in (first, second)
            )
            return [*out, first, in_time, second, RequestDone(request, 2, 0), late]
        for n in range(number):
            if isinstance(message, CreateKeep):
                out.append(PairReady(request, "bob", 0, info(n), Qubit(n, 1), None, None, False))
            else:
                out.append(OutcomeReady(request, "bob", 0, info(n), Basis.X, n % 2))
        return [*out, RequestDone(request, number, 0)] if number else out


def lab(user: str) -> NetworkFile:
    """A network of one node, whose user port is there."""
    node = NodeFile("alice", "end", "127.0.0.1:1", user, ())
    quick = Control(keepalive_ns=20_000_000, hello_interval_ns=20_000_000)
    return NetworkFile("lab.toml", "lab", 1.0, None, quick, None, (node,), ())


@asynccontextmanager
async def running(
    incoming: int = 0,
) -> AsyncIterator[tuple[NetworkFile, FakeNode, trio.CancelScope]]:
    """A fake node that runs: its network, itself, and the scope that kills it."""
    socket = UdpSocket(LOOPBACK, owner="alice", port_name="user")
    network = lab(format_address(socket.address))
    node = FakeNode(network, incoming)
    node.port = Port("user", socket, {}, learns=True)
    pump = Pump(node, (node.port,), LabClock())
    scope = trio.CancelScope()

    async def live(task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await pump.run(task_status=task_status)

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(live)
            yield network, node, scope
            nursery.cancel_scope.cancel()
    finally:
        socket.close()

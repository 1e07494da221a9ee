"""The same four processes and two users, live over loopback and on the heap, in a scripted world.

The world's script heralds one pair after the other as soon as both ends are armed and the
analyser is open: clicks and outcomes by its number, cycles by the clock. Chance is that of the
same seed on both sides, so whatever differs between the two is the driver's doing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio
import trio.testing

from qstack.codec import encode_body
from qstack.drivers.pump import LabClock, Outside, Port, Pump
from qstack.drivers.trace import TraceHeader, TraceWriter
from qstack.drivers.udp import UdpSocket
from qstack.hal.server import Commanded, OwnerGone, Reported
from qstack.machine import Transmit, Up
from qstack.messages.common import Basis
from qstack.messages.devices import (
    Abort,
    Aborted,
    Completed,
    EmitterArm,
    EmitterHeralded,
    EmitterMeasure,
    EmitterOutcome,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.messages.wire import KINDS, Delivery
from qstack.sim.heap import WORLD
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.stack import DeviceHost, Identity, Timing, UserHost
from qstack.stack.assembly import build, devices_of, roles
from qstack.testing import Party, terms
from qstack.testing.lab import Lab
from qstack.testing.scenario import PLANS
from qstack.units import MILLISECOND, SECOND, Chance, Instant, NodeName

SEED = 5
LIMIT_S = 60
LAB = Lab(t2_ns=10**13, confirm_ns=100 * MILLISECOND, horizon_ns=2 * SECOND)
TIMING = Timing(
    keepalive_ns=SECOND,
    retransmit_floor_ns=200 * MILLISECOND,
    ack_delay_ns=5 * MILLISECOND,
    hello_interval_ns=100 * MILLISECOND,
    lab_per_wall=1.0,
)

Channel: TypeAlias = tuple[NodeName, NodeName, str]
"""(source, destination, stream)."""

Sent: TypeAlias = dict[Channel, dict[int, tuple[int, bytes]]]
"""Per channel the reliable frames by sequence, as first transmitted: (kind, body)."""


class ScriptedWorld:
    """A server of all devices of the lab that heralds by script."""

    deadline: Instant | None = None

    def __init__(self) -> None:
        self.heralded = 0
        self._began: Instant = 0
        self._cycle = 0
        self._open: StationOpen | None = None
        self._armed: dict[NodeName, deque[Any]] = {"alice": deque(), "bob": deque()}

    def handle(self, event: Any, now: Instant) -> list[Up]:
        """Take a command; report what is due, and every pair for which both ends are armed."""
        ups: list[Up] = []
        if isinstance(event, OwnerGone):
            return ups
        assert isinstance(event, Commanded)
        command = event.body
        match command:
            case StationClock():
                self._began = now
                ups.append(_up(event.owner, Completed(command.device, command.command)))
            case StationOpen():
                self._open = command
            case EmitterArm() | EmitterMeasure():
                self._armed[event.owner].append(command)
            case Abort():
                ups += self._abort(event.owner, command)
            case _:
                ups.append(_up(event.owner, Completed(command.device, command.command)))
        while self._open is not None and all(self._armed.values()):
            ups += self._herald(self._open, now)
        return ups

    def _abort(self, owner: NodeName, abort: Abort) -> list[Up]:
        ups = [_up(owner, Completed(abort.device, abort.command))]
        if self._open is not None and abort.target == self._open.command and owner == "station":
            self._open = None
            return [_up(owner, Aborted(abort.device, abort.target, "closed")), *ups]
        for armed in list(self._armed.get(owner, ())):
            if armed.command == abort.target:
                self._armed[owner].remove(armed)
                ups.insert(0, _up(owner, Aborted(abort.device, abort.target, "withdrawn")))
        return ups

    def _herald(self, opening: StationOpen, now: Instant) -> list[Up]:
        number, self.heralded = self.heralded, self.heralded + 1
        begun = (now - self._began) // LAB.cycle_ns
        self._cycle = max(self._cycle + 1, begun, opening.first_cycle)
        ups = []
        for node, queue in self._armed.items():
            armed = queue.popleft()
            name, command = armed.device, armed.command
            if isinstance(armed, EmitterArm):
                slot = armed.slot
                body: Any = EmitterHeralded(name, command, slot, self._cycle, 0, 1_000)
            else:
                last = armed.pairs == 1
                outcome = (number + (node == "bob")) % 2
                where = (self._cycle, 0)
                body = EmitterOutcome(name, command, *where, Basis.Z, outcome, 1_000, last)
                if not last:
                    # The type checker does not see that our records are attrs classes.
                    untyped: Any = armed
                    queue.appendleft(attrs.evolve(untyped, pairs=armed.pairs - 1))
            ups.append(_up(node, body))
        clicks = StationClicks(
            *(opening.device, opening.command, "ab", self._cycle, 0, 1 + number % 2, (0,), 0)
        )
        return [*ups, _up("station", clicks)]


def _up(owner: NodeName, body: Any) -> Up:
    return Up(Reported(owner, body))


# --- what is asked, one request at a time --------------------------------------------------


def asks(alice: Party, bob: Party) -> list[Callable[[], Any]]:
    """The requests, each kind from each side, each with at most as many pairs as memories."""
    return [
        lambda: alice.keep(terms("bob", 3)),
        lambda: bob.keep(terms("alice", 1)),
        lambda: alice.measure_directly(terms("bob", 4), PLANS[0], PLANS[0]),
        lambda: bob.prepare(terms("alice", 2), PLANS[0], correct=False),
        lambda: alice.keep(terms("carol", 1)),
        lambda: alice.keep(terms("bob", 4, priority=3, atomic=True)),
    ]


def take_down(sent: Sent, name: NodeName, actions: list[Any]) -> None:
    """Note the reliable frames between parties and users that leave for the first time."""
    for action in actions:
        if type(action) is not Transmit:
            continue
        destination = action.datagram.header.destination
        for frame in action.datagram.frames:
            if KINDS[frame.kind].delivery is not Delivery.RELIABLE or WORLD in (name, destination):
                continue
            body = frame.body if type(frame.body) is bytes else encode_body(frame.body)
            channel = sent.setdefault((name, destination, frame.stream), {})
            channel.setdefault(frame.sequence, (frame.kind, body))


def at_rest(hosts: dict[NodeName, Any], parties: list[Party], asked: int) -> bool:
    """Whether every request has ended at both ends and all memories are free."""
    ended = sum(len(party.done) + len(party.ended) for party in parties)
    # One of them is refused at once, and so ends at its own end alone.
    wanted = 2 * asked - (asked >= 5)
    free = all(hosts[node].slots.free() == LAB.qubits for node in ("alice", "bob"))
    return ended == wanted and free


# --- on the heap ----------------------------------------------------------------------------


def virtually() -> Sent:
    """Run it in virtual time."""
    sent: Sent = {}
    around = Surroundings(timing=TIMING, wire_bytes=True)
    net = VirtualNetwork(LAB.links(), LAB.world(), SEED, around)
    heap = net.heap
    heap.add(WORLD, ScriptedWorld())
    heap.watch = lambda name, event, now, actions: take_down(sent, name, actions)
    parties = [Party(heap, f"user-{node}", node) for node in ("alice", "bob")]
    for party in parties:
        net.user(party.name, [party.node], party.listen)
    heap.run(SECOND)
    for party in parties:
        party.accept()
    heap.run(heap.now + SECOND)
    hosts = {node: net.host(node) for node in ("alice", "bob")}
    for asked, ask in enumerate(asks(*parties), 1):
        ask()
        rest = partial(at_rest, hosts, parties, asked)
        heap.run(heap.now + 10 * SECOND, stop=rest)
        assert rest(), f"request {asked} has not ended"
    return sent


# --- live -----------------------------------------------------------------------------------


@attrs.define
class Loop:
    """Stands for the heap of a scripted user whose host a pump drives."""

    pumps: dict[NodeName, Pump] = attrs.field(factory=dict)

    def post(self, name: NodeName, event: Any, after_ns: int = 0) -> None:
        """Give the user's host an event at once."""
        self.pumps[name].post(event)


class Told:
    """A host whose actions are taken down as they leave."""

    def __init__(self, host: Any, sent: Sent) -> None:
        self.host = host
        self.name = host.name
        self._sent = sent

    @property
    def deadline(self) -> Instant | None:
        """That of the host."""
        deadline: Instant | None = self.host.deadline
        return deadline

    def start(self, now: Instant) -> list[Any]:
        """Start the host."""
        return self._taken(self.host.start(now))

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Step the host."""
        return self._taken(self.host.handle(event, now))

    def _taken(self, actions: list[Any]) -> list[Any]:
        take_down(self._sent, self.name, actions)
        return actions


def fresh_hosts() -> dict[NodeName, Any]:
    """Every process, of the same seed as on the heap."""
    links = LAB.links()
    known = roles(links)
    hosts: dict[NodeName, Any] = {}
    for name, role in known.items():
        chance = Chance(f"{SEED}/{name}/1")
        identity = Identity(name, role, chance.fork("boot").boot_id(), TIMING, True)
        served = tuple((device, WORLD) for device in devices_of(name, links))
        hosts[name] = build(identity, links, served, chance)
    for node in ("alice", "bob"):
        name = f"user-{node}"
        boot = Chance(f"{SEED}/{name}/1").fork("boot").boot_id()
        identity = Identity(name, "user", boot, TIMING, True)
        hosts[name] = UserHost(identity, ((node, "node"),))
    identity = Identity(WORLD, "world", 77, TIMING, True)
    hosts[WORLD] = DeviceHost(identity, tuple(known.items()), ScriptedWorld())
    return hosts


async def live(folder: Path) -> Sent:
    """Run it with pumps and sockets on loopback; every host writes its trace into `folder`."""
    sent: Sent = {}
    hosts = fresh_hosts()
    writers = [
        TraceWriter(folder / f"{name}.trace", TraceHeader("", name, host.boot, SEED, ""))
        for name, host in hosts.items()
    ]
    loop: Any = Loop()
    parties = [Party(loop, f"user-{node}", node) for node in ("alice", "bob")]
    by_name = {party.name: party for party in parties}
    sockets = {
        (name, port): UdpSocket(("127.0.0.1", 0), owner=name, port_name=port)
        for name in hosts
        for port in ("peer", "user")
    }
    where = {name: sockets[name, "peer"].address for name in hosts}
    try:
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                for (name, host), writer in zip(hosts.items(), writers, strict=True):
                    user = by_name.get(name)
                    ports = [Port("peer", sockets[name, "peer"], where)]
                    doors = {} if user is None else {user.node: sockets[user.node, "user"].address}
                    ports.append(Port("user", sockets[name, "user"], doors, learns=user is None))
                    told = None if user is None else _listener(loop, user)
                    outside = Outside(trace=writer, on_up=told)
                    loop.pumps[name] = Pump(Told(host, sent), ports, LabClock(), outside)
                for pump in loop.pumps.values():
                    await nursery.start(pump.run)
                await _script(hosts, parties)
                nursery.cancel_scope.cancel()
    finally:
        for socket in sockets.values():
            socket.close()
        for writer in writers:
            writer.close()
    return sent


def _listener(loop: Loop, user: Party) -> Callable[[Any, Instant], None]:
    def told(event: Any, now: Instant) -> None:
        for answer in user.listen(event, now):
            loop.post(user.name, answer)

    return told


async def _script(hosts: dict[NodeName, Any], parties: list[Party]) -> None:
    def all_up() -> bool:
        pairs = (("alice", "bob"), ("alice", "station"), ("bob", "station"))
        served = ("alice", "bob", "station")
        met = all(hosts[a].neighbours.is_up(b) and hosts[b].neighbours.is_up(a) for a, b in pairs)
        met = met and all(hosts[name].neighbours.is_up(WORLD) for name in served)
        return met and all(party.reached for party in parties)

    await _until(all_up)
    for party in parties:
        party.accept()
    await _until(lambda: all(party.answers for party in parties))
    for asked, ask in enumerate(asks(*parties), 1):
        ask()
        await _until(partial(at_rest, hosts, parties, asked))


async def _until(reached: Callable[[], bool]) -> None:
    while not reached():
        await trio.testing.wait_all_tasks_blocked(0.001)

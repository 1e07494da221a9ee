"""Networks whose devices all stand in one process that may say anything of them.

The process passes commands on to the simulated world and events back, under ids of its own, and
in between it lies: it makes up events, or changes those of the world on their way. Its datagrams
are bytes, so that whatever a victim makes of a lie must be fit to be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, cast

import attrs

from qstack.adjacency import PeerLost, PeerUp
from qstack.hal.commands import COMMANDS, ends
from qstack.machine import Arrived, Device, Drained, FromDevice, Tick, record
from qstack.messages.common import Basis
from qstack.messages.devices import Abort, Calibration, DeviceState, DeviceStatus
from qstack.messages.wire import KIND_OF, Layer
from qstack.physical.service import LinkParameters
from qstack.sim.heap import WORLD, EventHeap, Wire
from qstack.sim.world import World, WorldDevice, WorldParameters
from qstack.stack import Identity, Timing, UserHost
from qstack.stack.assembly import build, devices_of, roles
from qstack.stack.hosting import Neighbours
from qstack.testing import Party
from qstack.units import MILLISECOND, Chance, Duration, NodeName

TIMING = Timing(20 * MILLISECOND, 2 * MILLISECOND, 5 * MILLISECOND, 20 * MILLISECOND, 1.0)
FLOOR = "floor"
EVENTS = tuple(
    kind.cls
    for _, kind in sorted((kind.number, kind) for kind in KIND_OF.values())
    if kind.layer is Layer.DEVICE and kind.cls not in COMMANDS
)
"""Everything that a device may say, to any command."""

MOST, LEAST = (1 << 64) - 1, -(1 << 63)
TIMES = (0, 1, -1, 10**6, 10**12, 1 << 59, 1 << 62, 1 << 63, MOST, LEAST)
NUMBERS = (0, 1, 2, 3, 4, -1, 64, 1 << 40, MOST, LEAST)
TEXTS = ("", "because", "x" * 512)


@record
class Lie:
    """An event for `owner`, made up."""

    owner: NodeName
    event: Any


class Floor:
    """The process of all devices: honest, but for what it is told to say besides.

    `twist`, if set, takes a command and an honest event, and returns what is said instead;
    `aside` takes a command that has just come, and returns an event to say to it at once, or None.
    """

    def __init__(
        self,
        identity: Identity,
        owners: tuple[tuple[NodeName, str], ...],
        owner_of: dict[str, NodeName],
    ) -> None:
        self.owners, self.owner_of = owners, owner_of
        self.running: dict[int, tuple[NodeName, Any]] = {}
        self.twist: Callable[[Any, Any], Any] | None = None
        self.aside: Callable[[Any], Any] | None = None
        self.neighbours = Neighbours(identity, self._deliver, self._peer_changed)
        self._last = 0

    @property
    def deadline(self) -> int | None:
        return self.neighbours.deadline

    def start(self, now: int) -> list[Any]:
        out: list[Any] = []
        for owner, role in self.owners:
            out += self.neighbours.open(owner, role, "peer", initiate=False, now=now)
        return out

    def handle(self, event: Any, now: int) -> list[Any]:
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case Drained():
                return self.neighbours.drain(now)
            case Tick():
                return self.neighbours.tick(now)
            case Lie(owner, lie):
                return self.neighbours.post(owner, lie, now)
            case FromDevice(said):
                return self._report(said, now)
            case _:
                raise TypeError(type(event).__name__)

    def outstanding(self, owner: NodeName) -> list[Any]:
        """The commands of this owner that run, as it gave them."""
        return [command for whose, command in self.running.values() if whose == owner]

    def _deliver(self, peer: NodeName, role: str, message: Any, now: int) -> list[Any]:
        said = None if self.aside is None else self.aside(message)
        before = [] if said is None else self.neighbours.post(peer, said, now)
        return [*before, *self._pass_on(peer, message)]

    def _pass_on(self, owner: NodeName, command: Any) -> list[Any]:
        self._last += 1
        self.running[self._last] = (owner, command)
        passed = attrs.evolve(command, command=self._last)
        if type(command) is Abort:
            mine = (n for n, (who, c) in self.running.items() if self._names(command, who, c))
            passed = attrs.evolve(cast(Any, passed), target=next(mine, 0))
        return [Device(command.device, passed)]

    def _names(self, abort: Abort, owner: NodeName, command: Any) -> bool:
        named = (abort.device, abort.target) == (command.device, command.command)
        return named and owner == self.owner_of[abort.device]

    def _report(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, DeviceState | Calibration):
            return self.neighbours.post(self.owner_of[event.device], event, now)
        owner, command = self.running.get(event.command, ("", None))
        if command is None:
            return []  # a click of an opening that was aborted
        if ends(event):
            del self.running[event.command]
        said = attrs.evolve(event, command=command.command)
        if self.twist is not None:
            said = self.twist(command, said)
        return self.neighbours.post(owner, said, now) if owner else []

    def _peer_changed(self, event: PeerUp | PeerLost, now: int) -> list[Any]:
        out: list[Any] = []
        if isinstance(event, PeerLost):
            for number, (owner, command) in list(self.running.items()):
                if owner == event.peer:
                    self.running[number] = ("", command)
                    self._last += 1
                    self.running[self._last] = ("", command)
                    out.append(Device(command.device, Abort(command.device, self._last, number)))
        return out


class Liars:
    """A network on the heap, its devices on the floor; `users` of nodes, `watchers` of stations."""

    def __init__(self, links: tuple[LinkParameters, ...], world: WorldParameters, seed: int):
        self.links, self.roles = links, roles(links)
        self.chance = Chance(seed)
        self.heap = EventHeap(
            self.chance.fork("heap"), Wire(20_000), device_ns=1_000, wire_bytes=True
        )
        owner_of = {name: device.owner for name, device in world.devices}
        ours = tuple((name, WorldDevice(FLOOR, each.parameters)) for name, each in world.devices)
        self.heap.add(WORLD, World(WorldParameters(ours, world.links), self.chance.fork("world")))
        self.floor = Floor(self._identity(FLOOR, "world"), tuple(self.roles.items()), owner_of)
        self.heap.add(FLOOR, self.floor)
        self.lives = 0
        for name in self.roles:
            self.start(name)
        self.users: dict[NodeName, Party] = {}
        self.watchers: dict[NodeName, Party] = {}
        for name, role in self.roles.items():
            user = Party(self.heap, f"user-{name}", name)
            (self.users if role == "node" else self.watchers)[name] = user
            identity = self._identity(user.name, "user")
            self.heap.add(user.name, UserHost(identity, ((name, role),)), user.listen)
        self.rest(60 * MILLISECOND)
        assert all(user.reached for user in (*self.users.values(), *self.watchers.values()))
        self.accept()

    def _identity(self, name: NodeName, role: str, life: int = 0) -> Identity:
        return Identity(name, role, self.chance.fork(f"{name}/{life}").boot_id(), TIMING, True)

    def start(self, name: NodeName) -> None:
        """Start a party, or start it again."""
        self.lives += 1
        hosts = tuple((device, FLOOR) for device in devices_of(name, self.links))
        identity = self._identity(name, self.roles[name], self.lives)
        chance = self.chance.fork(f"{name}/{self.lives}/own")
        self.heap.add(name, build(identity, self.links, hosts, chance))

    def restart(self, name: NodeName) -> None:
        """Let a party begin another life."""
        self.heap.remove(name)
        self.start(name)

    def accept(self) -> None:
        """Every user listens."""
        for user in self.users.values():
            user.accept()
        self.rest(5 * MILLISECOND)

    def rest(self, duration_ns: Duration) -> None:
        self.heap.run(self.heap.now + duration_ns)

    def lie(self, owner: NodeName, event: Any) -> None:
        """Let the floor say this to the owner of a device, now."""
        self.heap.post(FLOOR, Lie(owner, event))

    def refused(self, name: NodeName) -> int:
        """How much of what came in a party has refused in this life."""
        counters = self.heap.host(name).neighbours.counters
        return cast(int, counters["misplaced"] + counters["remote-errors"])


def pool(name: str, command: Any, others: Iterable[Any]) -> tuple[Any, ...]:
    """Values for a field of an event that are near enough to those that its command allows."""
    slots = tuple(getattr(command, each, 0) or 0 for each in ("slot", "other", "target"))
    cycle = getattr(command, "not_before", getattr(command, "first_cycle", 5))
    pools: dict[str, tuple[Any, ...]] = {
        "device": (*(command.device,) * 12, "nobody's", *(each.device for each in others)),
        "command": (*(command.command,) * 12, 0, -1, MOST, *(each.command for each in others)),
        "slot": (*slots, 99, -1, MOST),
        "other": (*slots, 99, -1, MOST),
        "cycle": (cycle, cycle, cycle + 1, cycle + 40, 0, -1, 1 << 61, 1 << 62, MOST, LEAST),
        "mode": (0, 0, 1, 2, -1, 64, MOST),
        "outcome": (0, 1, 0, 1, 2, -1, 1 << 40, MOST),
        "basis": tuple(Basis),
        "bell": (None, 0, 1, 2, 3, 4, -1, MOST),
        "clicks": (1, 2, 0, 3, 7, -1, MOST),
        "tags_ps": ((), (5,), (5, 6), (MOST, LEAST), tuple(range(90)), (MOST,) * 2_000),
        "link": (*(getattr(command, "link", "elsewhere"),) * 3, "elsewhere", "x" * 512),
        "singles": ((), (1, 2), (-1, MOST), (MOST,) * 4_000),
        "heralds": ((), ((1, 2),), ((-1, -1),), tuple((n, MOST) for n in range(4_000))),
        "tags": ((), ((1, 2),), ((MOST, LEAST),) * 500),
        "status": tuple(DeviceStatus),
        "calibration": TEXTS,
        "reason": TEXTS,
        "values": ((), (("x", 1.0, 2.0),)),
        "last": (False, True),
        "late": (False, True),
        "attempts": NUMBERS,
    }
    return TIMES if name.endswith("_ns") else pools[name]


def fabrication(kind: Any, command: Any, others: list[Any], random: Random) -> Any:
    """An event of this kind for a command, with values drawn for all fields."""
    names = [field.name for field in attrs.fields(kind)]
    return kind(*(random.choice(pool(name, command, others)) for name in names))


def twisted(event: Any, command: Any, random: Random) -> Any:
    """The event with another value in one of its fields."""
    names = [f.name for f in attrs.fields(type(event)) if f.name not in ("device", "command")]
    if not names:
        return event
    name = random.choice(names)
    return attrs.evolve(event, **{name: random.choice(pool(name, command, ()))})

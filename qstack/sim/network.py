"""A whole network in one process: its hosts, its world, its users, from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qstack.machine import record
from qstack.physical.service import LinkParameters
from qstack.sim.heap import WORLD, EventHeap, Wire
from qstack.sim.world import World, WorldParameters
from qstack.stack import Identity, Timing, UserHost
from qstack.stack.assembly import build, roles
from qstack.units import Chance, Duration, NodeName

_QUIET = Timing(
    keepalive_ns=20_000_000,
    retransmit_floor_ns=2_000_000,
    ack_delay_ns=5_000_000,
    hello_interval_ns=20_000_000,
    lab_per_wall=1.0,
)


@record
class Surroundings:
    """What a virtual network is put into: wires, hardware port, timing of adjacencies."""

    wire: Wire = Wire(50_000)
    user_ns: Duration = 1_000
    device_ns: Duration = 1_000
    timing: Timing = _QUIET
    wire_bytes: bool = False


class VirtualNetwork:
    """Hosts, world and users on one heap. One seed, one history.

    `links` are what the stacks believe; `world` is what is true.
    """

    def __init__(
        self,
        links: Iterable[LinkParameters],
        world: WorldParameters,
        seed: int,
        surroundings: Surroundings = Surroundings(),  # noqa: B008 - an immutable record
    ) -> None:
        self.links = tuple(links)
        self.seed = seed
        self.surroundings = surroundings
        self._chance = Chance(seed)
        self._lives: dict[NodeName, int] = {}
        self.heap = EventHeap(
            self._chance,
            surroundings.wire,
            device_ns=surroundings.device_ns,
            wire_bytes=surroundings.wire_bytes,
        )
        self.world = World(world, self._chance.fork("world"))
        self.heap.add(WORLD, self.world)
        for name in roles(self.links):
            self.start(name)

    def start(self, name: NodeName) -> None:
        """Start the party `name`, or start it again in a new life."""
        chance = self._chance_of(name)
        identity = self._identity(name, roles(self.links)[name], chance)
        self.heap.add(name, build(identity, self.links, (), chance))

    def crash(self, name: NodeName) -> None:
        """End the party `name` at once, as kill -9 does."""
        self.heap.remove(name)

    def user(
        self,
        name: NodeName,
        nodes: Iterable[NodeName],
        listener: Callable[[Any, int], Iterable[Any]],
    ) -> UserHost:
        """Add a user of these nodes; `listener` takes what it is told (see EventHeap.add)."""
        identity = self._identity(name, "user", self._chance_of(name))
        known = roles(self.links)
        host = UserHost(identity, tuple((node, known[node]) for node in nodes))
        for node in nodes:
            self.heap.set_wire(name, node, Wire(self.surroundings.user_ns))
        self.heap.add(name, host, listener)
        return host

    def host(self, name: NodeName) -> Any:
        """Return the machine of a party."""
        return self.heap.host(name)

    def _chance_of(self, name: NodeName) -> Chance:
        life = self._lives.get(name, 0) + 1
        self._lives[name] = life
        return self._chance.fork(f"{name}/{life}")

    def _identity(self, name: NodeName, role: str, chance: Chance) -> Identity:
        boot = chance.fork("boot").boot_id()
        return Identity(name, role, boot, self.surroundings.timing, self.surroundings.wire_bytes)

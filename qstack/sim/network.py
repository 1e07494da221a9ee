"""A whole network in one process: its hosts, its world, its users, from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qstack.machine import CAME, Handed, Left, record
from qstack.physical.service import LinkParameters
from qstack.sim.clocks import RIGHT, NodeClock
from qstack.sim.faults import Places
from qstack.sim.heap import WORLD, EventHeap, Wire
from qstack.sim.world import Retime, World, WorldParameters
from qstack.stack import Identity, LocalUser, Timing, UserHost
from qstack.stack.assembly import build, roles
from qstack.stack.policy import Policy
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
    """What a virtual network is put into: wires, hardware port, timing of adjacencies.

    `user_ns`: between a user and its node, one way; 0 for a user in the process of its node, whom
    neither wires nor adjacencies part from it. `clocks`: of those nodes whose clocks are not right
    from the beginning. `policies`: of those whose operators decided other than usual.
    """

    wire: Wire = Wire(50_000)
    user_ns: Duration = 1_000
    device_ns: Duration = 1_000
    timing: Timing = _QUIET
    wire_bytes: bool = False
    clocks: tuple[tuple[NodeName, NodeClock], ...] = ()
    policies: tuple[tuple[NodeName, Policy], ...] = ()


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
        self._roles = roles(self.links)
        self._links_of: dict[NodeName, list[LinkParameters]] = {name: [] for name in self._roles}
        for link in self.links:
            for name in (link.station, *(end.node for end in link.ends)):
                self._links_of[name].append(link)
        self.seed = seed
        self.surroundings = surroundings
        self._chance = Chance(seed)
        self._local: dict[NodeName, tuple[NodeName, ...]] = {}
        self._lives: dict[NodeName, int] = {}
        self._clocks = dict(surroundings.clocks)
        self.heap = EventHeap(
            self._chance,
            surroundings.wire,
            device_ns=surroundings.device_ns,
            wire_bytes=surroundings.wire_bytes,
        )
        self.world = World(world, self._chance.fork("world"))
        self.heap.add(WORLD, self.world)
        for name in self._roles:
            self.start(name)
        for name, clock in surroundings.clocks:
            self._retime(name, clock)

    @property
    def places(self) -> Places:
        """Where faults can be."""
        found = self._roles
        nodes = tuple(name for name, role in found.items() if role == "node")
        stations = tuple(name for name, role in found.items() if role == "station")
        return Places(
            nodes, stations, tuple(sorted(name for name, _ in self.world.parameters.devices))
        )

    def start(self, name: NodeName) -> None:
        """Start the party `name`, or start it again in a new life."""
        chance = self._chance_of(name)
        identity = self._identity(name, self._roles[name], chance)
        host = build(identity, self._links_of[name], (), chance, policy=self.policy(name))
        self.heap.add(name, host, clock=self._clocks.get(name))
        for user, nodes in self._local.items():
            if name in nodes:
                self.heap.post(user, Handed(name, CAME))

    def policy(self, name: NodeName) -> Policy:
        """Return what the operator of a party decided."""
        return dict(self.surroundings.policies).get(name, Policy())

    def crash(self, name: NodeName) -> None:
        """End the party or user `name` at once, as kill -9 does.

        Of a local user, or of its node, the other learns at once: the system closes what joined
        them.
        """
        self.heap.remove(name)
        for node in self._local.pop(name, ()):
            self.heap.post(node, Handed(name, Left("the program died")))
        for user, nodes in self._local.items():
            if name in nodes:
                self.heap.post(user, Handed(name, Left("the node died")))

    def own_clock(self, name: NodeName) -> NodeClock:
        """Return how wrong a party's clocks are from the beginning, without any fault."""
        return dict(self.surroundings.clocks).get(name, RIGHT)

    def set_clock(self, name: NodeName, clock: NodeClock) -> None:
        """Let a party's clocks be wrong in this way from now on.

        Its timing hardware jumps at once. Its computer's clock drifts at once but never jumps: a
        new offset shows when it is started next. ConfigError for a clock that runs backwards.
        """
        self._clocks[name] = clock
        self.heap.set_drift(name, clock.drift_ppt)
        self._retime(name, clock)

    def _retime(self, name: NodeName, clock: NodeClock) -> None:
        self.heap.post(WORLD, Retime(name, clock.timing_ps, clock.timing_ppt))

    def user(
        self,
        name: NodeName,
        nodes: Iterable[NodeName],
        listener: Callable[[Any, int], Iterable[Any]],
    ) -> UserHost | LocalUser:
        """Add a user of these nodes; `listener` takes what it is told (see EventHeap.add)."""
        identity = self._identity(name, "user", self._chance_of(name))
        called = tuple((node, self._roles[node]) for node in nodes)
        host: UserHost | LocalUser
        if self.surroundings.user_ns == 0:
            host = LocalUser(identity, called)
            self._local[name] = tuple(node for node, _ in called)
        else:
            host = UserHost(identity, called)
            for node, _ in called:
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

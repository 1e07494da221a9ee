"""What all commands share: the devices, what runs on them, and the agenda."""

from __future__ import annotations

from typing import Any

from qstack.hal.server import Reported
from qstack.machine import Up
from qstack.messages.devices import DeviceStatus
from qstack.sim.devices import (
    ColourCentreParameters,
    MemoryParameters,
    TrappedIonParameters,
)
from qstack.sim.world.agenda import Agenda, Report, Run
from qstack.sim.world.arms import Place
from qstack.sim.world.heralds import Heralding
from qstack.sim.world.link_optics import LinkOptics
from qstack.sim.world.links import Link
from qstack.sim.world.memories import Memory
from qstack.sim.world.parameters import EMITTERS, WorldEnd, WorldLink, WorldParameters
from qstack.units import Chance, Instant, LinkName, NodeName

WORKING = (DeviceStatus.READY, DeviceStatus.DEGRADED)


class Refused(Exception):
    """A command cannot be begun; becomes Rejected at the one place that catches it."""

    def __init__(self, reason: str, late: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.late = late


class AttemptsBeside:
    """Counts the attempts of all links that a memory has communication qubits on.

    An object and no closure, so that a copy of the world counts its own links.
    """

    __slots__ = ("_hall", "_links")

    def __init__(self, hall: Hall, links: list[Link]) -> None:
        self._hall = hall
        self._links = links

    def __call__(self, at: Instant) -> int:
        """How many attempts have begun until `at`, or until now if that is earlier."""
        for link in self._links:
            link.advance(min(at, self._hall.now))
        return sum(link.attempted for link in self._links)


class Hall:
    """The devices of a world. `now` is the instant of what is handled at present."""

    __slots__ = (
        *("_beside", "_chance", "agenda", "devices", "links", "memories", "now", "places"),
        *("running", "served", "status", "ups"),
    )

    def __init__(self, parameters: WorldParameters, chance: Chance) -> None:
        self.devices = dict(parameters.devices)
        self.status = dict.fromkeys(self.devices, DeviceStatus.READY)
        self.agenda = Agenda()
        self.running: dict[tuple[str, int], Run] = {}
        self.now: Instant = 0
        self.ups: list[Up] = []
        self.links: dict[LinkName, Link] = {}
        self.memories: dict[str, Memory] = {}
        self.served: dict[str, LinkName] = {}
        self.places: dict[tuple[str, LinkName], Place] = {}
        self._chance = chance
        self._beside: dict[str, list[Link]] = {}
        for name, device in self.devices.items():
            if isinstance(device.parameters, MemoryParameters):
                self.memories[name] = self._memory(name, device.parameters)
        for link in parameters.links:
            self._add_link(link)

    def start(self, run: Run) -> None:
        """Note that a command runs."""
        self.running[run.device, run.command] = run

    def finish(self, run: Run) -> None:
        """A command's terminal event is being sent, or nobody is left to take it."""
        self.running.pop((run.device, run.command), None)
        run.release()

    def report(self, run: Run, body: Any, at: Instant) -> None:
        """Send the terminal event of a command at an instant."""
        self.agenda.report(at, Report(run, body, True, None))

    def say(self, owner: NodeName, body: Any) -> None:
        """Send a device event at once."""
        self.ups.append(Up(Reported(owner, body)))

    def end_at(self, at: Instant, owner: NodeName, body: Any) -> None:
        """A command that does its work now has its terminal event at `at`."""
        if at <= self.now:
            self.say(owner, body)
            return
        run = Run(owner, body.device, body.command)
        self.start(run)
        self.report(run, body, at)

    def _memory(self, name: str, parameters: MemoryParameters) -> Memory:
        beside = self._beside.setdefault(name, [])
        chance = self._chance.fork(f"memory {name}")
        return Memory(name, parameters, chance, AttemptsBeside(self, beside))

    def _add_link(self, parameters: WorldLink) -> None:
        chance = self._chance.fork(f"link {parameters.name}")
        optics = LinkOptics(parameters, self.devices, chance)
        heralding = Heralding(optics, self.agenda, chance.fork("heralds"))
        link = self.links[parameters.name] = Link(heralding, self.agenda, chance)
        for index, end in enumerate(parameters.ends):
            if end.memory:
                memory = self.memories[end.memory]
                self._beside[end.memory].append(link)
            else:
                # Who keeps nothing measures on an ideal bench without slots.
                memory = self._memory(self._bench_name(parameters, end), MemoryParameters(0))
            emitter = self.devices[end.emitter].parameters
            spins = isinstance(emitter, ColourCentreParameters | TrappedIonParameters)
            line = isinstance(emitter, EMITTERS) and emitter.herald_line
            keeps = spins and bool(end.memory)
            place = Place(link, index, memory, keeps=keeps, herald_line=line)
            self.places[end.emitter, parameters.name] = place

    @staticmethod
    def _bench_name(link: WorldLink, end: WorldEnd) -> str:
        return f"bench of {end.node} on {link.name}"

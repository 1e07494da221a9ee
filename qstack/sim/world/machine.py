"""The world as one machine: commands of the hardware port in, device events out."""

from __future__ import annotations

from typing import Any, TypeAlias, assert_never

from qstack.errors import LocalProtocolError
from qstack.hal.server import Commanded, OwnerGone, Reported
from qstack.machine import Tick, Up
from qstack.messages.devices import (
    Abort,
    Aborted,
    Completed,
    DetectorOpen,
    DeviceState,
    DeviceStatus,
    EmitterArm,
    EmitterMeasure,
    Faulted,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    Rejected,
    StationClock,
    StationCount,
    StationOpen,
)
from qstack.sim.world import link_commands, memory_commands
from qstack.sim.world.agenda import Report, Run, aged
from qstack.sim.world.arms import Arm, Opening
from qstack.sim.world.hall import WORKING, Hall, Refused
from qstack.sim.world.parameters import Break, Mend, Retime, WorldParameters, check
from qstack.units import Chance, Instant, LinkName, NodeName

WorldInput: TypeAlias = Commanded | Tick | OwnerGone | Break | Mend | Retime


class World:
    """See the package. `handle(event, now)` returns ``Up(Reported(owner, device event))``.

    Commands take effect on arrival; reports that are due at the same instant come first. A
    command for a device that the commander does not own, that is not ready, or that makes no
    sense ends in Rejected with its reason. ConfigError if the parameters contradict each other.
    """

    __slots__ = ("_agenda", "_hall", "parameters")

    def __init__(self, parameters: WorldParameters, chance: Chance) -> None:
        check(parameters)
        self.parameters = parameters
        self._hall = Hall(parameters, chance)
        self._agenda = self._hall.agenda

    @property
    def deadline(self) -> Instant | None:
        """The instant of the next report, or of the next decision on a link."""
        return self._agenda.deadline

    def handle(self, event: WorldInput, now: Instant) -> list[Up]:
        """Take a command, a fault or a tick; return the device events that are due."""
        hall, agenda = self._hall, self._agenda
        hall.now = now = max(hall.now, now)
        ups = hall.ups = []
        if agenda.first <= now:
            self._drain()
        match event:
            case Commanded():
                self._commanded(event.owner, event.body)
            case Tick():
                return ups
            case OwnerGone():
                self._owner_gone(event.owner)
            case Break():
                self._break(event)
            case Mend():
                self._state(event.device, DeviceStatus.READY, "mended")
            case Retime():
                self._retime(event)
            case _:
                assert_never(event)
        if agenda.first <= now:
            self._drain()
        return ups

    def attempted(self, link: LinkName) -> int:
        """How many attempts, (cycle, mode), have begun on a link since the world began."""
        return self._hall.links[link].attempted

    def heralded(self, link: LinkName) -> dict[int, int]:
        """How many of them succeeded, by click pattern."""
        return dict(self._hall.links[link].optics.counts.heralded)

    def counted(self, link: LinkName) -> tuple[int, tuple[int, ...], dict[int, int]]:
        """Attempts, singles by detector, heralds by pattern of a link since the world began."""
        return self._hall.links[link].counted()

    def _drain(self) -> None:
        hall = self._hall
        now, agenda = hall.now, self._agenda
        while (entry := agenda.due(now)) is not None:
            instant, item = entry
            if type(item) is not Report:
                item.advance(instant)  # type: ignore[union-attr]  # the other kind
                continue
            run, body = item.run, item.body
            if item.terminal:
                hall.finish(run)
            if now != instant and item.since is not None:
                body = aged(body, now - item.since)
            hall.ups.append(Up(Reported(run.owner, body)))

    # --- commands ------------------------------------------------------------------------

    def _commanded(self, owner: NodeName, command: Any) -> None:
        hall, name = self._hall, command.device
        try:
            device = hall.devices.get(name)
            if device is None or device.owner != owner:
                raise Refused(f"{owner} has no device {name!r}")
            if (name, command.command) in hall.running:
                raise Refused(f"command {command.command} of {name} runs already")
            status = hall.status[name]
            if status not in WORKING and type(command) is not Abort:
                raise Refused(f"{name} is {status.name.lower()}")
            self._carry_out(owner, command)
        except Refused as refusal:
            body = Rejected(name, command.command, refusal.late, refusal.reason)
            hall.say(owner, body)

    def _carry_out(self, owner: NodeName, command: Any) -> None:
        hall = self._hall
        match command:
            case EmitterArm():
                link_commands.arm(hall, owner, command)
            case MemoryMeasure() | MemoryGate() | MemoryMove() | MemoryInitialise() | MemoryBell():
                self._on_memory(owner, command)
            case EmitterMeasure():
                link_commands.measure(hall, owner, command)
            case StationOpen():
                link_commands.open_analyser(hall, owner, command)
            case StationClock():
                link_commands.clock(hall, owner, command)
            case StationCount():
                link_commands.count(hall, owner, command)
            case Abort():
                self._abort(owner, command)
            case DetectorOpen():
                raise Refused("the world's detectors are inside its analysers")
            case _:
                raise Refused(f"{type(command).__name__} is no command")

    def _on_memory(
        self,
        owner: NodeName,
        command: MemoryMeasure | MemoryGate | MemoryMove | MemoryInitialise | MemoryBell,
    ) -> None:
        hall = self._hall
        memory = hall.memories.get(command.device)
        if memory is None:
            raise Refused(f"{command.device} is no memory")
        match command:
            case MemoryMeasure():
                memory_commands.measure(hall, owner, memory, command)
            case MemoryGate():
                memory_commands.gate(hall, owner, memory, command)
            case MemoryMove():
                memory_commands.move(hall, owner, memory, command)
            case MemoryInitialise():
                memory_commands.initialise(hall, owner, memory, command)
            case MemoryBell():
                memory_commands.bell(hall, owner, memory, command)
            case _:
                assert_never(command)

    def _abort(self, owner: NodeName, command: Abort) -> None:
        hall = self._hall
        target = hall.running.get((command.device, command.target))
        if target is not None:
            if isinstance(target, Arm) and target.link is not None:
                target.link.advance(hall.now)
            # A photon is not called back: a qubit that was heralded ends its arm as such, and
            # outcomes that are on their way are reported before their arm ends.
            if isinstance(target, Arm) and target.told > hall.now:
                target.link.abort(target)
            elif not (isinstance(target, Arm) and target.flying):
                self._end(target, Aborted(target.device, target.command, "aborted"))
        hall.say(owner, Completed(command.device, command.command))

    def _end(self, run: Run, body: Aborted | Faulted | None) -> None:
        """End a command before its time; what its qubit was is lost."""
        hall = self._hall
        if isinstance(run, Arm | Opening) and run.link is not None:
            run.link.advance(hall.now)
            if not run.alive:
                return
            if isinstance(run, Arm):
                run.lose()
        hall.finish(run)
        if isinstance(run, Arm | Opening) and run.link is not None:
            run.link.replan()
        if body is not None:
            hall.say(run.owner, body)

    # --- faults --------------------------------------------------------------------------

    def _break(self, event: Break) -> None:
        hall = self._hall
        self._state(event.device, event.status, event.reason)
        if event.status in WORKING:
            return
        for run in list(hall.running.values()):
            kept_there = isinstance(run, Arm) and run.memory.name == event.device
            if run.device == event.device or kept_there:
                reason = f"{event.device}: {event.reason}"
                self._end(run, Faulted(run.device, run.command, reason))
        memory = hall.memories.get(event.device)
        if memory is not None:
            memory.lose()

    def _state(self, device: str, status: DeviceStatus, reason: str) -> None:
        if device not in self._hall.status:
            raise LocalProtocolError(f"the world has no device {device!r}")
        self._hall.status[device] = status
        owner = self._hall.devices[device].owner
        self._hall.say(owner, DeviceState(device, status, reason, 0, 0))

    def _retime(self, event: Retime) -> None:
        hall = self._hall
        for link in hall.links.values():
            link.advance(hall.now)
            if link.optics.retime(event.node, hall.now, event.offset_ps, event.drift_ppt):
                link.replan()

    def _owner_gone(self, owner: NodeName) -> None:
        """End what a process had running, without a word, and lose its qubits."""
        hall = self._hall
        for run in list(hall.running.values()):
            if run.owner == owner:
                self._end(run, None)
        for link in hall.links.values():
            if link.clock is not None and link.clock.owner == owner:
                link.clock.release()
        for name, memory in hall.memories.items():
            if hall.devices[name].owner == owner:
                memory.lose()

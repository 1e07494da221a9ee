"""Pure device machines behind the hardware port: the server's machine of a laboratory.

:class:`Served` turns devices, each a pure machine that takes bare commands, into the machine
that :mod:`qstack.hal.server` describes. A process beside a controller puts it into a device
host; the event heap takes it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qstack.hal.commands import ends
from qstack.hal.server import Commanded, OwnerGone, Reported
from qstack.machine import TICK, Machine, Tick, Up
from qstack.messages.devices import Abort, Calibration, DeviceState, Rejected
from qstack.units import Instant, NodeName, earliest


class Served:
    """Devices by name, each with the one process that may command it (`owners`).

    When that process is gone its commands are aborted, without a word to anybody. Commands
    keep their owners' ids; the aborts of this server use negative ones.
    """

    def __init__(self, devices: Mapping[str, Machine], owners: Mapping[str, NodeName]) -> None:
        self._devices = dict(devices)
        self._owners = dict(owners)
        self._running: dict[str, set[int]] = {name: set() for name in self._devices}
        self._silent: set[tuple[str, int]] = set()
        self._aborts = 0

    @property
    def deadline(self) -> Instant | None:
        """The earliest deadline of the devices."""
        return earliest(*(device.deadline for device in self._devices.values()))

    def handle(self, event: Any, now: Instant) -> list[Up]:
        """Take Commanded, OwnerGone or TICK; answers are ``Up(Reported(...))``."""
        match event:
            case Tick():
                return self._tick(now)
            case Commanded():
                return self._command(event, now)
            case OwnerGone():
                return self._owner_gone(event.owner, now)
            case _:
                raise TypeError(f"{type(event).__name__} is no event of a server of devices")

    def _tick(self, now: Instant) -> list[Up]:
        out: list[Up] = []
        for name, device in self._devices.items():
            deadline = device.deadline
            if deadline is not None and deadline <= now:
                out += self._report(name, device.handle(TICK, now))
        return out

    def _command(self, event: Commanded, now: Instant) -> list[Up]:
        command = event.body
        name, number = command.device, command.command
        reason = ""
        if self._owners.get(name) != event.owner or name not in self._devices:
            reason = f"{event.owner} has no device {name!r}"
        elif number in self._running[name]:
            reason = f"command {number} of {name} runs already"
        if reason:
            return [Up(Reported(event.owner, Rejected(name, number, False, reason)))]
        self._running[name].add(number)
        return self._report(name, self._devices[name].handle(command, now))

    def _owner_gone(self, owner: NodeName, now: Instant) -> list[Up]:
        for name, device in self._devices.items():
            if self._owners.get(name) != owner:
                continue
            targets = [number for number in sorted(self._running[name]) if number > 0]
            self._silent.update((name, number) for number in targets)
            for target in targets:
                if target in self._running[name]:
                    self._aborts -= 1
                    self._silent.add((name, self._aborts))
                    self._running[name].add(self._aborts)
                    self._report(name, device.handle(Abort(name, self._aborts, target), now))
        return []

    def _report(self, name: str, events: Iterable[Any]) -> list[Up]:
        out: list[Up] = []
        for action in events:
            event = action.event if type(action) is Up else action
            silent = False
            if not isinstance(event, DeviceState | Calibration):
                silent = (name, event.command) in self._silent
                if ends(event):
                    self._running[name].discard(event.command)
                    self._silent.discard((name, event.command))
            if not silent:
                out.append(Up(Reported(self._owners[name], event)))
        return out

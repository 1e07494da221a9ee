"""The commands that a process has running on its devices, wherever those are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from qstack.errors import RemoteProtocolError
from qstack.hal.commands import ends
from qstack.machine import Device, Note
from qstack.messages.devices import Calibration, DeviceState, DeviceStatus, Faulted
from qstack.stack.hosting import Neighbours
from qstack.units import Instant, NodeName

Answer: TypeAlias = Callable[[Any, Instant], list[Any]]

class Devices:
    """Sends commands to where the device is, and their events to who commanded.

    `hosts`: (device, process) for devices behind an adjacency; others are reached by Device
    actions of this process. `changed` takes DeviceState and Calibration events. A host that is
    lost ends every command on its devices in Faulted, and turns them offline.
    """

    def __init__(
        self, hosts: tuple[tuple[str, NodeName], ...], neighbours: Neighbours, changed: Answer
    ) -> None:
        self._hosts = dict(hosts)
        self._neighbours = neighbours
        self._changed = changed
        self._running: dict[int, tuple[str, Answer]] = {}

    @property
    def hosts(self) -> set[NodeName]:
        """The processes that serve devices to this one."""
        return set(self._hosts.values())

    def start(self, now: Instant) -> list[Any]:
        """Report the devices of other processes offline until their host answers."""
        out: list[Any] = []
        for device, host in self._hosts.items():
            reason = f"no contact to {host} yet"
            out += self._changed(DeviceState(device, DeviceStatus.OFFLINE, reason, 0, 0), now)
        return out

    def command(self, action: Device, answer: Answer, now: Instant) -> list[Any]:
        """Run a command; its events go to `answer`."""
        self._running[action.command.command] = (action.device, answer)
        host = self._hosts.get(action.device)
        if host is None:
            return [action]
        if not self._neighbours.is_up(host):
            reason = f"no contact to {host}"
            return self.reported(Faulted(action.device, action.command.command, reason), now)
        return self._neighbours.post(host, action.command, now)

    def delivered(self, peer: NodeName, event: Any, now: Instant) -> list[Any]:
        """Take an event that a host sent."""
        if self._hosts.get(event.device) != peer:
            raise RemoteProtocolError(f"{peer} does not serve {event.device!r}")
        return self.reported(event, now)

    def reported(self, event: Any, now: Instant) -> list[Any]:
        """Take an event of a device."""
        if type(event) is DeviceState or type(event) is Calibration:
            return self._changed(event, now)
        running = self._running.get(event.command)
        if running is None or running[0] != event.device:
            fields = (("device", event.device), ("command", event.command))
            return [Note("device-event-for-nobody", fields)]
        if ends(event):
            del self._running[event.command]
        return running[1](event, now)

    def host_changed(self, host: NodeName, up: bool, reason: str, now: Instant) -> list[Any]:
        """A host answers, or is lost."""
        out: list[Any] = []
        devices = [device for device, serves in self._hosts.items() if serves == host]
        if not up:
            lost = [(c, d) for c, (d, _) in self._running.items() if d in devices]
            for command, device in lost:
                out += self.reported(Faulted(device, command, f"{host}: {reason}"), now)
        status = DeviceStatus.READY if up else DeviceStatus.OFFLINE
        for device in devices:
            out += self._changed(DeviceState(device, status, reason, 0, 0), now)
        return out

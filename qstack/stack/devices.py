"""The commands that a process has running on its devices, wherever those are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from qstack.adjacency import PeerLost, PeerUp
from qstack.errors import RemoteProtocolError
from qstack.hal.commands import ends, objection
from qstack.hal.plugins import Sheet
from qstack.hal.remote import differences
from qstack.machine import Device, Note
from qstack.messages.devices import Calibration, DeviceState, DeviceStatus, Faulted
from qstack.stack.hosting import Neighbours
from qstack.units import Instant, NodeName

Answer: TypeAlias = Callable[[Any, Instant], list[Any]]

MAX_TEXT = 400
"""A reason that goes on to others is no longer than this."""


class Devices:
    """Sends commands to where the device is, and their events to who commanded.

    `hosts`: (device, process) for devices behind an adjacency; others are reached by Device
    actions of this process. `changed` takes DeviceState and Calibration events. A host that is
    lost ends every command on its devices in Faulted, and turns them offline.

    `sheets` are the datasheets that the network file states of such devices. A device whose
    host's greeting says otherwise is not used: it is reported in FAULT, and every command for it
    ends in Faulted, until a greeting agrees.
    """

    __slots__ = ("_changed", "_hosts", "_neighbours", "_running", "_sheets", "_unfit")

    def __init__(
        self,
        hosts: tuple[tuple[str, NodeName], ...],
        neighbours: Neighbours,
        changed: Answer,
        sheets: tuple[tuple[str, Sheet], ...] = (),
    ) -> None:
        self._hosts = dict(hosts)
        self._sheets = dict(sheets)
        self._unfit: dict[str, str] = {}
        self._neighbours = neighbours
        self._changed = changed
        self._running: dict[int, tuple[str, Answer, Any]] = {}

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
        self._running[action.command.command] = (action.device, answer, action.command)
        host = self._hosts.get(action.device)
        if host is None:
            return [action]
        reason = self._unfit.get(action.device, "")
        if not self._neighbours.is_up(host):
            reason = f"no contact to {host}"
        if reason:
            return self.reported(Faulted(action.device, action.command.command, reason), now)
        return self._neighbours.post(host, action.command, now)

    def delivered(self, peer: NodeName, event: Any, now: Instant) -> list[Any]:
        """Take an event that a host sent.

        Raises RemoteProtocolError, with nothing changed, for one of a device that the host does
        not serve, and for one that its command cannot have.
        """
        if self._hosts.get(event.device) != peer:
            raise RemoteProtocolError(f"{peer} does not serve {event.device!r}")
        if event.device in self._unfit:
            # Whatever state it says it is in, it is not the device that is wanted.
            return []
        kind = type(event)
        if kind is not DeviceState and kind is not Calibration:
            running = self._running.get(event.command)
            if running is not None and running[0] == event.device:
                why = objection(running[2], event)
                if why:
                    raise RemoteProtocolError(why)
        return self.reported(event, now)

    def reported(self, event: Any, now: Instant) -> list[Any]:
        """Take an event of a device."""
        kind = type(event)
        if kind is DeviceState or kind is Calibration:
            return self._changed(event, now)
        command = event.command
        running = self._running.get(command)
        if running is None or running[0] != event.device:
            fields = (("device", event.device), ("command", command))
            return [Note("device-event-for-nobody", fields)]
        if ends(event):
            del self._running[command]
        return running[1](event, now)

    def host_changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        """A host answers, or is lost."""
        host = event.peer
        devices = [device for device, serves in self._hosts.items() if serves == host]
        for device in devices:
            self._unfit.pop(device, None)
        out: list[Any] = []
        if isinstance(event, PeerUp):
            said = dict(event.datasheets)
            for device in devices:
                out += self._changed(self._fit(device, said.get(device)), now)
            return out
        lost = [(c, d) for c, (d, _, _) in self._running.items() if d in devices]
        for command, device in lost:
            out += self.reported(Faulted(device, command, f"{host}: {event.reason}"), now)
        for device in devices:
            state = DeviceState(device, DeviceStatus.OFFLINE, event.reason, 0, 0)
            out += self._changed(state, now)
        return out

    def _fit(self, device: str, text: str | None) -> DeviceState:
        """The state of a device whose host answers, and said this of it, or nothing."""
        sheet = self._sheets.get(device)
        reason = ""
        if text is not None and sheet is not None:
            try:
                reason = "; ".join(differences(text, sheet))
            except RemoteProtocolError as error:
                reason = str(error)
        if not reason:
            return DeviceState(device, DeviceStatus.READY, "", 0, 0)
        self._unfit[device] = f"the datasheet of {device}: {reason}"[:MAX_TEXT]
        return DeviceState(device, DeviceStatus.FAULT, self._unfit[device], 0, 0)

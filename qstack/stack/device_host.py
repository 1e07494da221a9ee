"""A process that serves devices to others over the hardware port."""

from __future__ import annotations

from typing import Any

from qstack.adjacency import PeerLost, PeerUp
from qstack.hal.plugins import Sheet
from qstack.hal.remote import sheet_text
from qstack.hal.server import Commanded, OwnerGone
from qstack.machine import TICK, Arrived, Drained, Machine, Note, Tick, Up
from qstack.stack.hosting import Identity, Neighbours
from qstack.units import Instant, NodeName, earliest

GREETING_BYTES = 850
"""What datasheets may take of a greeting, whatever the names of the parties are."""


class DeviceHost:
    """Puts adjacencies before a machine that serves devices (:mod:`qstack.hal.server`).

    `sheets`: (owner, device, datasheet) for what the owners shall be told with the greeting. A
    greeting is one datagram: datasheets beyond GREETING_BYTES are left out, with a note.
    """

    __slots__ = ("_owners", "_sheets", "boot", "name", "neighbours", "server")

    def __init__(
        self,
        identity: Identity,
        owners: tuple[tuple[NodeName, str], ...],
        server: Machine,
        sheets: tuple[tuple[NodeName, str, Sheet], ...] = (),
    ) -> None:
        self.name = identity.name
        self.boot = identity.boot
        self.server = server
        self._owners = owners
        self._sheets = sheets
        self.neighbours = Neighbours(identity, self._deliver, self._peer_changed)

    @property
    def deadline(self) -> Instant | None:
        """When this host wants a TICK."""
        return earliest(self.neighbours.deadline, self.server.deadline)

    def start(self, now: Instant) -> list[Any]:
        """Wait for the owners: pairs of (name, role)."""
        actions: list[Any] = []
        for owner, role in self._owners:
            told, room = [], GREETING_BYTES
            for whose, device, sheet in self._sheets:
                text = sheet_text(sheet)
                room -= len(device.encode()) + len(text.encode()) if whose == owner else 0
                if whose == owner and room >= 0:
                    told.append((device, text))
                elif whose == owner:
                    actions.append(Note("datasheet-left-out", (("device", device),)))
            actions += self.neighbours.open(
                owner, role, "peer", initiate=False, now=now, datasheets=tuple(told)
            )
        return actions

    def stop(self, reason: str, now: Instant) -> list[Any]:
        """Tell every peer that this process stops on purpose. Nothing may follow."""
        return self.neighbours.shut(reason, now)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take one event of the process."""
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case Drained():
                return self.neighbours.drain(now)
            case Tick():
                actions = self.neighbours.tick(now)
                deadline = self.server.deadline
                if deadline is not None and deadline <= now:
                    actions += self._serve(TICK, now)
                return actions
            case _:
                raise TypeError(f"{self.name}: {type(event).__name__} is no event of a server")

    def _serve(self, event: Any, now: Instant) -> list[Any]:
        actions: list[Any] = []
        for action in self.server.handle(event, now):
            if isinstance(action, Up):
                reported = action.event
                actions += self.neighbours.post(reported.owner, reported.body, now)
            else:
                actions.append(action)
        return actions

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        return self._serve(Commanded(peer, message), now)

    def _peer_changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        if isinstance(event, PeerUp):
            return [Note("peer-up", (("peer", event.peer), ("reason", "")))]
        note = Note("peer-lost", (("peer", event.peer), ("reason", event.reason)))
        return [note, *self._serve(OwnerGone(event.peer), now)]

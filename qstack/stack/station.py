"""A heralding station: one physical machine per link, and its analysers."""

from __future__ import annotations

import json
from typing import Any

from qstack.adjacency import PeerLost, PeerUp
from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.hal.plugins import Sheet
from qstack.machine import (
    DRAINED,
    TICK,
    Arrived,
    Device,
    Drained,
    FromDevice,
    Handed,
    Note,
    Send,
    Tick,
    record,
)
from qstack.messages.application import AskStatus, Status
from qstack.messages.devices import StationCount, StationCounts
from qstack.physical.events import EndReachable, EndUnreachable, FromEnd
from qstack.physical.service import LinkParameters
from qstack.physical.sharing import Station
from qstack.stack.devices import Devices
from qstack.stack.hosting import Identity, Neighbours
from qstack.units import Instant, LinkName, NodeName, earliest


@record
class StationParameters:
    """A station as its network file describes it; `hosts`, `sheets` as for an end node."""

    identity: Identity
    links: tuple[LinkParameters, ...]
    hosts: tuple[tuple[str, NodeName], ...]
    sheets: tuple[tuple[str, Sheet], ...] = ()


class StationNode:
    """The pure machine of a station's process; see :mod:`qstack.stack.hosting`."""

    __slots__ = (
        *("_asking", "_commands", "_counted", "_counting", "_dirty", "boot", "devices", "name"),
        *("neighbours", "parameters", "physical"),
    )

    def __init__(self, parameters: StationParameters) -> None:
        self.parameters = parameters
        self.name = parameters.identity.name
        self.boot = parameters.identity.boot
        self._commands = CommandIds()
        self.physical = Station(parameters.links, self._commands, self.boot)
        self.neighbours = Neighbours(parameters.identity, self._deliver, self._peer_changed)
        self.devices = Devices(
            parameters.hosts, self.neighbours, self._to_physical, parameters.sheets
        )
        self._dirty = False
        self._asking: list[tuple[NodeName, int]] = []
        self._counting: set[int] = set()
        self._counted: dict[LinkName, dict[str, Any]] = {}

    @property
    def deadline(self) -> Instant | None:
        """When this station wants a TICK."""
        return earliest(self.neighbours.deadline, self.work_deadline)

    @property
    def work_deadline(self) -> Instant | None:
        """When the layers above the adjacencies want one; None if only peers can rouse them."""
        return self.physical.deadline

    def start(self, now: Instant) -> list[Any]:
        """Call the ends and the devices' hosts. Once, before any event."""
        actions: list[Any] = []
        peers: dict[NodeName, str] = dict.fromkeys(sorted(self.devices.hosts), "world")
        for link in self.parameters.links:
            for end in link.ends:
                peers[end.node] = "node"
        for peer in sorted(peers):
            actions += self.neighbours.open(peer, peers[peer], "peer", initiate=True, now=now)
        return actions + self.devices.start(now)

    def stop(self, reason: str, now: Instant) -> list[Any]:
        """Tell every peer that this process stops on purpose. Nothing may follow."""
        return self.neighbours.shut(reason, now)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take one event of the process; see :mod:`qstack.stack.hosting`."""
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case FromDevice():
                return self.devices.reported(event.event, now)
            case Handed():
                return self.neighbours.handed(event, now)
            case Drained():
                out: list[Any] = []
                while self._dirty:
                    self._dirty = False
                    out += self._to_physical(DRAINED, now)
                return out + self.neighbours.drain(now)
            case Tick():
                return self._tick(now)
            case _:
                raise TypeError(f"{self.name}: {type(event).__name__} is no event of a station")

    def _tick(self, now: Instant) -> list[Any]:
        out = self.neighbours.tick(now)
        deadline = self.physical.deadline
        if deadline is not None and deadline <= now:
            out += self._to_physical(TICK, now)
        return out

    def _to_physical(self, event: Any, now: Instant) -> list[Any]:
        if event is not DRAINED:
            self._dirty = True
        actions = self.physical.handle(event, now)
        if not actions:
            return actions
        out: list[Any] = []
        for action in actions:
            match action:
                case Send():
                    out += self.neighbours.post(action.peer, action.message, now)
                case Device():
                    out += self.devices.command(action, self._to_physical, now)
                case _:
                    out.append(action)
        return out

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        if role == "world":
            return self.devices.delivered(peer, message, now)
        if role == "user":
            if type(message) is not AskStatus:
                raise RemoteProtocolError(f"a station has no {type(message).__name__}")
            self._asking.append((peer, message.reference))
            return self._count(now)
        return self._to_physical(FromEnd(peer, message), now)

    def _peer_changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        peer, up = event.peer, type(event) is PeerUp
        reason = "" if type(event) is PeerUp else str(getattr(event, "reason", ""))
        out: list[Any] = []
        if peer in self.devices.hosts:
            out += self.devices.host_changed(event, now)
        if isinstance(event, PeerUp):
            out += self._to_physical(EndReachable(peer, event.boot), now)
        else:
            out += self._to_physical(EndUnreachable(peer, reason), now)
        state = "peer-up" if up else "peer-lost"
        out.append(Note(state, (("peer", peer), ("reason", reason))))
        return out

    # --- status --------------------------------------------------------------------------

    def _count(self, now: Instant) -> list[Any]:
        """Ask the analysers for their counters; whoever asked is answered with the last of them.

        Questions that come meanwhile share the answer.
        """
        if self._counting:
            return []
        questions: list[Device] = []
        for link in self.parameters.links:
            question = StationCount(link.analyser, self._commands.next(), link.name)
            self._counting.add(question.command)
            questions.append(Device(link.analyser, question))
        out: list[Any] = []
        for action in questions:
            out += self.devices.command(action, self._take_counts, now)
        return out + self._answer(now)

    def _take_counts(self, event: Any, now: Instant) -> list[Any]:
        """Take the end of a question: counters, or none from a device that has or gives none."""
        self._counting.discard(event.command)
        if type(event) is StationCounts:
            self._counted[event.link] = {
                "attempts": event.attempts,
                "singles": list(event.singles),
                "heralds": {f"{clicks:#b}": count for clicks, count in event.heralds},
            }
        return self._answer(now)

    def _answer(self, now: Instant) -> list[Any]:
        """Answer who asked, once no analyser is left to be heard."""
        if self._counting:
            return []
        asking, self._asking = self._asking, []
        out: list[Any] = []
        for peer, reference in asking:
            status = Status(reference, json.dumps(self.status(now)))
            out += self.neighbours.post(peer, status, now)
        return out

    def status(self, now: Instant) -> dict[str, Any]:
        """What this station knows and has counted, in JSON's types."""
        return {
            "node": self.name,
            "kind": "station",
            "boot": f"{self.boot:016x}",
            "now_ns": now,
            "links": {
                name: {"physical": report, "analyser": self._counted.get(name, {})}
                for name, report in self.physical.report().items()
            },
            "neighbours": self.neighbours.report(),
            "refused": dict(self.neighbours.counters),
        }

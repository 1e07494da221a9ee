"""An end node: application over network over links over physical, in one machine."""

from __future__ import annotations

import json
from typing import Any

from qstack.adjacency import PeerLost, PeerUp
from qstack.application.machine import Application
from qstack.application.users import FromUser, UserDown, UserUp
from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.machine import Link, LinkPeerDown, LinkPeerUp
from qstack.machine import (
    TICK,
    Arrived,
    Device,
    Down,
    Drained,
    FromDevice,
    Handed,
    Note,
    Send,
    Tick,
    Up,
)
from qstack.messages.application import AskStatus, Status
from qstack.messages.devices import Calibration, DeviceState
from qstack.messages.wire import KIND_OF, Layer
from qstack.network.machine import (
    FromPeer,
    Network,
    PeerGone,
    PeerThere,
)
from qstack.physical.machine import NodePhysical, StationReachable, StationUnreachable
from qstack.physical.slots import Slots
from qstack.stack.devices import Devices
from qstack.stack.end_node_parameters import EndNodeParameters
from qstack.stack.hosting import Neighbours
from qstack.stack.status import status_of_link, status_of_slots
from qstack.stack.strand import Marks, Strand
from qstack.stack.turns import Turns
from qstack.stack.watching import LinkWatch
from qstack.units import Chance, Instant, LinkName, NodeName, earliest

_OF_NETWORK = frozenset(cls for cls, kind in KIND_OF.items() if kind.layer is Layer.NETWORK)


def _by_name(strand: Strand) -> LinkName:
    return strand.name


class EndNode:
    """The pure machine of an end node's process; see :mod:`qstack.stack.hosting`."""

    __slots__ = (
        *("_across", "_across_stepped", "_every", "_links", "_links_due", "_marks", "_network_due"),
        *("_nodes", "_released", "_stores", "_to_network", "_watch", "application", "boot"),
        *("devices", "link", "name", "neighbours", "network", "parameters", "physical", "slots"),
        "strands",
    )

    def __init__(self, parameters: EndNodeParameters, chance: Chance) -> None:
        self.parameters = parameters
        self.name = parameters.identity.name
        self.boot = parameters.identity.boot
        self.slots = Slots(parameters.communication, parameters.storage)
        commands = CommandIds()
        self._links = {link.name: link for link in parameters.links}
        self._nodes = parameters.nodes
        across, own = parameters.network, chance.fork("network")
        self.network = Network(self.name, self.boot, across, self.slots, commands, chance=own)
        self._across_stepped = True
        self._network_due: Instant | None = None
        self._links_due: Instant | None = None
        self._across = Turns(self._of_network)
        self._to_network = self._across.after
        self.application = Application(
            *(self.name, self.network.desk.requests, parameters.memory),
            *(self.slots, commands),
            links=self._links,
        )
        self.neighbours = Neighbours(parameters.identity, self._deliver, self._peer_changed)
        self.devices = Devices(
            parameters.hosts, self.neighbours, self._device_state, parameters.sheets
        )
        self._marks = Marks()
        self.strands = self._strands(commands, chance)
        self._every = tuple(self.strands.values())
        self.physical = {name: strand.physical for name, strand in self.strands.items()}
        self.link = {name: strand.link for name, strand in self.strands.items()}
        self._watch = LinkWatch(self.name, self._links, self.neighbours)
        self._released = 0
        self._stores = bool(parameters.storage)

    def _strands(self, commands: CommandIds, chance: Chance) -> dict[LinkName, Strand]:
        found = {}
        outlets = (self.neighbours, self.devices, self._to_network)
        for link in self.parameters.links:
            own = chance.fork(f"link/{link.name}")
            machines = (
                NodePhysical(link, self.name, self.slots, commands),
                Link(link, self.name, self.slots, commands, own),
            )
            found[link.name] = Strand(link, self.name, machines, self._marks, outlets)
        return found

    @property
    def deadline(self) -> Instant | None:
        """When this node wants a TICK."""
        first = self.neighbours.deadline
        due = self._find_network_due() if self._across_stepped else self._network_due
        if due is not None and (first is None or due < first):
            first = due
        due = self._find_links_due() if self._marks.stepped else self._links_due
        if due is not None and (first is None or due < first):
            first = due
        return first

    @property
    def work_deadline(self) -> Instant | None:
        """When requests and pairs want one; None if only peers can rouse them.

        Upkeep goes on for ever: of adjacencies, of routes, of the leases of circuits.
        """
        return earliest(self.network.work_deadline, self._find_links_due())

    def _find_network_due(self) -> Instant | None:
        """When the network layer wants a TICK; it tells another time only after a step."""
        self._across_stepped = False
        self._network_due = self.network.deadline
        return self._network_due

    def _find_links_due(self) -> Instant | None:
        """When the first of the links does, of which those that were stepped are asked."""
        first: Instant | None = None
        if not self._marks.undrained:
            self._marks.stepped = False
        for strand in self._every:
            due = strand.look() if strand.stepped else strand.due
            if due is not None and (first is None or due < first):
                first = due
        self._links_due = first
        return first

    def start(self, now: Instant) -> list[Any]:
        """Call the neighbours. Once, before any event."""
        actions: list[Any] = []
        peers: dict[NodeName, str] = dict.fromkeys(sorted(self.devices.hosts), "world")
        peers |= {link.station: "station" for link in self.parameters.links}
        peers |= dict.fromkeys(self._nodes, "node")
        for peer in sorted(peers):
            actions += self.neighbours.open(peer, peers[peer], "peer", initiate=True, now=now)
        return actions + self.devices.start(now)

    def stop(self, reason: str, now: Instant) -> list[Any]:
        """Tell every peer that this process stops on purpose. Nothing may follow."""
        return self.neighbours.shut(reason, now)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take one event of the process; see :mod:`qstack.stack.hosting`."""
        kind = type(event)
        if kind is Drained:
            return self._drain(now)
        if kind is Arrived:
            return self.neighbours.arrived(event, now)
        if kind is FromDevice:
            return self.devices.reported(event.event, now)
        if kind is Handed:
            return self.neighbours.handed(event, now)
        if kind is Tick:
            return self._tick(now)
        raise TypeError(f"{self.name}: {kind.__name__} is no event of a node")

    # --- the rooms, bottom up -------------------------------------------------------------

    def _of_network(self, event: Any, now: Instant) -> list[Any]:
        out: list[Any] = []
        self._across_stepped = True
        action: Any
        for action in self.network.handle(event, now):
            kind = type(action)
            if kind is Up:
                out += self._to_application(action.event, now)
            elif kind is Send:
                out += self.neighbours.post(action.peer, action.message, now)
            elif kind is Down:
                asked = action.request
                out += self.strands[asked.link].ask_link(asked.body, now)
            elif kind is Device:
                out += self.devices.command(action, self._to_network, now)
            else:
                out.append(action)
        return out

    def _to_application(self, event: Any, now: Instant) -> list[Any]:
        out: list[Any] = []
        action: Any
        for action in self.application.handle(event, now):
            kind = type(action)
            if kind is Send:
                out += self.neighbours.post(action.peer, action.message, now)
            elif kind is Device:
                out += self.devices.command(action, self._to_application, now)
            elif kind is Down:
                out += self._to_network(action.request, now)
            else:
                out.append(action)
        return out

    # --- devices --------------------------------------------------------------------------

    def _device_state(self, event: DeviceState | Calibration, now: Instant) -> list[Any]:
        out: list[Any] = []
        for strand in self._every:
            if event.device in strand.devices:
                out += strand.to_physical(event, now)
        return out

    # --- peers ----------------------------------------------------------------------------

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        match role:
            case "node":
                if type(message) in _OF_NETWORK:
                    return self._to_network(FromPeer(peer, message), now)
                strand = self.strands.get(message.link)
                if strand is None or strand.peer != peer:
                    raise RemoteProtocolError(f"{peer} is no end of link {message.link!r}")
                return strand.to_link(message, now)
            case "station":
                strand = self.strands.get(message.link)
                if strand is None or strand.station != peer:
                    raise RemoteProtocolError(f"{peer} is no station of link {message.link!r}")
                return strand.to_physical(message, now)
            case "world":
                return self.devices.delivered(peer, message, now)
            case _:
                if type(message) is AskStatus:
                    status = Status(message.reference, json.dumps(self.status(now)))
                    return self.neighbours.post(peer, status, now)
                return self._to_application(FromUser(peer, message), now)

    def _peer_changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        peer, up = event.peer, type(event) is PeerUp
        reason = "" if type(event) is PeerUp else str(getattr(event, "reason", ""))
        out: list[Any] = []
        if peer in self.devices.hosts:
            out += self.devices.host_changed(event, now)
        touched = False
        for strand in self._every:
            if strand.station == peer:
                touched = True
                station = StationReachable(event.boot) if up else StationUnreachable(reason)
                out += strand.to_physical(station, now)
            if strand.peer == peer:
                touched = True
                other = LinkPeerUp(event.boot) if up else LinkPeerDown(reason)
                out += strand.to_link(other, now)
        across = peer in self._nodes
        if not touched and not across and peer not in self.devices.hosts:
            user = UserUp(peer) if up else UserDown(peer, reason)
            out += self._to_application(user, now)
        if across:
            there = PeerThere(peer, event.boot) if up else PeerGone(peer, reason)
            out += self._to_network(there, now)
        for seen in self._watch.touched(peer):
            out += self._to_network(seen, now)
        state = "peer-up" if up else "peer-lost"
        out.append(Note(state, (("peer", peer), ("reason", reason))))
        return out

    # --- time -----------------------------------------------------------------------------

    def _drain(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        undrained, slots = self._marks.undrained, self.slots
        while True:
            if self._released != slots.releases:
                self._released = slots.releases
                for strand in self._every:
                    out += strand.slots_came_free(now, self._stores)
            if not undrained:
                break
            if len(undrained) > 1:
                out += self._drain_all(now)
            else:
                only = undrained.pop()
                only.undrained = False
                out += only.drain(now)
        if self.neighbours.undrained:
            out += self.neighbours.drain(now)
        return out

    def _drain_all(self, now: Instant) -> list[Any]:
        """Drain several strands, in the order of their names; it may leave some undrained again."""
        out: list[Any] = []
        batch = sorted(self._marks.undrained, key=_by_name)
        self._marks.undrained.clear()
        for strand in batch:
            strand.undrained = False
        for strand in batch:
            out += strand.drain(now)
        return out

    def _tick(self, now: Instant) -> list[Any]:
        out = self.neighbours.tick(now)
        for seen in self._watch.changed():
            out += self._to_network(seen, now)
        for link in (False, True):
            for strand in self._every:
                out += strand.tick(now, link=link)
        deadline = self._find_network_due()
        if deadline is not None and deadline <= now:
            out += self._to_network(TICK, now)
        return out

    def status(self, now: Instant) -> dict[str, Any]:
        """What this node knows and has counted, in JSON's types."""
        return {
            "node": self.name,
            "kind": "end",
            "boot": f"{self.boot:016x}",
            "now_ns": now,
            "slots": status_of_slots(self.slots),
            "links": {
                name: status_of_link(link, self.name, (self.physical[name], self.link[name]), now)
                for name, link in self._links.items()
            },
            "network": self.network.report(now),
            "application": dict(self.application.counters),
            "neighbours": self.neighbours.report(),
            "refused": dict(self.neighbours.counters),
        }

"""An end node: application over network over links over physical, in one machine."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from qstack.adjacency import PeerLost, PeerUp
from qstack.application.machine import Application, FromUser, UserDown, UserUp
from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.machine import Link, LinkPeerDown, LinkPeerUp
from qstack.machine import (
    DRAINED,
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
    earliest,
)
from qstack.messages.application import AskStatus, Status
from qstack.messages.devices import Calibration, DeviceState
from qstack.messages.wire import KIND_OF, Layer
from qstack.network.machine import (
    FromPeer,
    Network,
    OnLink,
    PeerGone,
    PeerThere,
)
from qstack.physical.events import SLOTS_CHANGED
from qstack.physical.machine import NodePhysical, StationReachable, StationUnreachable
from qstack.physical.slots import Slots
from qstack.stack.devices import Devices
from qstack.stack.end_node_parameters import EndNodeParameters
from qstack.stack.hosting import Neighbours
from qstack.stack.status import status_of_link, status_of_slots
from qstack.stack.turns import Turns
from qstack.stack.watching import LinkWatch
from qstack.units import Chance, Instant, LinkName, NodeName


class EndNode:
    """The pure machine of an end node's process; see :mod:`qstack.stack.hosting`."""

    def __init__(self, parameters: EndNodeParameters, chance: Chance) -> None:
        self.parameters = parameters
        self.name = parameters.identity.name
        self.boot = parameters.identity.boot
        self.slots = Slots(parameters.communication, parameters.storage)
        commands = CommandIds()
        self._links = {link.name: link for link in parameters.links}
        self._nodes = parameters.nodes
        self.physical: dict[LinkName, NodePhysical] = {}
        self.link: dict[LinkName, Link] = {}
        for link in parameters.links:
            self.physical[link.name] = NodePhysical(link, self.name, self.slots, commands)
            self.link[link.name] = Link(
                link, self.name, self.slots, commands, chance.fork(f"link/{link.name}")
            )
        across, own = parameters.network, chance.fork("network")
        self.network = Network(self.name, self.boot, across, self.slots, commands, chance=own)
        self._across_stepped = True
        self._across_deadline: Instant | None = None
        self._across = Turns(self._of_network)
        self._turns = {name: Turns(partial(self._of_link, name)) for name in self._links}
        self.application = Application(
            *(self.name, self.network.desk.requests, parameters.memory),
            *(self.slots, commands),
            links=self._links,
        )
        self.neighbours = Neighbours(parameters.identity, self._deliver, self._peer_changed)
        self.devices = Devices(
            parameters.hosts, self.neighbours, self._device_state, parameters.sheets
        )
        self._answers_physical = {name: partial(self._to_physical, name) for name in self._links}
        self._answers_link = {name: partial(self._to_link, name) for name in self._links}
        self._dirty: set[LinkName] = set()
        self._stepped: set[LinkName] = set(self._links)
        self._deadlines: dict[LinkName, Instant | None] = {}
        self._watch = LinkWatch(self.name, self._links, self.neighbours)
        self._first: Instant | None = None
        self._released = 0
        self._stores = bool(parameters.storage)

    @property
    def deadline(self) -> Instant | None:
        """When this node wants a TICK."""
        if self._across_stepped:
            self._across_stepped = False
            self._across_deadline = self.network.deadline
        return earliest(self.neighbours.deadline, self._across_deadline, self._links_deadline)

    @property
    def work_deadline(self) -> Instant | None:
        """When requests and pairs want one; None if only peers can rouse them.

        Upkeep goes on for ever: of adjacencies, of routes, of the leases of circuits.
        """
        return earliest(self.network.work_deadline, self._links_deadline)

    @property
    def _links_deadline(self) -> Instant | None:
        if self._stepped:
            for link in self._stepped:
                due = earliest(self.physical[link].deadline, self.link[link].deadline)
                self._deadlines[link] = due
            self._stepped.clear()
            self._first = earliest(*self._deadlines.values())
        return self._first

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
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case FromDevice():
                return self.devices.reported(event.event, now)
            case Handed():
                return self.neighbours.handed(event, now)
            case Drained():
                return self._drain(now)
            case Tick():
                return self._tick(now)
            case _:
                raise TypeError(f"{self.name}: {type(event).__name__} is no event of a node")

    # --- the rooms, bottom up -------------------------------------------------------------

    def _to_physical(self, link: LinkName, event: Any, now: Instant) -> list[Any]:
        self._dirty.add(link)
        self._stepped.add(link)
        physical = self.physical[link]
        actions = physical.handle(event, now)
        if not actions:
            return actions
        out = self._of_physical(link, actions, now)
        while physical.left:
            # The rest of what it has to indicate, now that the link has answered.
            out += self._of_physical(link, physical.handle(TICK, now), now)
        return out

    def _of_physical(self, link: LinkName, actions: list[Any], now: Instant) -> list[Any]:
        out: list[Any] = []
        for action in actions:
            match action:
                case Up():
                    out += self._to_link(link, action.event, now)
                case Send():
                    out += self.neighbours.post(action.peer, action.message, now)
                case Device():
                    out += self.devices.command(action, self._answers_physical[link], now)
                case _:
                    out.append(action)
        return out

    def _to_link(self, link: LinkName, event: Any, now: Instant) -> list[Any]:
        return self._turns[link].inside(event, now)

    def _of_link(self, link: LinkName, event: Any, now: Instant) -> list[Any]:
        self._dirty.add(link)
        self._stepped.add(link)
        out: list[Any] = []
        for action in self.link[link].handle(event, now):
            match action:
                case Up():
                    out += self._to_network(OnLink(link, action.event), now)
                case Down():
                    out += self._to_physical(link, action.request, now)
                case Send():
                    out += self.neighbours.post(action.peer, action.message, now)
                case Device():
                    out += self.devices.command(action, self._answers_link[link], now)
                case _:
                    out.append(action)
        return out

    def _to_network(self, event: Any, now: Instant) -> list[Any]:
        return self._across.after(event, now)

    def _of_network(self, event: Any, now: Instant) -> list[Any]:
        out: list[Any] = []
        self._across_stepped = True
        for action in self.network.handle(event, now):
            match action:
                case Up():
                    out += self._to_application(action.event, now)
                case Down():
                    out += self._turns[action.request.link].after(action.request.body, now)
                case Send():
                    out += self.neighbours.post(action.peer, action.message, now)
                case Device():
                    out += self.devices.command(action, self._to_network, now)
                case _:
                    out.append(action)
        return out

    def _to_application(self, event: Any, now: Instant) -> list[Any]:
        out: list[Any] = []
        for action in self.application.handle(event, now):
            match action:
                case Send():
                    out += self.neighbours.post(action.peer, action.message, now)
                case Device():
                    out += self.devices.command(action, self._to_application, now)
                case Down():
                    out += self._to_network(action.request, now)
                case _:
                    out.append(action)
        return out

    # --- devices --------------------------------------------------------------------------

    def _device_state(self, event: DeviceState | Calibration, now: Instant) -> list[Any]:
        out: list[Any] = []
        for name, link in self._links.items():
            mine = link.end(self.name)
            if event.device in (mine.emitter, mine.memory):
                out += self._to_physical(name, event, now)
        return out

    # --- peers ----------------------------------------------------------------------------

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        match role:
            case "world":
                return self.devices.delivered(peer, message, now)
            case "station":
                link = self._links.get(message.link)
                if link is None or link.station != peer:
                    raise RemoteProtocolError(f"{peer} is no station of link {message.link!r}")
                return self._to_physical(link.name, message, now)
            case "node":
                if KIND_OF[type(message)].layer is Layer.NETWORK:
                    return self._to_network(FromPeer(peer, message), now)
                link = self._links.get(message.link)
                if link is None or link.other(self.name).node != peer:
                    raise RemoteProtocolError(f"{peer} is no end of link {message.link!r}")
                return self._to_link(link.name, message, now)
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
        for name, link in self._links.items():
            if link.station == peer:
                touched = True
                station = StationReachable(event.boot) if up else StationUnreachable(reason)
                out += self._to_physical(name, station, now)
            if link.other(self.name).node == peer:
                touched = True
                other = LinkPeerUp(event.boot) if up else LinkPeerDown(reason)
                out += self._to_link(name, other, now)
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
        while self._dirty or self._released != self.slots.releases:
            if self._released != self.slots.releases:
                self._released = self.slots.releases
                for link, physical in self.physical.items():
                    physical.handle(SLOTS_CHANGED, now)
                    self._dirty.add(link)
                    if self._stores:  # some half may be waiting for a storage slot
                        out += self._to_link(link, DRAINED, now)
            dirty, self._dirty = self._dirty, set()
            for link in sorted(dirty) if len(dirty) > 1 else dirty:
                self._stepped.add(link)
                actions = self.physical[link].handle(DRAINED, now)
                if actions:
                    out += self._of_physical(link, actions, now)
        out += self.neighbours.drain(now)
        return out

    def _tick(self, now: Instant) -> list[Any]:
        out = self.neighbours.tick(now)
        for seen in self._watch.changed():
            out += self._to_network(seen, now)
        for link, physical in self.physical.items():
            deadline = physical.deadline
            if deadline is not None and deadline <= now:
                out += self._to_physical(link, TICK, now)
        for link, machine in self.link.items():
            deadline = machine.deadline
            if deadline is not None and deadline <= now:
                out += self._to_link(link, TICK, now)
        deadline = self.network.deadline
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

"""Many link-state machines, each pair of neighbours joined by two adjacencies and a lossy wire."""

from __future__ import annotations

import heapq
from typing import Any

from qstack.adjacency import Adjacency, Delivered, Open, PeerLost, PeerUp, Post
from qstack.codec import decode_datagram, encode_datagram
from qstack.machine import DRAINED, TICK, Arrived, Machine, Send, Transmit, Up
from qstack.messages.network import LinkMetric, LinkOffer, NodeMetric
from qstack.messages.wire import Datagram
from qstack.network.linkstate import (
    Advertise,
    FloodParameters,
    FromNeighbour,
    LinkState,
    NeighbourLost,
    NeighbourUp,
    RoutesChanged,
)
from qstack.units import MILLISECOND, SECOND, Chance, Duration, Instant, NodeName
from tests.wire_fakes import parameters

Edge = tuple[NodeName, NodeName]
QUICK = FloodParameters(5 * SECOND, 15 * SECOND, 10 * MILLISECOND)
KEEPALIVE = 100 * MILLISECOND


def node_metric(**changes: Any) -> NodeMetric:
    values: dict[str, Any] = {
        "swaps": True,
        "trust": 0,
        "draining": False,
        "memories": (2, 0),
        "t1_ns": 0,
        "t2_ns": 0,
        "exponent": 1.0,
        "keep": 1.0,
        "readout": 1.0,
        "success": 1.0,
        "turn": 1.0,
    }
    return NodeMetric(**(values | changes))


def link_metric(link: str, peer: NodeName, *offers: LinkOffer, **changes: Any) -> LinkMetric:
    values: dict[str, Any] = {"up": True, "latency_ns": 0, "reserved": 0.0, "windows": ()}
    return LinkMetric(link=link, peer=peer, offers=offers, **(values | changes))


def named(one: NodeName, other: NodeName) -> str:
    return "-".join(sorted((one, other)))


class FloodLab:
    """Nodes and edges in virtual time. `loss` is that of every datagram, `cut` edges carry none.

    `changed` counts the RoutesChanged of each node; what one of `bundles` sends leaves together.
    """

    def __init__(self, edges: list[Edge], loss: float = 0.0, seed: int = 1) -> None:
        self.edges = [(min(edge), max(edge)) for edge in edges]
        self.loss = loss
        self.chance = Chance(seed)
        self.now: Instant = 0
        self.cut: set[Edge] = set()
        self.nodes: dict[NodeName, LinkState] = {}
        self.ends: dict[Edge, Adjacency] = {}
        self.changed: dict[NodeName, int] = {}
        self.sent: list[tuple[NodeName, NodeName, Any]] = []
        self.bundles: set[tuple[Instant, NodeName, NodeName]] = set()
        self._up: dict[NodeName, set[NodeName]] = {}
        self._says: dict[NodeName, dict[str, Any]] = {}
        self._heap: list[tuple[Instant, int, Edge, Datagram]] = []
        self._order = 0
        for name in sorted({name for edge in edges for name in edge}):
            self.start(name)

    def start(self, name: NodeName) -> None:
        """Start a node, or start it again in a new life that remembers nothing."""
        boot = self.chance.boot_id()
        self.nodes[name] = LinkState(name, boot, QUICK)
        self.changed[name] = 0
        self._up[name], self._says[name] = set(), {}
        for peer in self.neighbours(name):
            values = parameters(name, peer, initiate=name < peer, keepalive_ns=KEEPALIVE)
            self.ends[name, peer] = Adjacency(values, boot)
            self._step((name, peer), Open())
        self.advertise(name)

    def stop(self, name: NodeName) -> None:
        """End a node without a word."""
        del self.nodes[name]
        for peer in self.neighbours(name):
            del self.ends[name, peer]

    def neighbours(self, name: NodeName) -> list[NodeName]:
        return sorted({b if a == name else a for a, b in self.edges if name in (a, b)})

    def advertise(self, name: NodeName, **changes: Any) -> None:
        """Let a node say of itself what it said before, its adjacencies, and these changes."""
        self._says[name] |= changes
        links = tuple(
            link_metric(named(name, peer), peer, up=peer in self._up[name])
            for peer in self.neighbours(name)
        )
        self._flood(name, Advertise(node_metric(**self._says[name]), links))

    def run(self, duration: Duration) -> None:
        end = self.now + duration
        while (instant := self._next()) is not None and instant <= end:
            self.now = max(self.now, instant)
            self._turn()
        self.now = end

    def known(self, name: NodeName) -> dict[NodeName, Any]:
        """What a node knows of each, without ages."""
        return {
            origin: (update.boot, update.sequence, update.node, update.links)
            for origin, update in self.nodes[name].database.items()
        }

    def agreed(self, *names: NodeName) -> bool:
        """Whether these nodes, or all, know exactly the same."""
        views = [self.known(name) for name in names or self.nodes]
        return all(view == views[0] for view in views)

    def _next(self) -> Instant | None:
        machines: tuple[Machine, ...] = (*self.ends.values(), *self.nodes.values())
        due = [m.deadline for m in machines if m.deadline is not None]
        return min([*due, self._heap[0][0]] if self._heap else due, default=None)

    def _turn(self) -> None:
        if self._heap and self._heap[0][0] <= self.now:
            _, _, edge, datagram = heapq.heappop(self._heap)
            if edge in self.ends:
                self._step(edge, Arrived("peer", datagram))
            return
        for edge, end in self.ends.items():
            if end.deadline is not None and end.deadline <= self.now:
                self._step(edge, TICK)
                return
        for name, node in self.nodes.items():
            if node.deadline is not None and node.deadline <= self.now:
                self._flood(name, TICK)
                assert node.deadline is None or node.deadline > self.now, "left its deadline"
                return

    def _step(self, edge: Edge, event: Any) -> None:
        name, peer = edge
        for each in (event, DRAINED):
            for action in self.ends[edge].handle(each, self.now):
                if type(action) is Transmit:
                    self._carry(edge, action.datagram)
                elif type(action) is Up:
                    match action.event:
                        case PeerUp():
                            self._up[name].add(peer)
                            self._flood(name, NeighbourUp(peer))
                            self.advertise(name)
                        case PeerLost():
                            self._up[name].discard(peer)
                            self._flood(name, NeighbourLost(peer))
                            self.advertise(name)
                        case Delivered(_, message):
                            self._flood(name, FromNeighbour(peer, message))

    def _flood(self, name: NodeName, event: Any) -> None:
        for action in self.nodes[name].handle(event, self.now):
            if type(action) is Send:
                self.sent.append((name, action.peer, action.message))
                self.bundles.add((self.now, name, action.peer))
                self._step((name, action.peer), Post(action.message))
            elif type(action) is Up:
                assert type(action.event) is RoutesChanged
                self.changed[name] += 1

    def _carry(self, edge: Edge, datagram: Datagram) -> None:
        if (min(edge), max(edge)) in self.cut or self.chance.uniform() < self.loss:
            return
        datagram = decode_datagram(encode_datagram(datagram))
        delay = 100_000 + self.chance.below(400_000)
        self._order += 1
        heapq.heappush(self._heap, (self.now + delay, self._order, edge[::-1], datagram))

"""A program's end of its nodes' user ports, from outside and in the node's own process."""

from __future__ import annotations

from typing import Any

from qstack.adjacency import PeerLost, PeerUp
from qstack.machine import CAME, Arrived, Came, Drained, Hand, Handed, Left, Tick, Up, record
from qstack.stack.hosting import Identity, Neighbours
from qstack.units import Instant, NodeName


@record
class ToNode:
    """A message of the program for its node."""

    node: NodeName
    message: Any


@record
class FromNode:
    """A message of a node for the program."""

    node: NodeName
    message: Any


@record
class NodeReached:
    """The node answers."""

    node: NodeName


@record
class NodeLost:
    """The node does not answer any more; what it held for the program is gone."""

    node: NodeName
    reason: str


class UserHost:
    """The pure machine of a client. Events besides a host's: :class:`ToNode`.

    Actions besides a host's: ``Up`` of FromNode, NodeReached and NodeLost.
    """

    __slots__ = ("boot", "name", "neighbours", "nodes")

    def __init__(self, identity: Identity, nodes: tuple[tuple[NodeName, str], ...]) -> None:
        self.name = identity.name
        self.boot = identity.boot
        self.nodes = nodes
        self.neighbours = Neighbours(identity, self._deliver, self._peer_changed)

    @property
    def deadline(self) -> Instant | None:
        """When this host wants a TICK."""
        return self.neighbours.deadline

    def start(self, now: Instant) -> list[Any]:
        """Call the nodes: pairs of (name, role), each reached through the port "user"."""
        actions: list[Any] = []
        for node, role in self.nodes:
            actions += self.neighbours.open(node, role, "user", initiate=True, now=now)
        return actions

    def stop(self, reason: str, now: Instant) -> list[Any]:
        """Tell every peer that this process stops on purpose. Nothing may follow."""
        return self.neighbours.shut(reason, now)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take one event of the process or of the program."""
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case ToNode():
                return self.neighbours.post(event.node, event.message, now)
            case Drained():
                return self.neighbours.drain(now)
            case Tick():
                return self.neighbours.tick(now)
            case _:
                raise TypeError(f"{self.name}: {type(event).__name__} is no event of a client")

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        return [Up(FromNode(peer, message))]

    def _peer_changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        if isinstance(event, PeerUp):
            return [Up(NodeReached(event.peer))]
        return [Up(NodeLost(event.peer, event.reason))]


class LocalUser:
    """The pure machine of a client in the same process as its nodes: no adjacency lies between.

    Events: Handed, and :class:`ToNode`. Actions: Hand, and ``Up`` as of a :class:`UserHost`.
    Whoever runs the process says for a node that died that it left, and calls anew for one that
    began another life.
    """

    __slots__ = ("_reached", "boot", "name", "nodes")

    deadline = None
    drains = False

    def __init__(self, identity: Identity, nodes: tuple[tuple[NodeName, str], ...]) -> None:
        self.name = identity.name
        self.boot = identity.boot
        self.nodes = nodes
        self._reached: set[NodeName] = set()

    def start(self, now: Instant) -> list[Any]:
        """Call the nodes: pairs of (name, role)."""
        return [Hand(node, CAME) for node, _ in self.nodes]

    def stop(self, reason: str, now: Instant) -> list[Any]:
        """Tell every node that this program stops. Nothing may follow."""
        return [Hand(node, Left(reason)) for node in sorted(self._reached)]

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take a word of a node or of the program; what the program says to nobody is lost."""
        kind = type(event)
        if kind is ToNode:
            return [Hand(event.node, event.message)] if event.node in self._reached else []
        if kind is not Handed:
            raise TypeError(f"{self.name}: {kind.__name__} is no event of a local client")
        node, word = event.peer, event.word
        if node in self._reached:
            if type(word) is Came:
                return []
            if type(word) is Left:
                self._reached.discard(node)
                return [Up(NodeLost(node, word.reason))]
            return [Up(FromNode(node, word))]
        if type(word) is not Came:
            return []
        self._reached.add(node)
        return [Hand(node, CAME), Up(NodeReached(node))]

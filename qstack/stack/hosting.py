"""What every process has in common: a name, a life, and adjacencies with others.

A *host* is the pure machine of a whole process. Its events are :class:`~qstack.machine.Arrived`,
:class:`~qstack.machine.FromDevice`, TICK and DRAINED; its actions are Transmit, Device (for
devices that this process drives itself), Note and, for clients, Up. Users that share a process
with their node are heard with :class:`~qstack.machine.Handed` and told with Hand: an adjacency
would guard against losses that cannot be. Both drivers, the live pump
and the event heap, know no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qstack.adjacency import (
    COUNTERS,
    Adjacency,
    AdjacencyParameters,
    Delivered,
    Open,
    PeerLost,
    PeerUp,
    Post,
    Shut,
)
from qstack.errors import RemoteProtocolError
from qstack.machine import (
    CAME,
    DRAINED,
    TICK,
    Arrived,
    Came,
    Hand,
    Handed,
    Left,
    Note,
    Up,
    record,
)
from qstack.messages.control import Hello
from qstack.messages.wire import KIND_OF
from qstack.stack.peers import NEVER, Peer, kinds_between
from qstack.units import BootId, Duration, Instant, NodeName

MAX_USERS = 64

HERE = "here"
"""For a port: where users of the same process are heard."""


@record
class Timing:
    """The times that are bound to the computer, converted to lab time at start."""

    keepalive_ns: Duration
    retransmit_floor_ns: Duration
    ack_delay_ns: Duration
    hello_interval_ns: Duration
    lab_per_wall: float


@record
class Identity:
    """Who a host is. `wire` is false where datagrams never become bytes."""

    name: NodeName
    role: str
    boot: BootId
    timing: Timing
    wire: bool


class Neighbours:
    """The adjacencies of one host, and the checks that stand between them and its layers.

    `deliver(peer, role, message, now)` takes a message that the peer's role may send, and
    `changed(event, now)` takes PeerUp and PeerLost; both return what the host then does. A
    RemoteProtocolError that `deliver` raises is counted against the peer and survived.
    """

    __slots__ = (
        *("_changed", "_deliver", "_first", "_peers", "_stepped", "counters", "identity"),
        "undrained",
    )

    def __init__(
        self,
        identity: Identity,
        deliver: Callable[[NodeName, str, Any, Instant], list[Any]],
        changed: Callable[[PeerUp | PeerLost, Instant], list[Any]],
    ) -> None:
        self.identity = identity
        self._deliver = deliver
        self._changed = changed
        self._peers: dict[NodeName, Peer] = {}
        self.undrained: list[Peer] = []
        """Those that may let something out when they are drained."""
        self._stepped: list[Peer] = []
        self._first: Instant = NEVER
        self.counters = {"strangers": 0, "misplaced": 0, "remote-errors": 0}

    @property
    def deadline(self) -> Instant | None:
        """The earliest deadline of any adjacency."""
        if self._stepped:
            self._look()
        return None if self._first == NEVER else self._first

    def _look(self) -> None:
        """Find the earliest deadline, now that some may be others."""
        first, is_over = self._first, False
        for peer in self._stepped:
            wanted = peer.wanted
            if wanted <= first:
                first = wanted
            elif peer.due == self._first:
                is_over = True  # it was the earliest, or one of those
            peer.due, peer.stepped = wanted, False
        self._stepped.clear()
        if is_over:
            first = NEVER
            for peer in self._peers.values():
                first = min(first, peer.due)
        self._first = first

    def open(
        self,
        peer: NodeName,
        role: str,
        port: str,
        *,
        initiate: bool,
        now: Instant,
        datasheets: tuple[tuple[str, str], ...] = (),
    ) -> list[Any]:
        """Begin to talk with `peer`, which has this role, through the port of this name.

        `datasheets`, (device, text), are told to it with every greeting.
        """
        identity, timing = self.identity, self.identity.timing
        parameters = AdjacencyParameters(
            name=identity.name,
            peer=peer,
            role=identity.role,
            port=port,
            wire=identity.wire,
            initiate=initiate,
            keepalive_ns=timing.keepalive_ns,
            retransmit_floor_ns=timing.retransmit_floor_ns,
            ack_delay_ns=timing.ack_delay_ns,
            hello_interval_ns=timing.hello_interval_ns,
            lab_per_wall=timing.lab_per_wall,
            datasheets=datasheets,
        )
        adjacency = Adjacency(parameters, identity.boot)
        known = self._peers[peer] = Peer(peer, role, port, adjacency)
        return self._step(known, adjacency, Open(), now)

    def close(self, peer: NodeName) -> None:
        """Forget a peer altogether."""
        known = self._peers.pop(peer, None)
        if known is None:
            return
        known.take = None
        self.undrained = [other for other in self.undrained if other is not known]
        self._stepped = [other for other in self._stepped if other is not known]
        self._first = min((other.due for other in self._peers.values()), default=NEVER)

    def adjacencies(self) -> dict[NodeName, Adjacency]:
        """Return the adjacency with each peer of another process."""
        found = ((name, peer.adjacency) for name, peer in self._peers.items())
        return {name: adjacency for name, adjacency in found if adjacency is not None}

    def is_up(self, peer: NodeName) -> bool:
        """Whether the adjacency with `peer` is up."""
        known = self._peers.get(peer)
        return known is not None and known.take is not None

    def latency_ns(self, peer: NodeName) -> Duration:
        """Return how long a message to `peer` takes, one way, as far as is known."""
        known = self._peers.get(peer)
        if known is None or known.adjacency is None:
            return 0
        return (known.adjacency.recent_rtt_ns or 0) // 2

    def post(self, peer: NodeName, message: Any, now: Instant) -> list[Any]:
        """Queue a message; it leaves when the inbox is drained."""
        known = self._peers.get(peer)
        if known is None:
            return [Note("post-to-nobody", (("peer", peer), ("kind", type(message).__name__)))]
        adjacency = known.adjacency
        if adjacency is None:
            return [Hand(peer, message)]
        self._mark(known)
        return adjacency.handle(Post(message), now)  # at most a note

    def arrived(self, event: Arrived, now: Instant) -> list[Any]:
        """Take a datagram that came in by a port; strangers are counted and dropped.

        On the user port a hello, or a word to a former life of this process, makes a stranger
        known, up to :data:`MAX_USERS`.
        """
        source: NodeName = event.datagram.header.source
        known = self._peers.get(source)
        if known is not None and known.adjacency is not None and known.port == event.port:
            return self._step(known, known.adjacency, event, now)
        header, frames = event.datagram.header, event.datagram.frames
        calls = bool(frames) and frames[0].kind == KIND_OF[Hello].number
        # Who talks to a former life of mine must learn at once that it is over.
        calls = calls or header.destination_boot not in (0, self.identity.boot)
        if event.port != "user" or known is not None or not calls or not self._room():
            self.counters["strangers"] += 1
            return []
        return self.open(source, "user", "user", initiate=False, now=now) + self.arrived(event, now)

    def handed(self, event: Handed, now: Instant) -> list[Any]:
        """Take what a user in this process says; only one that came is heard."""
        peer, word = event.peer, event.word
        if type(word) is Came:
            return self._came(peer, now)
        known = self._peers.get(peer)
        if known is None or known.adjacency is not None:
            self.counters["strangers"] += 1
            return []
        if type(word) is Left:
            del self._peers[peer]
            return self._changed(PeerLost(peer, 0, word.reason), now)
        return self._take(known, word, now)

    def _came(self, peer: NodeName, now: Instant) -> list[Any]:
        known = self._peers.get(peer)
        if known is not None and known.adjacency is None:
            return []
        if known is not None or not self._room():
            self.counters["strangers"] += 1
            return []
        known = self._peers[peer] = Peer(peer, "user", HERE, None)
        known.take = kinds_between(self.identity.role, "user")
        return [Hand(peer, CAME), *self._changed(PeerUp(peer, 0, "user", (), ()), now)]

    def _room(self) -> bool:
        """Make room for one more user, at the cost of the oldest that never came up."""
        users = [peer for peer in self._peers.values() if peer.role == "user"]
        if len(users) < MAX_USERS:
            return True
        for peer in users:
            if peer.take is None:
                self.close(peer.name)
                return True
        return False

    def tick(self, now: Instant) -> list[Any]:
        """Wake every adjacency whose deadline has come."""
        actions: list[Any] = []
        for peer in list(self._peers.values()):
            deadline = peer.wanted if peer.stepped else peer.due
            if deadline <= now and peer.adjacency is not None:
                actions += self._step(peer, peer.adjacency, TICK, now)
        return actions

    def shut(self, reason: str, now: Instant) -> list[Any]:
        """Say goodbye to every peer: for a process that stops on purpose."""
        actions: list[Any] = []
        for adjacency in self.adjacencies().values():
            # What the layers would make of the losses is of no interest any more.
            actions += adjacency.handle(Shut(reason), now) + adjacency.handle(DRAINED, now)
        actions = [action for action in actions if type(action) is not Up]
        here = sorted(name for name, peer in self._peers.items() if peer.adjacency is None)
        return actions + [Hand(peer, Left(reason)) for peer in here]

    def drain(self, now: Instant) -> list[Any]:
        """Let out what was collected, bundled."""
        actions: list[Any] = []
        undrained = self.undrained
        if not undrained:
            return actions
        for peer in undrained:
            peer.undrained = False
            self._touch(peer)
            if peer.adjacency is not None:
                actions += peer.adjacency.handle(DRAINED, now)  # nothing comes up by it
        undrained.clear()
        return actions

    def report(self) -> dict[str, Any]:
        """What is known of each peer, for status."""
        found: dict[str, Any] = {
            name: {
                "up": peer.take is not None,
                "role": peer.role,
                "rtt_ns": peer.adjacency.smoothed_rtt_ns,
                **dict(peer.adjacency.counters),
            }
            for name, peer in self._peers.items()
            if peer.adjacency is not None
        }
        for name in self._peers.keys() - found.keys():
            found[name] = {"up": True, "role": "user", "rtt_ns": 0, **dict.fromkeys(COUNTERS, 0)}
        return found

    def _touch(self, peer: Peer) -> None:
        """Its deadline may be another."""
        if not peer.stepped:
            peer.stepped = True
            self._stepped.append(peer)

    def _mark(self, peer: Peer) -> None:
        """Something is there to be let out, and the deadline may be another."""
        self._touch(peer)
        if not peer.undrained:
            peer.undrained = True
            self.undrained.append(peer)

    def _step(self, peer: Peer, adjacency: Adjacency, event: Any, now: Instant) -> list[Any]:
        actions: list[Any] = []
        self._touch(peer)
        indicated = adjacency.handle(event, now)
        if not (peer.undrained or adjacency.quiet(now)):
            self._mark(peer)
        for action in indicated:
            if type(action) is not Up:
                actions.append(action)
                continue
            told = action.event
            if type(told) is not Delivered:
                actions += self._peer_changed(peer, adjacency, told, now)
            else:
                actions += self._take(peer, told.message, now)
        return actions

    def _take(self, peer: Peer, message: Any, now: Instant) -> list[Any]:
        """Hand a message to the layers, if its sender is there and may send such."""
        if peer.take is None:
            return []
        if type(message) not in peer.take:
            self.counters["misplaced"] += 1
            return [Note("misplaced", (("peer", peer.name), ("kind", type(message).__name__)))]
        try:
            return self._deliver(peer.name, peer.role, message, now)
        except RemoteProtocolError as error:
            self.counters["remote-errors"] += 1
            return [Note("remote-error", (("peer", peer.name), ("reason", str(error))))]

    def _peer_changed(
        self, peer: Peer, adjacency: Adjacency, event: PeerUp | PeerLost, now: Instant
    ) -> list[Any]:
        if type(event) is PeerUp:
            if event.role != peer.role:
                fields = (("peer", peer.name), ("expected", peer.role), ("claims", event.role))
                return [Note("wrong-role", fields)]
            peer.take = kinds_between(self.identity.role, peer.role)
            return self._changed(event, now)
        if peer.take is None:
            return []
        peer.take = None
        actions = self._changed(event, now)
        if peer.role == "user" and adjacency.peer_boot is None:  # it may be up again already
            self.close(peer.name)
        return actions

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
from functools import cache
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
from qstack.hal.commands import COMMANDS
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
from qstack.messages.physical import Arm, Confirm
from qstack.messages.wire import KIND_OF, Layer
from qstack.units import BootId, Duration, Instant, NodeName

ALLOWED: dict[tuple[str, str], frozenset[Layer]] = {
    ("node", "node"): frozenset({Layer.LINK, Layer.NETWORK}),
    ("node", "station"): frozenset({Layer.PHYSICAL}),
    ("station", "node"): frozenset({Layer.PHYSICAL}),
    ("node", "world"): frozenset({Layer.DEVICE}),
    ("station", "world"): frozenset({Layer.DEVICE}),
    ("world", "node"): frozenset({Layer.DEVICE}),
    ("world", "station"): frozenset({Layer.DEVICE}),
    ("node", "user"): frozenset({Layer.APPLICATION}),
    ("station", "user"): frozenset({Layer.APPLICATION}),
    ("user", "node"): frozenset({Layer.APPLICATION}),
    ("user", "station"): frozenset({Layer.APPLICATION}),
}
"""Which layers' messages a party of the first role takes from one of the second."""

OF_ENDS = frozenset({Arm, Confirm})
"""What a node says to its station; the rest of that layer is what a station says to its nodes."""

MAX_USERS = 64

HERE = "here"
"""For a port: where users of the same process are heard."""


@cache
def kinds_between(mine: str, theirs: str) -> frozenset[type[Any]]:
    """Return the messages that a party of the first role takes from one of the second."""
    layers = ALLOWED.get((mine, theirs), frozenset())
    kinds = frozenset(cls for cls, kind in KIND_OF.items() if kind.layer in layers)
    if mine == "world":
        return kinds & COMMANDS
    if (mine, theirs) == ("station", "node"):
        return kinds & OF_ENDS
    return kinds - OF_ENDS - COMMANDS


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

    def __init__(
        self,
        identity: Identity,
        deliver: Callable[[NodeName, str, Any, Instant], list[Any]],
        changed: Callable[[PeerUp | PeerLost, Instant], list[Any]],
    ) -> None:
        self.identity = identity
        self._deliver = deliver
        self._changed = changed
        self._all: dict[NodeName, Adjacency] = {}
        self._known: dict[NodeName, tuple[str, str]] = {}
        self._live: dict[NodeName, tuple[str, frozenset[type[Any]]]] = {}
        """Of each peer that is there: its role, and the messages that are taken from it."""
        self._here: set[NodeName] = set()
        self.undrained: dict[NodeName, Adjacency] = {}
        """Those that may let something out when they are drained."""
        self._stepped: dict[NodeName, Adjacency] = {}
        self._deadlines: dict[NodeName, Instant] = {}
        self._first: Instant | None = None
        self.counters = {"strangers": 0, "misplaced": 0, "remote-errors": 0}

    @property
    def deadline(self) -> Instant | None:
        """The earliest deadline of any adjacency."""
        stepped = self._stepped
        if stepped:
            deadlines = self._deadlines
            for peer, adjacency in stepped.items():
                wanted = adjacency.deadline
                if wanted is None:
                    deadlines.pop(peer, None)
                else:
                    deadlines[peer] = wanted
            stepped.clear()
            first: Instant | None = None
            for due in deadlines.values():
                if first is None or due < first:
                    first = due
            self._first = first
        return self._first

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
        self._all[peer] = adjacency
        self._known[peer] = (role, port)
        return self._step(peer, adjacency, Open(), now)

    def close(self, peer: NodeName) -> None:
        """Forget a peer altogether."""
        self._all.pop(peer, None)
        self._known.pop(peer, None)
        self.undrained.pop(peer, None)
        self._stepped.pop(peer, None)
        self._deadlines.pop(peer, None)
        self._first = min(self._deadlines.values(), default=None)
        self._live.pop(peer, None)

    def is_up(self, peer: NodeName) -> bool:
        """Whether the adjacency with `peer` is up."""
        return peer in self._live

    def latency_ns(self, peer: NodeName) -> Duration:
        """Return how long a message to `peer` takes, one way, as far as is known."""
        adjacency = self._all.get(peer)
        return 0 if adjacency is None else (adjacency.recent_rtt_ns or 0) // 2

    def post(self, peer: NodeName, message: Any, now: Instant) -> list[Any]:
        """Queue a message; it leaves when the inbox is drained."""
        adjacency = self._all.get(peer)
        if adjacency is None:
            if peer in self._here:
                return [Hand(peer, message)]
            return [Note("post-to-nobody", (("peer", peer), ("kind", type(message).__name__)))]
        self._stepped[peer] = self.undrained[peer] = adjacency
        return adjacency.handle(Post(message), now)  # at most a note

    def arrived(self, event: Arrived, now: Instant) -> list[Any]:
        """Take a datagram that came in by a port; strangers are counted and dropped.

        On the user port a hello, or a word to a former life of this process, makes a stranger
        known, up to :data:`MAX_USERS`.
        """
        source: NodeName = event.datagram.header.source
        adjacency = self._all.get(source)
        if adjacency is not None and self._known[source][1] == event.port:
            return self._step(source, adjacency, event, now)
        header, frames = event.datagram.header, event.datagram.frames
        calls = bool(frames) and frames[0].kind == KIND_OF[Hello].number
        # Who talks to a former life of mine must learn at once that it is over.
        calls = calls or header.destination_boot not in (0, self.identity.boot)
        if event.port != "user" or adjacency is not None or not calls or not self._room():
            self.counters["strangers"] += 1
            return []
        actions = self.open(source, "user", "user", initiate=False, now=now)
        return actions + self._step(source, self._all[source], event, now)

    def handed(self, event: Handed, now: Instant) -> list[Any]:
        """Take what a user in this process says; only one that came is heard."""
        peer, word = event.peer, event.word
        if type(word) is Came:
            return self._came(peer, now)
        if peer not in self._here:
            self.counters["strangers"] += 1
            return []
        if type(word) is Left:
            self._here.discard(peer)
            self._live.pop(peer, None)
            del self._known[peer]
            return self._changed(PeerLost(peer, 0, word.reason), now)
        return self._take(peer, word, now)

    def _came(self, peer: NodeName, now: Instant) -> list[Any]:
        if peer in self._here:
            return []
        if peer in self._known or not self._room():
            self.counters["strangers"] += 1
            return []
        self._here.add(peer)
        self._begin(peer, "user")
        self._known[peer] = ("user", HERE)
        return [Hand(peer, CAME), *self._changed(PeerUp(peer, 0, "user", (), ()), now)]

    def _room(self) -> bool:
        """Make room for one more user, at the cost of the oldest that never came up."""
        users = [peer for peer, (role, _) in self._known.items() if role == "user"]
        if len(users) < MAX_USERS:
            return True
        for peer in users:
            if peer not in self._live:
                self.close(peer)
                return True
        return False

    def tick(self, now: Instant) -> list[Any]:
        """Wake every adjacency whose deadline has come."""
        actions: list[Any] = []
        for peer, adjacency in list(self._all.items()):
            stepped = peer in self._stepped  # what is written down of it may be wrong
            deadline = adjacency.deadline if stepped else self._deadlines.get(peer)
            if deadline is not None and deadline <= now:
                actions += self._step(peer, adjacency, TICK, now)
        return actions

    def shut(self, reason: str, now: Instant) -> list[Any]:
        """Say goodbye to every peer: for a process that stops on purpose."""
        actions: list[Any] = []
        for adjacency in self._all.values():
            # What the layers would make of the losses is of no interest any more.
            actions += adjacency.handle(Shut(reason), now) + adjacency.handle(DRAINED, now)
        actions = [action for action in actions if type(action) is not Up]
        return actions + [Hand(peer, Left(reason)) for peer in sorted(self._here)]

    def drain(self, now: Instant) -> list[Any]:
        """Let out what was collected, bundled."""
        actions: list[Any] = []
        undrained = self.undrained
        if not undrained:
            return actions
        self._stepped.update(undrained)
        for adjacency in undrained.values():
            actions += adjacency.handle(DRAINED, now)  # nothing comes up by it
        undrained.clear()
        return actions

    def report(self) -> dict[str, Any]:
        """What is known of each peer, for status."""
        found: dict[str, Any] = {
            peer: {
                "up": peer in self._live,
                "role": self._known[peer][0],
                "rtt_ns": adjacency.smoothed_rtt_ns,
                **dict(adjacency.counters),
            }
            for peer, adjacency in self._all.items()
        }
        for peer in self._here:
            found[peer] = {"up": True, "role": "user", "rtt_ns": 0, **dict.fromkeys(COUNTERS, 0)}
        return found

    def _step(self, peer: NodeName, adjacency: Adjacency, event: Any, now: Instant) -> list[Any]:
        actions: list[Any] = []
        self._stepped[peer] = adjacency
        indicated = adjacency.handle(event, now)
        if not adjacency.quiet(now):
            self.undrained[peer] = adjacency
        for action in indicated:
            if type(action) is not Up:
                actions.append(action)
                continue
            told = action.event
            if type(told) is not Delivered:
                actions += self._peer_changed(peer, told, now)
            elif peer in self._live:
                actions += self._take(peer, told.message, now)
        return actions

    def _begin(self, peer: NodeName, role: str) -> None:
        """A peer is there: its messages go to the layers from now on."""
        self._live[peer] = role, kinds_between(self.identity.role, role)

    def _take(self, peer: NodeName, message: Any, now: Instant) -> list[Any]:
        """Hand a message to the layers, if its sender may send such."""
        role, kinds = self._live[peer]
        if type(message) not in kinds:
            self.counters["misplaced"] += 1
            return [Note("misplaced", (("peer", peer), ("kind", type(message).__name__)))]
        try:
            return self._deliver(peer, role, message, now)
        except RemoteProtocolError as error:
            self.counters["remote-errors"] += 1
            return [Note("remote-error", (("peer", peer), ("reason", str(error))))]

    def _peer_changed(self, peer: NodeName, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        role = self._known[peer][0]
        if type(event) is PeerUp:
            if event.role != role:
                fields = (("peer", peer), ("expected", role), ("claims", event.role))
                return [Note("wrong-role", fields)]
            self._begin(peer, role)
            return self._changed(event, now)
        if peer not in self._live:
            return []
        self._live.pop(peer, None)
        actions = self._changed(event, now)
        if role == "user" and self._all[peer].peer_boot is None:  # it may be up again already
            self.close(peer)
        return actions

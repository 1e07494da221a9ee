"""The link-state database of a node, and the flooding that keeps all of them equal.

Each node advertises itself and its links in one update, and passes on what it hears from a
neighbour to all others. Updates of an origin are ordered by their sequence number alone. When an
adjacency comes up both sides send a digest of what they have and then what the other lacks: the
reliable channels of the adjacency do the rest, so nothing here is acknowledged or repeated. Two
numbers deal with restarts: an origin that hears an update of a former life of its own, or one it
never made, goes on from its sequence; an update whose origin is silent for `max_age_ns` is
forgotten.

What is passed on when: :mod:`qstack.network.spreading`.

Sources: OSPF (RFC 2328 section 13), of which this is what reliable channels leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.machine import Action, Note, Send, Tick, Up, record
from qstack.messages.network import LinkMetric, NodeMetric, RouteDigest, RouteEntry, RouteUpdate
from qstack.network.hours import moved_on
from qstack.network.spreading import Spreading
from qstack.network.updates import check, is_news, leads, order, takes_away
from qstack.units import MILLISECOND, SECOND, BootId, Duration, Instant, NodeName, earliest

CHUNK = 1_000
"""Entries in one digest."""

LARGEST_SEQUENCE = 1 << 62
"""No origin comes so far; a larger one is a lie that its origin could not outdo."""


@record
class FloodParameters:
    """How often a node speaks of itself, and for how long it is believed. Durations in lab ns.

    `refresh_ns`: at the latest after this an origin makes a new update. `max_age_ns`: an update
    of this age is forgotten. `hold_ns`: at least this passes between two updates of an origin.
    `most_origins` that are remembered. `pace_ns`: at least this passes between two times at which
    a node tells several others what it heard.
    """

    refresh_ns: Duration = 60 * SECOND
    max_age_ns: Duration = 200 * SECOND
    hold_ns: Duration = 20 * MILLISECOND
    most_origins: int = 4_096
    pace_ns: Duration = MILLISECOND


# --- events, from the node ------------------------------------------------------------------


@record
class Advertise:
    """From now on this is what the node says of itself."""

    node: NodeMetric
    links: tuple[LinkMetric, ...]


@record
class NeighbourUp:
    """The adjacency with a node is up, in whatever life of it."""

    peer: NodeName


@record
class NeighbourLost:
    """The adjacency is gone."""

    peer: NodeName


@record
class FromNeighbour:
    """A RouteUpdate or a RouteDigest of a neighbour."""

    peer: NodeName
    message: Any


# --- indication -----------------------------------------------------------------------------


@record
class RoutesChanged:
    """What routes are made from is not what it was. `origins` whose updates say something new."""

    origins: tuple[NodeName, ...]


class LinkState:
    """The database and the flooding, a pure machine.

    Events: Advertise, NeighbourUp, NeighbourLost, FromNeighbour, Tick. Actions: Send to
    neighbours, Up(RoutesChanged), Note. A message that is malformed raises RemoteProtocolError and
    changes nothing; what our own node gets wrong raises LocalProtocolError.
    """

    __slots__ = (
        *("_at", "_content", "_content_at", "_due", "_first_end", "_held", "_made", "_neighbours"),
        *("_sequence", "_spreading", "_stepped", "_wanted", "boot", "node", "parameters"),
    )

    def __init__(
        self, node: NodeName, boot: BootId, parameters: FloodParameters | None = None
    ) -> None:
        self.node = node
        self.boot = boot
        self.parameters = parameters or FloodParameters()
        # Two dictionaries of what all nodes of a process share, and no record of each node's own:
        # of 1,000 nodes a million are held.
        self._held: dict[NodeName, RouteUpdate] = {}
        self._at: dict[NodeName, Instant] = {}
        p = self.parameters
        self._spreading = Spreading(2 * p.hold_ns, p.pace_ns)
        self._neighbours: set[NodeName] = set()
        self._content: Advertise | None = None
        self._content_at: Instant = 0
        self._sequence = 0
        self._made: Instant | None = None
        self._wanted = False
        self._first_end: Instant | None = None
        """Before this nothing of others is forgotten; it is looked for anew when it has come, and
        with each update that is made here, not with each one that comes."""
        self._stepped = True
        self._due: Instant | None = None

    # --- what is known ---------------------------------------------------------------------

    @property
    def database(self) -> Mapping[NodeName, RouteUpdate]:
        """The newest update of each origin, my own among them; ages are those at arrival.

        It follows what is heard, and has no order.
        """
        return self._held

    def life_of(self, origin: NodeName) -> BootId | None:
        """Return the life of a node of which routes tell, None where they tell of none."""
        update = self._held.get(origin)
        return None if update is None else update.boot

    def ages(self, now: Instant) -> dict[NodeName, Duration]:
        """Return how old the newest update of each origin is, without its transit."""
        return {name: self._age(name, now) for name in self._held}

    def _age(self, origin: NodeName, now: Instant) -> Duration:
        return self._held[origin].age_ns + now - self._at[origin]

    @property
    def deadline(self) -> Instant | None:
        """When something is forgotten, refreshed, or may be said at last."""
        if self._stepped:  # nothing else moves it
            self._stepped = False
            p, own = self.parameters, None
            if self._made is not None:
                own = self._made + (p.hold_ns if self._wanted else p.refresh_ns)
            self._due = earliest(own, self._first_end, self._spreading.deadline)
        return self._due

    def _find_first_end(self) -> None:
        """Look when the first of the others is forgotten, if it is not heard of again."""
        most, at = self.parameters.max_age_ns, self._at
        ends = (
            at[name] + most - update.age_ns
            for name, update in self._held.items()
            if name != self.node
        )
        self._first_end = min(ends, default=None)

    # --- stepping --------------------------------------------------------------------------

    def handle(self, event: Any, now: Instant) -> list[Action]:
        """Take one event; return what is to be done."""
        self._stepped = True
        match event:
            case FromNeighbour(peer, message):
                if peer not in self._neighbours:
                    raise LocalProtocolError(f"{peer} is no neighbour of {self.node}")
                return self._told(peer, message, now)
            case Advertise():
                check(self.node, event.node, event.links, LocalProtocolError)
                if self._says(event, now):
                    return []
                self._content, self._content_at = event, now
                self._wanted = True
                return self._speak(now)
            case NeighbourUp(peer):
                self._neighbours.add(peer)
                self._spreading.begins(peer)
                return [Send(peer, digest) for digest in self._digests()]
            case NeighbourLost(peer):
                self._neighbours.discard(peer)
                return []
            case Tick():
                return self._forget(now) + self._pass_on(now) + self._speak(now)
            case _:
                assert_never(event)

    def _says(self, event: Advertise, now: Instant) -> bool:
        """Whether the node says this already, windows counted on to now."""
        said = self._content
        if said is None or said.node != event.node:
            return False
        return moved_on(said.links, now - self._content_at) == event.links

    def _told(
        self, peer: NodeName, message: RouteUpdate | RouteDigest, now: Instant
    ) -> list[Action]:
        match message:
            case RouteUpdate():
                return self._updated(peer, message, now)
            case RouteDigest():
                return self._compared(peer, message, now)
            case _:
                assert_never(message)

    # --- updates ---------------------------------------------------------------------------

    def _updated(self, peer: NodeName, update: RouteUpdate, now: Instant) -> list[Action]:
        held = self._held.get(update.origin)
        mine = update.origin == self.node
        if held is not None and order(update) == order(held) and not mine:
            return self._behind(peer, update, held, now)
        check(update.origin, update.node, update.links, RemoteProtocolError)
        if not 0 < update.sequence <= LARGEST_SEQUENCE or update.age_ns < 0:
            raise RemoteProtocolError(f"sequence {update.sequence}, age {update.age_ns} ns")
        if mine:
            return self._of_me(peer, update, now)
        if held is not None and order(update) < order(held):
            return self._behind(peer, update, held, now)
        left = self.parameters.max_age_ns - update.age_ns
        if left <= 0:
            return []
        if held is None and len(self._held) >= self.parameters.most_origins:
            return [Note("route-refused", (("origin", update.origin),))]
        news = held is None or is_news(held, self._age(update.origin, now), update)
        self._held[update.origin] = update
        self._at[update.origin] = now
        if self._first_end is None or now + left < self._first_end:
            self._first_end = now + left
        self._spreading.drop(update.origin)
        others = sorted(self._neighbours - {peer})
        if others and self._waits(peer, held, update, len(others), now):
            others = []
        actions: list[Action] = [Send(other, update) for other in others]
        if news:
            actions.append(Up(RoutesChanged((update.origin,))))
        return actions

    def _waits(
        self,
        peer: NodeName,
        held: RouteUpdate | None,
        update: RouteUpdate,
        others: int,
        now: Instant,
    ) -> bool:
        """Whether an update is passed on later: see :mod:`qstack.network.spreading`."""
        if held is None and peer == update.origin and not leads(update):
            self._spreading.keep(peer, now)
            return True
        if others == 1 or (held is not None and takes_away(held, update)):
            return False
        return self._spreading.paced(update.origin, peer, now)

    def _pass_on(self, now: Instant) -> list[Action]:
        """Pass on what has waited long enough."""
        actions: list[Action] = []
        for origin, known in self._spreading.due(now):
            aged = self._aged(self._held[origin], now)
            actions += [Send(other, aged) for other in sorted(self._neighbours - known)]
        return actions

    def _behind(
        self, peer: NodeName, update: RouteUpdate, held: RouteUpdate, now: Instant
    ) -> list[Action]:
        """The neighbour is behind, or has the same: only the former is worth an answer."""
        self._spreading.has(peer, update.origin)
        if order(update) == order(held):
            return []
        return [Send(peer, self._aged(held, now))]

    def _of_me(self, peer: NodeName, update: RouteUpdate, now: Instant) -> list[Action]:
        """Somebody speaks of me: of a former life, or of what I did not say."""
        mine = self._held.get(self.node)
        if mine is not None and order(update) <= order(mine):
            if update.sequence < mine.sequence:
                return [Send(peer, self._aged(mine, now))]
            if update.boot == self.boot:
                return []
        self._sequence = max(self._sequence, update.sequence)
        if self._content is None:
            return []  # The first update that I make will be beyond it.
        # Not held back: until it is out, others believe what a former life said.
        return self._make(now)

    def _speak(self, now: Instant) -> list[Action]:
        """Make an update if one is wanted, or due, and the last is long enough ago."""
        if self._content is None:
            return []
        if self._made is not None:
            wait = self.parameters.hold_ns if self._wanted else self.parameters.refresh_ns
            if now < self._made + wait:
                return []
        return self._make(now)

    def _make(self, now: Instant) -> list[Action]:
        if self._content is None:
            raise LocalProtocolError(f"{self.node} has nothing to say of itself")
        self._sequence += 1
        before = self._held.get(self.node)
        age_ns = 0 if before is None else self._age(self.node, now)
        links = moved_on(self._content.links, now - self._content_at)
        update = RouteUpdate(self.node, self.boot, self._sequence, 0, self._content.node, links)
        self._held[self.node] = update
        self._at[self.node] = now
        self._made, self._wanted = now, False
        self._find_first_end()
        actions: list[Action] = [Send(peer, update) for peer in sorted(self._neighbours)]
        if before is None or is_news(before, age_ns, update):
            actions.append(Up(RoutesChanged((self.node,))))
        return actions

    def _forget(self, now: Instant) -> list[Action]:
        if self._first_end is None or now < self._first_end:
            return []
        most = self.parameters.max_age_ns
        old = sorted(n for n in self._held if n != self.node and self._age(n, now) >= most)
        for name in old:
            del self._held[name], self._at[name]
            self._spreading.drop(name)
        self._find_first_end()
        actions: list[Action] = [Note("route-forgotten", (("origin", name),)) for name in old]
        return [*actions, Up(RoutesChanged(tuple(old)))] if old else []

    # --- digests ---------------------------------------------------------------------------

    def _digests(self) -> list[RouteDigest]:
        entries = [
            RouteEntry(name, update.boot, update.sequence)
            for name, update in sorted(self._held.items())
        ]
        found, after = [], ""
        for first in range(0, max(1, len(entries)), CHUNK):
            part = tuple(entries[first : first + CHUNK])
            upto = part[-1].origin if first + CHUNK < len(entries) else ""
            found.append(RouteDigest(after, upto, part))
            after = upto
        return found

    def _compared(self, peer: NodeName, digest: RouteDigest, now: Instant) -> list[Action]:
        theirs = {entry.origin: (entry.sequence, entry.boot) for entry in digest.entries}
        newer = sorted(
            name
            for name, update in self._held.items()
            if name > digest.after and (not digest.upto or name <= digest.upto)
            if theirs.get(name, (0, 0)) < order(update) and name not in self._spreading
        )
        most = self.parameters.max_age_ns
        return [
            Send(peer, self._aged(self._held[name], now))
            for name in newer
            if self._age(name, now) < most or name == self.node
        ]

    def _aged(self, held: RouteUpdate, now: Instant) -> RouteUpdate:
        """An update as it is passed on now; the same where no time has passed."""
        age_ns = self._age(held.origin, now)
        if age_ns == held.age_ns:
            return held
        said = held.node, held.links
        return RouteUpdate(held.origin, held.boot, held.sequence, age_ns, *said)

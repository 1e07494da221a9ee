"""The link-state database of a node, and the flooding that keeps all of them equal.

Each node advertises itself and its links in one update, and passes on what it hears from a
neighbour to all others. Updates of an origin are ordered by their sequence number alone. When an
adjacency comes up both sides send a digest of what they have and then what the other lacks: the
reliable channels of the adjacency do the rest, so nothing here is acknowledged or repeated. Two
numbers deal with restarts: an origin that hears an update of a former life of its own, or one it
never made, goes on from its sequence; an update whose origin is silent for `max_age_ns` is
forgotten.

Sources: OSPF (RFC 2328 section 13), of which this is what reliable channels leave.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, assert_never

import attrs

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.machine import Action, Note, Send, Tick, Up, record
from qstack.messages.network import LinkMetric, NodeMetric, RouteDigest, RouteEntry, RouteUpdate
from qstack.network.hours import moved_on, same_links, wrong_windows
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
    `most_origins` that are remembered.
    """

    refresh_ns: Duration = 60 * SECOND
    max_age_ns: Duration = 200 * SECOND
    hold_ns: Duration = 20 * MILLISECOND
    most_origins: int = 4_096


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


@attrs.define
class _Held:
    update: RouteUpdate
    at: Instant

    def age(self, now: Instant) -> Duration:
        return self.update.age_ns + now - self.at


class LinkState:
    """The database and the flooding, a pure machine.

    Events: Advertise, NeighbourUp, NeighbourLost, FromNeighbour, Tick. Actions: Send to
    neighbours, Up(RoutesChanged), Note. A message that is malformed raises RemoteProtocolError and
    changes nothing; what our own node gets wrong raises LocalProtocolError.
    """

    def __init__(
        self, node: NodeName, boot: BootId, parameters: FloodParameters | None = None
    ) -> None:
        self.node = node
        self.boot = boot
        self.parameters = parameters or FloodParameters()
        self._held: dict[NodeName, _Held] = {}
        self._neighbours: set[NodeName] = set()
        self._content: Advertise | None = None
        self._content_at: Instant = 0
        self._sequence = 0
        self._made: Instant | None = None
        self._wanted = False
        self._changed = False
        self._end: Instant | None = None
        self._stepped = True
        self._due: Instant | None = None

    # --- what is known ---------------------------------------------------------------------

    @property
    def database(self) -> Mapping[NodeName, RouteUpdate]:
        """The newest update of each origin, my own among them; ages are those at arrival."""
        return {name: held.update for name, held in sorted(self._held.items())}

    def ages(self, now: Instant) -> dict[NodeName, Duration]:
        """Return how old the newest update of each origin is, without its transit."""
        return {name: held.age(now) for name, held in self._held.items()}

    @property
    def deadline(self) -> Instant | None:
        """When something is forgotten, refreshed, or may be said at last."""
        if self._stepped:  # nothing else moves it
            self._stepped = False
            p, own = self.parameters, None
            if self._made is not None:
                own = self._made + (p.hold_ns if self._wanted else p.refresh_ns)
            self._due = earliest(own, self._first_end())
        return self._due

    def _first_end(self) -> Instant | None:
        """When the first of the others is forgotten; looked for anew when one has changed."""
        if self._changed:
            self._changed = False
            most = self.parameters.max_age_ns
            ends = (
                held.at + most - held.update.age_ns
                for name, held in self._held.items()
                if name != self.node
            )
            self._end = min(ends, default=None)
        return self._end

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
                _check(self.node, event.node, event.links, LocalProtocolError)
                if self._says(event, now):
                    return []
                self._content, self._content_at = event, now
                self._wanted = True
                return self._speak(now)
            case NeighbourUp(peer):
                self._neighbours.add(peer)
                return [Send(peer, digest) for digest in self._digests()]
            case NeighbourLost(peer):
                self._neighbours.discard(peer)
                return []
            case Tick():
                return self._forget(now) + self._speak(now)
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
        _check(update.origin, update.node, update.links, RemoteProtocolError)
        if not 0 < update.sequence <= LARGEST_SEQUENCE or update.age_ns < 0:
            raise RemoteProtocolError(f"sequence {update.sequence}, age {update.age_ns} ns")
        if update.origin == self.node:
            return self._of_me(peer, update, now)
        held = self._held.get(update.origin)
        if held is not None and _order(update) <= _order(held.update):
            return self._behind(peer, update, held, now)
        if update.age_ns >= self.parameters.max_age_ns:
            return []
        if held is None and len(self._held) >= self.parameters.most_origins:
            return [Note("route-refused", (("origin", update.origin),))]
        self._held[update.origin] = _Held(update, now)
        self._changed = True
        actions: list[Action] = [Send(other, update) for other in sorted(self._neighbours - {peer})]
        if held is None or _is_news(held, update, now):
            actions.append(Up(RoutesChanged((update.origin,))))
        return actions

    def _behind(
        self, peer: NodeName, update: RouteUpdate, held: _Held, now: Instant
    ) -> list[Action]:
        """The neighbour is behind, or has the same: only the former is worth an answer."""
        if _order(update) == _order(held.update):
            return []
        return [Send(peer, _aged(held, now))]

    def _of_me(self, peer: NodeName, update: RouteUpdate, now: Instant) -> list[Action]:
        """Somebody speaks of me: of a former life, or of what I did not say."""
        mine = self._held.get(self.node)
        if mine is not None and _order(update) <= _order(mine.update):
            if update.sequence < mine.update.sequence:
                return [Send(peer, _aged(mine, now))]
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
        links = moved_on(self._content.links, now - self._content_at)
        update = RouteUpdate(self.node, self.boot, self._sequence, 0, self._content.node, links)
        self._held[self.node] = _Held(update, now)
        self._made, self._wanted = now, False
        actions: list[Action] = [Send(peer, update) for peer in sorted(self._neighbours)]
        if before is None or _is_news(before, update, now):
            actions.append(Up(RoutesChanged((self.node,))))
        return actions

    def _forget(self, now: Instant) -> list[Action]:
        old = [
            name
            for name, held in sorted(self._held.items())
            if name != self.node and held.age(now) >= self.parameters.max_age_ns
        ]
        for name in old:
            del self._held[name]
            self._changed = True
        actions: list[Action] = [Note("route-forgotten", (("origin", name),)) for name in old]
        return [*actions, Up(RoutesChanged(tuple(old)))] if old else []

    # --- digests ---------------------------------------------------------------------------

    def _digests(self) -> list[RouteDigest]:
        entries = [
            RouteEntry(name, held.update.boot, held.update.sequence)
            for name, held in sorted(self._held.items())
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
        return [
            Send(peer, _aged(held, now))
            for name, held in sorted(self._held.items())
            if name > digest.after and (not digest.upto or name <= digest.upto)
            if held.age(now) < self.parameters.max_age_ns or name == self.node
            if theirs.get(name, (0, 0)) < _order(held.update)
        ]


def _order(update: RouteUpdate) -> tuple[int, BootId]:
    """Larger is newer. Two lives with one number are told apart, until the origin outdoes both."""
    return update.sequence, update.boot


def _aged(held: _Held, now: Instant) -> RouteUpdate:
    # The type checker does not see that our records are attrs classes.
    untyped: Any = held.update
    aged: RouteUpdate = attrs.evolve(untyped, age_ns=held.age(now))
    return aged


def _check(
    origin: NodeName, node: NodeMetric, links: tuple[LinkMetric, ...], error: type[Exception]
) -> None:
    """Raise `error` where an update says what cannot be."""
    shares = [node.keep, node.readout, node.success, node.turn]
    times = [node.t1_ns, node.t2_ns, *node.memories]
    for link in links:
        shares.append(link.reserved)
        times += [link.latency_ns, link.halves, link.turn_ns]
        for offer in link.offers:
            shares += [*offer.weights, offer.fidelity_low]
            times.append(offer.slot_ns)
            if offer.rate_hz < 0 or not math.isclose(sum(offer.weights), 1, abs_tol=1e-6):
                raise error(f"{origin}: {link.link} offers {offer}")
        reason = wrong_windows(link)
        if reason is not None:
            raise error(f"{origin}: {link.link} has windows that cannot be: {reason}")
    if not all(0 <= share <= 1 for share in shares) or min(times) < 0 or node.exponent <= 0:
        raise error(f"{origin} advertises what cannot be: {node}, {links}")
    if len({link.link for link in links}) < len(links):
        raise error(f"{origin} advertises a link twice")


def _is_news(held: _Held, update: RouteUpdate, now: Instant) -> bool:
    """Whether an update says something else than what is held: of the origin's life, or content."""
    former = held.update
    return (
        former.boot != update.boot
        or former.node != update.node
        or not same_links(former.links, update.links, held.age(now) - update.age_ns)
    )

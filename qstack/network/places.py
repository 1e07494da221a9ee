"""A circuit at one of its nodes: where the node stands on it, and what became of its pairs."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from qstack.bell import BellIndex
from qstack.errors import RemoteProtocolError
from qstack.machine import record
from qstack.messages.circuits import CircuitId, CircuitInstall, CircuitTrack, Leg
from qstack.messages.common import PairId
from qstack.network.budget import Correlators
from qstack.units import SECOND, Instant, LinkName, NodeName


class Side(IntEnum):
    """The two ways along a circuit, from a node."""

    UP = 0
    """Towards the head-end."""
    DOWN = 1
    """Towards the tail-end."""

    @property
    def other(self) -> Side:
        """The other way."""
        return Side.UP if self is Side.DOWN else Side.DOWN


class PlaceState(IntEnum):
    """Where the circuit stands, as this node knows."""

    INSTALLING = 0
    """Admitted here; the nodes after this one have not answered."""
    READY = 1
    """All nodes from here to the tail-end have it."""
    OVER = 2
    """Terminal: nothing of it is kept."""


@record
class Confirmed:
    """The nodes after this one, if any, admitted it."""


@record
class Ended:
    """Released, refused, out of lease, or a neighbour is lost."""


PlaceEvent: TypeAlias = Confirmed | Ended

_P = PlaceState
TABLE: dict[PlaceState, dict[type, frozenset[PlaceState]]] = {
    _P.INSTALLING: {Confirmed: frozenset({_P.READY}), Ended: frozenset({_P.OVER})},
    _P.READY: {Ended: frozenset({_P.OVER})},
    _P.OVER: {},
}
"""The allowed successors. An event that a state does not list is illegal there."""


class Place:
    """A node's place on a circuit. `index` counts hops from the head-end, which has 0.

    `label` is what this node takes the circuit's link requests under, `label_down` what the next
    one does. `lease_until` has no meaning at the head-end. `former`: the install as it was while
    another reservation is asked for.
    """

    __slots__ = (
        *("_links", "_neighbours", "former", "id", "index", "install", "is_head", "is_tail"),
        *("label", "label_down", "lease_until", "state", "tail"),
    )

    def __init__(self, install: CircuitInstall, index: int) -> None:
        """Look along the way: another install of the circuit goes the same."""
        self.install = install
        self.index = index
        self.label = self.label_down = 0
        self.lease_until: Instant = 0
        self.state = PlaceState.INSTALLING
        self.former: CircuitInstall | None = None
        self.id: CircuitId = install.circuit
        """The circuit."""
        self.is_head: bool = index == 0
        """Whether the circuit begins here."""
        self.is_tail: bool = index == len(install.legs)
        """Whether it ends here."""
        self.tail: NodeName = install.legs[-1].node
        """The node where it ends."""
        nodes = ("", install.circuit.origin, *(leg.node for leg in install.legs), "")
        links = ("", *(leg.link for leg in install.legs), "")
        self._links: tuple[LinkName, LinkName] = (links[index], links[index + 1])
        self._neighbours: tuple[NodeName, NodeName] = (nodes[index], nodes[index + 2])

    def has(self, side: Side) -> bool:
        """Whether the circuit goes on to this side."""
        return not (self.is_head if side is Side.UP else self.is_tail)

    def leg(self, side: Side) -> Leg:
        """The hop on this side."""
        return self.install.legs[self.index - 1 if side is Side.UP else self.index]

    def link(self, side: Side) -> LinkName:
        """The link on this side, which there is."""
        return self._links[side]

    def neighbour(self, side: Side) -> NodeName:
        """The next node on this side, which there is."""
        return self._neighbours[side]

    def end(self, side: Side) -> NodeName:
        """The node where the circuit ends on this side."""
        return self.id.origin if side is Side.UP else self.tail

    def side_of(self, peer: NodeName) -> Side | None:
        """On which side this neighbour is, None where it is on neither."""
        up, down = self._neighbours
        return Side.UP if up == peer else Side.DOWN if down == peer else None

    def side_on(self, link: LinkName) -> Side:
        """On which side the circuit goes by this link, which it does."""
        return Side.UP if self._links[0] == link else Side.DOWN

    def handle(self, event: PlaceEvent) -> None:
        """Take one event; LocalProtocolError is for callers that do not look at `state` first."""
        allowed = TABLE[self.state].get(type(event), frozenset())
        following = PlaceState.READY if type(event) is Confirmed else PlaceState.OVER
        if following not in allowed:
            raise LookupError(f"{type(event).__name__} for {self.id} which is {self.state.name}")
        self.state = following


LONGEST = 64
"""Hops that a circuit may have."""
LONGEST_LEASE = 600 * SECOND


def place_of(message: CircuitInstall, node: NodeName, peer: NodeName) -> Place:
    """Return the place of `node` on a path on which `peer` is the one before it."""
    nodes = [message.circuit.origin, *(leg.node for leg in message.legs)]
    if len(set(nodes)) < len(nodes) or not 1 <= len(message.legs) <= LONGEST:
        raise RemoteProtocolError(f"circuit {message.circuit} goes by {nodes}")
    if node not in nodes[1:] or nodes[nodes.index(node) - 1] != peer:
        raise RemoteProtocolError(f"circuit {message.circuit} does not come from {peer} to {node}")
    if not 0 < message.lease_ns <= LONGEST_LEASE or message.latency_ns < 0:
        raise RemoteProtocolError(f"circuit {message.circuit} has times that mean nothing")
    if message.halves < 1:
        raise RemoteProtocolError(f"circuit {message.circuit} holds {message.halves} halves")
    for leg in message.legs:
        if not (0 <= leg.share <= 1 and 0 <= leg.fidelity_min <= 1 and leg.cutoff_ns >= 0):
            raise RemoteProtocolError(f"circuit {message.circuit} asks for {leg}")
    return Place(message, nodes.index(node))


# --- what became of pairs -----------------------------------------------------------------


@record
class Swapped:
    """The pair was joined to `other`. What a track that arrives by it takes on.

    `bell` is the outcome together with the index of `other`; `factors` are the correlators of
    `other`, the swap's own, and those of the wait of both halves here.
    """

    other: PairId
    bell: BellIndex
    factors: Correlators
    doubt: float


@record
class Gone:
    """There is nothing at the other end of this pair any more."""

    reason: str


Fate: TypeAlias = Swapped | Gone


@record
class Parked:
    """A track that came before the fate of its pair, and when: its origin's half goes on ageing."""

    track: CircuitTrack
    since: Instant


MOST_FATES = 512
"""So many fates a circuit remembers at a node, in the order in which they were settled."""
MOST_PARKED = 256


class Ledger:
    """The fates of a circuit's pairs at a node, and tracks that came before the fate."""

    __slots__ = ("_fates", "_parked")

    def __init__(self) -> None:
        self._fates: dict[PairId, Fate] = {}
        self._parked: dict[PairId, Parked] = {}

    def fate(self, pair: PairId) -> Fate | None:
        """Return what became of a pair; None: still open, or long ago."""
        return self._fates.get(pair)

    def settle(self, pair: PairId, fate: Fate) -> Parked | None:
        """Set down a pair's fate; return the track that waited for it."""
        self._fates.pop(pair, None)
        self._fates[pair] = fate
        if len(self._fates) > MOST_FATES:
            del self._fates[next(iter(self._fates))]
        return self._parked.pop(pair, None)

    def waits(self, pair: PairId) -> bool:
        """Whether a track waits for the fate of this pair."""
        return pair in self._parked

    def park(self, track: CircuitTrack, now: Instant) -> Parked | None:
        """Keep a track for later; return an older one that had to make room."""
        self._parked[track.at] = Parked(track, now)
        if len(self._parked) <= MOST_PARKED:
            return None
        return self._parked.pop(next(iter(self._parked)))

    def unpark(self, pair: PairId) -> Parked | None:
        """Take the track that waits for this pair."""
        return self._parked.pop(pair, None)

    @property
    def parked(self) -> int:
        """How many tracks wait."""
        return len(self._parked)

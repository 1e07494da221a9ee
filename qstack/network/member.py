"""A circuit at one of its nodes: all the parts that this node has in it, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from qstack.machine import record
from qstack.messages.circuits import CircuitId
from qstack.network.admission import Verdict
from qstack.network.forwarding import Between
from qstack.network.head_end import Head
from qstack.network.orders import Order
from qstack.network.passing import Passing
from qstack.network.places import Place, PlaceState, Side
from qstack.network.room import Room
from qstack.network.stills import HopStill
from qstack.network.supply import Supply
from qstack.network.tail_end import Tail
from qstack.units import BootId, Instant, LinkName, NodeName


class Member:
    """A circuit at this node: where it stands, what forwards its pairs, what asks for them.

    `passing`: requests at nodes between; ends have orders. `room` for halves from upstream.
    `life`: of the head-end, as routes told of it when the circuit came. `used`: it has carried a
    request. `rests`: none is on it now. `stills`: of the hops whose pairs are purified before they
    are swapped. `sides`: as :meth:`Reservations.sides` says, once that was asked for. `limited`:
    whether halves had a limit when that was last looked at, None before: without one nothing is to
    be said of it until links are crowded.
    """

    __slots__ = (
        *("life", "limited", "part", "passing", "place", "rests", "room", "sides", "stills"),
        *("supply", "used"),
    )

    def __init__(self, place: Place, room: Room) -> None:
        self.place = place
        self.room = room
        self.passing = Passing()
        self.part: Head | Between | Tail | None = None
        self.supply: Supply | None = None
        self.life: BootId | None = None
        self.used = False
        self.rests = False
        self.stills: dict[Side, HopStill] = {}
        self.sides: tuple[tuple[Side, LinkName, bool], ...] | None = None
        self.limited: bool | None = None

    @property
    def quiet(self) -> bool:
        """Whether it has carried requests and none is on it any more."""
        part = self.part
        if not self.used or part is None:
            return False
        return not (self.passing.wishes if isinstance(part, Between) else part.orders)

    @property
    def running(self) -> bool:
        """Whether a request of the circuit wants pairs, as far as this node knows."""
        if self.part is None:
            return False
        return self.passing.wanted if isinstance(self.part, Between) else bool(self.part.orders)

    def lives_on(self, now: BootId | None) -> bool:
        """Whether its head-end is in the same life, or in one of which routes have not told.

        `now`: the life of which they tell.
        """
        if now is None or now in (self.place.id.boot, self.life):
            self.life = now
            return True
        return False

    def end(self, reason: str) -> None:
        """Nothing is asked of links or purified for it any more."""
        for still in self.stills.values():
            still.gone(reason)
        if self.supply is not None:
            self.supply.stop()

    def held_on(self, side: Side) -> int:
        """How many halves of one side are here."""
        if self.part is None:
            return 0
        inside = self.stills[side].held if side in self.stills else 0
        part = self.part
        return inside + (part.held_on(side) if isinstance(part, Between) else part.held)


def leased(place: Place) -> bool:
    """Whether a lease can end here: that of a head-end is for the answer to its install."""
    return place.index != 0 or place.state is PlaceState.INSTALLING


class Leases:
    """When leases of a node's circuits end. Whoever moves one otherwise than by `begin` says so.

    `moved`: one began, or ended, or a circuit has one no more, so that the first is not known.
    """

    __slots__ = ("_first", "_members", "moved")

    def __init__(self, members: Mapping[CircuitId, Member]) -> None:
        self._members = members
        self._first: Instant | None = None
        self.moved = False

    def begin(self, place: Place, now: Instant) -> None:
        """The lease of a circuit begins, or begins anew."""
        place.lease_until = now + place.install.lease_ns
        self.moved = True

    @property
    def due(self) -> Instant | None:
        """When the first of them ends."""
        if self.moved:
            self.moved = False
            places = [member.place for member in self._members.values()]
            ends = [place.lease_until for place in places if leased(place)]
            self._first = min(ends, default=None)
        return self._first


def first_wait(members: Iterable[Member]) -> Instant | None:
    """Return when the first half that waits on these circuits, for a swap or a set, is too old."""
    first: Instant | None = None
    for member in members:
        part = member.part
        if part is not None:
            due = part.deadline
            if due is not None and (first is None or due < first):
                first = due
    return first


def missing_part(members: Mapping[CircuitId, Member], circuit: CircuitId) -> float:
    """Return the part of the pairs of a circuit of this node's that is missing, in [0, 1]."""
    member = members.get(circuit)
    part = None if member is None else member.part
    if type(part) is not Head or not part.orders:
        return 1.0
    wanted = sum(order.wanted.number for order in part.orders.values())
    return 1 - sum(order.delivered for order in part.orders.values()) / wanted


def asker_of(
    members: Mapping[CircuitId, Member], node: NodeName, circuit: CircuitId, link: LinkName
) -> tuple[NodeName, int] | None:
    """Return who asks a link for a circuit, and for which purpose, once it is ready; else None.

    The node before a link asks it, by the label of the node after it. `node` is this one.
    """
    member = members.get(circuit)
    if member is None or member.place.state is not PlaceState.READY:
        return None
    place = member.place
    if place.has(Side.DOWN) and place.link(Side.DOWN) == link:
        return node, place.label_down
    if place.has(Side.UP) and place.link(Side.UP) == link:
        return place.neighbour(Side.UP), place.label
    return None


Settled = Callable[[Place, Verdict | None, tuple[Order, ...]], None]
Moved = Callable[[Place, Verdict, Order], None]
Reserved = Callable[[Place, Verdict | None], None]


@record
class Heard:
    """Who hears at the head-end what became of its circuits.

    `settled`: how an install or a life ended; with the end of a life it gets the requests that may
    go another way. `moved` gets one for which a circuit that goes on has no room. `reserved`: how
    an ask for another reservation ended.
    """

    settled: Settled
    moved: Moved
    reserved: Reserved

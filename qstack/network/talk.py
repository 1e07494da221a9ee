"""What neighbours say about circuits: each message passed on, after this node's consequence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.messages.circuits import (
    CircuitAnswer,
    CircuitClosed,
    CircuitComplete,
    CircuitDelivered,
    CircuitExpire,
    CircuitForward,
    CircuitGather,
    CircuitGive,
    CircuitInstall,
    CircuitInstalled,
    CircuitOutcome,
    CircuitRefresh,
    CircuitRefused,
    CircuitRelease,
    CircuitRoom,
    CircuitShares,
    CircuitStop,
    CircuitTrack,
)
from qstack.messages.common import RequestId
from qstack.messages.link import LinkRequest
from qstack.messages.network import DistilEnd, DistilOutcome, DistilRound, DistilVoid
from qstack.network.circuits import Circuits
from qstack.network.desk import Desk
from qstack.network.forwarding import Between
from qstack.network.head_end import Head
from qstack.network.manner import manner_of, nonsense
from qstack.network.member import Member
from qstack.network.orders import Order, OrderState
from qstack.network.passing import MOST_REQUESTS
from qstack.network.places import Place, PlaceState, Side
from qstack.network.room import UNLIMITED
from qstack.network.service import FIRST_LABEL, RequestAccepted
from qstack.network.tail_end import Tail
from qstack.units import NodeName

ROUNDING = 1e-6
"""By so much weights on the wire may miss their sum."""


class Talk:
    """Takes the messages of neighbours for the circuits of one node."""

    __slots__ = ("_circuits", "_desk")

    def __init__(self, desk: Desk, circuits: Circuits) -> None:
        self._desk = desk
        self._circuits = circuits

    def told(self, peer: NodeName, message: Any) -> None:
        """Take a message of a neighbour; RemoteProtocolError where it makes no sense."""
        if type(message) is CircuitInstall:
            self._circuits.installing(peer, message)
            return
        member = self._circuits.member(message.circuit)
        side = None if member is None else member.place.side_of(peer)
        if member is None:
            self._desk.counters["unknown"] += 1
            if type(message) is CircuitRefresh:
                reason = f"{self._desk.node} does not know circuit {message.circuit}"
                self._desk.send(peer, CircuitRelease(message.circuit, ErrorCode.OTHER, reason))
            return
        if side is None:
            raise RemoteProtocolError(f"{peer} is no neighbour on circuit {message.circuit}")
        match message:
            case CircuitTrack() | CircuitExpire():
                self._of_pair(member, side, message)
            case CircuitDelivered():
                self._delivered(member, side, message)
            case DistilRound() | DistilOutcome() | DistilVoid() | DistilEnd():
                self._distil(member, side, message)
            case CircuitRelease():
                told = (side.other,)
                self._circuits.take_down(member, message.code, message.reason, tell=told)
            case _ if side is Side.DOWN:
                self._from_below(member, message)
            case _:
                self._from_above(member, message)

    # --- either way --------------------------------------------------------------------------

    def _of_pair(self, member: Member, side: Side, message: CircuitTrack | CircuitExpire) -> None:
        part, place = member.part, member.place
        if message.at.link != place.link(side):
            raise RemoteProtocolError(f"{message.at} is no pair of link {place.link(side)}")
        if part is None:
            raise RemoteProtocolError(f"pairs on circuit {place.id}, which is not ready")
        if isinstance(message, CircuitTrack):
            _check_track(message)
            if isinstance(part, Between):
                part.tracked(side, message)
            else:
                part.tracked(message)
        elif isinstance(part, Between):
            part.expired(side, message.at, message.reason)
        else:
            part.expired(message.at, message.reason)
        self._circuits.steer(member)

    def _delivered(self, member: Member, side: Side, message: CircuitDelivered) -> None:
        place, part = member.place, member.part
        if isinstance(part, Head | Tail):
            part.confirmed(message.pairs)
        elif part is None:
            raise RemoteProtocolError(f"pairs on circuit {place.id}, which is not ready")
        else:
            self._desk.send(place.neighbour(side.other), message)

    def _distil(self, member: Member, side: Side, message: Any) -> None:
        """The word of one distillery for the other: between the ends, or the nodes of a hop."""
        place, part = member.place, member.part
        if message.link:
            still = member.stills.get(side)
            if still is None or message.link != place.link(side):
                raise RemoteProtocolError(f"no rounds on {message.link} of circuit {place.id}")
            still.told(message)
            self._circuits.steer(member)
        elif isinstance(part, Head | Tail):
            part.distil(message)
            self._circuits.steer(member)
        elif part is None:
            raise RemoteProtocolError(f"rounds on circuit {place.id}, which is not ready")
        else:
            self._desk.send(place.neighbour(side.other), message)

    # --- upstream ----------------------------------------------------------------------------

    def _from_below(self, member: Member, message: Any) -> None:
        """What goes upstream."""
        place, part = member.place, member.part
        match message:
            case CircuitInstalled() | CircuitRefused():
                self._settled(member, message)
                if type(message) is CircuitInstalled or place.is_head:
                    return
            case CircuitRoom():
                self._room(member, message)
                return
            case CircuitShares():
                self._circuits.shares_answered(member, message)
                return
            case _ if part is None:
                raise RemoteProtocolError(f"circuit {place.id} is not ready")
            case CircuitAnswer():
                if type(part) is Between:
                    member.passing.answered(message.request, taken=message.code is None)
                    self.steer(member, part)
            case CircuitClosed():
                if type(part) is Between:
                    member.passing.closed(message.request)
            case CircuitStop():
                pass
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} does not go upstream")
        if not place.is_head:
            self._desk.send(place.neighbour(Side.UP), message)
        elif type(part) is Head:
            if not (type(message) is CircuitAnswer and self._circuits.turned_away(member, message)):
                part.told(message)
            self._circuits.steer(member)

    def _settled(self, member: Member, message: CircuitInstalled | CircuitRefused) -> None:
        place = member.place
        if place.state is not PlaceState.INSTALLING:
            raise RemoteProtocolError(f"circuit {place.id} is installed already")
        if isinstance(message, CircuitRefused):
            self._circuits.refused(member, message)
            return
        if not place.install.dry and message.label < FIRST_LABEL:
            raise RemoteProtocolError(f"{message.label} is no label for circuit {place.id}")
        place.label_down = message.label
        self._circuits.confirm(member)

    def _room(self, member: Member, message: CircuitRoom) -> None:
        if member.supply is None or message.more < UNLIMITED or message.seen < 0:
            raise RemoteProtocolError(f"{message} means nothing")
        member.supply.told(message.seen, message.more)

    # --- downstream --------------------------------------------------------------------------

    def _from_above(self, member: Member, message: Any) -> None:
        """What goes downstream."""
        place, part = member.place, member.part
        match message:
            case CircuitRefresh():
                self._circuits.leases.begin(place, self._desk.now)
            case _ if part is None:
                raise RemoteProtocolError(f"circuit {place.id} is not ready")
            case CircuitShares():
                self._circuits.sharing.asked(place, message)
                return
            case CircuitForward():
                if not self._forwarded(member, message.request):
                    return
            case CircuitComplete():
                if type(part) is Between:
                    member.passing.completed(message.request)
                    self.steer(member, part)
            case CircuitOutcome():
                if message.outcome not in (0, 1):
                    raise RemoteProtocolError(f"{message.outcome} is no outcome")
            case CircuitGive():
                if not 0 <= message.goodness_low <= message.goodness <= 1 + ROUNDING:
                    raise RemoteProtocolError(f"{message} cannot be")
                if message.age_ns < 0:
                    raise RemoteProtocolError(f"{message} cannot be")
            case CircuitGather():
                if not 0 < len(set(message.pairs)) == len(message.pairs):
                    raise RemoteProtocolError(f"{message} is no set")
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} does not go downstream")
        if not place.is_tail:
            self._desk.send(place.neighbour(Side.DOWN), message)
        elif type(part) is Tail:
            self._at_tail(part, place, message)
            if type(message) is CircuitComplete and not part.orders:
                self._circuits.stop(member)

    def _forwarded(self, member: Member, request: LinkRequest) -> bool:
        """Look at a request that goes downstream; return whether it goes on."""
        place, part = member.place, member.part
        if (request.id.origin, request.id.boot) != (place.id.origin, place.id.boot):
            raise RemoteProtocolError(f"request {request.id} on circuit {place.id}")
        wrong = nonsense(request)
        if wrong is not None:
            raise RemoteProtocolError(f"request {request.id}: {wrong.reason}")
        asked: Iterable[RequestId] = part.orders if type(part) is Tail else member.passing
        if request.id in asked:
            raise RemoteProtocolError(f"request {request.id} was asked for already")
        full = self._circuits.take(member)
        if full is not None:
            reason = f"{self._desk.node}: {full.reason}"
            self._answer(place, request, ErrorCode.NO_RESOURCES, reason)
            return False
        if type(part) is Tail:
            fits = len(part.orders) < MOST_REQUESTS
        else:
            fits = member.passing.forwarded(request.id, request.priority)
        if not fits:
            reason = f"{self._desk.node}: {MOST_REQUESTS} requests are on circuit {place.id}"
            self._answer(place, request, ErrorCode.NO_RESOURCES, reason)
        return fits

    def steer(self, member: Member, part: Between) -> None:
        """A node between asks its link for pairs while some request wants them."""
        passing = member.passing
        if member.supply is None:
            return
        if passing.wanted:
            member.supply.start(passing.priority)
            return
        member.supply.stop()
        self._circuits.stop(member)

    # --- the tail-end ------------------------------------------------------------------------

    def _at_tail(self, part: Tail, place: Place, message: Any) -> None:
        match message:
            case CircuitForward():
                self._asked(part, place, message.request)
            case CircuitComplete():
                part.completed(message)
            case CircuitOutcome():
                part.outcome(message)
            case CircuitGive():
                part.given(message)
            case CircuitGather():
                part.gathered(message)

    def _asked(self, part: Tail, place: Place, request: LinkRequest) -> None:
        """The head-end asks this tail-end to take a request."""
        if self._desk.is_closed(request.id):
            # It went on by another circuit meanwhile, and has ended by that.
            self._answer(place, request, ErrorCode.REJECTED, f"{request.id} has ended already")
            return
        for member in self._circuits.members:
            if type(member.part) is Tail and request.id in member.part.orders:
                # Its head-end has lost that circuit, and asks anew by this one.
                reason = f"its head-end went on by circuit {place.id}"
                self._circuits.take_down(member, ErrorCode.OTHER, reason, tell=tuple(Side))
        if request.purpose not in self._circuits.purposes:
            reason = f"nobody at {self._desk.node} listens on purpose {request.purpose}"
            self._answer(place, request, ErrorCode.REJECTED, reason)
            return
        wrong = _mixed(part, place, request)
        if wrong:
            self._answer(place, request, ErrorCode.UNSUPPORTED, f"{self._desk.node}: {wrong}")
            return
        part.orders[request.id] = Order(request, OrderState.RUNNING, None)
        self._answer(place, request, None, "")
        accepted = RequestAccepted(request.id, place.id.origin, request.purpose)
        self._desk.up(accepted)

    def _answer(
        self, place: Place, request: LinkRequest, code: ErrorCode | None, reason: str
    ) -> None:
        answer = CircuitAnswer(place.id, request.id, code, reason)
        self._desk.send(place.neighbour(Side.UP), answer)


def _mixed(part: Tail, place: Place, request: LinkRequest) -> str:
    """Return why a circuit cannot serve a request beside those that it has; empty if it can."""
    manner = manner_of(request)
    if manner.halves > place.install.halves:
        return f"circuit {place.id} holds {place.install.halves} halves, not {manner.halves}"
    others = [manner_of(order.wanted) for order in part.orders.values()]
    if others and (manner.alone or manner != others[0]):
        return f"circuit {place.id} serves requests of another manner"
    return ""


def _check_track(track: CircuitTrack) -> None:
    """RemoteProtocolError for numbers that no track can have."""
    sane = (
        0 <= track.bell <= 3
        and min(track.weights) >= -ROUNDING
        and max(track.weights) <= 1 + ROUNDING
        and abs(sum(track.weights) - 1) <= ROUNDING  # which no NaN passes
        and track.doubt >= 0
        and track.age_ns >= 0
    )
    if not sane:
        raise RemoteProtocolError(f"{track} cannot be")

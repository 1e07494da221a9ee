"""Circuits at a node: installed hop by hop, kept by leases, used by requests, taken down.

Install goes downstream along the recorded path; each node admits and reserves before it passes
it on. The answer comes back the same way, with a label for each link, or a refusal that undoes
what was reserved. A release passes on whatever it meets, in order behind the install, so nothing
stays behind. All state is soft: a node that hears nothing for a lease forgets the circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.link.service import LinkListen
from qstack.machine import earliest
from qstack.messages.circuits import (
    CircuitAnswer,
    CircuitClosed,
    CircuitComplete,
    CircuitDelivered,
    CircuitExpire,
    CircuitForward,
    CircuitGive,
    CircuitId,
    CircuitInstall,
    CircuitInstalled,
    CircuitOutcome,
    CircuitRefresh,
    CircuitRefused,
    CircuitRelease,
    CircuitStop,
    CircuitTrack,
)
from qstack.messages.common import RequestId
from qstack.messages.link import LinkRequest
from qstack.messages.network import DistilEnd, DistilOutcome, DistilRound, DistilVoid
from qstack.network.admission import Reservations, Verdict
from qstack.network.desk import Desk
from qstack.network.forwarding import Between
from qstack.network.head_end import Head
from qstack.network.orders import Order, OrderState
from qstack.network.places import Confirmed, Ended, Place, PlaceState, Side, place_of
from qstack.network.purifying import check_way, consent
from qstack.network.service import FIRST_LABEL, RequestAccepted
from qstack.network.supply import Supply
from qstack.network.tail_end import Tail
from qstack.units import Instant, NodeName


@attrs.define(eq=False)
class Member:
    """A circuit at this node: where it stands, what forwards its pairs, what asks for them.

    `active`: requests that want pairs, at nodes between; ends have orders.
    """

    place: Place
    part: Head | Between | Tail | None = None
    supply: Supply | None = None
    active: dict[RequestId, int] = attrs.field(factory=dict)


Settled = Callable[[Place, Verdict | None], None]


class Circuits:
    """All circuits of one node. `settled` hears at the head-end how an install or a life ended."""

    def __init__(self, desk: Desk, reservations: Reservations, settled: Settled) -> None:
        self._desk = desk
        self._reservations = reservations
        self._settled = settled
        self._members: dict[CircuitId, Member] = {}
        self._labels: dict[int, CircuitId] = {}
        self._last_label = FIRST_LABEL
        self.purposes: set[int] = set()

    # --- what is known -----------------------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """The next end of a lease, or of a pair that waits."""
        first: Instant | None = None
        for member in self._members.values():
            if not member.place.is_head:
                first = earliest(first, member.place.lease_until)
            if type(member.part) is Between:
                first = earliest(first, member.part.deadline)
        return first

    def member(self, circuit: CircuitId) -> Member | None:
        """Return this node's part in a circuit."""
        return self._members.get(circuit)

    def labelled(self, label: int) -> Member | None:
        """Return the circuit that this node takes link requests for under a label."""
        circuit = self._labels.get(label)
        return None if circuit is None else self._members.get(circuit)

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, in the order in which they were installed."""
        return tuple(self._members.values())

    # --- the head-end ------------------------------------------------------------------------

    def install(self, message: CircuitInstall) -> Verdict | None:
        """Begin a circuit of this node's; return why it does not even begin."""
        place = Place(message, 0)
        verdict = consent(self._desk, place) or self._reservations.consider(place, swaps=True)
        if verdict is not None:
            return verdict
        self._admit(place)
        self._desk.send(place.neighbour(Side.DOWN), message)
        return None

    def release(self, circuit: CircuitId, code: ErrorCode | None, reason: str) -> None:
        """Take down a circuit, from this node on to both sides."""
        member = self._members.get(circuit)
        if member is not None:
            self._take_down(member, code, reason, tell=tuple(Side))

    def refresh(self, circuit: CircuitId) -> None:
        """Begin its lease anew everywhere."""
        self._desk.send(self._members[circuit].place.neighbour(Side.DOWN), CircuitRefresh(circuit))

    def forward(self, circuit: CircuitId, request: LinkRequest) -> None:
        """Ask the tail-end to take a request."""
        place = self._members[circuit].place
        self._desk.send(place.neighbour(Side.DOWN), CircuitForward(circuit, request))

    def steer(self, member: Member) -> None:
        """Ask the link for pairs while a request wants them, and give back what waits if not."""
        part = member.part
        if type(part) is not Head or member.supply is None:
            return
        running = [o for o in part.orders.values() if o.state is OrderState.RUNNING]
        if running:
            member.supply.start(max(order.wanted.priority for order in running))
            return
        member.supply.stop()
        if not part.orders:
            part.stop()

    # --- install -----------------------------------------------------------------------------

    def _admit(self, place: Place) -> Member:
        member = self._members[place.id] = Member(place)
        place.lease_until = self._desk.now + place.install.lease_ns
        if not place.install.dry:
            self._reservations.reserve(place)
            if place.has(Side.DOWN):
                member.supply = Supply(self._desk, place)
        return member

    def _installing(self, peer: NodeName, message: CircuitInstall) -> None:
        place = place_of(message, self._desk.node, peer)
        if message.circuit in self._members:
            raise RemoteProtocolError(f"circuit {message.circuit} is here already")
        check_way(message)
        swaps = self._desk.swaps
        verdict = consent(self._desk, place) or self._reservations.consider(place, swaps=swaps)
        if verdict is not None:
            refused = CircuitRefused(place.id, self._desk.node, verdict.code, verdict.reason)
            self._desk.send(peer, refused)
            return
        member = self._admit(place)
        if place.is_tail:
            self._confirm(member)
        else:
            self._desk.send(place.neighbour(Side.DOWN), message)

    def _confirm(self, member: Member) -> None:
        """All nodes from here on have it: say so upstream, or to whom it belongs."""
        place = member.place
        place.handle(Confirmed())
        if place.install.dry:
            self._forget(member)
        elif place.is_head:
            member.part = Head(self._desk, place)
        else:
            member.part = Tail(self._desk, place) if place.is_tail else Between(self._desk, place)
            self._last_label += 1
            place.label = self._last_label
            self._labels[place.label] = place.id
            self._desk.down(place.link(Side.UP), LinkListen(place.label, True))
        if place.is_head:
            self._settled(place, None)
        else:
            self._desk.send(place.neighbour(Side.UP), CircuitInstalled(place.id, place.label))

    # --- the end of a circuit ------------------------------------------------------------------

    def _take_down(
        self, member: Member, code: ErrorCode | None, reason: str, tell: tuple[Side, ...]
    ) -> None:
        place = member.place
        ended = ErrorCode.OTHER if code is None else code
        if isinstance(member.part, Between):
            member.part.end()
        elif member.part is not None:
            member.part.end(ended, reason)
        if member.supply is not None:
            member.supply.stop()
        self._forget(member)
        for side in tell:
            if place.has(side):
                self._desk.send(place.neighbour(side), CircuitRelease(place.id, code, reason))
        if place.is_head:
            self._settled(place, Verdict(ended, reason))

    def _forget(self, member: Member) -> None:
        place = member.place
        del self._members[place.id]
        self._reservations.release(place)
        if place.label:
            del self._labels[place.label]
            self._desk.down(place.link(Side.UP), LinkListen(place.label, False))
        if place.state is not PlaceState.OVER:
            place.handle(Ended())

    def neighbour_lost(self, peer: NodeName, reason: str) -> None:
        """The adjacency with a node is gone: so are the circuits that go by it."""
        for member in self.members:
            side = member.place.side_of(peer)
            if side is not None:
                self._take_down(member, ErrorCode.OTHER, reason, tell=(side.other,))

    def tick(self) -> None:
        """Forget what is out of lease, discard what waited too long."""
        now = self._desk.now
        for member in self.members:
            place = member.place
            if not place.is_head and now >= place.lease_until:
                reason = f"its lease ended at {self._desk.node}"
                self._take_down(member, ErrorCode.TIMEOUT, reason, tell=tuple(Side))
            elif type(member.part) is Between:
                member.part.tick()

    # --- messages ------------------------------------------------------------------------------

    def told(self, peer: NodeName, message: Any) -> None:
        """Take a message of a neighbour; RemoteProtocolError where it makes no sense."""
        if type(message) is CircuitInstall:
            self._installing(peer, message)
            return
        member = self._members.get(message.circuit)
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
            case CircuitTrack() | CircuitExpire() | CircuitDelivered() | CircuitRelease():
                self._either_way(member, side, message)
            case DistilRound() | DistilOutcome() | DistilVoid() | DistilEnd():
                self._distil(member, side, message)
            case _ if side is Side.DOWN:
                self._from_below(member, message)
            case _:
                self._from_above(member, message)

    def _either_way(self, member: Member, side: Side, message: Any) -> None:
        part, place = member.part, member.place
        if type(message) is CircuitRelease:
            self._take_down(member, message.code, message.reason, tell=(side.other,))
            return
        if type(message) is CircuitDelivered:
            if isinstance(part, Head | Tail):
                part.confirmed(message.pairs)
            else:
                self._desk.send(place.neighbour(side.other), message)
            return
        if message.at.link != member.place.link(side):
            raise RemoteProtocolError(f"{message.at} is no pair of link {member.place.link(side)}")
        if part is None:
            raise RemoteProtocolError(f"pairs on circuit {member.place.id}, which is not ready")
        if type(message) is CircuitTrack:
            if type(part) is Between:
                part.tracked(side, message)
            elif not isinstance(part, Between):
                part.tracked(message)
        elif type(part) is Between:
            part.expired(side, message.at, message.reason)
        elif not isinstance(part, Between):
            part.expired(message.at, message.reason)
        self.steer(member)

    def _distil(self, member: Member, side: Side, message: Any) -> None:
        """The word of one end's distillery for the other's: passed on, or taken."""
        part = member.part
        if isinstance(part, Head | Tail):
            part.distil(message)
            self.steer(member)
        else:
            self._desk.send(member.place.neighbour(side.other), message)

    def _from_below(self, member: Member, message: Any) -> None:
        """What goes upstream: passed on, after this node has drawn its consequence."""
        place, part = member.place, member.part
        match message:
            case CircuitInstalled():
                if place.state is not PlaceState.INSTALLING:
                    raise RemoteProtocolError(f"circuit {place.id} is installed already")
                place.label_down = message.label
                self._confirm(member)
                return
            case CircuitRefused():
                if place.state is not PlaceState.INSTALLING:
                    raise RemoteProtocolError(f"circuit {place.id} is installed already")
                self._forget(member)
                if place.is_head:
                    reason = f"{message.node}: {message.reason}"
                    self._settled(place, Verdict(message.code, reason))
            case CircuitAnswer():
                if type(part) is Between and message.code is None:
                    member.active[message.request] = 0
                    if member.supply is not None:
                        member.supply.start(0)
            case CircuitClosed():
                # An answer may have crossed the word that the request is complete.
                if type(part) is Between:
                    self._completed(member, part, message.request)
            case CircuitStop():
                pass
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} does not go upstream")
        if not place.is_head:
            self._desk.send(place.neighbour(Side.UP), message)
        elif type(part) is Head:
            part.told(message)
            self.steer(member)

    def _from_above(self, member: Member, message: Any) -> None:
        """What goes downstream: passed on, or for the tail-end."""
        place, part = member.place, member.part
        match message:
            case CircuitRefresh():
                place.lease_until = self._desk.now + place.install.lease_ns
            case CircuitComplete():
                if type(part) is Between:
                    self._completed(member, part, message.request)
            case CircuitForward() | CircuitOutcome() | CircuitGive():
                if part is None:
                    raise RemoteProtocolError(f"circuit {place.id} is not ready")
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} does not go downstream")
        if not place.is_tail:
            self._desk.send(place.neighbour(Side.DOWN), message)
        elif type(part) is Tail:
            self._at_tail(part, place, message)

    def _completed(self, member: Member, part: Between, request: RequestId) -> None:
        member.active.pop(request, None)
        if not member.active:
            if member.supply is not None:
                member.supply.stop()
            part.stop()

    def _at_tail(self, part: Tail, place: Place, message: Any) -> None:
        match message:
            case CircuitForward():
                self._asked(part, place, message.request)
            case CircuitComplete():
                part.completed(message)
                if not part.orders:
                    part.stop()
            case CircuitOutcome():
                part.outcome(message)
            case CircuitGive():
                part.given(message)

    def _asked(self, part: Tail, place: Place, request: LinkRequest) -> None:
        """The head-end asks this tail-end to take a request."""
        if request.id in part.orders or request.id.origin != place.id.origin:
            raise RemoteProtocolError(f"request {request.id} on circuit {place.id}")
        up = place.neighbour(Side.UP)
        if request.purpose not in self.purposes:
            reason = f"nobody at {self._desk.node} listens on purpose {request.purpose}"
            answer = CircuitAnswer(place.id, request.id, ErrorCode.REJECTED, reason)
            self._desk.send(up, answer)
            return
        part.orders[request.id] = Order(request, OrderState.RUNNING, None)
        self._desk.send(up, CircuitAnswer(place.id, request.id, None, ""))
        self._desk.up(RequestAccepted(request.id, place.id.origin, request.purpose))

"""Circuits at a node: installed hop by hop, kept by leases, used by requests, taken down.

Install goes downstream along the recorded path; each node admits and reserves before it passes
it on. The answer comes back the same way, with a label for each link, or a refusal that undoes
what was reserved. A release passes on whatever it meets, in order behind the install, so nothing
stays behind. All state is soft: a node that hears nothing for a lease forgets the circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.link.service import LinkListen
from qstack.machine import earliest
from qstack.messages.circuits import (
    CircuitForward,
    CircuitId,
    CircuitInstall,
    CircuitInstalled,
    CircuitRefresh,
    CircuitRefused,
    CircuitRelease,
    CircuitShares,
)
from qstack.messages.link import LinkRequest
from qstack.network.admission import Reservations, Verdict
from qstack.network.desk import Desk
from qstack.network.forwarding import Between
from qstack.network.head_end import Head
from qstack.network.orders import Order, OrderState
from qstack.network.passing import Passing
from qstack.network.places import Confirmed, Ended, Place, PlaceState, Side, place_of
from qstack.network.purifying import check_way, consent
from qstack.network.room import Room
from qstack.network.service import FIRST_LABEL
from qstack.network.sharing import Sharing
from qstack.network.supply import Supply
from qstack.network.tail_end import Tail
from qstack.units import BootId, Instant, NodeName

MOST_CIRCUITS = 512
"""So many circuits a node takes part in."""


@attrs.define(eq=False)
class Member:
    """A circuit at this node: where it stands, what forwards its pairs, what asks for them.

    `passing`: requests at nodes between; ends have orders. `room` for halves from upstream.
    `life`: of the head-end, as routes told of it when the circuit came.
    """

    place: Place
    room: Room
    passing: Passing
    part: Head | Between | Tail | None = None
    supply: Supply | None = None
    life: BootId | None = None


Settled = Callable[[Place, Verdict | None, tuple[Order, ...]], None]
Reserved = Callable[[Place, Verdict | None], None]


class Circuits:
    """All circuits of one node. `settled` hears at the head-end how an install or a life ended.

    With the end of a life it gets the requests that may go another way. `reserved` hears there
    how an ask for another reservation ended.
    """

    def __init__(
        self, desk: Desk, reservations: Reservations, settled: Settled, reserved: Reserved
    ) -> None:
        self._desk = desk
        self._reservations = reservations
        self._settled = settled
        self._reserved = reserved
        self._members: dict[CircuitId, Member] = {}
        self._labels: dict[int, CircuitId] = {}
        self._last_label = FIRST_LABEL
        self.sharing = Sharing(desk, reservations)
        self.lives: Mapping[NodeName, BootId] = {}
        """The life of each node that routes tell of."""
        self.purposes: set[int] = set()

    # --- what is known -----------------------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """The next end of a lease, or of a pair that waits."""
        leases = (m.place.lease_until for m in self._members.values() if self._leased(m.place))
        return earliest(self.work_deadline, *leases)

    @property
    def work_deadline(self) -> Instant | None:
        """The next end of a pair that waits, for a swap or for a set."""
        parts = (member.part for member in self._members.values())
        return earliest(*(part.deadline for part in parts if isinstance(part, Between | Head)))

    @staticmethod
    def _leased(place: Place) -> bool:
        """Whether a lease can end here: that of a head-end is for the answer to its install."""
        return not place.is_head or place.state is PlaceState.INSTALLING

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
        verdict = (
            self._full()
            or consent(self._desk, place)
            or self._reservations.consider(place, swaps=True)
        )
        if verdict is not None:
            return verdict
        self._admit(place)
        self._desk.send(place.neighbour(Side.DOWN), message)
        return None

    def release(self, circuit: CircuitId, code: ErrorCode | None, reason: str) -> None:
        """Take down a circuit, from this node on to both sides."""
        member = self._members.get(circuit)
        if member is not None:
            self.take_down(member, code, reason, tell=tuple(Side))

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
        member = Member(place, Room(self._desk, place), Passing())
        member.life = self.lives.get(place.id.origin)
        self._members[place.id] = member
        place.lease_until = self._desk.now + place.install.lease_ns
        if not place.install.dry:
            self._reservations.reserve(place)
            if place.has(Side.DOWN):
                member.supply = Supply(self._desk, place)
        return member

    def _full(self) -> Verdict | None:
        if len(self._members) < MOST_CIRCUITS:
            return None
        reason = f"{self._desk.node} takes part in {MOST_CIRCUITS} circuits already"
        return Verdict(ErrorCode.NO_RESOURCES, reason)

    def installing(self, peer: NodeName, message: CircuitInstall) -> None:
        """The node before this one asks to admit a circuit."""
        place = place_of(message, self._desk.node, peer)
        if message.circuit in self._members:
            raise RemoteProtocolError(f"circuit {message.circuit} is here already")
        check_way(message)
        verdict = (
            self._full()
            or consent(self._desk, place)
            or self._reservations.consider(place, swaps=self._desk.swaps)
        )
        if verdict is not None:
            node, link = self._desk.node, verdict.link
            self._desk.send(
                peer, CircuitRefused(place.id, node, verdict.code, verdict.reason, link)
            )
            return
        member = self._admit(place)
        if place.is_tail:
            self.confirm(member)
        else:
            self._desk.send(place.neighbour(Side.DOWN), message)

    def confirm(self, member: Member) -> None:
        """All nodes from here on have it: say so upstream, or to whom it belongs."""
        place = member.place
        place.handle(Confirmed())
        if place.install.dry:
            self.forget(member)
        elif place.is_head:
            member.part = Head(self._desk, place)
        else:
            member.part = Tail(self._desk, place) if place.is_tail else Between(self._desk, place)
            self._last_label += 1
            place.label = self._last_label
            self._labels[place.label] = place.id
            self._desk.down(place.link(Side.UP), LinkListen(place.label, True))
        if place.is_head:
            self._settled(place, None, ())
        else:
            self._desk.send(place.neighbour(Side.UP), CircuitInstalled(place.id, place.label))
            self._balance(member)

    def refused(self, member: Member, message: CircuitRefused) -> None:
        """A node after this one does not admit it: nothing of it stays here."""
        place = member.place
        self.forget(member)
        if place.is_head:
            node = "" if message.link else message.node
            reason = f"{message.node}: {message.reason}"
            self._settled(place, Verdict(message.code, reason, message.link, node), ())

    def shares_answered(self, member: Member, message: CircuitShares) -> None:
        """Another reservation is settled; the head-end hears of it as of an install."""
        self.sharing.answered(member.place, message)
        if member.place.is_head:
            code = message.code
            refused = None if code is None else Verdict(code, message.reason)
            self._reserved(member.place, refused)

    # --- the end of a circuit ------------------------------------------------------------------

    def take_down(
        self, member: Member, code: ErrorCode | None, reason: str, tell: tuple[Side, ...]
    ) -> None:
        """The circuit is over here; tell the nodes on these sides."""
        place = member.place
        ended = ErrorCode.OTHER if code is None else code
        rescued = member.part.rescue() if type(member.part) is Head else ()
        if isinstance(member.part, Between):
            member.part.end()
        elif member.part is not None:
            member.part.end(ended, reason)
        if member.supply is not None:
            member.supply.stop()
        self.forget(member)
        for side in tell:
            if place.has(side):
                self._desk.send(place.neighbour(side), CircuitRelease(place.id, code, reason))
        if place.is_head:
            self._settled(place, Verdict(ended, reason), rescued)

    def forget(self, member: Member) -> None:
        """Give back what it holds, and its label."""
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
                self.take_down(member, ErrorCode.OTHER, reason, tell=(side.other,))

    def heard_of(self, lives: Mapping[NodeName, BootId]) -> None:
        """Routes tell of these lives: circuits of former ones are over."""
        self.lives = lives
        for member in self.members:
            circuit = member.place.id
            now = lives.get(circuit.origin)
            if now is None or now in (circuit.boot, member.life):
                # Its head-end may be in a life of which routes have not told yet.
                member.life = now
                continue
            reason = f"{circuit.origin} was restarted"
            self.take_down(member, ErrorCode.OTHER, reason, tell=tuple(Side))

    def tick(self) -> None:
        """Forget what is out of lease, discard what waited too long."""
        now = self._desk.now
        for member in self.members:
            place = member.place
            if self._leased(place) and now >= place.lease_until:
                reason = f"its lease ended at {self._desk.node}"
                if place.is_head:
                    reason = f"{place.neighbour(Side.DOWN)} did not answer for {place.tail}"
                self.take_down(member, ErrorCode.TIMEOUT, reason, tell=tuple(Side))
            elif isinstance(member.part, Between | Head):
                member.part.tick()

    def balance(self) -> None:
        """After each step: what there is room for, where halves rest in shared qubits."""
        for member in self._members.values():
            self._balance(member)

    def _balance(self, member: Member) -> None:
        place, part = member.place, member.part
        if part is None:
            return
        for side in Side:
            if not place.has(side):
                continue
            limit = self._reservations.limit(place, side)
            held = part.held_on(side) if isinstance(part, Between) else part.held
            if side is Side.UP:
                member.room.balance(limit, held)
            elif member.supply is not None:
                member.supply.balance(limit, held)

"""Circuits at a node: installed hop by hop, kept by leases, used by requests, taken down.

Install goes downstream along the recorded path; each node admits and reserves before it passes
it on. The answer comes back the same way, with a label for each link, or a refusal that undoes
what was reserved. A release passes on whatever it meets, in order behind the install, so nothing
stays behind. All state is soft: a node that hears nothing for a lease forgets the circuit.

A circuit without requests rests: see :mod:`qstack.network.admission`. It is kept for the next
request, and for what links may yet say of its pairs. Each node admits it anew before it passes that
request on; one that has given its room to others turns the request away, and the head-end lets it
begin anew on another circuit.
"""

from __future__ import annotations

from functools import partial

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.link.service import LinkListen
from qstack.messages.circuits import (
    CircuitAnswer,
    CircuitForward,
    CircuitId,
    CircuitInstall,
    CircuitInstalled,
    CircuitRefresh,
    CircuitRefused,
    CircuitRelease,
    CircuitShares,
)
from qstack.messages.common import PairId
from qstack.messages.link import LinkRequest
from qstack.messages.schedule import BinsAnswer
from qstack.network.admission import Reservations, Verdict
from qstack.network.balancing import Balance
from qstack.network.desk import Desk, Half
from qstack.network.division.asking import Circuit, Work
from qstack.network.division.machine import Division
from qstack.network.forwarding import Between
from qstack.network.head_end import Head
from qstack.network.member import (
    Heard,
    Leases,
    Member,
    asker_of,
    first_wait,
    leased,
    missing_part,
)
from qstack.network.orders import OrderState
from qstack.network.places import Confirmed, Ended, Place, PlaceState, Side, place_of
from qstack.network.purifying import check_way, consent
from qstack.network.room import Room
from qstack.network.service import FIRST_LABEL
from qstack.network.sharing import Sharing
from qstack.network.stills import HopStill, refines
from qstack.network.supply import Supply
from qstack.network.tail_end import Tail
from qstack.units import Instant, NodeName, earliest

_ENDED = "its request ended"
MOST_CIRCUITS = 512
"""So many circuits a node takes part in."""


class Circuits:
    """All circuits of one node; `heard` is for its own."""

    __slots__ = (
        *("_balance", "_desk", "_labels", "_last_label", "_members", "_moved", "_reservations"),
        *("_reserved", "_settled", "division", "leases", "purposes", "sharing"),
    )

    def __init__(self, desk: Desk, reservations: Reservations, heard: Heard) -> None:
        self._desk = desk
        self._reservations = reservations
        self._settled, self._moved = heard.settled, heard.moved
        self._reserved = heard.reserved
        self._members: dict[CircuitId, Member] = {}
        self.leases = Leases(self._members)
        self._labels: dict[int, CircuitId] = {}
        self._balance = Balance(desk, reservations)
        self._last_label = FIRST_LABEL
        self.sharing = Sharing(desk, reservations)
        self.purposes: set[int] = set()
        missing = partial(missing_part, self._members)
        hooks = Circuit(self._proceed, self._fall_back, self._without_bins, missing)
        self.division = Division(desk, hooks, partial(asker_of, self._members, desk.node))

    # --- what is known -----------------------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """The next end of a lease, or of a pair that waits."""
        first, lease = self.work_deadline, self.leases.due
        return lease if first is None or (lease is not None and lease < first) else first

    @property
    def work_deadline(self) -> Instant | None:
        """The next end of a pair that waits, for a swap or a set, or of a crowd's patience."""
        waits = first_wait(self._members.values())
        return earliest(waits, self._balance.deadline) if self._balance.crowds else waits

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

    def install(self, message: CircuitInstall, work: Work | None = None) -> Verdict | None:
        """Begin a circuit of this node's; return why it does not even begin.

        `work`: for which it is to have bins of its links, where these are divided in time.
        """
        place = Place(self.division.prepare(message, work), 0)
        verdict = (
            self._full()
            or consent(self._desk, place)
            or self._reservations.consider(place, swaps=True)
        )
        if verdict is not None:
            self.division.served(place.id)
            return verdict
        self._admit(place)
        if not self.division.begin(place.id):
            self._proceed(place.id)
        return None

    def release(self, circuit: CircuitId, code: ErrorCode | None, reason: str) -> None:
        """Take down a circuit, from this node on to both sides."""
        member = self._members.get(circuit)
        if member is not None:
            self.take_down(member, code, reason, tell=tuple(Side))

    def refresh(self, circuit: CircuitId) -> None:
        """Begin its lease anew everywhere."""
        self._desk.send(self._members[circuit].place.neighbour(Side.DOWN), CircuitRefresh(circuit))

    def take(self, member: Member) -> Verdict | None:
        """Carry one more request; return why this node does not have room for it."""
        return self._balance.take(member)

    def turned_away(self, member: Member, answer: CircuitAnswer) -> bool:
        """Whether a request that was refused for want of room begins anew on another circuit."""
        if answer.code is not ErrorCode.NO_RESOURCES or type(member.part) is not Head:
            return False
        order = member.part.spare(answer.request)
        if order is not None:
            self._balance.may_rest(member)  # the new one may need what this one had
            self._moved(member.place, Verdict(answer.code, answer.reason), order)
        return order is not None

    def forward(self, circuit: CircuitId, request: LinkRequest) -> None:
        """Ask the tail-end to take a request."""
        self._members[circuit].used = True
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
            self.stop(member)

    # --- pairs -------------------------------------------------------------------------------

    def bring(self, member: Member, side: Side, half: Half) -> None:
        """Take a half of a hop, as its link or its rounds made it."""
        part = member.part
        if type(part) is Between:
            if not member.passing.wanted:
                part.refuse(side, half, _ENDED)
            else:
                part.pair(side, half)
        elif part is None:
            self._desk.free(half.qubit)
        elif not isinstance(part, Between):
            part.pair(half)
            self.steer(member)

    def void(self, member: Member, side: Side, pair: PairId, reason: str) -> None:
        """What a pair of a hop leads to is void."""
        part = member.part
        if type(part) is Between:
            part.expired(side, pair, reason)
        elif part is not None and not isinstance(part, Between):
            part.expired(pair, reason)
            self.steer(member)

    def stop(self, member: Member) -> None:
        """No request runs on the circuit any more: what waits here is given back."""
        if member.part is not None:
            member.part.stop()
        for still in member.stills.values():
            still.empty(_ENDED)

    # --- bins of links that are divided in time ------------------------------------------------

    def _proceed(self, circuit: CircuitId) -> None:
        """A circuit of this node's can be installed on its way."""
        place = self._members[circuit].place
        self._desk.send(place.neighbour(Side.DOWN), place.install)

    def _fall_back(self, install: CircuitInstall) -> None:
        """It gets no bins, so it is installed with the shares of links that it needs without."""
        member = self._members[install.circuit]
        place = member.place
        self._reservations.release(place)
        place.install = install
        verdict = self._reservations.consider(place, swaps=True)
        if verdict is None:
            self._reservations.reserve(place)
            self._proceed(install.circuit)
            return
        refused = place.id, self._desk.node, verdict.code, verdict.reason, verdict.link
        self.refused(member, CircuitRefused(*refused))

    def _without_bins(self, answer: BinsAnswer) -> None:
        """The controller has no bins for it."""
        member = self._members[answer.circuit]
        code = ErrorCode.NO_TIME if answer.code is None else answer.code
        division = self._desk.parameters.division
        who = "no controller" if division is None else f"controller {division.controller}"
        reason = f"{who}: {answer.reason}"
        refused = CircuitRefused(answer.circuit, self._desk.node, code, reason, answer.link)
        self.refused(member, refused)

    # --- install -----------------------------------------------------------------------------

    def _admit(self, place: Place) -> Member:
        member = Member(place, Room(self._desk, place))
        member.life = self._desk.life_of(place.id.origin)
        self._members[place.id] = member
        self.leases.begin(place, self._desk.now)
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
            cause = verdict.code, verdict.reason, verdict.link, verdict.left
            self._desk.send(peer, CircuitRefused(place.id, self._desk.node, *cause))
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
        self.leases.moved = True  # a head-end has none from now on
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
        self.division.changed(place)
        if not place.install.dry:
            self._build(member)
        if place.is_head:
            self._settled(place, None, ())
        else:
            self._desk.send(place.neighbour(Side.UP), CircuitInstalled(place.id, place.label))
            self._balance.one(member)

    def _build(self, member: Member) -> None:
        """Set up the distilleries of the hops here whose pairs are purified."""
        for side in Side:
            if refines(member.place, side):
                outlets = partial(self.bring, member, side), partial(self.void, member, side)
                member.stills[side] = HopStill(self._desk, member.place, side, *outlets)

    def refused(self, member: Member, message: CircuitRefused) -> None:
        """A node after this one does not admit it: nothing of it stays here."""
        place = member.place
        self.forget(member)
        if place.is_head:
            node = "" if message.link else message.node
            reason = f"{message.node}: {message.reason}"
            cause = message.code, reason, message.link, node, message.left
            self._settled(place, Verdict(*cause), ())

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
        member.end(reason)
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
        self.leases.moved = True
        self._reservations.release(place)
        if place.label:
            del self._labels[place.label]
            self._desk.down(place.link(Side.UP), LinkListen(place.label, False))
        if place.state is not PlaceState.OVER:
            place.handle(Ended())
        self.division.served(place.id)
        self.division.changed(place)

    def neighbour_lost(self, peer: NodeName, reason: str) -> None:
        """The adjacency with a node is gone: so are the circuits that go by it."""
        for member in self.members:
            side = member.place.side_of(peer)
            if side is not None:
                self.take_down(member, ErrorCode.OTHER, reason, tell=(side.other,))

    def heard_more(self) -> None:
        """Routes tell of other lives: circuits of former ones are over."""
        for member in self.members:
            if not member.lives_on(self._desk.life_of(member.place.id.origin)):
                reason = f"{member.place.id.origin} was restarted"
                self.take_down(member, ErrorCode.OTHER, reason, tell=tuple(Side))

    def tick(self) -> None:
        """Forget what is out of lease, discard what waited too long."""
        now = self._desk.now
        self.leases.moved = True
        for member in self.members:
            place = member.place
            if leased(place) and now >= place.lease_until:
                reason = f"its lease ended at {self._desk.node}"
                if place.is_head:
                    reason = f"{place.neighbour(Side.DOWN)} did not answer for {place.tail}"
                self.take_down(member, ErrorCode.TIMEOUT, reason, tell=tuple(Side))
            elif isinstance(member.part, Between | Head):
                member.part.tick()

    def balance(self) -> None:
        """After each step: who rests, and what there is room for, where halves share qubits."""
        self._balance.all(self._members.values())

"""The head-end's side of requests for distant nodes: which way, on which circuit, until when.

A request finds the best route that the link-state database knows, with a cutoff chosen for it,
and a circuit along it; requests of the same kind of promise to the same node share one. What a
request needs of the links' time follows from its number and its maximum time: where it names no
time, nothing is reserved and it takes what is left over.
"""

from __future__ import annotations

from qstack.errors import ErrorCode
from qstack.messages.application import RequestEnded
from qstack.messages.circuits import CircuitId, CircuitStop
from qstack.messages.common import RequestId
from qstack.messages.link import LinkRequest
from qstack.network.admission import Reservations, Verdict
from qstack.network.circuits import Circuits
from qstack.network.course import Promise, legs_of, with_rounds
from qstack.network.desk import Desk
from qstack.network.dry import admitted, not_admitted
from qstack.network.head_end import Head, movable
from qstack.network.linkstate import LinkState
from qstack.network.manner import nonsense
from qstack.network.member import Heard, Member
from qstack.network.moving import broken_by, missed, why
from qstack.network.orders import Declined, Halted, Installed, Order, OrderState
from qstack.network.passing import MOST_REQUESTS
from qstack.network.places import Place, PlaceState, Side
from qstack.network.plans import TRIES, Plan, need_of, needs_less, promise_of
from qstack.network.tail_end import Tail
from qstack.network.topology import Graph
from qstack.network.ways import Ways
from qstack.units import Instant, NodeName, earliest


class Demand:
    """All end-to-end requests that begin at this node."""

    def __init__(self, desk: Desk, reservations: Reservations, flood: LinkState) -> None:
        self._desk = desk
        self._reservations = reservations
        self._flood = flood
        self.ways = Ways(desk, flood)
        self._plans: dict[CircuitId, Plan] = {}
        self._made = 0
        self.changed = False
        """Whether routes are not what they were when circuits were last reconsidered."""
        heard = Heard(self._settled, self._moved, self._reserved)
        self.circuits = Circuits(desk, reservations, heard)

    # --- what is known -------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The network as routes see it now."""
        return self.ways.graph

    def routes_changed(self, origins: tuple[NodeName, ...]) -> None:
        """The link-state database says something new of these nodes."""
        self.ways.routes_changed(origins)
        self.changed = True
        self.circuits.heard_more()

    @property
    def deadline(self) -> Instant | None:
        """The next deadline of a request, refresh of a lease, or end of an idle circuit."""
        first = self.work_deadline if self._plans else None
        for plan in self._plans.values():
            first = earliest(first, plan.refresh_at, plan.idle_until)
        return first

    @property
    def work_deadline(self) -> Instant | None:
        """The next deadline of a request."""
        first: Instant | None = None
        for circuit, plan in self._plans.items():
            for order in (*plan.waiting, *self._orders(circuit)):
                if order.deadline is not None and order.state is not OrderState.CLOSING:
                    first = earliest(first, order.deadline)
                if order.state in _WAITED_FOR:
                    first = earliest(first, order.patience)
        return first

    @property
    def running(self) -> int:
        """How many requests have not ended."""
        return sum(len(p.waiting) + len(self._orders(c)) for c, p in self._plans.items())

    def _orders(self, circuit: CircuitId) -> tuple[Order, ...]:
        member = self.circuits.member(circuit)
        if member is None or type(member.part) is not Head:
            return ()
        return tuple(member.part.orders.values())

    # --- new requests --------------------------------------------------------------------------

    def rescue(self, remote: NodeName, request: LinkRequest, trust_min: int = 0) -> bool:
        """Take a request for which the link to a neighbour is not good enough, if rounds may help.

        One that asks for more than they give is refused with what they do give.
        """
        graph, here = self.graph, self._desk.node
        if request.atomic or request.consecutive or not {here, remote} <= graph.sites.keys():
            return False
        promise = promise_of(remote, request, trust_min, purify=True)
        _, limit, _ = with_rounds(graph, here, promise, self._desk.parameters.methods)
        if limit > 0:
            self.create(remote, request, trust_min, purify=True)
        return limit > 0

    def create(
        self, remote: NodeName, request: LinkRequest, trust_min: int = 0, *, purify: bool = False
    ) -> None:
        """Take a request that a circuit is to serve; `purify`: with a round at least."""
        now = self._desk.now
        deadline = now + request.remaining_ns if request.remaining_ns > 0 else None
        order = Order(request, OrderState.WAITING, deadline)
        verdict = nonsense(request) or self.ways.unknown(remote)
        if verdict is not None:
            self._decline(order, verdict)
            return
        promise = promise_of(remote, request, trust_min, purify=purify)
        order.need_hz = need_of(request)
        shared = self._shared(promise, request)
        if shared is not None and promise.reserved:
            plan = self._plans[shared]
            plan.waiting.append(order)
            if self._reserve(shared, plan) is None:
                plan.idle_until = None
                return
            plan.waiting.clear()
        elif shared is not None:
            self._plans[shared].idle_until = None
            if self._is_ready(shared):
                self._ask(shared, order)
            else:
                self._plans[shared].waiting.append(order)
            return
        self._begin(Plan(promise, [order]))

    def look(self, remote: NodeName, request: LinkRequest, trust_min: int = 0) -> None:
        """Look whether a request would get a circuit, by one that is installed dry."""
        plan = Plan(promise_of(remote, request, trust_min), dry=request)
        verdict = nonsense(request) or self.ways.unknown(remote)
        if verdict is None:
            self._begin(plan)
        else:
            self._decline_all(plan, verdict)

    def reconsider(self) -> None:
        """Routes are not what they were: leave circuits that cannot serve any more.

        Of those over links that wait: if no request uses them, or if all their requests can begin
        anew and there is another way for them. Of those whose promise slower messages break: all.
        """
        self.changed = False
        said, news = self._flood.database, self.ways.take_news()
        for circuit, plan in list(self._plans.items()):
            member = self.circuits.member(circuit)
            if member is None or plan.course is None or not self._is_ready(circuit):
                plan.unseen = True
                continue
            orders, broken = self._orders(circuit), self.ways.broken(plan, news)
            link = missed(said, member.place)
            if broken is not None and not all(movable(order) for order in orders):
                for order in orders:
                    self._end(circuit, plan, order, broken)
            elif broken is not None:
                self.circuits.release(circuit, broken.code, broken.reason)
            elif link is not None and self.ways.may_leave(plan, orders):
                self.circuits.release(circuit, ErrorCode.OTHER, why(said, link))

    def _shared(self, promise: Promise, request: LinkRequest) -> CircuitId | None:
        found: CircuitId | None = None
        for circuit, plan in self._plans.items():
            member = self.circuits.member(circuit)
            if plan.dry is not None or plan.left or plan.promise != promise or member is None:
                continue
            said, orders = self._flood.database, self._orders(circuit)
            most = 1 if promise.manner.alone else MOST_REQUESTS
            full = len(plan.waiting) + len(orders) >= most
            if plan.course is None or full or (promise.reserved and not self._grows(plan, member)):
                continue
            waits = missed(said, member.place) or not self.ways.lasts(member.place, request)
            broken = waits or broken_by(said, plan.course, promise) is not None
            if not broken and self.circuits.take(member) is None:
                if not promise.reserved or self.ways.grows(plan, member.place, need_of(request)):
                    return circuit
                found = found or circuit
        return found

    def _is_ready(self, circuit: CircuitId) -> bool:
        member = self.circuits.member(circuit)
        return member is not None and member.place.state is PlaceState.READY

    def _begin(self, plan: Plan) -> None:
        """Look for a way, and begin to install it; decline the requests where there is none."""
        while plan.tries <= TRIES:
            found = self.ways.course(plan)
            if isinstance(found, Verdict):
                self._decline_all(plan, plan.last or found)
                return
            self._made += 1
            circuit = CircuitId(self._desk.node, self._desk.boot, self._made)
            plan.course = found
            install = self.ways.install(circuit, plan, found)
            self._plans[circuit] = plan
            refused = self.circuits.install(install, self.ways.work(plan, found))
            if refused is None:
                return
            del self._plans[circuit]
            self._refused(plan, refused)
        verdict = Verdict(ErrorCode.NO_RESOURCES, "no circuit was admitted")
        self._decline_all(plan, plan.last or verdict)

    def _refused(self, plan: Plan, verdict: Verdict, *, lost: bool = False) -> None:
        """Some node refused: other ways avoid what it named, or hold less there at once.

        `lost`: or routes tell what it is.
        """
        plan.last = verdict
        plan.tries += 1
        if verdict.left > 0:
            plan.fewer[verdict.link] = verdict.left
        else:
            named = verdict.link or verdict.node or ("" if lost else self._desk.node)
            plan.avoid |= {named} if named else set()

    # --- circuits ------------------------------------------------------------------------------

    def _settled(self, place: Place, verdict: Verdict | None, rescued: tuple[Order, ...]) -> None:
        """A circuit is ready, or was refused, or is over."""
        plan = self._plans.get(place.id)
        if plan is None:
            return
        if verdict is None and plan.dry is not None:
            del self._plans[place.id]
            self._answer(plan, plan.dry, None)
            return
        if verdict is None:
            plan.refresh_at = self._desk.now + place.install.lease_ns // 3
            self.changed = True  # what routes told meanwhile counts for it too
            waiting, plan.waiting = plan.waiting, []
            for order in waiting:
                self._ask(place.id, order)
            if not waiting:
                self.circuits.release(place.id, None, "its requests ended while it was installed")
            return
        del self._plans[place.id]
        if rescued or plan.former_hz:
            plan = Plan(plan.promise, [*plan.waiting, *rescued], last=verdict)
        elif plan.waiting or plan.dry is not None:
            self._refused(plan, verdict, lost=verdict.code is not ErrorCode.TIMEOUT)
        if plan.waiting or plan.dry is not None:
            self._begin(plan)

    def _moved(self, place: Place, verdict: Verdict, order: Order) -> None:
        """A circuit of this node's has no room for a request of its any more."""
        plan = self._plans[place.id]
        plan.left = True
        self._begin(Plan(plan.promise, [order], last=verdict))

    def _grows(self, plan: Plan, member: Member) -> bool:
        """Whether more of the links' time can be asked for, for a circuit that has some.

        One that rests has given it back, and one with bins has none of its own.
        """
        divided = self._desk.parameters.division is not None
        settled = not plan.waiting and self._is_ready(member.place.id)
        return settled and not member.rests and not divided

    def _reserve(self, circuit: CircuitId, plan: Plan) -> Verdict | None:
        """Ask for what all requests of a circuit need together; return why that cannot be."""
        member = self.circuits.member(circuit)
        need = sum((o.need_hz for o in (*plan.waiting, *self._orders(circuit))), 0.0)
        if member is None or member.place.former is not None:
            return Verdict(ErrorCode.NO_TIME, "its reservation is being changed")
        verdict = self.circuits.sharing.ask(member.place, plan.shares_for(member.place, need))
        if verdict is None:
            plan.former_hz, plan.need_hz = plan.need_hz, need
            plan.before = self.ways.reserved(member.place)
        return verdict

    def _reserved(self, place: Place, verdict: Verdict | None) -> None:
        """Another reservation of a circuit is settled: who waited for it is served, or goes on."""
        plan = self._plans.get(place.id)
        if plan is None:
            return
        waiting, plan.waiting = plan.waiting, []
        if verdict is not None:
            plan.need_hz = plan.former_hz
        plan.former_hz = 0.0
        for order in waiting:
            if verdict is None:
                self._ask(place.id, order)
            else:
                self._begin(Plan(plan.promise, [order], before=plan.before))

    def _ask(self, circuit: CircuitId, order: Order) -> None:
        member = self.circuits.member(circuit)
        if member is None or type(member.part) is not Head:
            raise LookupError(f"circuit {circuit} is not ready")
        order.handle(Installed())
        order.patience = self._desk.now + self._desk.parameters.lease_ns
        member.part.orders[order.wanted.id] = order
        self.circuits.forward(circuit, order.wanted)

    def _rest(self, circuit: CircuitId, plan: Plan) -> None:
        self.circuits.division.served(circuit)
        plan.idle_until = self._desk.now + self._desk.parameters.idle_ns

    def _decline(self, order: Order, verdict: Verdict) -> None:
        order.handle(Declined(verdict.code, verdict.reason))
        self._desk.up(RequestEnded(order.wanted.id, verdict.code, verdict.reason, 0))

    def _decline_all(self, plan: Plan, verdict: Verdict) -> None:
        if plan.dry is not None:
            self._answer(plan, plan.dry, verdict)
        waiting, plan.waiting = plan.waiting, []
        for order in waiting:
            self._decline(order, verdict)

    def _answer(self, plan: Plan, request: LinkRequest, verdict: Verdict | None) -> None:
        """Say what a dry run found."""
        if verdict is not None or plan.course is None:
            self._desk.up(not_admitted(request, verdict))
            return
        legs = legs_of(self._flood.database, self._desk.node, plan.course)
        self._desk.up(admitted(request, plan.course, legs, self.graph))

    def conclude(self) -> None:
        """After each step: circuits that have no request any more begin to rest."""
        divided = self._desk.parameters.division is not None
        for circuit, plan in self._plans.items():
            if plan.waiting:
                continue
            orders = self._orders(circuit)
            wanted = orders or plan.dry is not None or plan.idle_until is not None
            if not wanted and self._is_ready(circuit):
                self._rest(circuit, plan)
            elif orders and plan.promise.reserved and not divided and needs_less(plan, orders):
                self._reserve(circuit, plan)

    # --- time and users --------------------------------------------------------------------------

    def tick(self) -> None:
        """Refresh leases, take down what idles, end what is out of time."""
        now = self._desk.now
        self.circuits.tick()
        for circuit, plan in list(self._plans.items()):
            if plan.refresh_at is not None and now >= plan.refresh_at:
                member = self.circuits.member(circuit)
                if member is not None:
                    plan.refresh_at = now + member.place.install.lease_ns // 3
                    self.circuits.refresh(circuit)
            if plan.idle_until is not None and now >= plan.idle_until:
                self.circuits.release(circuit, None, "no request for a while")
                continue
            if any(o.state in _WAITED_FOR and now >= o.patience for o in self._orders(circuit)):
                reason = f"{plan.promise.target} said nothing of a request"
                self.circuits.release(circuit, ErrorCode.TIMEOUT, reason)
                continue
            for order in (*plan.waiting, *self._orders(circuit)):
                late = order.deadline is not None and now >= order.deadline
                if late and order.state is not OrderState.CLOSING:
                    self._end(circuit, plan, order, Verdict(ErrorCode.TIMEOUT, _TOO_LATE))

    def cancel(self, request: RequestId, reason: str) -> bool:
        """End a request of either end; return whether there was one."""
        verdict = Verdict(ErrorCode.OTHER, reason)
        for circuit, plan in self._plans.items():
            for order in (*plan.waiting, *self._orders(circuit)):
                if order.wanted.id == request:
                    self._end(circuit, plan, order, verdict)
                    return True
        for member in self.circuits.members:
            if type(member.part) is Tail and request in member.part.orders:
                place = member.place
                stop = CircuitStop(place.id, request, verdict.code, reason)
                self._desk.send(place.neighbour(Side.UP), stop)
                return True
        return False

    def _end(self, circuit: CircuitId, plan: Plan, order: Order, verdict: Verdict) -> None:
        if order in plan.waiting:
            plan.waiting.remove(order)
            order.handle(Halted(verdict.code, verdict.reason))
            ended = RequestEnded(order.wanted.id, verdict.code, verdict.reason, 0)
            self._desk.up(ended)
            return
        member = self.circuits.member(circuit)
        if member is not None and type(member.part) is Head:
            if order.state is not OrderState.CLOSING:
                member.part.halt(order, verdict.code, verdict.reason)
            self.circuits.steer(member)


_WAITED_FOR = (OrderState.ASKED, OrderState.CLOSING)
_TOO_LATE = "the maximum time passed before all pairs were delivered"

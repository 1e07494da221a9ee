"""What routes say to a head-end: which way a request can go, and what it needs there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import attrs

from qstack.errors import ErrorCode
from qstack.messages.circuits import CircuitId, CircuitInstall, Method
from qstack.messages.link import LinkRequest
from qstack.messages.network import RouteUpdate
from qstack.network.admission import Verdict
from qstack.network.budget import ETERNAL, IDEAL, Operations, Storage
from qstack.network.course import Course, choose, legs_of
from qstack.network.daylight import at_once, by_day, lasts, open_for
from qstack.network.desk import Desk
from qstack.network.division.asking import Work, work_of
from qstack.network.draining import explained
from qstack.network.head_end import movable
from qstack.network.hours import Phase, phases_in
from qstack.network.linkstate import LinkState
from qstack.network.moving import broken_by
from qstack.network.orders import Order
from qstack.network.places import Place
from qstack.network.plans import Plan, need_of, promise_of
from qstack.network.refinement import confined
from qstack.network.routing import Query, route
from qstack.network.topology import Graph, graph_of
from qstack.network.trust import mistrusted
from qstack.units import LinkName, NodeName

TOLD = 1e-6
"""Routes tell what is reserved of a link to so small a part of its time."""


class Ways:
    """The network as this node's link-state database describes it."""

    __slots__ = ("_desk", "_flood", "_news", "_seen")

    def __init__(self, desk: Desk, flood: LinkState) -> None:
        self._desk = desk
        self._flood = flood
        self._seen: tuple[Graph, bool] | None = None
        """The network as routes see it, and whether a link of it has windows."""
        self._news: set[NodeName] = set()

    def routes_changed(self, origins: tuple[NodeName, ...]) -> None:
        """The link-state database says something new of these nodes."""
        self._seen = None
        self._news.update(origins)

    def take_news(self) -> set[NodeName]:
        """Return of which nodes something new was said since this was last asked."""
        news, self._news = self._news, set()
        return news

    def broken(self, plan: Plan, news: set[NodeName]) -> Verdict | None:
        """Return why the course of a circuit that is ready does not keep its promise now.

        It is looked at anew where news are of a node on it, and where it did not keep it before.
        """
        if plan.course is None or not plan.concerns(news):
            return None
        verdict = broken_by(self._flood.database, plan.course, plan.promise)
        plan.unseen = verdict is not None
        return verdict

    @property
    def graph(self) -> Graph:
        """The network as routes see it now."""
        return self._look()[0]

    def _look(self) -> tuple[Graph, bool]:
        if self._seen is None:
            said = self._flood.database
            timed = any(metric.windows for each in said.values() for metric in each.links)
            self._seen = graph_of(said), timed
        return self._seen

    def storage_at(self, node: NodeName) -> Storage:
        """Return how the qubits of a node fade, as it advertises; eternal if it is not known."""
        site = self.graph.sites.get(node)
        return ETERNAL if site is None else site.storage

    def operations_at(self, node: NodeName) -> Operations:
        """Return how well a node's gates do, as it advertises; ideal if it is not known."""
        site = self.graph.sites.get(node)
        return IDEAL if site is None else site.operations

    def reaches(self, remote: NodeName) -> bool:
        """Whether some way leads to this node now."""
        graph = self.graph
        if remote == self._desk.node or not {remote, self._desk.node} <= graph.sites.keys():
            return False
        return route(graph, Query(self._desk.node, remote)) is not None

    def offers(self, remote: NodeName, request: LinkRequest, trust_min: int = 0) -> bool:
        """Whether a circuit could serve this request now, as far as routes know."""
        if not {remote, self._desk.node} <= self.graph.sites.keys():
            return False
        found = self.course(Plan(promise_of(remote, request, trust_min), dry=request))
        return not isinstance(found, Verdict)

    def may_leave(self, plan: Plan, orders: tuple[Order, ...]) -> bool:
        """Whether nothing is lost if the requests of a circuit look for another way."""
        if not all(movable(order) for order in orders):
            return False
        return not orders or self.offers(
            plan.promise.target, orders[0].wanted, plan.promise.trust_min
        )

    def unknown(self, remote: NodeName) -> Verdict | None:
        """Return why nobody of this name can be reached, None if there is a node of it."""
        desk = self._desk
        if remote == desk.node:
            return Verdict(ErrorCode.CREATE, f"{remote} is this node")
        if remote not in self.graph.sites:
            known = ", ".join(name for name in self.graph.sites if name != desk.node) or "nobody"
            return Verdict(ErrorCode.CREATE, f"{desk.node} knows no {remote!r}: it knows {known}")
        return None

    def course(self, plan: Plan) -> Course | Verdict:
        """Return the best course for what a plan is for, or why there is none."""
        wanted = plan.waiting[0].wanted if plan.dry is None else plan.dry
        need = plan.need_hz = need_of(wanted)
        asked = plan.promise, need, self._desk.parameters.methods
        phases = self._phases()
        graph = confined(without(self._graph_for(plan), plan.avoid), plan.fewer)
        if phases:
            graph = open_for(graph, phases, wanted.remaining_ns)
        here = self._desk.node
        found = choose(graph, here, *asked)
        if phases and not isinstance(found, Verdict):
            found = at_once(graph, here, asked, found, phases)
        if isinstance(found, Verdict):
            found = mistrusted(graph, here, *asked) or explained(found, self._flood.database)
            return by_day(found, phases, wanted.remaining_ns)
        held = reserved_of(self._flood.database, [hop.link for hop in found.route.hops])
        plan.before = held | plan.before
        return found

    def reserved(self, place: Place) -> dict[LinkName, float]:
        """Return what routes say is reserved of the links of a circuit."""
        return reserved_of(self._flood.database, [leg.link for leg in place.install.legs])

    def grows(self, plan: Plan, place: Place, need_hz: float) -> bool:
        """Whether the links of a circuit have the time for so much more, as far as routes tell."""
        held, more = self.reserved(place), need_hz / plan.need_hz
        legs = place.install.legs
        return all(held.get(leg.link, 1.0) + leg.share * more <= 1 + TOLD for leg in legs)

    def _said_for(self, plan: Plan) -> Mapping[NodeName, RouteUpdate]:
        """What routes say, but for what its own tries hold, or held a moment ago.

        A node that takes part in a try reserves, and tells everybody at once; that the try was
        refused it tells only when it may speak again.
        """
        database = self._flood.database
        return relieved(database, plan.before) if plan.before else database

    def _graph_for(self, plan: Plan) -> Graph:
        return graph_of(self._said_for(plan)) if plan.before else self.graph

    def lasts(self, place: Place, request: LinkRequest) -> bool:
        """Whether no link of a circuit closes for the night before a maximum time is over."""
        phases = self._phases()
        return not phases or lasts(place, phases, request.remaining_ns)

    def _phases(self) -> Mapping[LinkName, Phase]:
        """The windows of links, and where they are now; empty where no link has any."""
        _, timed = self._look()
        if not timed:
            return {}
        return phases_in(self._flood.database, self._flood.ages(self._desk.now))

    def work(self, plan: Plan, course: Course) -> Work | None:
        """What bins it needs where links are divided in time."""
        wanted = plan.waiting[0].wanted if plan.dry is None else plan.dry
        return work_of(self.graph, course, wanted)

    def install(self, circuit: CircuitId, plan: Plan, course: Course) -> CircuitInstall:
        """Return what installs a circuit along a course."""
        legs = legs_of(self._said_for(plan), self._desk.node, course)
        lease = self._desk.parameters.lease_ns
        made = course.plan
        way = (Method.NONE, 0) if made is None else (made.method, made.rounds)
        dry, halves = plan.dry is not None, plan.promise.manner.halves
        return CircuitInstall(circuit, legs, course.route.latency_ns, lease, dry, *way, halves)


def without(graph: Graph, avoided: frozenset[str]) -> Graph:
    """Return a graph without the links and nodes of these names."""
    if not avoided:
        return graph
    left = {
        name: tuple(c for c in choices if not avoided & {name, c.link, c.to})
        for name, choices in graph.choices.items()
    }
    return Graph(graph.sites, left)


def reserved_of(
    database: Mapping[NodeName, RouteUpdate], links: Collection[LinkName]
) -> dict[LinkName, float]:
    """Return the part of the time of each of these links that the worse view calls reserved."""
    found: dict[LinkName, float] = {}
    for update in database.values():
        for metric in update.links:
            if metric.link in links:
                found[metric.link] = max(metric.reserved, found.get(metric.link, 0.0))
    return found


def relieved(
    database: Mapping[NodeName, RouteUpdate], before: Mapping[LinkName, float]
) -> dict[NodeName, RouteUpdate]:
    """Return a database in which no more is reserved of these links than this.

    Nodes look at what they really have: where others took it meanwhile, they refuse.
    """
    # The type checker does not see that our records are attrs classes.
    change = cast(Any, attrs.evolve)
    found = dict(database)
    for name, update in database.items():
        if any(metric.link in before for metric in update.links):
            links = tuple(
                change(m, reserved=min(m.reserved, before.get(m.link, 1.0))) for m in update.links
            )
            found[name] = change(update, links=links)
    return found

"""Which course a circuit takes: route, working points, cutoff, purification, part of the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.circuits import Leg, Method
from qstack.messages.network import LinkMetric, LinkOffer, RouteUpdate
from qstack.network.admission import Verdict
from qstack.network.manner import PLAIN, Manner
from qstack.network.purification import Pace, Plan, cheapest, plans
from qstack.network.routing import Hop, Query, Route, best_fidelity, front, rate_at_once, route
from qstack.network.topology import Choice, Graph, stores
from qstack.units import SECOND, Duration, NodeName

CUTOFFS = (2, 5, 10, 20, 50, 100)
"""A cutoff may be the shortest coherence time of the network divided by one of these."""

PATIENCE = 20
"""Without a cutoff for fidelity's sake a pair waits as long as so many pairs of the route take.

Nodes in the middle find partners sooner than those near the ends, whose qubits wait for tracks:
discarded too early, their pairs would take whole chains with them.
"""

MARGIN = 1e-3
"""A link is asked for this much less than it offers, so that it gives what was reckoned with."""


class Promise(NamedTuple):
    """What requests must have in common to share a circuit. `purified`: a round at least."""

    target: NodeName
    fidelity_min: float
    reserved: bool
    purified: bool = False
    manner: Manner = PLAIN

    def query(self, source: NodeName, fidelity_min: float, cutoff_ns: Duration) -> Query:
        """Return what is asked of a route for it; a set may rest for all of its time."""
        manner = self.manner
        return Query(
            source,
            self.target,
            fidelity_min,
            cutoff_ns=cutoff_ns,
            measured=manner.plans is not None and not self.purified,
            circuit=manner.beyond_links,
            rest_ns=manner.within_ns,
        )


@record
class Course:
    """A route, its cutoff (0: none for fidelity's sake), and what it takes of its links' time.

    `spare`: by how much the fidelity at hand-over may fall below the route's. `plan`: how the
    ends purify its pairs, None if they do not.
    """

    route: Route
    cutoff_ns: Duration
    share: float
    spare: float = 0.0
    plan: Plan | None = None

    @property
    def rate_hz(self) -> float:
        """Delivered pairs per second of lab time."""
        return self.route.rate_hz / (1.0 if self.plan is None else self.plan.pairs)

    @property
    def fidelity(self) -> float:
        """The mean fidelity at hand-over."""
        return self.route.fidelity if self.plan is None else self.plan.fidelity


def choose(
    graph: Graph,
    source: NodeName,
    promise: Promise,
    need_hz: float,
    methods: tuple[Method, ...] = (),
) -> Course | Verdict:
    """Return the fastest course that keeps the promise, or why there is none.

    Without purification if that is possible, unless the promise wants it, and always where its
    manner leaves no time for rounds; `methods` are those that may be used. `need_hz`: pairs per
    second of lab time that must be had; 0 for what there is.
    """
    best, limit = (None, 0.0) if promise.purified else (_plain(graph, source, promise), 0.0)
    if best is None and promise.manner.purified:
        best, limit = purified(graph, source, promise, methods)
    if best is None:
        return _hopeless(graph, source, promise, limit)
    made = best.plan
    rate_hz = best.route.rate_hz if best.cutoff_ns else rate_at_once(graph, best.route)
    rate_hz /= 1.0 if made is None else made.pairs
    if need_hz > rate_hz:
        reason = f"{need_hz:.3g} pairs/s are needed, the best route has {rate_hz:.3g}"
        return Verdict(ErrorCode.NO_TIME, f"{reason} left")
    share = need_hz / rate_hz
    spare = 0.0 if made else max(0.0, best.route.fidelity - promise.fidelity_min)
    return Course(best.route, best.cutoff_ns, share, spare, made)


def _cutoffs(graph: Graph) -> list[Duration]:
    """Those that are tried: they make pairs better and fewer. 0 is none."""
    times = [site.storage.t2_ns for site in graph.sites.values() if site.storage.t2_ns > 0]
    return [0] + ([min(times) // part for part in CUTOFFS] if times else [])


def _plain(graph: Graph, source: NodeName, promise: Promise) -> Course | None:
    """The fastest course without purification."""
    best: Course | None = None
    for cutoff in _cutoffs(graph):
        query = promise.query(source, promise.fidelity_min, cutoff)
        found = route(graph, query)
        if found is not None and (best is None or found.rate_hz > best.route.rate_hz):
            best = Course(found, cutoff, 0.0)
        if found is not None and cutoff == 0:
            break
    return best


def purified(
    graph: Graph, source: NodeName, promise: Promise, methods: tuple[Method, ...]
) -> tuple[Course | None, float]:
    """Return the fastest course whose ends purify, None if none keeps the promise, and the limit.

    The limit is the largest fidelity that rounds at the ends reach on any route; 0 where the ends
    cannot purify. The ends hold as many pairs at once as both can join; every pair waits for
    its partner, and after each round for the other end's word.
    """
    best: Course | None = None
    limit = 0.0
    able = methods and any(choice.joined[0] > 1 for choice in graph.choices[source])
    for cutoff in _cutoffs(graph) if able else []:
        for found in front(graph, Query(source, promise.target, cutoff_ns=cutoff)):
            made, most = _plan(graph, found, promise.fidelity_min, methods)
            limit = max(limit, most)
            if made is None:
                continue
            course = Course(found, cutoff, 0.0, 0.0, made)
            if best is None or course.rate_hz > best.rate_hz:
                best = course
    return best, limit


def _plan(
    graph: Graph, found: Route, fidelity_min: float, methods: tuple[Method, ...]
) -> tuple[Plan | None, float]:
    first, last = found.hops[0], found.hops[-1]
    before = found.nodes[-2]
    head, tail = graph.sites[found.source], graph.sites[last.node]
    memories = min(
        _choice(graph, found.source, first).joined[0], _choice(graph, before, last).joined[1]
    )
    if memories < 2:
        return None, 0.0
    pace = Pace(found.rate_hz, found.latency_ns, (head.storage, tail.storage))
    # Over several hops the route knows that both halves wait for the tracks.
    weights = pace.answered(found.weights) if len(found.hops) == 1 else found.weights
    ends = head.operations, tail.operations
    made = plans(weights, ends, memories, methods, pace=pace)
    return cheapest((each for each in made if each.rounds), fidelity_min)


def _choice(graph: Graph, node: NodeName, hop: Hop) -> Choice:
    return next(
        each for each in graph.choices[node] if (each.link, each.setting) == (hop.link, hop.setting)
    )


def _hopeless(graph: Graph, source: NodeName, promise: Promise, limit: float) -> Verdict:
    best = max(
        best_fidelity(graph, promise.query(source, 0.0, cutoff)) for cutoff in _cutoffs(graph)
    )
    if best <= 0:
        reason = f"no way leads from {source} to {promise.target} now"
        return Verdict(ErrorCode.NO_RESOURCES, reason)
    wanted = f"fidelity {promise.fidelity_min:.4f} at hand-over is asked for"
    reason = f"{wanted}; the network stands for {max(best, limit):.4f} at most"
    if limit > best:
        reason += f", purified; {best:.4f} without"
    return Verdict(ErrorCode.UNSUPPORTED, reason)


def legs_of(
    database: Mapping[NodeName, RouteUpdate], source: NodeName, course: Course
) -> tuple[Leg, ...]:
    """Return what is asked of each hop of a course; both ends' views of each link hold.

    What is asked of a link is below what it offers, which moves with its test rounds: a pair that
    is worse by d makes the end-to-end pair worse by no more than d, so half of what the course has
    to spare is divided among its links.
    """
    spare = course.spare / (2 * len(course.route.hops))
    found: list[tuple[str, NodeName, NodeName, list[LinkMetric], list[LinkOffer]]] = []
    before = source
    for hop in course.route.hops:
        metrics = [
            metric
            for name in (before, hop.node)
            for metric in database[name].links
            if metric.link == hop.link
        ]
        offers = [o for metric in metrics for o in metric.offers if o.setting == hop.setting]
        found.append((hop.link, before, hop.node, metrics, offers))
        before = hop.node
    way = course.route
    turn_ns = SECOND / way.rate_hz + 2 * way.latency_ns
    cutoff = course.cutoff_ns or int(PATIENCE * turn_ns)
    legs = []
    for link, one, other, metrics, offers in found:
        free = 1 - max(metric.reserved for metric in metrics)
        low = min(offer.fidelity_low for offer in offers)
        store = stores(database[one].node) and stores(database[other].node)
        share = min(free, course.share * free)
        legs.append(Leg(link, other, max(0.0, low - MARGIN - spare), share, cutoff, store))
    return tuple(legs)

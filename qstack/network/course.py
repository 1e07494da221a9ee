"""Which course a circuit takes: route, working points, cutoff, purification, part of the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple

from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.circuits import Leg, Method
from qstack.messages.network import LinkMetric, LinkOffer, RouteUpdate
from qstack.network.admission import Verdict
from qstack.network.budget import correlators, fading, together, weights_of, worse
from qstack.network.manner import PLAIN, Manner
from qstack.network.meeting import FEW_SLOTS
from qstack.network.purification import Pace, Plan, cheapest, plans
from qstack.network.refinement import corridor, held_back, refined
from qstack.network.routing import (
    Hop,
    Query,
    Route,
    best_fidelity,
    front,
    hop_of,
    rate_at_once,
    route,
)
from qstack.network.topology import UNPURIFIED, Graph, graph_of, stores
from qstack.units import SECOND, Duration, NodeName

CUTOFFS = (2, 5, 10, 20, 50, 100)
"""A cutoff may be the shortest coherence time of the network divided by one of these."""

DOUBT = 0.002
"""What a search with few labels for each node may miss of the largest fidelity, amply."""

PATIENCE = 20
"""Without a cutoff for fidelity's sake a pair waits as long as so many pairs of the route take.

Nodes in the middle find partners sooner than those near the ends, whose qubits wait for tracks:
discarded too early, their pairs would take whole chains with them.
"""

LEAST_PATIENCE = 4
"""At least so many: what is reckoned with hardly ever waits so long, so no rate is lost."""

_HALVINGS = 20

MARGIN = 1e-3
"""A link is asked for this much less than it offers, so that it gives what was reckoned with."""


GAIN = 2.0
"""So many times the rate rounds must give where a way without them keeps the promise too.

They hold qubits, and wait for words, that their rates do not count.
"""


class Promise(NamedTuple):
    """What requests must have in common to share a circuit. `purified`: a round at least."""

    target: NodeName
    fidelity_min: float
    reserved: bool
    purified: bool = False
    trust_min: int = 0
    manner: Manner = PLAIN

    def query(self, source: NodeName, fidelity_min: float, cutoff_ns: Duration) -> Query:
        """Return what is asked of a route for it; a set may rest for all of its time."""
        manner = self.manner
        return Query(
            source,
            self.target,
            fidelity_min,
            self.trust_min,
            cutoff_ns,
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

    Without purification if that is possible, unless the promise wants it, or names no rate and
    rounds would give much more; and always where its manner leaves no time for rounds. `methods`
    are those that may be used. `need_hz`: pairs per second of lab time that must be had; 0 for
    what there is.
    """
    best, limit, better, most = None, 0.0, graph, None
    methods = methods if promise.manner.purified else ()
    if not promise.purified:
        best, most = _plain(graph, source, promise)
    if best is None and promise.manner.purified:
        best, limit, better = with_rounds(graph, source, promise, methods)
    elif best is not None and not promise.reserved and methods:
        fastest = route(graph, Query(source, promise.target)) or best.route
        ways = [fastest, best.route]
        other, _, found = with_rounds(graph, source, promise, methods, ways)
        if other is not None and other.rate_hz > GAIN * best.rate_hz:
            best, better = other, found
    if best is None:
        most = _highest(graph, source, promise) if most is None else most
        return _hopeless(source, promise, most, limit)
    made = best.plan
    rate_hz = best.route.rate_hz if best.cutoff_ns else rate_at_once(better, best.route)
    rate_hz /= 1.0 if made is None else made.pairs
    if need_hz > rate_hz:
        reason = f"{need_hz:.3g} pairs/s are needed, the best route has {rate_hz:.3g}"
        return Verdict(ErrorCode.NO_TIME, f"{reason} left")
    share = need_hz / rate_hz
    spare = (
        0.0 if made or refines(best.route) else max(0.0, best.route.fidelity - promise.fidelity_min)
    )
    return Course(best.route, best.cutoff_ns, share, spare, made)


def _cutoffs(graph: Graph) -> list[Duration]:
    """Those that are tried: they make pairs better and fewer. 0 is none.

    One of few slots ends in the middle of a slot: whether a pair that comes at its very end is
    in time would be a matter of nanoseconds.
    """
    times = [site.storage.t2_ns for site in graph.sites.values() if site.storage.t2_ns > 0]
    slot_ns = max((c.slot_ns for each in graph.choices.values() for c in each), default=0)
    found = [0]
    for part in CUTOFFS if times else ():
        cutoff = min(times) // part
        if slot_ns and cutoff < FEW_SLOTS * slot_ns:
            cutoff = max(1, cutoff // slot_ns) * slot_ns + slot_ns // 2
        if cutoff not in found:
            found.append(cutoff)
    return found


def _plain(graph: Graph, source: NodeName, promise: Promise) -> tuple[Course | None, float | None]:
    """The fastest course without purification, or what such give at most if that was looked at.

    To look at that first is one search, to find with each cutoff that there is nothing are many.
    """
    found = route(graph, promise.query(source, promise.fidelity_min, 0))
    if found is not None:
        return Course(found, 0, 0.0), None
    best: Course | None = None
    cutoffs = _cutoffs(graph)[1:]
    most = _highest(graph, source, promise)
    if most < promise.fidelity_min - DOUBT:
        return None, most
    for cutoff in cutoffs:
        found = route(graph, promise.query(source, promise.fidelity_min, cutoff))
        if found is not None and (best is None or found.rate_hz > best.route.rate_hz):
            best = Course(found, cutoff, 0.0)
    return best, most


def _highest(graph: Graph, source: NodeName, promise: Promise) -> float:
    """The largest fidelity of any way without purification, with whatever cutoff."""
    return best_fidelity(graph, promise.query(source, 0.0, 0), _cutoffs(graph))


def with_rounds(
    graph: Graph,
    source: NodeName,
    promise: Promise,
    methods: tuple[Method, ...],
    ways: Iterable[Route] | None = None,
) -> tuple[Course | None, float, Graph]:
    """Return the fastest course with rounds, the limit, and the graph that both are of.

    Rounds are tried on `ways`, or on all routes of which each has more fidelity than those that are
    faster: to try them on all links of a large network would take seconds.
    """
    able = any(choice.joined[0] > 1 for choices in graph.choices.values() for choice in choices)
    if not methods or not able:
        return None, 0.0, graph
    if ways is None:
        ways = front(graph, Query(source, promise.target))
    links = {hop.link for way in ways for hop in way.hops}
    if not links:
        return None, 0.0, graph
    better = refined(corridor(graph, links), (source, promise.target), methods)
    return (*purified(better, source, promise, methods), better)


def purified(
    graph: Graph, source: NodeName, promise: Promise, methods: tuple[Method, ...]
) -> tuple[Course | None, float]:
    """Return the fastest course with rounds, None if none keeps the promise, and the limit.

    `graph` has the choices that rounds on links add (:func:`~qstack.network.refinement.refined`).
    The limit is the largest fidelity that rounds reach on any route, 0 where there are none. The
    ends hold as many pairs at once as both can join; every pair waits for its partner, and after
    each round for the other end's word.
    """
    best: Course | None = None
    limit = 0.0
    for cutoff in _cutoffs(graph):
        query = Query(source, promise.target, 0.0, promise.trust_min, cutoff)
        for found in front(graph, query):
            made, most = _plan(graph, found, promise.fidelity_min, methods)
            limit = max(limit, most)
            if made is None:
                continue
            made = made if made.rounds else None
            course = Course(found, cutoff, 0.0, 0.0, made)
            if best is None or course.rate_hz > best.rate_hz:
                best = course
    return best, limit


def _plan(
    graph: Graph, found: Route, fidelity_min: float, methods: tuple[Method, ...]
) -> tuple[Plan | None, float]:
    """The cheapest plan of the ends for a route, that without rounds where there are some on it."""
    last = found.hops[-1]
    head, tail = graph.sites[found.source], graph.sites[last.node]
    ones, others = hop_of(graph, found, 0), hop_of(graph, found, -1)
    memories = min(ones.joined[0] - held_back(ones), others.joined[1] - held_back(others))
    least = 0 if refines(found) else 1
    if memories < 2 and least:
        return None, 0.0
    pace = Pace(found.rate_hz, found.latency_ns, (head.storage, tail.storage))
    # Over several hops the route knows that both halves wait for the tracks.
    weights = pace.answered(found.weights) if len(found.hops) == 1 else found.weights
    ends = head.operations, tail.operations
    tilt = ones.tilt if len(found.hops) == 1 else 0.0
    made = plans(weights, ends, memories, methods, pace=pace, tilt=tilt)
    return cheapest((each for each in made if each.rounds >= least), fidelity_min)


def refines(found: Route) -> bool:
    """Return whether pairs of some link of a route are purified before they are swapped."""
    return any(hop.way != UNPURIFIED for hop in found.hops)


def _hopeless(source: NodeName, promise: Promise, best: float, limit: float) -> Verdict:
    """Why there is no way: without rounds there is `best` at most, with them `limit`."""
    if best <= 0:
        reason = f"no way leads from {source} to {promise.target} now"
        return Verdict(ErrorCode.NO_RESOURCES, reason)
    wanted = f"fidelity {promise.fidelity_min:.4f} at hand-over is asked for"
    reason = f"{wanted}; the network stands for {max(best, limit):.4f} at most"
    if limit > best:
        reason += f", purified; {best:.4f} without"
    return Verdict(ErrorCode.UNSUPPORTED, reason)


def patience(graph: Graph, course: Course) -> Duration:
    """Return how long a pair waits between the ends where fidelity asks for no cutoff.

    As long as the promise is kept even if all pairs wait so long, within bounds: where nodes are
    slower than what was measured of them, or users keep qubits, pairs become fewer first. With
    a wait of c at most for a partner, all halves of a chain of n links together wait 2 (n - 1) c
    at most for the last of them.
    """
    way = course.route
    turn_ns = SECOND / way.rate_hz + 2 * way.latency_ns
    resting = reduce(worse, (graph.sites[name].storage for name in way.nodes))
    least = way.fidelity - course.spare / 2
    halves = 2 * (len(way.hops) - 1)
    longest = PATIENCE * turn_ns
    if course.plan is not None:
        return int(longest)
    shortest = LEAST_PATIENCE * turn_ns * max(hop_of(graph, way, 0).halves, 1)
    low, high = min(shortest, longest), longest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        waited = together(correlators(way.weights), *(fading(resting, middle),) * halves)
        low, high = (middle, high) if weights_of(waited)[0] >= least else (low, middle)
    return int(low)


def legs_of(
    database: Mapping[NodeName, RouteUpdate], source: NodeName, course: Course
) -> tuple[Leg, ...]:
    """Return what is asked of each hop of a course; both ends' views of each link hold.

    What is asked of a link is below what it offers, which moves with its test rounds: a pair that
    is worse by d makes the end-to-end pair worse by no more than d, so half of what the course has
    to spare is divided among its links.
    """
    spare = course.spare / (2 * len(course.route.hops))
    found: list[tuple[Hop, NodeName, list[LinkMetric], list[LinkOffer]]] = []
    before = source
    for hop in course.route.hops:
        metrics = [
            metric
            for name in (before, hop.node)
            for metric in database[name].links
            if metric.link == hop.link
        ]
        offers = [o for metric in metrics for o in metric.offers if o.setting == hop.setting]
        found.append((hop, before, metrics, offers))
        before = hop.node
    way = {name: database[name] for name in course.route.nodes}
    cutoff = course.cutoff_ns or patience(graph_of(way), course)
    legs = []
    for hop, one, metrics, offers in found:
        free = 1 - max(metric.reserved for metric in metrics)
        low = min(offer.fidelity_low for offer in offers)
        store = stores(database[one].node) and stores(database[hop.node].node)
        share = min(free, course.share * free)
        asked = max(0.0, low - MARGIN - spare)
        latency = max(metric.latency_ns for metric in metrics) if hop.way[1] else 0
        legs.append(Leg(hop.link, hop.node, asked, share, cutoff, store, *hop.way, latency))
    return tuple(legs)

"""Which course a circuit takes: route, working points, cutoff, and its part of the links' time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.circuits import Leg
from qstack.messages.link import LinkRequest
from qstack.messages.network import LinkMetric, LinkOffer, NodeMetric, RouteUpdate
from qstack.network.admission import Verdict
from qstack.network.routing import Query, Route, best_fidelity, rate_at_once, route
from qstack.network.topology import Graph
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
    """What requests must have in common to share a circuit."""

    target: NodeName
    fidelity_min: float
    reserved: bool


@record
class Course:
    """A route, its cutoff (0: none for fidelity's sake), and what it takes of its links' time.

    `spare`: by how much the fidelity at hand-over may fall below the route's.
    """

    route: Route
    cutoff_ns: Duration
    share: float
    spare: float = 0.0


def nonsense(request: LinkRequest) -> Verdict | None:
    """Return why an end-to-end request makes no sense, or None."""
    complaint = ""
    if request.number < 1:
        complaint = f"number is {request.number}; ask for one pair at least"
    elif not 0.0 <= request.fidelity_min <= 1.0:
        complaint = f"fidelity_min is {request.fidelity_min}; it lies between 0 and 1"
    elif request.remaining_ns < 0:
        complaint = f"the maximum time is {request.remaining_ns} ns; 0 means no limit"
    elif not (math.isfinite(request.weight) and request.weight > 0):
        complaint = f"weight is {request.weight}; it must be positive"
    elif request.final_bell is not None and request.final_bell not in range(4):
        complaint = f"final_bell is {request.final_bell}; Bell indices are 0 to 3"
    return Verdict(ErrorCode.CREATE, complaint) if complaint else None


def choose(graph: Graph, source: NodeName, promise: Promise, need_hz: float) -> Course | Verdict:
    """Return the fastest course that keeps the promise, or why there is none.

    Cutoffs make pairs better and fewer, so each is tried. `need_hz`: pairs per second of lab time
    that must be had; 0 for what there is.
    """
    target = promise.target
    times = [site.storage.t2_ns for site in graph.sites.values() if site.storage.t2_ns > 0]
    cutoffs = [0] + ([min(times) // part for part in CUTOFFS] if times else [])
    best: Course | None = None
    for cutoff in cutoffs:
        query = Query(source, target, promise.fidelity_min, cutoff_ns=cutoff)
        found = route(graph, query)
        if found is not None and (best is None or found.rate_hz > best.route.rate_hz):
            best = Course(found, cutoff, 0.0)
        if found is not None and cutoff == 0:
            break
    if best is None:
        return _hopeless(graph, source, promise, cutoffs)
    rate_hz = best.route.rate_hz if best.cutoff_ns else rate_at_once(graph, best.route)
    if need_hz > rate_hz:
        reason = f"{need_hz:.3g} pairs/s are needed, the best route has {rate_hz:.3g}"
        return Verdict(ErrorCode.NO_TIME, f"{reason} left")
    spare = max(0.0, best.route.fidelity - promise.fidelity_min)
    return Course(best.route, best.cutoff_ns, need_hz / rate_hz, spare)


def _hopeless(graph: Graph, source: NodeName, promise: Promise, cutoffs: list[Duration]) -> Verdict:
    best = max(
        best_fidelity(graph, Query(source, promise.target, cutoff_ns=cutoff)) for cutoff in cutoffs
    )
    if best <= 0:
        reason = f"no way leads from {source} to {promise.target} now"
        return Verdict(ErrorCode.NO_RESOURCES, reason)
    wanted = f"fidelity {promise.fidelity_min:.4f} at hand-over is asked for"
    reason = f"{wanted}; the network stands for {best:.4f} at most"
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
        store = _stores(database[one].node) and _stores(database[other].node)
        share = min(free, course.share * free)
        legs.append(Leg(link, other, max(0.0, low - MARGIN - spare), share, cutoff, store))
    return tuple(legs)


def _stores(node: NodeMetric) -> bool:
    """Whether halves move to storage there: one qubit to attempt with, and room for others."""
    return node.memories[1] > 0 and node.memories[0] < 2

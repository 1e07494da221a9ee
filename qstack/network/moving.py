"""When a way is no good any more: a link of it waits, or messages have become too slow for it.

A link that is missed waits, and so does what runs on it: it goes on when the link is back. Where
routes know another way, requests of which no pair was delivered go there instead, as soon as
routes tell of the link: a circuit's head-end takes it down, and it begins anew. A request on
the link to a neighbour alone is cancelled there, and becomes that of a circuit. A request that has
pairs already, or a circuit's that has a maximum time, stays where it is.

A promise was made with the latencies of its time. Where routes tell of such that break it, requests
without pairs look for another way, or are refused, and all others end: nothing is delivered below
what was promised because nodes have become slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, cast

import attrs

from qstack.errors import ErrorCode
from qstack.messages.link import LinkRequest
from qstack.messages.network import RouteUpdate
from qstack.network.admission import Verdict
from qstack.network.budget import correlators, fading, together, weights_of, worse
from qstack.network.course import Course, Promise
from qstack.network.labels import made_ahead
from qstack.network.places import Place
from qstack.network.topology import UNPURIFIED, graph_of
from qstack.units import Instant, LinkName, NodeName

SLACK = 0.01
"""By so much the fidelity of a way may fall before requests end for it: latencies vary."""


def missed(database: Mapping[NodeName, RouteUpdate], place: Place) -> LinkName | None:
    """Return the first link of a circuit of which an end says that it waits; None for none."""
    before = place.id.origin
    for leg in place.install.legs:
        for name in (before, leg.node):
            said = database[name].links if name in database else ()
            if any(metric.waits for metric in said if metric.link == leg.link):
                return leg.link
        before = leg.node
    return None


def why(database: Mapping[NodeName, RouteUpdate], link: LinkName) -> str:
    """Return what is the matter with a link that waits, as far as routes tell."""
    said = (metric for update in database.values() for metric in update.links)
    waits = [metric for metric in said if metric.link == link and metric.waits]
    closed = waits and all(metric.windows for metric in waits)
    return f"link {link} is closed" if closed else f"link {link} is down"


def broken_by(
    database: Mapping[NodeName, RouteUpdate], course: Course, promise: Promise
) -> Verdict | None:
    """Return why a course does not keep its promise at the latencies of now; None if it does."""
    stands = stands_for(database, course)
    if stands >= promise.fidelity_min - SLACK:
        return None
    wanted = f"fidelity {promise.fidelity_min:.4f} was promised"
    reason = f"{wanted}; with messages as slow as they are now its way stands for {stands:.4f}"
    return Verdict(ErrorCode.UNSUPPORTED, reason)


def stands_for(database: Mapping[NodeName, RouteUpdate], course: Course) -> float:
    """Return the fidelity of a course at the latencies of now.

    What it was made with, aged by as much longer as messages take by now: at each link twice a
    turn, at the ends twice the way, and both for each two halves of what is made ahead.
    """
    way = course.route
    refined = any(hop.way != UNPURIFIED for hop in way.hops)
    if course.plan is not None or refined or not set(way.nodes) <= database.keys():
        return course.fidelity
    graph = graph_of({name: database[name] for name in way.nodes})
    here = [
        [c for c in graph.choices.get(node, ()) if c.link == hop.link]
        for node, hop in zip(way.nodes, way.hops, strict=False)
    ]
    if not all(here):
        return course.fidelity
    slower = max(0, sum(each[0].latency_ns for each in here) - way.latency_ns)
    turned = max(0, max(each[0].turn_ns for each in here) - way.turn_ns)
    ages = 2 * len(here) * turned
    if len(here) > 1:
        ages += 2 * slower + 2 * made_ahead(len(here)) * (slower + turned)
    resting = reduce(worse, (graph.sites[name].storage for name in way.nodes))
    return weights_of(together(correlators(way.weights), fading(resting, ages)))[0]


def remaining(request: LinkRequest, since: Instant, now: Instant) -> LinkRequest:
    """Return a request of `since` with what is left now of its maximum time, if it has one."""
    if not request.remaining_ns:
        return request
    # The type checker does not see that our records are attrs classes.
    left: LinkRequest = attrs.evolve(
        cast(Any, request), remaining_ns=max(1, request.remaining_ns - (now - since))
    )
    return left

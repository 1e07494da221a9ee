"""Courses over links that are not always open: which are taken, and what they promise.

A request with a maximum time takes no link that closes for the night before that time is over.
Over several links a course promises, of the rate that it has while all of them are open, the part
of the time in which they are so together. Halves wait while other links pause: its fidelity is
reckoned as if all its links were that much slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from qstack.errors import ErrorCode
from qstack.messages.circuits import Method
from qstack.network.admission import Verdict
from qstack.network.course import Course, Promise, choose, refines
from qstack.network.hours import Phase, day_ns, in_the_way, together
from qstack.network.places import Place
from qstack.network.refinement import corridor
from qstack.network.routing import rate_at_once
from qstack.network.topology import Choice, Graph
from qstack.units import Duration, LinkName, NodeName

_MOST_WORDS = 8

_HARDLY = 0.01
"""Links that are open together for less of the time promise nothing together: halves of one wait
for the other's windows, and how many do is not reckoned."""


def open_for(graph: Graph, phases: Mapping[LinkName, Phase], within_ns: Duration) -> Graph:
    """Return the graph of the links that are open now, and for so long (pauses do not count)."""
    days = {link: day_ns(phase) for link, phase in phases.items()}
    closing = {link for link, day in days.items() if day is not None and day <= within_ns}
    if not closing:
        return graph
    left = {
        name: tuple(choice for choice in choices if choice.link not in closing)
        for name, choices in graph.choices.items()
    }
    return Graph(graph.sites, left)


def lasts(place: Place, phases: Mapping[LinkName, Phase], within_ns: Duration) -> bool:
    """Whether no link of a circuit closes for the night within this time."""
    days = (day_ns(phases[leg.link]) for leg in place.install.legs if leg.link in phases)
    return all(day is None or day > within_ns for day in days)


def at_once(
    graph: Graph,
    source: NodeName,
    asked: tuple[Promise, float, tuple[Method, ...]],
    first: Course,
    phases: Mapping[LinkName, Phase],
) -> Course | Verdict:
    """Return what a course promises whose links have to be open together, or why nothing.

    `first` as it was chosen with each link's own part of the time alone.
    """
    links = {hop.link for hop in first.route.hops}
    timed = sorted(links & phases.keys())
    if not timed or len(links) < 2:
        return first
    promise, need_hz, methods = asked
    part = together(phases[link] for link in timed)
    if part < _HARDLY and need_hz > 0:
        reason = f"{' and '.join(timed)} are hardly ever open at the same time; nothing is promised"
        return Verdict(ErrorCode.NO_TIME, reason, timed[0])
    if part < _HARDLY:
        return first
    way = corridor(graph, links)
    open_all, slow = _paced(way, 1.0), _paced(way, part)
    whole, found = (choose(each, source, promise, 0.0, methods) for each in (open_all, slow))
    if isinstance(found, Verdict) or isinstance(whole, Verdict):
        return found if isinstance(found, Verdict) else first
    slow_hz, most_hz = _rate(slow, found), part * _rate(open_all, whole)
    rate_hz = min(slow_hz, most_hz)
    if need_hz > rate_hz:
        reason = f"{need_hz:.3g} pairs/s are needed, the best route has {rate_hz:.3g} left"
        reason += f" while {' and '.join(timed)} are open"
        return Verdict(ErrorCode.NO_TIME, reason)
    # The type checker does not see that our records are attrs classes.
    route = attrs.evolve(cast(Any, found.route), rate_hz=found.route.rate_hz * rate_hz / slow_hz)
    course: Course = attrs.evolve(cast(Any, found), route=route, share=need_hz / rate_hz)
    return course


def _rate(graph: Graph, course: Course) -> float:
    """The pairs per second that a course delivers, as it is compared with what is needed."""
    at_once = not course.cutoff_ns and not refines(course.route)
    rate_hz = rate_at_once(graph, course.route) if at_once else course.route.rate_hz
    return rate_hz / (1.0 if course.plan is None else course.plan.pairs)


def _paced(graph: Graph, part: float) -> Graph:
    """The graph with all its links open, and slower by this factor."""
    choices = {
        name: tuple(_open_always(choice, part) for choice in some)
        for name, some in graph.choices.items()
    }
    return Graph(graph.sites, choices)


def _open_always(choice: Choice, part: float) -> Choice:
    paced: Choice = attrs.evolve(cast(Any, choice), rate_hz=choice.while_open_hz * part, share=1.0)
    return paced


def by_day(verdict: Verdict, phases: Mapping[LinkName, Phase], within_ns: Duration) -> Verdict:
    """Return a refusal with the links that are closed, or will be, which may be why."""
    words = in_the_way(phases, within_ns)
    if not words or verdict.code not in (ErrorCode.NO_RESOURCES, ErrorCode.NO_TIME):
        return verdict
    more = len(words) - _MOST_WORDS
    words = words[:_MOST_WORDS] + ([f"{more} more"] if more > 0 else [])
    reason = f"{verdict.reason}; {', '.join(words)}"
    return Verdict(verdict.code, reason, verdict.link, verdict.node, verdict.left)

"""What a dry run answers, and what a request with a maximum time needs."""

from __future__ import annotations

from qstack.errors import ErrorCode
from qstack.messages.circuits import Leg, Method
from qstack.messages.link import LinkRequest
from qstack.network.admission import Verdict
from qstack.network.course import Course
from qstack.network.routing import rate_at_once
from qstack.network.service import TryAnswer
from qstack.network.topology import Graph
from qstack.units import SECOND


def need_hz(wanted: LinkRequest) -> float:
    """Return how many pairs per second of lab time a request needs; 0 without a maximum time."""
    return wanted.number * SECOND / wanted.remaining_ns if wanted.remaining_ns > 0 else 0.0


def not_admitted(request: LinkRequest, verdict: Verdict | None) -> TryAnswer:
    """Return the answer where nothing would be served."""
    verdict = verdict or Verdict(ErrorCode.NO_RESOURCES, "no way was found")
    return TryAnswer(request.id, verdict.code, verdict.reason)


def admitted(
    request: LinkRequest, course: Course, legs: tuple[Leg, ...], graph: Graph
) -> TryAnswer:
    """Return the answer where every node on this course would admit it.

    The rate is the one that a maximum time is compared with (:func:`qstack.network.course.choose`).
    """
    way = course.route
    rate = course.rate_hz
    if not course.cutoff_ns:
        rate *= rate_at_once(graph, way) / way.rate_hz
    made = course.plan
    return TryAnswer(
        request.id,
        None,
        "",
        way.nodes,
        tuple(hop.link for hop in way.hops),
        rate,
        course.fidelity,
        way.latency_ns,
        need_hz(request),
        tuple(leg.cutoff_ns for leg in legs[:-1]),
        Method.NONE if made is None else made.method,
        0 if made is None else made.rounds,
    )

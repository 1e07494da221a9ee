"""What a course over links that pause promises, beside the same course over links that never do."""

from __future__ import annotations

import pytest

from qstack.errors import ErrorCode
from qstack.network.admission import Verdict
from qstack.network.budget import ETERNAL
from qstack.network.course import Course, Promise, choose
from qstack.network.daylight import at_once, by_day, open_for
from qstack.network.hours import Phase, share
from qstack.network.routing import rate_at_once
from qstack.network.topology import Choice, Graph, Site, lessened
from qstack.units import MILLISECOND, SECOND
from qstack.windows import Windows

EARLY = Windows(100 * MILLISECOND, ((0, 60 * MILLISECOND),))
LATE = Windows(100 * MILLISECOND, ((40 * MILLISECOND, 60 * MILLISECOND),))
NEVER_BOTH = Windows(100 * MILLISECOND, ((70 * MILLISECOND, 20 * MILLISECOND),))
NIGHT = Windows(10 * SECOND, ((0, 4 * SECOND),))
PERFECT = (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
PROMISE = Promise("c", 0.5, True)
TURN_NS = 4 * MILLISECOND


def site(name: str) -> Site:
    return Site(name, True, 0, False, ETERNAL, (1.0, 1.0, 1.0), 1.0)


def chain(**windows: Windows) -> Graph:
    """a - b - c, 100 pairs a second on each link; messages take a good part of each pair."""

    def to(node: str, link: str) -> Choice:
        part = share(windows[link]) if link in windows else 1.0
        rate_hz = lessened(100.0, part, TURN_NS, 1)
        return Choice(
            *(node, link, "s", rate_hz, *PERFECT, MILLISECOND), turn_ns=TURN_NS, share=part
        )

    choices = {
        "a": (to("b", "ab"),),
        "b": (to("a", "ab"), to("c", "bc")),
        "c": (to("b", "bc"),),
    }
    return Graph({name: site(name) for name in choices}, choices)


def promised(need_hz: float, **windows: Windows) -> Course | Verdict:
    graph = chain(**windows)
    first = choose(graph, "a", PROMISE, 0.0)
    assert isinstance(first, Course)
    phases = {link: Phase(each, 0) for link, each in windows.items()}
    return at_once(graph, "a", (PROMISE, need_hz, ()), first, phases)


@pytest.mark.parametrize(
    ("windows", "part"),
    [({"ab": EARLY}, 0.6), ({"bc": LATE}, 0.6), ({"ab": EARLY, "bc": LATE}, 0.2)],
)
def test_a_course_promises_the_part_of_its_rate_in_which_all_its_links_are_open(
    windows: dict[str, Windows], part: float
) -> None:
    always = choose(chain(), "a", PROMISE, 0.0)
    assert isinstance(always, Course)
    whole_hz = rate_at_once(chain(), always.route)
    found = promised(part * whole_hz * 0.99, **windows)
    assert isinstance(found, Course)
    assert found.share == pytest.approx(0.99, rel=1e-6)
    refused = promised(part * whole_hz * 1.01, **windows)
    assert isinstance(refused, Verdict)
    assert refused.code is ErrorCode.NO_TIME
    assert all(link in refused.reason for link in windows)


def test_links_that_are_never_open_at_once_promise_nothing() -> None:
    found = promised(0.001, ab=EARLY, bc=NEVER_BOTH)
    assert isinstance(found, Verdict)
    assert "hardly ever" in found.reason
    assert isinstance(promised(0.0, ab=EARLY, bc=NEVER_BOTH), Course)


def test_links_that_close_for_the_night_in_time_are_left_out() -> None:
    graph, phases = chain(), {"ab": Phase(NIGHT, SECOND), "bc": Phase(EARLY, 0)}
    assert open_for(graph, phases, 2 * SECOND) is graph
    left = open_for(graph, phases, 3 * SECOND)
    assert {choice.link for choices in left.choices.values() for choice in choices} == {"bc"}
    assert not open_for(graph, {"ab": Phase(NIGHT, 5 * SECOND)}, 0).choices["a"]


def test_a_refusal_names_no_more_links_than_a_person_reads() -> None:
    phases = {f"l{number:02}": Phase(NIGHT, 5 * SECOND) for number in range(30)}
    verdict = by_day(Verdict(ErrorCode.NO_RESOURCES, "no way"), phases, 0)
    assert verdict.reason.startswith("no way; l00 is closed for 5 s, l01")
    assert verdict.reason.endswith("l07 is closed for 5 s, 22 more")
    other = Verdict(ErrorCode.UNSUPPORTED, "too good")
    assert by_day(other, phases, 0) is other

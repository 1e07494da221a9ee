"""Links with windows among others: routes go around what is closed for long, and come back.

That nothing is attempted or heralded while a link is closed is checked in every run here, by the
world's own clock (:class:`~tests.whole.windows_rig.Hours`).
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from qstack.errors import ErrorCode
from qstack.messages.application import RequestDone, RequestEnded
from qstack.network import hours
from qstack.testing.routes_lab import RouteLab, chain, ring
from qstack.units import MILLISECOND, SECOND
from qstack.windows import Windows
from tests.whole.windows_rig import WIRE_NS, Running

NIGHT = Windows(6 * SECOND, ((0, 2 * SECOND),))
DUSK, DAWN = 2 * SECOND, 6 * SECOND
NEWS_NS = 40 * MILLISECOND
"""Twice what passes at least between two updates of a node, and the ways of the words."""

FORTY, SIXTY = (
    Windows(100 * MILLISECOND, ((0, 60 * MILLISECOND),)),
    Windows(100 * MILLISECOND, ((40 * MILLISECOND, 60 * MILLISECOND),)),
)
"""Open together for 20 ms of 100."""


def triangle(efficiency: float = 0.02) -> Running:
    lab = RouteLab(ring(3), qubits=2, efficiency=efficiency, windows={"n1-n2": NIGHT})
    return Running(lab)


def row(**windows: Windows) -> Running:
    named = {name.replace("_", "-"): each for name, each in windows.items()}
    return Running(RouteLab(chain(3), qubits=2, efficiency=0.02, windows=named))


def test_requests_go_around_a_link_in_its_night_and_over_it_again_by_day() -> None:
    rig = triangle()
    ways = []
    for at in (SECOND, DUSK + NEWS_NS, DAWN + NEWS_NS):
        rig.rest_until(at)
        made = {link: len(rig.hours.made.get(link, [])) for link in ("n1-n2", "n1-n3")}
        request = rig.ask("n1", "n2", 3)
        assert isinstance(rig.finish("n1", request, SECOND), RequestDone)
        ways.append({link for link, n in made.items() if len(rig.hours.made.get(link, [])) > n})
        rig.rest(SECOND // 4)
        ends = [{pair for _, pair in rig.pairs(node, request)} for node in ("n1", "n2")]
        assert ends[0] == ends[1]
        assert len(ends[0]) == 3
    assert ways == [{"n1-n2"}, {"n1-n3"}, {"n1-n2"}]
    rig.nothing_is_taken()


def test_all_nodes_know_of_a_night_soon_and_updates_are_few() -> None:
    rig = triangle()
    rig.rest_until(DUSK - SECOND)
    before = len(rig.updates)
    rig.rest_until(DUSK + 3 * WIRE_NS)
    for node in rig.lab.nodes:
        routes = rig.net.host(node).network.report(rig.now)["routes"]
        assert not routes["n1"]["links"]["n1-n2"]["up"]
        closed_ns = routes["n2"]["links"]["n1-n2"]["closed_ns"]
        assert abs(closed_ns - (DAWN - rig.now)) < 3 * WIRE_NS
    rig.rest_until(DAWN + SECOND)
    # One of each end at dusk and at dawn, to two neighbours each.
    assert len(rig.updates) - before == 2 * 2 * 2


def test_nothing_is_said_of_pauses() -> None:
    rig = row(n1_n2=FORTY)
    rig.rest_until(SECOND)
    before = len(rig.updates)
    rig.rest(3 * SECOND)
    assert len(rig.updates) == before
    routes = rig.net.host("n3").network.report(rig.now)["routes"]
    assert routes["n1"]["links"]["n1-n2"]["up"]
    assert routes["n1"]["way"] == ["n3", "n2", "n1"]


def test_refreshed_updates_of_pauses_change_no_routes_and_others_know_the_windows_still() -> None:
    # Not a whole number of periods passes between two updates.
    rig = row(n1_n2=Windows(70 * MILLISECOND, ((0, 40 * MILLISECOND),)))
    rig.rest_until(SECOND)
    ways = [rig.net.host(node).network.demand.ways for node in rig.lab.nodes]
    graphs, before = [each.graph for each in ways], len(rig.updates)
    rig.rest_until(131 * SECOND + 90 * MILLISECOND)
    # Each of three origins twice, to one neighbour at each end and two between.
    assert len(rig.updates) - before == 2 * (1 + 2 + 1)
    assert all(each.graph is graph for each, graph in zip(ways, graphs, strict=True))
    routes = rig.net.host("n3").network.report(rig.now)["routes"]
    closed_ns = routes["n1"]["links"]["n1-n2"]["closed_ns"]
    assert abs(closed_ns - 20 * MILLISECOND) < MILLISECOND


def test_no_step_of_a_day_works_out_again_when_links_are_open() -> None:
    """Every call into what is known of ones own windows is counted while pairs are made."""
    rig = row(n1_n2=NIGHT)
    rig.rest_until(SECOND)
    looked: list[str] = []

    def count(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename == hours.__file__:
            looked.append(code.co_name)

    request = rig.ask("n1", "n2", 20)
    sys.setprofile(count)
    try:
        assert isinstance(rig.finish("n1", request, SECOND), RequestDone)
    finally:
        sys.setprofile(None)
    assert rig.now < DUSK
    assert looked.count("turns") > 20, "every step asks"
    assert not {"days", "_turn", "_filled"} & set(looked)


def test_a_request_without_pairs_leaves_a_link_at_dusk_for_another_way() -> None:
    rig = triangle(efficiency=0.0005)
    rig.rest_until(DUSK - 3 * MILLISECOND)
    request = rig.ask("n1", "n2", 1)
    rig.rest_until(DUSK + NEWS_NS)
    assert not rig.pairs("n1", request)
    assert ["n1", "n3", "n2"] in rig.paths("n1")
    assert isinstance(rig.finish("n1", request, 3 * SECOND), RequestDone)
    assert rig.now < DAWN
    assert rig.hours.made["n1-n3"]
    rig.nothing_is_taken()


def test_a_request_with_pairs_waits_for_the_morning_and_nothing_of_it_is_lost() -> None:
    rig = row(n1_n2=NIGHT)
    rig.rest_until(DUSK - 300 * MILLISECOND)
    request = rig.ask("n1", "n3", 200)
    rig.rest_until(DUSK + SECOND)
    by_dusk = len(rig.pairs("n1", request))
    assert 20 < by_dusk < 200
    rig.rest_until(DAWN)
    assert len(rig.pairs("n1", request)) == by_dusk
    assert rig.ending("n1", request) is None
    assert isinstance(rig.finish("n1", request, 3 * SECOND), RequestDone)
    rig.rest(SECOND // 4)
    ends = [[pair for _, pair in rig.pairs(node, request)] for node in ("n1", "n3")]
    assert len(ends[0]) == 200
    assert set(ends[0]) == set(ends[1])
    rig.nothing_is_taken()


def test_a_refusal_names_the_link_and_says_when_it_opens_or_closes() -> None:
    rig = row(n1_n2=NIGHT)
    rig.rest_until(DUSK + SECOND)
    ended = rig.finish("n3", rig.ask("n3", "n1", 1), SECOND)
    assert isinstance(ended, RequestEnded)
    assert (ended.code, ended.delivered) == (ErrorCode.NO_RESOURCES, 0)
    assert "n1-n2 is closed for 3 s" in ended.reason
    rig.rest_until(DAWN + SECOND)
    ended = rig.finish("n3", rig.ask("n3", "n1", 1, max_time_ns=3 * SECOND), SECOND)
    assert isinstance(ended, RequestEnded)
    assert "n1-n2 closes in 1 s" in ended.reason
    done = rig.finish("n3", rig.ask("n3", "n1", 3, max_time_ns=SECOND // 2), SECOND)
    assert isinstance(done, RequestDone)


def test_neighbours_wait_for_their_link_where_there_is_no_other_way() -> None:
    rig = row(n1_n2=NIGHT)
    rig.rest_until(DAWN - 500 * MILLISECOND)
    request = rig.ask("n1", "n2", 3)
    rig.rest_until(DAWN)
    assert rig.ending("n1", request) is None
    assert isinstance(rig.finish("n1", request, SECOND), RequestDone)
    assert min(at for at, _ in rig.pairs("n1", request)) > DAWN


@pytest.mark.parametrize(("second", "part"), [(None, 0.6), (SIXTY, 0.2)])
def test_what_is_promised_over_links_that_pause_is_delivered(
    second: Windows | None, part: float
) -> None:
    """A request that asks for 0.9 of the promise gets it in time, and one for 1.3 is refused.

    Of a chain of two equal links with two qubits each comes one pair in 1.5 mean times of a link at
    a time in the mean, and so many more as it works ahead; the promise is part of the former.
    """
    windows = {"n1_n2": FORTY} | ({} if second is None else {"n2_n3": second})
    rig = row(**windows)
    rig.rest_until(200 * MILLISECOND)
    alpha, efficiency = rig.lab.alpha, 0.02
    both = alpha**2 * (efficiency**2 + 2 * efficiency * (1 - efficiency))
    per_attempt = both + 2 * alpha * (1 - alpha) * efficiency
    link_hz = 2 * per_attempt * SECOND / rig.lab.cycle_ns
    promised_hz = part * link_hz / 1.5
    seconds = 2
    refused = rig.ask("n1", "n3", round(1.3 * promised_hz * seconds), max_time_ns=seconds * SECOND)
    ended = rig.finish("n1", refused, MILLISECOND)
    assert isinstance(ended, RequestEnded)
    assert ended.code is ErrorCode.NO_TIME
    number = round(0.9 * promised_hz * seconds)
    request = rig.ask("n1", "n3", number, max_time_ns=seconds * SECOND)
    done = rig.finish("n1", request, seconds * SECOND + MILLISECOND)
    assert isinstance(done, RequestDone)
    assert len(rig.pairs("n1", request)) == number


def test_nothing_is_promised_over_links_that_are_never_open_at_once_yet_pairs_come() -> None:
    early = Windows(100 * MILLISECOND, ((0, 30 * MILLISECOND),))
    late = Windows(100 * MILLISECOND, ((50 * MILLISECOND, 30 * MILLISECOND),))
    rig = row(n1_n2=early, n2_n3=late)
    rig.rest_until(200 * MILLISECOND)
    ended = rig.finish("n1", rig.ask("n1", "n3", 1, max_time_ns=10 * SECOND), MILLISECOND)
    assert isinstance(ended, RequestEnded)
    assert "n1-n2 and n2-n3 are hardly ever open at the same time" in ended.reason
    request = rig.ask("n1", "n3", 4)
    assert isinstance(rig.finish("n1", request, SECOND), RequestDone)

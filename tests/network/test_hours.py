"""Windows of links as routes take them: pauses, nights, and what is open at the same time."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qstack.errors import RemoteProtocolError
from qstack.machine import TICK, Send, Up
from qstack.messages.network import LinkMetric, RouteUpdate
from qstack.network.advertise import View, link_metric
from qstack.network.hours import (
    SHIFT_NS,
    Hours,
    Phase,
    closed_for,
    day_ns,
    days,
    in_the_way,
    moved_on,
    night_ns,
    phase_of,
    phases_in,
    said_windows,
    same_links,
    share,
    together,
)
from qstack.network.linkstate import (
    Advertise,
    FromNeighbour,
    LinkState,
    NeighbourUp,
    RoutesChanged,
)
from qstack.network.moving import why
from qstack.network.topology import Choice, lessened, slowed
from qstack.units import MILLISECOND, SECOND
from qstack.windows import Windows, shifted
from tests.network.flood_lab import link_metric as link
from tests.network.flood_lab import node_metric as node
from tests.network.test_linkstate import machine, sent, update
from tests.whole.rig import Lab

PAUSES = Windows(100 * MILLISECOND, ((0, 40 * MILLISECOND), (60 * MILLISECOND, 10 * MILLISECOND)))
NIGHTS = Windows(10 * SECOND, ((SECOND, 2 * SECOND), (3 * SECOND + 500 * MILLISECOND, SECOND)))


def test_what_is_closed_for_a_second_at_most_is_no_night() -> None:
    assert days(PAUSES) is None
    assert days(NIGHTS) == Windows(10 * SECOND, ((SECOND, 3_500 * MILLISECOND),))
    assert days(Windows(3 * SECOND, ((0, SECOND), (2 * SECOND, SECOND)))) is None
    assert days(Windows(9 * SECOND, ((SECOND, SECOND), (8 * SECOND, SECOND)))) == Windows(
        9 * SECOND, ((0, 2 * SECOND), (8 * SECOND, SECOND))
    ), "closed for a second between the end of one period and the window of the next"


def test_nights_and_days_are_told_to_the_nanosecond() -> None:
    assert night_ns(Phase(NIGHTS, 0)) == SECOND
    assert night_ns(Phase(NIGHTS, SECOND)) == 0
    assert night_ns(Phase(NIGHTS, 3_200 * MILLISECOND)) == 0, "it pauses"
    assert night_ns(Phase(NIGHTS, 4_500 * MILLISECOND)) == 6_500 * MILLISECOND
    assert day_ns(Phase(NIGHTS, 2 * SECOND)) == 2_500 * MILLISECOND
    assert day_ns(Phase(NIGHTS, 5 * SECOND)) == 0
    assert day_ns(Phase(PAUSES, 50 * MILLISECOND)) is None
    assert share(PAUSES) == pytest.approx(0.5)
    assert share(NIGHTS) == pytest.approx(3.0 / 3.5)


@given(st.integers(0, 999), st.integers(0, 999))
def test_the_time_in_which_two_links_are_open_is_what_counting_finds(one: int, two: int) -> None:
    first, second = Windows(200, ((0, 80), (150, 20))), Windows(300, ((100, 130),))
    both = sum(
        any(b <= (at + one) % 200 < b + n for b, n in first.open_ns)
        and any(b <= (at + two) % 300 < b + n for b, n in second.open_ns)
        for at in range(600)
    )
    assert together([Phase(first, one), Phase(second, two)]) == pytest.approx(both / 600)


def test_links_whose_periods_share_nothing_are_open_together_by_chance() -> None:
    first, second = Windows(10**9, ((0, 10**8),)), Windows(10**9 - 1, ((0, 5 * 10**8),))
    assert together([Phase(first, 0), Phase(second, 3)]) == pytest.approx(0.05, rel=1e-6)
    assert together([Phase(first, 0)]) == pytest.approx(0.1)


def test_what_is_said_of_windows_later_is_what_would_be_said_then() -> None:
    windows, repeats_ns = said_windows(PAUSES, 35 * MILLISECOND)
    metric = link("ab", "b", windows=windows, repeats_ns=repeats_ns)
    (later,) = moved_on((metric,), 30 * MILLISECOND)
    assert later.windows == shifted(PAUSES, 65 * MILLISECOND)
    phase = phase_of(metric, 30 * MILLISECOND)
    assert phase is not None
    assert closed_for(metric, 10 * MILLISECOND) == 15 * MILLISECOND
    assert closed_for(metric, 30 * MILLISECOND) == 0
    plain = (link("ab", "b"),)
    assert moved_on(plain, SECOND) is plain


def test_refusals_name_what_is_closed_and_what_will_be() -> None:
    phases = {"ab": Phase(NIGHTS, 5 * SECOND), "bc": Phase(NIGHTS, 2 * SECOND)}
    assert in_the_way(phases, 3 * SECOND) == ["ab is closed for 6 s", "bc closes in 2.5 s"]
    assert in_the_way(phases, SECOND) == ["ab is closed for 6 s"]


@given(st.floats(1, 1e6), st.floats(0.01, 1), st.integers(0, 10**8), st.integers(1, 8))
def test_the_rate_of_a_share_of_the_time_is_that_share_of_the_rate(
    rate_hz: float, part: float, more_ns: int, parallel: int
) -> None:
    """With what messages take for each pair, which passes while the link is closed too."""
    less = lessened(rate_hz, part, more_ns, parallel)
    expected = part * slowed(rate_hz, more_ns, parallel)
    assert slowed(less, more_ns, parallel) == pytest.approx(expected, rel=1e-9)
    choice = Choice(
        *("b", "ab", "s", less, (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0),
        halves=parallel,
        turn_ns=more_ns,
        share=part,
    )
    assert choice.while_open_hz == pytest.approx(rate_hz, rel=1e-6)


@pytest.mark.parametrize("more_ns", [10**15, 1 << 62])
def test_numbers_that_no_arithmetic_can_part_again_divide_by_nothing(more_ns: int) -> None:
    less = lessened(1e6, 0.5, more_ns, 1)
    perfect = (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0
    choice = Choice("b", "ab", "s", less, *perfect, turn_ns=more_ns, share=0.5)
    assert 0 < choice.while_open_hz < math.inf


def test_the_windows_of_a_link_are_those_that_its_ends_tell_and_nobody_else() -> None:
    night = {"windows": ((0, 1),), "repeats_ns": 10 * SECOND}
    day = {"windows": ((0, 9 * SECOND),), "repeats_ns": 10 * SECOND}
    database = {
        "aaa": RouteUpdate("aaa", 1, 1, 0, node(), (link("ab", "bob", **night),)),
        "alice": RouteUpdate("alice", 1, 1, 0, node(), (link("ab", "bob", **day),)),
        "bob": RouteUpdate("bob", 1, 1, 0, node(), (link("ab", "alice", **day),)),
        "carol": RouteUpdate("carol", 1, 1, 0, node(), (link("cd", "dave", **night),)),
    }
    found = phases_in(database, dict.fromkeys(database, 5))
    assert found == {"ab": Phase(Windows(10 * SECOND, ((0, 9 * SECOND),)), 5)}
    for end, peer in (("alice", "bob"), ("bob", "alice")):
        missed = (link("ab", peer, up=False, waits=True),)
        said = database | {end: RouteUpdate(end, 1, 1, 0, node(), missed)}
        assert phases_in(said, dict.fromkeys(said, 5)) == {}, f"{end} misses somebody"


def test_a_link_that_is_missed_says_nothing_of_its_windows_whether_it_is_closed_or_not() -> None:
    own: Any = attrs.evolve(Lab().links()[0], windows=NIGHTS)  # type: ignore[misc]  # a record
    for night in (False, True):
        there = link_metric(own, "alice", View(True, night=night), phase_ns=5 * SECOND)
        assert (there.up, there.waits) == (not night, night)
        assert there.windows == shifted(NIGHTS, 5 * SECOND)
        missed = link_metric(own, "alice", View(False, night=night), phase_ns=5 * SECOND)
        assert (missed.up, missed.waits, missed.windows, missed.repeats_ns) == (False, True, (), 0)


def test_who_leaves_a_link_is_told_whether_it_is_closed_or_down() -> None:
    night = {"up": False, "waits": True, "windows": ((5, 1),), "repeats_ns": 10 * SECOND}
    missed = {"up": False, "waits": True}

    def reason(*ends: dict[str, Any]) -> str:
        said = {str(k): update(links=(link("ab", "x", **e),)) for k, e in enumerate(ends)}
        return why(said, "ab")

    assert reason(night, night) == "link ab is closed"
    assert reason(night, {**night, "waits": False, "up": True}) == "link ab is closed"
    assert reason(night, missed) == reason(missed, missed) == "link ab is down"
    assert reason(missed, {}) == "link ab is down"


HOSTILE: list[dict[str, Any]] = [
    {"windows": ((-1, 5),), "repeats_ns": 10},
    {"windows": ((0, 0),), "repeats_ns": 10},
    {"windows": ((0, -5),), "repeats_ns": 10},
    {"windows": ((0, 5), (3, 5)), "repeats_ns": 10},
    {"windows": ((5, 2), (0, 2)), "repeats_ns": 10},
    {"windows": ((0, 5), (6, 5)), "repeats_ns": 10},
    {"windows": ((0, 10),), "repeats_ns": 10},
    {"windows": ((0, 5), (5, 5)), "repeats_ns": 10},
    {"windows": (), "repeats_ns": 10},
    {"windows": ((0, 5),), "repeats_ns": -10},
    {"windows": ((0, 5),), "repeats_ns": 1 << 62},
    {"windows": ((0, 1 << 62), (1 << 62, 1 << 62)), "repeats_ns": 0},
    {"windows": tuple((2 * place, 1) for place in range(1_000_000)), "repeats_ns": 10**7},
]


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_windows_that_cannot_be_are_refused_and_change_nothing(said: dict[str, Any]) -> None:
    state = machine("bob")
    bad = update(links=(link("x", "bob", **said),))
    with pytest.raises(RemoteProtocolError):
        state.handle(FromNeighbour("bob", bad), 5)
    assert "carol" not in state.database


def test_an_update_that_is_made_again_says_where_the_windows_are_then() -> None:
    state = LinkState("alice", 7)
    state.handle(NeighbourUp("bob"), 0)
    windows, repeats_ns = said_windows(PAUSES, 0)
    metric = link("ab", "bob", windows=windows, repeats_ns=repeats_ns)
    first = sent(state.handle(Advertise(node(), (metric,)), 0))
    at = state.deadline
    assert at is not None
    at += 13 * MILLISECOND
    again = sent(state.handle(TICK, at))
    made: list[LinkMetric] = [message.links[0] for _, message in (*first, *again)]
    assert made[0].windows == PAUSES.open_ns
    assert made[1].windows == shifted(PAUSES, at % PAUSES.period_ns)
    assert state.ages(at + 5)["alice"] == 5


# --- what is news --------------------------------------------------------------------------


def timed(phase_ns: int, windows: Windows = NIGHTS, **changes: Any) -> tuple[LinkMetric, ...]:
    said, repeats_ns = said_windows(windows, phase_ns)
    return (link("ac", "alice", windows=said, repeats_ns=repeats_ns, **changes),)


@example(SECOND - 2, 0, 5)  # a window begins at the end of the period, for the other in it
@example(SECOND + 2, 10**10, -5)
@example(3 * SECOND - 2, 0, 5)
@example(4_500 * MILLISECOND - 2, 0, 5)
@given(st.integers(0, 10**10), st.integers(0, 3 * 10**10), st.integers(-SHIFT_NS, SHIFT_NS))
def test_windows_that_moved_on_with_time_are_the_same_windows(
    phase_ns: int, later_ns: int, off_ns: int
) -> None:
    before, after = timed(phase_ns), timed(phase_ns + later_ns + off_ns)
    assert same_links(before, after, later_ns)


@given(st.integers(0, 10**10), st.integers(SHIFT_NS + 1, 10**10 - SHIFT_NS - 1))
def test_windows_that_come_earlier_or_later_than_was_said_are_others(
    later_ns: int, off_ns: int
) -> None:
    assert not same_links(timed(0), timed(later_ns + off_ns), later_ns)


@pytest.mark.parametrize(
    "after",
    [
        timed(SECOND, up=False),
        timed(SECOND, reserved=0.5),
        timed(SECOND, Windows(10 * SECOND, ((SECOND, 2 * SECOND),))),
        timed(SECOND, Windows(10 * SECOND, ((SECOND, 2 * SECOND), (3 * SECOND, SECOND)))),
        timed(SECOND, Windows(11 * SECOND, NIGHTS.open_ns)),
        (link("ac", "alice"),),
        timed(SECOND) * 2,
        (),
    ],
)
def test_what_else_is_said_of_a_link_with_windows_is_news(after: tuple[LinkMetric, ...]) -> None:
    assert same_links(timed(0), timed(SECOND), SECOND)
    assert not same_links(timed(0), after, SECOND)


def test_windows_that_do_not_come_again_are_the_same_where_they_are_said_alike() -> None:
    once = (link("ac", "alice", windows=((5, 10),)),)
    assert same_links(once, once, 3)
    assert not same_links(once, (link("ac", "alice", windows=((2, 10),)),), 3)


def test_an_update_in_which_windows_moved_on_is_passed_on_and_is_no_news() -> None:
    """Carol's clock and bob's run alike; her words take up to 7 ms more than others of hers."""
    state = machine("bob", "dave")
    state.handle(FromNeighbour("bob", update(sequence=1, links=timed(0))), 0)
    cases = [
        (2, 60 * SECOND, timed(60 * SECOND), False),
        (3, 120 * SECOND + 7 * MILLISECOND, timed(120 * SECOND), False),
        (4, 180 * SECOND, timed(180 * SECOND, reserved=0.5), True),
        (5, 240 * SECOND, timed(241 * SECOND, reserved=0.5), True),
        (6, 300 * SECOND, timed(301 * SECOND, reserved=0.5), False),
    ]
    for sequence, at, links, news in cases:
        actions = state.handle(FromNeighbour("bob", update(sequence=sequence, links=links)), at)
        assert [each.peer for each in actions if type(each) is Send] == ["dave"]
        assert (Up(RoutesChanged(("carol",))) in actions) is news, sequence
        assert state.database["carol"].links == links, "where windows are now is known to all"


def test_an_aged_update_is_compared_with_what_was_said_when_it_was_made() -> None:
    state = machine("bob")
    state.handle(
        FromNeighbour("bob", update(sequence=1, age_ns=5 * SECOND, links=timed(0))), SECOND
    )
    later = update(sequence=2, age_ns=2 * SECOND, links=timed(6 * SECOND))
    assert state.handle(FromNeighbour("bob", later), 4 * SECOND) == []


def test_ones_own_windows_that_moved_on_are_no_news() -> None:
    state = LinkState("alice", 7)
    assert Up(RoutesChanged(("alice",))) in state.handle(Advertise(node(), timed(0)), 0)
    at = 0
    for _ in range(3):
        at = state.deadline or 0
        assert state.handle(TICK, at + 13 * MILLISECOND) == []
    state.handle(Advertise(node(), timed(at + SECOND)), at + SECOND)
    assert state.deadline is not None
    assert state.deadline > at + 10 * SECOND, "that is what it says already"
    began = state.handle(Advertise(node(), timed(0)), at + SECOND)
    assert Up(RoutesChanged(("alice",))) in began, "a period begins anew"


# --- what is worked out once ---------------------------------------------------------------


def own_hours(windows: Windows) -> Hours:
    return Hours([attrs.evolve(Lab().links()[0], windows=windows)])  # type: ignore[misc]  # a record


def test_the_hours_of_ones_own_links_turn_at_a_stations_word_at_dusk_and_at_dawn() -> None:
    hours, began = own_hours(NIGHTS), 500 * SECOND
    assert (hours.turns(0), hours.due, hours.night_ns("ab", 0)) == (0, None, 0), "nothing is known"
    hours.see("ab", began)
    at = began + 2 * SECOND
    assert (hours.turns(at), hours.due) == (1, began + 4_500 * MILLISECOND)
    dusk = began + 4_500 * MILLISECOND
    assert (hours.turns(dusk - 1), hours.night_ns("ab", dusk - 1)) == (1, 0)
    assert hours.night_ns("ab", dusk) == 6_500 * MILLISECOND
    assert (hours.turns(dusk), hours.due) == (2, began + 11 * SECOND)
    assert hours.turns(began + 11 * SECOND) == 3
    hours.see("ab", began + SECOND)
    assert (hours.turns(began + 11 * SECOND), hours.due) == (4, began + 12 * SECOND)


def test_links_that_only_pause_turn_at_their_stations_word_alone() -> None:
    hours = own_hours(PAUSES)
    hours.see("ab", 5)
    assert (hours.turns(7), hours.due) == (1, None)
    assert hours.turns(10**12) == 1
    assert hours.phase_ns("ab", 30) == 25

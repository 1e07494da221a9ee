"""Windows of links as routes take them: pauses, nights, and what is open at the same time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import RemoteProtocolError
from qstack.machine import TICK
from qstack.messages.network import LinkMetric, RouteUpdate
from qstack.network.hours import (
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
    share,
    together,
)
from qstack.network.linkstate import Advertise, FromNeighbour, LinkState, NeighbourUp
from qstack.network.topology import Choice, lessened, slowed
from qstack.units import MILLISECOND, SECOND
from qstack.windows import Windows, shifted
from tests.network.flood_lab import link_metric as link
from tests.network.flood_lab import node_metric as node
from tests.network.test_linkstate import machine, sent, update

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

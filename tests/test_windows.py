"""When a link works, by its windows: compared with looking at every nanosecond of small periods."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.windows import (
    MOST_WINDOWS,
    Windows,
    closed_ns,
    gaps,
    in_words,
    nonsense,
    open_ns_within,
    shifted,
    window_after,
)


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    """Any windows that make sense, of a short period."""
    period = draw(st.integers(2, 40))
    opened = draw(st.lists(st.booleans(), min_size=period, max_size=period))
    if all(opened):
        opened[-1] = False
    if not any(opened):
        opened[0] = True
    spans: list[tuple[int, int]] = []
    for place, now in enumerate(opened):
        if now and spans and sum(spans[-1]) == place:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        elif now:
            spans.append((place, 1))
    return Windows(period, tuple(spans[:MOST_WINDOWS]))


def is_open(of: Windows, at: int) -> bool:
    return any(begins <= at % of.period_ns < begins + lasts for begins, lasts in of.open_ns)


@given(windows(), st.integers(0, 200))
def test_the_next_window_is_the_one_that_looking_finds(of: Windows, since: int) -> None:
    assert nonsense(of) is None
    begins, ends = window_after(of, since)
    assert ends > since
    assert all(is_open(of, at) for at in range(begins, ends))
    assert not is_open(of, begins - 1)
    assert not is_open(of, ends)
    assert not any(is_open(of, at) for at in range(since, begins))
    assert closed_ns(of, since) == max(0, begins - since)


@given(windows(), st.integers(0, 100), st.integers(0, 200))
def test_open_time_is_what_counting_finds(of: Windows, since: int, lasts: int) -> None:
    counted = sum(is_open(of, at) for at in range(since, since + lasts))
    assert open_ns_within(of, since, lasts) == counted


@given(windows(), st.integers(0, 100))
def test_windows_from_another_instant_on_are_the_same_windows(of: Windows, phase: int) -> None:
    moved = Windows(of.period_ns, shifted(of, phase % of.period_ns))
    assert all(is_open(moved, at) is is_open(of, at + phase) for at in range(of.period_ns))
    assert all(begins >= 0 for begins, _ in moved.open_ns)
    assert sum(gaps(of)) == of.period_ns - of.whole_ns


@pytest.mark.parametrize(
    ("period", "spans", "said"),
    [
        (0, ((0, 1),), "a period of 0 ns"),
        (100, (), "0 windows"),
        (100, tuple((6 * i, 3) for i in range(17)), "17 windows"),
        (100, ((0, 0),), "lasts 0 ns"),
        (100, ((-1, 5),), "begins at -1 ns"),
        (100, ((90, 11),), "ends beyond the period of 100 ns"),
        (100, ((0, 40), (30, 10)), "the window at 30 ns overlaps"),
        (100, ((0, 40), (40, 10)), "the window at 40 ns overlaps or touches"),
        (100, ((50, 10), (0, 10)), "is before it"),
        (100, ((0, 100),), "open all the time"),
    ],
)
def test_windows_that_make_no_sense_are_told_why(period: int, spans: Any, said: str) -> None:
    assert said in (nonsense(Windows(period, spans)) or "")


def test_durations_are_told_in_units_that_people_read() -> None:
    assert in_words(60_000_000) == "60 ms"
    assert in_words(3_200_000_000) == "3.2 s"
    assert in_words(15_000) == "15 us"
    assert in_words(7) == "7 ns"

"""How an opening of a link's analyser ends: through, broken off, or too late to matter."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.machine import TICK
from qstack.messages.devices import Abort, Aborted, Exhausted, StationClicks, StationOpen
from qstack.messages.physical import Verdict
from qstack.physical.pairing import LinkState
from qstack.physical.sharing import Station
from qstack.windows import Windows
from tests.physical.physical_lab import CYCLE, parameters
from tests.physical.test_windows_of_a_link import (
    DAY,
    DRIFTED,
    PERIOD,
    arm,
    both,
    change,
    commands,
    link,
    replies,
    station_of,
    step,
    window,
)

MANY = 33
"""One more than the analyser of a link may begin to open with."""


def opened(station: Station, span: tuple[int, int], now: int) -> StationOpen:
    """Both ends ask for a span with much credit, and the analyser opens."""
    wants = change(arm("a-b", now // 1_000, span), credits=2 * MANY)
    found: list[StationOpen] = commands(both(station, wants, now), StationOpen)
    assert len(found) == 1
    return found[0]


def see(station: Station, opening: StationOpen, successes: int) -> None:
    """Let the analyser see so many successes, which nobody confirms."""
    clicks = parameters().settings[0].patterns[0].clicks
    for cycle in range(opening.first_cycle + 1, opening.first_cycle + 1 + successes):
        seen = StationClicks("bsa", opening.command, "a-b", cycle, 0, clicks, (), 0)
        step(station, seen, (cycle + 3) * CYCLE)


def test_a_window_ends_though_many_successes_of_it_are_not_confirmed() -> None:
    station = station_of(link("a-b", DAY))
    opening = opened(station, window(station, "a-b", 1_000), 2_000)
    see(station, opening, MANY)
    told = replies(step(station, Exhausted("bsa", opening.command, 1), 40_010_000))
    assert [reply.verdict for reply in told] == [Verdict.DEFER] * 2
    assert all(reply.opens_cycle > opening.first_cycle + opening.cycles for reply in told)


@pytest.mark.parametrize(
    ("end", "windows"),
    [
        (lambda command: Exhausted("bsa", command, 1), None),
        (lambda command: Aborted("bsa", command, "of itself"), None),
        (lambda command: Aborted("bsa", command, "of itself"), DAY),
    ],
)
def test_an_opening_that_ends_is_not_renewed_until_successes_are_confirmed(
    end: Any, windows: Any
) -> None:
    station = station_of(link("a-b", windows))
    span = (0, 0) if windows is None else window(station, "a-b", 1_000)
    opening = opened(station, span, 2_000)
    see(station, opening, MANY)
    after = 1_000_000
    step(station, end(opening.command), after)
    assert station.links["a-b"].state is LinkState.CLOSED
    wants = change(arm("a-b", 9_000, span), credits=2 * MANY, herald_sequence=MANY)
    assert commands(both(station, wants, after + 1_000), StationOpen)


def test_a_turn_may_end_though_many_successes_of_it_are_not_confirmed() -> None:
    """The word that the analyser broke off comes after the other link was let in."""
    station = station_of(link("a-b", None), link("b-c", None))
    opening = opened(station, (0, 0), 2_000)
    see(station, opening, MANY)
    both(station, arm("b-c", 2, (0, 0)), 3_000_000)
    due = station.deadline
    assert due is not None
    while not commands(actions := step(station, TICK, due), Abort):
        due = station.deadline
        assert due is not None
    assert commands(actions, StationOpen)[0].link == "b-c"
    step(station, Aborted("bsa", opening.command, "a turn is over"), due)
    assert station.links["a-b"].state is LinkState.CLOSED


def test_word_of_a_former_opening_as_the_next_window_begins_changes_nothing() -> None:
    """It was broken off, for it did not say in time that it was through."""
    station = station_of(link("a-b", DAY))
    opening = opened(station, window(station, "a-b", 1_000), 2_000)
    due = station.deadline
    assert due is not None
    told = replies(step(station, TICK, due))[-1]
    both(station, arm("a-b", 50_000, (told.opens_cycle, told.closes_cycle)), 50_000_000)
    assert station.deadline == PERIOD
    assert not commands(step(station, Exhausted("bsa", opening.command, 1), PERIOD), StationOpen)
    assert station.links["a-b"].state is LinkState.DEFERRED
    assert commands(step(station, TICK, PERIOD), StationOpen)


def test_a_window_longer_than_an_opening_is_opened_again_for_its_rest() -> None:
    """5 * 10**9 cycles, and an opening lasts 2**32."""
    day = 5_000_000_000 * CYCLE
    station = station_of(link("a-b", Windows(2 * day, ((0, day),))))
    span = window(station, "a-b", 1_000)
    first = opened(station, span, 2_000)
    now = (first.first_cycle + first.cycles) * CYCLE + 3 * CYCLE
    actions = step(station, Exhausted("bsa", first.command, 1), now)
    (second,) = commands(actions, StationOpen)
    assert first.cycles == 1 << 32
    assert now // CYCLE <= second.first_cycle < now // CYCLE + 50
    assert second.first_cycle + second.cycles == span[1]
    assert {(reply.opens_cycle, reply.closes_cycle) for reply in replies(actions)} <= {span}
    actions = step(station, Exhausted("bsa", second.command, 1), day)
    assert replies(actions)[-1].opens_cycle > span[1]


def test_arms_after_the_last_cycle_of_a_window_open_nothing() -> None:
    """There is still open time, but only for the way of the last cycle's light."""
    station = station_of(link("a-b", DAY))
    span = window(station, "a-b", 1_000)
    now = span[1] * CYCLE
    assert now < 40_000_000
    actions = both(station, arm("a-b", 2_000, span), now)
    assert not commands(actions, StationOpen)
    assert replies(actions)[-1].verdict is Verdict.DEFER
    assert station.deadline == 40_000_000
    told = replies(step(station, TICK, 40_000_000))
    assert {reply.opens_cycle * CYCLE for reply in told} == {PERIOD + DRIFTED}


def test_an_opening_shortly_before_the_end_of_a_window_does_not_reach_beyond() -> None:
    station = station_of(link("a-b", DAY))
    span = window(station, "a-b", 1_000)
    wants = change(arm("a-b", 2_000, span), first_cycle=span[1] + 7)
    (opening,) = commands(both(station, wants, (span[1] - 2) * CYCLE), StationOpen)
    assert (opening.first_cycle, opening.cycles) == (span[1] - 1, 1)

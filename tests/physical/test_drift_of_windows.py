"""Windows of a link against a hardware that is up to 200 ppm faster or slower than its station.

The truth is computed here: cycle k begins k cycles of the hardware's oscillator after the latest
command that begins its clock.
"""

from __future__ import annotations

from typing import Any

import pytest

from qstack.machine import TICK, Device
from qstack.messages.devices import Exhausted, StationClicks, StationClock, StationOpen
from qstack.messages.physical import ArmReply, Verdict
from qstack.physical.sharing import Station
from qstack.units import MILLISECOND, SECOND
from qstack.windows import Windows
from tests.physical.physical_lab import CYCLE, parameters
from tests.physical.test_windows_of_a_link import (
    PERIOD,
    arm,
    both,
    commands,
    link,
    replies,
    station_of,
    step,
)

SHORT = Windows(PERIOD, ((0, 20 * MILLISECOND),))
RARE = Windows(10_000 * SECOND, ((0, SECOND),))
"""A night of which the oscillators may drift apart by more than a day lasts."""
WAY = 20_000
PPM = 5_010
"""One part in this is a little less than the 200 ppm that are reckoned with."""


def check_inside(reply: ArmReply, began: int, opens: int, closes: int) -> None:
    """Assert that the told cycles lie between two instants for any hardware, and use most of it."""
    for fast in (-1, 0, 1):
        first = began + reply.opens_cycle * CYCLE * (PPM + fast) // PPM
        last = began + reply.closes_cycle * CYCLE * (PPM + fast) // PPM
        assert opens <= first + 1 < last <= closes - WAY + 1
    used = (reply.closes_cycle - reply.opens_cycle) * CYCLE
    assert used >= 3 * (closes - opens) // 4 - WAY - 2 * CYCLE


def begun(actions: list[Any], now: int, former: int) -> int:
    """When cycle 0 began, after these actions."""
    clocks = [a for a in actions if isinstance(a, Device) and isinstance(a.command, StationClock)]
    return now if clocks else former


@pytest.mark.parametrize("idle_s", [1, 10, 50, 90, 110, 1_000, 100_000])
def test_windows_after_idle_time_lie_in_the_open_time_and_use_most_of_it(idle_s: int) -> None:
    station = station_of(link("a-b", SHORT))
    now = idle_s * SECOND + 45 * MILLISECOND
    actions = both(station, arm("a-b", 5, (1, 2)), now)
    reply = replies(actions)[-1]
    opens = idle_s * SECOND + PERIOD
    check_inside(reply, begun(actions, now, 0), opens, opens + 20 * MILLISECOND)
    assert reply.verdict is Verdict.DEFER


def test_a_window_that_is_asked_for_in_its_midst_after_idle_time_is_known_too() -> None:
    station = station_of(link("a-b", SHORT))
    opens = 1_000 * SECOND
    now = opens + 5 * MILLISECOND
    actions = both(station, arm("a-b", 5, (1, 2)), now)
    assert begun(actions, now, 0) == now
    reply = replies(actions)[-1]
    assert reply.opens_cycle == 0
    assert reply.closes_cycle * CYCLE * (PPM + 1) // PPM <= opens + 20 * MILLISECOND - WAY - now
    assert reply.closes_cycle * CYCLE > 14 * MILLISECOND


def test_a_link_that_is_wanted_for_long_without_a_click_keeps_its_windows() -> None:
    """4,000 windows, told by the station's own ticks; the clock begins again now and then."""
    station = station_of(link("a-b", SHORT))
    actions, now, began, clocks = both(station, arm("a-b", 5, (1, 2)), 1_000), 1_000, 0, 0
    for number in range(4_000):
        due = station.deadline
        assert due is not None
        assert due > now
        now, actions = due, step(station, TICK, due)
        clocks += begun(actions, now, -1) == now
        began = begun(actions, now, began)
        opens = now - now % PERIOD + PERIOD
        if told := replies(actions):
            check_inside(told[-1], began, opens, opens + 20 * MILLISECOND)
        elif number > 1:
            assert now % PERIOD == 0, "told when the one before is over, else only opened"
    assert 1 < clocks < 100


def test_a_night_longer_than_the_clock_is_good_for_tells_nothing_until_shortly_before_dawn() -> (
    None
):
    station = station_of(link("a-b", RARE))
    now = 2 * SECOND
    actions = both(station, arm("a-b", 5, (1, 2)), now)
    reply = replies(actions)[-1]
    assert (reply.verdict, reply.opens_cycle, reply.closes_cycle) == (Verdict.REFUSED, 0, 0)
    dawn = RARE.period_ns
    began = 0
    told: list[ArmReply] = []
    while not told:
        due = station.deadline
        assert due is not None
        assert now < due < dawn
        now, actions = due, step(station, TICK, due)
        began, told = begun(actions, now, began), replies(actions)
    assert now > dawn - 1_000 * SECOND
    assert [each.verdict for each in told] == [Verdict.DEFER] * 2
    check_inside(told[-1], began, dawn, dawn + SECOND)
    both(station, arm("a-b", 6, (told[-1].opens_cycle, told[-1].closes_cycle)), now)
    assert station.deadline == dawn
    assert commands(step(station, TICK, dawn), StationOpen)


@pytest.mark.parametrize("late_ns", [0, WAY, 3 * CYCLE + WAY])
def test_clicks_that_come_late_do_not_make_the_next_window_begin_early(late_ns: int) -> None:
    station = station_of(link("a-b", SHORT))
    told = replies(both(station, arm("a-b", 1, (1, 2)), 1_000))[-1]
    span = (told.opens_cycle, told.closes_cycle)
    (opening,) = commands(both(station, arm("a-b", 2, span), 2_000), StationOpen)
    clicks = parameters().settings[0].patterns[0].clicks
    seen = StationClicks("bsa", opening.command, "a-b", 1_000, 0, clicks, (), 0)
    step(station, seen, 1_000 * CYCLE + late_ns)
    told = replies(step(station, Exhausted("bsa", opening.command, 1), 20 * MILLISECOND))[-1]
    check_inside(told, 0, PERIOD, PERIOD + 20 * MILLISECOND)


def test_clicks_of_an_opening_before_the_clock_began_again_count_for_nothing() -> None:
    station: Station = station_of(link("a-b", SHORT))
    told = replies(both(station, arm("a-b", 1, (1, 2)), 1_000))[-1]
    span = (told.opens_cycle, told.closes_cycle)
    (opening,) = commands(both(station, arm("a-b", 2, span), 2_000), StationOpen)
    now, again = 2_000, False
    while not again and now < 60 * SECOND:
        due = station.deadline
        assert due is not None
        now, again = due, begun(step(station, TICK, due), due, -1) == due
    clicks = parameters().settings[0].patterns[0].clicks
    step(station, StationClicks("bsa", opening.command, "a-b", 1 << 40, 0, clicks, (), 0), now + 1)
    told = replies(both(station, arm("a-b", 3, (1, 2)), now + 2))[-1]
    opens = now - now % PERIOD + PERIOD
    check_inside(told, now, opens, opens + 20 * MILLISECOND)
    assert told.cycle < 10

"""Clocks that are wrong: exact arithmetic, and hosts that never fire early."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import ConfigError
from qstack.machine import TICK
from qstack.sim.clocks import NodeClock, RunningClock
from qstack.sim.heap import EventHeap, Wire
from qstack.units import SECOND, Chance
from tests.sim.heap_rig import Alarm, Talker

INSTANTS = st.integers(0, 10**15)
DRIFTS = st.integers(-(10**11), 10**11)
OFFSETS = st.integers(-(10**15), 10**15)


def shown(offset_ps: int, drift_ppt: int, since: int, now: int) -> int:
    """What a clock shows, in rational numbers."""
    rate = 1 + Fraction(drift_ppt, 10**12)
    exact = since + Fraction(offset_ps, 1_000) + (now - since) * rate
    return exact.numerator // exact.denominator


@given(OFFSETS, DRIFTS, INSTANTS, st.integers(0, 10**12))
def test_a_clock_shows_the_floor_of_the_exact_time(
    offset: int, drift: int, since: int, later: int
) -> None:
    clock = RunningClock(NodeClock(offset, drift), since)
    assert clock.local(since + later) == shown(offset, drift, since, since + later)


@given(OFFSETS, DRIFTS, DRIFTS, st.lists(st.integers(1, 10**9), min_size=2, max_size=2))
def test_the_true_instant_of_a_deadline_is_the_first_that_shows_it(
    offset: int, drift: int, other: int, spans: list[int]
) -> None:
    """Also after a change of rate, where the clock neither jumps nor forgets a fraction."""
    clock = RunningClock(NodeClock(offset, drift), 5)
    before = clock.local(spans[0])
    clock.drift(other, spans[0])
    assert clock.local(spans[0]) == before
    deadline = before + spans[1]
    due = clock.when(deadline)
    assert clock.local(due) >= deadline > clock.local(due - 1)


def test_a_host_is_ticked_at_the_first_instant_when_its_clock_shows_the_deadline() -> None:
    """1 ppm slow, a second ahead: a millisecond is over after 1,000,001.000001 ns, not before."""
    heap = EventHeap(Chance(1), Wire(1))
    host = Talker("host")
    heap.add("host", host, clock=NodeClock(1_000 * SECOND, -1_000_000))
    heap.post("host", Alarm(SECOND + 1_000_000))
    heap.run()
    ticks = [now for now, event in host.seen if event is TICK]
    assert ticks == [SECOND + 1_000_000]
    assert heap.now == 1_000_002


def test_a_wake_up_that_waits_moves_when_the_clock_begins_to_run_faster() -> None:
    """Ten seconds to go; after one true second the clock runs at twice the rate."""
    heap = EventHeap(Chance(1), Wire(1))
    host = Talker("host")
    heap.add("host", host)
    heap.post("host", Alarm(10 * SECOND))
    heap.call(SECOND, lambda: heap.set_drift("host", 10**12))
    ticks: list[tuple[int, int]] = []
    heap.watch = lambda name, event, now, actions: (
        ticks.append((now, heap.now)) if event is TICK else None
    )
    heap.run()
    assert ticks == [(10 * SECOND, SECOND + 9 * SECOND // 2)]
    assert heap.entries == 2, "the wake-up that came to nothing is no entry"


@pytest.mark.parametrize("clock", [NodeClock(drift_ppt=-(10**12)), NodeClock(timing_ppt=-(10**13))])
def test_a_clock_that_stands_still_is_refused(clock: NodeClock) -> None:
    heap = EventHeap(Chance(1), Wire(1))
    with pytest.raises(ConfigError, match="runs forward"):
        heap.add("host", Talker("host"), clock=clock)

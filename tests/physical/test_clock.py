"""The count of cycles at a station: never behind the hardware, and never waiting for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qstack.physical.clock import LinkClock

CYCLE = 10_000
MARGIN = 1_000_000
WAYS = st.integers(0, 50_000_000)


def test_a_slow_start_is_not_waited_for_once_a_click_has_told_where_the_hardware_stands() -> None:
    """The hardware begins at 0.9 ms; its Completed takes another 4 ms; then a click comes."""
    clock = LinkClock(CYCLE, MARGIN)
    clock.start(1, 0)
    clock.completed(4_900_000)
    # Cycle 500 begins at 5.9 ms; its click arrives 80 us later.
    assert clock.reached(5_980_000) == 108
    clock.heard(500, 5_980_000)  # by a station that does not say how old the click is
    # Cycle 600 begins at 6.9 ms; known within the click's way of eight cycles.
    assert clock.reached(6_900_000) == 592
    assert clock.cycle(6_900_000) == 690


@given(
    begin=WAYS, way=WAYS, clicks=st.lists(st.tuples(st.integers(0, 10_000), WAYS)), after_ns=WAYS
)
def test_the_hardware_lies_between_what_is_reached_and_the_cycle_that_is_told(
    begin: int, way: int, clicks: list[tuple[int, int]], after_ns: int
) -> None:
    clock = LinkClock(CYCLE, MARGIN)
    clock.start(1, 0)
    clock.completed(begin + way)
    now = begin + way
    for cycle, click_way in sorted(clicks):
        now = max(now, begin + cycle * CYCLE + click_way)
        clock.heard(cycle, now)
    now += after_ns
    assert clock.reached(now) <= (now - begin) // CYCLE <= clock.cycle(now)

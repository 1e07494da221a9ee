"""The station's count of cycles against a hardware that counts by another oscillator."""

from __future__ import annotations

import pytest

from qstack.physical.clock import LinkClock
from qstack.units import SECOND, Duration

CYCLE, MARGIN = 10_000, 5_000_000


def started() -> LinkClock:
    clock = LinkClock(CYCLE, MARGIN)
    clock.start(1, 1_000)
    clock.completed(3_000)
    return clock


def hardware(now: int, ppm: int) -> int:
    """The cycle of a hardware that began at 2,000 and is this much slower than the computer."""
    return (now - 2_000) * (1_000_000 - ppm) // 1_000_000 // CYCLE


@pytest.mark.parametrize("ppm", [-100, 0, 100])
@pytest.mark.parametrize("every_ns", [SECOND // 50, SECOND, 90 * SECOND])
def test_no_click_comes_late_however_long_the_oscillators_drift_apart(
    ppm: int, every_ns: Duration
) -> None:
    """500 clicks; between them the station says what is decided a hundred times."""
    clock = started()
    now = 3_000
    for _ in range(500):
        for _ in range(100):
            now += every_ns // 100
            assert clock.announce(now, None) < hardware(now, ppm)
        assert clock.heard(hardware(now, ppm), now)


def test_idle_cycles_are_decided_a_margin_later_that_grows_with_the_time_without_a_click() -> None:
    """Counted from the completion at 3,000; 5 ms, and a five thousandth of the time."""
    clock = started()
    assert clock.announce(3_000 + MARGIN - 1, None) == -1
    assert clock.announce(3_000 + 10 * SECOND, None) == 10 * 100_000 - 500 - 200


def test_a_click_shows_anew_when_the_hardware_began() -> None:
    """Cycle 70 seen at 1,000,000, so cycle 0 began at 300,000 at the latest."""
    clock = started()
    clock.heard(70, 1_000_000)
    assert clock.announce(300_000 + MARGIN + 100 * CYCLE + 2_000, None) == 100

"""What an end tells of its link's periods while its clock and the station's drift apart."""

from __future__ import annotations

import pytest

from qstack.physical.opening import Opening
from qstack.units import SECOND
from tests.physical.test_windows_of_a_link import (
    DAY,
    PERIOD,
    arm,
    both,
    change,
    link,
    replies,
    station_of,
)


@pytest.mark.parametrize("ppm", [-50, 50])
def test_what_is_told_of_periods_follows_slow_drift(ppm: int) -> None:
    """2,000 s at 50 ppm are a whole period; what counts is the latest that was told."""
    parameters = link("a-b", DAY)
    tolerance = parameters.confirm_ns
    word = replies(both(station_of(parameters), arm("a-b", 5, (1, 2)), 1_000))[-1]
    opening, last, told = Opening(parameters, DAY), 0, 0
    for now in range(SECOND, 2_001 * SECOND, SECOND):
        phase = now * (1_000_000 + ppm) // 1_000_000 % PERIOD
        seen = opening.told(change(word, phase_ns=phase), answers=True, now=now)
        if seen is not None:
            last, told = seen.began, told + 1
        off = (now - phase - last + PERIOD // 2) % PERIOD - PERIOD // 2
        assert abs(off) <= 2 * tolerance
    assert 1 < told <= 2 * PERIOD // tolerance

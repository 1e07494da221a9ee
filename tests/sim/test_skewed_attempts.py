"""Timing that is wrong, in attempts that are skipped ahead and in those that are not.

Trapped ions under a polarisation Bell measurement: success eta_a eta_b / 2, of which early photons
miss all but exp(-d/T), and visibility V exp(-|d|/T). A detector with a dead time of 1 ns and no
gap between its windows is followed click by click, and practically never blind.
Statistical tests: fixed seeds, 4 standard errors (false alarm 6e-5 each).
"""

from __future__ import annotations

from math import exp, sqrt
from typing import Any

import pytest

from qstack.messages.common import PLAIN_Z
from qstack.messages.devices import StationClicks, StationClock, StationOpen
from qstack.sim.devices import AnalyserParameters, DetectorParameters, TrappedIonParameters
from qstack.sim.states import fidelity
from qstack.sim.world import Retime, link_optics
from qstack.sim.world.peek import pair_state
from qstack.units import Instant
from tests.sim.test_counts import counts
from tests.sim.worlds import LONG, POLARISATION, WINDOW_PS, A, B, Driver, Layout, make_pair

ETA = 0.8
LIFETIME_PS = 500
CYCLE_NS = 1_000
MODES = 4

SKIPPED = DetectorParameters(1.0)
FOLLOWED = DetectorParameters(1.0, dead_ns=1)
BOTH = pytest.mark.parametrize("detector", [SKIPPED, FOLLOWED], ids=["skipped", "followed"])


def ion(efficiency: float) -> TrappedIonParameters:
    return TrappedIonParameters(efficiency, lifetime_ps=LIFETIME_PS, prepare_ns=100)


def layout(detector: DetectorParameters, **changes: Any) -> Layout:
    return Layout(emitter=ion(ETA), detector=detector, analyser=POLARISATION, **changes)


def measuring(made: Layout, seed: int) -> Driver:
    driver = Driver(made.parameters(), seed)
    driver.open(MODES, CYCLE_NS)
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG)
    return driver


def heralded(driver: Driver, until: Instant) -> tuple[int, int]:
    """Return attempts and heralds up to an instant."""
    driver.run_until(until)
    told = counts(driver)
    return told.attempts, sum(count for _, count in told.heralds)


def near(found: int, tries: int, p: float) -> bool:
    return abs(found - tries * p) < 4 * sqrt(tries * p * (1 - p))


@BOTH
def test_timing_that_jumps_while_attempts_run_changes_the_rest_and_nothing_before(
    detector: DetectorParameters,
) -> None:
    """4,000 cycles of 4 modes in time, as many with one end early by a lifetime, and in time again.

    Nobody is armed or opened anew.
    """
    driver = measuring(layout(detector), seed=41)
    attempts = heralds = 0
    for part, (ahead, share) in enumerate(((0, 1.0), (LIFETIME_PS, exp(-1)), (0, 1.0)), 1):
        driver.event(Retime("bob", ahead, 0))
        before = attempts, heralds
        attempts, heralds = heralded(driver, part * 4_000 * CYCLE_NS)
        tried = attempts - before[0]
        assert tried == 4_000 * MODES
        assert near(heralds - before[1], tried, ETA**2 / 2 * share)


@BOTH
def test_a_mode_whose_next_success_was_far_away_feels_a_jump_at_once(
    detector: DetectorParameters,
) -> None:
    """Nothing is seen while one end is 100 lifetimes early: next successes are 1e43 cycles away."""
    driver = measuring(layout(detector), seed=42)
    driver.event(Retime("alice", 100 * LIFETIME_PS, 0))
    driver.run_until(500 * CYCLE_NS)
    # Nobody asked: the world has yet to decide these cycles, by what held while they began.
    driver.event(Retime("alice", 0, 0))
    attempts, heralds = heralded(driver, 2_500 * CYCLE_NS)
    assert near(heralds, attempts - 500 * MODES, ETA**2 / 2)


@BOTH
def test_drifting_timing_is_followed_whichever_way_attempts_are_decided(
    detector: DetectorParameters,
) -> None:
    """From in time to two lifetimes early in 8 ms: the mean of exp(-x) over 0..2.

    32,000 attempts; the binomial error of the mean is a bound for what varies. Steps of 10 ps of
    1,000 ps are an error of 2e-5 of it.
    """
    driver = measuring(layout(detector), seed=43)
    span = 8_000 * CYCLE_NS
    driver.event(Retime("bob", 0, 2 * LIFETIME_PS * 10**9 // span))
    attempts, heralds = heralded(driver, span)
    assert attempts == 8_000 * MODES
    assert near(heralds, attempts, ETA**2 / 2 * (1 - exp(-2)) / 2)


@BOTH
@pytest.mark.parametrize("ahead", [-LIFETIME_PS // 2, LIFETIME_PS])
def test_visibility_of_the_setting_and_of_photons_apart_multiply(
    detector: DetectorParameters, ahead: int
) -> None:
    """F = (1 + V exp(-|d|/T)) / 2, with the V of the setting and not the analyser's own, 1."""
    driver = Driver(layout(detector).parameters(), seed=44)
    driver.send(StationClock, "analyser", "link", CYCLE_NS)
    values = (("visibility", 0.75),)
    driver.send(StationOpen, "analyser", "link", values, 0, LONG, MODES, WINDOW_PS, False)
    visibility = 0.75 * exp(-abs(ahead) / LIFETIME_PS)
    for slot in range(3):
        driver.event(Retime("bob", ahead if slot else 0, 0))
        bell = make_pair(driver, slot)
        state = pair_state(driver.world, (A[0], slot), (B[0], slot), driver.now)
        found = fidelity(state, bell)
        expected = visibility if slot else 0.75
        assert found == pytest.approx((1 + expected) / 2, abs=1e-9)


@BOTH
def test_clicks_of_late_photons_are_late(detector: DetectorParameters) -> None:
    """Both ends 30 lifetimes late: what comes then is exponential with mean T."""
    late = 30 * LIFETIME_PS
    driver = measuring(layout(detector), seed=45)
    for end in ("alice", "bob"):
        driver.event(Retime(end, -late, 0))
    driver.run_until(4_000 * CYCLE_NS)
    tags = [tag for clicks in driver.of(StationClicks) for tag in clicks.tags_ps]
    assert len(tags) > 5_000
    assert min(tags) >= late
    mean = sum(tags) / len(tags) - late
    assert mean == pytest.approx(LIFETIME_PS, abs=4 * LIFETIME_PS / sqrt(len(tags)))


def test_singles_are_still_counted_when_tables_of_drifting_timing_were_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One bright end that drifts, one dark: each of four detectors has a quarter of what is seen.

    Tables are forgotten after 16, some six times, and nobody asks before the end; the bright end's
    photons are seen with the mean of exp(-x) over 0..2.
    """
    monkeypatch.setattr(link_optics, "KEPT_TABLES", 16)
    analyser = AnalyserParameters("polarisation", "detector")
    made = Layout(emitter=ion(ETA), other=ion(0.0), detector=SKIPPED, analyser=analyser)
    driver = measuring(made, seed=46)
    span = 8_000 * CYCLE_NS
    driver.event(Retime("alice", 0, 2 * LIFETIME_PS * 10**9 // span))
    driver.run_until(span)
    told = counts(driver)
    assert told.attempts == 8_000 * MODES
    assert len(driver.world._hall.links["link"].optics.counts.odds) <= 16
    for single in told.singles:
        assert near(single, told.attempts, ETA * (1 - exp(-2)) / 2 / 4)

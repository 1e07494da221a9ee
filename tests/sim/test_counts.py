"""Counters of a link: attempts, singles, heralds; singles are drawn only when somebody asks.

Statistical tests: fixed seeds, 4 standard errors (false alarm 6e-5 each).
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from qstack.messages.common import PLAIN_Z
from qstack.messages.devices import Rejected, StationClicks, StationCount, StationCounts
from qstack.sim.devices import ColourCentreParameters, DetectorParameters
from qstack.sim.heralding import AnalyserOptics, ArmOptics, dark_probability, table_for
from tests.sim.test_skip_ahead import DARK_HZ, SCHEMES, VISIBILITY, layout
from tests.sim.worlds import CYCLE, LONG, WINDOW_PS, Driver, Layout

DETECTORS = {"single-click": 2, "polarisation": 4, "barrett-kok": 4}


def counts(driver: Driver) -> StationCounts:
    driver.send(StationCount, "analyser", "link")
    return driver.of(StationCounts)[-1]


def measuring(made: Layout, seed: int, modes: int = 1) -> Driver:
    driver = Driver(made.parameters(), seed)
    driver.open(modes)
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG)
    return driver


def probability(measurement: str, detector: int) -> float:
    """That a detector clicks in an attempt, herald or not."""
    arm = ArmOptics(SCHEMES[measurement], 0.5)
    optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
    table = table_for(measurement, arm, arm, optics)
    return sum(o.probability for o in table.outcomes if o.clicks >> detector & 1)


@pytest.mark.parametrize("measurement", DETECTORS)
def test_singles_of_a_skipped_batch_are_those_of_its_attempts(measurement: str) -> None:
    """4,000 cycles of 4 modes; each detector's count is binomial, all attempts told once."""
    driver = measuring(layout(measurement), seed=31, modes=4)
    driver.run_until(4_000 * CYCLE)
    told = counts(driver)
    assert told.attempts == driver.world.attempted("link") == 16_000
    assert len(told.singles) == DETECTORS[measurement]
    assert dict(told.heralds) == driver.world.heralded("link")
    for detector, count in enumerate(told.singles):
        p = probability(measurement, detector)
        assert abs(count - 16_000 * p) < 4 * sqrt(16_000 * p * (1 - p)), detector


def test_singles_vary_as_those_of_single_attempts_do_whenever_they_are_asked_for() -> None:
    """400 runs of 200 attempts, asked for three times under way: binomial mean and variance.

    With two-photon heralds nearly all clicks are of failures. The variance of a sample variance of
    N near-normal values is 2 s^4 / (N - 1).
    """
    totals = []
    for seed in range(400):
        driver = measuring(layout("polarisation", 0.3), seed)
        for part in (1, 2, 3):
            driver.run_until(part * 50 * CYCLE)
            counts(driver)
        driver.run_until(200 * CYCLE)
        told = counts(driver)
        assert told.attempts == 200
        totals.append(told.singles[0])
    arm = ArmOptics(0.3, 0.5)
    optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
    table = table_for("polarisation", arm, arm, optics)
    p = sum(o.probability for o in table.outcomes if o.clicks & 1)
    variance = 200 * p * (1 - p)
    assert abs(np.mean(totals) - 200 * p) < 4 * sqrt(variance / 400)
    assert abs(np.var(totals, ddof=1) - variance) < 4 * variance * sqrt(2 / 399)


def test_singles_and_heralds_belong_together() -> None:
    """One photon, perfect detectors: a detector clicks alone in a herald, or with the other.

    Without dark counts, double excitation or a second photon there is no other click: with one
    dark end each click is a herald.
    """
    bright = ColourCentreParameters(0.3, alpha=0.5, lifetime_ps=0, prepare_ns=1_000)
    dark = ColourCentreParameters(0.0, alpha=0.5, lifetime_ps=0, prepare_ns=1_000)
    driver = measuring(Layout(emitter=bright, other=dark), seed=33)
    driver.run_until(5_000 * CYCLE)
    told = counts(driver)
    assert told.singles == (dict(told.heralds)[0b01], dict(told.heralds)[0b10])
    assert sum(told.singles) > 500


def test_asking_changes_nothing_that_happens() -> None:
    """The same seed with and without questions: the same clicks."""
    seen = []
    for questions in (0, 7):
        driver = measuring(layout("polarisation"), seed=34, modes=2)
        for part in range(1, 101):
            driver.run_until(part * 10 * CYCLE + 3_333)
            if questions and part % questions == 0:
                counts(driver)
        seen.append(driver.of(StationClicks))
    assert len(seen[0]) > 100
    assert seen[0] == seen[1]


def test_a_million_million_attempts_are_counted_in_one_step() -> None:
    """At a success probability near 1e-15 nothing wakes the world for 10^12 cycles.

    Dark clicks of 1e-7 a window: 1e5 singles, binomial.
    """
    made = Layout(
        emitter=ColourCentreParameters(0.0, lifetime_ps=0, prepare_ns=1_000),
        detector=DetectorParameters(1.0, dark_hz=0.1),
    )
    made.analyser = layout("polarisation").analyser
    made.emitter = layout("polarisation", 0.0).emitter
    driver = measuring(made, seed=35)
    steps = 0
    while (deadline := driver.world.deadline) is not None and deadline <= CYCLE * 10**12:
        driver.next_events()
        steps += 1
    driver.now = CYCLE * 10**12
    told = counts(driver)
    assert steps < 20
    assert told.attempts == 10**12
    for count in told.singles:
        assert abs(count - 1e5) < 4 * sqrt(1e5)


def test_counters_of_a_link_that_is_not_the_analysers_are_refused() -> None:
    driver = measuring(layout("single-click"), seed=36)
    driver.send(StationCount, "analyser", "nowhere")
    assert isinstance(driver.seen[-1][2], Rejected)
    driver.send(StationCount, "emitter-a", "link")
    assert isinstance(driver.seen[-1][2], Rejected)

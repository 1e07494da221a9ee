"""The skip-ahead against independent attempt-by-attempt sampling and closed forms.

False alarms: 1e-6 per chi-square test, 4 standard errors (6e-5) elsewhere; seeds are fixed.
"""

from __future__ import annotations

from functools import cache
from math import sqrt

import numpy as np
import pytest

from qstack.messages.common import PLAIN_Z, Basis, BasisPlan, BasisSet
from qstack.messages.devices import Abort, EmitterHeralded, EmitterOutcome, Exhausted, StationClicks
from qstack.sim.channels import LossProcess
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    TrappedIonParameters,
)
from qstack.sim.heralding import (
    HERALDS,
    AnalyserOptics,
    ArmOptics,
    dark_probability,
    table_for,
)
from qstack.sim.states import axis_projector, plan_axis
from tests.sim.worlds import CYCLE, LONG, RANDOM_XYZ, WINDOW_PS, Driver, Layout

DARK_HZ = 100.0
VISIBILITY = 0.9
SCHEMES = {"single-click": 0.95, "polarisation": 0.95, "barrett-kok": 0.95}
"""Efficiency of an arm, by measurement."""

MODES = {"single-click": 2, "polarisation": 8, "barrett-kok": 5}
ALPHA = {"single-click": 0.5, "polarisation": 0.5, "barrett-kok": 0.5}

CYCLES = {"single-click": 143_000, "polarisation": 79_000, "barrett-kok": 126_000}
SAMPLER = 10
"""How many times larger the attempt-by-attempt sample is."""

# Power. A relative error e of an outcome of probability q per attempt gives the two-sample
# chi-square a noncentrality of at least L = n q e^2 / (1 + 1/10) for n attempts in the world and
# 10 n in the sampler. Outcomes below 1 % per attempt are pooled; then there are at most f = 9
# degrees of freedom, the critical value c of a false-alarm rate of 1e-6 is 46.0, and power 0.99
# needs (normal approximation) f + L - 2.33 sqrt(2 (f + 2 L)) > c, that is L > 80: for e = 0.05,
# n > 80 * 1.1 / (0.0025 q). `test_sample_sizes_give_the_promised_power` checks the figures.


def layout(measurement: str, efficiency: float | None = None) -> Layout:
    reach = SCHEMES[measurement] if efficiency is None else efficiency
    emitter = (
        ColourCentreParameters(reach, alpha=ALPHA[measurement], lifetime_ps=0, prepare_ns=1_000)
        if measurement == "single-click"
        else TrappedIonParameters(reach, lifetime_ps=0, prepare_ns=1_000)
    )
    return Layout(
        emitter=emitter,
        detector=DetectorParameters(1.0, dark_hz=DARK_HZ),
        analyser=AnalyserParameters(measurement, "detector", visibility=VISIBILITY),
    )


def probabilities(measurement: str) -> dict[tuple[int, int, int], float]:
    """Exact: (pattern, outcome of A along Z, of B) to probability per attempt."""
    arm = ArmOptics(SCHEMES[measurement], ALPHA[measurement])
    optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
    table = table_for(measurement, arm, arm, optics)
    found = {}
    for clicks in HERALDS[measurement]:
        outcome = table.outcome(clicks)
        for bits, population in enumerate(np.diagonal(outcome.state).real):
            found[clicks, bits >> 1, bits & 1] = outcome.probability * float(population)
    return found


@cache
def from_world(measurement: str) -> dict[tuple[int, int, int], int]:
    """Counts of (pattern, A, B) in all attempts of CYCLES cycles; (0, 0, 0): failures."""
    driver = Driver(layout(measurement).parameters(), seed=5)
    driver.open(MODES[measurement])
    cycles = CYCLES[measurement]
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG, cycles=cycles)
    counts: dict[tuple[int, int, int], int] = {}
    ended = 0
    while ended < 2:
        driver.seen.clear()
        driver.run_until(driver.now + 500 * CYCLE)
        ended += len(driver.of(Exhausted))
        # All reports of a cycle come before the next begins, so no attempt is cut in two.
        outcomes: dict[str, dict[tuple[int, int], int]] = {"emitter-a": {}, "emitter-b": {}}
        for event in driver.of(EmitterOutcome):
            outcomes[event.device][event.cycle, event.mode] = event.outcome
        for clicks in driver.of(StationClicks):
            where = (clicks.cycle, clicks.mode)
            key = (clicks.clicks, outcomes["emitter-a"][where], outcomes["emitter-b"][where])
            counts[key] = counts.get(key, 0) + 1
    assert driver.world.attempted("link") == cycles * MODES[measurement]
    counts[0, 0, 0] = cycles * MODES[measurement] - sum(counts.values())
    return counts


def one_by_one(
    measurement: str, seed: int, planted: float = 1.0
) -> dict[tuple[int, int, int], int]:
    """Draw every attempt for itself; `planted` multiplies the rarest outcome above 1 %."""
    exact = probabilities(measurement)
    rarest = min((p, key) for key, p in exact.items() if p > 0.01)[1]
    exact[rarest] *= planted
    keys = [*exact, (0, 0, 0)]
    shares = np.array([*exact.values(), 1 - sum(exact.values())])
    attempts = SAMPLER * CYCLES[measurement] * MODES[measurement]
    edges = np.cumsum(shares)
    drawn = np.searchsorted(edges, np.random.default_rng(seed).random(attempts) * edges[-1])
    return dict(zip(keys, np.bincount(drawn, minlength=len(keys)).tolist(), strict=True))


def two_sample(
    one: dict[tuple[int, int, int], int], other: dict[tuple[int, int, int], int]
) -> tuple[float, int]:
    """Chi-square of two samples and its degrees of freedom; rare categories are pooled."""
    total = [sum(one.values()), sum(other.values())]
    rows, rare = [], [0, 0]
    for key in sorted(set(one) | set(other)):
        row = [one.get(key, 0), other.get(key, 0)]
        if sum(row) < 0.01 * sum(total):
            rare = [rare[0] + row[0], rare[1] + row[1]]
        else:
            rows.append(row)
    if sum(rare) >= 50:
        rows.append(rare)
    statistic = 0.0
    for row in rows:
        for count, size in zip(row, total, strict=True):
            expected = sum(row) * size / sum(total)
            statistic += (count - expected) ** 2 / expected
    return statistic, len(rows) - 1


def critical(freedom: int, normal: float = 4.7534) -> float:
    """The chi-square value exceeded with probability 1e-6 (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return freedom * float((1 - spread + normal * sqrt(spread)) ** 3)


@pytest.mark.parametrize("measurement", SCHEMES)
def test_skip_ahead_is_indistinguishable_from_drawing_every_attempt(measurement: str) -> None:
    statistic, freedom = two_sample(from_world(measurement), one_by_one(measurement, seed=11))
    assert statistic < critical(freedom)


@pytest.mark.parametrize("measurement", SCHEMES)
def test_an_error_of_five_percent_in_one_outcome_is_caught(measurement: str) -> None:
    planted = one_by_one(measurement, seed=12, planted=1.05)
    statistic, freedom = two_sample(from_world(measurement), planted)
    assert statistic > critical(freedom)


@pytest.mark.parametrize("measurement", SCHEMES)
def test_sample_sizes_give_the_promised_power(measurement: str) -> None:
    exact = probabilities(measurement).values()
    rarest = min(p for p in exact if p > 0.01)
    attempts = CYCLES[measurement] * MODES[measurement]
    noncentrality = attempts * rarest * 0.05**2 / (1 + 1 / SAMPLER)
    freedom = sum(1 for p in exact if p > 0.01) + 1
    mean, spread = freedom + noncentrality, sqrt(2 * (freedom + 2 * noncentrality))
    assert mean - 2.33 * spread > critical(freedom)


@pytest.mark.parametrize("measurement", SCHEMES)
def test_every_pattern_leaves_its_own_joint_state(measurement: str) -> None:
    """2,000 pairs, random Pauli axes; each mean of a product of outcomes within 4 errors.

    At most 36 means are compared, so the false-alarm rate is below 36 * 6e-5 = 0.2 %.
    """
    driver = Driver(layout(measurement).parameters(), seed=21)
    driver.open()
    for end in "ab":
        driver.measure_at_once(end, RANDOM_XYZ, 2_000)
    seen: dict[tuple[int, Basis, Basis], list[int]] = {}
    for _ in range(2_000):
        driver.wait_for(EmitterOutcome, 2)
    patterns = {e.cycle: e.clicks for e in driver.of(StationClicks)}
    others = {e.cycle: e for e in driver.of(EmitterOutcome) if e.device == "emitter-b"}
    for event in driver.of(EmitterOutcome):
        if event.device == "emitter-a":
            other = others[event.cycle]
            key = (patterns[event.cycle], event.basis, other.basis)
            seen.setdefault(key, []).append((-1) ** (event.outcome ^ other.outcome))
    arm = ArmOptics(SCHEMES[measurement], ALPHA[measurement])
    optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
    table = table_for(measurement, arm, arm, optics)
    plain = BasisPlan(BasisSet.NONE, 0, 0, 0, 0, 0)
    assert sum(len(values) for values in seen.values()) == 2_000
    for (clicks, basis_a, basis_b), products in seen.items():
        sides = [
            axis_projector(plan_axis(plain, basis), 0) - axis_projector(plan_axis(plain, basis), 1)
            for basis in (basis_a, basis_b)
        ]
        exact = float(np.trace(np.kron(*sides) @ table.outcome(clicks).state).real)
        error = sqrt(max(1 - exact**2, 1 / len(products)) / len(products))
        assert abs(np.mean(products) - exact) < 4 * error, (clicks, basis_a, basis_b)


def test_waiting_times_are_geometric_at_every_probability() -> None:
    """4,000 pairs each; mean within 4 sqrt(q) / (p sqrt(N)), median share within 4 errors."""
    for efficiency in (0.5, 1e-2, 1e-6):
        driver = Driver(layout("single-click", efficiency).parameters(), seed=3)
        driver.open()
        for end in "ab":
            driver.measure_at_once(end, PLAIN_Z, 4_000)
        arm = ArmOptics(efficiency, ALPHA["single-click"])
        optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
        p = table_for("single-click", arm, arm, optics).success((1, 2))
        while len(driver.of(StationClicks)) < 4_000:
            driver.run_until(driver.now + round(CYCLE * 5_000 / p))
        cycles = [0] + [e.cycle for e in driver.of(StationClicks)]
        waits = np.diff(cycles)
        assert waits.min() >= 1
        assert abs(waits.mean() - 1 / p) < 4 * sqrt(1 - p) / p / sqrt(4_000)
        limit = max(1, round(0.5 / p))
        share = 1 - (1 - p) ** limit
        measured = np.mean(waits <= limit)
        assert abs(measured - share) < 4 * sqrt(share * (1 - share) / 4_000)
        assert driver.world.attempted("link") == cycles[-1]


def test_k_modes_succeed_in_a_cycle_with_one_minus_failure_to_the_k() -> None:
    """20,000 cycles of five modes; 4 binomial errors."""
    driver = Driver(layout("single-click", 0.1).parameters(), seed=8)
    driver.open(modes=5)
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG, cycles=20_000)
    driver.run_until(20_010 * CYCLE)
    arm = ArmOptics(0.1, ALPHA["single-click"])
    optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
    p = table_for("single-click", arm, arm, optics).success((1, 2))
    any_of_five = 1 - (1 - p) ** 5
    cycles = {event.cycle for event in driver.of(StationClicks)}
    error = sqrt(any_of_five * (1 - any_of_five) / 20_000)
    assert abs(len(cycles) / 20_000 - any_of_five) < 4 * error
    total = len(driver.of(StationClicks))
    assert abs(total / 100_000 - p) < 4 * sqrt(p * (1 - p) / 100_000)


def test_modes_with_different_settings_succeed_each_with_its_own_probability() -> None:
    """6,000 armings of two slots at two working points; 4 binomial errors each."""
    driver = Driver(layout("single-click", 0.2).parameters(), seed=9)
    driver.open(modes=2)
    settings = ((("alpha", 0.1),), (("alpha", 0.4),))
    cycles, hits = 0, [0, 0]
    for _ in range(6_000):
        commands = [
            driver.arm(end, slot, settings[slot], cycles=1) for end in "ab" for slot in (0, 1)
        ]
        ends: list[object] = []
        while len(ends) < 4:
            ends += [
                e
                for e in driver.next_events()
                if isinstance(e, EmitterHeralded | Exhausted) and e.command in commands
            ]
        cycles += 1
        for event in ends:
            if isinstance(event, EmitterHeralded) and event.device == "emitter-a":
                hits[event.slot] += 1
    for slot, alpha in enumerate((0.1, 0.4)):
        arm = ArmOptics(0.2, alpha)
        optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
        p = table_for("single-click", arm, arm, optics).success((1, 2))
        assert abs(hits[slot] / cycles - p) < 4 * sqrt(p * (1 - p) / cycles)
    assert driver.world.attempted("link") == 2 * cycles


def test_changes_between_cycles_bias_nothing() -> None:
    """An arm that comes and goes every third cycle forces redraws; 30,000 cycles, 4 errors."""
    driver = Driver(layout("single-click", 0.1).parameters(), seed=10)
    driver.open(modes=2)
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG)
    for _ in range(10_000):
        bystander = driver.arm("a", 3)
        driver.run_until(driver.now + 3 * CYCLE)
        driver.send(Abort, "emitter-a", bystander)
    arm = ArmOptics(0.1, ALPHA["single-click"])
    optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
    p = table_for("single-click", arm, arm, optics).success((1, 2))
    attempts = driver.world.attempted("link")
    assert attempts == 2 * 30_000
    hits = sum(driver.world.heralded("link").values())
    assert abs(hits / attempts - p) < 4 * sqrt(p * (1 - p) / attempts)


def test_rate_follows_a_loss_that_wanders() -> None:
    """Expected successes: the sum over pieces of the exact probability; 4 Poisson errors.

    A loss of 3 dB r.m.s. that forgets itself in 8 ms, over 4 s: 4,000 pieces, about 10^4 pairs.
    """
    wander = LossProcess(6.0, 3.0, 8_000_000, "wander")
    made = layout("single-click", 0.1)
    made.wander = wander
    driver = Driver(made.parameters(), seed=13)
    driver.open()
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG)
    driver.run_until(4_000_000_000)
    optics = AnalyserOptics(VISIBILITY, dark_probability(DARK_HZ, WINDOW_PS))
    expected = 0.0
    other = ArmOptics(0.1, ALPHA["single-click"])
    for piece in range(4_000):
        loss = wander.loss_db(piece * 1_000_000 + 500_000)
        arm = ArmOptics(round(0.1 * 10 ** (-loss / 10), 6), ALPHA["single-click"])
        expected += 100 * table_for("single-click", arm, other, optics).success((1, 2))
    hits = sum(driver.world.heralded("link").values())
    assert abs(hits - expected) < 4 * sqrt(expected) + 0.005 * expected
    assert driver.world.attempted("link") == 400_000

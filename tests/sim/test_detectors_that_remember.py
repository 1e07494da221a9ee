"""Dead time and afterpulses against closed forms and an exact Markov chain.

Statistical tests: fixed seeds, 4 standard errors (false alarm 6e-5) or a chi-square at 1e-6.
"""

from __future__ import annotations

from itertools import product
from math import exp, sqrt

import numpy as np
import pytest

from qstack.messages.common import PLAIN_Z
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    NumberResolvingParameters,
)
from qstack.sim.heralding import AnalyserOptics, ArmOptics, table_for
from qstack.sim.world.link_optics import LinkOptics
from qstack.sim.world.recovery import Detector, Eyes, gap_ps, memory_of
from qstack.units import Chance
from tests.sim.test_skip_ahead import critical, layout, one_by_one, two_sample
from tests.sim.worlds import LONG, WINDOW_PS, Driver, Layout

US = 1_000_000  # picoseconds


def windows_missed(dead_ns: int, windows: int = 20) -> int:
    """How many windows of 10 us a detector misses after a click at the front of the first."""
    detector = Detector(DetectorParameters(1.0, dead_ns=dead_ns), Chance(1))
    seen = [detector.look(w * 10 * US, US, 0)[1] for w in range(windows)]
    assert seen[0] == 1
    return seen[1:].index(1)


def test_a_dead_time_of_so_many_cycles_misses_so_many_windows() -> None:
    assert windows_missed(0) == 0
    assert windows_missed(9_999) == 0
    assert windows_missed(10_000) == 0
    assert windows_missed(10_001) == 1
    assert windows_missed(35_000) == 3


def test_a_missed_photon_does_not_prolong_the_dead_time() -> None:
    """Non-paralysable: light in every window, one click in four."""
    detector = Detector(DetectorParameters(1.0, dead_ns=35_000), Chance(1))
    seen = [detector.look(w * 10 * US, US, 0)[1] for w in range(40)]
    assert seen == [1, 0, 0, 0] * 10


def test_a_click_late_in_a_window_blinds_for_longer() -> None:
    """From 0.9 us into a window, 9.2 us of dead time reach 0.1 us into the next."""
    detector = Detector(DetectorParameters(1.0, dead_ns=9_200), Chance(1))
    assert detector.look(0, US, 900_000)[1] == 1
    assert detector.look(10 * US, US, 99_999)[1] == 0
    detector = Detector(DetectorParameters(1.0, dead_ns=9_200), Chance(1))
    detector.look(0, US, 900_000)
    assert detector.look(10 * US, US, 100_000)[:2] == (100_000, 1)


def test_singles_under_dead_time_follow_n_over_one_plus_n_tau() -> None:
    """Dead for k = 3 further windows: q / (1 + k q) per attempt, for q of the live detector.

    20,000 cycles. Variance of the count of a renewal process: n sigma^2 / mu^3.
    """
    k, cycles = 3, 20_000
    made = Layout(
        emitter=ColourCentreParameters(0.6, alpha=0.5, lifetime_ps=0, prepare_ns=1_000),
        detector=DetectorParameters(1.0, dead_ns=35_000),
    )
    attempts, singles, _ = measure(made, cycles)
    arm = ArmOptics(0.6, 0.5)
    table = table_for("single-click", arm, arm, AnalyserOptics())
    q = table.success((0b01, 0b11))
    mean, variance = k + 1 / q, (1 - q) / q**2
    assert attempts == cycles
    for count in singles:
        assert abs(count - cycles / mean) < 4 * sqrt(cycles * variance / mean**3)
        assert abs(count - cycles * q) > 40 * sqrt(cycles * variance / mean**3)


def measure(made: Layout, cycles: int) -> tuple[int, tuple[int, ...], dict[int, int]]:
    """Measure at once for so many cycles of 10 us; returns what the link counted."""
    driver = Driver(made.parameters(), seed=5)
    driver.open()
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG, cycles=cycles)
    driver.run_until((cycles + 10) * 10_000)
    return driver.world.counted("link")


def test_heralds_under_dead_time_are_those_of_the_exact_markov_chain() -> None:
    """Both detectors' remaining blind windows are a chain of 16 states; 20,000 cycles.

    The chain's correlations widen the binomial error; twice it is a bound here, as a herald makes
    the next three attempts less likely to herald.
    """
    k, cycles = 3, 20_000
    made = Layout(
        emitter=ColourCentreParameters(0.6, alpha=0.5, lifetime_ps=0, prepare_ns=1_000),
        detector=DetectorParameters(1.0, dead_ns=35_000),
    )
    _, _, heralded = measure(made, cycles)
    arm = ArmOptics(0.6, 0.5)
    table = table_for("single-click", arm, arm, AnalyserOptics())
    states = list(product(range(k + 1), repeat=2))
    chain = np.zeros((16, 16))
    heralds = {0b01: np.zeros(16), 0b10: np.zeros(16)}
    for row, blind in enumerate(states):
        for clicks in range(4):
            seen = [clicks >> d & 1 and not blind[d] for d in (0, 1)]
            after = tuple(k if seen[d] else max(0, blind[d] - 1) for d in (0, 1))
            probability = table.probability(clicks)
            chain[row, states.index(after)] += probability
            mask = seen[0] * 1 + seen[1] * 2
            if mask in heralds:
                heralds[mask][row] += probability
    values, vectors = np.linalg.eig(chain.T)
    stationary = np.real(vectors[:, np.argmax(values.real)])
    stationary /= stationary.sum()
    for mask, given in heralds.items():
        p = float(stationary @ given)
        assert abs(heralded[mask] - cycles * p) < 4 * sqrt(cycles * p * (1 - p))
        assert abs(p - table.probability(mask)) > 0.02


# --- afterpulses ------------------------------------------------------------------------------

AFTERPULSING = DetectorParameters(1.0, afterpulse=0.3, afterpulse_ns=50_000)


def afterpulses(begin: float, end: float) -> float:
    """Expected clicks of all generations between two times after a click, without dead time.

    Each click leaves one more with probability p after an exponential time T: their density is
    (p / T) exp(-(1 - p) t / T).
    """
    p, mean = AFTERPULSING.afterpulse, AFTERPULSING.afterpulse_ns * 1_000
    rate = (1 - p) / mean
    return p / (1 - p) * (exp(-rate * begin) - exp(-rate * end))


def test_afterpulses_of_all_generations_come_with_their_closed_form() -> None:
    """10,000 clicks, each followed by 40 windows of 1 us every 2 us; mean within 4 errors."""
    chance = Chance(3)
    counts = []
    for _ in range(10_000):
        detector = Detector(AFTERPULSING, chance)
        detector.look(0, US, 0)
        counts.append(sum(detector.look(w * 2 * US, US, None)[1] for w in range(1, 41)))
    expected = sum(afterpulses(w * 2 * US, w * 2 * US + US) for w in range(1, 41))
    assert expected > 0.1
    error = float(np.std(counts)) / sqrt(len(counts))
    assert abs(np.mean(counts) - expected) < 4 * error


def test_an_afterpulse_inside_the_dead_time_is_lost() -> None:
    """With a dead time of one mean time, exp(-1) of the first generation is left.

    20,000 clicks; later generations are stopped by looking for the first click only.
    """
    chance, found = Chance(4), 0
    parameters = DetectorParameters(1.0, dead_ns=50_000, afterpulse=0.3, afterpulse_ns=50_000)
    for _ in range(20_000):
        detector = Detector(parameters, chance)
        detector.look(0, 0, 0)
        found += detector.look(1, 5_000 * US, None)[1] > 0
    p = 0.3 * exp(-1)
    assert abs(found / 20_000 - p) < 4 * sqrt(p * (1 - p) / 20_000)


def test_dark_counts_between_windows_blind_a_detector_too() -> None:
    """At 20 kHz and 100 us of dead time a live detector finds 1 / (1 + R t) = 1/3 of its light.

    Windows of 1 ns every 1 ms see the stationary state; 10,000 of them. The windows' own clicks
    are 1 ms apart and forgotten.
    """
    parameters = DetectorParameters(1.0, dark_hz=20_000.0, dead_ns=100_000)
    detector = Detector(parameters, Chance(5))
    # The reach into the past is one dead time; the world's detectors look at every cycle.
    seen = 0
    for index in range(10_000):
        begin = index * 1_000 * US
        for step in range(1, 10):
            detector.look(begin - (10 - step) * 90 * US, 0, None)
        seen += detector.look(begin, 1_000, 0)[1]
    assert abs(seen / 10_000 - 1 / 3) < 4 * sqrt(2 / 9 / 10_000)


def test_afterpulses_raise_the_false_heralds_of_a_link_by_their_closed_form() -> None:
    """Single click at low efficiency: each click makes that many more heralds in later windows.

    60,000 cycles of 2 us with windows of 1 us. Clicks that meet in one window make the excess
    smaller by a share of the order of the click probability, 0.03, which is allowed for.
    """
    efficiency, cycles = 0.03, 60_000
    made = Layout(
        emitter=ColourCentreParameters(efficiency, alpha=0.5, lifetime_ps=0, prepare_ns=1_000),
        detector=AFTERPULSING,
    )
    driver = Driver(made.parameters(), seed=6)
    driver.open(cycle_ns=2_000)
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG, cycles=cycles)
    driver.run_until((cycles + 10) * 2_000)
    _, _, heralded = driver.world.counted("link")
    arm = ArmOptics(efficiency, 0.5)
    p = table_for("single-click", arm, arm, AnalyserOptics()).success((1, 2))
    more = sum(afterpulses(w * 2 * US, w * 2 * US + US) for w in range(1, 400))
    expected = cycles * p * (1 + more)
    found = sum(heralded.values())
    allowed = 4 * sqrt(expected * (1 + 2 * more)) + 0.05 * cycles * p * more
    assert abs(found - expected) < allowed
    assert found - cycles * p > allowed, "the excess must be plain to see"


# --- patterns -----------------------------------------------------------------------------------


def test_both_rounds_of_barrett_and_kok_are_seen_by_the_same_two_detectors() -> None:
    """Dead for more than half a cycle: a detector that clicked in round one misses round two."""
    one = DetectorParameters(1.0, dead_ns=6_000)
    eyes = Eyes("barrett-kok", (one, one), 10_000, Chance(1))
    assert eyes.see(0, US, 0b0101, [0.0, 0.0]) == (0b0001, [0.0])
    assert eyes.see(10 * US, US, 0b1001, [3.0, 4.0]) == (0b1001, [3.0, 4.0])


def test_a_number_resolving_detector_takes_an_afterpulse_for_a_second_count() -> None:
    """Bits 0 and 1 say that a detector counted, bits 2 and 3 that it counted more than one."""
    parameters = NumberResolvingParameters(1.0, afterpulse=1.0, afterpulse_ns=1)
    eyes = Eyes("single-click", (parameters, parameters), 10_000, Chance(1))
    assert eyes.see(0, US, 0b0001, [0.0]) == (0b0101, [0.0])
    plain = NumberResolvingParameters(1.0, dead_ns=15_000)
    eyes = Eyes("single-click", (plain, plain), 10_000, Chance(1))
    assert eyes.see(0, US, 0b0001, [0.0]) == (0b0001, [0.0])
    assert eyes.see(10 * US, US, 0b1111, [0.0, 0.0]) == (0b1010, [0.0])
    assert eyes.see(20 * US, US, 0b0101, [7.0]) == (0b0101, [7.0])


def test_what_is_remembered_depends_on_the_gap_between_windows() -> None:
    assert gap_ps("single-click", 10_000, US) == 9 * US
    assert gap_ps("barrett-kok", 10_000, US) == 4 * US
    assert not memory_of(DetectorParameters(1.0, dead_ns=9_000), 9 * US)
    assert "dead time of 9001 ns" in memory_of(DetectorParameters(1.0, dead_ns=9_001), 9 * US)
    short = DetectorParameters(1.0, afterpulse=0.1, afterpulse_ns=100)
    assert not memory_of(short, 9 * US)
    assert "afterpulses" in memory_of(short, US)


@pytest.mark.parametrize("measurement", ["single-click", "polarisation", "barrett-kok"])
def test_attempt_by_attempt_is_skip_ahead_where_the_memory_has_no_effect(measurement: str) -> None:
    """A gap of nothing and a dead time of 1 ns: followed click by click, and never blind.

    16,000 attempts against ten times as many drawn independently; chi-square at 1e-6.
    """
    made = layout(measurement)
    made.detector = DetectorParameters(1.0, dark_hz=made.detector.dark_hz, dead_ns=1)
    driver = Driver(made.parameters(), seed=7)
    cycle = 2_000 if measurement == "barrett-kok" else 1_000
    driver.open(8, cycle_ns=cycle)
    devices = made.parameters()
    optics = LinkOptics(devices.links[0], dict(devices.devices), Chance(0))
    assert optics.remembers(cycle, WINDOW_PS)
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG, cycles=2_000)
    driver.run_until(2_050 * cycle)
    attempts, _, heralded = driver.world.counted("link")
    assert attempts == 16_000
    heralded[0] = attempts - sum(heralded.values())
    reference: dict[int, int] = {}
    for (clicks, *_), count in one_by_one(measurement, seed=8).items():
        reference[clicks] = reference.get(clicks, 0) + count
    statistic, freedom = two_sample(
        {(clicks, 0, 0): count for clicks, count in heralded.items()},
        {(clicks, 0, 0): count for clicks, count in reference.items()},
    )
    assert statistic < critical(freedom)


def test_analysers_of_independent_attempts_are_still_skipped_ahead() -> None:
    """A dead time that ends before the next window changes nothing: one wake-up a pair."""
    made = Layout(
        emitter=ColourCentreParameters(1e-6, prepare_ns=1_000),
        detector=DetectorParameters(1.0, dead_ns=5_000),
        analyser=AnalyserParameters("single-click", "detector"),
    )
    driver = Driver(made.parameters(), seed=9)
    driver.open()
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, 10)
    turns = 0
    while driver.world.deadline is not None and turns < 100:
        driver.next_events()
        turns += 1
    assert sum(driver.world.heralded("link").values()) == 10
    assert turns < 50

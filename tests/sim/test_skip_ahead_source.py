"""Skip-ahead of `midpoint-source` against photons drawn one attempt at a time.

The other side of the comparison knows none of our formulas: a pulse of a parametric source has
a thermal number of pairs in each of two modes, P(n) = lam^n / (1 + lam)^(n + 1) (physics notes
1.2); each photon is detected with the arm's efficiency; a dark count makes its detector click;
an end where both detectors clicked tosses a coin. Both ends measure along Z, and single pairs are
Phi+, so a mode's photons meet detector 0 of both ends, or detector 1 of both.

One pooled test at a false-alarm rate of 1e-6, with power 0.99 against a relative error of 5 % in
any outcome above 1 % per attempt; dark counts on; seeds fixed. See tests/sim/test_skip_ahead.py.
"""

from __future__ import annotations

from functools import cache
from math import sqrt

import numpy as np

from qstack.messages.common import PLAIN_Z
from qstack.messages.devices import EmitterMeasure, EmitterOutcome, StationClock, StationOpen
from qstack.sim.channels import Fibre
from qstack.sim.devices import AnalyserParameters, DetectorParameters, SpdcParameters
from qstack.sim.heralding import dark_probability
from qstack.sim.world import WorldDevice, WorldEnd, WorldLink, WorldParameters
from tests.sim.test_skip_ahead import critical, two_sample
from tests.sim.worlds import CYCLE, LONG, WINDOW_PS, Driver

LAM = 2.0
DARK_HZ = 20_000.0
FIBRES = (Fibre(0.5, 0.2), Fibre(0.2, 0.5, 0.3))
SOURCE_EFFICIENCY, RECEIVERS = 0.95, (0.95, 0.9)
MODES, CYCLES = 8, 36_000
SAMPLER = 10
"""How many times larger the attempt-by-attempt sample is."""

Counts = dict[tuple[int, int, int], int]


def parameters(
    lam: float = LAM, visibility: float = 1.0, dark_hz: float = DARK_HZ
) -> WorldParameters:
    """The source between two receivers. Process names are those of the ends."""
    devices = [
        (
            f"receiver-{end}",
            WorldDevice(owner, DetectorParameters(efficiency, dark_hz=dark_hz)),
        )
        for end, owner, efficiency in zip("ab", ("alice", "bob"), RECEIVERS, strict=True)
    ]
    source = SpdcParameters(lam, SOURCE_EFFICIENCY, lifetime_ps=0)
    analyser = AnalyserParameters("pair-source", "", visibility=visibility)
    devices += [
        ("source", WorldDevice("station", source)),
        ("analyser", WorldDevice("station", analyser)),
    ]
    ends = (
        WorldEnd("alice", "receiver-a", "", FIBRES[0]),
        WorldEnd("bob", "receiver-b", "", FIBRES[1]),
    )
    link = WorldLink("link", "midpoint-source", ends, "analyser", MODES, "source")
    return WorldParameters(tuple(devices), (link,))


def measuring(world: WorldParameters, cycles: int, modes: int = MODES, seed: int = 5) -> Driver:
    driver = Driver(world, seed)
    driver.send(StationClock, "analyser", "link", CYCLE)
    driver.send(StationOpen, "analyser", "link", (), 0, LONG, modes, WINDOW_PS, False)
    for end in "ab":
        rest = ("link", (), PLAIN_Z, LONG, 0, False, cycles)
        driver.send(EmitterMeasure, f"receiver-{end}", *rest)
    return driver


@cache
def from_world() -> Counts:
    """Counts of (1, outcome of A, of B) in all attempts; (0, 0, 0): no coincidence."""
    driver = measuring(parameters(), CYCLES)
    counts: Counts = {}
    for step in range(0, CYCLES + 50, 500):
        driver.seen.clear()
        driver.run_until((step + 500) * CYCLE)
        at_b = {
            (event.cycle, event.mode): event.outcome
            for event in driver.of(EmitterOutcome)
            if event.device == "receiver-b"
        }
        for event in driver.of(EmitterOutcome):
            if event.device == "receiver-a":
                key = (1, event.outcome, at_b[event.cycle, event.mode])
                counts[key] = counts.get(key, 0) + 1
    assert driver.world.attempted("link") == CYCLES * MODES
    counts[0, 0, 0] = CYCLES * MODES - sum(counts.values())
    return counts


@cache
def photon_by_photon(seed: int, attempts: int) -> Counts:
    """Draw every attempt for itself, photon by photon."""
    chance = np.random.default_rng(seed)
    clicked = np.zeros((2, 2, attempts), bool)
    dark = dark_probability(DARK_HZ, WINDOW_PS)
    for mode in (0, 1):
        pairs = chance.geometric(1 / (1 + LAM), attempts) - 1
        for end, (fibre, receiver) in enumerate(zip(FIBRES, RECEIVERS, strict=True)):
            efficiency = SOURCE_EFFICIENCY * receiver * 10 ** (-fibre.loss_db / 10)
            seen = chance.binomial(pairs, efficiency) > 0
            clicked[end, mode] = seen | (chance.random(attempts) < dark)
    outcome = [
        np.where(clicked[end, 0] & clicked[end, 1], chance.random(attempts) < 0.5, clicked[end, 1])
        for end in (0, 1)
    ]
    both = clicked[0].any(axis=0) & clicked[1].any(axis=0)
    counts: Counts = {(0, 0, 0): int(np.sum(~both))}
    for a in (0, 1):
        for b in (0, 1):
            counts[1, a, b] = int(np.sum(both & (outcome[0] == a) & (outcome[1] == b)))
    return counts


def planted(counts: Counts, seed: int) -> Counts:
    """The same sample with its rarest outcome above 1 % five per cent more often."""
    shares = {key: count / sum(counts.values()) for key, count in counts.items()}
    rarest = min((p, key) for key, p in shares.items() if p > 0.01 and key != (0, 0, 0))[1]
    more = shares[rarest] * 0.05
    shares[rarest] += more
    shares[0, 0, 0] -= more
    drawn = np.random.default_rng(seed).multinomial(sum(counts.values()), list(shares.values()))
    return dict(zip(shares, drawn.tolist(), strict=True))


REFERENCE = (11, SAMPLER * CYCLES * MODES)


def test_skip_ahead_of_a_source_is_indistinguishable_from_drawing_every_photon() -> None:
    statistic, freedom = two_sample(from_world(), photon_by_photon(*REFERENCE))
    assert freedom == 4
    assert statistic < critical(freedom)


def test_an_error_of_five_percent_in_the_rarest_outcome_is_caught() -> None:
    wrong = planted(photon_by_photon(*REFERENCE), seed=12)
    statistic, freedom = two_sample(from_world(), wrong)
    assert statistic > critical(freedom)


def test_the_sample_gives_the_promised_power() -> None:
    """Noncentrality n q e^2 / (1 + 1/10) of the rarest outcome, normal approximation."""
    counts = photon_by_photon(*REFERENCE)
    total = sum(counts.values())
    rarest = min(count / total for count in counts.values() if count > 0.01 * total)
    noncentrality = CYCLES * MODES * rarest * 0.05**2 / (1 + 1 / SAMPLER)
    freedom = len(counts) - 1
    mean, spread = freedom + noncentrality, sqrt(2 * (freedom + 2 * noncentrality))
    assert mean - 2.33 * spread > critical(freedom)


def test_singles_at_the_receivers_are_thermal() -> None:
    """A0: 1 - (1 - dark) / (1 + eta lam), of 20,000 attempts; 4 binomial errors each."""
    driver = measuring(parameters(), 2_500)
    driver.run_until(2_600 * CYCLE)
    attempts, singles, _ = driver.world.counted("link")
    assert attempts == 20_000
    dark = dark_probability(DARK_HZ, WINDOW_PS)
    for detector, count in enumerate(singles):
        end = detector >> 1
        efficiency = SOURCE_EFFICIENCY * RECEIVERS[end] * 10 ** (-FIBRES[end].loss_db / 10)
        p = 1 - (1 - dark) / (1 + efficiency * LAM)
        assert abs(count - attempts * p) < 4 * sqrt(attempts * p * (1 - p))


def test_a_misaligned_source_has_the_errors_of_ma_fung_and_lo() -> None:
    """Physics notes 1.2: E Q = Q / 2 - 2 (1/2 - e) a b lam (1 + lam) / ..., e = (1 - V) / 2.

    20,000 coincidences at lam 0.05; the share of unequal outcomes within 4 binomial errors.
    """
    lam, visibility = 0.05, 0.8
    driver = measuring(parameters(lam, visibility, 0.0), LONG)
    pairs = 20_000
    while sum(driver.world.heralded("link").values()) < pairs:
        driver.run_until(driver.now + 2_000 * CYCLE)
    parities: dict[tuple[int, int], int] = {}
    seen: dict[tuple[int, int], int] = {}
    for event in driver.of(EmitterOutcome):
        where = (event.cycle, event.mode)
        parities[where] = parities.get(where, 0) ^ event.outcome
        seen[where] = seen.get(where, 0) + 1
    found = [parity for where, parity in parities.items() if seen[where] == 2]
    a, b = (
        SOURCE_EFFICIENCY * receiver * 10 ** (-fibre.loss_db / 10)
        for fibre, receiver in zip(FIBRES, RECEIVERS, strict=True)
    )
    at_a, at_b = 1 + a * lam, 1 + b * lam
    both = 1 + (a + b - a * b) * lam
    gain = 1 - 1 / at_a**2 - 1 / at_b**2 + 1 / both**2
    wrong = 0.5 * gain - visibility * a * b * lam * (1 + lam) / (at_a * at_b * both)
    error = wrong / gain
    share = float(np.mean(found))
    assert abs(share - error) < 4 * sqrt(error * (1 - error) / len(found))

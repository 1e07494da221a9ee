"""Fibres, converters and wandering losses against typed-in numbers and statistics."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from qstack.errors import LocalProtocolError
from qstack.sim.channels import (
    ArmLosses,
    Fibre,
    FrequencyConversion,
    LossProcess,
    decibel,
    transmission,
)
from qstack.units import MILLISECOND


def test_a_fibre_of_25_km_loses_5_db_and_takes_122_microseconds() -> None:
    fibre = Fibre(25.0)
    assert fibre.loss_db == pytest.approx(5.0, rel=1e-12)
    assert fibre.transmission == pytest.approx(0.31622776601683794, rel=1e-12)
    assert fibre.delay_ns == 122_435


def test_a_fibre_of_1000_km_takes_a_round_trip_of_9_8_milliseconds() -> None:
    assert 2 * Fibre(1000.0).delay_ns == pytest.approx(9.79e6, rel=1e-3)


def test_connectors_and_splices_add_to_the_loss() -> None:
    assert Fibre(10.0, 0.35, 1.5).transmission == pytest.approx(10 ** (-0.5), rel=1e-12)


def test_the_50_km_midpoint_link_of_the_dossier_has_its_efficiency_and_cycle() -> None:
    """Case O5: 0.3 emission, 0.5 conversion, 0.8 detection, 10 us preparation."""
    arm = Fibre(25.0, velocity=2.04e8)
    assert 0.3 * 0.5 * 0.8 * arm.transmission == pytest.approx(0.0379473, abs=5e-8)
    assert 10_000 + 2 * arm.delay_ns == pytest.approx(255_098, abs=1)


def test_conversion_noise_counts_what_reaches_the_detector_within_the_window() -> None:
    assert FrequencyConversion(0.5, 1000.0).noise_clicks(0.1, 50_000) == pytest.approx(
        5e-6, rel=1e-12
    )


def test_decibels_and_transmissions_are_inverse() -> None:
    for loss in (0.0, 0.2, 3.0103, 21.6):
        assert decibel(transmission(loss)) == pytest.approx(loss, abs=1e-12)


def test_a_wandering_loss_is_the_same_whatever_the_order_of_questions() -> None:
    instants = [MILLISECOND * k // 7 for k in range(-50, 200)]
    first = {t: LossProcess(3.0, 0.5, MILLISECOND, 11).loss_db(t) for t in instants}
    shuffled = list(instants)
    random.Random(5).shuffle(shuffled)
    again = {t: LossProcess(3.0, 0.5, MILLISECOND, 11).loss_db(t) for t in shuffled}
    assert first == again
    other = {t: LossProcess(3.0, 0.5, MILLISECOND, 12).loss_db(t) for t in instants}
    assert all(first[t] != other[t] for t in instants)


def test_a_wandering_loss_has_its_mean_its_spread_and_its_correlation() -> None:
    """4000 samples two correlation times apart; neighbours correlate by exp(-2).

    Standard errors: mean 0.5 sqrt(1.31/4000) = 0.009, spread 0.5/sqrt(8000) = 0.006 (a little
    more with the correlation), correlation 0.016. Tolerances: 4 to 5 standard errors, false alarm
    below 2e-4, and the seed is fixed.
    """
    loss = LossProcess(10.0, 0.5, 8000, "statistics")
    values = [loss.loss_db(16_000 * k + 300) for k in range(4000)]
    mean = sum(values) / len(values)
    deviations = [v - mean for v in values]
    variance = sum(d * d for d in deviations) / len(values)
    pairs = itertools.pairwise(deviations)
    correlation = sum(x * y for x, y in pairs) / len(values) / variance
    assert mean == pytest.approx(10.0, abs=0.04)
    assert math.sqrt(variance) == pytest.approx(0.5, abs=0.03)
    assert correlation == pytest.approx(math.exp(-2), abs=0.07)


def test_a_wandering_loss_changes_little_within_a_hundredth_of_its_correlation_time() -> None:
    loss = LossProcess(10.0, 0.5, 100_000, 3)
    steps = [abs(loss.loss_db(t + 1000) - loss.loss_db(t)) for t in range(0, 400_000, 1000)]
    assert 0 < max(steps) < 0.5 * 0.3


def test_a_wandering_loss_never_becomes_a_gain() -> None:
    loss = LossProcess(0.1, 1.0, 8000, 4)
    values = [loss.loss_db(8000 * k) for k in range(100)]
    assert min(values) == 0.0
    assert max(values) > 0.5
    assert all(0 < loss.transmission(8000 * k) <= 1 for k in range(100))


def test_a_loss_without_spread_is_constant_for_ever() -> None:
    steady = LossProcess(2.0, 0.0, 0, 1)
    assert steady.loss_db(123) == 2.0
    assert steady.step(123) == (2.0, None)
    assert ArmLosses(steady, steady).piece(5) == ((2.0, 2.0), None)


def test_pieces_of_two_arms_hold_their_value_until_they_end() -> None:
    losses = ArmLosses(LossProcess(2.0, 0.3, 8000, "a"), LossProcess(4.0, 0.3, 5600, "b"))
    now = 0
    seen = set()
    while now < 20_000:
        values, end = losses.piece(now)
        assert end is not None
        assert end > now
        assert losses.piece(end - 1) == (values, end)
        assert losses.piece(end)[0] != values
        seen.add(values)
        now = end
    assert len(seen) > 20


def test_a_correlation_time_without_room_for_knots_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="correlation_ns = 7"):
        LossProcess(1.0, 0.1, 7, 0).loss_db(0)

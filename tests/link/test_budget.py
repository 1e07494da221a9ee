"""The closed forms against numbers typed from the validation dossier, and the budget on top."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.bell import PHI_PLUS, PSI_MINUS, PSI_PLUS
from qstack.errors import LocalProtocolError
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.station import StationSheet
from qstack.link.budget import (
    BARRETT_KOK,
    HERALDS,
    PAIR_SOURCE,
    POLARISATION,
    SINGLE_CLICK,
    ArmSheet,
    Optics,
    Point,
    beat,
    budget,
    dark_click,
    mean_fidelity,
    predict,
    window_factors,
)
from qstack.link.closed_forms import (
    Clicks,
    background,
    captured,
    decibel_to_factor,
    double_click,
    factor_to_decibel,
    one_click,
    pair_source,
    single_click,
)

HALF = (0.5, 0.5)


def emitter(
    efficiency: float = 0.3,
    *,
    noise_hz: float = 0.0,
    frequency_hz: float = 0.0,
    lifetime_ps: int = 0,
    pair_mean: float = 0.0,
) -> EmitterSheet:
    return EmitterSheet(
        encoding="presence",
        efficiency=efficiency,
        noise_hz=noise_hz,
        double_excitation=0.0,
        pair_mean=pair_mean,
        phase_sigma=0.0,
        frequency_hz=frequency_hz,
        lifetime_ps=lifetime_ps,
        prepare_ns=0,
        herald_line=True,
        keep=True,
        abort_ns=0,
    )


def detector(
    efficiency: float = 1.0, dark_hz: float = 0.0, jitter_ps: int = 0, counts: bool = False
) -> DetectorSheet:
    return DetectorSheet(efficiency, dark_hz, jitter_ps, 0, 0.0, counts)


def optics(
    measurement: str, source: EmitterSheet, at_end: DetectorSheet, km: float = 0.0
) -> Optics:
    patterns = tuple(HERALDS[measurement].items())
    station = StationSheet(measurement, 1.0, True, patterns, 0)
    first, second = (ArmSheet(name, source, at_end, km, 0.2, 0.0) for name in ("a", "b"))
    return Optics((first, second), station)


def point(
    alpha: float = 0.5, window_ps: int = 1_000, visibility: float = 1.0, pair_mean: float = 0.0
) -> Point:
    return Point("p", (alpha, alpha), window_ps, visibility, pair_mean, 0.02)


# --- oracles --------------------------------------------------------------------------------


def test_single_click_threshold_has_the_digits_of_case_o1() -> None:
    state = single_click((0.1, 0.1), (0.01, 0.01), Clicks(0.9, 1e-6, False))
    assert state.success == pytest.approx(0.00200094400105, rel=1e-11)
    assert state.fidelity == pytest.approx(0.87658195998, rel=1e-10)


@pytest.mark.parametrize(
    ("counts", "success", "fidelity"),
    [(False, 0.087975, 0.971867007673), (True, 0.08595, 0.994764397906)],
)
def test_single_click_without_noise_has_the_digits_of_case_o2(
    counts: bool, success: float, fidelity: float
) -> None:
    state = single_click((0.05, 0.05), (0.9, 0.9), Clicks(1.0, 0.0, counts))
    assert state.success == pytest.approx(success, rel=1e-9)
    assert state.fidelity == pytest.approx(fidelity, rel=1e-11)


@pytest.mark.parametrize(("alpha", "fidelity"), [(0.1, 0.947368), (0.3, 0.823529)])
def test_single_click_of_perfect_optics_agrees_with_the_published_estimator(
    alpha: float, fidelity: float
) -> None:
    """The unit tests of SoftwareQuTech/QLinkLayerSimulations hold these digits at efficiency 1."""
    state = single_click((alpha, alpha), (1.0, 1.0), Clicks(1.0, 0.0, False))
    assert state.fidelity == pytest.approx(fidelity, abs=5e-7)


def test_double_click_has_the_digits_of_case_o3() -> None:
    state = double_click(HALF, (0.05, 0.05), Clicks(0.92, 1e-5, False))
    assert state.success == pytest.approx(0.00125189932264, rel=1e-11)
    assert state.fidelity == pytest.approx(0.95890385046, rel=1e-10)


@pytest.mark.parametrize("counts", [False, True])
def test_double_click_of_perfect_optics_is_case_o4(counts: bool) -> None:
    state = double_click(HALF, (1.0, 1.0), Clicks(1.0, 0.0, counts))
    assert state.success == pytest.approx(0.5, rel=1e-12)
    assert state.fidelity == pytest.approx(1.0, rel=1e-12)


def test_fifty_kilometres_over_a_midpoint_have_the_digits_of_case_o5() -> None:
    # A dark rate that gives 1e-6 in a window of a microsecond.
    rate = -math.log1p(-1e-6) / 1e-6
    link = optics(POLARISATION, emitter(0.3 * 0.5), detector(0.8, rate), km=25.0)
    found = budget("l", link, (point(window_ps=1_000_000, visibility=0.9),), 255_098, 1)
    assert found.arms[0].rows[-1].left == pytest.approx(0.0379473, abs=5e-8)
    working = found.points[0]
    assert working.success == pytest.approx(7.20146e-4, rel=5e-6)
    assert working.rate_hz == pytest.approx(2.82302, rel=5e-6)
    assert working.fidelity == pytest.approx(0.949856, abs=5e-7)


def test_ten_thousand_attempts_of_one_in_ten_thousand_are_case_o6() -> None:
    assert -math.expm1(10_000 * math.log1p(-1e-4)) == pytest.approx(0.632139, abs=5e-7)
    # The same law gives the probability of a background click.
    assert background(1e-4 * 1e12, 10_000) == pytest.approx(-math.expm1(-1.0), rel=1e-12)


def test_pair_source_has_the_digits_of_case_o23() -> None:
    gain, wrong = pair_source(0.05, (0.1, 0.2), (0.0, 0.0))
    assert gain == pytest.approx(0.00220666, abs=5e-9)
    assert wrong == pytest.approx(0.0376952, abs=5e-8)


@given(st.floats(1e-3, 0.3))
def test_visibility_of_a_lossy_pair_source_depends_on_the_mean_alone(lam: float) -> None:
    _, wrong = pair_source(lam, (1e-5, 1e-5), (0.0, 0.0))
    assert 1 - 2 * wrong == pytest.approx((1 + lam) / (1 + 3 * lam), rel=1e-3)


@pytest.mark.parametrize(
    ("offset_ps", "part"), [(0, 0.98758), (300, 0.84131), (500, 0.5), (700, 0.15866)]
)
def test_window_of_a_nanosecond_takes_in_what_case_o25_says(offset_ps: int, part: float) -> None:
    assert captured(1_000, 200, offset_ps) == pytest.approx(part, abs=5e-6)


# --- what the oracles do not cover ------------------------------------------------------------


PROBABILITY = st.floats(0.0, 1.0)
DARK = st.floats(0.0, 0.1)


@given(PROBABILITY, PROBABILITY, DARK, PROBABILITY)
def test_double_click_equals_the_expanded_formula_for_any_arms(
    a: float, b: float, dark: float, visibility: float
) -> None:
    """The polynomial of the dossier (section 1.1), which was found by another calculation."""
    one = a * (1 - b) + b * (1 - a)
    none = (1 - a) * (1 - b)
    pair = a * b
    success = (1 - dark) ** 2 * (
        pair / 2 + pair * (1 + visibility) / 2 * dark + 2 * one * dark + 4 * none * dark**2
    )
    good = (1 - dark) ** 2 * (pair * (1 + visibility) / 4 + one * dark / 2 + none * dark**2)
    state = double_click(HALF, (a, b), Clicks(visibility, dark, False))
    assert state.success == pytest.approx(success, abs=1e-14)
    assert (state.ud + state.du) / 2 + state.coherence == pytest.approx(good, abs=1e-14)


@given(st.floats(0.01, 0.99), PROBABILITY, DARK, PROBABILITY, st.floats(0.0, 1.0))
def test_single_click_equals_the_expanded_formulas_for_equal_arms(
    alpha: float, eta: float, dark: float, visibility: float, sigma: float
) -> None:
    twice = 2 * dark * (1 - dark)
    once = alpha * (1 - alpha)
    phase = math.exp(-(sigma**2) / 2)
    for counts in (False, True):
        keep = (1 - dark) ** (2 if counts else 1)
        both = 0.0 if counts else eta**2 * (1 + visibility) / 2
        ud = once * (eta * keep + (1 - eta) * twice)
        uu = alpha**2 * ((both + 2 * eta * (1 - eta)) * keep + (1 - eta) ** 2 * twice)
        dd = (1 - alpha) ** 2 * twice
        coherence = once * eta * math.sqrt(visibility) * keep * phase
        clicks = Clicks(visibility, dark, counts)
        state = single_click((alpha, alpha), (eta, eta), clicks, phase=phase)
        assert state.success == pytest.approx(2 * ud + uu + dd, abs=1e-14)
        assert state.coherence == pytest.approx(coherence, abs=1e-14)


@given(st.floats(0.001, 0.3), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_unequal_arms_are_best_when_bright_population_balances_them(
    alpha: float, eta_a: float, eta_b: float
) -> None:
    """Lossy limit: the coherence is the geometric over the arithmetic mean of the arms."""
    small = (eta_a * 1e-3, eta_b * 1e-3)
    clicks = Clicks(1.0, 0.0, False)
    balanced = (alpha * eta_b, alpha * eta_a)
    skewed = (alpha * eta_b, min(0.9, 3 * alpha * eta_a))
    best = single_click(balanced, small, clicks)
    worse = single_click(skewed, small, clicks)
    ratio = 2 * best.coherence / (best.ud + best.du)
    assert ratio > 2 * worse.coherence / (worse.ud + worse.du)


def test_one_click_counts_all_ways_that_photons_can_go() -> None:
    """Against a sum over the fates of up to three distinguishable photons."""
    etas, dark = (0.3, 0.8, 0.5), 0.07
    for number, counts in itertools.product(range(4), (False, True)):
        total = 0.0
        for fates in itertools.product((None, 0, 1), repeat=number):
            weight = math.prod(
                1 - eta if fate is None else eta / 2 for eta, fate in zip(etas, fates, strict=False)
            )
            for darks in itertools.product((0, 1), repeat=2):
                chance = math.prod(dark if d else 1 - dark for d in darks)
                seen = [fates.count(index) + darks[index] for index in (0, 1)]
                hit = sum(seen) == 1 if counts else sorted(map(bool, seen)) == [False, True]
                total += weight * chance * hit
        assert one_click(etas[:number], dark, counts) == pytest.approx(total, abs=1e-14)


def test_second_photons_take_coherence_and_add_clicks() -> None:
    clicks = Clicks(1.0, 0.0, False)
    clean = single_click((0.1, 0.1), (0.01, 0.01), clicks)
    noisy = single_click((0.1, 0.1), (0.01, 0.01), clicks, (0.04, 0.04))
    assert noisy.coherence == pytest.approx(0.96 * clean.coherence, rel=1e-12)
    assert noisy.success == pytest.approx(1.04 * clean.success, rel=1e-3)
    assert noisy.fidelity == pytest.approx(0.9 * (1 + 0.96 / 1.04) / 2, abs=1e-3)


@given(
    st.sampled_from([SINGLE_CLICK, POLARISATION, BARRETT_KOK, PAIR_SOURCE]),
    st.floats(0.01, 0.99),
    st.floats(0.001, 1.0),
    PROBABILITY,
    st.tuples(st.floats(0.0, 1e6), st.booleans()),
)
def test_every_prediction_is_a_probability_law(
    measurement: str, alpha: float, eta: float, visibility: float, receiver: tuple[float, bool]
) -> None:
    dark_hz, counts = receiver
    link = optics(measurement, emitter(eta, pair_mean=0.05), detector(0.9, dark_hz, 50, counts))
    patterns = predict(link, point(alpha, 10_000, visibility, 0.05))
    assert {pattern.clicks for pattern in patterns} == set(HERALDS[measurement])
    assert 0 < sum(pattern.share for pattern in patterns) <= 1
    for pattern in patterns:
        assert sum(pattern.weights) == pytest.approx(1.0, abs=1e-12)
        assert all(-1e-12 <= weight <= 1 for weight in pattern.weights)


@pytest.mark.parametrize("measurement", [SINGLE_CLICK, POLARISATION, BARRETT_KOK])
def test_the_heralded_state_is_named_by_the_pattern(measurement: str) -> None:
    patterns = predict(optics(measurement, emitter(), detector()), point(0.1, visibility=0.9))
    for pattern in patterns:
        other = PSI_MINUS if pattern.bell == PSI_PLUS else PSI_PLUS
        assert pattern.weights[pattern.bell] == max(pattern.weights)
        assert pattern.weights[other] > 0
        assert pattern.weights[0] == pattern.weights[1]


def test_a_station_wired_with_another_sign_heralds_the_other_state_as_well() -> None:
    link = optics(SINGLE_CLICK, emitter(), detector())
    swapped = StationSheet(SINGLE_CLICK, 1.0, True, ((1, PSI_MINUS), (2, PSI_PLUS)), 0)
    usual = predict(link, point(0.1))
    other = predict(Optics(link.arms, swapped), point(0.1))
    assert mean_fidelity(usual) == pytest.approx(mean_fidelity(other), rel=1e-12)
    assert usual[0].weights[PSI_PLUS] == pytest.approx(other[0].weights[PSI_MINUS], rel=1e-12)


def test_a_station_that_accepts_one_pattern_has_its_share_alone() -> None:
    link = optics(SINGLE_CLICK, emitter(), detector())
    choosy = StationSheet(SINGLE_CLICK, 1.0, True, ((1, PSI_PLUS),), 0)
    all_of_it = predict(link, point(0.1))
    half = predict(Optics(link.arms, choosy), point(0.1))
    assert half == all_of_it[:1]


def test_patterns_that_herald_nothing_and_unknown_measurements_are_refused() -> None:
    link = optics(SINGLE_CLICK, emitter(), detector())
    both = StationSheet(SINGLE_CLICK, 1.0, True, ((3, PHI_PLUS),), 0)
    with pytest.raises(LocalProtocolError, match="0b11"):
        predict(Optics(link.arms, both), point(0.1))
    unknown = StationSheet("tea-leaves", 1.0, True, (), 0)
    with pytest.raises(LocalProtocolError, match="tea-leaves"):
        predict(Optics(link.arms, unknown), point(0.1))


@pytest.mark.parametrize("measurement", [SINGLE_CLICK, POLARISATION, BARRETT_KOK, PAIR_SOURCE])
def test_a_link_that_lets_nothing_through_promises_nothing(measurement: str) -> None:
    for pattern in predict(optics(measurement, emitter(0.0), detector()), point(0.1)):
        assert pattern.share == 0
        assert pattern.weights == (0.25, 0.25, 0.25, 0.25)


def test_windows_cut_packets_and_jitter() -> None:
    link = optics(SINGLE_CLICK, emitter(lifetime_ps=1_000), detector(jitter_ps=200))
    expected = (1 - math.exp(-1.0)) * captured(1_000, 200)
    assert window_factors(link, 1_000) == pytest.approx((expected, expected), rel=1e-12)
    source = optics(PAIR_SOURCE, emitter(), detector(jitter_ps=200))
    first, second = window_factors(source, 1_000)
    assert first * second == pytest.approx(captured(1_000, 200 * math.sqrt(2)), rel=1e-12)


def test_converter_noise_comes_through_the_fibre_and_spreads_over_the_detectors() -> None:
    link = optics(SINGLE_CLICK, emitter(noise_hz=1_000.0), detector(0.5, 100.0), km=50.0)
    # Two arms of 10 dB, detectors of one half, two detectors: 1000 * 0.1 * 0.5 each.
    assert dark_click(link, 10**6) == pytest.approx(-math.expm1(-150e-6), rel=1e-12)
    noisy = predict(link, point(0.05, 10**6))
    clean = predict(optics(SINGLE_CLICK, emitter(), detector(0.5, 100.0), 50.0), point(0.05, 10**6))
    assert mean_fidelity(noisy) < mean_fidelity(clean)


def test_frequency_offset_without_reading_tags_costs_what_the_mean_phase_does() -> None:
    """Case of section 6: 5 MHz offset, packets of 12 ns: 1 / (1 + (2 pi 0.06)^2) = 0.875563."""
    link = optics(SINGLE_CLICK, emitter(lifetime_ps=12_000), detector())
    first, _ = link.arms
    shifted = ArmSheet("b", emitter(lifetime_ps=12_000, frequency_hz=5e6), detector(), 0, 0, 0)
    offset = Optics((first, shifted), link.station)
    assert beat(link) == 1.0
    assert beat(offset) == pytest.approx(0.875563, abs=5e-7)
    wide = point(0.1, 1_000_000)
    assert mean_fidelity(predict(offset, wide)) < mean_fidelity(predict(link, wide))


def test_budget_rows_multiply_and_decibels_add() -> None:
    link = optics(SINGLE_CLICK, emitter(0.25), detector(0.5), km=10.0)
    found = budget("alice-bob", link, (point(0.1),), 100_000, 4)
    rows = found.arms[0].rows
    assert [row.name for row in rows][1] == "fibre 10 km at 0.2 dB/km"
    assert math.prod(row.factor for row in rows) == pytest.approx(rows[-1].left, rel=1e-12)
    total = sum(row.loss_db for row in rows)
    assert decibel_to_factor(total) == pytest.approx(rows[-1].left, rel=1e-12)
    assert total == pytest.approx(6.0206 + 2.0 + 3.0103, abs=1e-4)
    assert found.points[0].rate_hz == pytest.approx(4 * found.points[0].success * 1e4, rel=1e-12)
    assert factor_to_decibel(0.0) == math.inf

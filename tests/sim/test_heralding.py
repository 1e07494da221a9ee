"""Heralding tables: limits, symmetries, double excitation, time tags, windows, pair sources.

The comparison with the dossier's cases O1 to O5 and with an independent calculation is in
test_planted_physics.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from qstack.bell import PHI_MINUS, PHI_PLUS, PSI_MINUS, PSI_PLUS
from qstack.errors import LocalProtocolError
from qstack.sim.heralding import (
    BARRETT_KOK,
    HERALDS,
    POLARISATION,
    SINGLE_CLICK,
    AnalyserOptics,
    ArmOptics,
    HeraldTable,
    PairEnd,
    PairSource,
    captured,
    dark_probability,
    pair_source,
    phase_of,
    single_click,
    spdc_bsm,
    table_for,
    tag_average,
    untagged,
    visibility_with_delay,
    with_phase,
)
from qstack.sim.states import Axis, Matrix, bell_projector, correlation_matrix, fidelity

SCHEMES = (SINGLE_CLICK, POLARISATION, BARRETT_KOK)
LOSSY = ArmOptics(0.3, 0.2, 0.05, 1e-3, 0.1)
LOSSIER = ArmOptics(0.1, 0.4, 0.02, 2e-3, 0.2)
X: Axis = (1.0, 0.0, 0.0)
Y: Axis = (0.0, 1.0, 0.0)
Z: Axis = (0.0, 0.0, 1.0)
TILTED: Axis = (math.sqrt(0.5), 0.0, math.sqrt(0.5))


def mean_fidelity(scheme: str, table: HeraldTable) -> float:
    heralds = HERALDS[scheme]
    parts = [o for o in table.outcomes if o.clicks in heralds]
    good = sum(o.probability * fidelity(o.state, heralds[o.clicks]) for o in parts)
    return good / table.success(heralds)


# --- every table ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("resolving", [False, True])
def test_every_table_is_a_distribution_over_physical_states(scheme: str, resolving: bool) -> None:
    analyser = AnalyserOptics(0.8, 1e-3, resolving, 0.3, 5e6, 12_000)
    table = table_for(scheme, LOSSY, LOSSIER, analyser)
    assert sum(o.probability for o in table.outcomes) == pytest.approx(1, abs=1e-12)
    expected = {SINGLE_CLICK: 4, POLARISATION: 16, BARRETT_KOK: 16}[scheme]
    if resolving:
        expected = {SINGLE_CLICK: 9, POLARISATION: 81, BARRETT_KOK: 81}[scheme]
    assert len(table.outcomes) == expected
    for outcome in table.outcomes:
        assert np.trace(outcome.state).real == pytest.approx(1, abs=1e-12)
        assert np.linalg.eigvalsh(outcome.state).min() > -1e-12


@pytest.mark.parametrize("scheme", SCHEMES)
def test_perfect_hardware_leaves_the_bell_state_that_the_pattern_heralds(scheme: str) -> None:
    arm = ArmOptics(1.0, 0.5)
    table = table_for(scheme, arm, arm, AnalyserOptics(number_resolving=True))
    for clicks, bell in HERALDS[scheme].items():
        assert fidelity(table.outcome(clicks).state, bell) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_with_one_emitter_dark_there_is_no_coherence(scheme: str) -> None:
    dark = ArmOptics(0.0, 0.3)
    for arms in ((dark, ArmOptics(0.5, 0.3)), (ArmOptics(0.5, 0.3), dark)):
        table = table_for(scheme, *arms, AnalyserOptics(0.9, 1e-4))
        assert sum(o.probability for o in table.outcomes) == pytest.approx(1, abs=1e-12)
        assert table.success(HERALDS[scheme]) > 0
        for outcome in table.outcomes:
            assert abs(outcome.state[1, 2]) < 1e-15
        assert mean_fidelity(scheme, table) <= 0.5


def test_with_one_emitter_dark_and_no_dark_counts_two_photon_heralds_cannot_happen() -> None:
    for scheme in (POLARISATION, BARRETT_KOK):
        table = table_for(scheme, ArmOptics(0.0), ArmOptics(0.5), AnalyserOptics())
        assert table.success(HERALDS[scheme]) == 0


def test_dark_counts_alone_leave_the_spins_as_they_were() -> None:
    blind = ArmOptics(0.0, 0.25)
    table = single_click(blind, blind, AnalyserOptics(1.0, 0.01))
    assert table.probability(0b01) == pytest.approx(0.01 * 0.99, rel=1e-12)
    expected = [0.75**2, 0.75 * 0.25, 0.25 * 0.75, 0.25**2]
    assert np.diag(table.outcome(0b01).state).real == pytest.approx(expected, abs=1e-12)


def test_the_rarer_bright_end_is_more_often_the_dark_one_unless_balanced() -> None:
    """Asymmetric arms are balanced by equal products of population and efficiency."""
    balanced = single_click(ArmOptics(0.01, 0.2), ArmOptics(0.04, 0.05), AnalyserOptics())
    state = balanced.outcome(0b01).state
    assert state[1, 1].real / state[2, 2].real == pytest.approx(0.8 / 0.95, rel=0.02)
    tilted = single_click(ArmOptics(0.01, 0.2), ArmOptics(0.04, 0.2), AnalyserOptics())
    assert tilted.outcome(0b01).state[1, 1].real > 3.5 * tilted.outcome(0b01).state[2, 2].real


def test_stray_light_acts_as_a_higher_dark_probability_for_threshold_detectors() -> None:
    stray = ArmOptics(0.1, 0.2, noise_clicks_per_window=0.002)
    clean = ArmOptics(0.1, 0.2)
    darker = 1 - (1 - 1e-4) * math.exp(-0.002)
    noisy = single_click(stray, stray, AnalyserOptics(0.9, 1e-4))
    plain = single_click(clean, clean, AnalyserOptics(0.9, darker))
    for clicks in range(4):
        assert noisy.probability(clicks) == pytest.approx(plain.probability(clicks), rel=1e-12)


def test_picking_draws_patterns_in_proportion_and_refuses_the_impossible() -> None:
    table = single_click(LOSSY, LOSSIER, AnalyserOptics(0.9, 1e-4))
    share = table.probability(1) / table.success((1, 2))
    assert table.pick((1, 2), 0.0).clicks == 1
    assert table.pick((1, 2), share - 1e-9).clicks == 1
    assert table.pick((1, 2), share + 1e-9).clicks == 2
    assert table.pick((1, 2), 1 - 1e-16).clicks == 2
    with pytest.raises(LocalProtocolError, match="can happen"):
        table.pick((16,), 0.5)
    with pytest.raises(KeyError):
        table.outcome(16)


def test_tables_are_computed_once_and_cannot_be_written_to() -> None:
    analyser = AnalyserOptics(0.9, 1e-4)
    first = table_for(SINGLE_CLICK, LOSSY, LOSSIER, analyser)
    assert table_for(SINGLE_CLICK, LOSSY, LOSSIER, AnalyserOptics(0.9, 1e-4)) is first
    with pytest.raises(ValueError, match="read-only"):
        first.outcomes[0].state[0, 0] = 1


@pytest.mark.parametrize(
    ("arm", "analyser", "field"),
    [
        (ArmOptics(1.1), AnalyserOptics(), "efficiency"),
        (ArmOptics(0.5, -0.1), AnalyserOptics(), "bright"),
        (ArmOptics(0.5, 0.5, 2.0), AnalyserOptics(), "double_excitation"),
        (ArmOptics(0.5, 0.5, 0.0, -1.0), AnalyserOptics(), "noise_clicks_per_window"),
        (ArmOptics(0.5), AnalyserOptics(1.5), "visibility"),
        (ArmOptics(0.5), AnalyserOptics(1.0, math.nan), "dark_probability"),
    ],
)
def test_impossible_parameters_are_refused_by_name(
    arm: ArmOptics, analyser: AnalyserOptics, field: str
) -> None:
    for scheme in SCHEMES:
        with pytest.raises(LocalProtocolError, match=field):
            table_for(scheme, arm, arm, analyser)


def test_an_unknown_measurement_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="crystal ball"):
        table_for("crystal ball", LOSSY, LOSSY, AnalyserOptics())


# --- double excitation ------------------------------------------------------------------------


def test_double_excitation_adds_clicks_of_a_second_photon() -> None:
    """One end only: one photon, or two that choose their detectors independently."""
    eta, alpha, twice = 0.4, 0.3, 0.1
    table = single_click(ArmOptics(eta, alpha, twice), ArmOptics(0.5, 0.0), AnalyserOptics())
    expected = (1 - twice) * eta / 2 + twice * (eta * (1 - eta) + eta**2 / 4)
    assert table.probability(0b01) == pytest.approx(alpha * expected, rel=1e-12)


def test_double_excitation_of_either_end_takes_its_share_of_the_coherence() -> None:
    def coherence(one: float, other: float) -> float:
        a, b = ArmOptics(0.4, 0.3, one), ArmOptics(0.2, 0.3, other)
        outcome = single_click(a, b, AnalyserOptics(0.9)).outcome(0b01)
        return float(outcome.state[1, 2].real) * outcome.probability

    assert coherence(0.04, 0.0) / coherence(0, 0) == pytest.approx(math.sqrt(0.96), rel=1e-12)
    assert coherence(0.04, 0.1) / coherence(0, 0) == pytest.approx(math.sqrt(0.96 * 0.9), rel=1e-12)


def test_an_unpolarised_second_photon_spoils_two_photon_heralds_in_proportion() -> None:
    """Lossless: it must not land elsewhere, so it joins a clicked detector: 2 of 4."""
    twice = 0.1
    table = table_for(POLARISATION, ArmOptics(1.0, 0.5, twice), ArmOptics(1.0), AnalyserOptics())
    # Photons of equal polarisation with an extra one of the other: heralds that are wrong.
    wrong = 0.5 * twice * 0.5
    success = table.success(HERALDS[POLARISATION])
    assert success == pytest.approx(0.5 * (1 - twice) + 0.5 * twice * 0.5 + wrong, rel=1e-9)
    assert mean_fidelity(POLARISATION, table) < 1 - wrong


# --- frequency offset and time tags -----------------------------------------------------------

DETUNED = AnalyserOptics(0.9, 0.0, False, 0.0, 5e6, 12_000)
"""5 MHz between two packets of 12 ns."""


def average_over_tags(scheme: str, clicks: int, state: Matrix) -> Matrix:
    """The mean over exponential arrival times, by a sum over a fine grid of both times."""
    lifetime, steps = DETUNED.lifetime_ps, 600
    times = [lifetime * 14 * (k + 0.5) / steps for k in range(steps)]
    weights = np.exp(-np.array(times) / lifetime)
    weights /= weights.sum()
    if scheme == SINGLE_CLICK:
        phases = np.array([phase_of(scheme, clicks, [round(t)], DETUNED) for t in times])
        factor = (weights * np.exp(1j * phases)).sum()
    else:
        first = [phase_of(scheme, clicks, [round(t), 0], DETUNED) for t in times]
        second = [phase_of(scheme, clicks, [0, round(t)], DETUNED) for t in times]
        factor = (weights * np.exp(1j * np.array(first))).sum()
        factor *= (weights * np.exp(1j * np.array(second))).sum()
    keep = np.ones((4, 4), dtype=complex)
    keep[2, 1], keep[1, 2] = factor, factor.conjugate()
    result: Matrix = state * keep
    return result


@pytest.mark.parametrize("scheme", SCHEMES)
def test_who_ignores_the_tags_holds_the_average_over_them(scheme: str) -> None:
    table = table_for(scheme, ArmOptics(0.1, 0.3), ArmOptics(0.1, 0.3), DETUNED)
    blurred = untagged(scheme, table, DETUNED)
    for clicks in HERALDS[scheme]:
        expected = average_over_tags(scheme, clicks, table.outcome(clicks).state)
        got = blurred.outcome(clicks).state
        assert np.abs(got - expected).max() < 1e-3


def test_a_5_mhz_offset_costs_fidelity_without_and_none_with_correction() -> None:
    arm = ArmOptics(1e-4, 1e-4)
    analyser = AnalyserOptics(1.0, 0.0, False, 0.0, 5e6, 12_000)
    table = single_click(arm, arm, analyser)
    assert mean_fidelity(SINGLE_CLICK, table) == pytest.approx(1, abs=2e-4)
    blurred = untagged(SINGLE_CLICK, table, analyser)
    # (1 + 1 / (1 + 0.376991^2)) / 2
    assert mean_fidelity(SINGLE_CLICK, blurred) == pytest.approx(0.937780, abs=2e-4)


def test_the_phase_of_the_tags_is_put_on_and_taken_off_again() -> None:
    state = bell_projector(PSI_PLUS)
    phase = phase_of(SINGLE_CLICK, 0b01, [50_000], DETUNED)
    assert phase == pytest.approx(-2 * math.pi * 0.25, rel=1e-12)
    turned = with_phase(state, phase)
    assert fidelity(turned, PSI_PLUS) == pytest.approx(0.5, abs=1e-12)
    assert np.abs(with_phase(turned, -phase) - state).max() < 1e-12


def test_half_a_beat_between_the_tags_turns_psi_plus_into_psi_minus() -> None:
    for scheme, clicks in ((POLARISATION, 0b0011), (POLARISATION, 0b1100), (BARRETT_KOK, 0b0101)):
        phase = phase_of(scheme, clicks, [20_000, 120_000], DETUNED)
        assert fidelity(with_phase(bell_projector(PSI_PLUS), phase), PSI_MINUS) == pytest.approx(1)


def test_the_phase_of_crossed_polarisations_follows_which_photon_came_when() -> None:
    """H first and V later gives one sign, whatever detector numbers they have."""
    h_first = phase_of(POLARISATION, 0b1001, [1000, 9000], DETUNED)
    also_h_first = phase_of(POLARISATION, 0b0110, [9000, 1000], DETUNED)
    assert h_first == also_h_first != 0
    assert phase_of(POLARISATION, 0b0001, [1000], DETUNED) == 0.0
    with pytest.raises(LocalProtocolError, match="1 tags"):
        phase_of(POLARISATION, 0b0110, [1000], DETUNED)


def test_detuned_packets_bunch_less_but_keep_their_tagged_coherence() -> None:
    arm = ArmOptics(0.5, 0.4)
    tuned = single_click(arm, arm, AnalyserOptics(0.9))
    detuned = single_click(arm, arm, DETUNED)
    bunching = 0.4**2 * 0.5**2 * 0.9 / 4 * (1 - 1 / (1 + 0.376991118**2))
    difference = tuned.probability(1) - detuned.probability(1)
    assert difference == pytest.approx(bunching, rel=1e-6)
    one, other = tuned.outcome(1), detuned.outcome(1)
    assert one.state[1, 2] * one.probability == pytest.approx(
        other.state[1, 2] * other.probability, rel=1e-12
    )
    assert abs(tag_average(SINGLE_CLICK, DETUNED)) ** 2 == pytest.approx(
        tag_average(BARRETT_KOK, DETUNED).real, rel=1e-12
    )


# --- windows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "expected"), [(0, 0.98758), (300, 0.84131), (500, 0.5), (700, 0.15866)]
)
def test_captured_fraction_of_a_nanosecond_window(offset: int, expected: float) -> None:
    """Case O25: full width 1 ns, jitter 0.2 ns."""
    assert captured(1000, 200, offset) == pytest.approx(expected, abs=1e-5)
    assert captured(1000, 200, -offset) == captured(1000, 200, offset)


def test_without_jitter_a_window_captures_all_or_nothing() -> None:
    assert captured(1000, 0, 499) == 1.0
    assert captured(1000, 0, 501) == 0.0


def test_late_packets_interfere_less() -> None:
    assert visibility_with_delay(0.9, -6000, 12_000) == pytest.approx(
        0.9 * 0.6065306597126334, rel=1e-12
    )
    assert visibility_with_delay(0.9, 0, 0) == 0.9
    assert visibility_with_delay(0.9, 5, 0) == 0.0


def test_dark_probability_of_ten_counts_per_second_in_50_nanoseconds() -> None:
    assert dark_probability(10, 50_000) == pytest.approx(4.99999875e-7, rel=1e-9)
    assert dark_probability(1e9, 1000) == pytest.approx(1 - math.exp(-1), rel=1e-12)


# --- pair sources -----------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [X, Y, Z, TILTED])
@pytest.mark.parametrize("bell", [PHI_PLUS, PHI_MINUS, PSI_PLUS, PSI_MINUS])
def test_a_source_in_the_middle_has_the_rate_and_error_of_the_dossier(
    axis: Axis, bell: int
) -> None:
    """Case O23: 0.05 pairs per mode, efficiencies 0.1 and 0.2, both ends along matching axes."""
    signs = np.diag(correlation_matrix(bell_projector(bell)))
    x, y, z = (float(s * n) for s, n in zip(signs, axis, strict=True))
    table = pair_source(ArmOptics(0.1), ArmOptics(0.2), PairSource(0.05, bell), axis, (x, y, z))
    assert sum(table.probabilities) == pytest.approx(1, abs=1e-12)
    assert table.coincidence() == pytest.approx(0.00220666, abs=5e-9)
    assert table.mismatch() / table.coincidence() == pytest.approx(0.0376952, abs=5e-8)


def test_a_source_in_the_middle_agrees_with_a_sum_over_photon_numbers() -> None:
    """Phi+ along Z at both ends: two independent modes with geometric pair numbers."""
    lam, eta_a, eta_b, dark = 0.3, 0.6, 0.35, 0.01
    table = pair_source(ArmOptics(eta_a), ArmOptics(eta_b), PairSource(lam, 0, dark), Z, Z)
    clicks = np.zeros((2, 2))
    for n in range(80):
        weight = lam**n / (1 + lam) ** (n + 1)
        silent_a, silent_b = (1 - dark) * (1 - eta_a) ** n, (1 - dark) * (1 - eta_b) ** n
        clicks += weight * np.outer([silent_a, 1 - silent_a], [silent_b, 1 - silent_b])
    for a0, a1, b0, b1 in itertools.product((0, 1), repeat=4):
        got = table.probabilities[a0 | a1 << 1 | b0 << 2 | b1 << 3]
        assert got == pytest.approx(clicks[a0, b0] * clicks[a1, b1], abs=1e-14)


def test_correlations_of_a_faint_source_fall_with_its_brightness() -> None:
    """Low efficiency: each correlator is that of the Bell state times (1 + lam) / (1 + 3 lam)."""
    lam, faint = 0.1, ArmOptics(1e-5)
    for bell, one, other in itertools.product(range(4), (X, Y, Z, TILTED), (X, Y, TILTED)):
        table = pair_source(faint, faint, PairSource(lam, bell), one, other)
        ideal = np.array(one) @ correlation_matrix(bell_projector(bell)) @ np.array(other)
        got = 1 - 2 * table.mismatch() / table.coincidence()
        assert got == pytest.approx(ideal * (1 + lam) / (1 + 3 * lam), abs=1e-3)


def test_half_of_the_heralds_of_two_pair_sources_are_double_pairs_of_one() -> None:
    def heralds(one: float, other: float, efficiency: float) -> float:
        arm, ends = ArmOptics(efficiency), (PairEnd(one, 0.0), PairEnd(other, 0.0))
        table = spdc_bsm(ends, arm, arm, AnalyserOptics()).probabilities
        return sum(p for mask, p in enumerate(table) if mask & 15 in HERALDS[POLARISATION])

    # 4 lam^2 eta^2 = 4e-10 in all, of which 2e-10 from one pair at each end.
    assert heralds(1e-4, 1e-4, 0.1) == pytest.approx(4e-10, rel=0.01)
    double = heralds(1e-3, 0.0, 0.3) + heralds(0.0, 1e-3, 0.3)
    assert double / heralds(1e-3, 1e-3, 0.3) == pytest.approx(0.5, abs=0.005)


def test_ends_that_both_saw_a_photon_share_the_swapped_bell_state() -> None:
    """Four-fold coincidences of two faint Phi+ sources have the correlators of the herald."""
    for axis, k in ((X, 0), (Y, 1), (Z, 2)):
        ends = (PairEnd(1e-3, 1.0, axis), PairEnd(1e-3, 1.0, axis))
        arm = ArmOptics(1.0)
        table = spdc_bsm(ends, arm, arm, AnalyserOptics()).probabilities
        for herald, bell in HERALDS[POLARISATION].items():
            same = sum(table[herald | end << 4] for end in (0b0101, 0b1010))
            different = sum(table[herald | end << 4] for end in (0b0110, 0b1001))
            ideal = correlation_matrix(bell_projector(bell))[k, k]
            assert (same - different) / (same + different) == pytest.approx(ideal, abs=0.02)


def test_pair_sources_refuse_what_they_do_not_model() -> None:
    ends = (PairEnd(0.1, 1.0), PairEnd(0.1, 1.0))
    with pytest.raises(LocalProtocolError, match="threshold"):
        spdc_bsm(ends, LOSSY, LOSSY, AnalyserOptics(number_resolving=True))
    with pytest.raises(LocalProtocolError, match="pair_mean"):
        pair_source(LOSSY, LOSSY, PairSource(-0.1), Z, Z)

"""The fidelity budget against published numbers, hand-computed values and density matrices."""

from __future__ import annotations

import math
from itertools import product
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.bell import PHI_PLUS, PSI_PLUS, BellWeights, werner
from qstack.errors import LocalProtocolError
from qstack.network import budget
from qstack.network.budget import Operations, Storage
from qstack.network.meeting import meeting_rate
from tests.network import registers

SECOND = 1_000_000_000
DIGITS = 1e-9

operations = st.builds(Operations, st.floats(0.5, 1.0), st.floats(0.5, 1.0))


@st.composite
def weights(draw: st.DrawFn) -> BellWeights:
    raw = [draw(st.floats(0.001, 1.0)) for _ in range(4)]
    return cast(BellWeights, tuple(each / sum(raw) for each in raw))


def test_swapped_werner_pairs_have_the_fidelity_of_case_o9() -> None:
    assert budget.swap(werner(0.9), werner(0.85))[0] == pytest.approx(0.77, rel=DIGITS)


def test_swapped_bell_diagonal_pairs_have_the_weights_of_case_o10() -> None:
    result = budget.swap((0.9, 0.06, 0.03, 0.01), (0.8, 0.05, 0.1, 0.05))
    assert result == pytest.approx((0.7265, 0.0955, 0.1175, 0.0605), rel=DIGITS)


def test_a_swap_with_noisy_gate_and_readout_has_the_fidelity_of_case_o11() -> None:
    result = budget.swap(werner(0.95), werner(0.95), Operations(0.98, 0.99))
    assert result[0] == pytest.approx(0.873278257778, rel=1e-11)


@pytest.mark.parametrize(("links", "expected"), [(2, 0.903333), (4, 0.819126), (10, 0.626209)])
def test_chains_of_equal_werner_pairs_have_the_fidelities_of_case_o12(
    links: int, expected: float
) -> None:
    assert budget.chain([werner(0.95)] * links)[0] == pytest.approx(expected, abs=5e-7)
    assert budget.werner_after([0.95] * links) == pytest.approx(expected, abs=5e-7)


def test_orthogonal_errors_swap_to_less_than_equal_fidelities_of_werner_pairs() -> None:
    one, other = (0.9, 0.1, 0.0, 0.0), (0.9, 0.0, 0.1, 0.0)
    assert budget.swap(one, other)[0] == pytest.approx(0.81)
    assert budget.swap(werner(0.9), werner(0.9))[0] == pytest.approx(0.8133, abs=5e-5)


@given(weights(), weights(), operations)
def test_a_swap_is_what_density_matrices_say(
    first: BellWeights, second: BellWeights, node: Operations
) -> None:
    # Qubits A, m1, m2, B; CNOT m1 to m2, H on m1; m1 tells z and m2 tells x.
    state = registers.noisy_cnot(
        np.kron(registers.pair(first), registers.pair(second)), (1, 2), 4, node
    )
    turn = registers.on(registers.hadamard(), 1, 4)
    state = turn @ state @ turn.conj().T
    total = np.zeros(4)
    for z, x in product((0, 1), (0, 1)):
        left = registers.reads(registers.reads(state, 1, z, 4, node), 2, x, 4, node)
        found = registers.bell_weights(registers.without(left, (1, 2), 4))
        total += [found[index ^ (x << 1 | z)] for index in range(4)]
    assert budget.swap(first, second, node) == pytest.approx(tuple(total), abs=1e-12)


@given(weights())
def test_correlators_and_weights_say_the_same(given: BellWeights) -> None:
    assert budget.weights_of(budget.correlators(given)) == pytest.approx(given, abs=1e-12)
    assert budget.fidelity(budget.correlators(given)) == pytest.approx(given[0], abs=1e-12)


def test_rounding_makes_no_weight_negative() -> None:
    # One photon, alpha 0.02: a node that advertised -3e-17 for Z was not believed, and stopped.
    given = (0.98 / 0.99, 0.0, 0.005 / 0.99, 0.005 / 0.99)
    found = budget.weights_of(budget.correlators(given))
    assert min(found) == 0.0
    assert found == pytest.approx(given, abs=1e-15)


def test_relaxation_of_both_halves_and_of_one_has_the_fidelities_of_case_o7() -> None:
    half = Storage(2 * SECOND, 1 * SECOND), 0.5 * SECOND
    rested = Storage(2 * SECOND, 1 * SECOND), 0.0
    perfect: BellWeights = (1.0, 0.0, 0.0, 0.0)
    for bell, other, expected in (
        (PHI_PLUS, half, 0.597804658906),
        (PSI_PLUS, half, 0.573340112121),
        (PHI_PLUS, rested, 0.747965525624),
    ):
        assert budget.relax(perfect, bell, half, other)[0] == pytest.approx(expected, abs=1e-12)


def test_relaxation_of_psi_has_the_fidelity_of_case_o8() -> None:
    wait = Storage(SECOND, 50_000_000), 10_000_000.0
    found = budget.relax((1.0, 0.0, 0.0, 0.0), PSI_PLUS, wait, wait)[0]
    assert found == pytest.approx(0.83018493989, abs=1e-11)


@given(weights(), st.floats(0, 3e9), st.floats(0, 3e9))
def test_without_a_pole_relaxation_is_fading_of_both_halves(
    given: BellWeights, first_ns: float, second_ns: float
) -> None:
    storage = Storage(2 * SECOND, SECOND, 1.5)
    faded = budget.together(
        budget.correlators(given),
        budget.fading(storage, first_ns),
        budget.fading(storage, second_ns),
    )
    both = budget.relax(given, PSI_PLUS, (storage, first_ns), (storage, second_ns), 0.0)
    assert both == pytest.approx(budget.weights_of(faded), abs=1e-12)


def test_a_stretched_exponential_is_asked_for_the_whole_age() -> None:
    storage = Storage(0, SECOND, 3.0)
    halves = budget.coherence(storage, 0.5 * SECOND) ** 2
    assert (halves, budget.coherence(storage, SECOND)) == pytest.approx((0.78, 0.37), abs=5e-3)


@pytest.mark.parametrize("exponent", [1.0, 2.0])
@pytest.mark.parametrize("cutoff_s", [0.0, 0.2])
def test_the_mean_over_a_wait_is_the_integral_over_its_law(
    exponent: float, cutoff_s: float
) -> None:
    rate, t2 = 5.0, 0.3
    times = np.linspace(0, cutoff_s or 20.0, 400_001)
    law = rate * np.exp(-rate * times)
    factor = np.exp(-((times / t2) ** exponent))
    expected = np.trapezoid(law * factor, times) / np.trapezoid(law, times)
    storage = Storage(0, round(t2 * SECOND), exponent)
    found = budget.mean_fading(storage, rate, round(cutoff_s * SECOND))
    # A closed form for exponent 1, 64 points of the distribution otherwise.
    assert found[0] == pytest.approx(expected, abs=1e-8 if exponent == 1.0 else 1e-3)
    assert found == (found[0], found[0], 1.0)


def test_relaxation_takes_coherence_too_where_nothing_else_does() -> None:
    # Amplitude damping by g leaves sqrt(1 - g) of a coherence: exp(-t / (2 T1)).
    only = Storage(SECOND, 0)
    assert budget.fading(only, SECOND) == pytest.approx((math.exp(-0.5),) * 2 + (math.exp(-1),))
    assert budget.mean_fading(only, 1.0)[0] == pytest.approx(1 / 1.5)
    early = Storage(SECOND, SECOND, 3.0), 0.1 * SECOND
    assert budget.coherence(*early) == pytest.approx(math.exp(-0.05))
    waits = np.linspace(0, 20, 400_001)
    law = np.exp(-waits) * np.exp(-np.maximum(waits / 2, waits**3))
    expected = np.trapezoid(law, waits)
    assert budget.mean_fading(early[0], 1.0)[0] == pytest.approx(expected, abs=1e-3)


def test_what_never_comes_leaves_no_coherence() -> None:
    assert budget.mean_fading(Storage(0, SECOND), 0.0) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [((0.1,) * 2, 14.736842), ((0.1,) * 4, 20.273378), ((0.02,) * 3, 91.246913)],
)
def test_the_slots_for_all_links_are_those_of_case_o15(
    probabilities: tuple[float, ...], expected: float
) -> None:
    assert budget.slots_for_all(probabilities) == pytest.approx(expected, abs=5e-7)


def test_ten_links_of_one_percent_take_the_slots_of_the_dossier() -> None:
    assert budget.slots_for_all((0.01,) * 10) == pytest.approx(291.93, abs=5e-3)


def test_more_links_than_can_be_expanded_take_the_slots_of_the_alternating_sum() -> None:
    p, n = 0.25, 16
    exact = sum(math.comb(n, k) * (-1) ** (k + 1) / (1 - (1 - p) ** k) for k in range(1, n + 1))
    assert budget.slots_for_all((p,) * n) == pytest.approx(exact, rel=1e-9)
    assert budget.slots_for_all((1.0,) * n) == pytest.approx(1.0)


def test_slots_for_all_refuse_what_never_succeeds() -> None:
    with pytest.raises(LocalProtocolError, match="no probabilities"):
        budget.slots_for_all((0.5, 0.0))


def test_the_mean_over_the_wait_of_two_segments_is_the_sum_over_all_their_times() -> None:
    p, factor = 0.2, 0.9
    times = range(1, 300)
    chance = {t: p * (1 - p) ** (t - 1) for t in times}
    expected = sum(chance[a] * chance[b] * factor ** abs(a - b) for a in times for b in times)
    assert budget.power_of_wait(p, factor) == pytest.approx(expected, abs=1e-12)


def test_slots_with_a_cutoff_are_those_of_the_chain_of_states() -> None:
    # States: nothing, or one pair of age 0 to m; the mean first passage to both, by equations.
    p, q, m = 0.15, 0.85, 4
    size = m + 1
    matrix, ones = np.eye(size + 1), np.ones(size + 1)
    matrix[0, 0] -= q * q
    matrix[0, 1] -= 2 * p * q
    for age in range(size):
        after = 0 if age == m else age + 2
        if age == m:
            ones[1 + age] = 0.0  # discarded at once, no slot passes
            matrix[1 + age, 0] -= 1.0
        else:
            matrix[1 + age, after] -= q
    expected = np.linalg.solve(matrix, ones)[0]
    assert budget.slots_with_cutoff(p, m) == pytest.approx(float(expected), rel=1e-12)


def test_two_pairs_meet_at_the_inverse_of_the_mean_of_the_later() -> None:
    assert meeting_rate(4.0, 4.0) == pytest.approx(4.0 / 1.5)
    assert meeting_rate(2.0, 6.0) == pytest.approx(1 / (1 / 2 + 1 / 6 - 1 / 8))
    assert meeting_rate(0.0, 6.0) == 0.0
    assert budget.one_after_the_other(2.0, 6.0) == pytest.approx(1.5)


def test_all_of_equal_links_are_there_at_the_rate_of_the_harmonic_number() -> None:
    for count in (1, 2, 4, 8, 12, 13, 40):
        harmonic = sum(1 / k for k in range(1, count + 1))
        found = budget.rate_of_all((5.0,) * count)
        assert found == pytest.approx(5.0 / harmonic, rel=1e-6)
    assert budget.rate_of_all((2.0, 6.0)) == pytest.approx(1 / (1 / 2 + 1 / 6 - 1 / 8))
    assert budget.rate_of_all((2.0, 0.0)) == budget.rate_of_all(()) == 0.0


def test_all_of_unequal_links_are_there_at_the_rate_of_short_slots() -> None:
    rates, slot_s = (3.0, 7.0, 20.0, 90.0), 1e-5
    slots = budget.slots_for_all([rate * slot_s for rate in rates])
    assert budget.rate_of_all(rates) == pytest.approx(1 / (slots * slot_s), rel=1e-3)
    # Links that are there at once change nothing: the integral agrees with the sum.
    many = rates + (1e9,) * 10
    assert budget.rate_of_all(many) == pytest.approx(budget.rate_of_all(rates), rel=1e-6)


def test_of_links_of_a_few_kinds_each_counts_and_in_no_order() -> None:
    """Fibres cut into five, six and four: the mean is the sum over how many of each are late."""
    kinds = ((2.0, 5), (3.0, 6), (11.0, 4))
    exact = sum(
        (-1) ** (a + b + c + 1)
        * math.comb(5, a) * math.comb(6, b) * math.comb(4, c)
        / (2 * a + 3 * b + 11 * c)
        for a in range(6) for b in range(7) for c in range(5) if a + b + c
    )  # fmt: skip
    rates = [rate for rate, many in kinds for _ in range(many)]
    assert budget.rate_of_all(rates) == pytest.approx(1 / exact, rel=1e-6)
    assert budget.rate_of_all(rates[::-1]) == pytest.approx(1 / exact, rel=1e-6)


def test_meetings_with_a_cutoff_are_the_limit_of_short_slots() -> None:
    slot_s, rate, cutoff_s = 1e-4, 10.0, 0.05
    slots = budget.slots_with_cutoff(rate * slot_s, round(cutoff_s / slot_s))
    found = meeting_rate(rate, rate, round(cutoff_s * SECOND))
    assert found == pytest.approx(1 / (slots * slot_s), rel=2e-3)
    assert found < meeting_rate(rate, rate)


def test_a_gate_of_an_average_fidelity_keeps_what_its_mixing_leaves() -> None:
    for qubits, keep in product((1, 2), (0.0, 0.9, 1.0)):
        average = keep + (1 - keep) / 2**qubits
        assert budget.keep_of(average, qubits) == pytest.approx(keep)


def test_a_chain_needs_one_node_less_than_links() -> None:
    with pytest.raises(LocalProtocolError, match="have not"):
        budget.chain([werner(0.9)] * 3, [Operations()])

"""The algebra of Bell indices against state vectors written down here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qstack import bell

ROOT = 2**-0.5
STATES = {
    0: np.array([ROOT, 0, 0, ROOT]),
    1: np.array([ROOT, 0, 0, -ROOT]),
    2: np.array([0, ROOT, ROOT, 0]),
    3: np.array([0, ROOT, -ROOT, 0]),
}
PAULI = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float(abs(np.vdot(one, other)) ** 2)


@pytest.mark.parametrize("index", range(4))
def test_index_is_the_pauli_that_turns_phi_plus_into_the_state(index: int) -> None:
    x, z = index >> 1, index & 1
    pauli = np.linalg.matrix_power(PAULI["X"], x) @ np.linalg.matrix_power(PAULI["Z"], z)
    assert overlap(np.kron(PAULI["I"], pauli) @ STATES[0], STATES[index]) == pytest.approx(1)


@pytest.mark.parametrize(("have", "want"), [*itertools.product(range(4), range(4))])
def test_correction_on_either_half_turns_one_state_into_the_other(have: int, want: int) -> None:
    x, z = bell.correction(have, want)
    pauli = np.linalg.matrix_power(PAULI["X"], x) @ np.linalg.matrix_power(PAULI["Z"], z)
    for operator in (np.kron(pauli, PAULI["I"]), np.kron(PAULI["I"], pauli)):
        assert overlap(operator @ STATES[have], STATES[want]) == pytest.approx(1)


@pytest.mark.parametrize(("index", "axis"), [*itertools.product(range(4), "XYZ")])
def test_sign_of_each_correlator_is_that_of_the_state(index: int, axis: str) -> None:
    value = np.vdot(STATES[index], np.kron(PAULI[axis], PAULI[axis]) @ STATES[index]).real
    assert bell.sign(index, axis) == pytest.approx(value)


@pytest.mark.parametrize(("index", "axis"), [*itertools.product(range(4), "XYZ")])
def test_flipping_one_outcome_makes_the_pair_read_like_phi_plus(index: int, axis: str) -> None:
    flipped = bell.sign(index, axis) * (-1) ** bell.flip(index, axis)
    assert flipped == bell.sign(bell.PHI_PLUS, axis)


def test_all_64_swaps_follow_the_rule_of_exclusive_or() -> None:
    """A-m1 in b1, m2-C in b2, projected on m1 m2 in bM: A-C is in b1 ^ b2 ^ bM."""
    for first, second, outcome in itertools.product(range(4), repeat=3):
        joint = np.kron(STATES[first], STATES[second]).reshape(2, 2, 2, 2)
        projected = np.einsum("abcd,bc->ad", joint, STATES[outcome].reshape(2, 2).conj())
        state = projected.reshape(4) / np.linalg.norm(projected)
        assert overlap(state, STATES[bell.compose(first, second, outcome)]) == pytest.approx(1)


def test_fidelity_from_correlators_of_a_bell_diagonal_state() -> None:
    """Case O17 of the physics notes: weights .85 .09 .04 .02 in the order I, Z, X, Y."""
    assert bell.fidelity_from_correlators(0, 0.78, -0.74, 0.88) == pytest.approx(0.85)


def test_dephasing_moves_weight_between_states_of_opposite_phase() -> None:
    weights = bell.dephase((1.0, 0.0, 0.0, 0.0), 0.6)
    assert weights == pytest.approx((0.8, 0.2, 0.0, 0.0))
    assert bell.dephase((0.0, 0.0, 0.25, 0.75), 0.0) == pytest.approx((0, 0, 0.5, 0.5))


def test_a_pauli_on_one_half_permutes_the_weights() -> None:
    assert bell.permute((0.4, 0.3, 0.2, 0.1), bell.PSI_PLUS) == (0.2, 0.1, 0.4, 0.3)


def test_werner_weights_sum_to_one_around_any_index() -> None:
    for index in range(4):
        weights = bell.werner(0.7, index)
        assert weights[index] == pytest.approx(0.7)
        assert sum(weights) == pytest.approx(1)

"""Density matrices against the numbers of the validation dossier and against each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from qstack.bell import PSI_PLUS, BellWeights, fidelity_from_correlators, flip, sign, werner
from qstack.errors import LocalProtocolError
from qstack.messages.common import PLAIN_Z, Basis, BasisPlan, BasisSet
from qstack.messages.devices import Gate
from qstack.sim.states import (
    PAULI_X,
    PAULI_Y,
    PAULI_Z,
    Decay,
    Matrix,
    apply,
    axis_projector,
    bell_projector,
    bell_state,
    bell_weights,
    chsh_maximum,
    correlation_matrix,
    damp,
    decay,
    decay_weights,
    dephase_qubit,
    depolarise,
    draw_basis,
    fidelity,
    fidelity_deviation,
    gate_matrix,
    keep_from_fidelity,
    measure,
    merge,
    partial_trace,
    plan_axis,
    size,
    zero,
)
from qstack.units import MILLISECOND, SECOND

RESOURCE: BellWeights = (0.85, 0.09, 0.04, 0.02)
"""The Bell-diagonal state of cases O17 and O18."""


def random_state(qubits: int, seed: int) -> Matrix:
    draw = np.random.default_rng(seed)
    shape = (2**qubits, 2**qubits)
    root = draw.normal(size=shape) + 1j * draw.normal(size=shape)
    state: Matrix = root @ root.conj().T / np.linalg.norm(root) ** 2
    return state


def embed(operator: Matrix, qubit: int, qubits: int) -> Matrix:
    factors = [np.eye(2)] * qubits
    factors[qubit] = operator
    return merge(*factors)


def correlator(state: Matrix, one: Basis, other: Basis) -> float:
    total = 0.0
    for first in measure(state, 0, plan_axis(PLAIN_Z, one)):
        for second in measure(first.state, 0, plan_axis(PLAIN_Z, other)):
            parity = (-1) ** (first.outcome ^ second.outcome)
            total += parity * first.probability * second.probability
    return total


# --- Bell states ------------------------------------------------------------------------------


def test_bell_vectors_are_paulis_on_the_second_half_of_phi_plus() -> None:
    phi = np.array([1, 0, 0, 1]) / math.sqrt(2)
    for b in range(4):
        x, z = b >> 1, b & 1
        pauli = np.linalg.matrix_power(PAULI_X, x) @ np.linalg.matrix_power(PAULI_Z, z)
        vector = np.kron(np.eye(2), pauli) @ phi
        assert vector.conj() @ bell_projector(b) @ vector == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("axis", "basis"), [("X", Basis.X), ("Y", Basis.Y), ("Z", Basis.Z)])
def test_bell_correlators_have_the_signs_and_flips_of_the_bell_module(
    axis: str, basis: Basis
) -> None:
    for b in range(4):
        value = correlator(bell_projector(b), basis, basis)
        assert value == pytest.approx(sign(b, axis), abs=1e-12)
        assert sign(b, axis) == sign(0, axis) * (-1) ** flip(b, axis)


def test_weights_of_a_bell_diagonal_state_come_back() -> None:
    assert bell_weights(bell_state(RESOURCE)) == pytest.approx(RESOURCE, abs=1e-12)


def test_correlators_and_chsh_of_the_reference_state() -> None:
    """Case O17."""
    state = bell_state(RESOURCE)
    table = correlation_matrix(state)
    assert np.diag(table) == pytest.approx([0.78, -0.74, 0.88], abs=1e-12)
    assert np.abs(table - np.diag(np.diag(table))).max() < 1e-12
    assert fidelity_from_correlators(0, *np.diag(table)) == pytest.approx(0.85, abs=1e-12)
    assert chsh_maximum(state) == pytest.approx(2.351850, abs=5e-7)


def test_chsh_with_the_fixed_axes_of_the_basis_set_is_below_the_optimum() -> None:
    """Case O17: one end measures Z or X, the other (Z+X)/sqrt2 or (Z-X)/sqrt2."""
    state = bell_state(RESOURCE)
    value = (
        correlator(state, Basis.Z, Basis.ZPX)
        + correlator(state, Basis.Z, Basis.ZMX)
        + correlator(state, Basis.X, Basis.ZPX)
        - correlator(state, Basis.X, Basis.ZMX)
    )
    assert value == pytest.approx(2.347595, abs=5e-7)


def test_chsh_of_a_werner_state() -> None:
    assert chsh_maximum(bell_state(werner(0.9))) == pytest.approx(2.451304, abs=5e-7)


def test_deviation_of_a_fidelity_from_a_thousand_rounds_per_setting() -> None:
    """Case O18."""
    assert fidelity_deviation((0.78, -0.74, 0.88), (1000,) * 3) == pytest.approx(0.008176, abs=5e-7)


# --- memory -----------------------------------------------------------------------------------

AGEING = Decay(2 * SECOND, 1 * SECOND)


@pytest.mark.parametrize(
    ("index", "qubits", "expected"),
    [(0, (0, 1), 0.597804658906), (2, (0, 1), 0.573340112121), (0, (0,), 0.747965525624)],
)
def test_relaxation_and_dephasing_of_bell_states(
    index: int, qubits: tuple[int, ...], expected: float
) -> None:
    """Case O7: T1 = 2 s, T2 = 1 s, half a second."""
    state = bell_projector(index)
    for qubit in qubits:
        state = decay(state, qubit, AGEING, 0, SECOND // 2)
    assert fidelity(state, index) == pytest.approx(expected, rel=2e-12)


def test_psi_plus_after_ten_milliseconds_at_both_ends() -> None:
    """Case O8: T1 = 1 s, T2 = 50 ms."""
    law = Decay(SECOND, 50 * MILLISECOND)
    state = bell_projector(PSI_PLUS)
    for qubit in (0, 1):
        state = decay(state, qubit, law, 0, 10 * MILLISECOND)
    assert fidelity(state, PSI_PLUS) == pytest.approx(0.83018493989, rel=1e-10)


@pytest.mark.parametrize("law", [Decay(1000, 300, 3.0, 0.2), Decay(0, 300, 1.5), Decay(900, 0)])
def test_ageing_in_two_steps_is_ageing_in_one(law: Decay) -> None:
    state = random_state(2, 1)
    whole = decay(state, 1, law, 0, 250)
    halves = decay(decay(state, 1, law, 0, 125), 1, law, 125, 250)
    assert np.abs(whole - halves).max() < 1e-12


def test_a_stretched_exponential_counts_from_initialisation() -> None:
    """Two fresh halves would keep 0.78, the true law keeps 0.37 (n = 3)."""
    law = Decay(0, 1000, 3.0)
    assert law.dephasing(0, 500) ** 2 == pytest.approx(0.7788, abs=1e-4)
    assert law.dephasing(0, 500) * law.dephasing(500, 1000) == pytest.approx(0.3679, abs=1e-4)


def test_a_qubit_relaxes_to_its_own_equilibrium() -> None:
    law = Decay(100, 50, 1.0, 0.3)
    old = decay(random_state(1, 2), 0, law, 0, 10_000)
    assert np.abs(old - np.diag([0.7, 0.3])).max() < 1e-12


def test_coherence_never_outlives_relaxation() -> None:
    state = decay(np.full((2, 2), 0.5), 0, Decay(100, 10_000), 0, 100)
    assert abs(state[0, 1]) == pytest.approx(0.5 * math.exp(-0.5), rel=1e-12)


@pytest.mark.parametrize("law", [Decay(0, 300, 2.0), Decay(400, 300, 1.0, 0.5)])
def test_weights_age_as_density_matrices_do(law: Decay) -> None:
    weights = decay_weights(RESOURCE, law, 50, 170)
    assert weights is not None
    for qubit in (0, 1):
        expected = decay(bell_state(RESOURCE), qubit, law, 50, 170)
        assert np.abs(bell_state(weights) - expected).max() < 1e-12


def test_weights_are_refused_where_relaxation_breaks_them() -> None:
    assert decay_weights(RESOURCE, Decay(400, 300), 0, 100) is None


def test_time_cannot_run_backwards_for_a_qubit() -> None:
    with pytest.raises(LocalProtocolError, match="from 10 to 5 ns"):
        decay(zero(), 0, AGEING, 10, 5)
    with pytest.raises(LocalProtocolError, match="from 10 to 5 ns"):
        decay_weights(RESOURCE, Decay(0, 300), 10, 5)


# --- registers and gates ----------------------------------------------------------------------


def test_operators_act_on_the_qubits_that_are_named() -> None:
    state = random_state(3, 3)
    for qubit in range(3):
        whole = embed(PAULI_Y, qubit, 3)
        expected = whole @ state @ whole.conj().T
        assert np.abs(apply(state, PAULI_Y, (qubit,)) - expected).max() < 1e-12


def test_cnot_flips_the_second_named_qubit_where_the_first_is_one() -> None:
    one = apply(zero(), PAULI_X, (0,))
    for control, target in itertools.permutations(range(3), 2):
        parts = [zero()] * 3
        parts[control] = one
        after = apply(merge(*parts), gate_matrix(Gate.CNOT), (control, target))
        parts[target] = one
        assert np.abs(after - merge(*parts)).max() < 1e-12


def test_cz_is_cnot_between_hadamards_on_the_target() -> None:
    state = random_state(2, 4)
    hadamard = gate_matrix(Gate.H)
    turned = apply(state, hadamard, (1,))
    turned = apply(apply(turned, gate_matrix(Gate.CNOT), (0, 1)), hadamard, (1,))
    assert np.abs(turned - apply(state, gate_matrix(Gate.CZ), (1, 0))).max() < 1e-12


def test_every_gate_is_unitary_and_full_turns_are_minus_one() -> None:
    for gate in Gate:
        matrix = gate_matrix(gate, 0.7)
        assert np.abs(matrix @ matrix.conj().T - np.eye(len(matrix))).max() < 1e-12
    for gate in (Gate.RX, Gate.RY, Gate.RZ):
        assert np.abs(gate_matrix(gate, 2 * math.pi) + np.eye(2)).max() < 1e-12
    assert np.abs(gate_matrix(Gate.S) @ gate_matrix(Gate.S) - PAULI_Z).max() < 1e-12


def test_a_quarter_turn_about_x_takes_plus_z_to_minus_y() -> None:
    turned = apply(zero(), gate_matrix(Gate.RX, math.pi / 2), (0,))
    assert np.trace(turned @ PAULI_Y).real == pytest.approx(-1, abs=1e-12)


def test_parts_of_a_merged_register_come_back_in_any_order() -> None:
    parts = [random_state(1, 5), random_state(2, 6), random_state(1, 7)]
    whole = merge(*parts)
    assert size(whole) == 4
    assert np.abs(partial_trace(whole, [0]) - parts[0]).max() < 1e-12
    assert np.abs(partial_trace(whole, [1, 2]) - parts[1]).max() < 1e-12
    assert np.abs(partial_trace(whole, [3, 0]) - merge(parts[2], parts[0])).max() < 1e-12
    assert partial_trace(whole, [])[0, 0] == pytest.approx(1, abs=1e-12)


# --- noise ------------------------------------------------------------------------------------


def test_depolarising_one_half_of_a_pair_makes_a_werner_state() -> None:
    state = depolarise(bell_projector(1), (1,), 0.8)
    assert bell_weights(state) == pytest.approx(werner(0.85, 1), abs=1e-12)


def test_depolarising_two_of_three_qubits_in_any_order_keeps_the_third() -> None:
    state = random_state(3, 8)
    noisy = depolarise(state, (2, 0), 0.0)
    rest = np.eye(2) / 2
    assert np.abs(noisy - merge(rest, partial_trace(state, [1]), rest)).max() < 1e-12
    assert np.abs(depolarise(state, (2, 0), 0.3) - (0.3 * state + 0.7 * noisy)).max() < 1e-12


def test_gate_fidelity_becomes_the_survival_that_has_this_average_fidelity() -> None:
    """The mean over the six poles of a qubit is the average gate fidelity."""
    keep = keep_from_fidelity(0.97, 1)
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    poles = [axis_projector(axis, outcome) for axis in axes for outcome in (0, 1)]
    mean = sum(np.trace(p @ depolarise(p, (0,), keep)).real for p in poles) / 6
    assert mean == pytest.approx(0.97, abs=1e-12)
    assert keep_from_fidelity(0.98, 2) == pytest.approx((4 * 0.98 - 1) / 3, abs=1e-12)
    assert keep_from_fidelity(0.1, 1) == 0.0


def test_damping_moves_population_and_shrinks_coherence() -> None:
    state = damp(np.full((2, 2), 0.5, dtype=complex), 0, 0.36, 0.0)
    assert np.abs(state - np.array([[0.68, 0.4], [0.4, 0.32]])).max() < 1e-12
    assert np.trace(damp(random_state(2, 9), 1, 0.4, 0.7)).real == pytest.approx(1, abs=1e-12)


def test_dephasing_touches_coherences_only() -> None:
    state = random_state(1, 10)
    after = dephase_qubit(state, 0, 0.25)
    assert after[0, 1] == pytest.approx(0.25 * state[0, 1], abs=1e-12)
    assert np.diag(after) == pytest.approx(np.diag(state), abs=1e-12)


# --- measurement ------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", list(Basis))
def test_a_plan_measures_what_rotating_first_would(basis: Basis) -> None:
    plan = BasisPlan(BasisSet.NONE, 0.0, 0.0, 0.4, 1.1, -0.9)
    state = random_state(1, 11)
    turned = state
    for gate, angle in ((Gate.RX, plan.x1), (Gate.RY, plan.y), (Gate.RX, plan.x2)):
        turned = apply(turned, gate_matrix(gate, angle), (0,))
    direct = measure(state, 0, plan_axis(plan, basis))
    after = measure(turned, 0, plan_axis(PLAIN_Z, basis))
    assert direct[0].probability == pytest.approx(after[0].probability, abs=1e-12)


def test_axes_are_the_eigenstates_of_their_paulis() -> None:
    expected = {
        Basis.Z: PAULI_Z,
        Basis.X: PAULI_X,
        Basis.Y: PAULI_Y,
        Basis.ZPX: (PAULI_Z + PAULI_X) / math.sqrt(2),
        Basis.ZMX: (PAULI_Z - PAULI_X) / math.sqrt(2),
    }
    for basis, pauli in expected.items():
        up = axis_projector(plan_axis(PLAIN_Z, basis), 0)
        assert np.abs(pauli @ up - up).max() < 1e-12


def test_asymmetric_readout_mixes_what_is_left() -> None:
    """A Bell pair read as 0 was truly 0 with 0.9/2, or 1 with 0.3/2."""
    zero_read, one_read = measure(bell_projector(0), 0, (0.0, 0.0, 1.0), (0.9, 0.7))
    assert zero_read.probability == pytest.approx(0.6, abs=1e-12)
    assert one_read.probability == pytest.approx(0.4, abs=1e-12)
    assert np.diag(zero_read.state).real == pytest.approx([0.75, 0.25], abs=1e-12)
    assert np.diag(one_read.state).real == pytest.approx([0.125, 0.875], abs=1e-12)


def test_readout_errors_shrink_correlators_by_their_contrasts() -> None:
    contrast = 0.0
    for first in measure(bell_projector(0), 0, (1.0, 0.0, 0.0), (0.95, 0.95)):
        for second in measure(first.state, 0, (1.0, 0.0, 0.0), (0.9, 0.9)):
            parity = (-1) ** (first.outcome ^ second.outcome)
            contrast += parity * first.probability * second.probability
    assert contrast == pytest.approx(0.9 * 0.8, abs=1e-12)


def test_an_impossible_outcome_has_probability_zero_and_a_state_all_the_same() -> None:
    _, one = measure(zero(2), 0, (0.0, 0.0, 1.0))
    assert one.probability == 0.0
    assert np.trace(one.state).real == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("basis_set", "uniform", "expected"),
    [
        (BasisSet.NONE, 0.1, Basis.Z),
        (BasisSet.XZ, 0.29, Basis.X),
        (BasisSet.XZ, 0.3, Basis.Z),
        (BasisSet.XYZ, 0.29, Basis.X),
        (BasisSet.XYZ, 0.49, Basis.Y),
        (BasisSet.XYZ, 0.51, Basis.Z),
        (BasisSet.CHSH, 0.29, Basis.ZPX),
        (BasisSet.CHSH, 0.31, Basis.ZMX),
    ],
)
def test_axes_are_drawn_with_the_probabilities_of_the_plan(
    basis_set: BasisSet, uniform: float, expected: Basis
) -> None:
    assert draw_basis(BasisPlan(basis_set, 0.3, 0.2, 0.0, 0.0, 0.0), uniform) is expected

"""Density matrices of a few qubits: gates, noise, decay, measurement, Bell weights.

A register of n qubits is a (2^n, 2^n) complex matrix; qubit 0 is the leftmost tensor factor
and the most significant bit of an index. All functions are pure and return new matrices.
Bell indices and weights are those of :mod:`qstack.bell`. Times are nanoseconds, angles radians.

Sources: textbook channels (Nielsen and Chuang, chapter 8); formulas and checked numbers in
sections 1.3 to 1.5 of the project's validation dossier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from qstack.bell import BellIndex, BellWeights, dephase
from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.common import Basis, BasisPlan, BasisSet
from qstack.messages.devices import Gate
from qstack.units import Duration

Matrix: TypeAlias = npt.NDArray[Any]
"""A complex array: a density matrix, an operator, or a vector of amplitudes."""

Axis: TypeAlias = tuple[float, float, float]
"""A direction on the Bloch sphere, (x, y, z) of length one."""

IDENTITY: Matrix = np.eye(2, dtype=complex)
PAULI_X: Matrix = np.array([[0, 1], [1, 0]], dtype=complex)
PAULI_Y: Matrix = np.array([[0, -1j], [1j, 0]], dtype=complex)
PAULI_Z: Matrix = np.array([[1, 0], [0, -1]], dtype=complex)

_HALF = math.sqrt(0.5)

_AXES: dict[Basis, Axis] = {
    Basis.Z: (0.0, 0.0, 1.0),
    Basis.X: (1.0, 0.0, 0.0),
    Basis.Y: (0.0, 1.0, 0.0),
    Basis.ZPX: (_HALF, 0.0, _HALF),
    Basis.ZMX: (-_HALF, 0.0, _HALF),
}

_FIXED: dict[Gate, Matrix] = {
    Gate.X: PAULI_X,
    Gate.Y: PAULI_Y,
    Gate.Z: PAULI_Z,
    Gate.H: (PAULI_X + PAULI_Z) / math.sqrt(2),
    Gate.S: np.diag([1, 1j]),
    Gate.CNOT: np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=complex),
    Gate.CZ: np.diag([1, 1, 1, -1]).astype(complex),
}

_GENERATORS: dict[Gate, Matrix] = {Gate.RX: PAULI_X, Gate.RY: PAULI_Y, Gate.RZ: PAULI_Z}

TWO_QUBIT_GATES = frozenset({Gate.CNOT, Gate.CZ})


# --- Bell states and what is measured of them -------------------------------------------------


def bell_vector(index: BellIndex) -> Matrix:
    """Return the four amplitudes of Bell state `index`."""
    x, z = index >> 1, index & 1
    vector = np.zeros(4, dtype=complex)
    vector[x], vector[2 | (1 ^ x)] = _HALF, -_HALF if z else _HALF
    return vector


def bell_projector(index: BellIndex) -> Matrix:
    """Return the (4, 4) projector on Bell state `index`."""
    vector = bell_vector(index)
    return np.outer(vector, vector.conj())


def bell_state(weights: BellWeights) -> Matrix:
    """Return the (4, 4) Bell-diagonal state of these weights."""
    result: Matrix = sum((w * bell_projector(b) for b, w in enumerate(weights)), np.zeros((4, 4)))
    return result


def fidelity(state: Matrix, index: BellIndex) -> float:
    """Return <B|state|B> for Bell state `index` (the squared convention)."""
    vector = bell_vector(index)
    return float((vector.conj() @ state @ vector).real)


def bell_weights(state: Matrix) -> BellWeights:
    """Return the diagonal of a (4, 4) state in the Bell basis; exact for Bell-diagonal ones."""
    return fidelity(state, 0), fidelity(state, 1), fidelity(state, 2), fidelity(state, 3)


def correlation_matrix(state: Matrix) -> Matrix:
    """Return T (3, 3), T[i, j] the mean of Pauli i on A times Pauli j on B; order X, Y, Z."""
    paulis = (PAULI_X, PAULI_Y, PAULI_Z)
    return np.array([[np.trace(state @ np.kron(p, q)).real for q in paulis] for p in paulis])


def chsh_maximum(state: Matrix) -> float:
    """Return the largest CHSH value S over all settings (Horodecki 1995)."""
    first, second, _ = np.linalg.svd(correlation_matrix(state), compute_uv=False)
    return float(2 * math.hypot(first, second))


def fidelity_deviation(correlators: Sequence[float], rounds: Sequence[int]) -> float:
    """Return the standard error of a fidelity from three correlators, each of so many rounds."""
    pairs = zip(correlators, rounds, strict=True)
    return math.sqrt(sum((1 - value**2) / count for value, count in pairs)) / 4


# --- registers --------------------------------------------------------------------------------


def zero(qubits: int = 1) -> Matrix:
    """Return |0...0> of this many qubits."""
    state = np.zeros((2**qubits, 2**qubits), dtype=complex)
    state[0, 0] = 1
    return state


def size(state: Matrix) -> int:
    """Return the number of qubits of a register."""
    return len(state).bit_length() - 1


def merge(*states: Matrix) -> Matrix:
    """Return the register of several independent ones; the first keeps the lowest numbers."""
    whole: Matrix = np.ones((1, 1), dtype=complex)
    for state in states:
        whole = np.kron(whole, state)
    return whole


def partial_trace(state: Matrix, keep: Sequence[int]) -> Matrix:
    """Return the state of the qubits `keep`, in that order (also a permutation of all)."""
    count = size(state)
    rows = list(range(count))
    columns = [count + k if k in keep else k for k in rows]
    tensor = state.reshape((2,) * (2 * count))
    reduced = np.einsum(tensor, rows + columns, [*keep, *(count + k for k in keep)])
    result: Matrix = np.asarray(reduced).reshape(2 ** len(keep), 2 ** len(keep))
    return result


def apply(state: Matrix, operator: Matrix, qubits: Sequence[int]) -> Matrix:
    """Return ``K state K+`` for an operator on `qubits`, the first its leftmost factor.

    Not normalised: for a Kraus operator the trace is the probability.
    """
    return _one_side(_one_side(state, operator, qubits).conj().T, operator, qubits).conj().T


def _one_side(state: Matrix, operator: Matrix, qubits: Sequence[int]) -> Matrix:
    """Multiply from the left by an operator that acts on some of the qubits."""
    count, acted = size(state), len(qubits)
    tensor = state.reshape((2,) * count + (-1,))
    factors = operator.reshape((2,) * (2 * acted))
    out = np.tensordot(factors, tensor, axes=(range(acted, 2 * acted), qubits))
    return np.moveaxis(out, range(acted), qubits).reshape(state.shape)


# --- gates ------------------------------------------------------------------------------------


def rotation(axis: Matrix, angle: float) -> Matrix:
    """Return exp(-i angle P / 2) for an operator P with P^2 = 1."""
    turn: Matrix = math.cos(angle / 2) * IDENTITY - 1j * math.sin(angle / 2) * axis
    return turn


def gate_matrix(gate: Gate, angle: float = 0.0) -> Matrix:
    """Return the unitary of a gate: (2, 2), or (4, 4) with the control as first factor."""
    if gate in _GENERATORS:
        return rotation(_GENERATORS[gate], angle)
    return _FIXED[gate]


def keep_from_fidelity(gate_fidelity: float, qubits: int) -> float:
    """Return the depolarising survival probability of a gate's average fidelity.

    F = keep + (1 - keep) / d with d = 2^qubits; a fidelity below 1/d gives 0.
    """
    dimension: int = 2**qubits
    return max(0.0, (gate_fidelity * dimension - 1) / (dimension - 1))


# --- noise ------------------------------------------------------------------------------------


@record
class Decay:
    """How a stored qubit decays; times in ns, 0 where there is no decay.

    Coherence after t: ``exp(-(t / t2_ns) ** exponent)``, everything included, but never more
    than the relaxation allows (``exp(-t / (2 t1_ns))``). Populations relax with `t1_ns` to
    `equilibrium`, the population of |1>.
    """

    t1_ns: Duration
    t2_ns: Duration
    exponent: float = 1.0
    equilibrium: float = 0.0

    @property
    def pauli(self) -> bool:
        """True where the decay is a mixture of Paulis, so that Bell weights are enough."""
        return not self.t1_ns or self.equilibrium == 0.5

    def dephasing(self, from_ns: Duration, to_ns: Duration) -> float:
        """Return the factor on coherences between two ages, beyond what relaxation takes.

        Ages count from the initialisation: a stretched exponential does not compose, so the
        factor is that of the later age divided by that of the earlier one.
        """
        return min(1.0, math.exp(self._exponent(from_ns) - self._exponent(to_ns)))

    def relaxation(self, from_ns: Duration, to_ns: Duration) -> float:
        """Return the probability that the qubit relaxed between two ages."""
        return -math.expm1(-(to_ns - from_ns) / self.t1_ns) if self.t1_ns else 0.0

    def _exponent(self, age_ns: Duration) -> float:
        if not self.t2_ns:
            return 0.0
        relaxed = age_ns / (2 * self.t1_ns) if self.t1_ns else 0.0
        return max(0.0, float((age_ns / self.t2_ns) ** self.exponent) - relaxed)


def depolarise(state: Matrix, qubits: Sequence[int], keep: float) -> Matrix:
    """Return the state with `qubits` replaced by noise with probability 1 - keep."""
    if keep == 1 or not qubits:
        return state
    others = [k for k in range(size(state)) if k not in qubits]
    count = len(qubits)
    noise = merge(partial_trace(state, others), np.eye(2**count) / 2**count)
    order = [*others, *qubits]
    return keep * state + (1 - keep) * partial_trace(
        noise, [order.index(k) for k in range(len(order))]
    )


def dephase_qubit(state: Matrix, qubit: int, coherence: float) -> Matrix:
    """Return the state with the coherences of one qubit multiplied by a factor in [0, 1]."""
    if coherence == 1:
        return state
    flipped = apply(state, PAULI_Z, (qubit,))
    result: Matrix = (1 + coherence) / 2 * state + (1 - coherence) / 2 * flipped
    return result


def damp(state: Matrix, qubit: int, probability: float, equilibrium: float = 0.0) -> Matrix:
    """Return the state after one qubit relaxed with a probability towards `equilibrium`.

    Generalised amplitude damping: `equilibrium` is the population of |1> in the end.
    """
    if probability == 0:
        return state
    stay, fall = math.sqrt(1 - probability), math.sqrt(probability)
    down, up = math.sqrt(1 - equilibrium), math.sqrt(equilibrium)
    kraus = (
        down * np.array([[1, 0], [0, stay]]),
        down * np.array([[0, fall], [0, 0]]),
        up * np.array([[stay, 0], [0, 1]]),
        up * np.array([[0, 0], [fall, 0]]),
    )
    result: Matrix = sum((apply(state, k, (qubit,)) for k in kraus), np.zeros_like(state))
    return result


def decay(state: Matrix, qubit: int, law: Decay, from_ns: Duration, to_ns: Duration) -> Matrix:
    """Return the state after one qubit aged from `from_ns` to `to_ns` since its initialisation.

    Exact and composable for every exponent. LocalProtocolError where time runs backwards.
    """
    if to_ns < from_ns or from_ns < 0:
        raise LocalProtocolError(f"a qubit cannot age from {from_ns} to {to_ns} ns")
    relaxed = damp(state, qubit, law.relaxation(from_ns, to_ns), law.equilibrium)
    return dephase_qubit(relaxed, qubit, law.dephasing(from_ns, to_ns))


def decay_weights(
    weights: BellWeights, law: Decay, from_ns: Duration, to_ns: Duration
) -> BellWeights | None:
    """Return the Bell weights after one half aged, or None where they do not suffice.

    They do where the decay is a mixture of Paulis: no relaxation, or one to equal populations.
    """
    if not law.pauli:
        return None
    if to_ns < from_ns or from_ns < 0:
        raise LocalProtocolError(f"a qubit cannot age from {from_ns} to {to_ns} ns")
    after = dephase(weights, law.dephasing(from_ns, to_ns))
    relaxed = law.relaxation(from_ns, to_ns)
    if relaxed:
        # Bloch factors (sqrt(1-g), sqrt(1-g), 1-g) are X and Y with g/4 each and this much Z.
        flips = relaxed / 4
        phase = (1 - relaxed / 2 - math.sqrt(1 - relaxed)) / 2
        a, b, c, d = after
        stay = 1 - 2 * flips - phase
        after = (
            a * stay + b * phase + (c + d) * flips,
            b * stay + a * phase + (c + d) * flips,
            c * stay + d * phase + (a + b) * flips,
            d * stay + c * phase + (a + b) * flips,
        )
    return after


# --- measurement ------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Reading:
    """One possible result of a measurement.

    `outcome` is what is read, with its `probability`; `state` is that of the other qubits (in
    their order) given that reading, trace one, (1, 1) where there are none.
    """

    outcome: int
    probability: float
    state: Matrix


def draw_basis(plan: BasisPlan, uniform: float) -> Basis:
    """Return the axis that `uniform` in [0, 1) draws from the plan's basis set."""
    if plan.basis_set is BasisSet.XZ:
        return Basis.X if uniform < plan.first else Basis.Z
    if plan.basis_set is BasisSet.XYZ:
        if uniform < plan.first:
            return Basis.X
        return Basis.Y if uniform < plan.first + plan.second else Basis.Z
    if plan.basis_set is BasisSet.CHSH:
        return Basis.ZPX if uniform < plan.first else Basis.ZMX
    return Basis.Z


def plan_axis(plan: BasisPlan, basis: Basis) -> Axis:
    """Return the direction that a plan measures, seen before its rotation Rx(x1), Ry(y), Rx(x2)."""
    turn = rotation(PAULI_X, plan.x2) @ rotation(PAULI_Y, plan.y) @ rotation(PAULI_X, plan.x1)
    seen = turn.conj().T @ axis_operator(_AXES[basis]) @ turn
    x, y, z = (float(np.trace(seen @ p).real) / 2 for p in (PAULI_X, PAULI_Y, PAULI_Z))
    return x, y, z


def axis_operator(axis: Axis) -> Matrix:
    """Return n . sigma of a direction."""
    result: Matrix = axis[0] * PAULI_X + axis[1] * PAULI_Y + axis[2] * PAULI_Z
    return result


def axis_projector(axis: Axis, outcome: int) -> Matrix:
    """Return the (2, 2) projector on outcome 0 (the + eigenstate) or 1 of a direction."""
    result: Matrix = (IDENTITY + (-1) ** outcome * axis_operator(axis)) / 2
    return result


def measure(
    state: Matrix, qubit: int, axis: Axis, readout: tuple[float, float] = (1.0, 1.0)
) -> tuple[Reading, Reading]:
    """Return both readings of one qubit along `axis`; the qubit is gone afterwards.

    `readout` are the probabilities to read a true 0 and a true 1 right. The state given a wrong
    reading is that of the other qubits for the true outcome, mixed as it must be.
    """
    others = [k for k in range(size(state)) if k != qubit]
    true = [
        partial_trace(apply(state, axis_projector(axis, outcome), (qubit,)), others)
        for outcome in (0, 1)
    ]
    right0, right1 = readout
    return (
        _reading(0, right0 * true[0] + (1 - right1) * true[1]),
        _reading(1, (1 - right0) * true[0] + right1 * true[1]),
    )


def _reading(outcome: int, unnormalised: Matrix) -> Reading:
    probability = max(0.0, float(np.trace(unnormalised).real))
    if probability == 0:
        return Reading(outcome, 0.0, np.eye(len(unnormalised)) / len(unnormalised))
    return Reading(outcome, probability, unnormalised / probability)

"""Density matrices of a few qubits, in plain numpy: the independent truth of the closed forms."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qstack.network.budget import Operations

Matrix: TypeAlias = NDArray[Any]

PAULIS = [
    np.array(rows, dtype=complex)
    for rows in ([[1, 0], [0, 1]], [[1, 0], [0, -1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]])
]
"""I, Z, X, Y: by the Bell index that each makes of Phi+."""


def bell_vector(index: int) -> NDArray[Any]:
    phi = np.array([1, 0, 0, 1], dtype=complex) / math.sqrt(2)
    vector: NDArray[Any] = np.kron(np.eye(2), PAULIS[index]) @ phi
    return vector


def pair(weights: tuple[float, ...]) -> Matrix:
    """A Bell-diagonal state, weights by absolute index."""
    state = np.zeros((4, 4), dtype=complex)
    for index, weight in enumerate(weights):
        vector = bell_vector(index)
        state += weight * np.outer(vector, vector.conj())
    return state


def on(gate: Matrix, qubit: int, count: int) -> Matrix:
    whole = np.eye(1, dtype=complex)
    for each in range(count):
        whole = np.kron(whole, gate if each == qubit else np.eye(2))
    return whole


def cnot(control: int, target: int, count: int) -> Matrix:
    low, high = np.diag([1, 0]).astype(complex), np.diag([0, 1]).astype(complex)
    flip = on(high, control, count) @ on(PAULIS[2], target, count)
    gate: Matrix = on(low, control, count) + flip
    return gate


def mix(state: Matrix, qubits: tuple[int, ...], count: int) -> Matrix:
    """These qubits fully mixed, the others left alone: the mean over all their Paulis."""
    for qubit in qubits:
        whole = [on(pauli, qubit, count) for pauli in PAULIS]
        state = np.mean([each @ state @ each.conj().T for each in whole], axis=0)
    return state


def noisy_cnot(state: Matrix, qubits: tuple[int, int], count: int, node: Operations) -> Matrix:
    gate = cnot(*qubits, count)
    right: Matrix = gate @ state @ gate.conj().T
    noisy: Matrix = node.keep * right + (1 - node.keep) * mix(state, qubits, count)
    return noisy


def reads(state: Matrix, qubit: int, outcome: int, count: int, node: Operations) -> Matrix:
    """The unnormalised state after reading `outcome`, which may be a misreading."""
    chances = [1 - node.readout, 1 - node.readout]
    chances[outcome] = node.readout
    projectors = [np.diag([1, 0]).astype(complex), np.diag([0, 1]).astype(complex)]
    total = np.zeros_like(state)
    for value, projector in enumerate(projectors):
        whole = on(projector, qubit, count)
        total += chances[value] * whole @ state @ whole
    return total


def without(state: Matrix, qubits: tuple[int, ...], count: int) -> Matrix:
    """Trace these qubits out."""
    tensor = state.reshape((2,) * (2 * count))
    for done, qubit in enumerate(sorted(qubits)):
        left = count - done
        tensor = np.trace(tensor, axis1=qubit - done, axis2=qubit - done + left)
    size = 1 << (count - len(qubits))
    reduced: Matrix = tensor.reshape((size, size))
    return reduced


def bell_weights(state: Matrix) -> tuple[float, ...]:
    """The unnormalised Bell weights of a two-qubit state."""
    vectors = [bell_vector(index) for index in range(4)]
    return tuple(float((v.conj() @ state @ v).real) for v in vectors)


def hadamard() -> Matrix:
    return np.array([[1, 1], [1, -1]], dtype=complex) / math.sqrt(2)


def rotation_x(angle: float) -> Matrix:
    turned: Matrix = math.cos(angle / 2) * PAULIS[0] - 1j * math.sin(angle / 2) * PAULIS[2]
    return turned

"""What is true of the qubits of a network under test: nobody else knows it.

A qubit is half of a pair in a Bell state, a state of its own (a vector, once its partner was
measured), or worth nothing. Everything here is the definition of the Bell states, in numpy.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qstack.messages.common import Basis, BasisPlan, BasisSet, Qubit
from qstack.units import Chance, NodeName

Vector: TypeAlias = NDArray[Any]

X = np.array([[0, 1], [1, 0]], dtype=complex)
Y = np.array([[0, -1j], [1j, 0]], dtype=complex)
Z = np.array([[1, 0], [0, -1]], dtype=complex)
SIGMA = (np.eye(2, dtype=complex), Z, X, X @ Z)
"""What turns the second half of Phi+ so that Bell state 0, 1, 2, 3 results."""
AXES = {Basis.Z: Z, Basis.X: X, Basis.Y: Y}


class Place(NamedTuple):
    """A qubit: where it is."""

    node: NodeName
    qubit: Qubit


class Half(NamedTuple):
    partner: Place
    bell: int


def projected(plan: BasisPlan, basis: Basis, outcome: int) -> Vector:
    """The state onto which a measurement projects: the axis, turned back by the rotation."""
    values, vectors = np.linalg.eigh(AXES[basis])
    wanted = 1 - 2 * outcome
    state = vectors[:, int(np.argmin(abs(values - wanted)))]
    for pauli, angle in ((X, plan.x2), (Y, plan.y), (X, plan.x1)):
        turn = math.cos(angle / 2) * np.eye(2) - 1j * math.sin(angle / 2) * pauli
        state = turn.conj().T @ state
    return np.asarray(state)


def overlap(one: Vector, other: Vector) -> float:
    return float(abs(np.vdot(one, other)) ** 2)


class Truth:
    """All qubits of a network."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.states: dict[Place, Half | Vector | None] = {}

    def pair(self, one: Place, other: Place, bell: int) -> None:
        self.states[one], self.states[other] = Half(other, bell), Half(one, bell)

    def half(self, place: Place) -> Half | None:
        state = self.states.get(place)
        return state if isinstance(state, Half) else None

    def vector(self, place: Place) -> Vector | None:
        state = self.states.get(place)
        return state if isinstance(state, np.ndarray) else None

    def gone(self, place: Place) -> None:
        """It was freed, or is worth nothing: neither is its partner."""
        state = self.states.pop(place, None)
        if isinstance(state, Half):
            self.states[state.partner] = None

    def move(self, old: Place, new: Place) -> None:
        state = self.states.pop(old)
        self.states[new] = state
        if isinstance(state, Half):
            self.states[state.partner] = Half(new, state.bell)

    def swap(self, one: Place, other: Place) -> int:
        """A Bell measurement of two qubits; returns its outcome. Their partners may be measured.

        A qubit in a state of its own is teleported to the other's partner. Two such qubits give
        the outcome with the probability that their joint state has.
        """
        first, second = (self._seen(place) for place in (one, other))
        outcome = self.chance.below(4)
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            outcome = self._outcome_of(first, second)
            del self.states[one], self.states[other]
        elif isinstance(first, Half) and isinstance(second, Half):
            del self.states[one], self.states[other]
            self.pair(first.partner, second.partner, first.bell ^ second.bell ^ outcome)
        elif isinstance(first, Half) and isinstance(second, np.ndarray):
            self._teleport(one, first, other, outcome)
        elif isinstance(first, np.ndarray) and isinstance(second, Half):
            self._teleport(other, second, one, outcome)
        else:
            self.gone(one)
            self.gone(other)
        return outcome

    def _outcome_of(self, first: Vector, second: Vector) -> int:
        left = self.chance.uniform()
        for outcome in range(3):
            bell = SIGMA[outcome].T / math.sqrt(2)  # amplitudes of |i> and SIGMA |i>
            left -= float(abs(np.sum(bell.conj() * np.outer(first, second))) ** 2)
            if left < 0:
                return outcome
        return 3

    def _seen(self, place: Place) -> Half | Vector | None:
        half = self.half(place)
        return self.vector(place) if half is None else half

    def _teleport(self, half: Place, pair: Half, other: Place, outcome: int) -> None:
        state = self.states.pop(other)
        del self.states[half]
        self.states[pair.partner] = SIGMA[pair.bell] @ SIGMA[outcome].conj() @ state

    def turn(self, place: Place, pauli: int) -> None:
        state = self.states.get(place)
        if isinstance(state, Half):
            self.pair(place, state.partner, state.bell ^ pauli)
        elif isinstance(state, np.ndarray):
            self.states[place] = SIGMA[pauli] @ state

    def measure(self, place: Place, plan: BasisPlan) -> tuple[Basis, int]:
        """Draw an axis and an outcome; the qubit is gone, its partner in a state of its own."""
        basis = Basis.Z
        if plan.basis_set is BasisSet.XYZ:
            basis = (Basis.Z, Basis.X, Basis.Y)[self.chance.below(3)]
        state = self.states.pop(place, None)
        up = projected(plan, basis, 0)
        chance = overlap(up, state) if isinstance(state, np.ndarray) else 0.5
        outcome = int(self.chance.uniform() >= chance)
        if isinstance(state, Half):
            mine = projected(plan, basis, outcome)
            turned = SIGMA[state.bell] @ mine.conj()
            self.states[state.partner] = turned
        return basis, outcome

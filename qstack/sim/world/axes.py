"""What basis plans and gates mean to Pauli strings, computed once from the formulas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from qstack.messages.common import Basis, BasisPlan, BasisSet
from qstack.messages.devices import Gate
from qstack.sim.states import (
    IDENTITY,
    PAULI_X,
    PAULI_Y,
    PAULI_Z,
    draw_basis,
    gate_matrix,
    plan_axis,
)
from qstack.sim.world.registers import Axis, Rotation
from qstack.units import Chance

PAULIS = (IDENTITY, PAULI_Z, PAULI_X, PAULI_Y)
"""I, Z, X, Y: by the codes of Pauli strings."""

TWO_QUBIT = (Gate.CNOT, Gate.CZ)

_PLAIN: dict[Basis, Axis] = {
    Basis.Z: (0.0, 0.0, 1.0),
    Basis.X: (1.0, 0.0, 0.0),
    Basis.Y: (0.0, 1.0, 0.0),
}


def draw(plan: BasisPlan, chance: Chance) -> tuple[Basis, Axis]:
    """Draw the axis of one measurement: its name, and its direction before the rotation."""
    certain = plan.basis_set is BasisSet.NONE
    basis = Basis.Z if certain else draw_basis(plan, chance.uniform())
    if plan.x1 == 0.0 and plan.y == 0.0 and plan.x2 == 0.0 and basis in _PLAIN:
        return basis, _PLAIN[basis]
    return basis, _direction(plan, basis)


@lru_cache(maxsize=1024)
def _direction(plan: BasisPlan, basis: Basis) -> Axis:
    return plan_axis(plan, basis)


@lru_cache(maxsize=1024)
def rotation_of(gate: Gate, angle: float = 0.0) -> Rotation:
    """Return what a one-qubit gate makes of each Pauli: U P U+ as (code, factor) entries.

    Factors that are rounding residue are cleaned, so that Clifford gates keep states sparse.
    """
    unitary = gate_matrix(gate, angle)
    rows = []
    for pauli in PAULIS:
        image = unitary @ pauli @ unitary.conj().T
        factors = (float(np.trace(image @ other).real) / 2 for other in PAULIS)
        cleaned = (round(f) if abs(f - round(f)) < 1e-15 else f for f in factors)
        rows.append(tuple((code, float(f)) for code, f in enumerate(cleaned) if f))
    return rows[0], rows[1], rows[2], rows[3]

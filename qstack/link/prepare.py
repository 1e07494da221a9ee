"""Remote state preparation: what the receiver holds, and which Pauli puts it right.

The creator measures its half of a pair after the rotation ``R = Rx(x2) Ry(y) Rx(x1)`` along an
axis a. Outcome m projects it onto ``R+ |a_m>``, whose Bloch vector is +n or -n with n the axis
turned back by R. With Bell index b the receiver then holds ``sigma_b |psi*_m>``. It can undo
``sigma_b`` always. To turn outcome 1 into outcome 0 it must invert n. No unitary inverts
every vector (that would be a universal NOT), but a half turn about a Pauli axis does it
for each n perpendicular to that axis. So a Pauli exists exactly where n has a component that
vanishes; conjugation only flips y and changes nothing about that.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from qstack.bell import BellIndex
from qstack.machine import record
from qstack.messages.common import Basis, BasisPlan

Vector: TypeAlias = tuple[float, float, float]

TOLERANCE = 1e-6
"""A component of the unit vector below this counts as zero: an infidelity of 1e-12."""

_HALF = 1 / math.sqrt(2)
_AXES: dict[Basis, Vector] = {
    Basis.Z: (0.0, 0.0, 1.0),
    Basis.X: (1.0, 0.0, 0.0),
    Basis.Y: (0.0, 1.0, 0.0),
    Basis.ZPX: (_HALF, 0.0, _HALF),
    Basis.ZMX: (-_HALF, 0.0, _HALF),
}
_PAULIS: tuple[BellIndex, BellIndex, BellIndex] = (2, 3, 1)
"""X, Y and Z as Bell indices: a half turn about the first, second, third coordinate."""


@record
class Remedy:
    """The Pauli (as a Bell index) to apply, and whether the state is then that of outcome 0."""

    pauli: BellIndex
    corrected: bool


def _turn_x(vector: Vector, angle: float) -> Vector:
    x, y, z = vector
    c, s = math.cos(angle), math.sin(angle)
    return x, c * y - s * z, s * y + c * z


def _turn_y(vector: Vector, angle: float) -> Vector:
    x, y, z = vector
    c, s = math.cos(angle), math.sin(angle)
    return c * x + s * z, y, c * z - s * x


def measured_axis(plan: BasisPlan, basis: Basis) -> Vector:
    """Return the Bloch vector of the state that outcome 0 projects onto."""
    vector = _turn_x(_AXES[basis], -plan.x2)
    return _turn_x(_turn_y(vector, -plan.y), -plan.x1)


def remedy(plan: BasisPlan, basis: Basis, outcome: int, have: BellIndex, want: BellIndex) -> Remedy:
    """Return what the receiver does about outcome `outcome` of a pair in Bell state `have`.

    `want` is the Bell state in whose frame the prepared state is to be (Phi+: none).
    """
    pauli = have ^ want
    if outcome == 0:
        return Remedy(pauli, corrected=True)
    for component, flip in zip(measured_axis(plan, basis), _PAULIS, strict=True):
        if abs(component) < TOLERANCE:
            return Remedy(pauli ^ flip, corrected=True)
    return Remedy(pauli, corrected=False)

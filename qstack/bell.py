"""Bell states, their indices, and what happens to them.

A Bell index is two bits, ``b = (x << 1) | z``, over Phi+, Phi-, Psi+, Psi-: the state is
``(I (x) X^x Z^z)|Phi+>`` up to a phase. Composition (under swap, under a Pauli on either
half) is XOR. Weights are four probabilities in the order of the index.

Sources: QLink-Interface 1.0 and V1Quantum use this encoding; NetQASM 0.1 does not.
"""

from __future__ import annotations

from typing import TypeAlias

BellIndex: TypeAlias = int
BellWeights: TypeAlias = tuple[float, float, float, float]
"""Probabilities of Phi+, Phi-, Psi+, Psi-, summing to one."""

PHI_PLUS: BellIndex = 0
PHI_MINUS: BellIndex = 1
PSI_PLUS: BellIndex = 2
PSI_MINUS: BellIndex = 3

NAMES = ("Phi+", "Phi-", "Psi+", "Psi-")

_SIGNS = {"X": (1, -1, 1, -1), "Y": (-1, 1, 1, -1), "Z": (1, 1, -1, -1)}


def compose(*indices: BellIndex) -> BellIndex:
    """Return the index that results from swapping pairs, outcomes and Paulis together."""
    total = 0
    for index in indices:
        total ^= index
    return total


def correction(have: BellIndex, want: BellIndex) -> tuple[int, int]:
    """Return (x, z): apply ``X^x Z^z`` to exactly one half to turn `have` into `want`."""
    difference = have ^ want
    return difference >> 1, difference & 1


def sign(index: BellIndex, axis: str) -> int:
    """Return the sign of the correlator of `axis` ("X", "Y" or "Z") on both halves."""
    return _SIGNS[axis][index]


def flip(index: BellIndex, axis: str) -> int:
    """Return the bit to XOR into one end's outcome so that the pair reads like Phi+."""
    x, z = index >> 1, index & 1
    return {"X": z, "Y": x ^ z, "Z": x}[axis]


def fidelity_from_correlators(index: BellIndex, xx: float, yy: float, zz: float) -> float:
    """Return the fidelity to the Bell state `index` from its three correlators."""
    return (1 + sign(index, "X") * xx + sign(index, "Y") * yy + sign(index, "Z") * zz) / 4


def werner(fidelity: float, index: BellIndex = PHI_PLUS) -> BellWeights:
    """Return the weights of a Werner state of this fidelity to Bell state `index`."""
    rest = (1 - fidelity) / 3
    first, second, third, fourth = (fidelity if b == index else rest for b in range(4))
    return first, second, third, fourth


def permute(weights: BellWeights, index: BellIndex) -> BellWeights:
    """Return the weights after the Pauli `index` acted on one half."""
    return weights[index], weights[1 ^ index], weights[2 ^ index], weights[3 ^ index]


def dephase(weights: BellWeights, coherence: float) -> BellWeights:
    """Return the weights when the phase coherence between the halves shrinks by a factor.

    `coherence` is the product of both ends' factors, e.g. ``exp(-tA/T2A - tB/T2B)``.
    """
    stay, leave = (1 + coherence) / 2, (1 - coherence) / 2
    a, b, c, d = weights
    return a * stay + b * leave, b * stay + a * leave, c * stay + d * leave, d * stay + c * leave

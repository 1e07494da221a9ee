"""Correlators and fidelity from measured outcomes, with the errors of the readouts undone.

A readout that reads 0 right with probability r0 and 1 with r1 turns the expectation of an
outcome's sign into ``(r0 + r1 - 1) <sign> + (r0 - r1)``. Counting outcome 0 as
``(1 + r1 - r0) / g`` and outcome 1 as ``-(1 + r0 - r1) / g``, with ``g = r0 + r1 - 1``, is unbiased
whatever the state; products of both ends' values are then unbiased for the correlator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

from qstack.bell import PHI_PLUS, fidelity_from_correlators, flip
from qstack.machine import record

AXES = ("X", "Y", "Z")

Readout: TypeAlias = tuple[float, float]
"""The probabilities to read 0 and 1 right."""

PERFECT: Readout = (1.0, 1.0)


@record
class Correlator:
    """The mean product of both ends' signs on one axis, as of Phi+, and its standard error."""

    value: float
    error: float
    count: int


def weights(readout: Readout) -> tuple[float, float]:
    """Return what outcome 0 and outcome 1 count for; ValueError for a readout that says nothing."""
    right0, right1 = readout
    gain = right0 + right1 - 1
    if gain <= 0:
        raise ValueError(f"a readout of {readout} tells nothing of the state")
    return (1 + right1 - right0) / gain, -(1 + right0 - right1) / gain


def correlators(
    pairs: Iterable[tuple[int, tuple[str, str], tuple[int, int]]],
    readouts: tuple[Readout, Readout] = (PERFECT, PERFECT),
) -> dict[str, Correlator]:
    """Return the correlator of each axis on which both ends measured, as of Phi+.

    `pairs` are (Bell index, axes, outcomes); `readouts` are those of the two ends. A Pauli at one
    end turns the pair into Phi+: where it flips the outcome, the product changes its sign.
    """
    mine, theirs = weights(readouts[0]), weights(readouts[1])
    products: dict[str, list[float]] = {axis: [] for axis in AXES}
    for bell, (one, other), outcomes in pairs:
        if one == other and one in products:
            turned = -1 if flip(bell, one) else 1
            products[one].append(turned * mine[outcomes[0]] * theirs[outcomes[1]])
    return {axis: _mean(values) for axis, values in products.items() if values}


def _mean(values: list[float]) -> Correlator:
    count = len(values)
    mean = sum(values) / count
    # One pseudo-count keeps the error of a perfect record above zero.
    square = sum(value * value for value in values) / count
    variance = square - (mean * count / (count + 1)) ** 2
    return Correlator(mean, math.sqrt(max(variance, 0.0) / count), count)


def fidelity_of(found: dict[str, Correlator]) -> tuple[float, float] | None:
    """Return the fidelity and its standard error, or None where an axis is missing."""
    if len(found) < len(AXES):
        return None
    values = [found[axis] for axis in AXES]
    fidelity = fidelity_from_correlators(PHI_PLUS, *(each.value for each in values))
    return fidelity, math.sqrt(sum(each.error**2 for each in values)) / 4

"""From emitted photons to click patterns: the mode algebra of one interferometer.

Each photon is a creation operator. On its way it becomes a sum over places where it can end:
a detector (in some wave packet) or a loss mode. A state of a few photons is a product of such
sums, hence a polynomial in creation operators of orthonormal modes; the coefficient of a
monomial times the square root of the product of n! is the amplitude of that occupation.
Detectors see how many photons came, not in which packet, and everything else is lost, so
photons are traced out in the occupation basis.

Whether a photon leaves depends on the spins but never changes them. For each pattern p the
spin state therefore maps as ``rho[i, j] -> rho[i, j] * G_p[i, j]`` with
``G_p[i, j] = sum over occupations of P(p | occupation) A_i A_j*``, where A_i is the amplitude of
the occupation if the spins are in basis state i. The G_p are what this module computes; they
are exact in the efficiencies, and their diagonals sum to one over all patterns.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from typing import TypeAlias

import numpy as np

from qstack.machine import record
from qstack.sim.states import Matrix

Place: TypeAlias = tuple[int, str]
"""Where a photon ends: (detector, packet), or (LOST, name of its loss mode)."""

LOST = -1

SHARED = "shared"
"""The packet of A's main photon, and of the matched part of B's."""


@record
class Photon:
    """A photon in its own input mode: `arm` 0 (A) or 1 (B), `path` as in Interferometer.

    `extra` marks the second photon of a double excitation, orthogonal to every other.
    """

    arm: int
    path: int
    extra: bool = False


Emission: TypeAlias = tuple[tuple[float, tuple[Photon, ...]], ...]
"""What one arm emits for one spin state: (amplitude, photons), a superposition."""


@record
class Interferometer:
    """A balanced beam splitter per `path` (polarisation), each with two detectors.

    `ports[path]`: its two detectors; A's photon reaches them with amplitudes (+, +)/sqrt2, B's
    with (+, -)/sqrt2. `overlap`: amplitude of B's photon in A's packet, sqrt(V).
    `efficiencies` of A and B. `background`: per detector, probabilities of zero and of
    one count that no wanted photon made.
    """

    ports: tuple[tuple[int, int], ...]
    overlap: float
    efficiencies: tuple[float, float]
    background: tuple[float, float]
    number_resolving: bool

    @property
    def detectors(self) -> int:
        """How many detectors there are."""
        return 2 * len(self.ports)


def click_maps(
    arms: tuple[tuple[Emission, Emission], ...], way: Interferometer
) -> dict[int, Matrix]:
    """Return G_p of every pattern p: (4, 4) complex over the spins |00>, |01>, |10>, |11>.

    `arms[k][s]` is what arm k emits when its spin is |s>. Keys are click masks as in
    :class:`qstack.sim.heralding.Outcome`.
    """
    amplitudes: dict[tuple[Place, ...], Matrix] = defaultdict(lambda: np.zeros(4, complex))
    for spins in range(4):
        of_a, of_b = arms[0][spins >> 1], arms[1][spins & 1]
        for (weight_a, photons_a), (weight_b, photons_b) in itertools.product(of_a, of_b):
            for occupation, amplitude in _occupations(photons_a + photons_b, way).items():
                amplitudes[occupation][spins] += weight_a * weight_b * amplitude
    by_counts: dict[tuple[int, ...], Matrix] = defaultdict(lambda: np.zeros((4, 4), complex))
    for occupation, vector in amplitudes.items():
        seen = Counter(detector for detector, _ in occupation)
        counts = tuple(seen[k] for k in range(way.detectors))
        by_counts[counts] += np.outer(vector, vector.conj())
    maps: dict[int, Matrix] = defaultdict(lambda: np.zeros((4, 4), complex))
    for counts, matrix in by_counts.items():
        for clicks, probability in _patterns(counts, way):
            maps[clicks] += probability * matrix
    return dict(maps)


def background(dark: float, noise: float) -> tuple[float, float]:
    """Return the probabilities of zero and of one background count of a detector.

    At most one dark count (probability `dark`), and Poissonian stray light of mean `noise`.
    """
    quiet = math.exp(-noise)
    return (1 - dark) * quiet, (dark + (1 - dark) * noise) * quiet


def _occupations(
    photons: tuple[Photon, ...], way: Interferometer
) -> dict[tuple[Place, ...], float]:
    """Expand the product of the photons; keys are sorted places, one entry per photon."""
    polynomial: dict[tuple[Place, ...], float] = {(): 1.0}
    for photon in photons:
        product: dict[tuple[Place, ...], float] = defaultdict(float)
        for places, coefficient in polynomial.items():
            for place, amplitude in _ways(photon, way):
                product[tuple(sorted((*places, place)))] += coefficient * amplitude
        polynomial = product
    return {places: c * _bosonic(places) for places, c in polynomial.items()}


def _bosonic(places: tuple[Place, ...]) -> float:
    """The norm of a monomial of creation operators on the vacuum: sqrt of the product of n!."""
    return math.sqrt(math.prod(math.factorial(n) for n in Counter(places).values()))


def _ways(photon: Photon, way: Interferometer) -> list[tuple[Place, float]]:
    """Where one photon can end, with amplitudes whose squares sum to one."""
    efficiency = way.efficiencies[photon.arm]
    own = f"arm {photon.arm} path {photon.path}" + (" extra" if photon.extra else "")
    if photon.extra:
        packets = [(own, 1.0)]
    elif photon.arm == 0:
        packets = [(SHARED, 1.0)]
    else:
        packets = [(SHARED, way.overlap), (own, math.sqrt(1 - way.overlap**2))]
    reach = math.sqrt(efficiency / 2)
    first, second = way.ports[photon.path]
    result = [((LOST, own), math.sqrt(1 - efficiency))]
    for packet, share in packets:
        result.append(((first, packet), reach * share))
        result.append(((second, packet), reach * share * (-1 if photon.arm else 1)))
    return [(place, amplitude) for place, amplitude in result if amplitude]


def _patterns(counts: tuple[int, ...], way: Interferometer) -> list[tuple[int, float]]:
    """The patterns that these photon counts can give, with probabilities."""
    none, one = way.background
    patterns = [(0, 1.0)]
    for detector, count in enumerate(counts):
        click = 1 << detector
        many = click | 1 << (detector + way.detectors)
        if not way.number_resolving:
            options = [(0, none), (click, 1 - none)] if count == 0 else [(click, 1.0)]
        elif count == 0:
            options = [(0, none), (click, one), (many, max(0.0, 1 - none - one))]
        elif count == 1:
            options = [(click, none), (many, 1 - none)]
        else:
            options = [(many, 1.0)]
        patterns = [(p | bits, w * q) for p, w in patterns for bits, q in options if q]
    return patterns

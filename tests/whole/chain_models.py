"""What chains of repeaters must do, from elementary probability: numpy, and nothing of ours.

All links attempt in every slot from the first on, each with one qubit at either end, and
succeed independently; a node swaps when both its halves are there. Correlators of Pauli-diagonal
pairs multiply, and every qubit ages from the emission of its own photon until it is measured, or
until the pair is looked at: ``exp(-(age / T2) ** n)`` on XX and YY, ``exp(-age / T1)`` on ZZ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Physics:
    """A chain for the slot model. Times in one unit; `pure`: correlators XX, YY, ZZ per link.

    `light`: from an emission to its click at the station. `hop`: a message between any two
    parties. `port`: a message between a party and its device or user.
    """

    success: tuple[float, ...]
    pure: tuple[tuple[float, float, float], ...]
    slot: float
    t2: float = math.inf
    t1: float = math.inf
    exponent: float = 1.0
    light: float = 0.0
    hop: float = 0.0
    port: float = 0.0


@dataclass(frozen=True)
class Sample:
    """What the model drew: slots until the last link had its pair, and the fidelities."""

    slots: np.ndarray
    fidelity: np.ndarray


def slot_model(physics: Physics, rounds: int, seed: int) -> Sample:
    """Draw independent rounds, each from rest to one pair."""
    generator = np.random.default_rng(seed)
    links = len(physics.success)
    tries = np.stack([generator.geometric(p, rounds) for p in physics.success])
    emitted = (tries - 1) * physics.slot
    known = emitted + physics.light + physics.port + physics.hop
    swapped = [np.maximum(known[k], known[k + 1]) + physics.port for k in range(links - 1)]
    ages = [swapped[k] - emitted[k + side] for k in range(links - 1) for side in (0, 1)]
    seen = _both_told(physics, known, swapped)
    ages += [seen - emitted[0], seen - emitted[-1]]
    # Relaxation alone takes exp(-t / (2 T1)) of a coherence; no law of T2 can leave more.
    phase = np.exp(
        -sum(
            np.maximum((age / physics.t2) ** physics.exponent, age / (2 * physics.t1))
            for age in ages
        )
    )
    level = np.exp(-sum(ages) / physics.t1)
    x, y, z = (math.prod(axis) for axis in zip(*physics.pure, strict=True))
    return Sample(tries.max(axis=0), (1 + (x + y) * phase + z * level) / 4)


def _both_told(physics: Physics, known: np.ndarray, swapped: list[np.ndarray]) -> np.ndarray:
    """When the later end's user hears: each end needs the other end's track."""
    later = np.zeros(known.shape[1])
    for first, way in ((known[0], swapped), (known[-1], swapped[::-1])):
        at = first
        for swap in way:
            at = np.maximum(at + physics.hop, swap + physics.port)
        arrives = at + (physics.hop if way else 0.0)
        later = np.maximum(later, arrives)
    return later + physics.port


def product(links: list[tuple[float, float, float, float]]) -> float:
    """The fidelity of pairs with errors (I, Z, X, Y), swapped without flaw: sum over all errors."""
    total = np.array([1.0, 0.0, 0.0, 0.0])
    for errors in links:
        # The error of a swapped pair is the product of both: Z X = Y, and so on.
        total = np.array([sum(total[k ^ j] * errors[j] for j in range(4)) for k in range(4)])
    return float(total[0])


def slots_for_all(success: tuple[float, ...]) -> float:
    """The mean of the largest of geometric times, by inclusion and exclusion."""
    return math.fsum(
        (-1) ** (count + 1) / (1 - math.prod(1 - p for p in some))
        for count in range(1, len(success) + 1)
        for some in combinations(success, count)
    )


def power_of_wait(p: float, factor: float) -> float:
    """E[factor ** |d|] of two equal links, d the slots between their successes."""
    q = 1 - p
    return p / (2 - p) * (1 + q * factor) / (1 - q * factor)


def with_cutoff(p: float, most: int, factor: float) -> tuple[float, float]:
    """Two equal links, the older pair discarded after `most` more slots.

    Returns the mean slots until both are there, and the mean of ``factor ** d``, d the slots
    that the first of the pair waited.
    """
    q = 1 - p
    any_one = 1 - q * q
    both = p * p / any_one
    kept = both + (1 - both) * (1 - q**most)
    spent = sum(d * p * q ** (d - 1) for d in range(1, most + 1)) + most * q**most
    slots = (1 / any_one + (1 - both) * spent) / kept
    waits = sum(p * q ** (d - 1) * factor**d for d in range(1, most + 1))
    return slots, (both + (1 - both) * waits) / kept


def off(values: np.ndarray, expected: float, model_error: float = 0.0) -> float:
    """By how many standard errors a sample's mean is away from what is expected."""
    error = math.hypot(float(np.std(values, ddof=1)) / math.sqrt(len(values)), model_error)
    return abs(float(np.mean(values)) - expected) / error

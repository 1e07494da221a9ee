"""What becomes of a pair's Bell weights on its way: swaps, waits, cutoffs, and how long it takes.

Weights here are *relative* to the Bell state that a pair is announced to be in: probabilities of
the Pauli errors I, Z, X, Y, in the order of the Bell index, so that ``weights[0]`` is the
fidelity. Every map but amplitude damping towards a pole is diagonal in the *correlators*
along X, Y and Z, relative to that state too: (1, 1, 1) for a perfect pair, fidelity
``(1 + x + y + z) / 4``. Swapping multiplies them, waiting and imperfect operations shrink them, so
the order of swaps and waits does not matter.

Sources: Briegel, Duer, Cirac and Zoller 1998 (swap with gate and readout); everything else is
elementary probability. Oracles: cases O7 to O12 and O15 of the project's validation dossier.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import combinations
from typing import TypeAlias

from qstack.bell import BellIndex, BellWeights, permute, sign
from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.units import Duration

Correlators: TypeAlias = tuple[float, float, float]
"""Relative correlators along X, Y and Z."""

PERFECT: Correlators = (1.0, 1.0, 1.0)

_QUANTILES = 64
"""Points of the mean over a waiting time where there is no closed form; error below 1e-3."""

_EXPANDED = 12
"""Up to so many links the waiting time for all is an exact sum; its terms double with each."""

_STEPS = 2_000
"""Of an integral over the logarithm of time."""

_ROUNDING = 1e-12

_TAIL = 1e-13
"""Where a series of probabilities is cut."""


@record
class Operations:
    """How well a node operates on two of its qubits.

    `keep`: probability that a two-qubit gate does what it should; otherwise both qubits are left
    fully mixed. `readout`: probability that an outcome is read right, the mean over 0 and 1,
    which is exact here because outcomes are equally likely. `success`: of a whole swap. `turn`:
    probability that the H of a Bell measurement does what it should; otherwise its qubit is left
    fully mixed.
    """

    keep: float = 1.0
    readout: float = 1.0
    success: float = 1.0
    turn: float = 1.0


IDEAL = Operations()


@record
class Storage:
    """How a qubit fades: times in ns, 0 for never; as in ``physical.service.MemoryModel``.

    Coherence after t: ``exp(-(t / t2_ns) ** exponent)``; populations relax with `t1_ns`.
    """

    t1_ns: Duration = 0
    t2_ns: Duration = 0
    exponent: float = 1.0


ETERNAL = Storage()


def worse(one: Storage, other: Storage) -> Storage:
    """Return a memory of the shorter times and the smaller exponent of two."""
    if one == other:
        return one
    t1_ns, t2_ns = (
        min((time for time in both if time > 0), default=0)
        for both in ((one.t1_ns, other.t1_ns), (one.t2_ns, other.t2_ns))
    )
    return Storage(t1_ns, t2_ns, min(one.exponent, other.exponent))


# --- frames -------------------------------------------------------------------------------


def relative(weights: BellWeights, bell: BellIndex) -> BellWeights:
    """Return weights by absolute index as errors relative to the announced `bell`, or back."""
    return permute(weights, bell)


def correlators(weights: BellWeights) -> Correlators:
    """Return the relative correlators of relative weights."""
    i, z, x, y = weights
    return i - z + x - y, i - z - x + y, i + z - x - y


def weights_of(values: Correlators) -> BellWeights:
    """Return the relative weights of relative correlators; what rounding made negative is 0."""
    x, y, z = values
    one = (1 + x + y + z) / 4
    two = (1 - x - y + z) / 4
    three = (1 + x - y - z) / 4
    four = (1 - x + y - z) / 4
    if one >= 0.0 and two >= 0.0 and three >= 0.0 and four >= 0.0:
        return one, two, three, four
    return _cleared(one), _cleared(two), _cleared(three), _cleared(four)


def _cleared(weight: float) -> float:
    return 0.0 if -_ROUNDING < weight < 0.0 else weight


def fidelity(values: Correlators) -> float:
    """Return the fidelity to the announced state."""
    return (1 + sum(values)) / 4


def product(one: Correlators, other: Correlators) -> Correlators:
    """Return what two do together, axis by axis."""
    return one[0] * other[0], one[1] * other[1], one[2] * other[2]


def shrunk(weights: BellWeights, factors: Correlators) -> BellWeights:
    """Return relative weights after these factors of their correlators."""
    i, z, x, y = weights
    fx, fy, fz = factors
    return weights_of(((i - z + x - y) * fx, (i - z - x + y) * fy, (i + z - x - y) * fz))


def together(*factors: Correlators) -> Correlators:
    """Return the product, axis by axis: pairs that are swapped, and all that fades them."""
    x = y = z = 1.0
    for each in factors:
        x, y, z = x * each[0], y * each[1], z * each[2]
    return x, y, z


# --- swapping -----------------------------------------------------------------------------


def swap_factor(operations: Operations) -> Correlators:
    """Return what an imperfect Bell measurement does to the correlators of the swapped pair.

    The mixing gate shrinks all by `keep`. A wrong first bit is a Z error and a wrong second bit
    an X error: each flips with ``1 - readout``, so X and Z shrink by ``2 r - 1``, Y by its square.
    The H of the circuit acts on the qubit of the first bit alone: its `turn` shrinks X and Y.
    """
    bit = 2 * operations.readout - 1
    turned = operations.keep * operations.turn * bit
    return turned, turned * bit, operations.keep * bit


def swap(first: BellWeights, second: BellWeights, operations: Operations = IDEAL) -> BellWeights:
    """Return the weights after a Bell measurement on one half of each, relative to the result."""
    both = correlators(first), correlators(second)
    return weights_of(together(*both, swap_factor(operations)))


# --- waiting ------------------------------------------------------------------------------


def coherence(storage: Storage, age_ns: float) -> float:
    """Return the factor of a qubit's X and Y after this age, since its initialisation.

    Never more than relaxation leaves, ``exp(-t / (2 t1_ns))``: no state allows that.
    """
    if age_ns <= 0:
        return 1.0
    loss = age_ns / (2 * storage.t1_ns) if storage.t1_ns > 0 else 0.0
    if storage.t2_ns > 0:
        loss = max(loss, (age_ns / storage.t2_ns) ** storage.exponent)
    return math.exp(-loss)


def population(storage: Storage, age_ns: float) -> float:
    """Return the factor of a qubit's Z after this age."""
    if storage.t1_ns <= 0 or age_ns <= 0:
        return 1.0
    return math.exp(-age_ns / storage.t1_ns)


def fading(storage: Storage, age_ns: float) -> Correlators:
    """Return what the wait of one half does; populations relax to equally many of both.

    A stretched exponential does not compose: ask once, with the whole age.
    """
    phase = coherence(storage, age_ns)
    return phase, phase, population(storage, age_ns)


def relax(
    weights: BellWeights,
    bell: BellIndex,
    first: tuple[Storage, float],
    second: tuple[Storage, float],
    pole: float = 1.0,
) -> BellWeights:
    """Return the relative weights after both halves waited, relaxing towards one pole.

    Each half as (storage, age in ns). `pole` is the product of both equilibria of Z: 1 where
    both decay to the same state, 0 where none is preferred (then this is `fading` of both). The
    state is twirled: coherences between Bell states, which damping makes, are left out. Phi
    and Psi differ: ``ZZ`` goes to ``(1 - gA)(1 - gB) ZZ + gA gB pole``.
    """
    x, y, z = correlators(weights)
    phase = coherence(*first) * coherence(*second)
    one, two = population(*first), population(*second)
    gain = (1 - one) * (1 - two) * pole * sign(bell, "Z")
    return weights_of((x * phase, y * phase, z * one * two + gain))


def mean_fading(storage: Storage, rate_hz: float, cutoff_ns: Duration = 0) -> Correlators:
    """Return the mean of :func:`fading` over the wait for something that comes at this rate.

    The wait is exponential; with a cutoff (0: none) it is one that ended in time.
    """
    level = _mean_of_exponential(storage.t1_ns, rate_hz, cutoff_ns)
    phase = _mean_coherence(storage, rate_hz, cutoff_ns)
    return phase, phase, level


def _mean_coherence(storage: Storage, rate_hz: float, cutoff_ns: Duration) -> float:
    """The mean of :func:`coherence`."""
    if storage.exponent == 1.0 or storage.t2_ns <= 0:
        t2_ns, most = storage.t2_ns, 2 * storage.t1_ns
        least = t2_ns if most <= 0 or 0 < t2_ns < most else most
        return _mean_of_exponential(least, rate_hz, cutoff_ns)
    if rate_hz <= 0:
        return 0.0
    rate = rate_hz * 1e-9
    places = ((index + 0.5) / _QUANTILES * _ended(rate, cutoff_ns) for index in range(_QUANTILES))
    return sum(coherence(storage, -math.log1p(-place) / rate) for place in places) / _QUANTILES


def _mean_of_exponential(time_ns: Duration, rate_hz: float, cutoff_ns: Duration) -> float:
    """The mean of ``exp(-t / time)``."""
    if time_ns <= 0:
        return 1.0
    if rate_hz <= 0:
        return 0.0
    rate, total = rate_hz * 1e-9, rate_hz * 1e-9 + 1 / time_ns
    if not cutoff_ns:
        return rate / total
    return rate / total * _ended(total, cutoff_ns) / _ended(rate, cutoff_ns)


def _ended(rate: float, cutoff_ns: Duration) -> float:
    """The probability that a wait for what comes at this rate (per ns) ends before the cutoff."""
    return -math.expm1(-rate * cutoff_ns) if cutoff_ns else 1.0


# --- how long it takes --------------------------------------------------------------------


def rate_of_all(rates_hz: Sequence[float]) -> float:
    """Return how often one of each is there, all made at once and kept until the last comes.

    The inverse of the mean of the largest of exponential waits: an exact sum up to 12 of them,
    the integral of ``1 - prod(1 - exp(-rate t))`` to 1e-6 for more.
    """
    if not rates_hz or min(rates_hz) <= 0:
        return 0.0
    if len(rates_hz) <= _EXPANDED:
        total = 0.0
        for count in range(1, len(rates_hz) + 1):
            for some in combinations(rates_hz, count):
                total += (-1) ** (count + 1) / sum(some)
        return 1 / total
    # The links that a long fibre is cut into are alike: each kind is reckoned with once.
    kinds = Counter(rates_hz).items()
    # In steps of the logarithm of time; before the first and after the last nothing changes.
    first, last = math.log(1e-9 / max(rates_hz)), math.log(60 / min(rates_hz))
    step = (last - first) / _STEPS
    total = math.exp(first)
    for index in range(_STEPS + 1):
        time = math.exp(first + index * step)
        every = sum(many * math.log(-math.expm1(-rate * time)) for rate, many in kinds)
        total += time * -math.expm1(every) * step
    return 1 / total


def one_after_the_other(*rates_hz: float) -> float:
    """Return the rate of things that are made in turn: the inverse of the sum of mean times."""
    return 1 / sum(1 / rate for rate in rates_hz) if all(rates_hz) else 0.0


def slots_for_all(probabilities: Sequence[float]) -> float:
    """Return the mean number of slots until each of several trials has succeeded once.

    One attempt of each per slot, all at once, no cutoff: the mean of the largest of geometric
    times. LocalProtocolError for a probability outside (0, 1].
    """
    if not all(0 < p <= 1 for p in probabilities):
        raise LocalProtocolError(f"no probabilities of success: {probabilities}")
    if len(probabilities) <= _EXPANDED:
        total = 0.0
        for count in range(1, len(probabilities) + 1):
            for some in combinations(probabilities, count):
                none = reduce(lambda product, p: product * (1 - p), some, 1.0)
                total += (-1) ** (count + 1) / (1 - none)
        return total
    return _series(probabilities)


def _series(probabilities: Iterable[float]) -> float:
    """The sum over t of P(not all have succeeded after t slots)."""
    failures = [1 - p for p in probabilities]
    still = [1.0] * len(failures)
    total = 0.0
    while (missing := -math.expm1(sum(map(_log_of_success, still)))) > _TAIL:
        total += missing
        still = [left * failure for left, failure in zip(still, failures, strict=True)]
    return total


def _log_of_success(failure: float) -> float:
    return math.log1p(-failure) if failure < 1 else -math.inf


def power_of_wait(probability: float, factor: float) -> float:
    """Return the mean of ``factor ** |d|``, d the slots that the first of two pairs waits."""
    fail = 1 - probability
    return probability / (2 - probability) * (1 + fail * factor) / (1 - fail * factor)


def slots_with_cutoff(probability: float, cutoff: int) -> float:
    """Return the mean slots until two pairs are there, the older discarded after `cutoff` more."""
    p, q = probability, 1 - probability
    any_one = 1 - q * q
    both = p * p / any_one
    kept = both + (1 - both) * (1 - q**cutoff)
    waits = sum(d * p * q ** (d - 1) for d in range(1, cutoff + 1)) + cutoff * q**cutoff
    return (1 / any_one + (1 - both) * waits) / kept


# --- chains -------------------------------------------------------------------------------


def chain(elementary: Sequence[BellWeights], operations: Sequence[Operations] = ()) -> BellWeights:
    """Return the weights of pairs swapped in a row, without waits.

    `operations` of the nodes between; ideal ones where none are given. LocalProtocolError where
    their number does not fit.
    """
    between = operations or (IDEAL,) * (len(elementary) - 1)
    if not elementary or len(between) != len(elementary) - 1:
        raise LocalProtocolError(f"{len(elementary)} links have not {len(between)} nodes between")
    factors = [correlators(each) for each in elementary]
    factors += [swap_factor(each) for each in between]
    return weights_of(together(*factors))


def keep_of(fidelity_average: float, qubits: int) -> float:
    """Return the probability that a depolarising gate of this average fidelity is right.

    A datasheet's `gate_fidelity` and `two_qubit_fidelity` are averages over input states:
    ``F = keep + (1 - keep) / 2**qubits``.
    """
    dimension = 1 << qubits
    return max(0.0, (fidelity_average * dimension - 1) / (dimension - 1))


def werner_after(fidelities: Iterable[float]) -> float:
    """Return the fidelity of Werner pairs after ideal swaps: ``w = (4 F - 1) / 3`` multiplies."""
    total = math.prod((4 * each - 1) / 3 for each in fidelities)
    return (1 + 3 * total) / 4

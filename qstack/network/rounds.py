"""What one round of purification does to two pairs: how often it keeps one, and what that then is.

At both ends a CNOT from the kept half to the spent half, then the spent half is read; the pair is
kept where the outcomes agree. Weights are relative to the announced states
(:mod:`qstack.network.budget`), in which that circuit takes the errors (x, z) of the kept and (x',
z') of the spent pair to (x, z ^ z') and the parity to x ^ x'. Gates and readout are imperfect as in
:class:`~qstack.network.budget.Operations`: a gate that fails leaves the kept half mixed and the
parity random, a readout error turns the parity, and a turn that fails mixes its half.

Sources: Bennett et al. 1996 (BBPSSW), Deutsch et al. 1996 (DEJMPS), Campbell and Benjamin 2008
(extreme photon loss). Oracles: cases O13 and O14 and section 6 of the validation dossier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qstack.bell import BellWeights, werner
from qstack.machine import record
from qstack.network.budget import IDEAL, Operations

Ends: TypeAlias = tuple[Operations, Operations]

IDEAL_ENDS: Ends = (IDEAL, IDEAL)


@record
class Round:
    """What one round gives: how often the pair is kept, and its weights then."""

    probability: float
    weights: BellWeights


Circuit: TypeAlias = Callable[[BellWeights, BellWeights, Ends], Round]


def parity_round(kept: BellWeights, spent: BellWeights, ends: Ends = IDEAL_ENDS) -> Round:
    """Return what the plain circuit gives: bilateral CNOT, equal outcomes."""
    equal, unequal = [0.0] * 4, [0.0] * 4
    for mine, weight in enumerate(kept):
        for other, probability in enumerate(spent):
            result = mine ^ (other & 1)
            (unequal if (mine ^ other) & 2 else equal)[result] += weight * probability
    right, gates = _parity_right(ends), ends[0].keep * ends[1].keep
    lost = (1 - gates) / 8
    raw = [
        gates * (right * good + (1 - right) * bad) + lost
        for good, bad in zip(equal, unequal, strict=True)
    ]
    return _normalised(raw)


def dejmps(kept: BellWeights, spent: BellWeights, ends: Ends = IDEAL_ENDS) -> Round:
    """Return a DEJMPS round: rotations of pi/2 about X, opposite at the ends, then the circuit."""
    return parity_round(worn(_rotated(kept), ends), worn(_rotated(spent), ends), ends)


def bbpssw(kept: BellWeights, spent: BellWeights, ends: Ends = IDEAL_ENDS) -> Round:
    """Return a BBPSSW round: both pairs and what comes out are twirled to Werner form."""
    round_ = parity_round(worn(werner(kept[0]), ends), worn(werner(spent[0]), ends), ends)
    return Round(round_.probability, werner(round_.weights[0]))


def extreme_photon_loss(
    kept: BellWeights,
    spent: BellWeights,
    dark: tuple[float, float],
    ends: Ends = IDEAL_ENDS,
) -> Round:
    """Return a round on two pairs that one click heralded: keep only where both read 1.

    The errors of such a pair are both ends bright, |11>, which two pairs cannot share: with
    t the spent and k the kept bits, both outcomes 1 means that t is the opposite of k. Weights
    are relative to Psi: index 0 and 1 the announced Psi and its phase error, 2 and 3 the even
    states. `dark` is the part of the whole of each pair that is |00>; the rest of the even
    weight is |11>. There is no coherence between the two, nor in what is kept of it. An unknown
    optical phase cancels if it is the same for both pairs. A gate that fails makes its own end's
    outcome random; the other end's goes on telling of its two bits.
    """
    odd, odd_spent = kept[0] + kept[1], spent[0] + spent[1]
    low, low_spent = dark
    high, high_spent = kept[2] + kept[3] - low, spent[2] + spent[3] - low_spent
    same = (kept[0] * spent[0] + kept[1] * spent[1]) / 2
    flipped = (kept[0] * spent[1] + kept[1] * spent[0]) / 2
    opposite = (low * high_spent + high * low_spent) / 2
    equal = (low * low_spent + high * high_spent) / 2
    # Unequal outcomes tell which of 01 and 10 the kept pair is: no coherence is left.
    spoiled, even_left = odd * (low_spent + high_spent) / 2, (low + high) * odd_spent / 2
    rights = ends[0].readout, ends[1].readout
    both = rights[0] * rights[1]
    neither = (1 - rights[0]) * (1 - rights[1])
    # Outcomes 01 and 10 are equally likely, so one misreading of each end weighs half.
    one = (rights[0] * (1 - rights[1]) + rights[1] * (1 - rights[0])) / 2
    gates = ends[0].keep * ends[1].keep
    lost = _by_chance((odd / 2 + high, odd_spent / 2 + high_spent), ends) / 4
    raw = [
        gates * ((both + neither) * same + one * spoiled) + lost,
        gates * ((both + neither) * flipped + one * spoiled) + lost,
    ]
    raw += [gates * (both * opposite + neither * equal + one * even_left) + lost] * 2
    return _normalised(raw)


def _by_chance(ones: tuple[float, float], ends: Ends) -> float:
    """How often both ends read 1 where a gate failed; `ones`: how often each pair's halves are."""
    differ = ones[0] * (1 - ones[1]) + ones[1] * (1 - ones[0])
    here, there = (each.readout * differ + (1 - each.readout) * (1 - differ) for each in ends)
    first, second = ends[0].keep, ends[1].keep
    one = (1 - first) * second * there + first * (1 - second) * here
    return one / 2 + (1 - first) * (1 - second) / 4


def against_loss(tilt: float, other: float | None = None) -> Circuit:
    """Return an extreme-photon-loss round for pairs with this weight of |00> less that of |11>.

    `other`: that of the spent pair, if it is another.
    """
    second = tilt if other is None else other

    def circuit(kept: BellWeights, spent: BellWeights, ends: Ends) -> Round:
        dark = _low(kept, tilt), _low(spent, second)
        return extreme_photon_loss(kept, spent, dark, ends)

    return circuit


def _low(weights: BellWeights, tilt: float) -> float:
    """How much of the whole is |00>."""
    even = weights[2] + weights[3]
    return min(even, max(0.0, (even + tilt) / 2))


def worn(weights: BellWeights, ends: Ends) -> BellWeights:
    """Return what imperfect turns of both halves leave: a half that is mixed mixes the pair."""
    kept = ends[0].turn * ends[1].turn
    if kept == 1:
        return weights
    first, second, third, fourth = (kept * each + (1 - kept) / 4 for each in weights)
    return first, second, third, fourth


def _rotated(weights: BellWeights) -> BellWeights:
    """The errors after the rotations of DEJMPS: Z and Y change places."""
    return weights[0], weights[3], weights[2], weights[1]


def _parity_right(ends: Ends) -> float:
    first, second = ends[0].readout, ends[1].readout
    return first * second + (1 - first) * (1 - second)


def _normalised(raw: list[float]) -> Round:
    total = sum(raw)
    if total <= 0:
        return Round(0.0, (0.25, 0.25, 0.25, 0.25))
    first, second, third, fourth = (each / total for each in raw)
    return Round(total, (first, second, third, fourth))

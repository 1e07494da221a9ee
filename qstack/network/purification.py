"""Better pairs from several worse ones: what each round keeps, how often, and which to choose.

One round takes two pairs between the same nodes. At both ends a CNOT from the kept half to the
spent half, then the spent half is read; the pair is kept where the outcomes agree. Weights are
relative to the announced states (:mod:`qstack.network.budget`), in which that circuit takes the
errors (x, z) of the kept and (x', z') of the spent pair to (x, z ^ z') and the parity to x ^ x'.
Gates and readout are imperfect as in :class:`~qstack.network.budget.Operations`: a gate that fails
leaves the kept half mixed and the parity random, a readout error turns the parity, and a turn
that fails mixes its half. What pairs lose while they wait for each other and for the other end's
word is a :class:`Pace`.

Sources: Bennett et al. 1996 (BBPSSW), Deutsch et al. 1996 (DEJMPS), Campbell and Benjamin 2008
(extreme photon loss). Oracles: cases O13 and O14 and section 6 of the validation dossier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

from qstack.bell import BellWeights, werner
from qstack.machine import record
from qstack.messages.circuits import Method
from qstack.network.budget import (
    ETERNAL,
    IDEAL,
    Operations,
    Storage,
    correlators,
    fading,
    mean_fading,
    together,
    weights_of,
)
from qstack.units import Duration

Ends: TypeAlias = tuple[Operations, Operations]

IDEAL_ENDS: Ends = (IDEAL, IDEAL)

MOST_NESTED, MOST_PUMPED = 6, 16
"""Rounds that a plan may have: more never pay with gates that anybody has."""

ENOUGH = 1e-9
"""Fidelities closer than this are taken as equal."""


@record
class Round:
    """What one round gives: how often the pair is kept, and its weights then."""

    probability: float
    weights: BellWeights


Circuit: TypeAlias = Callable[[BellWeights, BellWeights, Ends], Round]


@record
class Plan:
    """How to reach a fidelity: the rounds, what comes out, and what it costs.

    `pairs`: mean number of elementary pairs per delivered one. `kept`: probability that all
    rounds succeed at the first try. `memories` that each end needs at once.
    """

    method: Method
    rounds: int
    weights: BellWeights
    pairs: float
    kept: float
    memories: int

    @property
    def fidelity(self) -> float:
        """The fidelity that it delivers."""
        return self.weights[0]


@record
class Pace:
    """How fast pairs come and words travel, and how halves fade at the two ends meanwhile.

    `rate_hz` of elementary pairs; `latency_ns` of a message between the ends, one way.
    """

    rate_hz: float = 1.0
    latency_ns: Duration = 0
    storage: tuple[Storage, Storage] = (ETERNAL, ETERNAL)

    def awaited(self, weights: BellWeights, pairs: float) -> BellWeights:
        """Return a pair that waited for another, which costs so many elementary pairs.

        The wait is taken as exponential.
        """
        if self.storage == (ETERNAL, ETERNAL):
            return weights
        losses = (mean_fading(each, self.rate_hz / pairs) for each in self.storage)
        return weights_of(together(correlators(weights), *losses))

    def answered(self, weights: BellWeights) -> BellWeights:
        """Return a pair after a word went to the other end and back: no half waits longer."""
        if self.storage == (ETERNAL, ETERNAL):
            return weights
        losses = (fading(each, 2 * self.latency_ns) for each in self.storage)
        return weights_of(together(correlators(weights), *losses))


AT_ONCE = Pace()
"""Nothing fades."""


# --- circuits -----------------------------------------------------------------------------


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
    optical phase cancels if it is the same for both pairs. A gate that fails is taken to make
    outcomes random, which is exact where |00> and |11> are equally likely.
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
    lost = (1 - gates) / 16
    raw = [
        gates * ((both + neither) * same + one * spoiled) + lost,
        gates * ((both + neither) * flipped + one * spoiled) + lost,
    ]
    raw += [gates * (both * opposite + neither * equal + one * even_left) + lost] * 2
    return _normalised(raw)


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


# --- many rounds --------------------------------------------------------------------------


def nested(
    elementary: BellWeights,
    circuit: Circuit,
    ends: Ends = IDEAL_ENDS,
    pace: Pace = AT_ONCE,
    first: Circuit | None = None,
) -> Iterator[tuple[Round, float]]:
    """Yield, round after round, what comes of pairing equals, and elementary pairs per result.

    `first`: what the first round does, if it is another.
    """
    weights, pairs = elementary, 1.0
    now = circuit if first is None else first
    while True:
        result = now(weights, pace.awaited(weights, pairs), ends)
        now = circuit
        if result.probability <= 0:
            return
        weights, pairs = pace.answered(result.weights), 2 * pairs / result.probability
        yield Round(result.probability, weights), pairs


def pumped(
    elementary: BellWeights, circuit: Circuit, ends: Ends = IDEAL_ENDS, pace: Pace = AT_ONCE
) -> Iterator[tuple[Round, float]]:
    """Yield, round after round, what comes of one pair pumped with fresh ones, and its pairs.

    A round that fails begins again from nothing.
    """
    weights, pairs = elementary, 1.0
    while True:
        result = circuit(pace.awaited(weights, 1.0), elementary, ends)
        if result.probability <= 0:
            return
        weights, pairs = pace.answered(result.weights), (pairs + 1) / result.probability
        yield Round(result.probability, weights), pairs


_WAYS: dict[Method, tuple[Callable[..., Iterator[tuple[Round, float]]], Circuit, int]] = {
    Method.NESTED_DEJMPS: (nested, dejmps, MOST_NESTED),
    Method.PUMPED_DEJMPS: (pumped, dejmps, MOST_PUMPED),
    Method.NESTED_BBPSSW: (nested, bbpssw, MOST_NESTED),
    Method.PUMPED_BBPSSW: (pumped, bbpssw, MOST_PUMPED),
}

METHODS = tuple(_WAYS)
"""Those for pairs of any kind."""


def memories_of(method: Method, rounds: int) -> int:
    """Return how many qubits each end needs at once.

    Pumping needs two. Nesting n rounds needs n + 1: the halves of each level are made one after
    the other, and one waits at each level.
    """
    if method is Method.NONE:
        return 1
    return rounds + 1 if method is Method.NESTED_LOSS or _WAYS[method][0] is nested else 2


def follow(
    method: Method,
    elementary: BellWeights,
    ends: Ends = IDEAL_ENDS,
    pace: Pace = AT_ONCE,
    tilt: float = 0.0,
) -> Iterator[tuple[Round, float]]:
    """Yield, round after round, what a method gives, and elementary pairs per result.

    `tilt`: of elementary pairs, the weight of |00> less that of |11>; how it fades while they wait
    is left out.
    """
    if method is Method.NESTED_LOSS:
        return nested(elementary, dejmps, ends, pace, against_loss(tilt))
    way, circuit, _ = _WAYS[method]
    return way(elementary, circuit, ends, pace)


def most_rounds(method: Method) -> int:
    """Return how many rounds a plan may have."""
    if method is Method.NONE:
        return 0
    return MOST_NESTED if method is Method.NESTED_LOSS else _WAYS[method][2]


def doubt_after(
    way: tuple[Method, int],
    elementary: BellWeights,
    doubt: float,
    ends: Ends = IDEAL_ENDS,
    tilt: float = 0.0,
) -> float:
    """Return how much lower the fidelity may be after (method, rounds).

    `doubt`: how much lower that of every elementary pair may be, the errors growing in
    proportion, as does their `tilt`.
    """
    if doubt <= 0 or way[0] is Method.NONE:
        return max(0.0, doubt)
    good = elementary[0]
    low = max(0.25, good - doubt)
    growth = (1 - low) / (1 - good) if good < 1 else 0.0
    errors = [each * growth for each in elementary[1:]] if growth else [(1 - low) / 3] * 3
    lower = (low, errors[0], errors[1], errors[2])
    high = _after(way, elementary, ends, tilt)
    return max(0.0, high - _after(way, lower, ends, tilt * (growth or 1.0)))


def _after(way: tuple[Method, int], elementary: BellWeights, ends: Ends, tilt: float) -> float:
    found = list(islice(follow(way[0], elementary, ends, tilt=tilt), way[1]))
    return found[-1][0].weights[0] if found else 0.25


def plans(
    elementary: BellWeights,
    ends: Ends,
    memories: int,
    methods: tuple[Method, ...] = METHODS,
    *,
    pace: Pace = AT_ONCE,
    tilt: float = 0.0,
) -> Iterator[Plan]:
    """Yield every plan that so many memories at each end allow; that without rounds first.

    For memories see :func:`memories_of`; without `tilt` no round against photon loss pays.
    """
    yield Plan(Method.NONE, 0, elementary, 1.0, 1.0, 1)
    for method in methods:
        if method is Method.NESTED_LOSS and not tilt:
            continue
        kept, doubles = 1.0, memories_of(method, 2) > 2
        for number, (result, pairs) in enumerate(follow(method, elementary, ends, pace, tilt), 1):
            needs = memories_of(method, number)
            if number > most_rounds(method) or needs > memories:
                break
            kept = result.probability * (kept * kept if doubles else kept)
            yield Plan(method, number, result.weights, pairs, kept, needs)


def plan(
    elementary: BellWeights,
    fidelity_min: float,
    ends: Ends,
    memories: int,
    methods: tuple[Method, ...] = METHODS,
) -> tuple[Plan | None, float]:
    """Return the cheapest plan that reaches a fidelity, None if none does, and the best there is.

    Equally cheap ones in the order of `methods`.
    """
    return cheapest(plans(elementary, ends, memories, methods), fidelity_min)


def cheapest(among: Iterable[Plan], fidelity_min: float) -> tuple[Plan | None, float]:
    """Return the plan of these that reaches a fidelity at the least cost, and the best there is.

    Cheapest: fewest elementary pairs, then fewest rounds, then the order in which they come.
    """
    found: Plan | None = None
    limit = 0.0
    for each in among:
        limit = max(limit, each.fidelity)
        if each.fidelity + ENOUGH < fidelity_min:
            continue
        if found is None or (each.pairs, each.rounds) < (found.pairs, found.rounds):
            found = each
    return found, limit

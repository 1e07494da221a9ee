"""Better pairs from several worse ones: what each round keeps, how often, and which to choose.

What one round does is in :mod:`qstack.network.rounds`. What pairs lose while they wait for each
other and for the other end's word is a :class:`Pace`.

Oracles: cases O13 and O14 and section 6 of the validation dossier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from qstack.bell import BellWeights
from qstack.machine import record
from qstack.messages.circuits import Method
from qstack.network.budget import (
    ETERNAL,
    Storage,
    correlators,
    fading,
    mean_fading,
    together,
    weights_of,
)
from qstack.network.rounds import (
    IDEAL_ENDS,
    Circuit,
    Ends,
    Round,
    against_loss,
    bbpssw,
    dejmps,
)
from qstack.units import Duration

MOST_NESTED, MOST_PUMPED = 6, 16
"""Rounds that a plan may have: more never pay with gates that anybody has."""

ENOUGH = 1e-9
"""Fidelities closer than this are taken as equal."""


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

"""What a round does to two pairs: turns, frames, weights. Both ends compute it from shared data.

A turn by a quarter about an axis, with opposite sign at the ends (the same for Y, whose matrix is
real), leaves Phi+ alone and exchanges the two errors that are not about that axis. A Bell index is
an error on Phi+, so announced indices are exchanged in the same way.
"""

from __future__ import annotations

from qstack.bell import BellIndex, BellWeights
from qstack.errors import RemoteProtocolError
from qstack.machine import record
from qstack.messages.network import DistilAges, DistilOutcome, DistilRound, TurnAxis
from qstack.network.budget import (
    Correlators,
    Storage,
    coherence,
    correlators,
    population,
    together,
    weights_of,
)
from qstack.network.rounds import Ends, against_loss, parity_round, worn
from qstack.units import Duration

TURNED = {
    TurnAxis.NONE: (0, 1, 2, 3),
    TurnAxis.X: (0, 3, 2, 1),
    TurnAxis.Y: (0, 2, 1, 3),
    TurnAxis.Z: (0, 1, 3, 2),
}
"""What becomes of each Bell index, or error, in a turn."""

_SUM = 1e-6
"""Probabilities may sum to one with this error."""


@record
class Result:
    """A round's end: whether the outcomes agree, and what the kept pair then is.

    `weights` hold for the ages at which the round began.
    """

    alike: bool
    bell: BellIndex
    weights: BellWeights


def turn(weights: BellWeights, axis: TurnAxis) -> BellWeights:
    """Return the weights, relative or absolute, after a turn."""
    a, b, c, d = (weights[index] for index in TURNED[axis])
    return a, b, c, d


def fading_between(storage: Storage, before_ns: Duration, after_ns: Duration) -> Correlators:
    """Return what one half loses from one age to a later one; a stretched decay included."""
    phases = coherence(storage, before_ns), coherence(storage, after_ns)
    levels = population(storage, before_ns), population(storage, after_ns)
    phase = phases[1] / phases[0] if phases[0] > 0 else 0.0
    return phase, phase, levels[1] / levels[0] if levels[0] > 0 else 0.0


def fade(weights: BellWeights, *losses: Correlators) -> BellWeights:
    """Return relative weights after these losses."""
    return weights_of(together(correlators(weights), *losses))


def result(
    first: DistilRound, second: DistilOutcome, storage: tuple[Storage, Storage], ends: Ends
) -> Result:
    """Return what a round gives; `storage` and `ends` with the leading end first."""
    pairs, tilts = [], []
    for given, ages in ((first.kept, second.kept), (first.spent, second.spent)):
        stated = ages.stated_ns if given.far_ns is None else given.far_ns
        losses = (
            fading_between(storage[0], given.ages.stated_ns, given.ages.begun_ns),
            fading_between(storage[1], stated, max(stated, ages.begun_ns)),
        )
        faded = fade(given.weights, *losses)
        pairs.append(faded if given.turn is TurnAxis.NONE else worn(turn(faded, given.turn), ends))
        tilts.append(given.tilt * (losses[0][2] + losses[1][2]) / 2)
    kept, spent = (TURNED[each.turn][each.bell] for each in (first.kept, first.spent))
    if first.kept.turn is TurnAxis.NONE:
        both = first.outcome & second.outcome == 1
        found = against_loss(tilts[0], tilts[1])(pairs[0], pairs[1], ends)
        return Result(both, kept ^ (spent & 1), found.weights)
    alike = first.outcome ^ second.outcome == (kept ^ spent) >> 1
    return Result(alike, kept ^ (spent & 1), parity_round(pairs[0], pairs[1], ends).weights)


# --- what a peer may say ------------------------------------------------------------------


def possible(weights: BellWeights) -> bool:
    """Return whether these are probabilities that sum to one."""
    return all(each >= -_SUM for each in weights) and abs(sum(weights) - 1) <= _SUM


def check_round(message: DistilRound) -> None:
    """Raise RemoteProtocolError for a round that cannot be."""
    if message.kept.pair == message.spent.pair:
        raise RemoteProtocolError(f"round {message.number} spends {message.kept.pair} on itself")
    if (message.kept.turn is TurnAxis.NONE) != (message.spent.turn is TurnAxis.NONE):
        raise RemoteProtocolError(f"round {message.number} turns one of its pairs alone")
    for each in (message.kept, message.spent):
        if not 0 <= each.bell <= 3 or not possible(each.weights):
            raise RemoteProtocolError(f"{each.pair} cannot be in state {each.bell} {each.weights}")
        if each.turn is TurnAxis.NONE and not each.bell & 2:
            raise RemoteProtocolError(f"{each.pair} in Phi does not show photon loss")
        if not -1 <= each.tilt <= 1:
            raise RemoteProtocolError(f"{each.pair} cannot be tilted by {each.tilt}")
        if each.far_ns is not None and each.far_ns < 0:
            raise RemoteProtocolError(f"no half is {each.far_ns} ns old")
    _check(message.outcome, message.kept.ages, message.spent.ages, message.sent_ns)


def check_outcome(message: DistilOutcome) -> None:
    """Raise RemoteProtocolError for an outcome that cannot be."""
    _check(message.outcome, message.kept, message.spent, message.sent_ns)


def _check(outcome: int, kept: DistilAges, spent: DistilAges, sent_ns: Duration) -> None:
    if outcome not in (0, 1):
        raise RemoteProtocolError(f"{outcome} is no outcome")
    aged = all(0 <= each.stated_ns <= each.begun_ns for each in (kept, spent))
    if not aged or sent_ns < kept.begun_ns:
        raise RemoteProtocolError(f"no half can be so old: {kept}, {spent}, {sent_ns} ns")

"""Click patterns with their probabilities and the spin state that each one leaves."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

from qstack.errors import LocalProtocolError
from qstack.sim.states import Matrix

POSSIBLE = 1e-24
"""Patterns below this probability are rounding residue of destructive interference."""


@attrs.frozen(eq=False)
class Outcome:
    """One click pattern of an attempt.

    `clicks`: bit k says that detector k clicked; for number-resolving detectors bit
    (detectors + k) says that it counted more than one. `probability`: per attempt.
    `state`: (4, 4) complex, read-only, trace one: the spins of (A, B) in the order
    |00>, |01>, |10>, |11>, given the pattern (and its tags, see :mod:`.tags`).
    """

    clicks: int
    probability: float
    state: Matrix


@attrs.frozen(eq=False)
class HeraldTable:
    """Every pattern that an attempt can end in; the probabilities sum to one.

    Patterns that cannot happen are left out; failing patterns are included.
    """

    outcomes: tuple[Outcome, ...]

    def outcome(self, clicks: int) -> Outcome:
        """Return the outcome of this pattern; KeyError where it cannot happen."""
        for outcome in self.outcomes:
            if outcome.clicks == clicks:
                return outcome
        raise KeyError(clicks)

    def probability(self, clicks: int) -> float:
        """Return the probability of a pattern, 0 where it cannot happen."""
        return sum(o.probability for o in self.outcomes if o.clicks == clicks)

    def success(self, patterns: Iterable[int]) -> float:
        """Return the probability per attempt that any of `patterns` (click masks) is seen."""
        wanted = frozenset(patterns)
        return sum(o.probability for o in self.outcomes if o.clicks in wanted)

    def pick(self, patterns: Iterable[int], uniform: float) -> Outcome:
        """Return the outcome that `uniform` in [0, 1) draws, given that one of `patterns` is seen.

        Raises LocalProtocolError where none of them can happen.
        """
        wanted = frozenset(patterns)
        able = [o for o in self.outcomes if o.clicks in wanted]
        if not able:
            raise LocalProtocolError(f"none of the patterns {sorted(wanted)} can happen")
        left = uniform * sum(o.probability for o in able)
        for outcome in able:
            left -= outcome.probability
            if left < 0:
                return outcome
        return able[-1]


def tabulate(unnormalised: dict[int, Matrix]) -> HeraldTable:
    """Return the table of spin states whose traces are the probabilities of their patterns."""
    outcomes = []
    for clicks, matrix in sorted(unnormalised.items()):
        probability = float(np.trace(matrix).real)
        if probability <= POSSIBLE:
            continue
        state = matrix / probability
        state.flags.writeable = False
        outcomes.append(Outcome(clicks, probability, state))
    return HeraldTable(tuple(outcomes))

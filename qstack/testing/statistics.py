"""Whether the mean true fidelity of many pairs is what was promised for them.

Pairs are put into classes by working point, click pattern and age. For each class the promise is
goodness, brought to the age at which the pair was looked at by the law of the memories. A
class is *refuted* when the mean of ``d = fidelity - promise`` over its pairs lies away from zero
by more than the tolerance plus what chance allows.

**Chance.** The true fidelities of a class hardly vary: they are those of states and not single
outcomes. So chance is bounded by their own variance (empirical Bernstein inequality, Maurer and
Pontil 2009, theorem 11): n independent variables within an interval of width R, of sample
variance V, have a mean that is farther from its expectation, to one side or the other, than ::

    sqrt(2 V L / n) + 7 R L / (3 (n - 1)),    L = log(4 / alarm)

with probability `alarm` at most, whatever their laws. A fidelity is in [0, 1] and promises
between the least and the most of the class, so that R is one and the difference of these two.
The classes that are judged share :data:`ALARM` in equal parts. Pairs need not be alike, only
independent; few are looked at twice at ages of one class, where both looks count. A bound from
the normal law would be narrower still, but it holds for no rare failures, which is what there is
to find: before the first of them a class would be certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

from qstack.machine import record
from qstack.testing.checkers import Seen
from qstack.units import MILLISECOND

ENOUGH = 2_000
"""A class of fewer pairs is not judged."""

ALARM = 1e-6
"""The probability of a false alarm, over all classes that are judged together."""

TOLERANCE = 0.001
"""What the promise for a pair of one link may be wrong by, beyond chance.

Where the datasheets are right the law of the memories is exact; test rounds make goodness an
estimate, which is wrong by less than this in the mean.
"""

ROUTED_TOLERANCE = 0.005
"""The same over several links, where goodness leaves out two things.

Heralds slower than light make the halves at both ends older than is reckoned, and a swap costs
less than the wait of both its qubits for which it is taken; see the limits in the documentation.
"""

Class: TypeAlias = tuple[str, int, str]
"""(working point, clicks, age class)."""


def chance_bound(count: int, variance: float, width: float, alarm: float) -> float:
    """Return by how much a mean may be away from what is expected, by chance alone.

    `count` variables, two at least, within an interval of this width, and their sample variance
    (over ``count - 1``); `alarm`: the probability that it is more, on both sides together.
    """
    exponent = math.log(4 / alarm)
    by_variance = math.sqrt(2 * variance * exponent / count)
    return by_variance + 7 * width * exponent / (3 * (count - 1))


@record
class Mean:
    """The pairs of one class: how many, their mean fidelity and the mean that was promised.

    `variance`: the sample variance of fidelity less promise; `width`: of the interval that these
    must be in; `alarm`: the probability of a false alarm that this class may have; `tolerance`:
    what the promise may be wrong by.
    """

    count: int
    fidelity: float
    promised: float
    variance: float
    width: float
    alarm: float
    tolerance: float

    @property
    def allowed(self) -> float:
        """By how much the mean may be away from the promise; anything for very few pairs."""
        if self.count < 2:
            return self.width
        chance = chance_bound(self.count, self.variance, self.width, self.alarm)
        return min(self.width, self.tolerance + chance)

    @property
    def refuted(self) -> bool:
        """Whether there are enough pairs, and they are not as good, or as bad, as promised."""
        return self.count >= ENOUGH and abs(self.fidelity - self.promised) > self.allowed


def age_class(seen: Seen) -> str:
    """Return the name of a pair's age class, by the age at which it was looked at."""
    age_ns = seen.age_ns + seen.late_ns
    for name, limit_ns in (("0.1 ms", 0.1), ("1 ms", 1.0), ("10 ms", 10.0)):
        if age_ns <= limit_ns * MILLISECOND:
            return f"up to {name}"
    return "older"


@record
class _Sums:
    """Of one class: the pairs, their fidelities, promises and squared differences.

    `least` and `most`: of what was promised.
    """

    count: int
    fidelity: float
    promised: float
    squares: float
    least: float
    most: float

    def plus(self, pair: Seen) -> _Sums:
        """Return the sums with one more pair."""
        return _Sums(
            self.count + 1,
            self.fidelity + pair.fidelity,
            self.promised + pair.expected,
            self.squares + (pair.fidelity - pair.expected) ** 2,
            min(self.least, pair.expected),
            max(self.most, pair.expected),
        )

    def mean(self, alarm: float, tolerance: float) -> Mean:
        """Return the mean; a single pair has no variance."""
        fidelity, promised = self.fidelity / self.count, self.promised / self.count
        around = self.squares - self.count * (fidelity - promised) ** 2
        variance = max(0.0, around) / max(1, self.count - 1)
        width = 1 + self.most - self.least
        return Mean(self.count, fidelity, promised, variance, width, alarm, tolerance)


_NONE = _Sums(0, 0.0, 0.0, 0.0, math.inf, -math.inf)


class Classes:
    """The sums of all classes. `expected` is what a pair's goodness has become by its real age."""

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self._tolerance = tolerance
        self._sums: dict[Class, _Sums] = {}

    def add(self, seen: Iterable[Seen]) -> None:
        """Take the pairs of a run."""
        for pair in seen:
            key = (pair.setting, pair.clicks, age_class(pair))
            self._sums[key] = self._sums.get(key, _NONE).plus(pair)

    def means(self) -> dict[Class, Mean]:
        """Return the means of all classes, by name."""
        judged = sum(sums.count >= ENOUGH for sums in self._sums.values())
        alarm, tolerance = ALARM / max(1, judged), self._tolerance
        return {key: sums.mean(alarm, tolerance) for key, sums in sorted(self._sums.items())}

    def refuted(self) -> list[Class]:
        """Return the classes that are not what was promised."""
        return [key for key, mean in self.means().items() if mean.refuted]

    def report(self) -> list[str]:
        """Return a line for each class, for people."""
        lines = []
        for (setting, clicks, age), mean in self.means().items():
            verdict = "REFUTED" if mean.refuted else "ok" if mean.count >= ENOUGH else "too few"
            lines.append(
                f"{setting} clicks {clicks} {age}: {mean.count} pairs, fidelity "
                f"{mean.fidelity:.4f}, promised {mean.promised:.4f} "
                f"within {mean.allowed:.4f}: {verdict}"
            )
        return lines

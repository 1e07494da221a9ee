"""Whether the mean true fidelity of many pairs is what was promised for them.

Pairs are put into classes by working point, click pattern and age. For each class the promise is
goodness, brought to the age at which the pair was looked at by the law of the memories. A
class is *refuted* when its mean lies away from the promise by more than the tolerance plus what
chance allows: by Hoeffding's inequality, as a fidelity is in [0, 1], a class of n pairs is
farther away from its mean than ``sqrt(log(2 / ALARM) / (2 n))`` with probability ALARM at most.
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
"""The probability, for each class, of a false alarm."""

TOLERANCE = 0.005
"""What the promise may be wrong by, beyond chance: it is an estimate for a nominal age."""

Class: TypeAlias = tuple[str, int, str]
"""(working point, clicks, age class)."""


@record
class Mean:
    """The pairs of one class: how many, their mean fidelity and the mean that was promised."""

    count: int
    fidelity: float
    promised: float

    @property
    def chance(self) -> float:
        """By how much the mean may be away by chance alone."""
        return math.sqrt(math.log(2 / ALARM) / (2 * self.count))

    @property
    def refuted(self) -> bool:
        """Whether there are enough pairs, and they are not as good, or as bad, as promised."""
        away = abs(self.fidelity - self.promised)
        return self.count >= ENOUGH and away > TOLERANCE + self.chance


def age_class(seen: Seen) -> str:
    """Return the name of a pair's age class, by the age at which it was looked at."""
    age_ns = seen.age_ns + seen.late_ns
    for name, limit_ns in (("0.1 ms", 0.1), ("1 ms", 1.0), ("10 ms", 10.0)):
        if age_ns <= limit_ns * MILLISECOND:
            return f"up to {name}"
    return "older"


class Classes:
    """The sums of all classes. `expected` is what a pair's goodness has become by its real age."""

    def __init__(self) -> None:
        self._sums: dict[Class, tuple[int, float, float]] = {}

    def add(self, seen: Iterable[Seen]) -> None:
        """Take the pairs of a run."""
        for pair in seen:
            key = (pair.setting, pair.clicks, age_class(pair))
            count, fidelity, promised = self._sums.get(key, (0, 0.0, 0.0))
            self._sums[key] = (count + 1, fidelity + pair.fidelity, promised + pair.expected)

    def means(self) -> dict[Class, Mean]:
        """Return the means of all classes, by name."""
        return {
            key: Mean(count, fidelity / count, promised / count)
            for key, (count, fidelity, promised) in sorted(self._sums.items())
        }

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
                f"{mean.fidelity:.4f}, promised {mean.promised:.4f}: {verdict}"
            )
        return lines

"""Time, names and chance: the vocabulary that every room shares.

Instants and durations are integers, in nanoseconds of *lab time*; time tags of
detectors are integers in picoseconds. Nothing here reads a clock.
"""

from __future__ import annotations

import math
from random import Random
from typing import TypeAlias

Instant: TypeAlias = int
"""A point of lab time, in nanoseconds since an origin that only its owner knows."""

Duration: TypeAlias = int
"""A span of lab time, in nanoseconds."""

Picoseconds: TypeAlias = int
"""A span of lab time, in picoseconds: detector tags and coincidence windows."""

NodeName: TypeAlias = str
"""A network-wide unique name of a party: node, station, world or client."""

LinkName: TypeAlias = str
"""A network-wide unique name of a link."""

BootId: TypeAlias = int
"""64 random bits that name one life of a process; 0 means "not known yet"."""

MICROSECOND: Duration = 1_000
MILLISECOND: Duration = 1_000_000
SECOND: Duration = 1_000_000_000


def earliest(first: Instant | None = None, *others: Instant | None) -> Instant | None:
    """Return the earliest of several deadlines, ignoring those that are None."""
    for deadline in others:
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first


class Chance:
    """A seeded, copyable source of random numbers; part of a machine's value.

    A wrapper of the standard library's Mersenne twister: scalar draws cost a fraction of
    numpy's. Children made by :meth:`fork` depend only on the seed and their name, so adding
    one never disturbs another.
    """

    __slots__ = ("_random", "seed")

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self._random = Random(seed if isinstance(seed, int) else f"qstack:{seed}")

    def fork(self, name: str) -> Chance:
        """Return the independent generator called `name` of this seed."""
        return Chance(f"{self.seed}/{name}")

    def copy(self) -> Chance:
        """Return a generator that will draw the same numbers as this one."""
        twin = Chance(self.seed)
        twin._random.setstate(self._random.getstate())
        return twin

    def uniform(self) -> float:
        """Return a float in [0, 1)."""
        return self._random.random()

    def bits(self, count: int) -> int:
        """Return an integer of `count` random bits."""
        return self._random.getrandbits(count)

    def boot_id(self) -> BootId:
        """Return 64 random bits that are not zero."""
        return self._random.getrandbits(64) or 1

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound)."""
        return self._random.randrange(bound)

    def gauss(self, mean: float, sigma: float) -> float:
        """Return a normal variate."""
        return self._random.gauss(mean, sigma)

    def exponential(self, mean: float) -> float:
        """Return an exponential variate of the given mean."""
        return -mean * math.log1p(-self._random.random())

    def failures(self, probability: float) -> int:
        """Return the number of failures before the first success of independent trials.

        `probability` is the success probability of one trial, in (0, 1]. Exact geometric
        law, one draw whatever the probability: this is the skip-ahead of DESIGN section 8.
        """
        if probability >= 1.0:
            return 0
        return int(math.log1p(-self._random.random()) / math.log1p(-probability))

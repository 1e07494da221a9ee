"""How often a link tried, what its detectors saw, and what heralded.

Skip-ahead decides a million failures in one draw, and nobody looks at what the detectors saw in
them until somebody asks. Then the clicks of all failures since the last look are drawn at
once: attempts are independent, so given that they failed their patterns are multinomial. That
is exact, and costs the same for ten attempts as for ten million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qstack.units import Chance

if TYPE_CHECKING:
    from qstack.sim.world.optics import AttemptTable
    from qstack.sim.world.pair_tables import JointTable


class Odds:
    """What an attempt with given settings gives, and how many of a link's were made with them.

    Of `attempts` made, `successes` heralded, and of the others `looked` are in the singles.
    """

    __slots__ = ("attempts", "looked", "success", "successes", "table")

    def __init__(self, table: AttemptTable | JointTable) -> None:
        self.table = table
        self.success = table.success
        self.attempts = 0
        self.successes = 0
        self.looked = 0


class Counts:
    """The counters of one link since the world began.

    `heralded`: successes by the station's pattern. `masks`: attempts by the detectors that
    clicked in them, as far as they were looked at.
    """

    __slots__ = ("_chance", "detectors", "heralded", "masks", "odds")

    def __init__(self, detectors: int, chance: Chance) -> None:
        self.detectors = detectors
        self.odds: list[Odds] = []
        self.heralded: dict[int, int] = {}
        self.masks: dict[int, int] = {}
        self._chance = chance

    def herald(self, odds: Odds, clicks: int, mask: int) -> None:
        """Count a success: the station's pattern, and all detectors that clicked."""
        odds.successes += 1
        self.heralded[clicks] = self.heralded.get(clicks, 0) + 1
        self.masks[mask] = self.masks.get(mask, 0) + 1

    def miss(self, odds: Odds, mask: int) -> None:
        """Count a failure whose clicks are known."""
        odds.looked += 1
        self.masks[mask] = self.masks.get(mask, 0) + 1

    def fold(self) -> None:
        """Look at all that was made with odds that are used no more, and forget them."""
        for odds in self.odds:
            self._look(odds)
        self.odds.clear()

    def singles(self) -> tuple[int, ...]:
        """Return in how many attempts each detector clicked."""
        for odds in self.odds:
            self._look(odds)
        return tuple(
            sum(count for mask, count in self.masks.items() if mask >> detector & 1)
            for detector in range(self.detectors)
        )

    def _look(self, odds: Odds) -> None:
        fresh = odds.attempts - odds.successes - odds.looked
        failing = odds.table.failing
        if not fresh or not failing:
            return
        odds.looked += fresh
        shares = np.array([probability for _, probability in failing]) / (1.0 - odds.success)
        # The last share is that of silence.
        shares = np.append(shares, max(0.0, 1.0 - float(shares.sum())))
        # numpy's binomials are exact and of bounded cost; the seed is ours.
        generator = np.random.Generator(np.random.PCG64(self._chance.bits(64)))
        for (mask, _), count in zip(failing, generator.multinomial(fresh, shares), strict=False):
            if count:
                self.masks[mask] = self.masks.get(mask, 0) + int(count)

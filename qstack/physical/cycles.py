"""The cycle that a link is in, as one end estimates it from its station's word.

Every word is late by its way, and never early but for the station's own, whose count is ahead of
the hardware by its command's way. So the earliest beginning of cycle 0 counts, leaking a little
for clocks that drift apart, as in :mod:`qstack.physical.grid`.
"""

from __future__ import annotations

from qstack.physical.grid import LEAK_SHIFT
from qstack.units import Duration, Instant


class CycleEstimate:
    """When cycle 0 of the link's present clock began, by this node's."""

    __slots__ = ("_at", "_began", "_cycle_ns", "_epoch", "_told")

    def __init__(self, cycle_ns: Duration) -> None:
        self._cycle_ns = cycle_ns
        self._epoch = -1
        self._began: Instant = 0
        self._at: Instant = 0
        self._told: Instant | None = None

    @property
    def began(self) -> Instant | None:
        """When cycle 0 began, None where nothing was heard."""
        return None if self._epoch < 0 else self._began

    def heard(self, epoch: int, cycle: int, now: Instant) -> Instant | None:
        """The station's clock of this epoch was in `cycle`; return its beginning if it moved.

        That is: by a cycle or more since it was last returned.
        """
        began = now - cycle * self._cycle_ns
        if epoch == self._epoch:
            leaked = self._began + ((now - self._at) >> LEAK_SHIFT)
            began = min(leaked, began)
        else:
            self._told = None
        self._epoch, self._began, self._at = epoch, began, now
        if self._told is not None and abs(began - self._told) < self._cycle_ns:
            return None
        self._told = began
        return began

    def forget(self) -> None:
        """Another life of the station begins."""
        self._epoch, self._told = -1, None

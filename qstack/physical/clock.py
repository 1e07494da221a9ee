"""The cycle number of a link at its station, and how far its clicks are decided.

The station starts the hardware's clock and counts from the instant of that command, so that
its count is ahead of the hardware's by the command's way. For what it calls decided it counts
from the clock's completion instead, and stays back by a margin. For what is to begin now it
counts from the latest instant at which the hardware can have begun, which each click narrows:
a first cycle that lies ahead of the hardware would be waited for.
"""

from __future__ import annotations

from qstack.units import Duration, Instant


class LinkClock:
    """Cycle numbers of one link; `margin_ns` is the longest way of a click to the station."""

    def __init__(self, cycle_ns: Duration, margin_ns: Duration) -> None:
        self._cycle_ns = cycle_ns
        self._margin_ns = margin_ns
        self.command: int | None = None
        self.announced = -1
        self.epoch = 0
        """How often the count began again."""
        self._began: Instant | None = None
        self._completed: Instant | None = None
        self._begun_by: Instant | None = None
        self._latest = -1

    @property
    def running(self) -> bool:
        """Whether the hardware's clock was started."""
        return self.command is not None

    @property
    def uncertainty_ns(self) -> Duration | None:
        """How long the start took; None while it is not known."""
        if self._began is None or self._completed is None:
            return None
        return self._completed - self._began

    @property
    def margin_cycles(self) -> int:
        """The margin in cycles, rounded down."""
        return self._margin_ns // self._cycle_ns

    def start(self, command: int, now: Instant) -> None:
        """The hardware is told to begin cycle 0."""
        self.command, self._began = command, now

    def completed(self, now: Instant) -> None:
        """The hardware has begun."""
        self._completed = self._begun_by = now

    def stop(self) -> None:
        """The hardware's clock is gone; the next one counts from 0 again."""
        self.command = self._began = self._completed = self._begun_by = None
        self._latest = self.announced = -1
        self.epoch += 1

    def heard(self, cycle: int, now: Instant) -> bool:
        """A click of this cycle came in; return whether it is in time."""
        self._latest = max(self._latest, cycle)
        began = now - cycle * self._cycle_ns
        if self._begun_by is not None and began < self._begun_by:
            self._begun_by = began
        return cycle > self.announced

    def reached(self, now: Instant) -> int:
        """Return a cycle that the hardware has reached: never ahead of it."""
        if self._begun_by is None:
            return 0
        return max(self._latest, (now - self._begun_by) // self._cycle_ns, 0)

    def cycle(self, now: Instant) -> int:
        """Return the present cycle: never behind the hardware's."""
        if self._began is None:
            return 0
        return max(self._latest, (now - self._began) // self._cycle_ns)

    def announce(self, now: Instant, oldest_open: int | None) -> int:
        """Return the last cycle of which every click is decided; a later click is void.

        `oldest_open` is the cycle of the oldest click that waits for credit. Never goes back.
        """
        if oldest_open is not None:
            decided = oldest_open - 1
        else:
            decided = self._latest - 1
            if self._completed is not None:
                idle = (now - self._completed - self._margin_ns) // self._cycle_ns
                decided = max(decided, idle)
        self.announced = max(self.announced, decided)
        return self.announced

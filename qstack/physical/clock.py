"""The cycle number of a link at its station, and how far its clicks are decided.

The station starts the hardware's clock and counts from the instant of that command, so that
its count is ahead of the hardware's by the command's way. For what it calls decided it counts
from the clock's completion instead, or from what the last click says of it, and stays back by a
margin. Its computer and the hardware count by different oscillators: the margin grows with the
time since the last click, by what they may drift apart. What is to begin now is counted from
there too: a first cycle that lies ahead of the hardware would be waited for.
"""

from __future__ import annotations

from qstack.messages.physical import Beacon
from qstack.units import Duration, Instant, LinkName

DRIFT = 5_000
"""A computer's clock and the hardware's gain less than one part in this on each other (200 ppm)."""


class LinkClock:
    """Cycle numbers of one link; `margin_ns` is the longest way of a click to the station."""

    __slots__ = (
        *("_began", "_completed", "_cycle_ns", "_latest", "_margin_ns", "_origin", "announced"),
        *("command", "epoch"),
    )

    def __init__(self, cycle_ns: Duration, margin_ns: Duration) -> None:
        self._cycle_ns = cycle_ns
        self._margin_ns = margin_ns
        self.command: int | None = None
        self.announced = -1
        self.epoch = 0
        """How often the count began again."""
        self._began: Instant | None = None
        self._completed: Instant | None = None
        # No earlier than cycle 0 began, and when that was found.
        self._origin: tuple[Instant, Instant] | None = None
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
        self._completed = now
        self._origin = (now, now)

    def stop(self) -> None:
        """The hardware's clock is gone; the next one counts from 0 again."""
        self.command = self._began = self._completed = self._origin = None
        self._latest = self.announced = -1
        self.epoch += 1

    def heard(self, cycle: int, seen: Instant) -> bool:
        """A click of this cycle came in, seen at `seen`; return whether it is in time."""
        if self._origin is not None:
            self._origin = (seen - cycle * self._cycle_ns, seen)
        self._latest = max(self._latest, cycle)
        return cycle > self.announced

    def cycle(self, now: Instant) -> int:
        """Return the present cycle: never behind the hardware's."""
        if self._began is None:
            return 0
        return max(self._latest, (now - self._began) // self._cycle_ns)

    def reached(self, now: Instant) -> int:
        """Return a cycle that the hardware has reached: not ahead of it, but for drift."""
        if self._origin is None:
            return 0
        return max(self._latest, (now - self._origin[0]) // self._cycle_ns, 0)

    def span(self, opens: Instant, closes: Instant) -> tuple[int, int]:
        """Return the cycles that lie between two instants, from the first to before the second.

        Whenever cycle 0 began, as far as that will be known then. (0, 0) where there are none.
        """
        if self._began is None or self._origin is None:
            return 0, 0
        first = max(0, -(-(opens - self._bounds(opens)[0]) // self._cycle_ns))
        last = max(0, (closes - self._bounds(closes)[1]) // self._cycle_ns)
        return (first, last) if first < last else (0, 0)

    def lost_ns(self, at: Instant) -> Duration:
        """Return how much less is known at an instant than when the clock began: by drift."""
        if self._origin is None or self.uncertainty_ns is None:
            return 0
        first, last = self._bounds(at)
        return last - first - self.uncertainty_ns

    def _bounds(self, at: Instant) -> tuple[Instant, Instant]:
        """Between which instants cycle 0 began, by the hardware's count at a given instant.

        What the start says is as certain as it took, what a click says as its longest way; from
        then to the instant given, past or to come, hardware and computer may gain or lose.
        """
        if self._began is None or self._completed is None or self._origin is None:
            return 0, 0
        drift = abs(at - self._began) // DRIFT
        seen, found = self._origin
        since = abs(at - found) // DRIFT
        earliest, latest = self._began - drift, self._completed + drift
        return max(earliest, seen - self._margin_ns - since), min(latest, seen + since)

    def beacon(self, link: LinkName, sequence: int, now: Instant) -> Beacon | None:
        """Return what tells an end of the link's cycle; None where that is not known yet."""
        if self.uncertainty_ns is None:
            return None
        cycle, uncertainty_ns = self.cycle(now), self.uncertainty_ns
        return Beacon(link, cycle, self._cycle_ns, uncertainty_ns, sequence, self.announced)

    def announce(self, now: Instant, oldest_open: int | None) -> int:
        """Return the last cycle of which every click is decided; a later click is void.

        `oldest_open` is the cycle of the oldest click that waits for credit. Never goes back.
        """
        if oldest_open is not None:
            decided = oldest_open - 1
        else:
            decided = self._latest - 1
            if self._origin is not None:
                origin, found = self._origin
                margin = self._margin_ns + (now - found) // DRIFT
                idle = (now - origin - margin) // self._cycle_ns
                decided = max(decided, idle)
        self.announced = max(self.announced, decided)
        return self.announced

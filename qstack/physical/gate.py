"""When a link is open, at its station: the windows of its lab time, in cycles of the hardware.

A window is counted in cycles once, when the one before it is over, and stays as it was told. A
cycle belongs to it if all of it, and the way of its light, lie in the open time by what the
station knows of the hardware's clock: at the beginning as if the hardware were as early as it can
be, at the end as if it were as late. What is known of the clock becomes less with time, as the
oscillators drift apart: before that costs too much of a window, the clock is begun again.
"""

from __future__ import annotations

from qstack.messages.devices import Aborted, Exhausted
from qstack.physical.clock import DRIFT, LinkClock
from qstack.units import Duration, Instant, earliest
from qstack.windows import Span, Windows, window_after

_TRIES = 4
"""Windows that are tried until one of them holds a cycle."""

PART = 4
"""By this part of a window the clock may have drifted before it is begun again."""


def fresh_from(span: Span) -> Instant:
    """Return from when on a clock that begins drifts by half of that part until a window ends."""
    opens, closes = span
    return closes - (closes - opens) // PART * DRIFT // 4


class Gate:
    """The windows of one link, or none. `delay_ns`: the longest way of light to the station."""

    __slots__ = (
        *("_at", "_begun", "_delay_ns", "_patience_ns", "_reaches", "_renew_at", "_spent"),
        *("_used_up", "_windows", "cycles", "keeps", "stale"),
    )

    def __init__(self, windows: Windows | None, delay_ns: Duration, patience_ns: Duration) -> None:
        self._windows = windows
        self.keeps = windows is not None
        """Whether the link has windows at all."""
        self._delay_ns = delay_ns
        self._patience_ns = patience_ns
        self.cycles = (0, 0)
        """The cycles of the present or the next window, from the first to before the second."""
        self._begun = windows is None
        self._spent = False
        self._reaches = 0
        self._at: tuple[Instant, Instant] | None = None
        self._used_up = False
        self._renew_at: Instant | None = None
        self.stale = False
        """Whether the clock is to begin again, that the next window is known well."""

    @property
    def blind(self) -> bool:
        """Whether the clock runs, but which cycles a window has is not known well enough."""
        return self._at is not None and self.cycles == (0, 0)

    @property
    def is_open(self) -> bool:
        """Whether the link is open, and there is a cycle left to open the analyser for."""
        return self._begun and not self._spent

    def span(self, first_cycle: int, most: int) -> tuple[int, int]:
        """Return from which cycle on, and for how many, the analyser is to open.

        From `first_cycle` on at most, of the window alone, and for at most `most`.
        """
        if self._windows is None:
            return first_cycle, most
        last = self.cycles[1]
        first_cycle = min(first_cycle, last - 1)
        cycles = min(most, last - first_cycle)
        self._reaches = first_cycle + cycles
        return first_cycle, cycles

    def admits(self, begin: int, end: int) -> bool:
        """Whether an arm for these cycles (before `end`) may be paired now."""
        if self._windows is None:
            return True
        first, last = self.cycles
        return self.is_open and first <= begin < end <= last

    def fits(self, clock: LinkClock, cycle_ns: Duration) -> bool:
        """Whether every window holds a cycle, for all that is uncertain of this clock."""
        if self._windows is None or clock.uncertainty_ns is None:
            return True
        shortest = min(lasts for _, lasts in self._windows.open_ns)
        return clock.uncertainty_ns + self._delay_ns + 2 * cycle_ns <= shortest

    def forget(self) -> None:
        """The hardware's clock is gone, and with it the count of the window."""
        self.cycles, self._at, self._used_up = (0, 0), None, False
        self._renew_at, self.stale = None, False
        self._begun, self._spent = self._windows is None, False

    def ended(self, event: Exhausted | Aborted) -> None:
        """The analyser stood open and does no more; at a window's end it has told all of it."""
        through = type(event) is Exhausted and self._reaches >= self.cycles[1]
        self._used_up = self.keeps and through

    def until_ns(self, now: Instant) -> Duration:
        """Return how long it takes until the link opens; 0 where it is open, or not known."""
        return 0 if self._at is None else max(0, self._at[0] - now)

    def phase_ns(self, now: Instant) -> Duration:
        """Return how far into its period the link is."""
        return 0 if self._windows is None else now % self._windows.period_ns

    def due(self, standing: bool) -> Instant | None:
        """When to look again; `standing`: what the analyser saw in the window may still come."""
        if self._at is None:
            return None
        opens, closes = self._at
        if not self._begun:
            return earliest(opens, self._renew_at)
        return closes + self._patience_ns if standing else closes

    def look(self, clock: LinkClock, now: Instant, standing: bool) -> bool:
        """Let time pass; return whether another window counts from now on.

        `standing`: the analyser is open, and stays so to the end of the window. Where the clock
        is :attr:`stale`, none counts until it began again.
        """
        if self._windows is None or clock.uncertainty_ns is None:
            return False
        patience_ns = self._patience_ns if standing else 0
        over = self._used_up or self._at is None or self._at[1] + patience_ns <= now
        if over:
            self._next(self._windows, clock, now)
            self._begun = False
        waits = self._renew_at is not None and not self._begun
        self.stale = waits and self._renew_at is not None and self._renew_at <= now
        self._begun = self._at is not None and self._at[0] <= now
        self._spent = not standing and clock.reached(now) >= self.cycles[1]
        return over

    def _next(self, windows: Windows, clock: LinkClock, now: Instant) -> None:
        after = now if self._at is None else max(now, self._at[1])
        self._at, self.cycles, self._used_up = window_after(windows, after), (0, 0), False
        opens, closes = self._at
        self._renew_at = self._renewal(clock, self._at, now)
        for _ in range(_TRIES):
            cycles = clock.span(opens, closes - self._delay_ns)
            if cycles[1]:
                self.cycles, self._at = cycles, (opens, closes)
                return
            opens, closes = window_after(windows, closes)

    def _renewal(self, clock: LinkClock, span: Span, now: Instant) -> Instant | None:
        """When the clock is to begin again for a window, None where it is good enough."""
        opens, closes = span
        lost_ns = clock.lost_ns(closes)
        if lost_ns > (closes - opens) // PART:
            return fresh_from(span)
        none = not clock.span(opens, closes - self._delay_ns)[1]
        return now if none and 2 * (closes - now) // DRIFT < lost_ns // 2 else None

"""When to attempt where no herald line stops the hardware, so that both ends fire together.

Without a herald line every attempt is one cycle, named beforehand. Both ends name multiples of
a *spacing*, a power of two of cycles not below the own turnaround (attempt, result known, next
command at the device). So the grids nest: every cycle of the coarser one is one of the finer,
an end that can arm for each of its own cycles meets the other at all of the coarser grid's, and
nothing but the link's common cycle count needs to be agreed.

What is known of that count is when its cycle 0 began, by this node's clock. Every observation
is late, never early, but for the station's, whose count is ahead by its command's way; so the
earliest counts, leaking a little for clocks that drift apart.
"""

from __future__ import annotations

from qstack.units import SECOND, Duration, Instant

FIRST_LEAD = 2
"""So many cycles ahead of the estimate the first commands aim."""

FIRST_SPACING = 8
"""The spacing to begin with, beyond four times the way to the station."""

OVERRUN = 3
"""A turnaround above the spacing counts as much as so many below."""

WIDEN_AT = 9
"""At this score the spacing grows: three overruns in a row, or more than a quarter of all."""

LOOK_BACK = 16
"""So many turnarounds in time must have fitted into half the spacing before it shrinks."""

RELAX_AFTER = 64
"""After so many commands in time the lead shrinks by an eighth."""

LONELY_STEP = 2
LONELY_MOST = 4
"""After every `LONELY_STEP` attempts alone the next ones are twice as far apart, up to 2 ** this.

The coarser grid is one of the finer's, so nothing is lost but a little time to the meeting.
"""

PREMATURE_IN_A_ROW = 3
"""More attempts in a row that ended before their cycle by the estimate are the device's fault."""

LATE_IN_A_ROW = 16
"""So many late commands in a row, and the estimate is worth nothing."""

LEAK_SHIFT = 13
"""The estimate leaks by 2 ** -13 of the time that passed: clocks drift apart by less."""

STALE_NS: Duration = SECOND
"""Emissions tell the time better than the station does, for this long."""


def power_above(cycles: int) -> int:
    """Return the least power of two that is not below `cycles`."""
    return 1 << max(0, cycles - 1).bit_length()


class Grid:
    """The cycles of one end's attempts. All cycles are of one life of the link's clock."""

    __slots__ = (
        *("_at", "_began", "_by_emission", "_cycle_ns", "_fitting", "_in_time", "_judged", "_late"),
        *("_lates", "_least_over", "_lonely", "_longest_lead", "_premature", "_score", "_widest"),
        *("_widest_spacing", "lead", "spacing"),
    )

    def __init__(self, cycle_ns: Duration, delay_ns: Duration, confirm_ns: Duration) -> None:
        self._cycle_ns = cycle_ns
        self._widest_spacing = power_above(4 * confirm_ns // cycle_ns + 1)
        self._longest_lead = confirm_ns // cycle_ns + FIRST_LEAD
        first = power_above(4 * delay_ns // cycle_ns + FIRST_SPACING)
        self.spacing = min(first, self._widest_spacing)
        self.lead = FIRST_LEAD
        self._began: Instant | None = None
        self._at: Instant = 0
        self._by_emission = False
        self._judged = self._late = -1
        self._score = self._least_over = 0
        self._fitting = self._widest = 0
        self._in_time = self._lates = self._lonely = self._premature = 0

    @property
    def known(self) -> bool:
        """Whether the link's cycle is known here."""
        return self._began is not None

    def forget(self) -> None:
        """The link's clock has begun another life, or the estimate has proved worthless."""
        self._began = None
        self._by_emission = False
        self._judged = self._late = -1
        self._lates = self._lonely = 0

    def cycle(self, now: Instant) -> int:
        """Return the link's present cycle by the estimate; 0 where there is none."""
        return 0 if self._began is None else (now - self._began) // self._cycle_ns

    def told(self, cycle: int, now: Instant) -> None:
        """The station has sent its `cycle`, which arrived now."""
        if self._by_emission and now - self._at < STALE_NS:
            return
        began = now - cycle * self._cycle_ns
        if self._by_emission or self._began is None:
            self._by_emission = False
            self._began, self._at = began, now
        else:
            self._sample(began, now)

    def emitted(self, cycle: int, emitted_at: Instant, now: Instant) -> None:
        """This end's device has emitted in `cycle` at an instant that it stamped."""
        began = emitted_at - cycle * self._cycle_ns
        if self._by_emission:
            self._sample(began, now)
        else:
            self._by_emission = True
            self._began, self._at = began, now
        self._lonely = 0
        self._on_time()

    def ended(self, cycle: int, now: Instant) -> bool:
        """The attempt of `cycle` ended without an emission: nobody else fired.

        The estimate may have been behind, once; False, and nothing learnt, where that happens
        again and again: a device that does not wait must not be fed with ever later cycles.
        """
        self._premature = self._premature + 1 if cycle - self.cycle(now) >= self.lead else 0
        if self._premature > PREMATURE_IN_A_ROW:
            return False
        self._not_before(cycle + 1, now)
        self._on_time()
        if cycle > self._judged and self._began is not None:
            self._lonely += 1
            self._took(cycle, now)
        return True

    def resolved(self, cycle: int, now: Instant) -> None:
        """The attempt of `cycle` is known to be void: learn the turnaround, once a cycle."""
        if cycle <= self._judged or self._began is None:
            return
        took = self._took(cycle, now)
        if took > self.spacing:
            return
        # Only such an attempt, whose fate the station has to tell, may narrow the spacing.
        self._score = max(0, self._score - 1)
        self._widest = max(self._widest, took)
        self._fitting += 1
        if self._fitting >= LOOK_BACK:
            self._space(min(self.spacing, power_above(self._widest)))

    def late(self, cycle: int, now: Instant) -> None:
        """The command for `cycle` came too late: aim further ahead from now on.

        After too many of these in a row nothing is known any more, until the station's word.
        """
        if cycle <= self._late:
            return
        self._late = cycle
        self._not_before(cycle, now)
        self.lead = min(2 * self.lead, self._longest_lead)
        self._in_time = 0
        self._lates += 1
        if self._lates >= LATE_IN_A_ROW:
            self.forget()

    def aim(self, first_cycle: int, now: Instant) -> int | None:
        """Return the next cycle to attempt in, not before `first_cycle`; None for unknown."""
        if self._began is None:
            return None
        earliest = max(self.cycle(now) + self.lead + 1, first_cycle, self._late + 1)
        spacing = self.spacing << min(self._lonely // LONELY_STEP, LONELY_MOST)
        return -(-earliest // spacing) * spacing

    def _took(self, cycle: int, now: Instant) -> int:
        """Return how many cycles after `cycle` the next command could be for, and judge it."""
        self._judged = cycle
        took = self.cycle(now) + self.lead + 1 - cycle
        if took <= self.spacing:
            return took
        self._least_over = min(took, self._least_over) if self._score else took
        self._score += OVERRUN
        if self._score >= WIDEN_AT:
            self._space(power_above(self._least_over))
        return took

    def _sample(self, began: Instant, now: Instant) -> None:
        if self._began is not None:
            leaked = self._began + ((now - self._at) >> LEAK_SHIFT)
            self._began, self._at = min(leaked, began), now

    def _not_before(self, cycle: int, now: Instant) -> None:
        """The link's cycle is `cycle` at least."""
        if self._began is not None:
            self._began = min(self._began, now - cycle * self._cycle_ns)

    def _on_time(self) -> None:
        self._lates = 0
        self._in_time += 1
        if self._in_time >= RELAX_AFTER:
            self._in_time = 0
            self.lead = max(FIRST_LEAD, self.lead - 1 - self.lead // 8)

    def _space(self, spacing: int) -> None:
        self.spacing = min(spacing, self._widest_spacing)
        self._score = self._fitting = self._widest = 0

"""When a link works: windows that come again every period. Pure functions.

All times count from the instant at which a period begins, which is the station's alone to say:
other parties know it by *phases*, how far into a period the station was. A window that ends with
the period and one that begins with it are one window.
"""

from __future__ import annotations

from typing import TypeAlias

from qstack.machine import record
from qstack.units import Duration

MOST_WINDOWS = 16
"""So many windows a period has at most, that what is said of them fits into an update."""

LONGEST_NS: Duration = 1 << 60
"""No period is longer."""

Span: TypeAlias = tuple[Duration, Duration]
"""From (first) to before (second)."""


@record
class Windows:
    """A link works in `open_ns` of each period: (begins, lasts), in order, none touching the next.

    All in ns of lab time. See :func:`nonsense` for what makes no sense.
    """

    period_ns: Duration
    open_ns: tuple[tuple[Duration, Duration], ...]

    @property
    def whole_ns(self) -> Duration:
        """How long the link is open in a period."""
        return sum(lasts for _, lasts in self.open_ns)


def nonsense(windows: Windows) -> str | None:
    """Return why windows make no sense, None where they do."""
    period = windows.period_ns
    if not 0 < period <= LONGEST_NS:
        return f"a period of {period} ns"
    if not 0 < len(windows.open_ns) <= MOST_WINDOWS:
        return f"{len(windows.open_ns)} windows in a period; 1 to {MOST_WINDOWS} are possible"
    last = -1
    for begins, lasts in windows.open_ns:
        if begins < 0 or lasts <= 0:
            return f"a window begins at {begins} ns and lasts {lasts} ns"
        if begins + lasts > period:
            return f"the window at {begins} ns ends beyond the period of {period} ns"
        if begins <= last:
            return f"the window at {begins} ns overlaps or touches the one before, or is before it"
        last = begins + lasts
    if windows.whole_ns == period:
        return "the link is open all the time: then it has no windows"
    return None


def window_after(windows: Windows, since: Duration) -> Span:
    """Return the window that holds `since`, or else the next one; `since` counts from a period."""
    period, spans = windows.period_ns, windows.open_ns
    start = since - since % period
    here = since - start
    found = [(begins, begins + lasts) for begins, lasts in spans if here < begins + lasts]
    begins, ends = found[0] if found else (spans[0][0] + period, sum(spans[0]) + period)
    last = sum(spans[-1])
    if spans[0][0] == 0 and last == period:
        if ends in (period, 2 * period):
            ends += spans[0][1]
        if begins in (0, period):
            begins -= spans[-1][1]
    return start + begins, start + ends


def closed_ns(windows: Windows, since: Duration) -> Duration:
    """Return how long it takes from `since` until the link is open; 0 where it is."""
    return max(0, window_after(windows, since)[0] - since)


def open_ns_within(windows: Windows, since: Duration, lasts: Duration) -> Duration:
    """Return how long the link is open from `since` on in a time of this length."""
    return _opened(windows, since + lasts) - _opened(windows, since)


def _opened(windows: Windows, until: Duration) -> Duration:
    """How long it was open from the beginning of a period to `until`; negative before that."""
    periods, rest = divmod(until, windows.period_ns)
    parts = (min(max(0, rest - begins), lasts) for begins, lasts in windows.open_ns)
    return periods * windows.whole_ns + sum(parts)


def shifted(windows: Windows, phase_ns: Duration) -> tuple[tuple[Duration, Duration], ...]:
    """Return the windows of a period that begins `phase_ns` later: (begins, lasts), in order.

    One that is open then is cut in two, at the beginning and at the end.
    """
    period, found = windows.period_ns, []
    for begins, lasts in windows.open_ns:
        first = (begins - phase_ns) % period
        found.append((first, min(lasts, period - first)))
        if first + lasts > period:
            found.append((0, first + lasts - period))
    joined: list[tuple[Duration, Duration]] = []
    for begins, lasts in sorted(found):
        if joined and sum(joined[-1]) == begins:
            joined[-1] = (joined[-1][0], joined[-1][1] + lasts)
        else:
            joined.append((begins, lasts))
    return tuple(joined)


def gaps(windows: Windows) -> list[Duration]:
    """Return how long the link is closed after each of its windows; 0 where the next one is one
    with it.
    """
    spans = windows.open_ns
    begins = [first for first, _ in spans[1:]] + [spans[0][0] + windows.period_ns]
    return [after - sum(span) for span, after in zip(spans, begins, strict=True)]


def in_words(duration_ns: Duration) -> str:
    """Return a duration for people: in s, ms or us, with three digits."""
    for name, unit in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if duration_ns >= unit:
            return f"{duration_ns / unit:.3g} {name}"
    return f"{duration_ns} ns"

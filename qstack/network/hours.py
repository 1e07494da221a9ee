"""When links are open, as routes take it: pauses that they ride out, and nights that they avoid.

A link that is closed for no longer than :data:`PAUSE_NS` at a time *pauses*: for routes it is up,
and gives the open part of its rate. What is longer is a *night*: the link is not up then, and what
runs on it waits, as on a link that is missed. Nodes say so when a night begins and when it ends,
and with every update when the windows of a period are; so nothing is said of pauses. Of two updates
the later one says nothing new where its windows are those of the former, counted on.

A route has its links open together for a part of the time alone, which is what it gives of its rate
(:func:`together`): work that one link does while another pauses is not counted on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import attrs

from qstack.messages.network import LinkMetric, RouteUpdate
from qstack.physical.service import LinkParameters
from qstack.units import SECOND, Duration, Instant, LinkName, NodeName, earliest
from qstack.windows import (
    LONGEST_NS,
    MOST_WINDOWS,
    Windows,
    closed_ns,
    gaps,
    in_words,
    shifted,
    window_after,
)

PAUSE_NS: Duration = SECOND
"""Closed for so long at a time, or less, a link pauses; for longer it is night."""

SHIFT_NS: Duration = PAUSE_NS // 10
"""Windows that are said to come so much earlier or later than before are no news: how old an
update is leaves its ways out, and nothing that is kept of a route rests on less."""

_MOST_EDGES = 4_096
"""Windows of several periods are compared edge by edge up to so many."""


class Phase(NamedTuple):
    """Windows of a link, and how far into their period it is now."""

    windows: Windows
    now_ns: Duration


def days(windows: Windows) -> Windows | None:
    """Return the windows with their pauses filled; None where there is no night."""
    if max(gaps(windows)) <= PAUSE_NS:
        return None
    filled = _filled(windows, nights=False)
    return Windows(windows.period_ns, shifted(filled, 0))


def _filled(windows: Windows, *, nights: bool) -> Windows:
    """The windows with their nights, or else their pauses, added to the window before each."""
    spans = zip(windows.open_ns, gaps(windows), strict=True)
    found = [
        (at, lasts + gap if (gap > PAUSE_NS) is nights else lasts) for (at, lasts), gap in spans
    ]
    return Windows(windows.period_ns, tuple(found))


def share(windows: Windows) -> float:
    """Return the part of the time between two nights in which the link is open."""
    between = days(windows)
    return windows.whole_ns / (windows.period_ns if between is None else between.whole_ns)


def night_ns(phase: Phase) -> Duration:
    """Return for how long it is night yet; 0 where it is not."""
    between = days(phase.windows)
    return 0 if between is None else closed_ns(between, phase.now_ns)


def day_ns(phase: Phase) -> Duration | None:
    """Return for how long it is day yet, 0 at night; None where there is no night."""
    between = days(phase.windows)
    if between is None:
        return None
    begins, ends = window_after(between, phase.now_ns)
    return ends - phase.now_ns if begins <= phase.now_ns else 0


def together(phases: Iterable[Phase]) -> float:
    """Return the part of the time, nights left out, in which all of these links are open.

    Exact where the periods have a common multiple that is not too long; otherwise as if they had
    nothing to do with each other, which holds over a long time.
    """
    every = list(phases)
    alone = math.prod(share(phase.windows) for phase in every)
    if len(every) < 2:
        return alone
    patterns = [Phase(_filled(p.windows, nights=True), p.now_ns) for p in every]
    common = math.lcm(*(pattern.windows.period_ns for pattern in patterns))
    edges = sum(common // p.windows.period_ns * len(p.windows.open_ns) for p in patterns)
    if edges > _MOST_EDGES:
        return alone
    open_together = _overlap(patterns, common) / common
    parts = (p.windows.whole_ns / p.windows.period_ns for p in patterns)
    return min(1.0, alone / math.prod(parts) * open_together)


def _overlap(patterns: list[Phase], common: Duration) -> Duration:
    """For how long of `common` all are open, from now on."""
    changes: list[tuple[Duration, int]] = []
    for pattern in patterns:
        period = pattern.windows.period_ns
        for number in range(-1, common // period + 1):
            for begins, lasts in pattern.windows.open_ns:
                first = begins + number * period - pattern.now_ns % period
                changes.append((min(max(0, first), common), 1))
                changes.append((min(max(0, first + lasts), common), -1))
    found, since, count = 0, 0, 0
    for at, change in sorted(changes):
        if count == len(patterns):
            found += at - since
        count, since = count + change, at
    return found


def phase_of(metric: LinkMetric, age_ns: Duration) -> Phase | None:
    """Return the windows of a link as an update of this age says; None for always open."""
    if not metric.windows or not metric.repeats_ns:
        return None
    return Phase(Windows(metric.repeats_ns, metric.windows), age_ns)


def same_links(
    before: tuple[LinkMetric, ...], after: tuple[LinkMetric, ...], later_ns: Duration
) -> bool:
    """Return whether nothing else is said of links than what was said `later_ns` before.

    Windows are the same where they have moved on by that time, but for :data:`SHIFT_NS`.
    """
    if len(before) != len(after):
        return False
    return all(
        _moved_on(one, other, later_ns)
        if one.repeats_ns and other.repeats_ns
        else one is other or one == other
        for one, other in zip(before, after, strict=True)
    )


def _moved_on(before: LinkMetric, after: LinkMetric, later_ns: Duration) -> bool:
    """Whether of a link with windows is said what was said before, but for the time that passed."""
    # The type checker does not see that our records are attrs classes.
    if attrs.evolve(cast(Any, after), windows=before.windows) != before:
        return False
    period = before.repeats_ns
    was = _around(Windows(period, shifted(Windows(period, before.windows), later_ns % period)))
    are = _around(Windows(period, after.windows))
    for place, (begins, _) in enumerate(are):
        by = (begins - was[0][0] + period // 2) % period - period // 2
        if abs(by) <= SHIFT_NS and are[place:] + are[:place] == [
            ((at + by) % period, lasts) for at, lasts in was
        ]:
            return True
    return False


def _around(windows: Windows) -> list[tuple[Duration, Duration]]:
    """The windows in order, those that touch as one, also around the end of the period."""
    spans = list(shifted(windows, 0))
    if len(spans) > 1 and spans[0][0] == 0 and sum(spans[-1]) == windows.period_ns:
        spans[-1] = (spans[-1][0], spans[-1][1] + spans.pop(0)[1])
    return spans


def closed_for(metric: LinkMetric, age_ns: Duration) -> Duration:
    """Return how long a link is closed yet, as an update of this age says; 0 where it is open."""
    phase = phase_of(metric, age_ns)
    return 0 if phase is None else closed_ns(*phase)


def phases_in(
    database: Mapping[NodeName, RouteUpdate], ages: Mapping[NodeName, Duration]
) -> dict[LinkName, Phase]:
    """Return the windows of all links that have some, as the first of their ends says.

    Nobody else's word counts: a link is between two nodes that name each other. Nor does it where
    the other end says none: that one misses somebody, whatever time it is.
    """
    found: dict[LinkName, Phase] = {}
    for name in sorted(database):
        for metric in database[name].links:
            phase = phase_of(metric, ages[name])
            if phase is not None and _meets(database, metric, name):
                found.setdefault(metric.link, phase)
    return found


def _meets(database: Mapping[NodeName, RouteUpdate], metric: LinkMetric, name: NodeName) -> bool:
    """Whether the other end says that this link leads to this node, and has windows."""
    other = database.get(metric.peer)
    links = () if other is None else other.links
    return any(m.link == metric.link and m.peer == name and m.repeats_ns for m in links)


def in_the_way(phases: Mapping[LinkName, Phase], within_ns: Duration) -> list[str]:
    """Return in words which links are closed for the night, or will be within a time."""
    words = []
    for link in sorted(phases):
        night, day = night_ns(phases[link]), day_ns(phases[link])
        if night:
            words.append(f"{link} is closed for {in_words(night)}")
        elif day is not None and day <= within_ns:
            words.append(f"{link} closes in {in_words(day)}")
    return words


class Hours:
    """The windows of a node's own links, as far as their stations have said where they are.

    What is worked out of them stays until a station says something else, or a night begins or
    ends: no step between looks at a window.
    """

    __slots__ = ("_days", "_stale", "_turns", "_windows", "due", "periods")

    def __init__(self, links: Iterable[LinkParameters]) -> None:
        self._windows = {link.name: link.windows for link in links if link.windows is not None}
        self._days = {link: days(windows) for link, windows in self._windows.items()}
        self._turns = 0
        self._stale = False
        self.periods: dict[LinkName, Instant] = {}
        """When a period of a link's windows began."""
        self.due: Instant | None = None
        """When a night begins or ends."""

    def see(self, link: LinkName, began: Instant) -> None:
        """A period of a link's windows began then, by its station's word."""
        self.periods[link] = began
        self._stale = True

    def turns(self, now: Instant) -> int:
        """Return how often something turned: a station spoke, or a night began or ended.

        Until it is another number all that was asked here holds, but for the time that passes.
        """
        if self._stale or (self.due is not None and self.due <= now):
            self._stale = False
            self._turns += 1
            self.due = earliest(*(self._turn(link, now) for link in self.periods))
        return self._turns

    def _turn(self, link: LinkName, now: Instant) -> Instant | None:
        """When the night of a link begins or ends, None where it has none."""
        between, began = self._days.get(link), self.periods[link]
        if between is None:
            return None
        begins, ends = window_after(between, now - began)
        return began + (ends if begins <= now - began else begins)

    def phase_ns(self, link: LinkName, now: Instant) -> Duration:
        """Return how far a link is into a period, 0 where that is not known."""
        began = self.periods.get(link)
        return 0 if began is None or link not in self._windows else now - began

    def night_ns(self, link: LinkName, now: Instant) -> Duration:
        """Return for how long it is night on a link yet; 0 where it is not, or not known."""
        between, began = self._days.get(link), self.periods.get(link)
        return 0 if between is None or began is None else closed_ns(between, now - began)


def said_windows(
    windows: Windows | None, phase_ns: Duration
) -> tuple[tuple[tuple[Duration, Duration], ...], Duration]:
    """Return what an update says of windows: those of a period from now on, and its length."""
    if windows is None:
        return (), 0
    return shifted(windows, phase_ns % windows.period_ns), windows.period_ns


def moved_on(links: tuple[LinkMetric, ...], by_ns: Duration) -> tuple[LinkMetric, ...]:
    """Return what is said of links for an update that is made so much later."""
    if by_ns == 0 or not any(metric.windows for metric in links):
        return links
    found = []
    for metric in links:
        phase = phase_of(metric, by_ns)
        windows = metric.windows if phase is None else said_windows(*phase)[0]
        # The type checker does not see that our records are attrs classes.
        moved: LinkMetric = attrs.evolve(cast(Any, metric), windows=windows)
        found.append(moved)
    return tuple(found)


def wrong_windows(metric: LinkMetric) -> str | None:
    """Return why what is said of a link's windows makes no sense, None where it does."""
    windows, period = metric.windows, metric.repeats_ns
    if len(windows) > MOST_WINDOWS + 1:
        return f"{len(windows)} of them"
    last = 0
    for begins, lasts in windows:
        if begins < last or lasts <= 0:
            return f"({begins}, {lasts}) after {last}"
        last = begins + lasts
    if period == 0 and last <= LONGEST_NS:
        return None
    if not windows or not last <= period <= LONGEST_NS:
        return f"{last} ns of a period of {period} ns"
    if sum(lasts for _, lasts in windows) == period:
        return "they leave nothing closed"
    return None

"""Software coincidence logic: which detection at one place belongs to which at another.

Times are integers in picoseconds, each list in order of time; a delay is always the time of
`b` minus the time of `a`. :func:`scan_delay` finds the delay of two streams that nobody
measured, :class:`Coincidences` matches them as they come in, each event used once, and
:func:`accidentals` says how many matches chance alone would give. :class:`Correlator` puts the
three together for the two ends of a source in the middle.

Sources. Counting accidentals from the mean rates, N = N_a N_b w / T, is the usual estimate for
independent Poisson streams. Finding a delay from a coarse histogram and refining it is how
entanglement-based clock comparison begins (C. Ho, A. Lamas-Linares, C. Kurtsiefer, New J. Phys.
11, 045011, 2009); here the rates are low enough to histogram differences directly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.devices import Tags
from qstack.units import Picoseconds

BINS = 2_048
"""How many bins the coarsest histogram of a scan has at most."""

MAX_KEPT = 1 << 20
"""How many tags of a side a correlator keeps while it has no delay yet."""

NARROWING = 8
"""By how much the bins of a scan shrink from one histogram to the next."""


@record
class Delay:
    """What a scan found: the middle of the fullest stretch of two bins, each `bin_ps` wide.

    `count` pairs fall into that stretch, of which `expected` by chance, from the mean rates.
    `significance` is the excess in standard deviations of that chance, taken where it is
    least favourable: in the coarsest histogram, where the peak was told from the rest.
    """

    delay_ps: Picoseconds
    bin_ps: Picoseconds
    count: int
    expected: float
    significance: float


@record
class Scan:
    """How far and how finely to look: delays in [-range, range], down to `resolution_ps`."""

    range_ps: Picoseconds = 10_000_000_000
    resolution_ps: Picoseconds = 10_000


@record
class Match:
    """Two events that belong together: their times, by the clock of each side."""

    a_ps: Picoseconds
    b_ps: Picoseconds


def histogram(
    a: Sequence[Picoseconds], b: Sequence[Picoseconds], low_ps: int, bin_ps: int, bins: int
) -> list[int]:
    """Count every combination by delay: bin i holds [low + i * bin, low + (i + 1) * bin).

    Time is O(len(a) + len(b) + combinations in range), memory O(bins).
    """
    counts = [0] * bins
    span = bin_ps * bins
    first = 0
    for time in a:
        begin = time + low_ps
        while first < len(b) and b[first] < begin:
            first += 1
        place = first
        while place < len(b) and (offset := b[place] - begin) < span:
            counts[offset // bin_ps] += 1
            place += 1
    return counts


def count_pairs(
    a: Sequence[Picoseconds], b: Sequence[Picoseconds], low_ps: int, high_ps: int
) -> int:
    """Count every combination with a delay in [low, high], ends included; O(len(a) + len(b))."""
    total = begin = end = 0
    for time in a:
        while begin < len(b) and b[begin] < time + low_ps:
            begin += 1
        while end < len(b) and b[end] <= time + high_ps:
            end += 1
        total += max(0, end - begin)
    return total


def accidentals(count_a: int, count_b: int, span_ps: int, window_ps: int) -> float:
    """Return the expected number of chance coincidences of two independent streams.

    `span_ps` is the time during which both were watched; 0 gives 0.
    """
    return count_a * count_b * window_ps / span_ps if span_ps > 0 else 0.0


def scan_delay(
    a: Sequence[Picoseconds],
    b: Sequence[Picoseconds],
    scan: Scan = Scan(),  # noqa: B008 a record
) -> Delay | None:
    """Find the delay of two streams by histograms, from coarse to fine; None without a pair.

    The coarsest histogram decides, so its time, O(len(a) + len(b) + combinations in range),
    bounds the whole. A peak on the border of two bins is not split: stretches of two
    neighbouring bins are compared.
    """
    low, bins = -scan.range_ps, BINS
    width = max(scan.resolution_ps, -(-2 * scan.range_ps // BINS))
    span = _overlap(a, b)
    significance: float | None = None
    while True:
        counts = histogram(a, b, low, width, bins)
        pairs = [one + other for one, other in pairwise(counts)]
        place = max(range(len(pairs)), key=pairs.__getitem__)
        count = pairs[place]
        if count == 0:
            return None
        expected = accidentals(len(a), len(b), span, 2 * width)
        if significance is None:
            # Where chance gives less than one, one count more is not many deviations.
            significance = (count - expected) / math.sqrt(max(expected, 1.0))
        middle = low + (place + 1) * width
        if width <= scan.resolution_ps:
            return Delay(middle, width, count, expected, significance)
        narrower = max(scan.resolution_ps, width // NARROWING)
        bins = -(-3 * width // narrower)
        low, width = middle - bins * narrower // 2, narrower


def _overlap(a: Sequence[Picoseconds], b: Sequence[Picoseconds]) -> int:
    """How long both streams were watched, as far as their events show."""
    return max(0, min(a[-1], b[-1]) - max(a[0], b[0])) if a and b else 0


class Coincidences:
    """Matches two streams as they come in: in order of time, each event used once.

    An event of `a` takes the earliest unused one of `b` whose delay lies in [low, high], ends
    included; for one window this gives as many matches as can be. Matches are returned as soon
    as nothing that may still come can change them.

    Memory is bounded: an event waits until the other side has gone past it, and at most `limit`
    wait on either side, after which the oldest goes unmatched and `overrun` grows. Events that
    are earlier than one of their own side before them are dropped and counted as `disordered`.
    """

    def __init__(self, low_ps: Picoseconds, high_ps: Picoseconds, limit: int = 65_536) -> None:
        if low_ps > high_ps or limit < 1:
            raise LocalProtocolError(f"window [{low_ps}, {high_ps}] ps, limit {limit}")
        self.low_ps, self.high_ps = low_ps, high_ps
        self.matched = self.overrun = self.disordered = 0
        self.counts = [0, 0]
        self._limit = limit
        self._waiting: tuple[deque[int], deque[int]] = (deque(), deque())
        self._first: list[int | None] = [None, None]
        self._reached: list[int | None] = [None, None]

    @property
    def waiting(self) -> tuple[int, int]:
        """How many events of each side wait for the other."""
        return len(self._waiting[0]), len(self._waiting[1])

    @property
    def expected_accidentals(self) -> float:
        """How many matches chance alone would have given so far, from the mean rates."""
        (begin_a, begin_b), (end_a, end_b) = self._first, self._reached
        if begin_a is None or begin_b is None or end_a is None or end_b is None:
            return 0.0
        span = min(end_a, end_b) - max(begin_a, begin_b)
        return accidentals(self.counts[0], self.counts[1], span, self.high_ps - self.low_ps)

    def take(self, side: int, times: Sequence[Picoseconds]) -> list[Match]:
        """Take further events of a side (0: `a`, 1: `b`) and return the matches now certain."""
        waiting = self._waiting[side]
        reached = self._reached[side]
        found: list[Match] = []
        for time in times:
            if reached is not None and time < reached:
                self.disordered += 1
                continue
            if self._first[side] is None:
                self._first[side] = time
            reached = self._reached[side] = time
            self.counts[side] += 1
            if len(waiting) >= self._limit:
                found += self._decide()
            if len(waiting) >= self._limit:
                waiting.popleft()
                self.overrun += 1
            waiting.append(time)
        return found + self._decide()

    def reached(self, side: int, until: Picoseconds) -> list[Match]:
        """A side says that all its events earlier than `until` were handed over."""
        last = self._reached[side]
        if last is None or until > last:
            self._reached[side] = until
        return self._decide()

    def _decide(self) -> list[Match]:
        a, b = self._waiting
        found: list[Match] = []
        while a and b:
            delay = b[0] - a[0]
            if delay < self.low_ps:
                b.popleft()
            elif delay > self.high_ps:
                a.popleft()
            else:
                found.append(Match(a.popleft(), b.popleft()))
        # What the other side can no longer reach need not wait.
        reached_a, reached_b = self._reached
        while a and reached_b is not None and reached_b > a[0] + self.high_ps:
            a.popleft()
        while b and reached_a is not None and reached_a > b[0] - self.low_ps:
            b.popleft()
        self.matched += len(found)
        return found


class Correlator:
    """The software end of a source in the middle: two tag streams in, coincidences out.

    Nobody tells it the delay: it keeps the tags of both sides until each has `learn` of them,
    scans, and then matches all that it kept and all that comes, within `window_ps` around the
    delay: (low, high), relative to it. A scan that finds nothing above `trusted` standard
    deviations is tried again at twice as many tags, at most `attempts` times; then, or when one
    side has sent a million tags and the other hardly any, it has `failed` and takes no more.
    """

    def __init__(
        self,
        learn: int,
        window_ps: tuple[Picoseconds, Picoseconds],
        scan: Scan = Scan(),  # noqa: B008 a record
        *,
        trusted: float = 8.0,
        attempts: int = 8,
    ) -> None:
        self.delay: Delay | None = None
        self.failed = False
        self.coincidences: Coincidences | None = None
        self._learn, self._window, self._scan = learn, window_ps, scan
        self._trusted, self._attempts = trusted, attempts
        self._kept: tuple[list[int], list[int]] = ([], [])

    def take(self, side: int, report: Any) -> list[Match]:
        """Take what the detector of a side reported: Tags count, anything else does not."""
        if type(report) is not Tags or self.failed:
            return []
        times = [time for _, time in report.tags]
        if self.coincidences is not None:
            return self.coincidences.take(side, times)
        self._kept[side].extend(times)
        if len(self._kept[side]) > MAX_KEPT:
            self.failed = True
            return []
        return self._try_scan() if min(map(len, self._kept)) >= self._learn else []

    def _try_scan(self) -> list[Match]:
        # The stream that ran ahead would only add to the work.
        end = min(self._kept[0][-1], self._kept[1][-1])
        seen = [[time for time in kept if time <= end] for kept in self._kept]
        found = scan_delay(seen[0], seen[1], self._scan)
        if found is None or found.significance < self._trusted:
            self._attempts -= 1
            self._learn *= 2
            self.failed = self._attempts <= 0
            return []
        self.delay = found
        low, high = (found.delay_ps + edge for edge in self._window)
        matcher = self.coincidences = Coincidences(low, high)
        kept, self._kept = self._kept, ([], [])
        out: list[Match] = []
        # In turns, by time, so that neither side overruns while the other is yet to come.
        ahead = [deque(each) for each in kept]
        while ahead[0] or ahead[1]:
            side = 0 if not ahead[1] or (ahead[0] and ahead[0][0] <= ahead[1][0]) else 1
            out += matcher.take(side, (ahead[side].popleft(),))
        return out

"""Which bin of a timetable a cycle is in, and whom it is for: pure functions.

Everything is half-open: a bin holds its first cycle, and not the first of the next one. At a
boundary the next bin has begun.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

from qstack.link.scheduler import Item
from qstack.machine import record
from qstack.messages.schedule import Timetable
from qstack.units import NodeName

Owner: TypeAlias = tuple[NodeName, int]
"""The link requests that a node makes under a purpose: (origin, purpose)."""

MOST_RUNS = 4_096
MOST_CYCLES = 1 << 61


@record
class Bin:
    """The cycles from `begin` to before `end` (0: no end), and for whom they are.

    `owner` is (origin, purpose). Where there is none, `free` tells whether all or nobody may work.
    """

    begin: int
    end: int
    owner: Owner | None
    free: bool

    def admits(self, items: Iterable[Item]) -> list[Item]:
        """Return the items that may be served in this bin."""
        if self.free:
            return list(items)
        return [i for i in items if (i.request.id.origin, i.request.purpose) == self.owner]


ALWAYS = Bin(0, 0, None, True)
"""As if there were no timetable."""

NEVER = Bin(0, 0, None, False)
"""Nothing may be served: there is a timetable, and the cycle is not known."""


def nonsense(table: Timetable) -> str | None:
    """Return why a timetable means nothing, None where it does."""
    numbers = (table.bin_cycles, table.frame_bins, table.frames)
    if min(numbers) < 1 or table.first_cycle < 0 or table.epoch < 0:
        return "its bins, frames or first cycle cannot be"
    if _end(table) > MOST_CYCLES or len(table.runs) > MOST_RUNS:
        return "it is too long"
    last = 0
    for run in table.runs:
        if not last <= run.begin < run.end <= table.frame_bins:
            return f"bins {run.begin} to {run.end} overlap others, or their frame"
        last = run.end
    return None


def bin_at(table: Timetable, cycle: int) -> Bin:
    """Return the bin, or the run of bins of one owner or of none, that a cycle is in."""
    first, after = table.first_cycle, _end(table)
    if cycle < first:
        return Bin(0, first, None, True)
    if cycle >= after:
        return Bin(after, 0, None, True)
    length = table.bin_cycles
    number = (cycle - first) // length
    frame = number - number % table.frame_bins
    here = number - frame
    index = bisect_right([run.begin for run in table.runs], here)
    before = table.runs[index - 1] if index else None
    following = table.runs[index].begin if index < len(table.runs) else table.frame_bins
    if before is not None and here < before.end:
        owner = (before.origin, before.purpose)
        spans, free = (before.begin, before.end), False
    else:
        owner, free = None, table.spare
        spans = (0 if before is None else before.end, following)
    begin, end = (first + (frame + each) * length for each in spans)
    return Bin(begin, end, owner, free)


def open_cycles(table: Timetable, owner: Owner, begin: int, end: int) -> tuple[int, int]:
    """Return how many cycles from `begin` to before `end` are the owner's, how many anybody's."""
    first, after = table.first_cycle, _end(table)
    inside = min(max(begin, first), after), max(min(end, after), first)
    own, taken = 0, 0
    if inside[0] < inside[1]:
        offsets = inside[0] - first, inside[1] - first
        every = [(run.begin, run.end) for run in table.runs]
        mine = [(run.begin, run.end) for run in table.runs if (run.origin, run.purpose) == owner]
        own, taken = (_cycles_in(table, runs, *offsets) for runs in (mine, every))
    within = max(0, inside[1] - inside[0])
    free = max(0, end - begin) - within + (within - taken if table.spare else 0)
    return own, free


def _cycles_in(table: Timetable, runs: Iterable[tuple[int, int]], begin: int, end: int) -> int:
    """Of the cycles from offset `begin` to before `end` so many are in these runs."""
    length, frame = table.bin_cycles, table.bin_cycles * table.frame_bins
    found = 0
    for first, last in runs:
        for sign, offset in ((1, end), (-1, begin)):
            frames, rest = divmod(offset, frame)
            partial = min(max(rest - first * length, 0), (last - first) * length)
            found += sign * (frames * (last - first) * length + partial)
    return found


def _end(table: Timetable) -> int:
    """The first cycle that the timetable says nothing of any more."""
    return table.first_cycle + table.bin_cycles * table.frame_bins * table.frames

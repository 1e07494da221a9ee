"""What the controller tells the masters of links: their plans, and how far its bins are."""

from __future__ import annotations

from collections.abc import Iterable

from qstack.machine import Action, Send
from qstack.messages.schedule import BinsClock, BinsPlan, CircuitRun
from qstack.units import BootId, Duration, Instant, LinkName, NodeName

CLOCK_BINS = 32
"""At most so many bins pass between two words of the clock, and few after each new plan."""


class Bins:
    """Spans of time of equal length, numbered from 0, which begins at the first :meth:`start`."""

    __slots__ = ("_origin", "bin_ns")

    def __init__(self, bin_ns: Duration) -> None:
        self.bin_ns = bin_ns
        self._origin: Instant | None = None

    def start(self, now: Instant) -> None:
        """Bin 0 begins, if none has begun before."""
        if self._origin is None:
            self._origin = now

    def at(self, now: Instant) -> int:
        """Return the number of the bin that an instant is in."""
        return 0 if self._origin is None else (now - self._origin) // self.bin_ns

    def begin(self, number: int) -> Instant:
        """Return when a bin begins."""
        return (self._origin or 0) + number * self.bin_ns


class Masters:
    """Who can be reached, and what each was told. All times are those of the calls."""

    __slots__ = ("_bins", "_boot", "_gap", "_there", "_told", "clock_at")

    def __init__(self, node: NodeName, boot: BootId, bins: Bins) -> None:
        self._boot = boot
        self._bins = bins
        self._there: set[NodeName] = {node}
        self._told: dict[LinkName, tuple[CircuitRun, ...]] = {}
        self.clock_at: Instant | None = None
        """When the clock is to be told next."""
        self._gap = 1

    def up(self, node: NodeName) -> None:
        """A node can be reached."""
        self._there.add(node)

    def gone(self, node: NodeName) -> None:
        """It cannot."""
        self._there.discard(node)

    def forget(self, link: LinkName) -> None:
        """Nobody knows what was said of a link, or nobody needs to."""
        self._told.pop(link, None)

    def tell(
        self, link: LinkName, master: NodeName, runs: tuple[CircuitRun, ...], now: Instant
    ) -> list[Action]:
        """Return the plan of a link for its master, if it can be reached and this is news."""
        here = self._bins.at(now)
        told = tuple(run for run in self._told.get(link, ()) if run.end > here)
        if runs == told or master not in self._there:
            return []
        self._told[link] = runs
        self._gap = 1
        self.clock_at = self._bins.begin(here + 1)
        into_ns = now - self._bins.begin(here)
        return [Send(master, BinsPlan(link, self._boot, self._bins.bin_ns, here, into_ns, runs))]

    def say_clock(self, masters: Iterable[NodeName], now: Instant) -> list[Action]:
        """Return the word of the clock for these; the next follows later than the one before.

        None follows where there are no masters to be told.
        """
        here, wanted = self._bins.at(now), set(masters)
        self.clock_at = None
        if wanted:
            self._gap = min(2 * self._gap, CLOCK_BINS)
            self.clock_at = self._bins.begin(here + self._gap)
        word = BinsClock(self._boot, here, now - self._bins.begin(here))
        return [Send(master, word) for master in sorted(wanted & self._there)]

"""The clocks of nodes: how a host's own time follows from the true one, in integers.

The world and the heap know true lab time. A host is stepped with the time of its own clock,
and its deadline, which it says by its own clock, is turned back into the first true instant at
which that clock shows it, so that nothing ever fires early. Why a node has two clocks, that of its
computer and that of its timing hardware: docs/decisions, "The clocks of a node".
"""

from __future__ import annotations

from qstack.errors import ConfigError
from qstack.machine import record
from qstack.units import Instant, Picoseconds

PER_TRILLION = 10**12
"""Drifts are in parts of 10**12: 1,000 is one nanosecond in a second (1 ppb)."""

_PS = PER_TRILLION // 1_000
"""One picosecond in the unit that clocks count in, 10**-12 ns."""


@record
class NodeClock:
    """How wrong the two clocks of a node are: an offset, and a drift in parts of 10**12.

    `offset_ps` and `drift_ppt` are those of its computer, by which its processes are stepped.
    `timing_ps` and `timing_ppt` are those of the timing hardware, which is otherwise held to the
    network's: photons of this node leave, and its detectors tag, so much too early.
    """

    offset_ps: Picoseconds = 0
    drift_ppt: int = 0
    timing_ps: Picoseconds = 0
    timing_ppt: int = 0

    def plus(self, other: NodeClock) -> NodeClock:
        """Return the clock that is wrong by both."""
        return NodeClock(
            self.offset_ps + other.offset_ps,
            self.drift_ppt + other.drift_ppt,
            self.timing_ps + other.timing_ps,
            self.timing_ppt + other.timing_ppt,
        )


RIGHT = NodeClock()


def check_clock(clock: NodeClock) -> None:
    """Raise ConfigError for a clock that would stand still or run backwards."""
    drifts = {"drift_ppt": clock.drift_ppt, "timing_ppt": clock.timing_ppt}
    wrong = [f"{name} = {value}" for name, value in drifts.items() if value <= -PER_TRILLION]
    if wrong:
        raise ConfigError([f"{problem}: a clock runs forward" for problem in wrong])


class RunningClock:
    """A clock that shows true time plus an offset, and runs at a rate of its own.

    Exact: floor of a rational number; monotone, also where the rate changes.
    """

    __slots__ = ("_base", "_rate", "_since")

    def __init__(self, clock: NodeClock, now: Instant) -> None:
        """Start at the true instant `now`."""
        self._since = now
        self._base = now * PER_TRILLION + clock.offset_ps * _PS
        self._rate = PER_TRILLION + clock.drift_ppt

    def local(self, now: Instant) -> Instant:
        """Return what the clock shows at the true instant `now`."""
        return (self._base + (now - self._since) * self._rate) // PER_TRILLION

    def when(self, shown: Instant) -> Instant:
        """Return the first true instant at which the clock shows `shown` or more."""
        missing = shown * PER_TRILLION - self._base
        return self._since - (-missing // self._rate)

    def drift(self, drift_ppt: int, now: Instant) -> None:
        """Run at another rate from the true instant `now` on, without a jump."""
        self._base += (now - self._since) * self._rate
        self._since = now
        self._rate = PER_TRILLION + drift_ppt

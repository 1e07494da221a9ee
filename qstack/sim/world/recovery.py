"""Detectors that remember: dead after a click, and clicking again by themselves.

A detector that clicked is blind for its dead time, which a photon that it then misses does not
prolong. With its afterpulse probability a click leaves a charge in a trap, which is released
after an exponential time and makes the detector click, if it is not blind, as any click does.
Between the windows dark counts go on. All this is followed event by event, in picoseconds.

What is simplified: light outside of a window makes no click, also where timing hardware that is
wrong brings it there; inside it makes a detector click at most once (the first instant decides);
each mode of a cycle is seen by detectors of its own, and what another link of the same analyser
left in them is forgotten while it is switched.
"""

from __future__ import annotations

import heapq
from math import exp
from typing import TypeAlias

from qstack.sim.devices import DetectorParameters, NumberResolvingParameters
from qstack.sim.heralding import BARRETT_KOK
from qstack.units import Chance, Duration, Picoseconds

NEGLIGIBLE = 1e-9
"""A chance of an afterpulse in a later window, per click, below which windows are independent."""

_LIFETIMES = 50
"""Mean times after which nothing is left in a trap: exp(-50)."""

NEVER: Picoseconds = 1 << 200

Round: TypeAlias = tuple[Picoseconds, tuple[tuple[int, "Detector"], ...]]
"""A window after the beginning of the first, and the detectors that look, by their bit."""


def gap_ps(measurement: str, cycle_ns: Duration, window_ps: Picoseconds) -> Picoseconds:
    """Return the time from the end of a detector's window to the beginning of its next.

    Both rounds of Barrett and Kok are in one cycle, half of it apart.
    """
    period = cycle_ns * 1000 // (2 if measurement == BARRETT_KOK else 1)
    return max(0, period - window_ps)


def memory_of(detector: DetectorParameters, gap: Picoseconds) -> str:
    """Say what a detector carries over this gap into its next window; empty for nothing."""
    if detector.dead_ns * 1000 > gap:
        return f"a dead time of {detector.dead_ns} ns is longer than the {gap / 1000:g} ns"
    if detector.afterpulse and detector.afterpulse_ns:
        late = detector.afterpulse * exp(-gap / (detector.afterpulse_ns * 1000))
        if late > NEGLIGIBLE:
            return f"{late:.2g} afterpulses a click come later than the {gap / 1000:g} ns"
    return ""


class Detector:
    """One detector. Instants are in picoseconds and never go back."""

    __slots__ = ("_chance", "_dead", "_free_at", "_idle_from", "_parameters", "_reach", "_traps")

    def __init__(self, parameters: DetectorParameters, chance: Chance) -> None:
        self._parameters = parameters
        self._chance = chance
        self._dead: Picoseconds = parameters.dead_ns * 1000
        self._reach = self._dead + _LIFETIMES * parameters.afterpulse_ns * 1000
        self._free_at: Picoseconds = 0
        self._idle_from: Picoseconds | None = None
        self._traps: list[Picoseconds] = []

    def look(
        self, begin: Picoseconds, window: Picoseconds, light: Picoseconds | None
    ) -> tuple[Picoseconds, int, bool]:
        """Look for a window; `light`: when in it light, or a dark count, would make a click.

        Returns the first click in the window, how many there are, and whether light made one.
        """
        self._idle(begin)
        wanted = NEVER if light is None else begin + light
        first, count, lit = 0, 0, False
        while True:
            release = self._traps[0] if self._traps else NEVER
            at = min(release, wanted)
            if at > begin + window:
                break
            if release < wanted:
                heapq.heappop(self._traps)
            else:
                wanted = NEVER
            if self._click(at):
                lit = lit or release > at
                first = first if count else at - begin
                count += 1
        self._idle_from = begin + window
        return first, count, lit

    def _idle(self, until: Picoseconds) -> None:
        """Go on to `until`, where nobody looks."""
        dark = self._dark_from(until)
        while True:
            release = self._traps[0] if self._traps else NEVER
            at = min(release, dark)
            if at >= until:
                return
            if release < dark:
                heapq.heappop(self._traps)
            else:
                dark += self._until_dark()
            self._click(at)

    def _dark_from(self, until: Picoseconds) -> Picoseconds:
        """The first dark count of the time that still matters at `until`."""
        if not self._parameters.dark_hz or self._idle_from is None:
            return NEVER
        return max(self._idle_from, until - self._reach) + self._until_dark()

    def _until_dark(self) -> Picoseconds:
        return 1 + int(self._chance.exponential(1e12 / self._parameters.dark_hz))

    def _click(self, at: Picoseconds) -> bool:
        if at < self._free_at:
            return False
        parameters = self._parameters
        self._free_at = at + self._dead
        if parameters.afterpulse and self._chance.uniform() < parameters.afterpulse:
            after = self._chance.exponential(parameters.afterpulse_ns * 1000.0)
            heapq.heappush(self._traps, at + 1 + int(after))
        return True


class Eyes:
    """All detectors that see one mode of a link."""

    __slots__ = ("_all", "_resolving", "_rounds")

    def __init__(
        self,
        measurement: str,
        parameters: tuple[DetectorParameters, ...],
        cycle_ns: Duration,
        chance: Chance,
    ) -> None:
        detectors = [Detector(each, chance) for each in parameters]
        bits = tuple(enumerate(detectors))
        self._rounds: tuple[Round, ...] = ((0, bits),)
        if measurement == BARRETT_KOK:
            again = tuple((bit + len(bits), detector) for bit, detector in bits)
            self._rounds = ((0, bits), (cycle_ns * 500, again))
        self._all = sum(len(seen) for _, seen in self._rounds)
        self._resolving = isinstance(parameters[0], NumberResolvingParameters)

    def see(
        self, begin: Picoseconds, window: Picoseconds, clicks: int, times: list[float]
    ) -> tuple[int, list[float]]:
        """Return the pattern that is seen where `clicks` came at `times` (one per detector).

        With it the time in its window of each of its clicks, in the order of the bits.
        """
        seen, found, rest = 0, [], iter(times)
        for offset, detectors in self._rounds:
            for bit, detector in detectors:
                light = int(next(rest)) if clicks >> bit & 1 else None
                first, count, lit = detector.look(begin + offset, window, light)
                if not count:
                    continue
                seen |= 1 << bit
                found.append(float(first))
                many = 1 << (bit + self._all)
                if self._resolving and (count > 1 or (lit and clicks & many)):
                    seen |= many
        return seen, found

"""Stations: a whole analyser with its logic, as an FPGA gives it.

Commands: StationClock, StationOpen, StationCount, Abort. Events: StationClicks, StationCounts and
the general terminal events. A bare detector becomes a station through the software coincidence
logic.
"""

from __future__ import annotations

from qstack.machine import record
from qstack.units import Duration


@record
class StationSheet:
    """The datasheet of an analyser.

    `measurement`: "single-click", "polarisation", "barrett-kok" or "pair-source".
    `visibility`: Hong-Ou-Mandel visibility of its interferometer with equal photons.
    `trigger_lines`: it knows which ends fired, and reports only attempts where both did.
    `patterns`: (click mask, Bell index) that herald. `switch_ns`: time to serve another link.
    `abort_ns`: the bounded latency of an abort, 0 where an abort ends what it aborts at once.
    """

    measurement: str
    visibility: float
    trigger_lines: bool
    patterns: tuple[tuple[int, int], ...]
    switch_ns: Duration
    abort_ns: Duration = 0

"""Detectors: single-photon detectors and time taggers.

Commands: DetectorOpen, Abort. Events: Tags and the general terminal events.
"""

from __future__ import annotations

from qstack.machine import record
from qstack.units import Duration, Picoseconds


@record
class DetectorSheet:
    """The datasheet of a detector.

    `efficiency` in [0, 1]; `dark_hz` dark counts per second; `jitter_ps` r.m.s.;
    `dead_ns` non-paralysable dead time; `afterpulse` probability per click, at an exponential
    time of mean `afterpulse_ns` after it; `number_resolving`: two photons are told from one.
    `abort_ns`: the bounded latency of an abort, 0 where an abort ends what it aborts at once.
    """

    efficiency: float
    dark_hz: float
    jitter_ps: Picoseconds
    dead_ns: Duration
    afterpulse: float
    number_resolving: bool
    afterpulse_ns: Duration = 0
    abort_ns: Duration = 0

"""Commands of devices: their ids, and where they end."""

from __future__ import annotations

from typing import Any

from qstack.messages.devices import (
    Abort,
    Calibration,
    DetectorOpen,
    DeviceState,
    EmitterArm,
    EmitterMeasure,
    EmitterOutcome,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    StationClicks,
    StationClock,
    StationCount,
    StationOpen,
    Tags,
)

COMMANDS: frozenset[type[Any]] = frozenset(
    {
        *(EmitterArm, EmitterMeasure, StationOpen, StationClock, StationCount, DetectorOpen),
        *(MemoryMeasure, MemoryGate, MemoryMove, MemoryInitialise, MemoryBell, Abort),
    }
)
"""What is said to devices; the other messages of the hardware port are what devices say."""

_ONGOING = frozenset({StationClicks, Tags, DeviceState, Calibration})
"""Device events after which their command goes on, or that belong to none."""


def ends(event: Any) -> bool:
    """Whether a device event is the terminal one of its command."""
    cls = type(event)
    if cls is EmitterOutcome:
        return bool(event.last)
    return cls not in _ONGOING


class CommandIds:
    """Hands out the ids of device commands, starting at 1.

    One counter per node, shared by all rooms that command devices: unique in a node's life.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return an id that was never given before."""
        self._last += 1
        return self._last

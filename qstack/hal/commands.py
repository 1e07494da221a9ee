"""Commands of devices: their ids, what may come of each, and where they end."""

from __future__ import annotations

from typing import Any

from qstack.messages.devices import (
    Abort,
    Aborted,
    BellResult,
    Calibration,
    Completed,
    DetectorOpen,
    DeviceState,
    EmitterArm,
    EmitterFired,
    EmitterHeralded,
    EmitterMeasure,
    EmitterOutcome,
    Exhausted,
    Faulted,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    MemoryResult,
    Rejected,
    StationClicks,
    StationClock,
    StationCount,
    StationCounts,
    StationOpen,
    Tags,
)
from qstack.units import Duration

_BADLY = (Rejected, Aborted, Faulted)

EVENTS: dict[type[Any], frozenset[type[Any]]] = {
    EmitterArm: frozenset({EmitterHeralded, EmitterFired, Exhausted, *_BADLY}),
    EmitterMeasure: frozenset({EmitterOutcome, Exhausted, *_BADLY}),
    StationOpen: frozenset({StationClicks, Exhausted, *_BADLY}),
    StationClock: frozenset({Completed, *_BADLY}),
    StationCount: frozenset({StationCounts, *_BADLY}),
    DetectorOpen: frozenset({Tags, Completed, Exhausted, *_BADLY}),
    MemoryMeasure: frozenset({MemoryResult, *_BADLY}),
    MemoryGate: frozenset({Completed, *_BADLY}),
    MemoryMove: frozenset({Completed, *_BADLY}),
    MemoryInitialise: frozenset({Completed, *_BADLY}),
    MemoryBell: frozenset({BellResult, *_BADLY}),
    Abort: frozenset({Completed, *_BADLY}),
}
"""What a device may say to each command, in the end or before. DeviceState and Calibration belong
to none."""

COMMANDS: frozenset[type[Any]] = frozenset(EVENTS)
"""What is said to devices; the other messages of the hardware port are what devices say."""

MOST_CYCLES = 1 << 62
"""Cycles and modes are below this."""

LONGEST_NS: Duration = 1 << 60
"""Nothing that a device tells of is so long ago: some 36 years."""

MOST_SINGLES = 64
"""Detectors of an analyser: a pattern of clicks has no more bits."""

MOST_PATTERNS = 256
"""Patterns that an analyser counts heralds of."""

MOST_SAID = 400
"""Characters of what is noted of an answer that cannot be."""

_ONGOING = frozenset({StationClicks, Tags, DeviceState, Calibration})
"""Device events after which their command goes on, or that belong to none."""


def ends(event: Any) -> bool:
    """Whether a device event is the terminal one of its command."""
    cls = type(event)
    if cls is EmitterOutcome:
        return bool(event.last)
    return cls not in _ONGOING


def objection(command: Any, event: Any) -> str:
    """Return why no honest device says this of a command of its that runs; empty where it may.

    It is of another kind than the command can have, about another slot or link, or has numbers
    that nothing can have. An age may be below 0, for a device's clock is not ours.
    """
    kind = type(event)
    if kind not in EVENTS[type(command)]:
        what = f"{type(command).__name__} {command.command} of {command.device}"
        return f"{kind.__name__} is nothing that comes of {what}"
    match event:
        case EmitterHeralded() | EmitterFired():
            sound = event.slot == command.slot and _is_attempt(event)
            if command.exact:
                sound = sound and 0 <= event.cycle - command.not_before < command.cycles
        case EmitterOutcome():
            sound = event.outcome in (0, 1) and _is_attempt(event)
        case StationClicks():
            sound = event.link == command.link and event.mode < command.modes
            sound = sound and event.clicks >= 0 and _is_attempt(event)
            sound = sound and len(event.tags_ps) <= event.clicks.bit_count()
        case MemoryResult():
            sound = event.slot == command.slot and event.outcome in (0, 1)
            sound = sound and 0 <= event.held_ns < LONGEST_NS
        case BellResult():
            sound = (event.slot, event.other) == (command.slot, command.other)
            sound = sound and (event.bell is None or 0 <= event.bell <= 3)
            sound = sound and 0 <= event.held_ns < LONGEST_NS
            sound = sound and 0 <= event.other_held_ns < LONGEST_NS
        case StationCounts():
            sound = event.link == command.link and event.attempts >= 0
            sound = sound and len(event.singles) <= MOST_SINGLES
            sound = sound and len(event.heralds) <= MOST_PATTERNS
        case _:
            sound = True
    return "" if sound else f"{event} cannot come of {command}"[:MOST_SAID]


def _is_attempt(event: EmitterHeralded | EmitterFired | EmitterOutcome | StationClicks) -> bool:
    """Whether an attempt may have this cycle, mode and age."""
    numbered = 0 <= event.cycle < MOST_CYCLES and 0 <= event.mode < MOST_CYCLES
    return numbered and -LONGEST_NS < event.age_ns < LONGEST_NS


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

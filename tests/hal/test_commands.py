"""What may come of each command, by what the hardware port says of it, and nothing else."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.hal.commands import COMMANDS, EVENTS, objection
from qstack.messages.common import PLAIN_Z, Basis
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
    Gate,
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
from qstack.messages.wire import KIND_OF, Layer

ARM = EmitterArm("d", 7, "ab", 2, (), 10, False, 1 << 32)
EXACT = EmitterArm("d", 7, "ab", 2, (), 10, True, 1)
MEASURE = EmitterMeasure("d", 7, "ab", (), PLAIN_Z, 5, 10, False, 1 << 32)
OPEN = StationOpen("d", 7, "ab", (), 10, 1 << 32, 3, 1_000, False)
COUNT = StationCount("d", 7, "ab")
READ = MemoryMeasure("d", 7, 2, PLAIN_Z)
SWAP = MemoryBell("d", 7, 2, 4)
GATE = MemoryGate("d", 7, Gate.CNOT, 2, 4, 0.0)

HERALDED = EmitterHeralded("d", 7, 2, 11, 1, 500)
FIRED = EmitterFired("d", 7, 2, 10, 0, 500)
OUTCOME = EmitterOutcome("d", 7, 11, 1, Basis.X, 1, 500, False)
CLICKS = StationClicks("d", 7, "ab", 11, 2, 0b101, (3, -4), 500)
COUNTS = StationCounts("d", 7, "ab", 9, (4, 5), ((1, 2), (2, 1)))
RESULT = MemoryResult("d", 7, 2, Basis.Y, 0, 500)
BELL = BellResult("d", 7, 2, 4, 3, 500, 600)
BADLY = (Rejected("d", 7, True, "no"), Aborted("d", 7, "no"), Faulted("d", 7, "no"))
DONE, THROUGH, TAGS = Completed("d", 7), Exhausted("d", 7, 12), Tags("d", 7, ((1, 2),))

MAY: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (ARM, (HERALDED, FIRED, THROUGH)),
    (EXACT, (EmitterHeralded("d", 7, 2, 10, 1, 500), FIRED, THROUGH)),
    (MEASURE, (OUTCOME, THROUGH)),
    (OPEN, (CLICKS, THROUGH)),
    (StationClock("d", 7, "ab", 1_000), (DONE,)),
    (COUNT, (COUNTS,)),
    (DetectorOpen("d", 7, 0), (TAGS, DONE, THROUGH)),
    (READ, (RESULT,)),
    (GATE, (DONE,)),
    (MemoryMove("d", 7, 2, 4), (DONE,)),
    (MemoryInitialise("d", 7, 2), (DONE,)),
    (SWAP, (BELL, BellResult("d", 7, 2, 4, None, 500, 600))),
    (Abort("d", 7, 3), (DONE,)),
)
"""Each command, and what its text says that it ends in or reports; any may end badly."""

EVERYTHING = (HERALDED, FIRED, OUTCOME, CLICKS, COUNTS, RESULT, BELL, *BADLY, DONE, THROUGH, TAGS)


@pytest.mark.parametrize(("command", "events"), MAY, ids=lambda each: type(each).__name__)
def test_a_command_may_have_what_its_text_names_or_end_badly_and_nothing_else(
    command: Any, events: tuple[Any, ...]
) -> None:
    assert [objection(command, event) for event in (*events, *BADLY)] == [""] * len(
        (*events, *BADLY)
    )
    kinds = {type(event) for event in (*events, *BADLY)}
    foreign = [event for event in EVERYTHING if type(event) not in kinds]
    assert len(foreign) >= 7
    for event in foreign:
        assert type(event).__name__ in objection(command, event)


def test_every_command_and_every_event_that_names_one_is_in_the_table() -> None:
    assert {type(command) for command, _ in MAY} == set(EVENTS) == COMMANDS
    said = {kind for kinds in EVENTS.values() for kind in kinds}
    port = {kind.cls for kind in KIND_OF.values() if kind.layer is Layer.DEVICE}
    assert said | COMMANDS | {DeviceState, Calibration} == port
    assert not said & COMMANDS


FAR = 1 << 63


@pytest.mark.parametrize(
    ("command", "event", "changes"),
    [
        (ARM, HERALDED, {"slot": 3}),
        (ARM, FIRED, {"slot": -1}),
        (ARM, HERALDED, {"cycle": -1}),
        (ARM, HERALDED, {"cycle": FAR}),
        (ARM, HERALDED, {"mode": -1}),
        (ARM, HERALDED, {"mode": FAR}),
        (ARM, HERALDED, {"age_ns": FAR}),
        (ARM, HERALDED, {"age_ns": -FAR}),
        (EXACT, FIRED, {"cycle": 11}),
        (EXACT, FIRED, {"cycle": 9}),
        (MEASURE, OUTCOME, {"outcome": 2}),
        (MEASURE, OUTCOME, {"outcome": -1}),
        (MEASURE, OUTCOME, {"cycle": -1}),
        (OPEN, CLICKS, {"link": "bc"}),
        (OPEN, CLICKS, {"mode": 3}),
        (OPEN, CLICKS, {"mode": -1}),
        (OPEN, CLICKS, {"cycle": FAR}),
        (OPEN, CLICKS, {"clicks": -1}),
        (OPEN, CLICKS, {"tags_ps": (1, 2, 3)}),
        (OPEN, CLICKS, {"age_ns": FAR}),
        (COUNT, COUNTS, {"link": "bc"}),
        (COUNT, COUNTS, {"attempts": -1}),
        (COUNT, COUNTS, {"singles": (1,) * 65}),
        (COUNT, COUNTS, {"heralds": tuple((n, 1) for n in range(257))}),
        (READ, RESULT, {"slot": 4}),
        (READ, RESULT, {"outcome": 2}),
        (READ, RESULT, {"held_ns": -1}),
        (READ, RESULT, {"held_ns": FAR}),
        (SWAP, BELL, {"slot": 4, "other": 2}),
        (SWAP, BELL, {"bell": 4}),
        (SWAP, BELL, {"bell": -1}),
        (SWAP, BELL, {"held_ns": -1}),
        (SWAP, BELL, {"other_held_ns": FAR}),
    ],
    ids=str,
)
def test_nothing_is_said_of_what_was_not_asked_for_or_cannot_be(
    command: Any, event: Any, changes: dict[str, Any]
) -> None:
    assert objection(command, event) == ""
    assert 0 < len(objection(command, attrs.evolve(event, **changes))) <= 400

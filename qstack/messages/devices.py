"""The hardware port: commands to devices and what they report.

Every command carries the device's name and an id that is unique for the commander's life; it
ends in exactly one terminal event with the same id, marked below. All ages are the time from
the thing to the sending of the event, by the device's clock. What is for memories alone stands in
:mod:`qstack.messages.memories` and is imported from here like the rest.
"""

from __future__ import annotations

from enum import IntEnum

from qstack.machine import record
from qstack.messages.common import Basis, BasisPlan
from qstack.messages.memories import (
    BellResult,
    Gate,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    MemoryResult,
)
from qstack.messages.wire import Delivery, Layer, message
from qstack.units import Duration, LinkName, Picoseconds

__all__ = [
    "Abort",
    "Aborted",
    "BellResult",
    "Calibration",
    "Completed",
    "DetectorOpen",
    "DeviceState",
    "DeviceStatus",
    "EmitterArm",
    "EmitterFired",
    "EmitterHeralded",
    "EmitterMeasure",
    "EmitterOutcome",
    "Exhausted",
    "Faulted",
    "Gate",
    "MemoryBell",
    "MemoryGate",
    "MemoryInitialise",
    "MemoryMeasure",
    "MemoryMove",
    "MemoryResult",
    "Rejected",
    "StationClicks",
    "StationClock",
    "StationCount",
    "StationCounts",
    "StationOpen",
    "Tags",
]


class DeviceStatus(IntEnum):
    """The states of a device; work is accepted in READY and DEGRADED only."""

    OFFLINE = 0
    CALIBRATING = 1
    PREPARING = 2
    READY = 3
    DEGRADED = 4
    FAULT = 5


# --- commands ---------------------------------------------------------------------------


@message(0xA0, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class EmitterArm:
    """Attempt with the qubit in `slot`, once a cycle from `not_before` on, for `cycles` cycles.

    `setting` are the working point's (parameter, value) pairs for this end. If `exact` and the
    cycle `not_before` has begun, the arm is rejected; if not exact, the first attempt is made
    in the first cycle that is not earlier. Several armed slots of a link share each cycle as
    its modes 0, 1, ... in the order of arming. The qubit is initialised by the arm. With a
    herald line the device stops by itself after a success; without one `cycles` is 1.
    Ends in EmitterHeralded, EmitterFired (no herald line), or a general terminal event.
    """

    device: str
    command: int
    link: LinkName
    slot: int
    setting: tuple[tuple[str, float], ...]
    not_before: int
    exact: bool
    cycles: int


@message(0xA1, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class EmitterMeasure:
    """Attempt and measure at once, every cycle, until `pairs` attempts were heralded.

    The axis of each attempt is drawn by the device as `plan` says. Reports each heralded
    attempt by EmitterOutcome; ends with the one marked `last`, or a general terminal event.
    """

    device: str
    command: int
    link: LinkName
    setting: tuple[tuple[str, float], ...]
    plan: BasisPlan
    pairs: int
    not_before: int
    exact: bool
    cycles: int


@message(0xA2, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class StationOpen:
    """Open the analyser for a link from `first_cycle` on; replaces what was open for it.

    `modes` is how many attempts of a cycle are looked at; `window_ps` the width of the
    coincidence window; `report_failures`: also report cycles without a herald (no herald line).
    Ends, when closed or after `cycles`, in a general terminal event.
    """

    device: str
    command: int
    link: LinkName
    setting: tuple[tuple[str, float], ...]
    first_cycle: int
    cycles: int
    modes: int
    window_ps: Picoseconds
    report_failures: bool


@message(0xA3, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class StationClock:
    """Begin cycle 0 of the link now; whatever was armed on its former clock is aborted.

    Ends in Completed.
    """

    device: str
    command: int
    link: LinkName
    cycle_ns: Duration


@message(0xA8, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class Abort:
    """End the command `target` now, if it still runs; it ends in Aborted.

    No further attempt is made. One that was made already is not called back: an arm whose qubit
    was heralded ends in EmitterHeralded all the same, and one that measures reports the outcomes
    of all attempts that the station heralds, or may still herald, before it ends in Aborted. The
    abort itself ends in Completed, within the device's stated bound; the wait for those heralds
    may come on top of that for its target.
    """

    device: str
    command: int
    target: int


@message(0xA9, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class DetectorOpen:
    """Report clicks of a detector as Tags until aborted, or `duration_ns` (0: no limit)."""

    device: str
    command: int
    duration_ns: Duration


@message(0xAA, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class StationCount:
    """Ask an analyser what it has counted on a link. Ends in StationCounts."""

    device: str
    command: int
    link: LinkName


# --- events -----------------------------------------------------------------------------


@message(0xC0, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class EmitterHeralded:
    """Terminal: the attempt of (`cycle`, `mode`) was heralded; its qubit waits in `slot`."""

    device: str
    command: int
    slot: int
    cycle: int
    mode: int
    age_ns: Duration


@message(0xC1, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class EmitterFired:
    """Terminal, without a herald line: the one attempt was made; nobody knows the result."""

    device: str
    command: int
    slot: int
    cycle: int
    mode: int
    age_ns: Duration


@message(0xC2, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class EmitterOutcome:
    """A heralded attempt was measured: axis and outcome (0 or 1). Terminal if `last`."""

    device: str
    command: int
    cycle: int
    mode: int
    basis: Basis
    outcome: int
    age_ns: Duration
    last: bool


@message(0xC3, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class StationClicks:
    """Clicks inside the window of an attempt in which both ends fired.

    `clicks` is the pattern (bit mask over detectors), `tags_ps` one time per click.
    A pattern of 0 stands for a failed attempt, sent only under `report_failures`.
    """

    device: str
    command: int
    link: LinkName
    cycle: int
    mode: int
    clicks: int
    tags_ps: tuple[Picoseconds, ...]
    age_ns: Duration


@message(0xC5, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class Completed:
    """Terminal: done."""

    device: str
    command: int


@message(0xC6, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class Exhausted:
    """Terminal: all cycles of the command passed, `attempts` of them used, without success."""

    device: str
    command: int
    attempts: int


@message(0xC7, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class Rejected:
    """Terminal: the command was not begun. `late` where its exact cycle had passed."""

    device: str
    command: int
    late: bool
    reason: str


@message(0xC8, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class Aborted:
    """Terminal: ended by an Abort, or because the link's clock was restarted."""

    device: str
    command: int
    reason: str


@message(0xC9, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class Faulted:
    """Terminal: the device failed while doing this; `reason` is its cause."""

    device: str
    command: int
    reason: str


@message(0xCA, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class DeviceState:
    """The device changed state. Durations of 0 mean unknown."""

    device: str
    status: DeviceStatus
    reason: str
    expected_ns: Duration
    valid_ns: Duration


@message(0xCB, Layer.DEVICE, Delivery.RELIABLE, stream="device", bulk=True)
@record
class Calibration:
    """What was measured of a drifting device: (name, value, uncertainty) triples."""

    device: str
    calibration: str
    age_ns: Duration
    valid_ns: Duration
    values: tuple[tuple[str, float, float], ...]


@message(0xCC, Layer.DEVICE, Delivery.RELIABLE, stream="device", bulk=True)
@record
class Tags:
    """Clicks of a detector: (channel, picoseconds since the open command took effect)."""

    device: str
    command: int
    tags: tuple[tuple[int, Picoseconds], ...]


@message(0xCD, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class StationCounts:
    """Terminal: what was counted on a link since the device began.

    `attempts`: those that were looked at, in which both ends fired. `singles`: in how many of
    them each detector clicked, by the bits of a pattern. `heralds`: (pattern, how many) of those
    that were reported as heralds. Each attempt counts once, also where its report is still due.
    """

    device: str
    command: int
    link: LinkName
    attempts: int
    singles: tuple[int, ...]
    heralds: tuple[tuple[int, int], ...]

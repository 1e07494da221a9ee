"""The hardware port of memories: their commands, and the terminal events that are theirs alone.

Part of :mod:`qstack.messages.devices`, which says what holds for all commands.
"""

from __future__ import annotations

from enum import IntEnum

from qstack.bell import BellIndex
from qstack.machine import record
from qstack.messages.common import Basis, BasisPlan
from qstack.messages.wire import Delivery, Layer, message
from qstack.units import Duration


class Gate(IntEnum):
    """Gates that a memory may offer; RX, RY and RZ take an angle."""

    X = 0
    Y = 1
    Z = 2
    H = 3
    S = 4
    RX = 5
    RY = 6
    RZ = 7
    CNOT = 8
    CZ = 9


# --- commands ---------------------------------------------------------------------------


@message(0xA4, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class MemoryMeasure:
    """Measure the qubit in `slot` as `plan` says; it is gone afterwards. Ends in MemoryResult."""

    device: str
    command: int
    slot: int
    plan: BasisPlan


@message(0xA5, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class MemoryGate:
    """Apply a gate to one slot, or to two where `other` is given. Ends in Completed."""

    device: str
    command: int
    gate: Gate
    slot: int
    other: int | None
    angle: float


@message(0xA6, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class MemoryMove:
    """Move the state of `slot` to `target`, which was initialised before. Ends in Completed."""

    device: str
    command: int
    slot: int
    target: int


@message(0xA7, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class MemoryInitialise:
    """Prepare |0> in `slot`. Ends in Completed."""

    device: str
    command: int
    slot: int


@message(0xAB, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class MemoryBell:
    """Measure the qubits in `slot` and `other` in the Bell basis: a swap, in one command.

    As CNOT from `slot` to `other`, H on `slot` and a readout of both: `slot` gives the bit z of
    the Bell index, `other` the bit x. Two halves of pairs leave the far ends in the Bell state of
    both pairs' indices and this one, by XOR. Ends in BellResult, or a general terminal event:
    after Rejected both qubits are as they were, after any other end they are gone.
    """

    device: str
    command: int
    slot: int
    other: int


# --- events -----------------------------------------------------------------------------


@message(0xC4, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class MemoryResult:
    """Terminal: axis and outcome; `held_ns` from the qubit's initialisation to the readout."""

    device: str
    command: int
    slot: int
    basis: Basis
    outcome: int
    held_ns: Duration


@message(0xCE, Layer.DEVICE, Delivery.RELIABLE, stream="device")
@record
class BellResult:
    """Terminal: the Bell index (0 to 3) that was read, None where the swap failed.

    Both qubits are gone in either case. `held_ns` and `other_held_ns`: of the qubits in `slot`
    and `other`, each from its initialisation to the readout.
    """

    device: str
    command: int
    slot: int
    other: int
    bell: BellIndex | None
    held_ns: Duration
    other_held_ns: Duration

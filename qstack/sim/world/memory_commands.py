"""Commands for memories: measure, gate, move, initialise, Bell measurement."""

from __future__ import annotations

from qstack.messages.devices import (
    BellResult,
    Completed,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    MemoryResult,
)
from qstack.sim.world.axes import TWO_QUBIT
from qstack.sim.world.hall import Hall, Refused
from qstack.sim.world.memories import Memory
from qstack.units import NodeName


def measure(hall: Hall, owner: NodeName, memory: Memory, command: MemoryMeasure) -> None:
    """Read out a slot."""
    _need(memory, command.slot)
    read = memory.measure(command.slot, command.plan, hall.now)
    body = MemoryResult(
        command.device, command.command, command.slot, read.basis, read.outcome, read.held_ns
    )
    hall.end_at(read.done, owner, body)


def gate(hall: Hall, owner: NodeName, memory: Memory, command: MemoryGate) -> None:
    """Apply a gate."""
    two, other = command.gate in TWO_QUBIT, command.other
    if two != (other is not None):
        raise Refused(f"{command.gate.name} takes {'two slots' if two else 'one slot'}")
    slots: tuple[int, ...] = (command.slot,)
    if other is None:
        _need(memory, command.slot)
    else:
        _need_both(memory, command.slot, other)
        slots = (command.slot, other)
    done = memory.gate(command.gate, slots, command.angle, hall.now)
    _complete(hall, owner, command, done)


def move(hall: Hall, owner: NodeName, memory: Memory, command: MemoryMove) -> None:
    """Move a state to another slot."""
    _need_both(memory, command.slot, command.target)
    _complete(hall, owner, command, memory.move(command.slot, command.target, hall.now))


def initialise(hall: Hall, owner: NodeName, memory: Memory, command: MemoryInitialise) -> None:
    """Prepare |0> in a slot; what was there is lost."""
    if not 0 <= command.slot < memory.slots:
        raise Refused(f"{memory.name} has no slot {command.slot}")
    if command.slot in memory.armed:
        raise Refused(f"slot {command.slot} is armed")
    _complete(hall, owner, command, memory.initialise(command.slot, hall.now))


def bell(hall: Hall, owner: NodeName, memory: Memory, command: MemoryBell) -> None:
    """Measure two slots in the Bell basis."""
    slot, other = command.slot, command.other
    _need_both(memory, slot, other)
    found = memory.bell(slot, other, hall.now)
    body = BellResult(command.device, command.command, slot, other, found.bell, *found.held_ns)
    hall.end_at(found.done, owner, body)


def _complete(
    hall: Hall, owner: NodeName, command: MemoryGate | MemoryMove | MemoryInitialise, at: int
) -> None:
    hall.end_at(at, owner, Completed(command.device, command.command))


def _need_both(memory: Memory, one: int, other: int) -> None:
    _need(memory, one)
    _need(memory, other)
    if not memory.joined(one, other):
        raise Refused(f"slots {one} and {other} are not coupled")


def _need(memory: Memory, slot: int) -> None:
    reason = memory.missing(slot)
    if reason:
        raise Refused(reason)

"""The truth about qubits, for checkers and tests alone; no protocol layer may import this."""

from __future__ import annotations

from qstack.sim.states import Matrix
from qstack.sim.world.machine import World
from qstack.sim.world.optics import matrix_of
from qstack.sim.world.registers import Qubit, Terms, merge_terms, reduced
from qstack.units import Instant


def pair_state(
    world: World, first: tuple[str, int], second: tuple[str, int], now: Instant
) -> Matrix:
    """Return the joint state of two (memory device, slot) as it is at `now`.

    (4, 4) complex, first factor `first`. KeyError where a slot is empty. States are not touched;
    a memory that counts attempts decides the cycles that have begun, as it would at its next use.
    """
    one, other = _qubit(world, first), _qubit(world, second)
    if one.register is other.register:
        terms = reduced_at(one, now, (one, other))
    else:
        terms = merge_terms(reduced_at(one, now, (one,)), reduced_at(other, now, (other,)), 1)
    return matrix_of(terms, 2)


def qubit_state(world: World, where: tuple[str, int], now: Instant) -> Matrix:
    """Return the (2, 2) state of one (memory device, slot) at `now`; KeyError where empty."""
    qubit = _qubit(world, where)
    return matrix_of(reduced_at(qubit, now, (qubit,)), 1)


def partners(world: World, where: tuple[str, int]) -> tuple[tuple[str, int], ...]:
    """Return the (memory device, slot) of all qubits whose state is joint with that of this one.

    KeyError where the slot is empty.
    """
    qubit = _qubit(world, where)
    return tuple(
        (name, slot)
        for name, memory in world._hall.memories.items()
        for slot, each in memory.qubits.items()
        if each.register is qubit.register and each is not qubit
    )


def born_at(world: World, where: tuple[str, int]) -> Instant:
    """Return when the qubit of a (memory device, slot) was initialised; KeyError where empty."""
    return _qubit(world, where).born


def qubits(world: World) -> int:
    """Return how many qubits live in all memories."""
    return sum(len(memory.qubits) for memory in world._hall.memories.values())


def register_sizes(world: World) -> list[int]:
    """Return the numbers of qubits of all registers, ascending."""
    found = {
        id(qubit.register): qubit.register
        for memory in world._hall.memories.values()
        for qubit in memory.qubits.values()
    }
    return sorted(len(register.qubits) for register in found.values())


def running(world: World) -> int:
    """Return how many commands run."""
    return len(world._hall.running)


def reduced_at(qubit: Qubit, now: Instant, wanted: tuple[Qubit, ...]) -> Terms:
    """Return the terms of `wanted`, all of one register, decayed until `now`."""
    terms = qubit.register.terms
    for each in wanted:
        terms = each.memory.decayed(each, terms, now)
    return reduced(terms, tuple(each.place for each in wanted))


def _qubit(world: World, where: tuple[str, int]) -> Qubit:
    return world._hall.memories[where[0]].qubits[where[1]]

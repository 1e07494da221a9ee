"""Memories: qubits that are stored, moved, acted on by gates, and measured.

Commands: MemoryMeasure, MemoryGate, MemoryMove, MemoryInitialise, MemoryBell, Abort. Events:
MemoryResult, BellResult and the general terminal events.
"""

from __future__ import annotations

from qstack.machine import record
from qstack.units import Duration


@record
class MemorySheet:
    """The datasheet of a memory; times in ns, 0 where there is no decay.

    `communication` and `storage` are how many slots there are of each: slot numbers run
    through the communication qubits first. Coherence after t: ``exp(-(t / t2_ns) **
    exponent)``, with dynamical decoupling included. `equilibrium`: population of |1> to which
    the qubit relaxes. `attempt_dephasing`: probability of a phase flip of a stored qubit per
    attempt on a communication qubit. Fidelities of gates and moves are averages over pure input
    states, as randomised benchmarking gives them. `readout`: probabilities to read 0 and 1 right.
    `coupled`: slot pairs that a two-qubit gate, a move or a Bell measurement can join, either way
    round. `abort_ns`: the bounded latency of an abort, 0 where one ends what it aborts at once.

    `bell_measurement`: it takes MemoryBell. `bell_ns`: from its beginning to its result.
    `swap_success`: probability that it gives a Bell index, whatever the state. What it does to the
    qubits follows from `two_qubit_fidelity` (of its CNOT), `gate_fidelity` (of its H) and
    `readout`, see ``qstack.network.budget.swap_factor``.
    """

    communication: int
    storage: int
    t1_ns: Duration
    t2_ns: Duration
    exponent: float
    equilibrium: float
    attempt_dephasing: float
    initialise_fidelity: float
    gate_ns: Duration
    gate_fidelity: float
    two_qubit_fidelity: float
    move_ns: Duration
    move_fidelity: float
    readout_ns: Duration
    readout: tuple[float, float]
    coupled: tuple[tuple[int, int], ...]
    abort_ns: Duration = 0
    bell_measurement: bool = False
    bell_ns: Duration = 0
    swap_success: float = 1.0

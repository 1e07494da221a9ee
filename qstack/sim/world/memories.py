"""A memory: its slots, what waits in them, and how it decays, is acted on and is measured.

Commands take effect on arrival, one after the other where they want the same slot: what
arrives while a slot is busy begins when it is done. A state is brought up to date only when
something happens to it. Decay: :class:`qstack.sim.states.Decay`, counted from the
initialisation (of the qubit that the state now is in), and per attempt on the memory's
communication qubits for what is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from qstack.bell import BellIndex
from qstack.machine import record
from qstack.messages.common import Basis, BasisPlan
from qstack.messages.devices import Gate
from qstack.sim.devices import MemoryParameters
from qstack.sim.states import Decay, keep_from_fidelity
from qstack.sim.world import axes
from qstack.sim.world.bell_measurement import (
    During,
    Effects,
    Quality,
    bell_means,
    collapse,
    effects,
)
from qstack.sim.world.registers import (
    Axis,
    Qubit,
    Register,
    Terms,
    Z,
    cnot,
    controlled_z,
    dephase,
    depolarise,
    drop,
    expectation,
    merge,
    project,
    relax,
    rotate,
)
from qstack.units import Chance, Duration, Instant


@record
class Read:
    """What a readout gave: axis, outcome as read, and when the readout ends."""

    basis: Basis
    outcome: int
    held_ns: Duration
    done: Instant


@record
class BellRead:
    """What a Bell measurement gave: its index or None, the ages of both qubits, its end."""

    bell: BellIndex | None
    held_ns: tuple[Duration, Duration]
    done: Instant


class Memory:
    """The slots of one memory device. `attempts_until(instant)` counts attempts beside it."""

    __slots__ = (
        *("_attempts_until", "_busy", "_chance", "_coupled", "_decays", "_effects", "_law"),
        *("_move", "_one", "_quality", "_rest", "_steady", "_two", "armed", "name", "parameters"),
        *("qubits", "slots"),
    )

    def __init__(
        self,
        name: str,
        parameters: MemoryParameters,
        chance: Chance,
        attempts_until: Callable[[Instant], int],
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.slots = parameters.communication + parameters.storage
        self.armed: dict[int, object] = {}
        self.qubits: dict[int, Qubit] = {}
        self._chance = chance
        self._attempts_until = attempts_until
        self._busy = [0] * self.slots
        p = parameters
        self._law = Decay(p.t1_ns, p.t2_ns, p.exponent, p.equilibrium)
        self._decays = bool(p.t1_ns or p.t2_ns)
        self._rest = 1.0 - 2.0 * p.equilibrium
        self._coupled = {frozenset(pair) for pair in p.coupled}
        self._one = keep_from_fidelity(p.gate_fidelity, 1)
        self._two = keep_from_fidelity(p.two_qubit_fidelity, 2)
        self._move = keep_from_fidelity(p.move_fidelity, 1)
        self._quality = Quality(self._two, self._one, p.readout)
        # What a Bell measurement sees is always the same where nothing decays meanwhile.
        self._steady = not (self._decays and p.gate_ns)
        self._effects = effects(self._quality, During())

    # --- what lives in the slots ---------------------------------------------------------

    def put(self, slot: int, qubit: Qubit) -> None:
        """Let `qubit` live in `slot`; what was there is lost."""
        self.clear(slot)
        self.qubits[slot] = qubit
        qubit.memory = self

    def clear(self, slot: int) -> None:
        """Lose what is in `slot`, if anything is."""
        qubit = self.qubits.pop(slot, None)
        if qubit is not None:
            drop(qubit)

    def missing(self, slot: int) -> str:
        """Say why nothing can be done with what is in `slot`; empty where it can."""
        if not 0 <= slot < self.slots:
            return f"{self.name} has no slot {slot}"
        if slot in self.armed:
            return f"slot {slot} is armed"
        return "" if slot in self.qubits else f"slot {slot} holds no qubit"

    def free_from(self, *slots: int) -> Instant:
        """The instant at which the last of these slots is done with what it does."""
        return max(self._busy[slot] for slot in slots)

    # --- decay ---------------------------------------------------------------------------

    def decayed(self, qubit: Qubit, terms: Terms, at: Instant) -> Terms:
        """Return `terms`, of the qubit's register, as this qubit's decay makes them until `at`."""
        factor = 1.0
        if self._decays and at > qubit.settled:
            before, after = qubit.settled - qubit.since, at - qubit.since
            factor = self._law.dephasing(before, after)
            if self.parameters.t1_ns:
                keep = 1.0 - self._law.relaxation(before, after)
                terms = relax(terms, qubit.place, keep, self._rest)
                factor *= sqrt(keep)
        made = self._made(qubit, at)
        if made > qubit.attempts:
            flip = self.parameters.attempt_dephasing
            factor *= (1.0 - 2.0 * flip) ** (made - qubit.attempts)
        return terms if factor == 1.0 else dephase(terms, qubit.place, factor)

    def settle(self, qubit: Qubit, at: Instant) -> Register:
        """Bring the decay of `qubit` up to date; returns its register."""
        register = qubit.register
        register.terms = self.decayed(qubit, register.terms, at)
        qubit.settled = max(qubit.settled, at)
        qubit.attempts = max(qubit.attempts, self._made(qubit, at))
        return register

    def _made(self, qubit: Qubit, at: Instant) -> int:
        """Attempts that disturbed this qubit: all on this memory, if it is stored; else none."""
        if not self.parameters.attempt_dephasing or not qubit.stored:
            return qubit.attempts
        return self._attempts_until(at)

    # --- operations ----------------------------------------------------------------------

    def initialise(self, slot: int, now: Instant) -> Instant:
        """Prepare |0>; returns when it is done."""
        start = max(now, self._busy[slot])
        done = start + self.parameters.gate_ns
        qubit = Qubit(self, start)
        self.put(slot, qubit)
        self._store(qubit, slot, start)
        keep = keep_from_fidelity(self.parameters.initialise_fidelity, 1)
        Register({0: 1.0, Z: keep}, [qubit])
        self._busy[slot] = done
        return done

    def measure(self, slot: int, plan: BasisPlan, now: Instant) -> Read:
        """Read out the qubit in `slot`; it is gone afterwards."""
        start = max(now, self._busy[slot])
        qubit = self.qubits.pop(slot)
        self.settle(qubit, start)
        basis, axis = axes.draw(plan, self._chance)
        outcome = self.read(qubit, axis)
        self._busy[slot] = start + self.parameters.readout_ns
        return Read(basis, outcome, qubit.age(start), self._busy[slot])

    def read(self, qubit: Qubit, axis: Axis) -> int:
        """Project `qubit`, which is up to date, and return what the readout shows."""
        mean = expectation(qubit, axis)
        true = 0 if self._chance.uniform() < (1.0 + mean) / 2.0 else 1
        project(qubit, axis, true, mean)
        right = self.parameters.readout[true]
        if right < 1.0 and self._chance.uniform() >= right:
            return 1 - true
        return true

    def gate(self, gate: Gate, slots: tuple[int, ...], angle: float, now: Instant) -> Instant:
        """Apply a gate to one slot or to two; returns when it is done."""
        start = max(now, self.free_from(*slots))
        qubits = [self.qubits[slot] for slot in slots]
        for qubit in qubits:
            self.settle(qubit, start)
        register = qubits[0].register
        places: tuple[int, ...] = (qubits[0].place,)
        if len(qubits) == 1:
            terms = rotate(register.terms, places[0], axes.rotation_of(gate, angle))
            keep = self._one
        else:
            register = merge(register, qubits[1].register)
            one, other = qubits[0].place, qubits[1].place
            turn = cnot if gate is Gate.CNOT else controlled_z
            terms, places = turn(register.terms, one, other), (one, other)
            keep = self._two
        register.terms = terms if keep == 1.0 else depolarise(terms, places, keep)
        for slot in slots:
            self._busy[slot] = start + self.parameters.gate_ns
        return start + self.parameters.gate_ns

    def bell(self, slot: int, other: int, now: Instant) -> BellRead:
        """Measure two slots in the Bell basis; both qubits are gone afterwards.

        As CNOT, H on `slot`, and readouts of both that begin together, all with this memory's
        noise and decay (attempts beside it from now on are not counted). Both far ends are left
        in the mean over what was misread: their exact state for who knows the index read.
        """
        p = self.parameters
        start = max(now, self.free_from(slot, other))
        shown = start + 2 * p.gate_ns
        done = self._busy[slot] = self._busy[other] = start + p.bell_ns
        one, two = self.qubits.pop(slot), self.qubits.pop(other)
        held = one.age(shown), two.age(shown)
        if p.swap_success < 1.0 and self._chance.uniform() >= p.swap_success:
            drop(one)
            drop(two)
            return BellRead(None, held, done)
        self.settle(one, start)
        self.settle(two, start)
        seen = self._effects if self._steady else self._effects_on(one, start)
        index, probability = self._drawn(seen, bell_means(one, two))
        collapse(one, two, seen[index], probability)
        return BellRead(index, held, done)

    def _effects_on(self, one: Qubit, start: Instant) -> Effects:
        """What a Bell measurement sees of qubits that decay while its gates last."""
        law, first = self._law, start - one.since
        middle = first + self.parameters.gate_ns
        end = middle + self.parameters.gate_ns
        flat = law.dephasing(first, middle) * sqrt(1.0 - law.relaxation(first, middle))
        stay = 1.0 - law.relaxation(middle, end)
        both = 1.0 - law.relaxation(first, end)
        return effects(self._quality, During(flat, stay, both, self._rest))

    def _drawn(self, seen: Effects, means: tuple[float, float, float]) -> tuple[BellIndex, float]:
        """Draw what is read; returns it and its probability."""
        zz, xx, yy = means
        chances = [(i + z * zz + x * xx + y * yy) / 4.0 for i, z, x, y in seen]
        left = self._chance.uniform()
        for index, probability in enumerate(chances):
            left -= probability
            if left < 0.0:
                return index, probability
        # All four sum to one but for rounding.
        likely = max(range(4), key=chances.__getitem__)
        return likely, chances[likely]

    def move(self, slot: int, target: int, now: Instant) -> Instant:
        """Move the state of `slot` to `target`; returns when it is done."""
        start = max(now, self.free_from(slot, target))
        done = start + self.parameters.move_ns
        qubit = self.qubits.pop(slot)
        register = self.settle(qubit, start)
        if self._move != 1.0:
            register.terms = depolarise(register.terms, (qubit.place,), self._move)
        self.put(target, qubit)
        qubit.since = qubit.settled = start
        self._store(qubit, target, start)
        self._busy[slot] = self._busy[target] = done
        return done

    def joined(self, one: int, other: int) -> bool:
        """Return whether a two-qubit gate or a move can join these slots."""
        return frozenset((one, other)) in self._coupled

    def lose(self) -> None:
        """Lose every qubit: the memory failed, or its owner is gone."""
        for slot in list(self.qubits):
            self.clear(slot)
        self._busy = [0] * self.slots

    def _store(self, qubit: Qubit, slot: int, at: Instant) -> None:
        qubit.stored = slot >= self.parameters.communication
        if qubit.stored and self.parameters.attempt_dephasing:
            qubit.attempts = self._attempts_until(at)

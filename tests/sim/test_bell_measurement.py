"""A Bell measurement of a memory: its algebra, its noise, and what it leaves at the far ends.

Truth is independent: density matrices of `qstack.sim.states`, the world's own gates one by one, and
cases O9 to O12 of the validation dossier.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import product
from math import exp
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.bell import BellWeights, werner
from qstack.messages.common import PLAIN_Z, Basis
from qstack.messages.devices import (
    Abort,
    Aborted,
    BellResult,
    Completed,
    DeviceStatus,
    Faulted,
    Gate,
    MemoryBell,
    MemoryGate,
    MemoryMeasure,
    MemoryResult,
    Rejected,
)
from qstack.network import budget
from qstack.sim import states
from qstack.sim.devices import MemoryParameters
from qstack.sim.states import Decay, bell_state, bell_weights, fidelity, keep_from_fidelity
from qstack.sim.world import Break, WorldDevice, WorldParameters
from qstack.sim.world.optics import terms_of
from qstack.sim.world.peek import pair_state, qubit_state, qubits, register_sizes, running
from qstack.sim.world.registers import Qubit, Register, Terms
from qstack.testing.memory import slots_of
from qstack.units import Chance
from tests.sim.worlds import XY_PLAN, Driver, make_pair, perfect

DIGITS = 1e-12
ALL = list(range(4))


@lru_cache
def terms(state: bytes) -> Terms:
    return terms_of(np.frombuffer(state, complex).reshape(4, 4))


class Bench(Driver):
    """Memories without links, in which a test writes the states that it wants.

    "middle" is the repeater's; "far" has as many slots and neither gates nor decay.
    """

    def __init__(self, memory: MemoryParameters, seed: int = 1) -> None:
        far = MemoryParameters(memory.communication + memory.storage)
        devices = (
            ("middle", WorldDevice("rita", memory)),
            ("far", WorldDevice("fred", far)),
        )
        super().__init__(WorldParameters(devices, ()), seed)

    def write(self, state: Any, *places: tuple[str, int]) -> None:
        """Put a (4, 4) state into two slots, initialised now."""
        memories = self.world._hall.memories
        found = [Qubit(memories[name], self.now) for name, _ in places]
        Register(dict(terms(np.asarray(state, complex).tobytes())), found)
        for (name, slot), qubit in zip(places, found, strict=True):
            memories[name].put(slot, qubit)

    def pairs(self, first: Any, second: Any) -> None:
        """Write two pairs, each (far, middle), into slots 0 and 1."""
        for slot, state in enumerate((first, second)):
            self.write(state, ("far", slot), ("middle", slot))

    def bell(self, slot: int = 0, other: int = 1) -> BellResult:
        """Swap and return the result."""
        command = self.send(MemoryBell, "middle", slot, other)
        while not self.of(BellResult, command):
            self.next_events()
        return self.of(BellResult, command)[0]

    def ends(self) -> Any:
        return pair_state(self.world, ("far", 0), ("far", 1), self.now)


COUPLED = MemoryParameters(2, coupled=((0, 1),))
NOISY = MemoryParameters(
    2,
    gate_fidelity=0.97,
    two_qubit_fidelity=0.94,
    readout=(0.98, 0.91),
    coupled=((0, 1),),
)
WEIGHTS = [(0.9, 0.06, 0.03, 0.01), (0.1, 0.7, 0.15, 0.05)]


def swapped(memory: MemoryParameters, first: Any, second: Any, seed: int = 1) -> tuple[int, Any]:
    """The index read, and the state of the far ends."""
    bench = Bench(memory, seed)
    bench.pairs(first, second)
    bell = bench.bell().bell
    assert bell is not None
    return bell, bench.ends()


def of_each(memory: MemoryParameters, first: Any, second: Any) -> dict[int, Any]:
    """The state of the far ends by the index read, all four of which come."""
    found: dict[int, Any] = {}
    for seed in range(200):
        bell, state = swapped(memory, first, second, seed)
        found[bell] = state
        if len(found) == 4:
            return found
    raise AssertionError(f"only {sorted(found)} in 200 swaps")


# --- the circuit, in density matrices ---------------------------------------------------------


def by_gates(state: Any, memory: MemoryParameters, ages: tuple[int, int]) -> dict[int, Any]:
    """The unnormalised states that the textbook circuit leaves of (far, middle, middle, far).

    Qubits 1 and 2 are measured; `ages` are theirs when it begins.
    """
    law = Decay(memory.t1_ns, memory.t2_ns, memory.exponent, memory.equilibrium)
    state = states.apply(state, states.gate_matrix(Gate.CNOT), (1, 2))
    state = states.depolarise(state, (1, 2), keep_from_fidelity(memory.two_qubit_fidelity, 2))
    for window in (0, 1):
        if window == 1:
            state = states.apply(state, states.gate_matrix(Gate.H), (1,))
            state = states.depolarise(state, (1,), keep_from_fidelity(memory.gate_fidelity, 1))
        for qubit, age in zip((1, 2), ages, strict=True):
            begin = age + window * memory.gate_ns
            state = states.decay(state, qubit, law, begin, begin + memory.gate_ns)
    found = {}
    z_axis = (0.0, 0.0, 1.0)
    for z in states.measure(state, 1, z_axis, memory.readout):
        for x in states.measure(z.state, 1, z_axis, memory.readout):
            found[x.outcome << 1 | z.outcome] = z.probability * x.probability * x.state
    return found


def random_pair(seed: int) -> Any:
    """Any two-qubit state."""
    draw = np.random.default_rng(seed)
    root = draw.normal(size=(4, 4)) + 1j * draw.normal(size=(4, 4))
    state = root @ root.conj().T
    return state / np.trace(state)


# --- algebra ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), list(product(ALL, ALL)))
def test_the_far_ends_are_in_the_state_of_both_indices_and_the_index_read(
    first: int, second: int
) -> None:
    """With the four indices that may be read, all 64 combinations."""
    one, other = states.bell_projector(first), states.bell_projector(second)
    for bell, state in of_each(COUPLED, one, other).items():
        assert fidelity(state, first ^ second ^ bell) == pytest.approx(1.0, abs=DIGITS)


def test_the_sign_of_xx_is_read_as_z_and_that_of_zz_as_x_whichever_slot_is_named_first() -> None:
    """Both qubits in |1>, then both in |+>: one bit is certain, the other random."""
    ones, pluses = np.diag([0.0, 0.0, 0.0, 1.0]), np.full((4, 4), 0.25)
    for slot, other in ((0, 1), (1, 0)):
        bench = Bench(COUPLED)
        for state, possible in ((ones, {0, 1}), (pluses, {0, 2})):
            found = set()
            for _ in range(40):
                bench.write(state, ("middle", 0), ("middle", 1))
                found.add(bench.bell(slot, other).bell)
            assert found == possible


def test_a_bell_state_inside_the_memory_is_read_as_what_it_is() -> None:
    for index in ALL:
        bench = Bench(COUPLED)
        bench.write(states.bell_projector(index), ("middle", 0), ("middle", 1))
        assert bench.bell().bell == index
        assert qubits(bench.world) == 0


def test_all_four_indices_are_equally_likely_to_be_read() -> None:
    """4,000 swaps of unlike pairs, chi-square with three degrees of freedom, false alarm 1e-4."""
    bench = Bench(COUPLED, 5)
    pairs = [bell_state(each) for each in WEIGHTS]
    found: Counter[int | None] = Counter()
    for _ in range(4_000):
        bench.pairs(*pairs)
        found[bench.bell().bell] += 1
        bench.seen.clear()
    assert sum((found[index] - 1_000) ** 2 / 1_000 for index in ALL) < 21.11


# --- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (werner(0.9), werner(0.85), (0.77, None, None, None)),
        ((0.9, 0.06, 0.03, 0.01), (0.8, 0.05, 0.1, 0.05), (0.7265, 0.0955, 0.1175, 0.0605)),
    ],
)
def test_swapped_weights_are_those_of_cases_o9_and_o10(
    first: BellWeights, second: BellWeights, expected: tuple[float | None, ...]
) -> None:
    for bell, state in of_each(COUPLED, bell_state(first), bell_state(second)).items():
        found = budget.relative(bell_weights(state), bell)
        for value, wanted in zip(found, expected, strict=True):
            assert wanted is None or value == pytest.approx(wanted, abs=DIGITS)


def test_a_noisy_swap_has_the_fidelity_of_case_o11_whatever_is_read() -> None:
    gates = MemoryParameters(
        2, two_qubit_fidelity=0.98 + 0.02 / 4, readout=(0.99, 0.99), coupled=((0, 1),)
    )
    pair = bell_state(werner(0.95))
    for bell, state in of_each(gates, pair, pair).items():
        assert fidelity(state, bell) == pytest.approx(0.873278257778, abs=1e-12)


@pytest.mark.parametrize(("segments", "expected"), [(2, 0.903333), (4, 0.819126), (10, 0.626209)])
def test_a_chain_of_swaps_has_the_fidelity_of_case_o12(segments: int, expected: float) -> None:
    slots = 2 * (segments - 1)
    memory = MemoryParameters(slots, coupled=tuple((slot, slot + 1) for slot in range(0, slots, 2)))
    bench = Bench(memory)
    places = [("far", 0), *(("middle", slot) for slot in range(slots)), ("far", 1)]
    for first, second in zip(places[::2], places[1::2], strict=True):
        bench.write(bell_state(werner(0.95)), first, second)
    total = 0
    for slot in range(0, slots, 2):
        bell = bench.bell(slot, slot + 1).bell
        assert bell is not None
        total ^= bell
    assert fidelity(bench.ends(), total) == pytest.approx(expected, abs=5e-7)
    assert register_sizes(bench.world) == [2]


def test_decay_before_the_swap_multiplies_the_coherences_of_both_pairs() -> None:
    """Phi+ halves that wait 30 and 10 ms beside a T2 of 100 ms: F = (1 + exp(-0.4)) / 2."""
    memory = MemoryParameters(2, t2_ns=100_000_000, coupled=((0, 1),))
    bench = Bench(memory)
    pair = states.bell_projector(0)
    bench.write(pair, ("far", 0), ("middle", 0))
    bench.now += 20_000_000
    bench.write(pair, ("far", 1), ("middle", 1))
    bench.now += 10_000_000
    result = bench.bell()
    assert result.bell is not None
    assert (result.held_ns, result.other_held_ns) == (30_000_000, 10_000_000)
    assert fidelity(bench.ends(), result.bell) == pytest.approx((1 + exp(-0.4)) / 2, abs=DIGITS)


# --- against density matrices and against gates one by one ------------------------------------

fidelities = st.floats(0.5, 1.0)
memories = st.builds(
    MemoryParameters,
    communication=st.just(2),
    t1_ns=st.sampled_from((0, 4_000)),
    t2_ns=st.sampled_from((0, 3_000)),
    exponent=st.sampled_from((1.0, 2.0)),
    equilibrium=st.floats(0.0, 1.0),
    gate_ns=st.sampled_from((0, 300)),
    gate_fidelity=fidelities,
    two_qubit_fidelity=fidelities,
    readout_ns=st.just(200),
    readout=st.tuples(fidelities, fidelities),
    coupled=st.just(((0, 1),)),
)


@given(memories, st.integers(0, 1 << 30), st.tuples(st.booleans(), st.booleans()))
def test_what_a_swap_leaves_is_what_its_circuit_leaves_in_density_matrices(
    memory: MemoryParameters, seed: int, bell_diagonal: tuple[bool, bool]
) -> None:
    """Of two Bell-diagonal pairs, of any two states, and of one of each."""
    first, second = (
        bell_state(weights) if diagonal else random_pair(seed + place)
        for place, (weights, diagonal) in enumerate(zip(WEIGHTS, bell_diagonal, strict=True))
    )
    bench = Bench(memory, seed)
    bench.pairs(first, second)
    bench.now = 700
    law = Decay(memory.t1_ns, memory.t2_ns, memory.exponent, memory.equilibrium)
    turned = states.merge(first, states.partial_trace(second, (1, 0)))
    for qubit in (1, 2):
        turned = states.decay(turned, qubit, law, 0, 700)
    expected = by_gates(turned, memory, (700, 700))
    bell = bench.bell().bell
    assert bell is not None
    wanted = expected[bell] / np.trace(expected[bell])
    assert np.allclose(bench.ends(), wanted, atol=1e-9)


def test_how_likely_each_index_is_agrees_with_density_matrices() -> None:
    """4,000 noisy measurements of one state, chi-square, 3 degrees of freedom, false alarm 1e-4."""
    state = random_pair(5)
    whole = states.merge(np.eye(1), state)
    padded = states.merge(np.diag([1.0, 0.0]), whole, np.diag([1.0, 0.0]))
    chances = {b: np.trace(s).real for b, s in by_gates(padded, NOISY, (0, 0)).items()}
    bench = Bench(NOISY, 8)
    found: Counter[int | None] = Counter()
    for _ in range(4_000):
        bench.write(state, ("middle", 0), ("middle", 1))
        found[bench.bell().bell] += 1
        bench.seen.clear()
    assert sum((found[b] - 4_000 * p) ** 2 / (4_000 * p) for b, p in chances.items()) < 21.11
    assert max(chances.values()) > 2 * min(chances.values())


def test_one_command_leaves_the_mean_of_what_gates_and_readouts_one_by_one_leave() -> None:
    """Given the index read, 4,000 swaps by single commands; 5 standard errors of each weight."""
    memory = NOISY
    pair = [bell_state(each) for each in WEIGHTS]
    wanted = of_each(memory, *pair)
    totals: dict[int, list[Any]] = {index: [] for index in ALL}
    bench = Bench(memory, 6)
    for _ in range(4_000):
        bench.seen.clear()
        bench.pairs(*pair)
        bench.send(MemoryGate, "middle", Gate.CNOT, 0, 1, 0.0)
        bench.send(MemoryGate, "middle", Gate.H, 0, None, 0.0)
        for slot in (0, 1):
            bench.send(MemoryMeasure, "middle", slot, PLAIN_Z)
        z, x = (event.outcome for event in bench.of(MemoryResult))
        totals[x << 1 | z].append(bell_weights(bench.ends()))
    for index, seen in totals.items():
        values = np.array(seen)
        error = values.std(axis=0) / np.sqrt(len(values)) + 1e-12
        assert np.all(np.abs(values.mean(axis=0) - bell_weights(wanted[index])) < 5 * error)


@pytest.mark.parametrize("readout", [(0.99, 0.99), (1.0, 0.9)])
def test_the_mean_over_what_is_read_is_the_closed_form_of_the_budget(
    readout: tuple[float, float],
) -> None:
    """With an imperfect H and readout that errs by the value; exact for the mean, not for each."""
    memory = MemoryParameters(
        2, gate_fidelity=0.96, two_qubit_fidelity=0.95, readout=readout, coupled=((0, 1),)
    )
    one, other = (bell_state(each) for each in WEIGHTS)
    whole = states.merge(one, other)
    mean = np.zeros(4)
    for bell, state in by_gates(whole, memory, (0, 0)).items():
        mean += budget.relative(bell_weights(state), bell)
    node = budget.Operations(
        keep_from_fidelity(0.95, 2), sum(readout) / 2, turn=keep_from_fidelity(0.96, 1)
    )
    closed = budget.swap(WEIGHTS[0], WEIGHTS[1], node)
    assert tuple(mean) == pytest.approx(closed, abs=DIGITS)
    for bell, state in of_each(memory, one, other).items():
        found = budget.relative(bell_weights(state), bell)
        same = np.allclose(found, closed, atol=1e-9)
        assert same == (readout[0] == readout[1])


def test_pairs_of_a_real_link_swap_to_a_bell_state() -> None:
    for seed in range(6):
        driver = perfect(seed, memory=COUPLED)
        bells = [make_pair(driver, slot) for slot in (0, 1)]
        result = driver.of(BellResult, driver.send(MemoryBell, "memory-a", 0, 1))[0]
        assert result.bell is not None
        state = pair_state(driver.world, ("memory-b", 0), ("memory-b", 1), driver.now)
        assert fidelity(state, bells[0] ^ bells[1] ^ result.bell) == pytest.approx(1.0)
        assert register_sizes(driver.world) == [2]


def test_a_half_whose_far_end_was_read_already_hands_its_outcome_on() -> None:
    """The far end of one Phi+ is read first: then the other far end is in a known state of Z."""
    bench = Bench(COUPLED)
    bench.pairs(states.bell_projector(0), states.bell_projector(0))
    bench.send(MemoryMeasure, "far", 0, XY_PLAN[Basis.Z])
    outcome = bench.of(MemoryResult)[0].outcome
    bell = bench.bell().bell
    assert bell is not None
    found = qubit_state(bench.world, ("far", 1), bench.now)
    wanted = outcome ^ (bell >> 1)
    assert found[wanted, wanted].real == pytest.approx(1.0)


# --- ends of the command ----------------------------------------------------------------------


def test_a_swap_lasts_two_gates_and_a_readout_and_begins_when_both_slots_are_done() -> None:
    memory = MemoryParameters(2, gate_ns=300, readout_ns=700, coupled=((0, 1),))
    bench = Bench(memory)
    bench.pairs(bell_state(WEIGHTS[0]), bell_state(WEIGHTS[1]))
    bench.now = 1_000
    bench.send(MemoryGate, "middle", Gate.X, 1, None, 0.0)
    result = bench.bell()
    assert bench.now == 1_000 + 300 + 600 + 700
    assert result.held_ns == result.other_held_ns == 1_000 + 300 + 600
    assert (result.slot, result.other) == (0, 1)
    assert running(bench.world) == 0


def test_a_swap_that_fails_tells_no_index_and_entangles_nothing() -> None:
    """Success 1/2 over 400 swaps: 4 binomial errors, false alarm 6e-5."""
    memory = MemoryParameters(2, coupled=((0, 1),), swap_success=0.5)
    failed = 0
    for seed in range(400):
        bench = Bench(memory, seed)
        bench.pairs(states.bell_projector(0), states.bell_projector(3))
        result = bench.bell()
        assert qubits(bench.world) == 2
        if result.bell is None:
            failed += 1
            assert np.allclose(bench.ends(), np.eye(4) / 4)
            assert register_sizes(bench.world) == [1, 1]
        else:
            assert fidelity(bench.ends(), 3 ^ result.bell) == pytest.approx(1.0)
    assert abs(failed - 200) < 40


@pytest.mark.parametrize(
    ("slot", "other", "reason"),
    [
        (0, 2, "not coupled"),
        (0, 0, "not coupled"),
        (0, 3, "holds no qubit"),
        (9, 0, "has no slot 9"),
        (0, 9, "has no slot 9"),
    ],
)
def test_what_cannot_be_swapped_is_rejected_and_left_as_it_is(
    slot: int, other: int, reason: str
) -> None:
    memory = MemoryParameters(4, coupled=((1, 0), (0, 3)))
    bench = Bench(memory)
    for place in range(3):
        bench.write(bell_state(WEIGHTS[0]), ("far", place), ("middle", place))
    command = bench.send(MemoryBell, "middle", slot, other)
    (refusal,) = bench.of(Rejected, command)
    assert reason in refusal.reason
    assert not refusal.late
    assert register_sizes(bench.world) == [2, 2, 2]
    assert bench.bell(0, 1).bell in ALL


def test_a_swap_on_another_device_than_a_memory_is_rejected() -> None:
    driver = perfect(memory=COUPLED)
    command = driver.send(MemoryBell, "emitter-a", 0, 1)
    assert "no memory" in driver.of(Rejected, command)[0].reason


def test_after_an_abort_or_a_fault_under_way_both_qubits_are_gone() -> None:
    memory = MemoryParameters(2, gate_ns=300, coupled=((0, 1),))
    for fault in (False, True):
        bench = Bench(memory)
        bench.pairs(bell_state(WEIGHTS[0]), bell_state(WEIGHTS[1]))
        command = bench.send(MemoryBell, "middle", 0, 1)
        if fault:
            bench.event(Break("middle", DeviceStatus.FAULT, "too warm"))
            assert "too warm" in bench.of(Faulted, command)[0].reason
        else:
            abort = bench.send(Abort, "middle", command)
            assert bench.of(Aborted, command)
            assert bench.of(Completed, abort)
        bench.run_until(10_000)
        assert not bench.of(BellResult)
        assert not bench.world._hall.memories["middle"].qubits
        assert running(bench.world) == 0


def test_the_same_seed_swaps_alike() -> None:
    def history() -> list[Any]:
        bench = Bench(NOISY, 3)
        bench.pairs(bell_state(WEIGHTS[0]), bell_state(WEIGHTS[1]))
        bench.bell()
        return bench.seen

    assert history() == history()


def test_a_memory_draws_nothing_for_a_swap_that_always_succeeds() -> None:
    """So that a datasheet's 1 does not change the history of a seed; one draw is the index's."""
    bench = Bench(COUPLED, 3)
    chance = Chance(3).fork("memory middle")
    for _ in range(20):
        bench.pairs(bell_state(WEIGHTS[0]), bell_state(WEIGHTS[1]))
        assert bench.bell().bell == int(chance.uniform() * 4)


def test_the_checker_of_owners_watches_both_slots_of_a_swap() -> None:
    assert slots_of(MemoryBell("middle", 1, 4, 2)) == (4, 2)

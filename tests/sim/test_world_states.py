"""What the world leaves in its memories: pairs, decay, gates, readout, sources, figures.

Statistical tests: fixed seeds, 4 standard errors (false alarm 6e-5 each), sizes where they stand.
"""

from __future__ import annotations

from math import exp, sqrt

import numpy as np
import pytest

from qstack.messages.common import PLAIN_Z, Basis
from qstack.messages.devices import (
    EmitterHeralded,
    EmitterOutcome,
    Gate,
    MemoryGate,
    MemoryInitialise,
    MemoryMove,
    MemoryResult,
    Rejected,
    StationClicks,
)
from qstack.sim.channels import Fibre
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    MemoryParameters,
    QuantumDotParameters,
    SpdcParameters,
    TrappedIonParameters,
)
from qstack.sim.heralding import AnalyserOptics, ArmOptics, dark_probability, table_for
from qstack.sim.states import Decay, decay, fidelity
from qstack.sim.world import WorldDevice, WorldEnd, WorldLink, WorldParameters
from qstack.sim.world.peek import pair_state, qubit_state, qubits, register_sizes, running
from tests.sim.worlds import (
    CYCLE,
    LONG,
    POLARISATION,
    RANDOM_XYZ,
    WINDOW_PS,
    XY_PLAN,
    A,
    B,
    Driver,
    driver_of,
    make_pair,
    pair_of,
    perfect,
)

SECOND = 1_000_000_000

# --- states ---------------------------------------------------------------------------------


def test_a_pair_is_the_state_of_its_table_even_with_losses_and_darks() -> None:
    emitter = ColourCentreParameters(0.3, alpha=0.2, phase_sigma=0.3, double_excitation=0.05)
    detector = DetectorParameters(0.8, dark_hz=1_000.0)
    analyser = AnalyserParameters("single-click", "detector", visibility=0.9)
    driver = driver_of(emitter=emitter, detector=detector, analyser=analyser)
    driver.open()
    for end in "ab":
        driver.arm(end)
    driver.wait_for(EmitterHeralded, 2)
    captured = 1 - exp(-WINDOW_PS / emitter.lifetime_ps)
    arm = ArmOptics(0.3 * 0.8 * captured, 0.2, 0.05, 0.0, 0.3)
    table = table_for(
        "single-click", arm, arm, AnalyserOptics(0.9, dark_probability(1_000.0, WINDOW_PS))
    )
    clicks = driver.of(StationClicks)[-1].clicks
    state = pair_state(driver.world, A, B, driver.now)
    assert np.allclose(state, table.outcome(clicks).state, atol=1e-11)


def test_lost_charge_mixes_in_attempts_of_a_dark_centre() -> None:
    emitter = ColourCentreParameters(0.3, alpha=0.2, lost_charge=0.1, lifetime_ps=0)
    driver = driver_of(emitter=emitter)
    driver.open()
    for end in "ab":
        driver.arm(end)
    driver.wait_for(EmitterHeralded, 2)
    lit, dark = ArmOptics(0.3, 0.2), ArmOptics(0.0, 0.2)
    clicks = driver.of(StationClicks)[-1].clicks
    mixed = np.zeros((4, 4), complex)
    for a, b, weight in ((lit, lit, 0.81), (lit, dark, 0.09), (dark, lit, 0.09)):
        outcome = table_for("single-click", a, b, AnalyserOptics()).outcome(clicks)
        mixed += weight * outcome.probability * outcome.state
    state = pair_state(driver.world, A, B, driver.now)
    assert np.allclose(state, mixed / np.trace(mixed), atol=1e-11)


def test_o7_relaxation_and_dephasing_of_both_halves() -> None:
    memory = MemoryParameters(4, t1_ns=2 * SECOND, t2_ns=SECOND)
    no_fibre = (Fibre(0.0), Fibre(0.0))
    driver = perfect(memory=memory, fibres=no_fibre)
    pair_of(driver, 2)
    emitted = driver.now
    state = pair_state(driver.world, A, B, emitted + SECOND // 2)
    assert fidelity(state, 2) == pytest.approx(0.573340112121, rel=1e-9)
    driver.send(MemoryGate, "memory-a", Gate.X, 0, None, 0.0)
    state = pair_state(driver.world, A, B, emitted + SECOND // 2)
    assert fidelity(state, 0) == pytest.approx(0.597804658906, rel=1e-9)


def test_o8_psi_plus_after_ten_milliseconds() -> None:
    memory = MemoryParameters(4, t1_ns=SECOND, t2_ns=SECOND // 20)
    driver = perfect(memory=memory, fibres=(Fibre(0.0), Fibre(0.0)))
    pair_of(driver, 2)
    state = pair_state(driver.world, A, B, driver.now + SECOND // 100)
    assert fidelity(state, 2) == pytest.approx(0.83018493989, rel=1e-9)


def test_decay_in_pieces_equals_decay_at_once_for_a_stretched_exponential() -> None:
    memory = MemoryParameters(
        4, t1_ns=5 * SECOND, t2_ns=SECOND, exponent=3.0, equilibrium=0.3, gate_ns=0
    )
    driver = perfect(memory=memory, fibres=(Fibre(0.0), Fibre(0.0)))
    pair_of(driver, 3)
    born = driver.now
    fresh = pair_state(driver.world, A, B, born)
    for step in range(1, 6):
        driver.run_until(born + step * SECOND // 5)
        driver.send(MemoryGate, "memory-a", Gate.RZ, 0, None, 0.0)
    law = Decay(5 * SECOND, SECOND, 3.0, 0.3)
    expected = decay(decay(fresh, 0, law, 0, SECOND), 1, law, 0, SECOND)
    assert np.allclose(pair_state(driver.world, A, B, driver.now), expected, atol=1e-12)


def test_stored_qubits_dephase_with_attempts_beside_them() -> None:
    memory = MemoryParameters(1, 1, attempt_dephasing=0.01, coupled=((0, 1),))
    driver = perfect(memory=memory)
    pair_of(driver, 2)
    driver.send(MemoryInitialise, "memory-a", 1)
    driver.send(MemoryMove, "memory-a", 0, 1)
    before = driver.world.attempted("link")
    stored = ("memory-a", 1)
    assert fidelity(pair_state(driver.world, stored, B, driver.now), 2) == pytest.approx(1.0)
    # End B holds its half in slot 0, so its own attempts need another emitter: measure at once.
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, LONG, cycles=5)
    driver.run_until(driver.now + 20 * CYCLE)
    made = driver.world.attempted("link") - before
    assert made == 40
    state = pair_state(driver.world, stored, B, driver.now)
    assert fidelity(state, 2) == pytest.approx((1 + 0.98**made) / 2)


def test_gates_are_exact_and_depolarise_by_their_average_fidelity() -> None:
    memory = MemoryParameters(2, gate_fidelity=0.97, two_qubit_fidelity=0.95, coupled=((0, 1),))
    driver = perfect(memory=memory)
    driver.send(MemoryInitialise, "memory-a", 0)
    driver.send(MemoryInitialise, "memory-a", 1)
    driver.send(MemoryGate, "memory-a", Gate.H, 0, None, 0.0)
    plus = qubit_state(driver.world, A, 0)
    assert plus[0, 1].real * 2 == pytest.approx(2 * 0.97 - 1)
    driver.send(MemoryGate, "memory-a", Gate.CNOT, 0, 1, 0.0)
    state = pair_state(driver.world, A, ("memory-a", 1), 0)
    keep_one, keep_two = 2 * 0.97 - 1, (4 * 0.95 - 1) / 3
    ideal = keep_one + (1 - keep_one) / 2
    assert fidelity(state, 0) == pytest.approx(keep_two * ideal + (1 - keep_two) / 4)


def test_a_swap_in_a_memory_entangles_what_never_met() -> None:
    """Two pairs, CNOT, H, two readouts at A: slots 0 and 1 of B end in a Bell state."""
    memory = MemoryParameters(2, coupled=((0, 1),))
    for seed in range(6):
        driver = perfect(seed, memory=memory)
        bells = [make_pair(driver, slot) for slot in (0, 1)]
        driver.send(MemoryGate, "memory-a", Gate.CNOT, 0, 1, 0.0)
        assert register_sizes(driver.world) == [4]
        driver.send(MemoryGate, "memory-a", Gate.H, 0, None, 0.0)
        for slot in (0, 1):
            driver.measure("a", slot)
        phase, flip = (e.outcome for e in driver.of(MemoryResult)[-2:])
        bell = bells[0] ^ bells[1] ^ (flip << 1 | phase)
        state = pair_state(driver.world, B, ("memory-b", 1), driver.now)
        assert fidelity(state, bell) == pytest.approx(1.0)
        assert register_sizes(driver.world) == [2]


def test_gates_and_readouts_of_one_slot_wait_for_each_other() -> None:
    memory = MemoryParameters(1, gate_ns=300, readout_ns=700)
    driver = perfect(memory=memory)
    make_pair(driver)
    begun = driver.now
    gate = driver.send(MemoryGate, "memory-a", Gate.X, 0, None, 0.0)
    readout = driver.measure("a")
    driver.run_until(begun + 10_000)
    ends = {getattr(body, "command", None): at for at, _, body in driver.seen}
    assert (ends[gate], ends[readout]) == (begun + 300, begun + 1_000)
    herald = driver.of(EmitterHeralded)[-1]
    born = herald.cycle * CYCLE + 1_000
    assert driver.of(MemoryResult)[0].held_ns == begun + 300 - born


def test_readout_errs_by_the_true_value() -> None:
    """4,000 readouts of each value; 4 binomial errors."""
    memory = MemoryParameters(1, readout=(0.9, 0.7))
    driver = perfect(memory=memory)
    for value, right in ((0, 0.9), (1, 0.7)):
        hits = 0
        for _ in range(4_000):
            driver.send(MemoryInitialise, "memory-a", 0)
            if value:
                driver.send(MemoryGate, "memory-a", Gate.X, 0, None, 0.0)
            result = driver.of(MemoryResult, driver.measure("a"))[0]
            hits += result.outcome == value
            driver.seen.clear()
        assert abs(hits / 4_000 - right) < 4 * sqrt(right * (1 - right) / 4_000)


@pytest.mark.parametrize("kinds", [("keep", "keep"), ("measure", "measure"), ("measure", "keep")])
def test_measured_and_kept_halves_agree_in_every_axis(kinds: tuple[str, str]) -> None:
    """Perfect Psi+-: outcomes along X, Y, Z follow the sign of the pattern, without exception."""
    signs = {2: {Basis.X: 0, Basis.Y: 0, Basis.Z: 1}, 3: {Basis.X: 1, Basis.Y: 1, Basis.Z: 1}}
    driver = perfect(seed=4)
    for basis, plan in XY_PLAN.items():
        for _ in range(60):
            driver.seen.clear()
            for end, kind in zip("ab", kinds, strict=True):
                if kind == "keep":
                    driver.arm(end)
                else:
                    driver.measure_at_once(end, plan, 1)
            for kind in kinds:
                wanted = EmitterHeralded if kind == "keep" else EmitterOutcome
                count = kinds.count(kind)
                while len(driver.of(wanted)) < count:
                    driver.next_events()
            for end, kind in zip("ab", kinds, strict=True):
                if kind == "keep":
                    driver.measure(end, plan=plan)
            outcomes = [e.outcome for e in driver.of(EmitterOutcome)]
            outcomes += [e.outcome for e in driver.of(MemoryResult)]
            bell = dict(POLARISATION.heralding())[driver.of(StationClicks)[0].clicks]
            assert outcomes[0] ^ outcomes[1] == signs[bell][basis]
    assert running(driver.world) == 1


def test_measuring_ends_with_the_last_of_its_pairs() -> None:
    driver = perfect()
    first, second = (driver.measure_at_once(end, RANDOM_XYZ, 13) for end in "ab")
    driver.run_until(200 * CYCLE)
    for command in (first, second):
        found = driver.of(EmitterOutcome, command)
        assert [e.last for e in found] == [False] * 12 + [True]
        assert {e.basis for e in found} <= {Basis.X, Basis.Y, Basis.Z}
    assert len(driver.of(StationClicks)) == 13
    assert qubits(driver.world) == 0


def test_a_frequency_offset_turns_the_phase_with_the_tag() -> None:
    a = ColourCentreParameters(0.01, alpha=0.01, frequency_hz=5e6, lifetime_ps=50_000)
    b = ColourCentreParameters(0.01, alpha=0.01, lifetime_ps=50_000)
    driver = driver_of(emitter=a, other=b)
    driver.open()
    for _ in range(10):
        for end in "ab":
            driver.arm(end)
        driver.wait_for(EmitterHeralded, 2)
        clicks = driver.of(StationClicks)[-1]
        phase = -2 * np.pi * 5e6 * clicks.tags_ps[0] * 1e-12
        turn = np.diag(np.exp(-1j * phase * np.array([0, 0, 1, 1])))
        state = pair_state(driver.world, A, B, driver.now)
        undone = turn @ state @ turn.conj().T
        assert fidelity(undone, {1: 2, 2: 3}[clicks.clicks]) > 0.97


def test_nothing_is_left_after_all_slots_were_measured_or_armed_anew() -> None:
    driver = perfect(memory=MemoryParameters(4))
    for slot in range(4):
        make_pair(driver, slot)
    assert qubits(driver.world) == 8
    assert register_sizes(driver.world) == [2, 2, 2, 2]
    for slot in range(2):
        for end in "ab":
            driver.measure(end, slot)
    for slot in range(2, 4):
        driver.arm("a", slot, not_before=LONG)
    assert register_sizes(driver.world) == [1, 1]
    for slot in range(2, 4):
        driver.arm("b", slot, not_before=LONG)
    assert qubits(driver.world) == 0


# --- other sources --------------------------------------------------------------------------


def source_world(efficiencies: tuple[float, float], mean: float) -> WorldParameters:
    devices = (
        ("source", WorldDevice("station", SpdcParameters(mean, 1.0, lifetime_ps=0))),
        ("emitter-a", WorldDevice("alice", DetectorParameters(efficiencies[0]))),
        ("emitter-b", WorldDevice("bob", DetectorParameters(efficiencies[1]))),
        ("analyser", WorldDevice("station", AnalyserParameters("pair-source", ""))),
    )
    ends = (
        WorldEnd("alice", "emitter-a", "", Fibre(1.0, 0.0)),
        WorldEnd("bob", "emitter-b", "", Fibre(2.0, 0.0)),
    )
    link = WorldLink("link", "midpoint-source", ends, "analyser", 1, "source")
    return WorldParameters(devices, (link,))


def test_a_source_in_the_middle_gives_the_rate_and_errors_of_o23() -> None:
    """Mean pairs .05, efficiencies .1, .2: Q .00220666, E .0376952; 8,000 pairs, 4 errors."""
    driver = Driver(source_world((0.1, 0.2), 0.05), seed=2)
    driver.open(cycle_ns=100)
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, 8_000)
    driver.wait_for(EmitterOutcome, 16_000)
    rate = 8_000 / driver.world.attempted("link")
    assert abs(rate - 0.00220666) < 4 * 0.00220666 / sqrt(8_000)
    ends: dict[str, list[int]] = {"emitter-a": [], "emitter-b": []}
    for event in driver.of(EmitterOutcome):
        ends[event.device].append(event.outcome)
    errors = np.mean(np.array(ends["emitter-a"]) != np.array(ends["emitter-b"]))
    assert abs(errors - 0.0376952) < 4 * sqrt(0.0377 * 0.9623 / 8_000)
    assert {e.clicks for e in driver.of(StationClicks)} == {3}


def test_pair_sources_at_both_ends_herald_and_are_measured() -> None:
    """Low pair number: outcomes along Z differ where both ends clicked (Psi+-); 400 pairs."""
    source = SpdcParameters(0.01, 1.0, lifetime_ps=0)
    driver = driver_of(emitter=source, analyser=POLARISATION)
    driver.open()
    assert driver.of(Rejected, driver.arm("a"))
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, 400)
    driver.wait_for(EmitterOutcome, 800)
    outcomes = [e.outcome for e in driver.of(EmitterOutcome)]
    different = sum(a != b for a, b in zip(outcomes[::2], outcomes[1::2], strict=True))
    assert different > 0.9 * 400


def test_a_quantum_dot_is_measured_and_never_kept() -> None:
    driver = driver_of(emitter=QuantumDotParameters(0.9), analyser=POLARISATION)
    driver.open()
    assert "keep" in driver.of(Rejected, driver.arm("a"))[0].reason
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, 5)
    assert driver.wait_for(EmitterOutcome, 10)[-1].last


# --- published and closed-form figures --------------------------------------------------------


def test_o5_fifty_kilometres_give_the_rate_and_fidelity_of_the_formula() -> None:
    """20,000 pairs in simulated time: 2.82302 per second within 4 / sqrt(20,000); F exact."""
    fibre = Fibre(25.0, 0.2, velocity=2.04e8)
    driver = driver_of(
        emitter=TrappedIonParameters(0.15, lifetime_ps=0, prepare_ns=10_000),
        detector=DetectorParameters(0.8, dark_hz=1.0),
        analyser=AnalyserParameters("polarisation", "detector", visibility=0.9),
        fibres=(fibre, fibre),
    )
    driver.open(cycle_ns=255_098)
    for end in "ab":
        driver.arm(end)
    driver.wait_for(EmitterHeralded, 2)
    bell = dict(POLARISATION.heralding())[driver.of(StationClicks)[-1].clicks]
    state = pair_state(driver.world, A, B, driver.now)
    assert fidelity(state, bell) == pytest.approx(0.949856, abs=1e-5)
    begun = driver.now
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, 20_000)
    driver.wait_for(EmitterOutcome, 40_000)
    rate = 20_000 / ((driver.now - begun) * 1e-9)
    assert abs(rate / 2.82302 - 1) < 4 / sqrt(20_000)


def test_o1_single_click_rate_and_fidelity() -> None:
    """20,000 pairs; p = .00200094 within 4 / sqrt(20,000); F = .87658196 exact (threshold)."""
    driver = driver_of(
        emitter=ColourCentreParameters(0.01, alpha=0.1, lifetime_ps=0, prepare_ns=1_000),
        detector=DetectorParameters(1.0, dark_hz=1.0),
        analyser=AnalyserParameters("single-click", "detector", visibility=0.9),
    )
    driver.open()
    for end in "ab":
        driver.arm(end)
    driver.wait_for(EmitterHeralded, 2)
    bell = {1: 2, 2: 3}[driver.of(StationClicks)[-1].clicks]
    state = pair_state(driver.world, A, B, driver.now)
    assert fidelity(state, bell) == pytest.approx(0.87658195998, abs=1e-8)
    before = driver.world.attempted("link")
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, 20_000)
    driver.wait_for(EmitterOutcome, 40_000)
    attempts = driver.world.attempted("link") - before
    assert abs(20_000 / attempts / 0.00200094400105 - 1) < 4 / sqrt(20_000)

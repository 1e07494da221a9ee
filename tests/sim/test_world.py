"""The world through its hardware port: timing, ends of commands, states, faults.

Statistical tests: fixed seeds, 4 standard errors (false alarm 6e-5 each), sizes where they stand.
"""

from __future__ import annotations

import copy
from math import exp, sqrt

import numpy as np
import pytest

from qstack.errors import ConfigError
from qstack.hal.server import Commanded, OwnerGone
from qstack.messages.common import PLAIN_Z, Basis
from qstack.messages.devices import (
    Abort,
    Aborted,
    Completed,
    DetectorOpen,
    DeviceState,
    DeviceStatus,
    EmitterArm,
    EmitterFired,
    EmitterHeralded,
    EmitterOutcome,
    Exhausted,
    Faulted,
    Gate,
    MemoryGate,
    MemoryInitialise,
    MemoryMove,
    MemoryResult,
    Rejected,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.sim.channels import Fibre
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    MemoryParameters,
    TrappedIonParameters,
)
from qstack.sim.states import fidelity
from qstack.sim.world import World, WorldLink, WorldParameters
from qstack.sim.world.parameters import Break, Mend
from qstack.sim.world.peek import pair_state, qubit_state, qubits, register_sizes, running
from qstack.units import Chance
from tests.sim.worlds import (
    CYCLE,
    LONG,
    PERFECT,
    POLARISATION,
    RANDOM_XYZ,
    WINDOW_PS,
    XY_PLAN,
    A,
    B,
    Driver,
    Layout,
    driver_of,
    make_pair,
    pair_of,
    perfect,
)

# --- timing ---------------------------------------------------------------------------------


def test_clicks_and_heralds_come_when_light_has_travelled() -> None:
    fibres = (Fibre(2.0, 0.0), Fibre(1.0, 0.0))
    driver = perfect(fibres=fibres)
    near, far = fibres[1].delay_ns, fibres[0].delay_ns
    pair_of(driver, 2)
    clicks = driver.of(StationClicks)[-1]
    arrival = clicks.cycle * CYCLE + 1_000 + far
    instants = {owner: at for at, owner, _ in driver.seen[-3:]}
    assert instants == {"station": arrival, "alice": arrival + far, "bob": arrival + near}
    ages = {e.device: e.age_ns for e in driver.of(EmitterHeralded)[-2:]}
    assert ages == {"emitter-a": 2 * far, "emitter-b": 2 * near}
    assert clicks.age_ns == 0
    assert len(clicks.tags_ps) == clicks.clicks.bit_count() == 2


def test_a_late_driver_gets_true_ages() -> None:
    driver = perfect()
    driver.arm("a")
    driver.arm("b")
    driver.now = 40 * CYCLE
    herald = driver.send(DetectorOpen, "detector", 0, owner="station")
    assert herald
    late = [e for e in driver.of(EmitterHeralded) if e.device == "emitter-a"]
    emitted = late[0].cycle * CYCLE + 1_000
    assert late[0].age_ns == driver.now - emitted


def test_an_arm_takes_part_from_the_next_cycle_on() -> None:
    driver = perfect()
    driver.now = 5 * CYCLE
    driver.arm("a", cycles=1)
    driver.arm("b", cycles=1)
    driver.run_until(8 * CYCLE)
    assert driver.world.attempted("link") == 1
    assert len(driver.of(EmitterHeralded)) + len(driver.of(Exhausted)) == 2
    assert all(event.cycle == 6 for event in driver.of(EmitterHeralded))


def test_not_before_is_kept() -> None:
    driver = perfect()
    for end in "ab":
        driver.arm(end, not_before=50)
    found = driver.wait_for(EmitterHeralded, 2)
    assert found[0].cycle == found[1].cycle >= 50


def test_an_exact_arm_whose_cycle_has_begun_is_late() -> None:
    driver = perfect()
    driver.now = 5 * CYCLE
    command = driver.arm("a", not_before=5, exact=True)
    assert driver.of(Rejected, command)[0].late
    command = driver.arm("a", not_before=6, exact=True)
    assert not driver.of(Rejected, command)


def test_tags_follow_the_packet_inside_the_window() -> None:
    """4,000 pairs; exponential tags cut at the window have a known mean: 4 standard errors."""
    dot = ColourCentreParameters(0.5, alpha=0.3, lifetime_ps=500_000, prepare_ns=1_000)
    driver = driver_of(emitter=dot)
    driver.open()
    for end in "ab":
        driver.measure_at_once(end, PLAIN_Z, 4_000)
    driver.run_until(400_000 * CYCLE)
    tags = np.array([tag for e in driver.of(StationClicks) for tag in e.tags_ps])
    assert tags.min() >= 0
    assert tags.max() <= WINDOW_PS
    ratio = WINDOW_PS / 500_000
    mean = 500_000 * (1 - ratio * exp(-ratio) / (1 - exp(-ratio)))
    assert len(tags) == 4_000
    assert abs(tags.mean() - mean) < 4 * tags.std() / sqrt(len(tags))


# --- how commands end -----------------------------------------------------------------------


def test_an_arm_without_success_is_exhausted_with_its_attempts() -> None:
    driver = driver_of(emitter=ColourCentreParameters(0.0, prepare_ns=1_000))
    driver.open()
    first, second = driver.arm("a", cycles=7), driver.arm("b", cycles=20)
    driver.run_until(100 * CYCLE)
    assert driver.of(Exhausted, first)[0].attempts == 7
    assert driver.of(Exhausted, second)[0].attempts == 7
    assert driver.world.attempted("link") == 7
    assert running(driver.world) == 1


def test_an_analyser_is_exhausted_after_its_cycles() -> None:
    driver = driver_of(emitter=ColourCentreParameters(0.0, prepare_ns=1_000))
    opened = driver.open(cycles=5)
    for end in "ab":
        driver.arm(end)
    driver.run_until(50 * CYCLE)
    assert driver.of(Exhausted, opened)[0].attempts == 5
    assert driver.world.attempted("link") == 5


def test_abort_ends_its_target_and_itself() -> None:
    driver = perfect()
    target = driver.arm("a")
    abort = driver.send(Abort, "emitter-a", target)
    assert driver.of(Aborted, target)
    assert driver.of(Completed, abort)
    again = driver.send(Abort, "emitter-a", target)
    assert driver.of(Completed, again)
    assert len(driver.of(Aborted)) == 1
    driver.arm("b")
    driver.run_until(100 * CYCLE)
    assert driver.world.attempted("link") == 0


def test_an_abort_while_the_herald_flies_does_not_call_the_photon_back() -> None:
    driver = perfect(fibres=(Fibre(1.0, 0.0), Fibre(1.0, 0.0)))
    target, other = driver.arm("a"), driver.arm("b")
    driver.wait_for(StationClicks)
    driver.send(Abort, "emitter-a", target)
    assert driver.of(Completed), "the abort itself is done at once"
    driver.run_until(driver.now + 50 * CYCLE)
    assert not driver.of(Aborted, target)
    assert driver.of(EmitterHeralded, target)
    assert driver.of(EmitterHeralded, other)
    assert register_sizes(driver.world) == [2]


def test_an_abort_lets_a_measuring_arm_report_what_is_on_its_way_and_then_ends_it() -> None:
    late = 0
    for seed in range(1, 21):
        driver = perfect(seed, fibres=(Fibre(1.0, 0.0), Fibre(1.0, 0.0)))
        target = driver.measure_at_once("a", PLAIN_Z, 1_000)
        other = driver.measure_at_once("b", PLAIN_Z, 1_000)
        driver.run_until(5 * CYCLE + CYCLE * seed // 20)
        before = len(driver.of(EmitterOutcome, target))
        abort = driver.send(Abort, "emitter-a", target)
        assert driver.of(Completed, abort), "the abort itself is done at once"
        made = driver.world.attempted("link")
        again = driver.send(Abort, "emitter-a", target)
        assert driver.of(Completed, again)
        driver.run_until(driver.now + 50 * CYCLE)
        assert driver.world.attempted("link") == made, "no attempt after the abort"
        clicks = [(event.cycle, event.mode) for event in driver.of(StationClicks)]
        mine, theirs = driver.of(EmitterOutcome, target), driver.of(EmitterOutcome, other)
        assert [(event.cycle, event.mode) for event in mine] == clicks
        assert [(event.cycle, event.mode) for event in theirs] == clicks
        told = [body for _, _, body in driver.seen if getattr(body, "command", 0) == target]
        assert isinstance(told[-1], Aborted)
        assert len(driver.of(Aborted)) == 1
        late += len(mine) - before
    assert late > 0, "nothing was on its way in any of the runs"


def test_a_new_clock_aborts_what_was_armed_on_the_old() -> None:
    driver = perfect()
    driver.run_until(10 * CYCLE)
    arms = [driver.arm(end) for end in "ab"]
    opened = driver.of(Completed)
    driver.send(StationClock, "analyser", "link", CYCLE)
    for arm in arms:
        assert driver.of(Aborted, arm)[0].reason == "clock restarted"
    assert len(driver.of(Aborted)) == 3
    assert opened
    driver.reopen(8)
    for end in "ab":
        driver.arm(end)
    assert driver.wait_for(EmitterHeralded)[0].cycle < 40


def test_a_replaced_opening_ends_and_the_new_one_works() -> None:
    driver = driver_of(emitter=PERFECT, analyser=POLARISATION)
    old = driver.open()
    driver.reopen()
    assert driver.of(Aborted, old)[0].reason == "replaced"
    make_pair(driver)


@pytest.mark.parametrize(
    ("owner", "body"),
    [
        ("alice", EmitterArm("nothing", 900, "link", 0, (), 0, False, 5)),
        ("bob", EmitterArm("emitter-a", 900, "link", 0, (), 0, False, 5)),
        ("alice", EmitterArm("emitter-a", 900, "nowhere", 0, (), 0, False, 5)),
        ("alice", EmitterArm("emitter-a", 900, "link", 16, (), 0, False, 5)),
        ("alice", EmitterArm("emitter-a", 900, "link", 0, (), 0, False, 0)),
        ("alice", MemoryGate("memory-a", 900, Gate.X, 0, None, 0.0)),
        ("alice", MemoryGate("emitter-a", 900, Gate.X, 0, None, 0.0)),
        ("alice", MemoryMove("memory-a", 900, 0, 1)),
        ("alice", MemoryInitialise("memory-a", 900, 99)),
        ("station", DetectorOpen("detector", 900, 0)),
        ("station", StationClock("analyser", 900, "nowhere", 5)),
        ("station", StationClock("analyser", 900, "link", 0)),
        ("station", StationOpen("analyser", 900, "link", (), 0, 0, 1, 5, False)),
    ],
)
def test_what_makes_no_sense_is_rejected_with_a_reason(owner: str, body: object) -> None:
    driver = perfect()
    rejected = driver.event(Commanded(owner, body))
    assert [type(event) for event in rejected] == [Rejected]
    assert rejected[0].command == 900
    assert not rejected[0].late
    assert rejected[0].reason


def test_an_armed_slot_is_busy() -> None:
    driver = perfect()
    driver.arm("a")
    for command in (driver.arm("a"), driver.measure("a")):
        assert "armed" in driver.of(Rejected, command)[0].reason


def test_nothing_is_armed_before_the_clock_starts() -> None:
    driver = driver_of()
    assert "clock" in driver.of(Rejected, driver.arm("a"))[0].reason


def test_an_analyser_serves_one_link_at_a_time_and_takes_its_time_to_switch() -> None:
    made = Layout(
        emitter=PERFECT,
        analyser=AnalyserParameters("polarisation", "detector", switch_ns=5 * CYCLE),
    ).parameters()
    first = made.links[0]
    second = WorldLink("other", first.scheme, first.ends, "analyser", 4)
    driver = Driver(WorldParameters(made.devices, (first, second)))
    opened = driver.open()
    driver.send(StationClock, "analyser", "other", CYCLE)
    rest = ("other", (), 0, LONG, 1, WINDOW_PS, False)
    refused = driver.send(StationOpen, "analyser", *rest)
    assert "open for link" in driver.of(Rejected, refused)[0].reason
    driver.send(Abort, "analyser", opened)
    driver.send(StationOpen, "analyser", *rest)
    for end in "ab":
        driver.send(EmitterArm, f"emitter-{end}", "other", 0, (), 0, False, LONG)
    assert driver.wait_for(EmitterHeralded)[0].cycle > 5


# --- without a herald line ------------------------------------------------------------------


def test_without_a_herald_line_every_attempt_is_reported_and_leaves_a_qubit() -> None:
    ion = TrappedIonParameters(1.0, lifetime_ps=0, prepare_ns=1_000, herald_line=False)
    driver = driver_of(emitter=ion, analyser=POLARISATION)
    driver.open(report_failures=True)
    assert driver.of(Rejected, driver.arm("a", cycles=2))
    for turn in range(1, 201):
        for end in "ab":
            driver.arm(end, not_before=3 * turn, exact=True, cycles=1)
        driver.run_until((3 * turn + 2) * CYCLE)
        clicks = driver.of(StationClicks)[-1]
        fired = driver.of(EmitterFired)[-2:]
        assert len(driver.of(StationClicks)) == turn
        assert {(e.cycle, e.mode, e.slot) for e in fired} == {(3 * turn, 0, 0)}
        state = pair_state(driver.world, A, B, driver.now)
        bell = dict(POLARISATION.heralding()).get(clicks.clicks)
        expected = 0.25 if bell is None else 1.0
        assert fidelity(state, 2 if bell is None else bell) == pytest.approx(expected)
    successes = sum(1 for e in driver.of(StationClicks) if e.clicks)
    assert abs(successes - 100) < 4 * sqrt(50)
    assert driver.world.attempted("link") == 200


# --- faults ---------------------------------------------------------------------------------


def test_a_broken_emitter_fails_what_runs_and_rejects_what_comes() -> None:
    driver = perfect()
    arm = driver.arm("a")
    driver.event(Break("emitter-a", DeviceStatus.FAULT, "laser lost"))
    state = driver.of(DeviceState)[0]
    assert (state.status, state.reason) == (DeviceStatus.FAULT, "laser lost")
    assert "laser lost" in driver.of(Faulted, arm)[0].reason
    assert driver.of(Rejected, driver.arm("a"))
    driver.event(Mend("emitter-a"))
    assert driver.of(DeviceState)[-1].status is DeviceStatus.READY
    make_pair(driver)


def test_a_broken_memory_loses_its_qubits_and_faults_its_arms() -> None:
    driver = perfect()
    make_pair(driver)
    arm = driver.arm("a", 1)
    driver.event(Break("memory-a", DeviceStatus.OFFLINE, "magnet"))
    assert driver.of(Faulted, arm)
    assert qubits(driver.world) == 1
    assert np.allclose(qubit_state(driver.world, B, driver.now), np.eye(2) / 2)
    assert "not ready" in driver.of(Rejected, driver.arm("a"))[0].reason


def test_a_degraded_device_works_on() -> None:
    driver = perfect()
    driver.event(Break("emitter-a", DeviceStatus.DEGRADED, "warm"))
    assert make_pair(driver) in (2, 3)


def test_what_a_vanished_owner_had_ends_without_a_word() -> None:
    driver = perfect()
    make_pair(driver)
    driver.arm("a", 1)
    before = len(driver.seen)
    driver.event(OwnerGone("alice"))
    assert len(driver.seen) == before
    assert qubits(driver.world) == 1
    for end in "ab":
        driver.arm(end, 1)
    driver.wait_for(EmitterHeralded, 2)


def test_contradictory_parameters_are_reported_together() -> None:
    made = Layout().parameters()
    link = made.links[0]
    wrong = WorldLink("wrong", "carrier pigeon", link.ends, "nothing", 1)
    with pytest.raises(ConfigError) as failure:
        World(WorldParameters(made.devices, (wrong,)), Chance(1))
    assert len(failure.value.problems) == 2


def test_a_copy_of_the_world_lives_the_same_life_on_its_own() -> None:
    memory = MemoryParameters(2, 1, t2_ns=10**6, attempt_dephasing=0.01, coupled=((0, 2),))
    driver = perfect(seed=3, memory=memory)
    make_pair(driver)
    for end in "ab":
        driver.send(MemoryInitialise, f"memory-{end}", 2)
        driver.send(MemoryMove, f"memory-{end}", 0, 2)
        driver.measure_at_once(end, RANDOM_XYZ, 30)
    twin = copy.deepcopy(driver)
    histories = []
    for each in (driver, twin):
        each.run_until(each.now + 100 * CYCLE)
        for end in "ab":
            each.measure(end, 2, XY_PLAN[Basis.X])
        histories.append((each.seen, each.world.attempted("link"), qubits(each.world)))
    assert histories[0] == histories[1]
    assert len(driver.of(MemoryResult)) == 2


def test_one_seed_makes_one_history() -> None:
    def history(seed: int) -> list[object]:
        driver = driver_of(seed)
        driver.open()
        for end in "ab":
            driver.measure_at_once(end, RANDOM_XYZ, 20)
        driver.wait_for(EmitterOutcome, 40)
        return [*driver.seen]

    assert history(5) == history(5)
    assert history(5) != history(6)

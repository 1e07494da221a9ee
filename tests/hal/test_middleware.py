"""Recorder, faults and server: wrappers that behave the same wherever they stand."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from qstack.drivers.devices import LocalDevices
from qstack.errors import ConfigError
from qstack.hal.commands import ends
from qstack.hal.contract import Session
from qstack.hal.middleware import FaultPlan, Faults, Recorder, differs
from qstack.hal.replay import ReplayDetector
from qstack.hal.served import Served
from qstack.hal.server import Commanded, OwnerGone, Reported
from qstack.machine import TICK, Up
from qstack.messages.devices import (
    Abort,
    BellResult,
    Completed,
    DetectorOpen,
    Faulted,
    MemoryBell,
    MemoryInitialise,
    Rejected,
    StationClicks,
    StationClock,
    StationOpen,
    Tags,
)
from qstack.sim.heap import WORLD
from qstack.testing import terms
from qstack.units import Chance
from tests.hal.benches import (
    CYCLE,
    LONG,
    OPEN,
    WINDOW_PS,
    example_module,
    replay,
    sim_memory,
)
from tests.hal.test_replay import drain
from tests.whole.rig import Rig


def tagger(clicks: int = 400) -> ReplayDetector:
    """One click, and so one report, in each microsecond."""
    return ReplayDetector("d", tuple((0, 1_000_000 * n) for n in range(clicks)), 1_000)


def opened(device: Any) -> list[tuple[int, Any]]:
    device.handle(DetectorOpen("d", 1, 0), 0)
    return drain(device)


def test_a_recording_replays_and_the_first_difference_is_named() -> None:
    recorder = Recorder(tagger(20))
    opened(recorder)
    assert len(recorder.steps) == 21
    assert differs(recorder.steps, tagger(20)) is None
    other = differs(recorder.steps, tagger(19))
    assert other is not None
    assert other.answers[-1] == Completed("d", 1)


def test_a_recorder_forgets_the_oldest_steps_beyond_its_bound() -> None:
    recorder = Recorder(tagger(20), keep=5)
    opened(recorder)
    assert [step.now for step in recorder.steps] == [16_000, 17_000, 18_000, 19_000, 20_000]


def test_no_faults_change_nothing_at_all() -> None:
    assert opened(Faults(tagger(), FaultPlan(), Chance(1))) == opened(tagger())


def test_one_seed_gives_one_history_of_faults() -> None:
    plan = FaultPlan(late=0.3, late_ns=2_500, dropped=0.2, faulted=0.001)
    first, second, other = (opened(Faults(tagger(), plan, Chance(seed))) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize(
    "plan",
    [
        FaultPlan(late=1.0, late_ns=2_500),
        FaultPlan(dropped=1.0),
        FaultPlan(faulted=1.0),
    ],
)
def test_a_bell_result_comes_late_or_as_a_fault_but_is_never_lost(plan: FaultPlan) -> None:
    memory = sim_memory().make()
    for number, slot in ((1, 0), (2, 2)):
        memory.handle(MemoryInitialise("memory-a", number, slot), 0)
    begun = drain(memory)[-1][0]
    faults = Faults(memory, plan, Chance(1))
    seen = [(begun, body) for body in faults.handle(MemoryBell("memory-a", 3, 0, 2), begun)]
    seen += drain(faults)
    ((at, result),) = seen
    if plan.faulted:
        assert result == Faulted("memory-a", 3, "injected fault")
    else:
        assert isinstance(result, BellResult)
        # |00>: the sign of ZZ is certain. Held since the beginning, through both gates.
        assert result.bell in (0, 1)
        assert (result.held_ns, result.other_held_ns) == (begun + 1_000, begun + 1_000)
    assert at == begun + 2 * 500 + 900 + plan.late_ns


def test_dropped_reports_are_counted_and_the_terminal_event_is_not_among_them() -> None:
    faults = Faults(tagger(), FaultPlan(dropped=0.25), Chance(1))
    seen = opened(faults)
    assert seen[-1][1] == Completed("d", 1)
    assert len(seen) - 1 == 400 - faults.counters["dropped"]
    # 400 draws at 1/4: 100 with a deviation of 8.7; 5 of them, false alarm 6e-7.
    assert abs(faults.counters["dropped"] - 100) < 44
    assert opened(Faults(tagger(), FaultPlan(dropped=1.0), Chance(1))) == [
        (400_000, Completed("d", 1))
    ]


def test_late_events_keep_their_order_and_say_their_age() -> None:
    faults = Faults(tagger(), FaultPlan(late=0.5, late_ns=7_300), Chance(3))
    plain, late = opened(tagger()), opened(faults)
    assert [event for _, event in late] == [event for _, event in plain]
    delays = [after - before for (before, _), (after, _) in zip(plain, late, strict=True)]
    assert min(delays) == 0
    assert max(delays) == 7_300
    assert faults.counters["late"] > 100

    module = example_module()
    fpga = module.EmulatedFpga("analyser", module.Behaviour(1.0), Chance(1))
    aged = Faults(fpga, FaultPlan(late=1.0, late_ns=7_300), Chance(3))
    aged.handle(StationClock("analyser", 1, "link", CYCLE), 0)
    aged.handle(StationOpen("analyser", 2, "link", (), 0, 3, 1, WINDOW_PS, False), 10)
    clicks = [(now, e) for now, e in drain(aged) if isinstance(e, StationClicks)]
    assert [(now, e.age_ns) for now, e in clicks] == [
        (27_300, 7_300),
        (37_300, 7_300),
        (47_300, 7_300),
    ]


def test_a_faulted_command_ends_once_and_the_device_is_free_again() -> None:
    faults = Faults(tagger(), FaultPlan(faulted=1.0), Chance(1))
    assert opened(faults) == [(1_000, Faulted("d", 1, "injected fault"))]
    assert faults.handle(DetectorOpen("d", 2, 0), 5_000) == []
    assert faults.handle(Abort("d", 3, 2), 5_100) == [
        Faulted("d", 2, "injected fault"),
        Completed("d", 3),
    ]


def test_a_rejection_is_no_fault() -> None:
    faults = Faults(tagger(), FaultPlan(faulted=1.0), Chance(1))
    faults.handle(DetectorOpen("d", 1, 0), 0)
    (answer,) = faults.handle(DetectorOpen("d", 2, 0), 0)
    assert isinstance(answer, Rejected)


@pytest.mark.parametrize(
    "plan", [FaultPlan(late=1.1), FaultPlan(dropped=-0.1), FaultPlan(late_ns=-1)]
)
def test_a_plan_that_is_none_is_refused(plan: FaultPlan) -> None:
    with pytest.raises(ConfigError):
        Faults(tagger(), plan, Chance(1))


def served() -> Served:
    return Served({"d": tagger(), "e": replay().make()}, {"d": "alice", "e": "bob"})


def bodies(ups: list[Any]) -> list[tuple[str, Any]]:
    return [(up.event.owner, up.event.body) for up in ups]


def test_a_server_lets_each_owner_command_its_own_devices_only() -> None:
    server = served()
    assert server.handle(Commanded("alice", DetectorOpen("d", 1, 0)), 0) == []
    for wrong in (Commanded("bob", DetectorOpen("d", 1, 0)), Commanded("bob", Abort("x", 2, 1))):
        ((owner, body),) = bodies(server.handle(wrong, 0))
        assert (owner, type(body)) == ("bob", Rejected)
    ((_, body),) = bodies(server.handle(Commanded("alice", DetectorOpen("d", 1, 0)), 0))
    assert "runs already" in body.reason
    assert server.deadline == 1_000
    assert bodies(server.handle(TICK, 1_000)) == [("alice", Tags("d", 1, ((0, 0),)))]


def test_what_a_lost_owner_had_running_ends_without_a_word() -> None:
    server = served()
    server.handle(Commanded("alice", DetectorOpen("d", 1, 0)), 0)
    assert server.handle(OwnerGone("alice"), 500) == []
    assert server.deadline is None
    # A new life of the owner counts its commands from 1 again.
    assert server.handle(Commanded("alice", DetectorOpen("d", 1, 0)), 600) == []
    assert bodies(server.handle(TICK, 1_600)) == [("alice", Tags("d", 1, ((0, 0),)))]


def test_faults_around_a_server_are_those_around_its_device() -> None:
    plan = FaultPlan(late=0.3, late_ns=2_500, dropped=0.2, faulted=0.002)
    alone = opened(Faults(tagger(), plan, Chance(1)))
    outside = Faults(Served({"d": tagger()}, {"d": "alice"}), plan, Chance(1))
    outside.handle(Commanded("alice", DetectorOpen("d", 1, 0)), 0)
    seen = [(now, up.event.body) for now, up in drain(outside)]
    assert seen == alone


def test_faults_tell_a_lost_owner_nothing_and_its_next_life_everything() -> None:
    plan = FaultPlan(late=1.0, late_ns=100_000)
    server = Faults(Served({"d": tagger()}, {"d": "alice"}), plan, Chance(1))
    server.handle(Commanded("alice", DetectorOpen("d", 1, 0)), 0)
    server.handle(TICK, 1_000)
    assert server.handle(OwnerGone("alice"), 1_500) == []
    assert server.deadline is None
    server.handle(Commanded("alice", DetectorOpen("d", 1, 0)), 2_000)
    (up,) = [answer for _, answer in drain(server)][:1]
    assert up == Up(Reported("alice", Tags("d", 1, ((0, 0),))))


def test_a_faulty_analyser_still_ends_every_command_on_a_bench() -> None:
    module = example_module()
    fpga = module.EmulatedFpga("analyser", module.Behaviour(0.5), Chance(1))
    faults = Faults(fpga, FaultPlan(0.5, 3_000, 0.3, 0.05), Chance(2))
    bench = replay()
    session = Session(type(bench)("analyser", bench.make, (), (), 3_000, LONG), faults)
    session.send(StationClock("analyser", 0, "link", CYCLE))
    session.run(10_000)
    openings = [session.send(OPEN)]
    for _ in range(20):
        session.run(500_000)
        if openings[-1] in session.ended:
            openings.append(session.send(OPEN))
    session.finish()
    assert len(openings) > 2
    assert all(ends(session.ended[number]) for number in openings)


def test_a_network_whose_hardware_is_late_lossy_and_faulty_delivers_true_pairs() -> None:
    rig = Rig(seed=5)
    plan = FaultPlan(late=0.05, late_ns=50_000, dropped=0.05, faulted=0.02)
    faults = Faults(rig.net.world, plan, Chance(8))
    rig.heap.add(WORLD, faults)
    truth = rig.truth()
    rig.alice.keep(terms("bob", 300))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    assert min(faults.counters.values()) > 5
    assert rig.alice.done
    fidelities = [fidelity for _, fidelity, _ in truth.fidelities]
    assert len(fidelities) >= 300 - len(truth.gone)
    # The design says 0.94 for each; halves of different pairs would give 0.25 to 0.5.
    assert min(fidelities) > 0.9
    assert rig.free_slots() == (4, 4)


def test_a_recorded_world_replays_to_the_last_event() -> None:
    rig = Rig(seed=6)
    recorder = Recorder(rig.net.world, keep=1_000_000)
    rig.heap.add(WORLD, recorder)
    twin = copy.deepcopy(rig.net.world)
    rig.alice.keep(terms("bob", 60))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    assert len(recorder.steps) > 100
    assert differs(recorder.steps, twin) is None


def test_a_wrapped_device_is_driven_live_as_it_is() -> None:
    local = LocalDevices({"d": Recorder(Faults(tagger(3), FaultPlan(1.0, 700), Chance(1)))})
    assert local.command("d", DetectorOpen("d", 1, 0), 0) == []
    seen = []
    while (deadline := local.deadline) is not None:
        seen += [(deadline, event) for event in local.tick(deadline)]
    assert [now for now, _ in seen] == [1_700, 2_700, 3_700, 3_700]
    assert seen[-1][1] == Completed("d", 1)

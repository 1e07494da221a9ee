"""Faults as values, and as what happens to a network that they are played on."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.errors import ConfigError
from qstack.messages.devices import DeviceStatus
from qstack.sim.clocks import NodeClock
from qstack.sim.faults import KINDS, Fault, Places
from qstack.sim.heap import WORLD
from qstack.sim.network import Surroundings
from qstack.sim.playing import play
from qstack.sim.schedule import Schedule, check, draw, read
from qstack.testing import check_same_pairs, terms
from qstack.units import MICROSECOND, MILLISECOND, SECOND
from tests.whole.rig import Lab, Rig

PLACES = Places(("alice", "bob"), ("station",), ("alice.emitter", "station.analyser"))
SPAN = 20 * MILLISECOND


# --- schedules as values ------------------------------------------------------------------------


def test_a_schedule_reads_back_from_its_line_as_the_same_value() -> None:
    for seed in range(50):
        schedule = draw(seed, KINDS, PLACES, SPAN)
        assert "\n" not in schedule.line()
        assert read(schedule.line()) == schedule
        check(schedule, PLACES)
        assert {fault.kind for fault in schedule.faults} == set(KINDS)
        assert all(0 <= fault.at_ns < SPAN for fault in schedule.faults)


def test_leaving_out_a_kind_of_fault_does_not_change_the_others() -> None:
    for seed in range(20):
        every = draw(seed, KINDS, PLACES, SPAN)
        fewer = draw(seed, sorted(KINDS)[::2], PLACES, SPAN)
        left = [fault for fault in every.faults if fault.kind in sorted(KINDS)[::2]]
        assert list(fewer.faults) == left
        assert draw(seed + 1, KINDS, PLACES, SPAN) != every


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "no schedule"),
        ('{"faults":[]}', "heal_at_ns"),
        ('{"heal_at_ns":-1,"faults":[]}', "no duration"),
        ('{"heal_at_ns":1,"faults":[{"kind":"rain","at_ns":0,"for_ns":1}]}', "rain"),
        ('{"heal_at_ns":1,"faults":[{"kind":"loss","for_ns":1}]}', "at_ns"),
        ('{"heal_at_ns":1,"faults":[{"kind":"loss","at_ns":0,"for_ns":1,"rate":2}]}', "loss = 2"),
        ('{"heal_at_ns":1,"faults":[{"kind":"loss","at_ns":0,"for_ns":1,"bits":2}]}', "'bits'"),
        ('{"heal_at_ns":1,"faults":[{"kind":"loss","at_ns":-1,"for_ns":1}]}', "negative"),
        ('{"heal_at_ns":1,"faults":[],"seed":1}', "seed"),
    ],
)
def test_a_line_that_is_no_schedule_is_refused_with_the_reason(line: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(line)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("crash-node", 0, 1, ("station",)),
        Fault("crash-station", 0, 1),
        Fault("hardware-fail", 0, 1, ("bob.emitter",)),
        Fault("clock-drift", 0, 1, ("mallory",)),
        Fault("loss", 0, 1, ("alice", "bob", "station")),
        Fault("partition", 0, 1, ("alice",), ("mallory",)),
    ],
)
def test_a_fault_at_a_place_that_the_network_has_not_is_refused(fault: Fault) -> None:
    with pytest.raises(ConfigError):
        check(Schedule((fault,), SPAN), PLACES)


def test_a_kind_of_fault_that_does_not_exist_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match="earthquake"):
        draw(1, ["loss", "earthquake"], PLACES, SPAN)


# --- played on a network --------------------------------------------------------------------


def under(fault: Fault, seed: int = 1) -> Rig:
    """Play one fault from 1 ms on, for the middle of a request of 200 pairs; all must come."""
    rig = Rig(seed=seed)
    truth = rig.truth()
    schedule = Schedule((fault,), SECOND)
    player = play(rig.net, schedule)
    rig.alice.keep(terms("bob", 200))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished(), 5 * SECOND)
    rig.settle()
    assert player.played == {fault.kind: 1}
    assert not player.active
    assert [done.delivered for done in rig.alice.done] == [200]
    check_same_pairs(rig.alice, rig.bob)
    # A lost photon cannot lower it, only both emitters firing: 0.9375; wrong halves give 1/2.
    assert min(fidelity for _, fidelity, _ in truth.fidelities) > 0.6
    assert rig.free_slots() == (4, 4)
    return rig


def fault(kind: str, *where: str, **amounts: float) -> Fault:
    return Fault(kind, MILLISECOND, 5 * MILLISECOND, where, (), tuple(amounts.items()))


def fate(rig: Rig, name: str) -> int:
    """How many datagrams met this fate, over all wires."""
    return sum(dict(counts.fates).get(name, 0) for counts in rig.heap.wires.values())


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (fault("loss", rate=0.3, burst=5), "lost"),
        (fault("duplicate", rate=0.5), "duplicated"),
        (fault("reorder", rate=0.5, reorder_ns=300_000), "held"),
        (fault("corrupt", rate=0.2), "checksum"),
        (fault("bandwidth", bits_per_s=1e6, queue_bytes=200), "queue"),
        (fault("partition", "station"), "cut"),
        (fault("partition", "bob", one_way=1), "cut"),
    ],
)
def test_a_fault_of_wires_costs_datagrams_but_no_pair(given: Fault, name: str) -> None:
    rig = under(given)
    assert fate(rig, name) > 3
    sent = {ends: counts.sent for ends, counts in rig.heap.wires.items()}
    rig.settle()
    before = fate(rig, name)
    rig.alice.keep(terms("bob", 50))
    rig.run(lambda: rig.alice.finished(2), SECOND)
    assert fate(rig, name) == before, "the wires are whole again"
    assert any(counts.sent > sent[ends] for ends, counts in rig.heap.wires.items())


@pytest.mark.parametrize("one_way", [0, 1])
def test_a_partition_cuts_between_the_two_sets_that_it_names_alone(one_way: int) -> None:
    given = Fault("partition", 0, 50 * MILLISECOND, ("bob",), ("alice",), (("one_way", one_way),))
    rig = Rig(seed=1)
    play(rig.net, Schedule((given,), SECOND))
    rig.alice.keep(terms("bob", 5))
    rig.run(rig.alice.finished)
    cut = {ends for ends, counts in rig.heap.wires.items() if dict(counts.fates).get("cut")}
    assert cut == {("bob", "alice")} | (set() if one_way else {("alice", "bob")})


def test_a_wire_fault_that_names_nobody_leaves_the_wires_of_users_alone() -> None:
    rig = under(fault("loss", rate=1.0))
    lost = {ends for ends, counts in rig.heap.wires.items() if dict(counts.fates).get("lost")}
    assert lost
    assert not any("user-alice" in ends or "user-bob" in ends for ends in lost)


@pytest.mark.parametrize("kind", ["hardware-fail", "hardware-stall"])
@pytest.mark.parametrize("device", ["alice.emitter", "station.analyser"])
def test_hardware_that_fails_or_stalls_makes_no_pairs_meanwhile(kind: str, device: str) -> None:
    rig = under(fault(kind, device))
    gaps = [b - a for (a, _), (b, _) in zip(rig.alice.pairs, rig.alice.pairs[1:], strict=False)]
    assert max(gaps) > 4 * MILLISECOND, "five, less what was on its way"


def test_late_hardware_reports_all_with_ages_that_tell_the_truth() -> None:
    """40 us late for 5 ms: every age in those reports is 40 us more than the optics alone say."""
    rig = Rig(seed=1)
    ages: set[int] = set()

    def watch(name: str, event: Any, now: int, actions: list[Any]) -> None:
        if name == "alice" and hasattr(getattr(event, "event", None), "age_ns"):
            ages.add(event.event.age_ns)

    rig.heap.watch = watch
    given = fault("hardware-late", "alice.emitter", late_ns=40 * MICROSECOND)
    player = play(rig.net, Schedule((given,), SECOND))
    rig.alice.keep(terms("bob", 200))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished(), 5 * SECOND)
    assert player.played == {"hardware-late": 1}
    # Half a microsecond of fibre to the station and back; reports of one device may not overtake.
    plain = min(ages)
    assert plain == 980
    assert plain + 40 * MICROSECOND in ages
    assert all(age in (plain, plain + 40 * MICROSECOND) or age < 41_000 for age in ages)


def test_a_crashed_process_has_a_new_boot_id_and_is_whole_when_the_last_crash_ends() -> None:
    rig = Rig(seed=3)
    boots = {name: rig.net.host(name).boot for name in ("bob", "station")}
    faults = (
        Fault("crash-node", MILLISECOND, 4 * MILLISECOND, ("bob",)),
        Fault("crash-node", 2 * MILLISECOND, 8 * MILLISECOND, ("bob",)),
        Fault("crash-station", 3 * MILLISECOND, SECOND, ("station",)),
    )
    begun = rig.heap.now
    play(rig.net, Schedule(faults, 20 * MILLISECOND))
    lives = []
    for _ in range(25):
        rig.heap.run(rig.heap.now + MILLISECOND)
        if not (rig.heap.lives("bob") and rig.heap.lives("station")):
            lives.append((rig.heap.now - begun) // MILLISECOND)
    assert lives == list(range(1, 20)), "down from 1 ms, up again at 20 ms when all heals"
    for name, boot in boots.items():
        assert rig.net.host(name).boot not in (0, boot)


def test_clocks_that_are_wrong_cost_no_pair() -> None:
    """Three parties, each with another origin and rate of its clock, up to 100 ppm."""
    clocks = (
        ("alice", NodeClock(10**15, 10**8)),
        ("bob", NodeClock(5 * 10**12, -(10**8))),
        ("station", NodeClock(0, 3 * 10**7)),
    )
    rig = Rig(seed=2, surroundings=Surroundings(clocks=clocks))
    truth = rig.truth()
    rig.alice.keep(terms("bob", 300))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished(), 5 * SECOND)
    rig.settle()
    assert [done.delivered for done in rig.bob.done] == [300]
    assert rig.heap.time_of("alice") - rig.heap.now == 10**12 + rig.heap.now // 10_000
    assert min(fidelity for _, fidelity, _ in truth.fidelities) > 0.6
    assert not rig.alice.expired


def test_a_station_s_computer_that_drifts_against_its_hardware_voids_no_click() -> None:
    """100 ppm for 25 s: 2.5 ms, five times the time that a click has to reach the station."""
    clocks = (("station", NodeClock(drift_ppt=10**8)),)
    lab = Lab(efficiency=0.001, confirm_ns=500_000)
    rig = Rig(lab, seed=2, surroundings=Surroundings(clocks=clocks))
    rig.alice.keep(terms("bob", 10_000))
    rig.settle(25 * SECOND)
    assert "late" not in rig.net.host("station").physical.report()["ab"]
    assert len(rig.alice.pairs) > 1_000


def test_a_clock_fault_drifts_at_once_and_shows_its_offset_in_the_next_life() -> None:
    rig = Rig(seed=2)
    faults = (
        Fault("clock-offset", 0, SECOND, ("bob",), (), (("offset_ps", 7e15),)),
        Fault("clock-drift", 0, SECOND, ("bob",), (), (("drift_ppt", 1e9),)),
        Fault("crash-node", SECOND // 2, MILLISECOND, ("bob",)),
    )
    begun = rig.heap.now
    play(rig.net, Schedule(faults, 2 * SECOND))
    rig.heap.run(begun + SECOND // 4)
    assert rig.heap.time_of("bob") - rig.heap.now == SECOND // 4_000
    rig.heap.run(begun + SECOND // 2 + MILLISECOND)
    assert rig.heap.time_of("bob") - rig.heap.now == 7 * 10**12
    rig.heap.run(begun + 2 * SECOND)
    wrong = rig.heap.time_of("bob") - rig.heap.now
    rig.heap.run(begun + 3 * SECOND)
    assert rig.heap.time_of("bob") - rig.heap.now == wrong, "it is at the right rate again"


def test_a_device_that_two_faults_break_is_mended_when_both_are_over() -> None:
    rig = Rig(seed=2)
    faults = (
        Fault("hardware-fail", 0, 2 * MILLISECOND, ("alice.emitter",)),
        Fault("hardware-fail", MILLISECOND, 3 * MILLISECOND, ("alice.emitter",)),
    )
    states: list[tuple[int, DeviceStatus]] = []
    begun = rig.heap.now

    def watch(name: str, event: Any, now: int, actions: list[Any]) -> None:
        states.extend(
            (now - begun, up.event.body.status)
            for up in actions
            if name == WORLD and hasattr(up.event.body, "status")
        )

    rig.heap.watch = watch
    play(rig.net, Schedule(faults, SECOND))
    rig.settle(10 * MILLISECOND)
    assert states[0] == (0, DeviceStatus.FAULT)
    assert states[-1] == (4 * MILLISECOND, DeviceStatus.READY)
    assert [status for _, status in states].count(DeviceStatus.READY) == 1

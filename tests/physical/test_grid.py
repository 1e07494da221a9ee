"""Attempts without a herald line: both ends find the same cycles, whatever the wire does."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.messages import devices as dev
from qstack.physical.filling import Filling
from qstack.physical.grid import FIRST_LEAD, LATE_IN_A_ROW, Grid, power_above
from tests.physical.physical_lab import CYCLE, NAMES, Faults, Lab, job, parameters

MS = 1_000_000


def grid_of(lab: Lab, name: str) -> Grid:
    filling: Filling = lab.nodes[name]._filling
    assert filling.grid is not None
    return filling.grid


def lab_of(faults: Faults, confirm_ns: int, memories: int, seed: int = 1) -> Lab:
    link: Any = parameters(modes=memories, memories=memories, herald_line=False)
    return Lab(seed, 0.3, faults, attrs.evolve(link, confirm_ns=confirm_ns))


WIRES = [
    Faults(delay=(0, 0)),
    Faults(delay=(50_000, 50_000)),
    Faults(delay=(MS, MS)),
    Faults(delay=(20_000, 120_000), hop=(100, 30_000)),
    Faults(delay=(50_000, 50_000), loss=0.1, duplicate=0.1),
    Faults(delay=(MS, 2 * MS), hop=(500, 90_000), loss=0.1),
]


@pytest.mark.parametrize("memories", [1, 3])
@pytest.mark.parametrize("faults", WIRES)
def test_ends_that_start_out_of_phase_meet_in_the_same_cycles(
    faults: Faults, memories: int
) -> None:
    """Twelve pairs come within a hundred confirmation times, whatever the phase of the start."""
    confirm_ns = 400_000 if faults.delay[1] < MS else 8 * MS
    for phase in (1, 7_300, 333_333):
        lab = lab_of(faults, confirm_ns, memories, seed=phase)
        lab.jobs, lab.done = [job(1, 12)], {name: [0] for name in NAMES}
        lab.connect()
        lab.serve("alice")
        lab.run(lab.now + phase)
        lab.serve("bob")
        lab.run(lab.now + 100 * confirm_ns)
        assert lab.sequences("alice") == lab.sequences("bob")
        assert lab.sequences("alice") == [(100, n) for n in range(1, 13)]
        assert not lab.missing("alice")
        assert not lab.missing("bob")
        lab.rested()


def test_a_restarted_station_is_not_aimed_at_by_the_clock_of_its_former_life() -> None:
    """The former clock was 50 ms ahead: at that distance eight pairs would take a second."""
    confirm_ns = 400_000
    lab = lab_of(Faults(delay=(50_000, 50_000)), confirm_ns, 1)
    lab.jobs, lab.done = [job(1, 4)], {name: [0] for name in NAMES}
    lab.connect()
    for name in NAMES:
        lab.serve(name)
    lab.run(lab.now + 50 * MS)
    assert len(lab.sequences("alice")) == 4
    lab.restart_station()
    lab.jobs, lab.done = [job(2, 8)], {name: [0] for name in NAMES}
    for name in NAMES:
        lab.serve(name)
    lab.run(lab.now + 100 * confirm_ns)
    assert len(lab.sequences("alice")) == len(lab.sequences("bob")) == 12
    lab.rested()


def test_ends_with_unlike_ports_use_nested_grids() -> None:
    """The slow end's grid is coarser; nearly all of its attempts find the other end armed."""
    lab = lab_of(Faults(delay=(20_000, 20_000)), 400_000, 1)
    lab.hardware.success = 0.05
    later = lab.later

    def slow(who: str, port: str, command: object) -> None:
        if who == "bob":
            lab.at(lab.now + 150_000, lambda: later(who, port, command))
        else:
            later(who, port, command)

    lab.later = slow  # type: ignore[method-assign]  # a port slower than the faults make it
    lab.start(job(1, 6))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 7)]
    one, other = (grid_of(lab, name) for name in NAMES)
    assert one.spacing < other.spacing
    assert other.lead > 150_000 // CYCLE // 2
    assert lab.counts["EmitterArm"] < 6 * lab.hardware.tokens


def test_an_end_alone_arms_nothing_until_the_station_has_paired_it() -> None:
    lab = lab_of(Faults(), 400_000, 2)
    lab.jobs, lab.done = [job(1, 3)], {name: [0] for name in NAMES}
    lab.connect()
    lab.serve("alice")
    lab.run(5 * MS)
    assert "EmitterArm" not in lab.counts


def test_an_end_that_nobody_meets_tries_ever_more_rarely() -> None:
    """Bob's commands vanish: alice's cost stays bounded, a few per confirmation time."""
    lab = lab_of(Faults(), 400_000, 1)
    lab.hardware.fail = lambda who, command: (
        dev.Exhausted("bob-emitter", command.command, 0)
        if who == "bob" and isinstance(command, dev.EmitterArm)
        else None
    )
    lab.hardware.success = 1.0
    lab.start(job(1, 1))
    lab.run(40 * 400_000)
    grid = grid_of(lab, "alice")
    arms = lab.counts["EmitterArm"]
    assert lab.hardware.tokens == 0
    assert arms <= 3 * 40 * 400_000 // (grid.spacing * CYCLE)


def test_a_late_command_aims_further_ahead_and_at_last_asks_the_station() -> None:
    grid = Grid(1_000, 20_000, 400_000)
    grid.told(1_000, 0)
    aims = []
    for _ in range(LATE_IN_A_ROW):
        aim = grid.aim(0, 0)
        assert aim is not None
        aims.append(aim)
        grid.late(aim, 0)
    assert aims == sorted(set(aims))
    assert grid.lead == 400 + FIRST_LEAD
    assert grid.aim(0, 0) is None
    grid.told(5_000, 10)
    aim = grid.aim(0, 10)
    assert aim is not None
    assert aim > 5_000
    for cycle in range(6_000, 6_000 + 64 * 64):
        grid.emitted(cycle, cycle * 1_000, cycle * 1_000)
    assert grid.lead == FIRST_LEAD


def test_the_spacing_follows_the_turnaround_but_not_a_single_lost_word() -> None:
    grid = Grid(1_000, 20_000, 400_000)
    grid.told(0, 0)
    first = grid.spacing
    assert first == power_above(4 * 20 + 8) == 128
    grid.resolved(10, 10_000 + 900_000)
    assert grid.spacing == first
    for cycle in (1_000, 3_000, 5_000):
        grid.resolved(cycle, (cycle + 300) * 1_000)
    assert grid.spacing == 512
    for cycle in range(10_000, 10_000 + 32 * 512, 512):
        grid.resolved(cycle, (cycle + 40) * 1_000)
    assert grid.spacing == 64


def test_an_aim_is_always_ahead_of_all_that_was_seen() -> None:
    grid = Grid(1_000, 0, 400_000)
    assert grid.aim(0, 0) is None
    grid.told(100, 50_000)
    grid.ended(240, 60_000)
    aim = grid.aim(0, 60_000)
    assert aim is not None
    assert aim > 240
    assert aim % grid.spacing == 0
    later = grid.aim(1_001, 60_000)
    assert later is not None
    assert later >= 1_001
    assert later % grid.spacing == 0

"""Twenty circuits at once on a grid of nine nodes, under all faults: 50 seeds, on all cores."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial

import pytest

from qstack.sim.faults import CORRUPT, KINDS
from qstack.testing.routes import PROBE_PAIRS, PROBES
from qstack.testing.routes_lab import RouteLab, grid
from qstack.testing.routes_scenario import CROWD, CROWD_FAULTS, crowded, draw
from tests.simulate.routes import again
from tests.simulate.routes_work import CrowdResult, run_crowd
from tests.simulate.telling import Switches

EVERYTHING = Switches((), None)
SEEDS = range(50)
LEAST_PAIRS = 2 * PROBES * PROBE_PAIRS
"""What is asked for at last, told at both ends."""


@pytest.fixture(scope="module")
def results() -> list[CrowdResult]:
    work = partial(run_crowd, EVERYTHING)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(work, SEEDS, 2)


def test_fifty_seeds_of_twenty_circuits_on_the_grid_pass_every_checker(
    results: list[CrowdResult],
) -> None:
    failed = [
        f"{each.checker}: {each.problem}; again: {again(each.seed, EVERYTHING, crowd=True)}"
        for each in (result.found for result in results)
        if each.checker
    ]
    assert failed == []
    assert min(each.found.delivered for each in results) >= LEAST_PAIRS
    assert sum(each.found.routed for each in results) > 20 * len(SEEDS)


def test_twenty_circuits_carry_requests_at_once_where_nothing_refuses_or_ends_them(
    results: list[CrowdResult],
) -> None:
    """Counted while it runs; fidelities that no way has, cancels and faults leave fewer."""
    most = sorted(each.most for each in results)
    assert most[-1] == CROWD
    assert sum(number == CROWD for number in most) > len(most) / 5
    assert most[len(most) // 2] > CROWD / 2


def test_a_crowd_has_twenty_pairs_of_ends_that_are_no_neighbours_and_every_kind_of_fault() -> None:
    lab = RouteLab(grid(3, 3))
    drawn = [crowded(seed) for seed in range(200)]
    for scenario in drawn:
        ends = {(call.ask.node, call.remote) for call in scenario.calls}
        assert len(ends) == len(scenario.calls) == CROWD
        assert all(far not in (near, *lab.neighbours(near)) for near, far in ends)
    kinds = {fault.kind for scenario in drawn for fault in scenario.schedule.faults}
    assert kinds == set(KINDS)
    for name in CROWD_FAULTS:
        assert sum(name in scenario.features for scenario in drawn) > len(drawn) / 10, name
    assert any(not scenario.schedule.faults and not scenario.mishaps for scenario in drawn)


def test_what_is_corrupted_in_a_crowd_arrives_and_only_seals_can_find_it() -> None:
    corrupt = [scenario for seed in range(200) if CORRUPT in (scenario := crowded(seed)).features]
    for scenario in corrupt:
        assert scenario.sealed
        assert scenario.wire_bytes
        faults = [fault for fault in scenario.schedule.faults if fault.kind == CORRUPT]
        assert all(dict(fault.amounts)["checksum"] == 0.0 for fault in faults)
    assert not any(draw(seed).sealed for seed in range(200))

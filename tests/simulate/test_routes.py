"""Swarm runs of many nodes inside the tests: 50 seeds under all faults, on all cores."""

from __future__ import annotations

import math
import multiprocessing
import os
from functools import partial

import pytest

from qstack.sim.faults import KINDS
from qstack.testing.routes import PROBE_PAIRS, PROBES, RouteResult
from qstack.testing.routes_checkers import Parity
from qstack.testing.routes_lab import SHAPES, RouteLab, grid
from qstack.testing.routes_scenario import FAULTS, FEATURES, REQUESTS, draw
from qstack.testing.statistics import ALARM
from tests.simulate.routes import SLACK, again, main, parities
from tests.simulate.routes_work import run_seed
from tests.simulate.telling import Switches

SEEDS = range(50)
LEAST_PAIRS = 2 * PROBES * PROBE_PAIRS
"""What is asked for at last, told at both ends."""


@pytest.fixture(scope="module")
def results() -> list[RouteResult]:
    work = partial(run_seed, Switches((), None))
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(work, SEEDS, 2)


def test_fifty_seeds_of_many_nodes_pass_every_checker_and_each_moves_traffic(
    results: list[RouteResult],
) -> None:
    everything = Switches((), None)
    failed = [
        f"{each.checker}: {each.problem}; again: {again(each.seed, everything)}"
        for each in results
        if each.checker
    ]
    assert failed == []
    assert min(each.delivered for each in results) >= LEAST_PAIRS
    assert sum(each.routed for each in results) > 8 * len(SEEDS)


def test_measured_pairs_of_all_seeds_together_are_as_their_goodness_says(
    results: list[RouteResult],
) -> None:
    found = parities(parity for each in results for parity in each.parities)
    assert sum(sums.count for sums in found.values()) > 20
    assert not any(sums.refuted for sums in found.values())


@pytest.mark.parametrize(
    "seed",
    [
        # Circuits with rounds on links each had one half where they needed two.
        1198,
        # So here, and an end's halves that wait for a round of its own could not be let go.
        1898,
        # A request went on by another circuit and had ended by that when the first word came.
        1169,
    ],
)
def test_seeds_of_many_nodes_that_once_failed_pass(seed: int) -> None:
    assert run_seed(Switches((), None), seed).checker == ""


def test_outcomes_that_are_wrong_too_often_refute_the_goodness() -> None:
    """One in ten is expected; of 200 by Hoeffding 0.1858 more, and the slack, may be wrong."""
    room = math.sqrt(math.log(1 / ALARM) / 400)
    assert (ALARM, SLACK) == (1e-6, 0.02)
    assert room == pytest.approx(0.1858, abs=1e-4)
    for wrong, refuted in ((61, False), (62, True)):
        given = [Parity(3, place >= wrong, 0.1) for place in range(200)]
        assert parities(given)[3].refuted is refuted, wrong


def test_every_shape_feature_and_fault_is_drawn_by_many_seeds() -> None:
    drawn = [draw(seed) for seed in range(200)]
    for name in (*FEATURES, *FAULTS):
        assert sum(name in scenario.features for scenario in drawn) > len(drawn) / 10, name
    kinds = {fault.kind for scenario in drawn for fault in scenario.schedule.faults}
    assert kinds == set(KINDS) & set(FAULTS)
    for shape in SHAPES:
        assert sum(scenario.shape == shape for scenario in drawn) > len(drawn) / 10, shape
    assert any(not scenario.schedule.faults and not scenario.mishaps for scenario in drawn)


def test_the_grid_has_twenty_requests_at_once_and_most_are_over_several_links() -> None:
    scenario = next(found for seed in range(50) if (found := draw(seed)).shape == "grid9")
    assert REQUESTS["grid9"] == len(scenario.calls) == 20
    lab = RouteLab(grid(3, 3))
    assert sorted(lab.neighbours("n5")) == ["n2", "n4", "n6", "n8"]
    assert len(lab.edges) == 12
    far = [c for c in scenario.calls if c.remote not in lab.neighbours(c.ask.node)]
    assert len(far) > 10


def test_what_is_switched_off_in_a_network_of_many_nodes_is_not_drawn() -> None:
    seed = next(s for s in SEEDS if {"loss", "crash-node"} <= set(draw(s).features))
    whole, less = draw(seed), draw(seed, without=["loss"])
    assert list(less.schedule.faults) == [f for f in whole.schedule.faults if f.kind != "loss"]
    assert less.calls == whole.calls
    assert draw(seed, only=[]).features == ()


def test_the_command_runs_one_seed_of_many_nodes_and_tells_what_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = next(s for s in SEEDS if draw(s).shape == "star")
    assert main(["--seed", str(seed)]) == 0
    said = capsys.readouterr().out
    assert "all well" in said
    assert draw(seed).schedule.line() in said

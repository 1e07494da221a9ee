"""Twenty circuits at once on a grid of nine nodes, under all faults: 50 seeds, on all cores."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from typing import Any, cast

import attrs
import pytest

from qstack.messages.common import PairKind
from qstack.sim.faults import CORRUPT, KINDS
from qstack.testing.routes import PROBE_PAIRS, PROBES, run
from qstack.testing.routes_lab import RouteLab, chain, grid
from qstack.testing.routes_scenario import CROWD, CROWD_FAULTS, Call, crowded, draw
from tests.simulate.routes import again
from tests.simulate.routes_work import CrowdResult, run_crowd
from tests.simulate.telling import Switches

EVERYTHING = Switches((), None)
SEEDS = (
    *range(50),
    # Ends of long circuits held halves that kept other circuits from what their rounds need.
    383,
)
LEAST_PAIRS = 2 * PROBES * PROBE_PAIRS
"""What is asked for at last, told at both ends."""
PAIRS_EACH = 8


@pytest.fixture(scope="module")
def results() -> list[CrowdResult]:
    work = partial(run_crowd, EVERYTHING)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(work, SEEDS, 2)


def test_fifty_seeds_of_twenty_circuits_and_one_that_failed_pass_every_checker(
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


@pytest.mark.parametrize("fidelity", [0.93, 0.95])
def test_two_circuits_each_of_which_fills_an_end_of_the_other_both_get_on(fidelity: float) -> None:
    """Both over all of a chain of five nodes, in opposite ways, whose memories last for seconds.

    Nodes between swap what the ends have too many of, so that none of them sees a full link. Only
    the ends do, and their own halves are in the way. In the end each user asks once more.
    """
    drawn: Any = crowded(383, only=())
    lab: Any = drawn.lab
    calls = tuple(call(node, remote, fidelity) for node, remote in (("n1", "n5"), ("n5", "n1")))
    lab = attrs.evolve(lab, edges=chain(5), qubits=6, joined=True)
    result = run(attrs.evolve(drawn, shape="chain5", lab=lab, calls=calls))
    assert (result.checker, result.problem) == ("", "")
    assert result.delivered == 2 * (2 * PAIRS_EACH + PROBES * PROBE_PAIRS)


def call(node: str, remote: str, fidelity: float) -> Call:
    """A user who wants kept pairs of the other at once."""
    drawn: Any = crowded(383, only=()).calls[0]
    named = {"node": node, "remote": remote, "canceller": node}
    wanted = {"number": PAIRS_EACH, "kind": PairKind.KEEP, "at": 0, "fidelity_min": fidelity}
    ask = attrs.evolve(drawn.ask, **named, **wanted)
    return cast(Call, attrs.evolve(drawn, ask=ask, remote=remote))

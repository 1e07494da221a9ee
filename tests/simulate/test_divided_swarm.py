"""The swarm of many nodes with links divided in time: what went wrong, nothing is left of bins."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.network.service import TimeDivision
from qstack.stack.policy import Policy
from qstack.testing import routes_scenario
from qstack.testing.routes import RouteRun
from qstack.units import MILLISECOND

LEASE_NS = 12 * MILLISECOND
evolve: Any = attrs.evolve  # mypy does not know records for attrs classes


def hurried(scenario: Any) -> Any:
    """Two in three of its requests have a maximum time, and its links are divided."""
    calls = tuple(
        evolve(call, ask=evolve(call.ask, max_time_ns=(5 + 7 * place % 31) * MILLISECOND))
        if place % 3
        else call
        for place, call in enumerate(scenario.calls)
    )
    return evolve(scenario, calls=calls, lab=evolve(scenario.lab, scheduler="time-division"))


@pytest.mark.parametrize("seed", [1, 3, 4, 5])
def test_with_all_faults_of_the_swarm_every_ask_ends_and_the_checkers_hold(seed: int) -> None:
    """The controller is each node by turns; it dies as others do, and wires lose and reorder."""
    scenario = hurried(routes_scenario.draw(seed))
    nodes = scenario.lab.nodes
    controller = nodes[seed % len(nodes)]
    division = TimeDivision(controller, MILLISECOND, LEASE_NS, nodes)
    policies = tuple((node, Policy(division=division)) for node in nodes)
    run = RouteRun(scenario, policies=policies)
    run.go()
    for _ in range(2 * LEASE_NS // MILLISECOND):
        grants = run.net.host(controller).network.division.controller
        if not grants.granted:
            break
        run.net.heap.run(run.net.heap.now + MILLISECOND)
    assert not grants.granted
    assert not grants._ends
    for node in nodes:
        assert not run.net.host(node).network.division.asking._wishes

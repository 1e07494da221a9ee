"""What a worker process does with networks of many nodes: by name, for a fresh interpreter."""

from __future__ import annotations

from functools import partial
from typing import Any

from qstack.machine import record
from qstack.network.head_end import Head
from qstack.sim.network import VirtualNetwork
from qstack.testing.routes import RouteResult, run
from qstack.testing.routes_scenario import FAULTS_END, crowded, draw
from qstack.units import MICROSECOND
from tests.simulate.routes_planted import MOST_SEEDS, planted
from tests.simulate.telling import Switches

LOOK_NS = 100 * MICROSECOND
"""Between two looks at how many circuits there are."""


def run_seed(switches: Switches, seed: int) -> RouteResult:
    """Run one seed; at the top of the module, so that another process can be told of it."""
    return run(draw(seed, switches.without, switches.only))


@record
class CrowdResult:
    """What became of a run with many circuits at once: `most` had requests at the same time."""

    found: RouteResult
    most: int


def run_crowd(switches: Switches, seed: int) -> CrowdResult:
    """Run one seed of twenty circuits at once on the grid, and count them as they come and go."""
    counts = [0]

    def look(net: VirtualNetwork) -> None:
        alive = [net.host(name) for name in net.places.nodes if net.heap.lives(name)]
        counts.append(sum(map(carrying, alive)))
        if net.heap.now < 2 * FAULTS_END:
            net.heap.call(net.heap.now + LOOK_NS, partial(look, net))

    scenario = crowded(seed, switches.without, switches.only)
    found = run(scenario, lambda net: net.heap.call(LOOK_NS, partial(look, net)))
    return CrowdResult(found, max(counts))


def carrying(host: Any) -> int:
    """Return how many circuits begin at a node and have requests on them."""
    parts = (member.part for member in host.network.demand.circuits.members)
    return sum(isinstance(part, Head) and bool(part.orders) for part in parts)


def find_bug(name: str) -> tuple[str, int | None, str]:
    """Return the first seed that finds a planted bug, and who found it."""
    for seed in range(MOST_SEEDS):
        with planted(name):
            result = run(draw(seed))
        if result.checker and not run(draw(seed)).checker:
            return name, seed, f"{result.checker}: {result.problem}"
    return name, None, ""

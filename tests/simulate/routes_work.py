"""What a worker process does with networks of many nodes: by name, for a fresh interpreter."""

from __future__ import annotations

from qstack.testing.routes import RouteResult, run
from qstack.testing.routes_scenario import draw
from tests.simulate.routes_planted import MOST_SEEDS, planted
from tests.simulate.telling import Switches


def run_seed(switches: Switches, seed: int) -> RouteResult:
    """Run one seed; at the top of the module, so that another process can be told of it."""
    return run(draw(seed, switches.without, switches.only))


def find_bug(name: str) -> tuple[str, int | None, str]:
    """Return the first seed that finds a planted bug, and who found it."""
    for seed in range(MOST_SEEDS):
        with planted(name):
            result = run(draw(seed))
        if result.checker and not run(draw(seed)).checker:
            return name, seed, f"{result.checker}: {result.problem}"
    return name, None, ""

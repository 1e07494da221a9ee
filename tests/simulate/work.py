"""What a worker process does: by name, so that a fresh interpreter finds it."""

from __future__ import annotations

from qstack.testing.scenario import draw
from qstack.testing.swarm import Result, run
from tests.simulate.planted import MOST_SEEDS, planted
from tests.simulate.telling import Switches


def run_seed(switches: Switches, seed: int) -> Result:
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

"""What a worker process does with networks of many nodes: by name, for a fresh interpreter."""

from __future__ import annotations

from qstack.machine import record
from qstack.testing.routes import RouteResult, run
from qstack.testing.routes_scenario import RouteScenario, draw
from tests.simulate.routes_planted import MOST_SEEDS, planted


@record
class Switches:
    """Which features and faults may be drawn, by name."""

    without: tuple[str, ...]
    only: tuple[str, ...] | None

    def scenario(self, seed: int) -> RouteScenario:
        """Return what a seed makes of them."""
        return draw(seed, self.without, self.only)

    def __str__(self) -> str:
        words = [f" --without {','.join(self.without)}"] if self.without else []
        words += [f" --only {','.join(self.only)}"] if self.only is not None else []
        return "".join(words)


def run_seed(switches: Switches, seed: int) -> RouteResult:
    """Run one seed; at the top of the module, so that another process can be told of it."""
    return run(switches.scenario(seed))


def find_bug(name: str) -> tuple[str, int | None, str]:
    """Return the first seed that finds a planted bug, and who found it."""
    for seed in range(MOST_SEEDS):
        with planted(name):
            result = run(draw(seed))
        if result.checker and not run(draw(seed)).checker:
            return name, seed, f"{result.checker}: {result.problem}"
    return name, None, ""

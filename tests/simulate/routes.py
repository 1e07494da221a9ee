"""Runs of the swarm of many nodes: many seeds on all cores, one seed again, or the planted bugs.

python -m tests.simulate.routes --seeds 5000            every core, a summary, code 1 for a failure
python -m tests.simulate.routes --seed 36 --trace DIR   one seed again, told, with traces
python -m tests.simulate.routes --bugs                  the first seed that finds each planted bug

With --crowd: twenty circuits at once on the grid, corruption among the faults.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from qstack.machine import record
from qstack.sim.schedule import read
from qstack.testing.routes import RouteResult, run
from qstack.testing.routes_checkers import Parity
from qstack.testing.routes_scenario import (
    CROWD,
    CROWD_FAULTS,
    FEATURES,
    RouteScenario,
    crowded,
    draw,
)
from qstack.testing.statistics import ALARM, ROUTED_TOLERANCE, Classes
from tests.simulate.planted import changed
from tests.simulate.routes_planted import BUGS, FOUND, planted
from tests.simulate.routes_work import CrowdResult, find_bug, run_crowd, run_seed
from tests.simulate.telling import Switches, find_bugs, replay, told, verdict

CHUNK = 5
SHOWN = 20
SLACK = 0.02
"""By so much more often than goodness says may outcomes be wrong."""


def again(seed: int, switches: Switches, *, crowd: bool = False) -> str:
    """Return the command that repeats one seed."""
    which = " --crowd" if crowd else ""
    return f".venv/bin/python -m tests.simulate.routes{which} --seed {seed}{switches}"


@record
class Parities:
    """Measured pairs over so many links: how many, how many of them wrong, how many expected."""

    count: int
    wrong: int
    expected: float

    @property
    def refuted(self) -> bool:
        """Whether chance makes so many wrong with less than :data:`ALARM` (Hoeffding)."""
        room = math.sqrt(math.log(1 / ALARM) / (2 * self.count))
        return self.wrong / self.count > self.expected / self.count + SLACK + room


def parities(found: Iterable[Parity]) -> dict[int, Parities]:
    """Return the sums by number of links."""
    sums: dict[int, Parities] = {}
    for each in found:
        old = sums.get(each.hops, Parities(0, 0, 0.0))
        wrong = old.wrong + (not each.right)
        sums[each.hops] = Parities(old.count + 1, wrong, old.expected + each.chance)
    return dict(sorted(sums.items()))


# --- many seeds -----------------------------------------------------------------------------


def simulate(seeds: Sequence[int], switches: Switches, jobs: int, *, crowd: bool = False) -> int:
    """Run many seeds; return the exit code."""
    failed: list[RouteResult] = []
    most: Counter[int] = Counter()
    totals: Counter[str] = Counter()
    classes, outcomes = Classes(ROUTED_TOLERANCE), list[Parity]()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        one: Callable[[Switches, int], RouteResult | CrowdResult] = run_crowd if crowd else run_seed
        work = partial(one, switches)
        for done, each in enumerate(pool.imap_unordered(work, seeds, CHUNK), 1):
            result = each.found if isinstance(each, CrowdResult) else each
            if isinstance(each, CrowdResult):
                most[each.most] += 1
            totals["told"] += result.delivered
            totals["routed"] += result.routed
            totals["steps"] += result.steps
            classes.add(seen for seen in result.seen if seen.setting.endswith("hops"))
            outcomes += result.parities
            if result.checker:
                failed.append(result)
                if len(failed) <= SHOWN:
                    command = again(result.seed, switches, crowd=crowd)
                    print(f"\n{told(result)}\n  {command}", flush=True)
            if done % 50 == 0 or done == len(seeds):
                print(f"\r{done} of {len(seeds)} seeds, {len(failed)} failed", end="", flush=True)
    print(
        f"\n{totals['told']} pairs told to users, {totals['routed']} of them kept ones over "
        f"several links at their first end, {totals['steps']} steps of machines"
    )
    if crowd:
        at_once = sum(number * count for number, count in most.items()) / len(seeds)
        print(f"{at_once:.1f} circuits at once, on average; {CROWD} in {most[CROWD]} seeds")
    for line in classes.report():
        print(line)
    wrong = parities(outcomes)
    for hops, sums in wrong.items():
        verdict = "REFUTED" if sums.refuted else "ok"
        counts = f"{sums.count} measured pairs, {sums.wrong} wrong, {sums.expected:.1f} expected"
        print(f"{hops} hops: {counts}: {verdict}")
    for checker, count in Counter(result.checker for result in failed).most_common():
        example = min(result.seed for result in failed if result.checker == checker)
        print(f"{checker}: {count} seeds, for example {example}")
    bad = classes.refuted() or any(sums.refuted for sums in wrong.values())
    return 1 if failed or bad else 0


# --- one seed ---------------------------------------------------------------


def shown(scenario: RouteScenario) -> Iterator[object]:
    """Yield the lines that say what a scenario holds."""
    yield f"{scenario.shape}; features: {', '.join(scenario.features)}"
    yield scenario.lab
    for what in (*scenario.calls, *scenario.mishaps):
        yield f"  {what}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate.routes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", type=int, metavar="N", help="run so many seeds")
    what.add_argument("--seed", type=int, metavar="S", help="run this seed and tell")
    what.add_argument("--bugs", action="store_true", help="look for every planted bug")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first of the seeds")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="where one seed's traces go")
    parser.add_argument("--bug", choices=sorted(BUGS), action="append", help="plant this bug")
    parser.add_argument("--crowd", action="store_true", help="twenty circuits at once on the grid")
    kinds = f"of {', '.join((*FEATURES, *CROWD_FAULTS))}"
    parser.add_argument("--without", default="", metavar="A,B", help=f"switch off some {kinds}")
    parser.add_argument("--only", metavar="A,B", help="switch off all others")
    parser.add_argument("--schedule", metavar="LINE", help="these faults instead of the drawn ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args(arguments)
    only = None if given.only is None else tuple(filter(None, given.only.split(",")))
    switches = Switches(tuple(filter(None, given.without.split(","))), only)
    if given.seeds is not None:
        seeds = range(given.first, given.first + given.seeds)
        return simulate(seeds, switches, given.jobs, crowd=given.crowd)
    if given.bugs:
        names = given.bug or sorted(BUGS)
        return find_bugs(find_bug, names, FOUND, "tests/simulate/routes_planted.py", given.jobs)
    if given.bug:
        with planted(given.bug[0]):
            result = run(draw(given.seed))
        return verdict(result, given.bug[0])
    scenario = (crowded if given.crowd else draw)(given.seed, switches.without, switches.only)
    if given.schedule is not None:
        scenario = changed(scenario, schedule=read(given.schedule))
    return replay(run, scenario, scenario.schedule, shown(scenario), given.trace)


if __name__ == "__main__":
    sys.exit(main())

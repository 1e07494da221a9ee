"""Runs of the swarm of many nodes: many seeds on all cores, one seed again, or the planted bugs.

python -m tests.simulate.routes --seeds 5000            every core, a summary, code 1 for a failure
python -m tests.simulate.routes --seed 36 --trace DIR   one seed again, told, with traces
python -m tests.simulate.routes --bugs                  the first seed that finds each planted bug
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from qstack.machine import record
from qstack.sim.schedule import read
from qstack.testing.recording import Recorder
from qstack.testing.routes import RouteResult, run
from qstack.testing.routes_checkers import Parity
from qstack.testing.routes_scenario import FAULTS, FEATURES, RouteScenario, draw
from qstack.testing.statistics import ALARM, Classes
from tests.simulate.planted import changed
from tests.simulate.routes_planted import BUGS, FOUND, planted
from tests.simulate.routes_work import Switches, find_bug, run_seed

CHUNK = 5
SHOWN = 20
SLACK = 0.02
"""By so much more often than goodness says may outcomes be wrong."""


def again(seed: int, switches: Switches) -> str:
    """Return the command that repeats one seed."""
    return f".venv/bin/python -m tests.simulate.routes --seed {seed}{switches}"


def told(result: RouteResult) -> str:
    """Return what is to be said of a failure."""
    return f"seed {result.seed}: {result.checker}: {result.problem}"


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


def simulate(seeds: Sequence[int], switches: Switches, jobs: int) -> int:
    """Run many seeds; return the exit code."""
    failed: list[RouteResult] = []
    totals: Counter[str] = Counter()
    classes, outcomes = Classes(), list[Parity]()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work = partial(run_seed, switches)
        for done, result in enumerate(pool.imap_unordered(work, seeds, CHUNK), 1):
            totals["told"] += result.delivered
            totals["routed"] += result.routed
            totals["steps"] += result.steps
            classes.add(each for each in result.seen if each.setting.endswith("hops"))
            outcomes += result.parities
            if result.checker:
                failed.append(result)
                if len(failed) <= SHOWN:
                    print(f"\n{told(result)}\n  {again(result.seed, switches)}", flush=True)
            if done % 50 == 0 or done == len(seeds):
                print(f"\r{done} of {len(seeds)} seeds, {len(failed)} failed", end="", flush=True)
    print(
        f"\n{totals['told']} pairs told to users, {totals['routed']} of them kept ones over "
        f"several links at their first end, {totals['steps']} steps of machines"
    )
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


# --- one seed, and planted bugs ---------------------------------------------------------------


def replay(scenario: RouteScenario, folder: Path | None) -> int:
    """Run one seed and tell what it does; with a folder, write its traces there."""
    seed = scenario.seed
    print(f"{scenario.shape}; features: {', '.join(scenario.features)}\n{scenario.lab}")
    for what in (*scenario.calls, *scenario.mishaps):
        print(f"  {what}")
    print(f"--schedule '{scenario.schedule.line()}'")
    recorders: list[Recorder] = []
    if folder is None:
        result = run(scenario)
    else:
        place: Path = folder
        result = run(scenario, lambda net: recorders.append(Recorder(net, place)))
    for recorder in recorders:
        recorder.close()
        for file in sorted(recorder.files):
            print(f"  qstack trace {file}")
    print(told(result) if result.checker else f"seed {seed}: {result.delivered} pairs, all well")
    return 1 if result.checker else 0


def find_bugs(jobs: int, names: Sequence[str]) -> int:
    """Look for every planted bug, and print the table of them; return the exit code."""
    found = dict(FOUND)
    missing = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for name, seed, who in pool.imap_unordered(find_bug, names):
            print(f"{name}: " + ("not found" if seed is None else f"seed {seed}, {who}"))
            sys.stdout.flush()
            missing += seed is None
            if seed is not None:
                found[name] = (seed, who.partition(":")[0])
    print("for FOUND in tests/simulate/routes_planted.py:")
    for name in BUGS:
        if name in found:
            print(f'    "{name}": ({found[name][0]}, "{found[name][1]}"),')
    return 1 if missing else 0


def run_planted(seed: int, name: str) -> int:
    """Run one seed with a planted bug and tell what finds it."""
    with planted(name):
        result = run(draw(seed))
    print(told(result) if result.checker else f"seed {seed} does not find {name}")
    return 1 if result.checker else 0


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
    names = f"of {', '.join((*FEATURES, *FAULTS))}"
    parser.add_argument("--without", default="", metavar="A,B", help=f"switch off some {names}")
    parser.add_argument("--only", metavar="A,B", help="switch off all others")
    parser.add_argument("--schedule", metavar="LINE", help="these faults instead of the drawn ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args(arguments)
    only = None if given.only is None else tuple(filter(None, given.only.split(",")))
    switches = Switches(tuple(filter(None, given.without.split(","))), only)
    if given.seeds is not None:
        return simulate(range(given.first, given.first + given.seeds), switches, given.jobs)
    if given.bugs:
        return find_bugs(given.jobs, given.bug or sorted(BUGS))
    if given.bug:
        return run_planted(given.seed, given.bug[0])
    scenario = switches.scenario(given.seed)
    if given.schedule is not None:
        scenario = changed(scenario, schedule=read(given.schedule))
    return replay(scenario, given.trace)


if __name__ == "__main__":
    sys.exit(main())

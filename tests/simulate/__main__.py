"""Runs of the swarm: many seeds on all cores, one seed with its trace, or the planted bugs.

python -m tests.simulate --seeds 20000            every core, a summary, exit code 1 for a failure
python -m tests.simulate --seed 36 --trace DIR    one seed again, told, with traces to step through
python -m tests.simulate --classes                fidelities of young and old pairs against goodness
python -m tests.simulate --bugs                   the first seed that finds each planted bug
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from qstack.sim.schedule import read
from qstack.testing.scenario import FAULTS, FEATURES, Scenario, draw
from qstack.testing.statistics import Classes
from qstack.testing.swarm import Result, run
from tests.simulate.classes import LABS, classes_of
from tests.simulate.planted import BUGS, FOUND, changed, planted
from tests.simulate.telling import Switches, find_bugs, replay, told, verdict
from tests.simulate.work import find_bug, run_seed

CHUNK = 10
SHOWN = 20


def again(seed: int, switches: Switches) -> str:
    """Return the command that repeats one seed."""
    return f".venv/bin/python -m tests.simulate --seed {seed}{switches}"


# --- many seeds -----------------------------------------------------------------------------


def simulate(seeds: Sequence[int], switches: Switches, jobs: int) -> int:
    """Run many seeds; return the exit code."""
    failed: list[Result] = []
    totals: Counter[str] = Counter()
    classes = Classes()
    work = partial(run_seed, switches)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done, result in enumerate(pool.imap_unordered(work, seeds, CHUNK), 1):
            totals["pairs"] += result.delivered
            totals["steps"] += result.steps
            classes.add(result.seen)
            if result.checker:
                failed.append(result)
                if len(failed) <= SHOWN:
                    print(f"\n{told(result)}\n  {again(result.seed, switches)}", flush=True)
            if done % 100 == 0 or done == len(seeds):
                print(f"\r{done} of {len(seeds)} seeds, {len(failed)} failed", end="", flush=True)
    print(f"\n{totals['pairs']} pairs, {totals['steps']} steps of machines")
    for line in classes.report():
        print(line)
    by_checker = Counter(result.checker for result in failed)
    for checker, count in by_checker.most_common():
        print(f"{checker}: {count} seeds, for example {min(seeds_of(failed, checker))}")
    return 1 if failed or classes.refuted() else 0


def judge_classes(jobs: int) -> int:
    """Fill the classes of every working point and judge them; return the exit code."""
    refuted = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for name, classes in zip(LABS, pool.imap(classes_of, LABS), strict=True):
            print(f"{name}:")
            for line in classes.report():
                print(f"  {line}", flush=True)
            refuted += len(classes.refuted())
    return 1 if refuted else 0


def seeds_of(failed: Iterable[Result], checker: str) -> list[int]:
    """Return the seeds at which this checker complained."""
    return [result.seed for result in failed if result.checker == checker]


# --- one seed -------------------------------------------------------------------------------


def shown(scenario: Scenario) -> Iterator[object]:
    """Yield the lines that say what a scenario holds."""
    yield f"features: {', '.join(scenario.features)}"
    yield scenario.lab
    for what in (*scenario.asks, *scenario.mishaps):
        yield f"  {what}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", type=int, metavar="N", help="run so many seeds")
    what.add_argument("--seed", type=int, metavar="S", help="run this seed and tell")
    what.add_argument("--classes", action="store_true", help="fill and judge classes of pairs")
    what.add_argument("--bugs", action="store_true", help="look for every planted bug")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first of the seeds")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="where one seed's traces go")
    parser.add_argument("--bug", choices=sorted(BUGS), action="append", help="plant this bug")
    kinds = f"of {', '.join((*FEATURES, *FAULTS))}"
    parser.add_argument("--without", default="", metavar="A,B", help=f"switch off some {kinds}")
    parser.add_argument("--only", metavar="A,B", help="switch off all others")
    parser.add_argument("--schedule", metavar="LINE", help="these faults instead of the drawn ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args(arguments)
    only = None if given.only is None else tuple(filter(None, given.only.split(",")))
    switches = Switches(tuple(filter(None, given.without.split(","))), only)
    if given.seeds is not None:
        return simulate(range(given.first, given.first + given.seeds), switches, given.jobs)
    if given.classes:
        return judge_classes(given.jobs)
    if given.bugs:
        names = given.bug or sorted(BUGS)
        return find_bugs(find_bug, names, FOUND, "tests/simulate/planted.py", given.jobs)
    if given.bug:
        with planted(given.bug[0]):
            result = run(draw(given.seed))
        return verdict(result, given.bug[0])
    scenario = draw(given.seed, switches.without, switches.only)
    if given.schedule is not None:
        scenario = changed(scenario, schedule=read(given.schedule))
    return replay(run, scenario, scenario.schedule, shown(scenario), given.trace)


if __name__ == "__main__":
    sys.exit(main())

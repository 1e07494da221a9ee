"""What both commands of the swarm share: one seed told and traced, and planted bugs looked for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from qstack.machine import record
from qstack.sim.schedule import Schedule
from qstack.testing.recording import Recorder

Finder = Callable[[str], tuple[str, int | None, str]]
"""Looks for a planted bug by name: its name, the first seed that finds it or None, and who did."""


@record
class Switches:
    """Which features and faults may be drawn, by name."""

    without: tuple[str, ...]
    only: tuple[str, ...] | None

    def __str__(self) -> str:
        words = [f" --without {','.join(self.without)}"] if self.without else []
        words += [f" --only {','.join(self.only)}"] if self.only is not None else []
        return "".join(words)


class Outcome(Protocol):
    """A run that was judged."""

    @property
    def seed(self) -> int:
        """Its seed."""

    @property
    def checker(self) -> str:
        """Who complains; empty where all was well."""

    @property
    def problem(self) -> str:
        """Of what."""

    @property
    def delivered(self) -> int:
        """How many pairs users were told of."""


def told(result: Outcome) -> str:
    """Return what is to be said of a failure."""
    return f"seed {result.seed}: {result.checker}: {result.problem}"


def replay(
    run: Callable[..., Outcome],
    scenario: Any,
    schedule: Schedule,
    lines: Iterable[object],
    folder: Path | None,
) -> int:
    """Say what a scenario holds, run it, and tell; with a folder, write its traces there."""
    for line in lines:
        print(line)
    print(f"--schedule '{schedule.line()}'")
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
    well = f"seed {result.seed}: {result.delivered} pairs, all well"
    print(told(result) if result.checker else well)
    return 1 if result.checker else 0


def verdict(result: Outcome, name: str) -> int:
    """Say whether a run with a planted bug found it; return the exit code."""
    print(told(result) if result.checker else f"seed {result.seed} does not find {name}")
    return 1 if result.checker else 0


def find_bugs(
    find: Finder, names: Sequence[str], known: dict[str, tuple[int, str]], file: str, jobs: int
) -> int:
    """Look for planted bugs, and print the table for `file`; return the exit code.

    `known` is its present table: those of it that are not looked for stay as they are.
    """
    found = {name: where for name, where in known.items() if name not in names}
    missing = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for name, seed, who in pool.imap_unordered(find, names):
            print(
                f"{name}: " + ("not found" if seed is None else f"seed {seed}, {who}"), flush=True
            )
            missing += seed is None
            if seed is not None:
                found[name] = (seed, who.partition(":")[0])
    print(f"for FOUND in {file}:")
    for name, (seed, who) in sorted(found.items()):
        print(f'    "{name}": ({seed}, "{who}"),')
    return 1 if missing else 0

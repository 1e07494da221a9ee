"""``qstack sweep FILE``: from a sweep file to results, tables and pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from qstack.drivers.serving import DONE, FAILED
from qstack.machine import record
from qstack_nodes import report
from qstack_nodes.sweep.plan import Plan, Task, read_plan
from qstack_nodes.sweep.plot import can_plot, write_plots
from qstack_nodes.sweep.results import RECORD, Record, cells_of, write_tables
from qstack_nodes.sweep.running import cluster, cores, run_here, run_on


@record
class SweepOptions:
    """The arguments of ``qstack sweep``. None: the default."""

    file: str
    out: str | None = None
    scheduler: str | None = None
    workers: int | None = None
    plot: bool = True
    json: bool = False


def sweep(options: SweepOptions) -> int:
    """Run what is not done yet of a sweep, then write tables and pictures; return the exit code.

    Interrupted, it loses the points under way and nothing else; run again, it goes on.
    """
    plan = read_plan(options.file)
    plot = options.plot and can_plot()
    if options.plot and not plot:
        print("no pictures: they need matplotlib, pip install 'qstack[plot]'", file=sys.stderr)
    folder = Path(options.out) if options.out else Path(options.file).with_suffix("")
    if folder == Path(options.file):
        folder = folder.with_name(f"{folder.name}.sweep")
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Record(folder / RECORD)) as kept:
        todo = [task for task in plan.tasks() if task.key not in kept.done]
        _run(plan, todo, kept, options)
        written = write_tables(folder, plan, kept.done)
        if plot:
            written += write_plots(folder, plan, cells_of(plan, kept.done))
        failed = [task for task in plan.tasks() if kept.done[task.key]["error"]]
    return _conclude(plan, len(todo), failed, written, options)


def _run(plan: Plan, todo: list[Task], kept: Record, options: SweepOptions) -> None:
    """Run points, keeping every result at once."""
    with ExitStack() as stack:
        advance = stack.enter_context(_progress(plan, len(todo), options))
        for result in _results(todo, options, stack):
            kept.add(result)
            advance(result)


def _results(todo: list[Task], options: SweepOptions, stack: ExitStack) -> Iterator[dict[str, Any]]:
    if not todo:
        return iter(())
    if options.scheduler is not None:
        return run_on(*stack.enter_context(cluster(options.scheduler)), todo)
    if options.workers == 1 or len(todo) == 1:
        return run_here(todo)
    return run_on(*stack.enter_context(cores(options.workers)), todo)


@contextmanager
def _progress(plan: Plan, left: int, options: SweepOptions) -> Iterator[Any]:
    if options.json:
        yield lambda result: print(json.dumps(result), flush=True)
        return
    done = plan.points - left
    if done:
        print(f"{done} of {plan.points} points are done already", file=sys.stderr)
    with report.progress(f"sweep {Path(plan.file).name}", plan.points, done) as advance:
        yield advance


def _conclude(
    plan: Plan, ran: int, failed: list[Task], written: list[Path], options: SweepOptions
) -> int:
    if options.json:
        files = [str(path) for path in written]
        summary = {"points": plan.points, "ran": ran, "failed": len(failed), "files": files}
        print(json.dumps({"summary": summary}), flush=True)
    else:
        for path in written:
            print(path)
    if failed:
        where = ", ".join(f"{key} {value}" for key, value in failed[0].values) or "no parameters"
        text = f"{len(failed)} of {plan.points} points have an error in their row"
        print(f"qstack: {text}; the first: {where}, seed {failed[0].seed}", file=sys.stderr)
        return FAILED
    return DONE

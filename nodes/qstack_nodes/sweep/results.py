"""What a sweep has found out: an append-only record, and the tables made of it."""

from __future__ import annotations

import csv
import json
import math
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qstack.errors import ConfigError
from qstack.machine import record
from qstack_nodes.sweep.plan import Plan, Value

RECORD, TABLE, SUMMARY = "results.jsonl", "results.csv", "summary.csv"

MEASURED = (
    "complete",
    "used",
    "expired",
    "rate_per_s",
    "predicted_rate_per_s",
    "fidelity",
    "fidelity_error",
    "predicted_fidelity",
    "latency_p50_ns",
    "latency_p90_ns",
    "latency_p99_ns",
    "elapsed_ns",
)
_AS_FOUND = {"rate_per_s": "rate_hz", "predicted_rate_per_s": "predicted_rate_hz"}


class Record:
    """The append-only file of results: one line of JSON for each point, by its key.

    A line is written whole or not at all as far as a reader can tell: what an interruption left of
    the last one is cut off before more is appended.
    """

    def __init__(self, path: Path) -> None:
        self.done: dict[str, dict[str, Any]] = {}
        path.touch()
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                result = json.loads(line)
                self.done.setdefault(result["key"], result)
            except (ValueError, KeyError, TypeError):
                reason = "is no result of a sweep: move the file away, or choose another --out"
                raise ConfigError([f"{path}: line {number} {reason}"]) from None
        if len(whole) < len(data):
            os.truncate(path, len(whole))
        self._file = path.open("a", encoding="utf-8")

    def add(self, result: dict[str, Any]) -> None:
        """Append a result; it is on its way to the disk when this returns."""
        self.done[result["key"]] = result
        self._file.write(json.dumps(result) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@record
class Cell:
    """All seeds of one point of the grid. Errors are standard errors, None where unknown.

    With one seed the rate's is that of as many independent waiting times as there were pairs.
    """

    values: tuple[tuple[str, Value], ...]
    seeds: int
    rate: float | None
    rate_error: float | None
    fidelity: float | None
    fidelity_error: float | None
    failed: int


def rows_of(plan: Plan, done: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each point that is done, in the order of the grid."""
    rows = []
    for task in plan.tasks():
        result = done.get(task.key)
        if result is None:
            continue
        row: dict[str, Any] = {**dict(task.values), "seed": task.seed}
        found = result.get("found", {})
        for name in MEASURED:
            if name.startswith("latency_"):
                row[name] = found.get("latency_ns", {}).get(name.split("_")[1])
            else:
                row[name] = found.get(_AS_FOUND.get(name, name))
        row["error"] = result["error"]
        rows.append(row)
    return rows


def cells_of(plan: Plan, done: dict[str, dict[str, Any]]) -> list[Cell]:
    """Return what the seeds of each point of the grid come to together."""
    keys = [parameter.key for parameter in plan.parameters]
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows_of(plan, done):
        grouped.setdefault(tuple(row[key] for key in keys), []).append(row)
    cells = []
    for values, rows in grouped.items():
        rate, rate_error = _rate(rows)
        fidelity, fidelity_error = _fidelity(rows)
        failed = sum(1 for row in rows if row["error"])
        chosen = tuple(zip(keys, values, strict=True))
        cells.append(Cell(chosen, len(rows), rate, rate_error, fidelity, fidelity_error, failed))
    return cells


def _rate(rows: Iterable[dict[str, Any]]) -> tuple[float | None, float | None]:
    known = [row for row in rows if row["rate_per_s"] is not None]
    rates = [row["rate_per_s"] for row in known]
    if not rates:
        return None, None
    if len(rates) == 1:
        return rates[0], rates[0] / math.sqrt(max(1, known[0]["complete"] - 1))
    return statistics.fmean(rates), statistics.stdev(rates) / math.sqrt(len(rates))


def _fidelity(rows: Iterable[dict[str, Any]]) -> tuple[float | None, float | None]:
    known = [row for row in rows if row["fidelity"] is not None]
    if not known:
        return None, None
    mean = statistics.fmean(row["fidelity"] for row in known)
    return mean, math.hypot(*(row["fidelity_error"] for row in known)) / len(known)


def write_tables(folder: Path, plan: Plan, done: dict[str, dict[str, Any]]) -> list[Path]:
    """Write a table of all points and one of the grid; return their files."""
    keys = [parameter.key for parameter in plan.parameters]
    table, summary = folder / TABLE, folder / SUMMARY
    with table.open("w", encoding="utf-8", newline="") as file:
        whole = csv.DictWriter(file, [*keys, "seed", *MEASURED, "error"], lineterminator="\n")
        whole.writeheader()
        whole.writerows(rows_of(plan, done))
    columns = ["seeds", "rate_per_s", "rate_error", "fidelity", "fidelity_error", "failed"]
    with summary.open("w", encoding="utf-8", newline="") as file:
        plain = csv.writer(file, lineterminator="\n")
        plain.writerow([*keys, *columns])
        for cell in cells_of(plan, done):
            measured = (cell.rate, cell.rate_error, cell.fidelity, cell.fidelity_error)
            values = [value for _, value in cell.values]
            plain.writerow([*values, cell.seeds, *measured, cell.failed])
    return [table, summary]

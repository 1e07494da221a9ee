"""Rate and fidelity over the parameters of a sweep, with error bars."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from qstack_nodes.sweep.plan import Plan
from qstack_nodes.sweep.results import Cell

PICTURES = ("rate", "fidelity")
_LABELS = {"rate": "pairs per second", "fidelity": "fidelity"}


def can_plot() -> bool:
    """Whether matplotlib is installed: it comes with the extra `qstack[plot]`."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plots(folder: Path, plan: Plan, cells: list[Cell]) -> list[Path]:
    """Write a picture of the rate and one of the fidelity; return their files.

    Along the axis goes the first parameter that has several numbers as values; every combination
    of the others is a line. No files where no parameter has.
    """
    many = [place for place, each in enumerate(plan.parameters) if _numbers(each.values)]
    if not many:
        return []
    axis = many[0]
    # Without pyplot: no screen is needed, and no figure outlives its file.
    figure_of: Any = importlib.import_module("matplotlib.figure").Figure
    written = []
    for quantity in PICTURES:
        figure = figure_of(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for label, lines in _lines(plan, cells, axis, quantity).items():
            if lines:
                xs, ys, errors = zip(*lines, strict=True)
                axes.errorbar(xs, ys, yerr=errors, marker="o", capsize=3, label=label)
        axes.set_xlabel(plan.parameters[axis].key)
        axes.set_ylabel(_LABELS[quantity])
        if len(plan.parameters) > 1:
            axes.legend(fontsize="small")
        path = folder / f"{quantity}.png"
        figure.savefig(path, dpi=120)
        written.append(path)
    return written


def _numbers(values: tuple[Any, ...]) -> bool:
    return len(values) > 1 and all(type(value) in (int, float) for value in values)


def _lines(
    plan: Plan, cells: list[Cell], axis: int, quantity: str
) -> dict[str, list[tuple[float, float, float]]]:
    """Return, for each combination of the other parameters, points as (x, y, error of y)."""
    varied = [len(parameter.values) > 1 for parameter in plan.parameters]
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for cell in cells:
        others = [each for place, each in enumerate(cell.values) if place != axis and varied[place]]
        label = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in others)
        points = lines.setdefault(label, [])
        value, error = (
            (cell.rate, cell.rate_error)
            if quantity == "rate"
            else (cell.fidelity, cell.fidelity_error)
        )
        if value is not None:
            points.append((float(cell.values[axis][1]), value, error or 0.0))
    return {label: sorted(points) for label, points in lines.items()}

"""Figures, the table that people read, and the JSON that programs do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qstack.machine import record

MET, MISSED, FREE, ABSENT = "met", "not met", "", "not measured"


@record
class Figure:
    """One measured value. `value` None: it could not be measured here.

    `target` None: for information. `at_most`: the value must not exceed the target, else it
    must not fall below. `ratio` is to the calibration that `ratio_of` names.
    """

    name: str
    value: float | None
    unit: str
    target: float | None = None
    at_most: bool = True
    ratio: float | None = None
    ratio_of: str = ""

    @property
    def verdict(self) -> str:
        """Whether the target is met, in words; empty where there is none."""
        if self.value is None:
            return ABSENT
        if self.target is None:
            return FREE
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return MET if met else MISSED


def number(value: float | None) -> str:
    """Return a value with three significant digits, and none that mean nothing."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _cells(figure: Figure) -> tuple[str, ...]:
    value = f"{number(figure.value)} {figure.unit}".strip()
    target = ""
    if figure.target is not None:
        target = f"{'<=' if figure.at_most else '>='} {number(figure.target)}"
    ratio = "" if figure.ratio is None else f"{number(figure.ratio)} {figure.ratio_of}"
    return figure.name, value, target, ratio, figure.verdict


def render(figures: Iterable[Figure]) -> str:
    """Return the table as lines of plain text."""
    rows: list[tuple[str, ...]] = [("figure", "value", "target", "ratio to the calibration", "")]
    rows += [_cells(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return "\n".join(lines)


def plain(figure: Figure) -> dict[str, Any]:
    """Return a figure in JSON's types."""
    fields = ("name", "value", "unit", "target", "at_most", "ratio", "ratio_of", "verdict")
    return {name: getattr(figure, name) for name in fields}

"""``python -m tests.benchmarks [--json FILE] [--only NAME]``: measure, and print a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import (
    calibration,
    circuits,
    live,
    peer,
    programs,
    ring,
    routing,
    startup,
    virtual,
)
from tests.benchmarks.table import ABSENT, Figure, plain, render

PARTS = ("startup", "virtual", "ring", "programs", "routing", "circuits", "live", "peer")


def machine() -> dict[str, Any]:
    """Return what is worth knowing beside the figures."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": None if load is None else [round(each, 2) for each in load],
    }


def measured(part: str, operation_us: float) -> Iterator[Figure]:
    """Measure one part."""
    if part == "startup":
        yield from startup.figures()
    elif part == "virtual":
        yield from virtual.figures(operation_us)
    elif part == "ring":
        yield from ring.figures()
    elif part == "programs":
        yield from programs.figures(operation_us)
    elif part == "live":
        yield from live.figures()
    elif part == "routing":
        yield from routing.figures()
    elif part == "circuits":
        yield from circuits.figures()
    elif part == "peer":
        yield from peer.figures()
    else:
        raise ValueError(f"there is no part {part!r}")


def main() -> int:
    """Measure and print; a target that is missed is no error, a figure that is missing is."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures there")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    given = parser.parse_args()
    before = machine()
    load = "unknown" if before["load"] is None else ", ".join(map(str, before["load"]))
    print(f"Python {before['python']}, {before['system']}, {before['cores']} cores, load {load}")
    operation_us = calibration.heap_operation_us()
    figures = [Figure("calibration: a heap operation with its record", operation_us, "us")]
    for part in PARTS if given.only is None else (given.only,):
        print(f"measuring: {part} ...", file=sys.stderr, flush=True)
        figures += measured(part, operation_us)
    print(render(figures))
    if given.json is not None:
        report = {"machine": before, "after": machine(), "figures": [plain(f) for f in figures]}
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(any(figure.verdict == ABSENT for figure in figures))


if __name__ == "__main__":
    sys.exit(main())

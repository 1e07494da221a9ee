"""How long the command and the package take to start."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.benchmarks.table import Figure

HELP_S = 0.3
IMPORT_S = 0.25
_LIMIT_S = 30.0

_TIMED = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"


def help_s() -> float:
    """Return the wall seconds of a whole ``qstack --help``, the interpreter's start included."""
    command = (sys.executable, "-m", "qstack_nodes.command", "--help")
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=_LIMIT_S)
    return time.perf_counter() - begun


def import_s(module: str) -> float:
    """Return the seconds that the import itself takes in a fresh interpreter."""
    command = (sys.executable, "-c", _TIMED.format(module))
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_LIMIT_S)
    return float(ended.stdout)


def figures(repetitions: int = 5) -> Iterator[Figure]:
    """Measure each start; medians."""
    tries = range(repetitions)
    yield Figure("qstack --help", statistics.median(help_s() for _ in tries), "s", HELP_S)
    value = statistics.median(import_s("qstack") for _ in tries)
    yield Figure("import qstack", value, "s", IMPORT_S)
    value = statistics.median(import_s("qstack.drivers.client") for _ in tries)
    yield Figure("import qstack.drivers.client, for a live program", value, "s")
    value = statistics.median(import_s("qstack.sim.network") for _ in tries)
    yield Figure("import qstack.sim.network, for virtual time", value, "s")

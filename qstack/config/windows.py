"""The windows of a link, as its file lists them."""

from __future__ import annotations

from typing import Any

from qstack.config.records import LinkFile
from qstack.config.structure import Problems, structure, table
from qstack.machine import record
from qstack.units import Duration
from qstack.windows import Windows, nonsense


@record
class _Windows:
    period_ns: Duration
    open_ns: tuple[tuple[Duration, Duration], ...]


def read_windows(value: Any, path: str, problems: Problems) -> Windows | None:
    """Return the windows of the table `value`; None where there are none, or they are wrong."""
    if value is None:
        return None
    raw = structure(table(value, path, problems), _Windows, path, problems)
    if raw is None:
        return None
    windows = Windows(raw.period_ns, raw.open_ns)
    reason = nonsense(windows)
    if reason is not None:
        problems.add(path, reason)
    return windows


def check_windows(link: LinkFile, path: str, problems: Problems) -> None:
    """Note windows in which two cycles and the way of their light have no room."""
    shortest_ns = 2 * link.cycle_ns + max(arm.delay_ns for arm in link.arms)
    for place, (_, lasts) in enumerate(() if link.windows is None else link.windows.open_ns):
        if lasts < shortest_ns:
            reason = f"{lasts} ns; two cycles and the way of their light take {shortest_ns}"
            problems.add(f"{path}.open_ns.{place}", reason)

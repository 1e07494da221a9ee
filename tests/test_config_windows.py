"""Windows of links in network files: read as they are, and refused by name where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qstack.config import link_parameters, load
from qstack.windows import Windows
from tests.test_config import VALID, changed, find, problems_of, write

GOOD = {"period_ns": 100_000_000, "open_ns": [[0, 40_000_000], [60_000_000, 10_000_000]]}


def test_a_link_has_the_windows_of_its_file_and_none_without(tmp_path: Path) -> None:
    file = write(tmp_path, changed(("links.ab.windows", GOOD)))
    link = link_parameters(load(file, find=find), "ab")
    spans = ((0, 40_000_000), (60_000_000, 10_000_000))
    assert link.windows == Windows(100_000_000, spans)
    assert link_parameters(load(write(tmp_path, VALID), find=find), "ab").windows is None


@pytest.mark.parametrize(
    ("windows", "path", "reason"),
    [
        ("nightly", "links.ab.windows", "expected a table"),
        ({"open_ns": [[0, 1]]}, "links.ab.windows.period_ns", "is missing"),
        ({**GOOD, "dusk": 1}, "links.ab.windows.dusk", "unknown key"),
        ({**GOOD, "period_ns": 0}, "links.ab.windows", "a period of 0 ns"),
        ({**GOOD, "period_ns": 65_000_000}, "links.ab.windows", "ends beyond the period"),
        ({**GOOD, "open_ns": []}, "links.ab.windows", "0 windows"),
        ({**GOOD, "open_ns": [[0, 5], [3, 5]]}, "links.ab.windows", "overlaps"),
        ({**GOOD, "open_ns": [[0, 0]]}, "links.ab.windows", "lasts 0 ns"),
        ({**GOOD, "open_ns": [[-1, 10]]}, "links.ab.windows", "begins at -1 ns"),
        ({**GOOD, "open_ns": [[0, 100_000_000]]}, "links.ab.windows", "open all the time"),
        ({**GOOD, "open_ns": [[0, 5_000]]}, "links.ab.windows.open_ns.0", "two cycles"),
        ({**GOOD, "open_ns": [["now", 5]]}, "links.ab.windows", "expected a whole number"),
    ],
)
def test_windows_that_cannot_be_are_named(
    tmp_path: Path, windows: Any, path: str, reason: str
) -> None:
    found = problems_of(tmp_path, ("links.ab.windows", windows))
    assert any(path in line and reason in line for line in found), found

"""What every test shares: frozen records, Hypothesis without a clock, and who runs beside whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from qstack.record import freeze_records

# Before any other room is imported, so that every record defined there is frozen at run time.
freeze_records()

# No deadline: a busy machine must not turn a right answer into a failure. The examples are derived
# from the tests themselves, so that every run tells the same; QSTACK_EXPLORE=1 draws fresh ones.
settings.register_profile("explore", deadline=None, print_blob=True)
settings.register_profile("house", settings.get_profile("explore"), derandomize=True)
settings.load_profile("explore" if os.environ.get("QSTACK_EXPLORE") else "house")

LIVE = ("nodes", "drivers", "test_docs.py")
"""What starts processes or opens ports: one after another, however many workers there are."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a worker take whole files, whose tests share what is costly, and one all live ones."""
    tests = Path(__file__).parent
    for item in items:
        file = item.path.relative_to(tests)
        group = "live" if file.parts[0] in LIVE else str(file)
        item.add_marker(pytest.mark.xdist_group(group))

"""What every test shares: truly frozen records, and Hypothesis without a clock."""

from __future__ import annotations

import os

from hypothesis import settings

from qstack.machine import freeze_records

# Before any other room is imported, so that every record defined there is frozen at run time.
freeze_records()

# No deadline: a busy machine must not turn a right answer into a failure. The examples are derived
# from the tests themselves, so that every run tells the same; QSTACK_EXPLORE=1 draws fresh ones.
settings.register_profile("explore", deadline=None, print_blob=True)
settings.register_profile("house", settings.get_profile("explore"), derandomize=True)
settings.load_profile("explore" if os.environ.get("QSTACK_EXPLORE") else "house")

"""What every test shares: truly frozen records, and Hypothesis without a clock."""

from __future__ import annotations

import os

from hypothesis import settings

from qstack.machine import freeze_records

# Before any other room is imported, so that every record defined there is frozen at run time.
freeze_records()

# No deadline: a busy machine must not turn a right answer into a failure. Under CI the examples
# are derived from the tests themselves, so that a red run can be repeated.
settings.register_profile("house", deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("house"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")

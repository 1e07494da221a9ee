"""The demonstration: ``qstack up two_nodes -- python -m qstack_nodes.demo``.

Asks a running network for pairs of each kind, prints measured against predicted, and judges: its
exit code is 0 only if every pair came and every fidelity agrees with its prediction.
"""

from __future__ import annotations

import os
import sys

import trio

from qstack.config import load
from qstack.programs.pairs import PairsReport
from qstack_nodes import report
from qstack_nodes.asking import PairsArguments, deliver

RUNS = (("keep", 1_000, 0), ("measure", 1_000, 0), ("prepare", 1_000, 0), ("keep", 100, 1))
"""Kind, pairs, and pairs per request: the last run shows the latency of single requests."""

STANDARD_ERRORS = 5.0
"""A right network fails this once in a million fidelities."""


def verdict(found: PairsReport) -> str:
    """Return what is wrong with a run, or an empty text."""
    if found.error:
        return found.error
    if found.complete < found.wanted:
        return f"only {found.complete} of {found.wanted} pairs are complete"
    if None in (found.fidelity, found.fidelity_error, found.predicted_fidelity):
        return "too little was measured for a fidelity"
    assert found.fidelity is not None  # noqa: S101 - for the type checker, checked above
    assert found.fidelity_error is not None  # noqa: S101 - likewise
    assert found.predicted_fidelity is not None  # noqa: S101 - likewise
    difference = abs(found.fidelity - found.predicted_fidelity)
    allowed = STANDARD_ERRORS * found.fidelity_error
    if difference > allowed:
        return f"the fidelity is {difference:.4f} off its prediction, more than {allowed:.4f}"
    return ""


def main() -> int:
    """Run all, return the exit code."""
    name = os.environ.get("QSTACK_NETWORK", "two_nodes")
    network = load(name)
    a, b = (arm.node for arm in network.links[0].arms)
    wrong = []
    for kind, count, per_request in RUNS:
        wanted = PairsArguments(name, a, b, count, kind, 0.0, 0.0, per_request, False, False)
        found = trio.run(deliver, network, wanted)
        title = f"{a} - {b}, {kind}" + (", one pair per request" if per_request == 1 else "")
        report.show_pairs(found, title)
        problem = verdict(found)
        if problem:
            wrong.append(f"{title}: {problem}")
    for line in wrong:
        print(f"qstack demo: {line}", file=sys.stderr)
    if not wrong:
        print("All pairs were delivered, and every fidelity agrees with its prediction.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

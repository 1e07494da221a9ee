"""One point of a sweep: a network in virtual time, from its seed. Runs in any process."""

from __future__ import annotations

from typing import Any

from qstack.config import parse
from qstack.errors import QstackError
from qstack.sim.embedding import Network
from qstack_nodes.report import pairs_summary
from qstack_nodes.sweep.plan import Task, changes_of


def run_point(task: Task) -> dict[str, Any]:
    """Run a point and return its result in JSON's types, with an error where it has one."""
    result: dict[str, Any] = {
        "key": task.key,
        "values": dict(task.values),
        "seed": task.seed,
        "error": "",
    }
    try:
        network = Network(parse(task.text, task.file, changes=changes_of(task.values)), task.seed)
        found = network.measure(task.ends.a, task.ends.b, task.wanted)
    except QstackError as error:
        # Values that are right each for itself may be wrong together.
        result["error"] = str(error)
        return result
    result["found"] = pairs_summary(found)
    result["error"] = found.error
    return result

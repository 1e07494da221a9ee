"""The table `controller`: which node divides the links of a network in time, and how finely."""

from __future__ import annotations

from typing import Any

from qstack.config.checks import LEAST_LEASE_NS
from qstack.config.records import ControllerFile
from qstack.config.structure import Problems, structure
from qstack.units import SECOND, Duration

SCHEDULER = "time-division"
"""That of all links of a network with a controller."""
SHARES = "weighted-fair"
"""What a link keeps to where nobody has a bin: to say so is no contradiction."""

LONGEST_BIN_NS: Duration = 60 * SECOND


def read_controller(
    data: dict[str, Any],
    raw_nodes: dict[str, Any],
    raw_links: dict[str, Any],
    problems: Problems,
) -> tuple[ControllerFile | None, dict[str, Any]]:
    """Return the controller, if the file names one, and the tables of the links as they are then.

    Links that say nothing of a scheduler, or that it is weighted fair, are divided in time; a
    problem where one says another.
    """
    if "controller" not in data:
        return None, raw_links
    found = structure(data["controller"], ControllerFile, "controller", problems)
    links: dict[str, Any] = {}
    for name, link in raw_links.items():
        if not isinstance(link, dict):
            links[name] = link
            continue
        other = link.get("scheduler", SHARES)
        links[name] = {**link, "scheduler": SCHEDULER if other == SHARES else other}
        if other not in (SCHEDULER, SHARES):
            reason = f"{other!r} keeps to no bins: with a controller all links are {SCHEDULER!r}"
            problems.add(f"links.{name}.scheduler", reason)
    if found is not None:
        _check(found, raw_nodes, problems)
    return found, links


def _check(found: ControllerFile, raw_nodes: dict[str, Any], problems: Problems) -> None:
    node = raw_nodes.get(found.node)
    if node is None:
        known = ", ".join(raw_nodes)
        problems.add("controller.node", f"there is no node {found.node!r}: there are {known}")
    elif isinstance(node, dict) and node.get("kind") == "station":
        problems.add("controller.node", f"{found.node} is a station: the role is an end node's")
    if not 0 < found.bin_ns <= LONGEST_BIN_NS:
        reason = f"{found.bin_ns} is not between 1 and {LONGEST_BIN_NS}, a minute"
        problems.add("controller.bin_ns", reason)
    if found.lease_ns < LEAST_LEASE_NS:
        reason = f"{found.lease_ns} is shorter than {LEAST_LEASE_NS}, a tenth of a second"
        problems.add("controller.lease_ns", reason)

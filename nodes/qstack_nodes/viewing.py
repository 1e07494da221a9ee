"""``qstack status``, ``routes`` and ``circuits``: what the nodes of a network say of themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import trio

from qstack.config import NetworkFile, load
from qstack.drivers.client import connect
from qstack.drivers.live import Unreachable
from qstack.drivers.places import node_of
from qstack.drivers.serving import DONE, UNREACHABLE
from qstack.errors import ConfigError
from qstack.machine import record
from qstack.units import NodeName
from qstack_nodes import report, tables

STATUS_S = 2.0
"""How long a node may take to answer, in wall seconds."""

Answers: TypeAlias = Mapping[NodeName, dict[str, Any] | str]
"""What each node said of itself, or why it did not."""


@record
class Viewing:
    """Which view is wanted: status, routes or circuits; of which nodes (none: of all)."""

    view: str
    nodes: Sequence[NodeName]
    json: bool


def view(network_name: str, viewing: Viewing) -> int:
    """Show a view of a live network; 3 if a node does not answer, ConfigError for wrong names."""
    network = load(network_name)
    answers: dict[NodeName, dict[str, Any] | str] = {}
    names = names_of(network, viewing)
    trio.run(ask_all, network, names, answers)
    return show({name: answers[name] for name in names}, viewing)


def names_of(network: NetworkFile, viewing: Viewing) -> list[NodeName]:
    """Return the nodes that a view is of; ConfigError for one that is not there or says nothing."""
    of_all = viewing.view == "status"
    kinds = ("end", "station") if of_all else ("end",)
    named = [node_of(network, name) for name in viewing.nodes]
    wrong = [node.name for node in named if node.user is None or node.kind not in kinds]
    if wrong:
        reason = "has no user port" if of_all else "has neither routes nor circuits: no end node"
        raise ConfigError([f"{network.file}: {name} {reason}" for name in wrong])
    return [n.name for n in named or network.nodes if n.user is not None and n.kind in kinds]


def show(answers: Answers, viewing: Viewing) -> int:
    """Print a view; return the exit code."""
    silent = [name for name, answer in answers.items() if isinstance(answer, str)]
    if viewing.json:
        for name, answer in answers.items():
            fields = {"node": name, "error": answer}
            if isinstance(answer, dict):
                fields = json_fields(answer, viewing.view)
            print(json.dumps(fields), flush=True)
        print(json.dumps({"summary": {"nodes": len(answers), "silent": silent}}), flush=True)
    elif viewing.view == "status":
        report.show_status(answers)
    elif viewing.view == "routes":
        tables.show_routes(answers)
    else:
        tables.show_circuits(answers)
    return UNREACHABLE if silent else DONE


def json_fields(answer: dict[str, Any], view: str) -> dict[str, Any]:
    """Return what of a node's status belongs to a view."""
    if view == "status":
        return answer
    network = answer["network"]
    if view == "routes":
        return {"node": answer["node"], "routes": network["routes"]}
    kept = {key: network[key] for key in ("circuits", "counters", "bins") if key in network}
    return {"node": answer["node"], **kept}


async def ask_all(
    network: NetworkFile,
    names: list[NodeName],
    answers: dict[NodeName, dict[str, Any] | str],
) -> None:
    """Put each node's status, or why there is none, into `answers`."""
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(_ask, network, name, answers)


async def _ask(
    network: NetworkFile, name: NodeName, answers: dict[NodeName, dict[str, Any] | str]
) -> None:
    answers[name] = f"{name} does not answer"
    try:
        async with connect(network, name, timeout_s=STATUS_S) as (node,):
            with trio.move_on_after(STATUS_S):
                answers[name] = await node.status()
    except Unreachable as error:
        answers[name] = str(error)

"""``qstack drain``: let a node or a link finish what runs, and take nothing new."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import trio
from rich.console import Console
from rich.table import Table

from qstack.config import NetworkFile, load
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode, Unreachable
from qstack.drivers.serving import DONE, UNREACHABLE
from qstack.errors import ConfigError
from qstack.machine import record
from qstack.units import LinkName, NodeName

CONNECT_S = 2.0
"""How long a node may take to answer, in wall seconds."""

LOOK_S = 0.1
"""How often a node is asked whether something still runs, in wall seconds."""


@record
class DrainArguments:
    """The arguments of ``qstack drain``. `names` of nodes and links; `wait` until nothing runs."""

    network: str
    names: tuple[str, ...]
    undo: bool
    wait: bool
    json: bool


@record
class Place:
    """A node, or a link (where it is not None) at one of its ends."""

    node: NodeName
    link: LinkName | None


def drain(arguments: DrainArguments) -> int:
    """Drain nodes and links of a live network, or take it back; return the exit code.

    A link is drained at both of its ends. 3 where one does not answer; ConfigError for names that
    are neither a node's nor a link's.
    """
    network = load(arguments.network)
    found: dict[Place, dict[str, Any]] = {}
    trio.run(_all, network, places_of(network, arguments.names), arguments, found)
    return conclude_drain(found, arguments)


def conclude_drain(found: Mapping[Place, Mapping[str, Any]], arguments: DrainArguments) -> int:
    """Print what became of it, live or in virtual time; return the exit code."""
    silent = [place.node for place, told in found.items() if "error" in told]
    if arguments.json:
        for place, told in found.items():
            print(json.dumps({"node": place.node, "link": place.link, **told}), flush=True)
        summary = {"places": len(found), "undo": arguments.undo, "silent": silent}
        print(json.dumps({"summary": summary}), flush=True)
    else:
        _show(found)
    return UNREACHABLE if silent else DONE


def places_of(network: NetworkFile, names: tuple[str, ...]) -> list[Place]:
    """Return what is meant: a node of this name, otherwise a link, at both of its ends."""
    users = {node.name for node in network.nodes if node.kind == "end" and node.user is not None}
    found, wrong = [], []
    for name in names:
        ends = [arm.node for link in network.links if link.name == name for arm in link.arms]
        if name in users:
            found.append(Place(name, None))
        elif ends and set(ends) <= users:
            found += [Place(end, name) for end in ends]
        else:
            wrong.append(name)
    if wrong:
        known = ", ".join([*sorted(users), *(link.name for link in network.links)])
        reason = "is neither a node nor a link that can be drained: these are"
        raise ConfigError([f"{network.file}: {name} {reason} {known}" for name in wrong])
    return list(dict.fromkeys(found))


def runs(status: Mapping[str, Any], link: LinkName | None) -> list[str]:
    """Return the requests that a node, by its status, still serves (on a link of its)."""
    over = [
        each["request"]
        for circuit in status["network"]["circuits"]
        if link is None or link in circuit["share"]
        for each in circuit["requests"]
    ]
    for name, rooms in status["links"].items():
        if link in (None, name):
            over += [each["request"] for each in rooms["link"]["requests"]]
    return list(dict.fromkeys(over))


async def _all(
    network: NetworkFile,
    places: list[Place],
    arguments: DrainArguments,
    found: dict[Place, dict[str, Any]],
) -> None:
    async with trio.open_nursery() as nursery:
        for place in places:
            found[place] = {}
            nursery.start_soon(_one, network, place, arguments, found[place])


async def _one(
    network: NetworkFile, place: Place, arguments: DrainArguments, told: dict[str, Any]
) -> None:
    """Tell one node; put what it says, or why it says nothing, into `told`."""
    try:
        async with connect(network, place.node, timeout_s=CONNECT_S) as (node,):
            await node.drain(place.link, undo=arguments.undo)
            told["draining"] = not arguments.undo
            told["runs"] = await _left(node, place, wait=arguments.wait and not arguments.undo)
    except Unreachable as error:
        told["error"] = str(error)


async def _left(node: LiveNode, place: Place, *, wait: bool) -> list[str]:
    left = runs(await node.status(), place.link)
    while wait and left:
        await trio.sleep(LOOK_S)
        left = runs(await node.status(), place.link)
    return left


def _show(found: Mapping[Place, Mapping[str, Any]]) -> None:
    console = Console(file=sys.stdout)
    table = Table("node", "link", "takes", "requests that still run")
    for place, told in found.items():
        if "error" not in told:
            takes = "nothing new" if told["draining"] else "requests again"
            table.add_row(place.node, place.link or "all", takes, str(len(told["runs"])))
    if table.row_count:
        console.print(table)
    for told in found.values():
        if "error" in told:
            console.print(told["error"], markup=False, highlight=False)

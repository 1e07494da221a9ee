"""From links to hosts: which parties there are, and the machine of each."""

from __future__ import annotations

from collections.abc import Iterable

from qstack.hal.plugins import Sheet
from qstack.physical.service import LinkParameters
from qstack.stack.end_node import EndNode
from qstack.stack.end_node_parameters import EndNodeParameters
from qstack.stack.hosting import Identity
from qstack.stack.policy import Policy
from qstack.stack.station import StationNode, StationParameters
from qstack.units import Chance, NodeName


def roles(links: Iterable[LinkParameters]) -> dict[NodeName, str]:
    """Return the parties of these links, sorted by name: "node" for ends, "station"."""
    found: dict[NodeName, str] = {}
    for link in links:
        found[link.station] = "station"
        for end in link.ends:
            found[end.node] = "node"
    return dict(sorted(found.items()))


def devices_of(name: NodeName, links: Iterable[LinkParameters]) -> tuple[str, ...]:
    """Return the names of all devices that the party `name` commands, sorted."""
    found: set[str] = set()
    for link in links:
        if link.station == name:
            found.add(link.analyser)
        for end in link.ends:
            if end.node == name:
                found.update((end.emitter, end.memory))
    return tuple(sorted(found))


def build(
    identity: Identity,
    links: Iterable[LinkParameters],
    hosts: tuple[tuple[str, NodeName], ...],
    chance: Chance,
    sheets: tuple[tuple[str, Sheet], ...] = (),
    *,
    policy: Policy = Policy(),  # noqa: B008 - an immutable record
) -> EndNode | StationNode:
    """Return the machine of the party `identity.name` in a network of these links.

    `hosts`: (device, process) for devices that another process serves. `sheets`: what the
    network file states of such devices, where that has to agree with what their process says.
    `policy` means something for end nodes alone.
    """
    name = identity.name
    mine = tuple(link for link in links if name in (link.station, *(e.node for e in link.ends)))
    if identity.role == "station":
        return StationNode(StationParameters(identity, mine, hosts, sheets))
    ends = [link.end(name) for link in mine]
    communication = sorted({slot for end in ends for slot in end.communication})
    storage = sorted({slot for end in ends for slot in end.storage})
    slots = tuple(communication), tuple(storage)
    parameters = EndNodeParameters(identity, mine, ends[0].memory, *slots, hosts, sheets, policy)
    return EndNode(parameters, chance)

"""Whether the nodes of a network know all the ways that its file describes.

Neighbours find each other first; what each says of its links then takes a few milliseconds
to everybody else. A network is ready for requests between any two nodes when it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from qstack.config import NetworkFile
from qstack.units import LinkName, NodeName

Heard: TypeAlias = Mapping[NodeName, Mapping[LinkName, bool]]
"""What a node has heard: of each node, which of its links that one says are up.

One that is closed by its windows counts as up: nobody is missed.
"""


def heard_of(status: Mapping[str, Any]) -> Heard:
    """Return what an end node has heard, by its status."""
    routes = status["network"]["routes"]
    return {
        name: {
            link: bool(view["up"] or view.get("closed_ns")) for link, view in said["links"].items()
        }
        for name, said in routes.items()
    }


def islands(network: NetworkFile) -> dict[NodeName, frozenset[NodeName]]:
    """Return, for each end node, those that some sequence of links leads to, itself among them."""
    beside: dict[NodeName, set[NodeName]] = {}
    for link in network.links:
        one, other = (arm.node for arm in link.arms)
        beside.setdefault(one, set()).add(other)
        beside.setdefault(other, set()).add(one)
    found: dict[NodeName, frozenset[NodeName]] = {}
    for start in beside:
        if start not in found:
            island, left = {start}, [start]
            while left:
                fresh = beside[left.pop()] - island
                island |= fresh
                left += fresh
            found |= dict.fromkeys(island, frozenset(island))
    return found


def ignorance(network: NetworkFile, heard: Mapping[NodeName, Heard]) -> Iterator[str]:
    """Yield, in words, what nodes do not know yet of the network, or know as down.

    `heard` by end nodes. Nothing once each knows all that it is joined to, with all links up.
    """
    known = islands(network)
    for name, of in heard.items():
        island = known.get(name, frozenset())
        missing = island - of.keys()
        if missing:
            yield f"{name} has not heard of {', '.join(sorted(missing))}"
        for origin in sorted(island & of.keys()):
            for link, up in of[origin].items():
                if not up:
                    yield f"{name} hears from {origin} that link {link} is down"

"""What the network layer of a node tells people: routes and circuits, in JSON's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qstack.messages.network import RouteUpdate
from qstack.network.circuits import Circuits
from qstack.network.forwarding import Between
from qstack.network.places import Side
from qstack.network.routing import Query, route
from qstack.network.topology import Graph
from qstack.units import NodeName


def report_routes(
    node: NodeName, database: Mapping[NodeName, RouteUpdate], graph: Graph
) -> dict[str, Any]:
    """Return every node that is known, and the fastest way to it from here."""
    found: dict[str, Any] = {}
    for name, update in database.items():
        entry: dict[str, Any] = {
            "sequence": update.sequence,
            "trust": update.node.trust,
            "draining": update.node.draining,
            "links": {
                link.link: {"peer": link.peer, "up": link.up, "reserved": link.reserved}
                for link in update.links
            },
        }
        way = route(graph, Query(node, name)) if name != node and node in graph.sites else None
        if way is not None:
            entry["way"] = list(way.nodes)
            entry["rate_hz"] = way.rate_hz
            entry["fidelity"] = way.fidelity
        found[name] = entry
    return found


def report_circuits(circuits: Circuits) -> list[dict[str, Any]]:
    """Return the circuits that this node takes part in."""
    found = []
    for member in circuits.members:
        place, part = member.place, member.part
        requests = member.passing if type(part) is Between else getattr(part, "orders", {})
        purifier = getattr(part, "purifier", None)
        purified = {} if purifier is None else dict(purifier.counters)
        found.append(
            {
                "circuit": str(place.id),
                "path": [place.id.origin, *(leg.node for leg in place.install.legs)],
                "role": "head" if place.is_head else "tail" if place.is_tail else "between",
                "state": place.state.name.lower(),
                "share": {
                    place.link(side): place.leg(side).share for side in Side if place.has(side)
                },
                "cutoff_ns": 0 if place.is_head else place.leg(Side.UP).cutoff_ns,
                "held": 0 if part is None else part.held,
                "requests": [str(request) for request in requests],
                "method": place.install.method.name.lower(),
                "rounds": place.install.rounds,
                "purified": purified,
            }
        )
    return found

"""What the network layer of a node tells people: routes and circuits, in JSON's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qstack.messages.network import RouteUpdate
from qstack.network.circuits import Circuits
from qstack.network.forwarding import Between
from qstack.network.hours import closed_for
from qstack.network.orders import Order
from qstack.network.places import Side
from qstack.network.routing import fastest, rate_at_once
from qstack.network.topology import Graph
from qstack.units import Duration, Instant, NodeName


def report_routes(
    node: NodeName,
    database: Mapping[NodeName, RouteUpdate],
    graph: Graph,
    ages: Mapping[NodeName, Duration],
) -> dict[str, Any]:
    """Return every node that is known, and the fastest way to it from here.

    `closed_ns`: so long a link is closed yet, by its windows, `ages` being those of the updates.
    """
    found: dict[str, Any] = {}
    ways = fastest(graph, node) if node in graph.sites else {}
    for name, update in sorted(database.items()):
        entry: dict[str, Any] = {
            "sequence": update.sequence,
            "trust": update.node.trust,
            "draining": update.node.draining,
            "links": {
                link.link: {
                    "peer": link.peer,
                    "up": link.up,
                    "reserved": link.reserved,
                    "draining": link.draining,
                    "closed_ns": closed_for(link, ages[name]),
                }
                for link in update.links
            },
        }
        way = ways.get(name)
        if way is not None:
            entry["way"] = list(way.nodes)
            entry["rate_hz"] = rate_at_once(graph, way)
            entry["fidelity"] = way.fidelity
        found[name] = entry
    return found


def report_circuits(circuits: Circuits, now: Instant) -> list[dict[str, Any]]:
    """Return the circuits that this node takes part in.

    `lease_ns` is what a circuit has left before it is forgotten here, None at its head-end, whose
    own it is. At its ends requests come with how far they are.
    """
    found = []
    for member in circuits.members:
        place, part = member.place, member.part
        between = type(part) is Between
        requests = [{"request": str(request)} for request in member.passing] if between else []
        orders: Mapping[Any, Order] = {} if between else getattr(part, "orders", {})
        requests += [_order_fields(order) for order in orders.values()]
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
                "rests": member.rests,
                "bins": circuits.division.bins_of(place.id),
                "held": 0 if part is None else part.held,
                "requests": requests,
                "lease_ns": None if place.is_head else max(0, place.lease_until - now),
                "method": place.install.method.name.lower(),
                "rounds": place.install.rounds,
                "purified": purified,
                "hops": {
                    place.link(side): {
                        "method": place.leg(side).method.name.lower(),
                        "rounds": place.leg(side).rounds,
                        **still.counters,
                    }
                    for side, still in member.stills.items()
                },
            }
        )
    return found


def _order_fields(order: Order) -> dict[str, Any]:
    return {
        "request": str(order.wanted.id),
        "state": order.state.value,
        "delivered": order.delivered,
        "number": order.wanted.number,
    }

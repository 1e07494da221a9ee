"""What a network file promises between nodes that are no neighbours: as its nodes will reckon.

The nodes choose among what is up and free when a request comes; here all links are up and
nothing is reserved. So the rate is at most this one.
"""

from __future__ import annotations

from qstack.config.links import link_parameters
from qstack.config.records import NetworkFile
from qstack.messages.network import RouteUpdate
from qstack.network.admission import Verdict
from qstack.network.advertise import View, link_metric, memories_of, node_metric
from qstack.network.course import Promise, choose
from qstack.network.desk import operations_of
from qstack.network.routing import Route
from qstack.network.topology import Graph, graph_of
from qstack.units import NodeName


def expected_route(
    network: NetworkFile, a: NodeName, b: NodeName, fidelity_min: float, trust_min: int = 0
) -> Route | None:
    """Return the way of a request of `a` for pairs with `b`; None where there is none.

    Its rate is in pairs per second of lab time and its fidelity the mean at hand-over.
    """
    graph = expected_graph(network)
    if not {a, b} <= graph.sites.keys() or a == b:
        return None
    found = choose(graph, a, Promise(b, fidelity_min, False, False, trust_min), 0.0)
    return None if isinstance(found, Verdict) else found.route


def expected_graph(network: NetworkFile) -> Graph:
    """Return the network as its routes see it once every link is up; control as fast as light."""
    links = [link_parameters(network, link.name) for link in network.links]
    said = {}
    for node in network.nodes:
        mine = [link for link in links if node.name in (end.node for end in link.ends)]
        if node.kind != "end" or not mine:
            continue
        ends = [link.end(node.name) for link in mine]
        model = ends[0].model
        metric = node_metric(
            [end.model for end in ends],
            memories_of(ends),
            operations_of(model),
            swaps=model.bell_measurement and bool(model.coupled) and len(mine) > 1,
            trust=node.trust,
        )
        metrics = tuple(
            link_metric(link, node.name, View(True, sum(end.delay_ns for end in link.ends)))
            for link in mine
        )
        said[node.name] = RouteUpdate(node.name, 1, 1, 0, metric, metrics)
    return graph_of(said)

"""What a network file promises between nodes that are no neighbours: as its nodes will reckon.

The nodes choose among what is up and free when a request comes; here all links are up and
nothing is reserved. So the rate is at most this one.
"""

from __future__ import annotations

from qstack.config.links import link_parameters
from qstack.config.records import NetworkFile
from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.messages.network import RouteUpdate
from qstack.network.admission import Verdict
from qstack.network.advertise import View, link_metric, memories_of, node_metric
from qstack.network.course import Promise, choose
from qstack.network.desk import operations_of
from qstack.network.manner import manner_for, set_ns
from qstack.network.routing import Route
from qstack.network.topology import Graph, graph_of
from qstack.units import SECOND, Duration, NodeName


@record
class Wanted:
    """What is asked for: pairs of a kind, or sets of so many that come within a time (0: none).

    `trust_min`: what nodes between the ends must be trusted with.
    """

    fidelity_min: float
    kind: PairKind = PairKind.KEEP
    number: int = 1
    within_ns: Duration = 0
    trust_min: int = 0


def expected_route(network: NetworkFile, a: NodeName, b: NodeName, wanted: Wanted) -> Route | None:
    """Return the way of a request of `a` for pairs with `b`; None where there is none.

    Its rate is in pairs per second of lab time and its fidelity the mean at hand-over.
    """
    graph = expected_graph(network)
    if not {a, b} <= graph.sites.keys() or a == b:
        return None
    manner = manner_for(wanted.kind, wanted.number, wanted.within_ns)
    promise = Promise(b, wanted.fidelity_min, False, False, wanted.trust_min, manner)
    found = choose(graph, a, promise, 0.0)
    return None if isinstance(found, Verdict) else found.route


def rate_of(way: Route, wanted: Wanted) -> float:
    """Return the rate of pairs that are handed over: of a set's some are made for nothing."""
    if not wanted.within_ns:
        return way.rate_hz
    return wanted.number * SECOND / set_ns(way.rate_hz, wanted.number, wanted.within_ns)


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

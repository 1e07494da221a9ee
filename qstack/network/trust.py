"""What a request that asks for trust is told where the nodes on the way do not have it.

Trust is what an operator says of a node, and a constraint on paths: of the nodes between the ends,
not of the ends themselves, which a user chooses anyway.
"""

from __future__ import annotations

from qstack.errors import ErrorCode
from qstack.messages.circuits import Method
from qstack.network.admission import Verdict
from qstack.network.course import Course, Promise, choose
from qstack.network.topology import Graph
from qstack.units import NodeName


def mistrusted(
    graph: Graph,
    source: NodeName,
    promise: Promise,
    need_hz: float,
    methods: tuple[Method, ...],
) -> Verdict | None:
    """Return why trust is what a promise fails for, None where less trust would not help.

    It names the best trust with which the promise could be kept, and the nodes of that way which
    have less than was asked for.
    """
    levels = {site.trust for site in graph.sites.values() if site.trust < promise.trust_min}
    for level in sorted(levels, reverse=True):
        found = choose(graph, source, promise._replace(trust_min=level), need_hz, methods)
        if isinstance(found, Course):
            between = found.route.nodes[1:-1]
            trusts = [(name, graph.sites[name].trust) for name in between]
            low = [f"{name} has {trust}" for name, trust in trusts if trust < promise.trust_min]
            best = min(trust for _, trust in trusts)
            reason = (
                f"trust {promise.trust_min} is asked for of all nodes on the way; the network "
                f"stands for {best} at most: {', '.join(low)}"
            )
            return Verdict(ErrorCode.UNSUPPORTED, reason)
    return None

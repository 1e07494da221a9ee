"""Path choice on a large network, beside a plain Dijkstra of the same run."""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Callable, Iterator

from qstack.network.course import Promise, choose
from qstack.network.routing import Query, fastest, route
from qstack.network.topology import Graph
from tests.benchmarks.table import Figure
from tests.network.route_oracle import random_graph

NODES, RADIUS = 1_000, 0.06
RATIO = 50.0
FIDELITIES = (0.0, 0.5, 0.6, 0.7, 0.8)
TOO_MUCH = 0.99
TARGETS = 5


def dijkstra(graph: Graph, source: str) -> dict[str, float]:
    """Return the mean time for a pair along the shortest way to each node, in seconds."""
    found: dict[str, float] = {}
    heap = [(0.0, source)]
    while heap:
        so_far, node = heapq.heappop(heap)
        if node in found:
            continue
        found[node] = so_far
        for choice in graph.choices[node]:
            if choice.to not in found:
                heapq.heappush(heap, (so_far + 1 / choice.rate_hz, choice.to))
    return found


def took_s(work: Callable[[], object]) -> float:
    """Return the processor seconds of one call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def figures(nodes: int = NODES, radius: float = RADIUS, seed: int = 1) -> Iterator[Figure]:
    """Measure routes of several lengths and fidelities; the worst against the median Dijkstra."""
    graph = random_graph(nodes, radius, seed, swaps=True)
    names = sorted(graph.sites)
    plain = statistics.median(took_s(lambda: dijkstra(graph, names[0])) for _ in range(5))
    times = []
    for number in range(1, TARGETS + 1):
        target = names[number * (len(names) - 1) // TARGETS]
        for fidelity in FIDELITIES:
            query = Query(names[0], target, fidelity)
            times.append(took_s(lambda q=query: route(graph, q)))  # type: ignore[misc]  # its own
    asked = Promise(names[-1], TOO_MUCH, reserved=False)
    refusal = took_s(lambda: choose(graph, names[0], asked, 0.0))
    everywhere = took_s(lambda: fastest(graph, names[0]))
    yield Figure(f"plain Dijkstra, {nodes} nodes", plain * 1e3, "ms")
    yield Figure(f"route, {nodes} nodes, median", statistics.median(times) * 1e3, "ms")
    yield Figure(f"route, {nodes} nodes, worst", max(times) * 1e3, "ms")
    yield Figure("worst route to plain Dijkstra", max(times) / plain, "times", RATIO)
    yield Figure(f"a refusal: fidelity {TOO_MUCH:g} is too much", refusal * 1e3, "ms")
    yield Figure("ways to all nodes, for a status", everywhere * 1e3, "ms")

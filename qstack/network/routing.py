"""Which way a circuit goes: the largest rate at the fidelity and the trust asked for.

A partial route is a *label* at the node where it ends: its rate, its correlators and its latency.
Going on over a link at a working point, the node swaps:

- The pair that is there first waits for the other. How long, is at most the wait for the slower of
  the two, and both its halves fade meanwhile: at the node and at the far end, of which the worse
  of both candidates is taken. This is exact or too pessimistic, never too hopeful.
- With a qubit for each link the two are made at once and the rate is that of the later
  (:func:`~qstack.network.budget.meeting_rate`), times the swap's success. A node with a single
  communication qubit makes one after the other: the times add.
- With a cutoff, a pair that waited so long is discarded and both are made anew.
- Correlators multiply; latencies add. At the end both ends' halves age while TRACK travels, and as
  long as they rest there. Halves that the ends measure at once age at neither end.

All of this is monotone: a label that is no worse in rate, correlators and latency leads to no
worse routes. Labels are settled in the order of falling rate, so the first that reaches the target
with enough fidelity is the best. Each node settles at most `most_labels`; the second half of
them must each improve the best fidelity there. With no such limit the search is exact; with it, it
is compared with the exact one in the tests.

Equal databases give equal choices: everything is visited in the order of names, and ties are
broken by fidelity, by the number of hops and by the order of the visit.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import attrs

from qstack.bell import BellWeights
from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.network.budget import (
    ETERNAL,
    Correlators,
    fading,
    mean_fading,
    meeting_rate,
    one_after_the_other,
    rate_of_all,
    together,
    weights_of,
)
from qstack.network.topology import Choice, Graph
from qstack.units import Duration, LinkName, NodeName

MOST_LABELS = 16
_ROUNDING = 1e-12


@record
class Query:
    """What is asked for. `trust_min` holds for the nodes between the ends; `cutoff_ns` 0: none.

    `measured`: both ends measure their halves as soon as they come, so these never wait.
    `circuit`: also over one link the ends wait for each other's word. `rest_ns`: so much longer
    both halves wait at the ends before they are handed over.
    """

    source: NodeName
    target: NodeName
    fidelity_min: float = 0.0
    trust_min: int = 0
    cutoff_ns: Duration = 0
    most_hops: int = 64
    measured: bool = False
    circuit: bool = False
    rest_ns: Duration = 0


@record
class Hop:
    """One link of a route at a working point, and the node that it leads to."""

    link: LinkName
    setting: str
    node: NodeName


@record
class Route:
    """A route and what it promises; weights relative to the announced state, at hand-over."""

    source: NodeName
    hops: tuple[Hop, ...]
    rate_hz: float
    weights: BellWeights
    latency_ns: Duration

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """All nodes, the ends included."""
        return (self.source, *(hop.node for hop in self.hops))

    @property
    def fidelity(self) -> float:
        """The mean fidelity at hand-over."""
        return self.weights[0]


@record
class Label:
    """A partial route from the source: the choice that led here, and the label that it left."""

    rate_hz: float
    factors: Correlators
    latency_ns: Duration
    choice: Choice
    before: Label | None
    count: int

    def visits(self, node: NodeName) -> bool:
        """Whether a hop of it leads to this node."""
        label: Label | None = self
        while label is not None:
            if label.choice.to == node:
                return True
            label = label.before
        return False

    def hops(self) -> tuple[Hop, ...]:
        """Its hops, in order."""
        found = []
        label: Label | None = self
        while label is not None:
            found.append(Hop(label.choice.link, label.choice.setting, label.choice.to))
            label = label.before
        return tuple(reversed(found))


_Entry: TypeAlias = tuple[float, float, int, int, Label]


def route(graph: Graph, query: Query, most_labels: int | None = MOST_LABELS) -> Route | None:
    """Return the route of the largest rate that has the fidelity, None where there is none.

    `most_labels` per node, None for an exact search. LocalProtocolError for ends that are one
    or unknown.
    """
    return next(search(graph, query, most_labels), None)


def rate_at_once(graph: Graph, found: Route) -> float:
    """Return the rate of a route without a cutoff, at least that of its label, in pairs per second.

    Labels know of what is before them one number, its rate, and take its wait as exponential: that
    of the latest of several links varies less, so that a label's rate is too low, by 7 % for four
    equal links and by 19 % for eight. For a route as a whole the mean of the latest is known.
    """
    sites = [graph.sites[name] for name in found.nodes[1:-1]]
    if any(site.single for site in sites):
        return found.rate_hz
    rates = [
        choice.rate_hz
        for name, hop in zip(found.nodes, found.hops, strict=False)
        for choice in graph.choices[name]
        if (choice.link, choice.setting) == (hop.link, hop.setting)
    ]
    swaps = math.prod(site.success for site in sites)
    return max(found.rate_hz, swaps * rate_of_all(rates))


def front(graph: Graph, query: Query, most_labels: int | None = MOST_LABELS) -> list[Route]:
    """Return the routes of which each has more fidelity than all faster ones, fastest first."""
    found: list[Route] = []
    for each in search(graph, query, most_labels):
        if not found or each.fidelity > found[-1].fidelity + _ROUNDING:
            found.append(each)
    return found


def best_fidelity(graph: Graph, query: Query, most_labels: int | None = MOST_LABELS) -> float:
    """Return the largest fidelity that any route gives, 0 where there is none: for a refusal."""
    # The type checker does not see that our records are attrs classes.
    free = attrs.evolve(cast(Any, query), fidelity_min=0.0)
    found = search(graph, free, most_labels, purest=True)
    return max((each.fidelity for each in found), default=0.0)


def search(
    graph: Graph, query: Query, most_labels: int | None, *, purest: bool = False
) -> Iterator[Route]:
    """Yield routes with the fidelity asked for, of falling rate; or those of pure labels first."""
    for name in (query.source, query.target):
        if name not in graph.sites:
            raise LocalProtocolError(f"no node {name} is known")
    if query.source == query.target:
        raise LocalProtocolError(f"a route from {query.source} to itself")
    bounds = _Bounds(graph, query, purest)
    settled: dict[NodeName, list[Label]] = {name: [] for name in graph.sites}
    heap: list[_Entry] = []
    order = 0
    for choice in graph.choices[query.source]:
        if choice.to in bounds.factor:
            first = Label(choice.rate_hz, choice.factors, choice.latency_ns, choice, None, 1)
            order = _push(heap, first, bounds, order)
    while heap:
        label = heapq.heappop(heap)[-1]
        node = label.choice.to
        if not _settle(settled[node], label, most_labels):
            continue
        if node == query.target:
            end = _end(graph, query, label)
            if end.fidelity >= query.fidelity_min - _ROUNDING:
                yield end
            continue
        site = graph.sites[node]
        if not site.swaps or site.trust < query.trust_min or label.count >= query.most_hops:
            continue
        for choice in graph.choices[node]:
            there = choice.to
            if there not in bounds.factor or there == query.source or label.visits(there):
                continue
            longer = extend(graph, query, label, choice)
            if not _dominated(settled[there], longer):
                order = _push(heap, longer, bounds, order)


def extend(graph: Graph, query: Query, label: Label, choice: Choice) -> Label:
    """Return the label that swaps at the end of `label` and goes on by `choice`."""
    here = graph.sites[label.choice.to]
    if here.single:
        rate = one_after_the_other(label.rate_hz, choice.rate_hz)
    else:
        rate = meeting_rate(label.rate_hz, choice.rate_hz, query.cutoff_ns)
    slower = min(label.rate_hz, choice.rate_hz)
    start, there = graph.sites[query.source].storage, graph.sites[choice.to].storage
    if query.measured:
        start = ETERNAL
        there = ETERNAL if choice.to == query.target else there
    near = mean_fading(here.storage, slower, query.cutoff_ns)
    one = mean_fading(start, slower, query.cutoff_ns)
    other = mean_fading(there, slower, query.cutoff_ns)
    # Fading treats X and Y alike.
    phase = near[0] * min(one[0], other[0])
    level = near[2] * min(one[2], other[2])
    (a, b, c), (d, e, f), (g, h, i) = label.factors, choice.factors, here.swapping
    return Label(
        rate * here.success,
        (a * d * g * phase, b * e * h * phase, c * f * i * level),
        label.latency_ns + choice.latency_ns,
        choice,
        label,
        label.count + 1,
    )


def _end(graph: Graph, query: Query, label: Label) -> Route:
    """The finished route: both ends age while the last word travels, where there is one."""
    waited = not query.measured and (label.count > 1 or query.circuit)
    age = (label.latency_ns if waited else 0) + query.rest_ns
    ends = (fading(graph.sites[n].storage, age) for n in (query.source, query.target))
    weights = weights_of(together(label.factors, *ends))
    return Route(query.source, label.hops(), label.rate_hz, weights, label.latency_ns)


def _dominated(settled: list[Label], label: Label) -> bool:
    """Whether some label there is no worse in anything."""
    rate, latency = label.rate_hz, label.latency_ns
    x, y, z = label.factors
    for other in settled:
        if other.rate_hz >= rate and other.latency_ns <= latency:
            best = other.factors
            if best[0] >= x and best[1] >= y and best[2] >= z:
                return True
    return False


def _settle(settled: list[Label], label: Label, most_labels: int | None) -> bool:
    """Whether the label is worth going on with; then it is one of the node's."""
    if _dominated(settled, label):
        return False
    if most_labels is not None and 2 * len(settled) >= most_labels:
        if len(settled) >= most_labels:
            return False
        if sum(label.factors) <= max(sum(other.factors) for other in settled):
            return False
    settled.append(label)
    return True


def _push(heap: list[_Entry], label: Label, bounds: _Bounds, order: int) -> int:
    """Queue a label unless it cannot reach the target with the fidelity asked for.

    `order` is a number that no label had before; returns the next.
    """
    node = label.choice.to
    total = sum(label.factors)
    if 1 + total * bounds.factor[node] < 4 * bounds.fidelity_min:
        return order
    rate = min(label.rate_hz, bounds.rate[node])
    first, second = (total, rate) if bounds.purest else (rate, total)
    heapq.heappush(heap, (-first, -second, label.count, order, label))
    return order + 1


class _Bounds:
    """What no way on from a node to the target can beat: its correlators, and its rate."""

    def __init__(self, graph: Graph, query: Query, purest: bool) -> None:
        self.purest = purest
        self.fidelity_min = query.fidelity_min - _ROUNDING
        between = {
            name
            for name, site in graph.sites.items()
            if site.swaps and site.trust >= query.trust_min
        }
        towards: dict[NodeName, list[tuple[NodeName, float, float]]] = {}
        for name, choices in graph.choices.items():
            for choice in choices:
                edge = name, max(choice.factors), choice.rate_hz
                towards.setdefault(choice.to, []).append(edge)
        self.factor = _best(towards, query.target, between, 1)
        self.rate = _best(towards, query.target, between, 2)


def _best(
    towards: dict[NodeName, list[tuple[NodeName, float, float]]],
    target: NodeName,
    between: set[NodeName],
    kind: int,
) -> dict[NodeName, float]:
    """The best way to `target` from each node: by product of factors (1) or least rate (2)."""
    found: dict[NodeName, float] = {}
    heap = [(-1.0 if kind == 1 else -math.inf, target)]
    while heap:
        value, node = heapq.heappop(heap)
        if node in found:
            continue
        found[node] = -value
        if node != target and node not in between:
            continue
        for edge in towards.get(node, ()):
            if edge[0] not in found:
                new = -value * edge[1] if kind == 1 else min(-value, edge[2])
                heapq.heappush(heap, (-new, edge[0]))
    return found

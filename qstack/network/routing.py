"""Which way a circuit goes: the largest rate at the fidelity and the trust asked for.

A partial route is a *label* at the node where it ends: its rate, its correlators and its latency.
Going on over a link at a working point, the node swaps:

- The pair that is there first waits for the other. How long, is at most the wait for the slower of
  the two, and both its halves fade meanwhile: at the node and at the far end, of which the worse
  of both candidates is taken. This is exact or too pessimistic, never too hopeful.
- With a qubit for each link the two are made at once and the rate is that of the later
  (:func:`~qstack.network.meeting.meeting_rate`), times the swap's success. A node with a single
  communication qubit makes one after the other: the times add.
- With a cutoff, a pair that waited so long is discarded and both are made anew.
- Correlators multiply; latencies add. Halves that rest at the ends age there; those that the ends
  measure at once age at neither end.

Control messages take time. After the last swap the halves at the ends are kept until TRACK has
travelled all the way, so

- both ends age by the latency of the whole route before they are handed over,
- pairs that the links between the ends make ahead wait so much longer for those of the ends,
  at the worst memory between, two halves of each chain that is made ahead
  (:func:`~qstack.network.labels.made_ahead`); of a cutoff only the rest is left then,
- an end's qubit gives no other pair so long.

A link's qubit that is free again takes another turn of messages with its station until it gives a
pair: that adds to both of the latter. The time between pairs is longer by all of this, divided
among as many pairs as the ends can have at once, for each try, whether its swaps succeed or not.

All of this is monotone: a label that is no worse in anything leads to no worse routes. Labels are
settled in the order of the rate that they may still come to, which is never less than what they do
come to, so the first that reaches the target with enough fidelity is the best. Each node settles
at most `most_labels`; the second half of them must each improve the best fidelity there. Without
such a limit the search is exact; with it, it is compared with the exact one in the tests.

Equal databases give equal choices: everything is visited in the order of names, and ties are
broken by fidelity, by the number of hops and by the order of the visit.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from operator import mul, sub
from typing import Any, TypeAlias, cast

import attrs

from qstack.errors import LocalProtocolError
from qstack.network.budget import rate_of_all
from qstack.network.labels import (
    Hop,
    Label,
    Query,
    Rivals,
    Route,
    arrived,
    dominated,
    extend,
    finished,
    first,
)
from qstack.network.topology import Choice, Graph, slowed
from qstack.units import Duration, NodeName

__all__ = [
    "MOST_LABELS",
    "Hop",
    "Query",
    "Route",
    "best_fidelity",
    "fastest",
    "front",
    "hop_of",
    "rate_at_once",
    "route",
]

MOST_LABELS = 16
LEAST_LABELS = 4
LABELS_TO_ALL = 400
"""Where no fidelity is asked for, so many labels of all nodes together may settle, but
`LEAST_LABELS` of each; one of each in the search for routes to all nodes at once."""

_ROUNDING = 1e-12


_Entry: TypeAlias = tuple[float, float, int, int, Label]


def route(graph: Graph, query: Query, most_labels: int | None = MOST_LABELS) -> Route | None:
    """Return the route of the largest rate that has the fidelity, None where there is none.

    `most_labels` per node, None for an exact search. LocalProtocolError for ends that are one
    or unknown.
    """
    if most_labels is not None and query.fidelity_min <= 0:
        most_labels = min(most_labels, max(LEAST_LABELS, LABELS_TO_ALL // len(graph.sites)))
    return next(search(graph, query, most_labels), None)


def fastest(graph: Graph, source: NodeName) -> dict[NodeName, Route]:
    """Return the route of the largest rate to each node that can be reached, in one search.

    As :func:`route` finds them one by one without asking for fidelity: LocalProtocolError for
    a source that is unknown. The more nodes there are the fewer labels each settles: who asks for
    a status must not keep a node from its neighbours.
    """
    if source not in graph.sites:
        raise LocalProtocolError(f"no node {source} is known")
    query = Query(source, "")
    most = max(1, min(MOST_LABELS, LABELS_TO_ALL // len(graph.sites)))
    found: dict[NodeName, Route] = {}
    settled: dict[NodeName, list[Label]] = {name: [] for name in graph.sites}
    heap: list[_Entry] = []
    order = 0
    new = [first(choice) for choice in graph.choices[source]]
    while new or heap:
        for label in new:
            order += 1
            rank = (-label.delivered_hz, -sum(label.factors), label.count, order)
            heapq.heappush(heap, (*rank, label))
        label, new = heapq.heappop(heap)[-1], []
        node = label.choice.to
        if len(settled[node]) >= most or dominated(settled[node], label, Rivals.RATES):
            continue
        settled[node].append(label)
        end = finished(graph, Query(source, node), arrived(label))
        best = found.get(node)
        if best is None or (end.rate_hz, end.fidelity) > (best.rate_hz, best.fidelity):
            found[node] = end
        if not graph.sites[node].swaps or label.count >= query.most_hops:
            continue
        for choice in graph.choices[node]:
            if choice.to != source and not label.visits(choice.to):
                longer = extend(graph, query, label, choice)
                if not dominated(settled[choice.to], longer, Rivals.RATES):
                    new.append(longer)
    return found


def rate_at_once(graph: Graph, found: Route) -> float:
    """Return the rate of a route without a cutoff, at least that of its label, in pairs per second.

    Labels know of what is before them one number, its rate, and take its wait as exponential: that
    of the latest of several links varies less, so that a label's rate is too low, by 7 % for four
    equal links and by 19 % for eight. For a route as a whole the mean of the latest is known.
    """
    sites = [graph.sites[name] for name in found.nodes[1:-1]]
    if any(site.single for site in sites) or not sites:
        return found.rate_hz
    hops = [hop_of(graph, found, place) for place in range(len(found.hops))]
    swaps = math.prod(site.success for site in sites)
    pause = found.latency_ns + max(hop.turn_ns for hop in hops)
    rate_hz = swaps * rate_of_all([hop.rate_hz for hop in hops])
    return max(found.rate_hz, slowed(rate_hz, pause, min(hops[0].halves, hops[-1].halves) * swaps))


def hop_of(graph: Graph, found: Route, place: int) -> Choice:
    """Return the choice of a hop of a route, by its place.

    Of a graph without rounds on links that of the link itself.
    """
    hop, node = found.hops[place], found.nodes[:-1][place]
    same = [each for each in graph.choices[node] if each.leads_as(hop.link, hop.setting)]
    return next((each for each in same if each.way == hop.way), same[0])


def front(graph: Graph, query: Query, most_labels: int | None = MOST_LABELS) -> list[Route]:
    """Return the routes of which each has more fidelity than all faster ones, fastest first."""
    found: list[Route] = []
    for each in search(graph, query, most_labels):
        if not found or each.fidelity > found[-1].fidelity + _ROUNDING:
            found.append(each)
    return found


def best_fidelity(
    graph: Graph,
    query: Query,
    cutoffs: Iterable[Duration] | None = None,
    most_labels: int | None = MOST_LABELS,
) -> float:
    """Return the largest fidelity that any route gives, 0 where there is none: for a refusal.

    With the best of these `cutoffs`, 0 for none, instead of the query's. A shorter one makes every
    way purer, unless words need as long as it lasts: where the shortest leaves out no way the
    others are not looked at.
    """
    best = 0.0
    tried = (query.cutoff_ns,) if cutoffs is None else cutoffs
    for cutoff in sorted(tried, key=lambda each: each or math.inf):
        # The type checker does not see that our records are attrs classes.
        free = attrs.evolve(cast(Any, query), fidelity_min=0.0, cutoff_ns=cutoff)
        bounds = _Bounds(graph, free, purest=True)
        found = search(graph, free, most_labels, bounds)
        best = max(best, max((each.fidelity for each in found), default=0.0))
        if not bounds.left_out:
            break
    return best


def search(
    graph: Graph, query: Query, most_labels: int | None, bounds: _Bounds | None = None
) -> Iterator[Route]:
    """Yield routes with the fidelity asked for, of falling rate; or what `bounds` look for."""
    for name in (query.source, query.target):
        if name not in graph.sites:
            raise LocalProtocolError(f"no node {name} is known")
    if query.source == query.target:
        raise LocalProtocolError(f"a route from {query.source} to itself")
    bounds = bounds or _Bounds(graph, query)
    rivals = Rivals.EXACTLY if most_labels is None else Rivals.ROUGHLY
    settled: dict[NodeName, list[Label]] = {name: [] for name in graph.sites}
    heap: list[_Entry] = []
    order = 0
    for choice in graph.choices[query.source]:
        if choice.to in bounds.factor:
            order = _push(heap, first(choice), bounds, order)
    while heap:
        label = heapq.heappop(heap)[-1]
        node = label.choice.to
        if bounds.purest and bounds.beyond(node, sum(label.factors)):
            continue
        if not _settle(settled[node], label, most_labels, rivals):
            continue
        if node == query.target:
            end = finished(graph, query, label)
            if end.fidelity >= bounds.fidelity_min:
                if bounds.purest:
                    bounds.fidelity_min = end.fidelity
                yield end
            continue
        site = graph.sites[node]
        if not site.swaps or site.trust < query.trust_min or label.count >= query.most_hops:
            continue
        for choice in graph.choices[node]:
            there = choice.to
            if there not in bounds.factor or there == query.source or label.visits(there):
                continue
            cutoff = bounds.cutoff_ns(label, choice)
            if cutoff is None:
                continue
            longer = extend(graph, query, label, choice, cutoff)
            if longer.rate_hz <= 0:
                # What is left of the cutoff is less than a slot.
                bounds.left_out = True
            elif not dominated(settled[there], longer, rivals):
                order = _push(heap, longer, bounds, order)


def _settle(settled: list[Label], label: Label, most_labels: int | None, rivals: Rivals) -> bool:
    """Whether the label is worth going on with; then it is one of the node's."""
    if dominated(settled, label, rivals):
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
    if bounds.beyond(node, total):
        return order
    rate = bounds.rate_hz(label)
    first, second = (total * bounds.factor[node], rate) if bounds.purest else (rate, total)
    heapq.heappush(heap, (-first, -second, label.count, order, label))
    return order + 1


class _Bounds:
    """What no way on from a node to the target can beat: its correlators, and its rate.

    `purest`: labels are settled in the order of what they may come to, and only routes better than
    those before count. `left_out`: the cutoff was too short for words, or for a slot, on some way.
    """

    __slots__ = (
        *("_cutoff_ns", "_latency", "_rate", "_swaps", "factor", "fidelity_min", "left_out"),
        "purest",
    )

    def __init__(self, graph: Graph, query: Query, *, purest: bool = False) -> None:
        self.purest = purest
        self.left_out = False
        self.fidelity_min = query.fidelity_min - _ROUNDING
        between = {
            name
            for name, site in graph.sites.items()
            if site.swaps and site.trust >= query.trust_min
        }
        to = query.target
        pure = {name: max(site.swapping) for name, site in graph.sites.items()}
        factors = _edges(graph, lambda name, c: pure[name] * max(c.factors))
        self.factor = _best(factors, to, between, 1.0, mul)
        success = {name: site.success for name, site in graph.sites.items()}
        self._swaps = _best(_edges(graph, lambda name, _: success[name]), to, between, 1.0, mul)
        swaps = self._swaps
        # What a link gives is swapped at the node that it leaves, and at all that follow.
        ends = _edges(graph, lambda name, c: c.rate_hz * success[name] * swaps.get(c.to, 0.0))
        self._rate = _best(ends, to, between, math.inf, min)
        self._cutoff_ns = query.cutoff_ns
        self._latency: dict[NodeName, float] = {}
        if self._cutoff_ns:
            edges = _edges(graph, lambda _, c: c.latency_ns)
            self._latency = _best(edges, to, between, 0.0, sub)

    def rate_hz(self, label: Label) -> float:
        """What a label may still come to: some links ahead are slow, and some swaps fail."""
        node = label.choice.to
        return min(label.delivered_hz, self._rate[node], label.rate_hz * self._swaps[node])

    def beyond(self, node: NodeName, total: float) -> bool:
        """Whether correlators of this sum at a node cannot come to the fidelity that counts."""
        return 1 + total * self.factor[node] < 4 * self.fidelity_min

    def cutoff_ns(self, label: Label, choice: Choice) -> Duration | None:
        """What is left of the cutoff once words have travelled the whole way; None for nothing.

        0 is no cutoff. Of the way that is still to come the shortest counts.
        """
        if not self._cutoff_ns:
            return 0
        to_come = choice.latency_ns - self._latency[choice.to]
        left = self._cutoff_ns - label.latency_ns - round(to_come)
        left -= max(label.turn_ns, choice.turn_ns)
        if left > 0:
            return left
        self.left_out = True
        return None


_Edges: TypeAlias = dict[NodeName, list[tuple[NodeName, float]]]


def _edges(graph: Graph, value: Callable[[NodeName, Choice], float]) -> _Edges:
    """By the node that they lead to: whence choices come, and what they are worth."""
    found: _Edges = {}
    for name, choices in graph.choices.items():
        for choice in choices:
            found.setdefault(choice.to, []).append((name, value(name, choice)))
    return found


def _best(
    edges: _Edges,
    target: NodeName,
    between: set[NodeName],
    start: float,
    join: Callable[[float, float], float],
) -> dict[NodeName, float]:
    """The best way to `target` from each node: the largest of what `join` makes along it."""
    found: dict[NodeName, float] = {}
    heap = [(-start, target)]
    while heap:
        value, node = heapq.heappop(heap)
        if node in found:
            continue
        found[node] = -value
        if node != target and node not in between:
            continue
        for before, worth in edges.get(node, ()):
            if before not in found:
                heapq.heappush(heap, (-join(-value, worth), before))
    return found

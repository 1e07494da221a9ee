"""Where rounds of purification pay: on links, before swaps, as further working points of a link.

A link whose pairs its two nodes purify is a link with fewer and better pairs. So each plan of
rounds that so many qubits allow is one more choice of the graph, and the search for routes finds on
which links, and how much of it, pays; rounds at the ends then work on what the route gives. What a
link's nodes can hold at once they need for its rounds; where a node between has the same qubits
for both its sides, each side is reckoned to have half of them, less the one that is kept free.

Of the plans of a working point a few are choices: the cheapest of those that are better in some
way than each cheaper one, and the one of the largest fidelity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import lru_cache

import attrs

from qstack.bell import BellWeights
from qstack.machine import record
from qstack.messages.circuits import Method
from qstack.network.budget import Correlators, correlators
from qstack.network.purification import ENOUGH, Pace, Plan, memories_of, plans
from qstack.network.rounds import Ends
from qstack.network.topology import Choice, Graph
from qstack.units import LinkName, NodeName

MOST_POINTS = 4
"""So many plans a working point is offered with: the cheapest, and the best."""

_MOST_KEPT = 4_096


def refined(graph: Graph, ends: tuple[NodeName, NodeName], methods: tuple[Method, ...]) -> Graph:
    """Return the graph with the choices that rounds on links add; the same one where none do.

    `ends` are those of the route that is looked for. A link between them has none: its pairs are
    purified at the ends.
    """
    places = {name: _room(graph, name, ends) for name in graph.sites} if methods else {}
    choices = {}
    added = False
    for name, found in graph.choices.items():
        more = [
            better
            for choice in found
            if methods and {name, choice.to} != set(ends)
            for better in _better(graph, name, choice, places, methods)
        ]
        added = added or bool(more)
        choices[name] = (*found, *more)
    return Graph(graph.sites, choices) if added else graph


def corridor(graph: Graph, links: Set[LinkName]) -> Graph:
    """Return the graph of these links and their nodes alone."""
    choices = {
        name: tuple(each for each in some if each.link in links)
        for name, some in graph.choices.items()
    }
    used = {name for name, some in choices.items() if some}
    sites = {name: site for name, site in graph.sites.items() if name in used}
    return Graph(sites, {name: choices[name] for name in sites})


def confined(graph: Graph, left: Mapping[LinkName, int]) -> Graph:
    """Return the graph with no more qubits for rounds on these links than are left there."""
    if not left:
        return graph
    choices = {
        name: tuple(_confined(each, left.get(each.link)) for each in some)
        for name, some in graph.choices.items()
    }
    return Graph(graph.sites, choices)


def _confined(choice: Choice, most: int | None) -> Choice:
    if most is None:
        return choice
    here, there = choice.joined
    joined = min(here, most), min(there, most)
    return attrs.evolve(choice, joined=joined)  # type: ignore[misc]  # see _better


def _room(graph: Graph, name: NodeName, ends: tuple[NodeName, NodeName]) -> dict[LinkName, int]:
    """How many qubits rounds on each link of a node may take there."""
    joined = {choice.link: choice.joined[0] for choice in graph.choices[name]}
    site = graph.sites[name]
    if name in ends or (not site.stores and sum(joined.values()) <= site.qubits):
        return joined
    return {link: min(count, (site.qubits - 1) // 2) for link, count in joined.items()}


def _better(
    graph: Graph,
    name: NodeName,
    choice: Choice,
    places: dict[NodeName, dict[LinkName, int]],
    methods: tuple[Method, ...],
) -> Iterator[Choice]:
    there = places[choice.to].get(choice.link, 0)
    memories = min(places[name][choice.link], there)
    if memories < 2:
        return
    one, other = graph.sites[name], graph.sites[choice.to]
    pace = Pace(choice.rate_hz, choice.latency_ns, (one.storage, other.storage))
    nodes = one.operations, other.operations
    point = _Point(choice.weights, choice.tilt, nodes, memories, pace)
    for made in _worth(point, methods):
        factors = correlators(made.weights)
        if min(factors) > 0:
            yield attrs.evolve(
                choice,  # type: ignore[misc]  # a record is an attrs class, which mypy cannot see
                rate_hz=choice.rate_hz / made.pairs,
                weights=made.weights,
                factors=factors,
                way=(made.method, made.rounds),
            )


@record
class _Point:
    """All that the worth of rounds depends on."""

    weights: BellWeights
    tilt: float
    ends: Ends
    memories: int
    pace: Pace


@lru_cache(_MOST_KEPT)
def _worth(point: _Point, methods: tuple[Method, ...]) -> tuple[Plan, ...]:
    """The plans than which none that takes fewer is as good in all correlators, cheapest first.

    A round that gains no fidelity can still turn errors into such as the next ones find.
    """
    found: list[Plan] = []
    cheaper = [correlators(point.weights)]
    room = point.ends, point.memories, methods
    made = plans(point.weights, *room, pace=point.pace, tilt=point.tilt)
    for each in sorted(made, key=lambda plan: (plan.pairs, plan.rounds)):
        new = correlators(each.weights)
        if each.rounds and all(_gains(new, old) for old in cheaper):
            found.append(each)
            cheaper.append(new)
    purest = max(found, key=lambda plan: plan.fidelity, default=None)
    few = found[: MOST_POINTS - 1]
    return (*few, *([purest] if purest is not None and purest not in few else []))


def _gains(new: Correlators, old: Correlators) -> bool:
    return any(one > other + ENOUGH for one, other in zip(new, old, strict=True))


def held_back(choice: Choice) -> int:
    """Return how many qubits the rounds of a choice hold besides the one of their result."""
    return memories_of(*choice.way) - 1

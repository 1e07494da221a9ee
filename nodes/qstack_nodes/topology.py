"""Shapes of networks: who is joined to whom, over how many kilometres.

Every generator gives the same graph for the same arguments and seed, connected, with nodes and
edges in a fixed order. What becomes of it in a network file: :mod:`qstack_nodes.network_text`.

Sources: Watts and Strogatz 1998 (small world), Barabasi and Albert 1999 (scale free).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations, pairwise

from qstack.errors import ConfigError
from qstack.machine import record
from qstack.units import Chance

Place = tuple[float, float]

MOST_NODES = 5_000


@record
class Edge:
    """Two nodes, by name, and the kilometres of fibre between them."""

    one: str
    other: str
    km: float


@record
class Shape:
    """A graph of nodes. `hub` is the station that all edges share, empty where each has its own."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    hub: str = ""


def _names(count: int, least: int) -> list[str]:
    if not least <= count <= MOST_NODES:
        raise ConfigError([f"--nodes: {count} is not from {least} to {MOST_NODES}"])
    width = len(str(count))
    return [f"n{number:0{width}}" for number in range(1, count + 1)]


def chain(nodes: int, km: float) -> Shape:
    """A row; its ends are alice and bob, the repeaters between them r1, r2 and so on."""
    middle = [f"r{number}" for number in range(1, len(_names(nodes, 2)) - 1)]
    names = ["alice", *middle, "bob"]
    return Shape(tuple(names), tuple(Edge(a, b, km) for a, b in pairwise(names)))


def ring(nodes: int, km: float) -> Shape:
    """A closed row."""
    names = _names(nodes, 3)
    edges = [Edge(a, b, km) for a, b in pairwise(names)]
    return Shape(tuple(names), (*edges, Edge(names[0], names[-1], km)))


def star(leaves: int, km: float, *, repeater: bool) -> Shape:
    """Leaves around a hub, `km` from leaf to leaf: a repeater, or one station for all of them."""
    names = _names(leaves, 2)
    if repeater:
        return Shape(("hub", *names), tuple(Edge("hub", name, km / 2) for name in names))
    edges = (Edge(a, b, km) for a, b in combinations(names, 2))
    return Shape(tuple(names), tuple(edges), "hub")


def grid(rows: int, columns: int, km: float) -> Shape:
    """A rectangle of rows and columns, each node joined to those beside, above and below it."""
    names = _names(rows * columns, 2)
    edges = []
    for place, name in enumerate(names):
        if (place + 1) % columns:
            edges.append(Edge(name, names[place + 1], km))
        if place + columns < len(names):
            edges.append(Edge(name, names[place + columns], km))
    return Shape(tuple(names), tuple(edges))


def geometric(nodes: int, side_km: float, reach_km: float, seed: int) -> Shape:
    """Nodes at random in a square; those within reach are joined, and pieces where nearest."""
    names = _names(nodes, 2)
    chance = Chance(seed).fork("geometric")
    places = [(side_km * chance.uniform(), side_km * chance.uniform()) for _ in names]
    pairs = [
        (a, b)
        for a, b in combinations(range(nodes), 2)
        if math.dist(places[a], places[b]) <= reach_km
    ]
    pairs = _connected(places, pairs)
    return _placed(names, places, pairs)


def small_world(nodes: int, degree: int, rewired: float, km: float, seed: int) -> Shape:
    """A ring with `degree` neighbours a node, of whose edges a part leads elsewhere instead."""
    names = _names(nodes, 4)
    if degree % 2 or not 2 <= degree < nodes:
        raise ConfigError([f"--degree: {degree} is not even, from 2 to {nodes - 1}"])
    chance = Chance(seed).fork("small-world")
    there = {
        _pair(place, (place + step) % nodes)
        for step in range(1, degree // 2 + 1)
        for place in range(nodes)
    }
    for step in range(2, degree // 2 + 1):
        # The ring itself stays, so that the graph stays in one piece.
        for place in range(nodes):
            pair = _pair(place, (place + step) % nodes)
            free = [n for n in range(nodes) if n != place and _pair(place, n) not in there]
            if chance.uniform() < rewired and free and pair in there:
                there.remove(pair)
                there.add(_pair(place, free[chance.below(len(free))]))
    return _placed(names, _circle(nodes, km), sorted(there))


def scale_free(nodes: int, links: int, km: float, seed: int) -> Shape:
    """Nodes that come one by one and join `links` others, the likelier the more these have."""
    names = _names(nodes, 2)
    if not 1 <= links < nodes:
        raise ConfigError([f"--links: {links} is not from 1 to {nodes - 1}"])
    chance = Chance(seed).fork("scale-free")
    pairs = [_pair(a, b) for a, b in combinations(range(links + 1), 2)]
    ends = [end for pair in pairs for end in pair]
    for place in range(links + 1, nodes):
        chosen: set[int] = set()
        while len(chosen) < links:
            chosen.add(ends[chance.below(len(ends))])
        for other in sorted(chosen):
            pairs.append(_pair(place, other))
            ends += [place, other]
    return _placed(names, _circle(nodes, km), sorted(pairs))


def hierarchical(levels: int, branches: int, km: float) -> Shape:
    """A ring of `branches` core nodes, below each a tree; every level has half the kilometres."""
    if levels < 1 or branches < 2:
        raise ConfigError([f"--levels, --branches: {levels} and {branches} are too few"])
    if branches**levels > MOST_NODES:
        raise ConfigError([f"--levels, --branches: {branches}^{levels} nodes are too many"])
    core = [f"c{number}" for number in range(1, branches + 1)]
    edges = [Edge(a, b, km) for a, b in pairwise(core)]
    if branches > 2:
        edges.append(Edge(core[0], core[-1], km))
    nodes, above = list(core), core
    for level in range(1, levels):
        below = [f"{name}_{number}" for name in above for number in range(1, branches + 1)]
        edges += [Edge(name.rpartition("_")[0], name, km / 2**level) for name in below]
        nodes += below
        above = below
    return Shape(tuple(nodes), tuple(edges))


# --- pieces -------------------------------------------------------------------------------


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _circle(nodes: int, km: float) -> list[Place]:
    """Places on a circle, neighbours `km` apart."""
    radius = km / (2 * math.sin(math.pi / nodes))
    turns = (2 * math.pi * place / nodes for place in range(nodes))
    return [(radius * math.cos(turn), radius * math.sin(turn)) for turn in turns]


def _placed(names: list[str], places: list[Place], pairs: Iterable[tuple[int, int]]) -> Shape:
    edges = (
        Edge(names[a], names[b], round(max(math.dist(places[a], places[b]), 0.001), 3))
        for a, b in pairs
    )
    return Shape(tuple(names), tuple(edges))


def _connected(places: list[Place], pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Add the shortest edges that make one piece of it."""
    piece = list(range(len(places)))

    def root(node: int) -> int:
        while piece[node] != node:
            piece[node] = piece[piece[node]]
            node = piece[node]
        return node

    found = list(pairs)
    for a, b in found:
        piece[root(a)] = root(b)
    every = combinations(range(len(places)), 2)
    for a, b in sorted(every, key=lambda pair: math.dist(places[pair[0]], places[pair[1]])):
        if root(a) != root(b):
            piece[root(a)] = root(b)
            found.append((a, b))
    return sorted(found)

"""Random graphs, and routes worked out the slow way: all paths, or whole fronts of labels."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any

import attrs

from qstack.network.budget import Operations, Storage, correlators, swap_factor
from qstack.network.routing import Query
from qstack.network.topology import Choice, Graph, Site

Found = tuple[float, float, tuple[str, ...]]
"""Rate, fidelity, and the nodes and working points of a route."""


def random_graph(size: int, radius: float, seed: int, **fixed: Any) -> Graph:
    """Nodes in a unit square, joined within a radius, two working points a link."""
    draw = Random(seed)
    places = [(draw.random(), draw.random()) for _ in range(size)]
    names = [f"n{index:04}" for index in range(size)]
    sites = {name: random_site(name, draw, fixed) for name in names}
    choices: dict[str, list[Choice]] = {name: [] for name in names}
    for later in range(size):
        for earlier in range(later):
            length = math.dist(places[later], places[earlier])
            if length >= radius:
                continue
            for number, setting in enumerate(("fine", "fast")):
                rate = draw.uniform(20, 500) * (1 + number)
                errors = [draw.random() for _ in range(3)]
                pure = draw.uniform(0.9, 0.99) - 0.05 * number
                rest = [(1 - pure) * each / sum(errors) for each in errors]
                weights = (pure, rest[0], rest[1], rest[2])
                for here, there in ((later, earlier), (earlier, later)):
                    choice = Choice(
                        names[there],
                        f"l{earlier}-{later}",
                        setting,
                        rate,
                        weights,
                        correlators(weights),
                        round(length * 1e6),
                    )
                    choices[names[here]].append(choice)
    return Graph(sites, {name: tuple(found) for name, found in choices.items()})


def random_site(name: str, draw: Random, fixed: dict[str, Any]) -> Site:
    operations = Operations(draw.uniform(0.97, 1.0), draw.uniform(0.98, 1.0))
    storage = Storage(round(draw.uniform(1, 9) * 1e9), round(draw.uniform(0.05, 1) * 1e9))
    site: Any = Site(
        name,
        draw.random() < 0.9,
        draw.randrange(3),
        draw.random() < 0.2,
        storage,
        swap_factor(operations),
        draw.uniform(0.5, 1.0),
    )
    changed: Site = attrs.evolve(site, **fixed)
    return changed


# --- what a route gives, worked out from weights and not from correlators -------------------


def convolve(one: list[float], other: list[float]) -> list[float]:
    return [sum(one[i] * other[i ^ k] for i in range(4)) for k in range(4)]


def fade(weights: list[float], phase: float, population: float) -> list[float]:
    """One half's wait: a Z error of (1 - phase) / 2 and relaxation of the populations."""
    errors = [
        (1 + 2 * phase + population) / 4,
        (1 - 2 * phase + population) / 4,
        (1 - population) / 4,
        (1 - population) / 4,
    ]
    return convolve(weights, errors)


def mean_wait(site: Site, rate_hz: float) -> tuple[float, float]:
    """The mean of exp(-t / T) over an exponential wait: rate / (rate + 1 / T)."""
    times = site.storage.t2_ns, site.storage.t1_ns
    phase, population = (rate_hz / (rate_hz + 1e9 / time) if time else 1.0 for time in times)
    return phase, population


@attrs.define
class Part:
    """A path so far."""

    nodes: tuple[str, ...]
    settings: tuple[str, ...]
    rate: float
    weights: list[float]
    latency: int
    success: float = 1.0
    shortest: tuple[float, float] = (math.inf, math.inf)
    """T2 and T1 of the worst node between the ends."""

    @property
    def pure(self) -> tuple[float, float, float]:
        i, z, x, y = self.weights
        return i - z + x - y, i - z - x + y, i + z - x - y


def step(graph: Graph, part: Part, choice: Choice) -> Part:
    here, far = graph.sites[part.nodes[-1]], (graph.sites[part.nodes[0]], graph.sites[choice.to])
    if here.single:
        rate = 1 / (1 / part.rate + 1 / choice.rate_hz)
    else:
        rate = 1 / (1 / part.rate + 1 / choice.rate_hz - 1 / (part.rate + choice.rate_hz))
    slower = min(part.rate, choice.rate_hz)
    weights = convolve(part.weights, list(choice.weights))
    x, y, z = here.swapping
    noise = [(1 + x + y + z) / 4, (1 - x - y + z) / 4, (1 + x - y - z) / 4, (1 - x + y - z) / 4]
    weights = fade(convolve(weights, noise), *mean_wait(here, slower))
    waits = [mean_wait(site, slower) for site in far]
    weights = fade(weights, min(w[0] for w in waits), min(w[1] for w in waits))
    return Part(
        (*part.nodes, choice.to),
        (*part.settings, choice.setting),
        rate * here.success,
        weights,
        part.latency + choice.latency_ns,
        part.success * here.success,
        (
            min(part.shortest[0], here.storage.t2_ns or math.inf),
            min(part.shortest[1], here.storage.t1_ns or math.inf),
        ),
    )


def finished(graph: Graph, part: Part) -> Found:
    """Both ends wait for the last word, and what is made ahead for their next; one at a time."""
    if len(part.settings) == 1:
        return part.rate, part.weights[0], (*part.nodes, *part.settings)
    age, weights = part.latency, part.weights
    for name in (part.nodes[0], part.nodes[-1]):
        storage = graph.sites[name].storage
        phase = math.exp(-age / storage.t2_ns) if storage.t2_ns else 1.0
        weights = fade(weights, phase, math.exp(-age / storage.t1_ns) if storage.t1_ns else 1.0)
    # Two links: one may wait for the other's end. Of 3 or 4 the inner ones, of 5 or 6 those twice.
    for _ in range(2 * max(1, math.ceil(len(part.settings) / 2) - 1)):
        weights = fade(weights, *(math.exp(-age / time) for time in part.shortest))
    # A try takes 1 / (rate / success) and the latency; only so many of them succeed.
    rate = part.success / (part.success / part.rate + age * 1e-9)
    return rate, weights[0], (*part.nodes, *part.settings)


def starts(graph: Graph, query: Query) -> list[Part]:
    return [
        Part((query.source, c.to), (c.setting,), c.rate_hz, list(c.weights), c.latency_ns)
        for c in graph.choices[query.source]
    ]


def goes_on(graph: Graph, query: Query, part: Part) -> Iterator[Part]:
    site = graph.sites[part.nodes[-1]]
    if part.nodes[-1] == query.target or not site.swaps or site.trust < query.trust_min:
        return
    for choice in graph.choices[part.nodes[-1]]:
        if choice.to not in part.nodes:
            yield step(graph, part, choice)


def every_route(graph: Graph, query: Query) -> list[Found]:
    """All simple paths at all working points: for a handful of nodes."""
    found, open_parts = [], starts(graph, query)
    while open_parts:
        part = open_parts.pop()
        if part.nodes[-1] == query.target:
            found.append(finished(graph, part))
        open_parts.extend(goes_on(graph, query, part))
    return found


def exact_front(graph: Graph, query: Query) -> list[Found]:
    """What is left of all routes when no label is dropped but one that another dominates."""
    kept: dict[str, list[Part]] = {}
    queue = deque(starts(graph, query))
    while queue:
        part = queue.popleft()
        here = kept.setdefault(part.nodes[-1], [])
        if any(dominates(other, part) for other in here):
            continue
        here[:] = [other for other in here if not dominates(part, other)] + [part]
        queue.extend(goes_on(graph, query, part))
    return [finished(graph, part) for part in kept.get(query.target, [])]


def dominates(one: Part, other: Part) -> bool:
    return (
        one.rate >= other.rate
        and one.latency <= other.latency
        and one.success >= other.success
        and len(one.settings) <= len(other.settings)
        and all(a >= b for a, b in zip(one.shortest, other.shortest, strict=True))
        and all(a >= b for a, b in zip(one.pure, other.pure, strict=True))
    )


def best_rate(found: list[Found], fidelity_min: float) -> float:
    return max((rate for rate, pure, _ in found if pure >= fidelity_min), default=0.0)

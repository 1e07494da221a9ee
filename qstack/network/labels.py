"""A route while it is looked for: a label at the node where it ends, and what it promises then.

See :mod:`qstack.network.routing` for what is reckoned with.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, cast

import attrs

from qstack.bell import BellWeights
from qstack.machine import record
from qstack.network.budget import (
    ETERNAL,
    Correlators,
    Storage,
    fading,
    one_after_the_other,
    together,
    weights_of,
    worse,
)
from qstack.network.meeting import meeting_rate, waiting
from qstack.network.topology import UNPURIFIED, Choice, Graph, Way, slowed
from qstack.units import Duration, LinkName, NodeName


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
    """One link of a route at a working point, the node that it leads to, and rounds on it."""

    link: LinkName
    setting: str
    node: NodeName
    way: Way = UNPURIFIED


@record
class Route:
    """A route and what it promises; weights relative to the announced state, at hand-over.

    `latency_ns`: of all its links, `turn_ns`: the longest of one, as they were then.
    """

    source: NodeName
    hops: tuple[Hop, ...]
    rate_hz: float
    weights: BellWeights
    latency_ns: Duration
    turn_ns: Duration = 0

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
    """A partial route from the source: the choice that led here, and the label that it left.

    `rate_hz` as if messages took no time. `success`: of all its swaps together. `halves`: so many
    pairs its ends can have at once. `rested`: the memory of the node where it swapped
    last. `turn_ns`: the longest of its links.
    """

    rate_hz: float
    factors: Correlators
    latency_ns: Duration
    choice: Choice
    before: Label | None
    count: int
    success: float = 1.0
    halves: int = 1
    rested: Storage = ETERNAL
    turn_ns: Duration = 0

    @property
    def resting(self) -> Storage:
        """The worst memory between its ends."""
        found, label = self.rested, self.before
        while label is not None:
            found, label = worse(found, label.rested), label.before
        return found

    @property
    def pause_ns(self) -> Duration:
        """From the last swap to when an end's qubit may give another pair, at most.

        Where nothing is swapped no track is waited for.
        """
        return self.turn_ns + (self.latency_ns if self.count > 1 else 0)

    @property
    def delivered_hz(self) -> float:
        """The rate, with the time in which the ends' qubits give no pairs."""
        return slowed(self.rate_hz, self.pause_ns, self.halves * self.success)

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
            choice = label.choice
            found.append(Hop(choice.link, choice.setting, choice.to, choice.way))
            label = label.before
        return tuple(reversed(found))


def first(choice: Choice) -> Label:
    """Return the label of a choice that leaves the source."""
    said = choice.rate_hz, choice.factors, choice.latency_ns, choice
    return Label(*said, None, 1, 1.0, choice.halves, turn_ns=choice.turn_ns)


def arrived(label: Label) -> Label:
    """Return a label as it is where the route ends: both its ends have halves to wait with."""
    if label.choice.halves >= label.halves:
        return label
    # The type checker does not see that our records are attrs classes.
    ended: Label = attrs.evolve(cast(Any, label), halves=label.choice.halves)
    return ended


def extend(graph: Graph, query: Query, label: Label, choice: Choice, cutoff: Duration = 0) -> Label:
    """Return the label that swaps at the end of `label` and goes on by `choice`.

    `cutoff`: so long, in ns, one pair may wait there for another that is attempted; 0 for ever.
    """
    here = graph.sites[label.choice.to]
    slot_ns = max(label.choice.slot_ns, choice.slot_ns)
    if here.single:
        rate = one_after_the_other(label.rate_hz, choice.alone_hz)
    else:
        back = (label.latency_ns + label.turn_ns, choice.latency_ns + choice.turn_ns)
        rate = meeting_rate(label.rate_hz, choice.rate_hz, cutoff, slot_ns, back)
    slower = min(label.rate_hz, choice.rate_hz)
    start, there = graph.sites[query.source].storage, graph.sites[choice.to].storage
    if query.measured:
        start = ETERNAL
        there = ETERNAL if choice.to == query.target else there
    near = waiting(here.storage, slower, cutoff, slot_ns)
    one = waiting(start, slower, cutoff, slot_ns)
    other = waiting(there, slower, cutoff, slot_ns)
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
        label.success * here.success,
        min(label.halves, choice.halves) if choice.to == query.target else label.halves,
        here.storage,
        max(label.turn_ns, choice.turn_ns),
    )


def finished(graph: Graph, query: Query, label: Label) -> Route:
    """Return the finished route, with what messages cost where there was a swap, and rest."""
    factors, age = label.factors, label.latency_ns
    waited = not query.measured and (label.count > 1 or query.circuit)
    rest_ns = (age if waited else 0) + query.rest_ns
    if rest_ns:
        ends = (fading(graph.sites[n].storage, rest_ns) for n in (query.source, query.target))
        factors = together(factors, *ends)
    if label.count > 1:
        ahead = (fading(label.resting, label.pause_ns),) * (2 * made_ahead(label.count))
        factors = together(factors, *ahead)
    rate_hz, weights = label.delivered_hz, weights_of(factors)
    return Route(query.source, label.hops(), rate_hz, weights, age, label.turn_ns)


def made_ahead(links: int) -> int:
    """Return how many chains of pairs wait, one inside the other, between ends that begin anew.

    Once the links between the ends are swapped, the qubits at both ends of those that lie inside
    of them are free: they make the next chain, and those inside of them the one after that. When
    the ends have their pairs, each chain moves on by one.
    """
    return max(1, (links + 1) // 2 - 1)


class Rivals(Enum):
    """What counts when labels at a node are compared."""

    EXACTLY = auto()
    """Everything, so that no worse label can lead to a better route."""
    ROUGHLY = auto()
    """Rate, latency and correlators; of what the latency still to come costs, only so far."""
    RATES = auto()
    """Everything but correlators: for routes that are asked for no fidelity."""


def dominated(settled: list[Label], label: Label, rivals: Rivals) -> bool:
    """Return whether some label there is no worse in anything that counts."""
    rate, latency = label.rate_hz, label.latency_ns
    rates = rivals is Rivals.RATES
    x, y, z = (-1.0, -1.0, -1.0) if rates else label.factors
    for other in settled:
        if other.rate_hz >= rate and other.latency_ns <= latency:
            best = other.factors
            if best[0] < x or best[1] < y or best[2] < z:
                continue
            if rates and arrived(other).halves < arrived(label).halves:
                continue
            if rivals is Rivals.ROUGHLY:
                if other.delivered_hz >= label.delivered_hz:
                    return True
            elif _pays_no_less(other, label):
                return True
    return False


def _pays_no_less(other: Label, label: Label) -> bool:
    """Whether the latency of what is still to come costs `other` no more."""
    fewer = other.success < label.success or other.halves < label.halves
    if fewer or other.turn_ns > label.turn_ns or other.count > label.count:
        return False
    resting, mine = other.resting, label.resting
    return resting == mine or worse(resting, mine) == mine

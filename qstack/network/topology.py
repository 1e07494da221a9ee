"""What routes are made from: the database of link state as a graph of usable links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from qstack.bell import BellWeights
from qstack.machine import record
from qstack.messages.circuits import Method
from qstack.messages.network import LinkMetric, LinkOffer, NodeMetric, RouteUpdate
from qstack.network.budget import (
    IDEAL,
    Correlators,
    Operations,
    Storage,
    correlators,
    swap_factor,
)
from qstack.network.hours import phase_of, share
from qstack.units import SECOND, Duration, LinkName, NodeName

Way: TypeAlias = tuple[Method, int]
"""A method of purification and its number of rounds."""

UNPURIFIED: Way = (Method.NONE, 0)


@record
class Site:
    """A node as routes see it. `swapping` is the factor of its swap on a pair's correlators.

    `stores`: halves move to storage there. `operations`: what its gates do in a swap or a round.
    `qubits`: in so many halves may rest, those of all links together.
    """

    name: NodeName
    swaps: bool
    trust: int
    single: bool
    storage: Storage
    swapping: Correlators
    success: float
    stores: bool = False
    operations: Operations = IDEAL
    qubits: int = 0


@record
class Choice:
    """A link at one of its working points, seen from the node that leaves by it.

    `joined`: with so many qubits, all joined to all, pairs of this link can be purified (here,
    there). `halves`: so many pairs of it there can be at once. `slot_ns`: attempts end at such
    intervals, 0 for at any time. `turn_ns`: a qubit that became free gives no pair so long. `tilt`
    of the pairs as in :class:`~qstack.messages.network.LinkOffer`. `way`: method and rounds by
    which its nodes purify them before they are swapped. `share`: in this part of the time the link
    is open, of which its rate makes allowance.
    """

    to: NodeName
    link: LinkName
    setting: str
    rate_hz: float
    weights: BellWeights
    factors: Correlators
    latency_ns: Duration
    joined: tuple[int, int] = (0, 0)
    halves: int = 1
    slot_ns: Duration = 0
    turn_ns: Duration = 0
    tilt: float = 0.0
    way: Way = UNPURIFIED
    share: float = 1.0

    @property
    def while_open_hz(self) -> float:
        """The rate while the link is open."""
        if self.share >= 1:
            return self.rate_hz
        more = self.turn_ns / (self.halves * SECOND)
        spent = self.share * (1 / self.rate_hz + more) - more
        # Where messages take nearly all of the time, what is left of it is lost in rounding.
        return 1 / spent if spent > 0 else self.rate_hz / self.share

    @property
    def alone_hz(self) -> float:
        """The rate of the link alone, with what its messages take."""
        return slowed(self.rate_hz, self.turn_ns, self.halves)

    def leads_as(self, link: LinkName, setting: str) -> bool:
        """Whether it is this working point of this link."""
        return (self.link, self.setting) == (link, setting)


def slowed(rate_hz: float, more_ns: Duration, parallel: float) -> float:
    """Return a rate with so much more time spent on each pair, on so many at a time."""
    return 1 / (1 / rate_hz + more_ns / (parallel * SECOND)) if rate_hz > 0 else 0.0


def lessened(rate_hz: float, share: float, more_ns: float, parallel: float) -> float:
    """Return the rate at which pairs with so much more time for each come in a share of the time.

    That is: what, slowed by this, is the share of `rate_hz` slowed by the same.
    """
    if share >= 1 or rate_hz <= 0:
        return rate_hz
    more = more_ns / (parallel * SECOND)
    return 1 / ((1 / rate_hz + more) / share - more) if share > 0 else 0.0


@record
class Graph:
    """Sites by name, and the choices that leave each, in the order of names."""

    sites: Mapping[NodeName, Site]
    choices: Mapping[NodeName, tuple[Choice, ...]]


def graph_of(database: Mapping[NodeName, RouteUpdate]) -> Graph:
    """Return the graph of a database.

    A link is used where both its ends advertise it as up and neither is draining, at the working
    points that both offer. Of each number the worse of the two views is taken: the lower rate,
    the weights of lower fidelity, the longer latency. Reserved time is taken off the rate, and so
    is the time in which the link pauses.
    """
    sites = {name: _site(name, database[name].node) for name in sorted(database)}
    choices: dict[NodeName, tuple[Choice, ...]] = {}
    for name in sites:
        found = [
            choice
            for mine in sorted(database[name].links, key=lambda metric: metric.link)
            for choice in _choices(database, name, mine)
        ]
        choices[name] = tuple(found)
    return Graph(sites, choices)


def stores(node: NodeMetric) -> bool:
    """Whether halves move to storage there: one qubit to attempt with, and room for others."""
    return node.memories[1] > 0 and node.memories[0] < 2


def _site(name: NodeName, metric: NodeMetric) -> Site:
    operations = Operations(metric.keep, metric.readout, metric.success, metric.turn)
    return Site(
        name=name,
        swaps=metric.swaps,
        trust=metric.trust,
        single=metric.memories[0] < 2,
        storage=Storage(metric.t1_ns, metric.t2_ns, metric.exponent),
        swapping=swap_factor(operations),
        success=metric.success,
        stores=stores(metric),
        operations=operations,
        qubits=metric.memories[stores(metric)],
    )


def _choices(
    database: Mapping[NodeName, RouteUpdate], name: NodeName, mine: LinkMetric
) -> Iterator[Choice]:
    other = database.get(mine.peer)
    if other is None or not mine.up or database[name].node.draining or other.node.draining:
        return
    views = [metric for metric in other.links if metric.link == mine.link and metric.peer == name]
    if not views or not views[0].up:
        return
    theirs = views[0]
    free = 1 - max(mine.reserved, theirs.reserved)
    offers = {offer.setting: offer for offer in theirs.offers}
    kind = stores(database[name].node) and stores(other.node)
    joined = mine.joined[kind], theirs.joined[kind]
    halves = max(1, min(mine.halves, theirs.halves))
    hours = phase_of(mine, 0)
    part = 1.0 if hours is None else share(hours.windows)
    for offer in sorted(mine.offers, key=lambda each: each.setting):
        twin = offers.get(offer.setting)
        rate = 0.0 if twin is None else free * min(offer.rate_hz, twin.rate_hz)
        rate = lessened(rate, part, max(mine.turn_ns, theirs.turn_ns), halves)
        if twin is None or rate <= 0:
            continue
        worse = _worse(offer, twin)
        weights = worse.weights
        latency = max(mine.latency_ns, theirs.latency_ns)
        # Where errors are likelier than not, more of them would help: no pair worth having.
        factors = correlators(weights)
        if min(factors) > 0:
            point = mine.link, offer.setting, rate, weights, factors, latency, joined, halves
            times = max(offer.slot_ns, twin.slot_ns), max(mine.turn_ns, theirs.turn_ns)
            yield Choice(mine.peer, *point, *times, worse.tilt, UNPURIFIED, part)


def _worse(one: LinkOffer, other: LinkOffer) -> LinkOffer:
    return min(one, other, key=lambda offer: (offer.weights[0], offer.weights))

"""Circuits in virtual time: what a pair costs by the number of hops, and how fast one installs.

Perfect elementary pairs, no decay, no cutoff that acts: what is measured is the protocol's work.
Both users free their halves on delivery. Processor time, not wall time. Machine steps, heap
entries, and the install, which is measured in the time of the heap, are the same on every machine.

What costs time and no hops is kept out. Links run ahead of the ends, those in the middle by most,
until every half waits for its track: pairs are counted from then on (`Chain.warm`). A pair over 64
hops takes longer than what live nodes wait for a message that an acknowledgement can ride on; here
they wait for longer (`HELD_NS`), as with few hops, where the next message always comes before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import attrs

from qstack.machine import record
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.testing import Party, free_at_once, terms
from qstack.testing.chain_runs import CALM
from qstack.testing.chains import ChainLab, Segment
from qstack.units import MILLISECOND, SECOND, Duration
from tests.benchmarks.table import Figure
from tests.benchmarks.virtual import undisturbed

HOPS = (2, 4, 8, 16, 32, 64)
PAIRS = 200
GROWTH = 1.0
INSTALL_HOPS, INSTALL_TRIPS = 5, 3.0
WIRE_NS = 50_000
HELD_NS = 100 * MILLISECOND


@record
class Cost:
    """What pairs cost, per delivered pair."""

    cpu_us: float
    steps: float
    entries: float


class Chain:
    """A chain of so many hops with a circuit from alice to bob.

    `install_trips`: what its install took, in round trips of its path. `held_ns`: how long
    acknowledgements, and confirmations of heralds, wait for a message to ride on.
    """

    def __init__(self, hops: int, seed: int = 1, held_ns: Duration = HELD_NS) -> None:
        self.hops = hops
        lab = ChainLab([Segment() for _ in range(hops)], wire_ns=WIRE_NS, confirm_ns=held_ns)
        # The type checker does not see that our records are attrs classes.
        timing = cast(Any, attrs.evolve)(CALM, ack_delay_ns=held_ns)
        around = Surroundings(wire=Wire(lab.wire_ns), timing=timing)
        self.net = VirtualNetwork(lab.links(), lab.world(), seed, around)
        self.heap = self.net.heap
        self.alice, bob = self._party("alice"), self._party("bob")
        bob.accept()
        self.heap.run(self.heap.now + SECOND)
        host, asked = self.net.host("alice"), self.heap.now
        self.alice.keep(terms("bob", 1))
        self.heap.run(asked + 100 * SECOND, stop=lambda: _installed(host))
        self.install_trips = (self.heap.now - asked) / (2 * hops * WIRE_NS)
        self._reach(1)
        self._begun = 0, 0

    def _party(self, node: str) -> Party:
        user = Party(self.heap, f"user-{node}", node, free_at_once)
        self.net.user(user.name, [node], user.listen)
        self.heap.run(self.heap.now + SECOND, stop=lambda: user.reached)
        return user

    def _reach(self, pairs: int) -> None:
        self.heap.run(self.heap.now + 1_000 * SECOND, stop=lambda: len(self.alice.pairs) >= pairs)
        if len(self.alice.pairs) < pairs:
            raise RuntimeError(f"{len(self.alice.pairs)} pairs over {self.hops} hops in 1,000 s")

    def warm(self, pairs: int) -> None:
        """Ask for `pairs` pairs and for those that come until links are as far ahead as can be.

        No node can be further ahead than it has nodes between itself and the nearer end.
        """
        ahead = max(8, self.hops // 2)
        before = len(self.alice.pairs)
        self._begun = self._swaps(), before
        self.alice.keep(terms("bob", ahead + pairs))
        self._reach(before + ahead)

    def go_on(self, pairs: int) -> Cost:
        """Let so many more pairs of that request come."""
        heap = self.heap
        steps, entries = heap.steps, heap.entries
        begun = time.process_time()
        self._reach(len(self.alice.pairs) + pairs)
        cpu = time.process_time() - begun
        each = (heap.steps - steps) / pairs, (heap.entries - entries) / pairs
        return Cost(cpu * 1e6 / pairs, *each)

    @property
    def ahead(self) -> float:
        """By how many pairs the nodes between are ahead of the ends in this request, on average."""
        swaps, pairs = self._begun
        return (self._swaps() - swaps) / (self.hops - 1) - (len(self.alice.pairs) - pairs)

    def _swaps(self) -> int:
        """How many pairs were swapped by all nodes between the ends."""
        nodes = (self.net.host(f"r{number}") for number in range(1, self.hops))
        return sum(node.network.desk.counters["swaps"] for node in nodes)


def _installed(host: object) -> bool:
    circuits = host.network.demand.circuits.members  # type: ignore[attr-defined]  # an EndNode
    return any(member.place.state == 1 for member in circuits)


def figures(hops: tuple[int, ...] = HOPS, pairs: int = PAIRS) -> Iterator[Figure]:
    """Measure."""
    costs: dict[int, Cost] = {}
    ahead = 0.0
    for count in hops:
        chain = Chain(count)
        chain.warm(pairs)
        with undisturbed():
            costs[count] = chain.go_on(pairs)
        ahead = chain.ahead
        name = f"end-to-end pair over {count} hops, per hop"
        yield Figure(name, costs[count].cpu_us / count, "us")
    # Two hops share the cost of the ends; from four on it should be the hop's alone.
    first, last = (hops[1] if len(hops) > 1 else hops[0]), hops[-1]
    for name in ("steps", "entries", "cpu_us"):
        growth = (getattr(costs[last], name) / last) / (getattr(costs[first], name) / first)
        what = {"steps": "machine steps", "entries": "heap entries", "cpu_us": "cost"}[name]
        yield Figure(f"{what} per hop, {last} hops to {first}", growth, "times", GROWTH)
    yield Figure(f"pairs of inner links ahead of the ends over {last} hops", ahead, "")
    install = Chain(INSTALL_HOPS).install_trips
    name = f"install over {INSTALL_HOPS} hops, in round trips of the path"
    yield Figure(name, install, "", INSTALL_TRIPS)

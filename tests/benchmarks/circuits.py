"""Circuits in virtual time: what a pair costs by the number of hops, and how fast one installs.

Perfect elementary pairs, no decay, no cutoff that acts: what is measured is the protocol's work.
Both users free their halves on delivery. Processor time, not wall time. The install is measured
in the time of the heap, so it is the same on every machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from qstack.machine import record
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.testing import Party, free_at_once, terms
from qstack.testing.chain_runs import CALM
from qstack.testing.chains import ChainLab, Segment
from qstack.units import SECOND
from tests.benchmarks.table import Figure

HOPS = (2, 4, 8, 16, 32, 64)
PAIRS = 200
GROWTH = 1.0
INSTALL_HOPS, INSTALL_TRIPS = 5, 3.0
WIRE_NS = 50_000


@record
class Run:
    """One request over a chain. `cpu_us` per pair; `install_trips` in round trips of its path."""

    cpu_us: float
    install_trips: float


def run(hops: int, pairs: int, seed: int = 1) -> Run:
    """Ask for `pairs` pairs over so many hops, after one that installs the circuit."""
    lab = ChainLab([Segment() for _ in range(hops)], wire_ns=WIRE_NS)
    around = Surroundings(wire=Wire(lab.wire_ns), timing=CALM)
    net = VirtualNetwork(lab.links(), lab.world(), seed, around)
    heap = net.heap
    users = []
    for node in ("alice", "bob"):
        user = Party(heap, f"user-{node}", node, free_at_once)
        net.user(user.name, [node], user.listen)
        heap.run(heap.now + SECOND, stop=lambda user=user: user.reached)  # type: ignore[misc]  # its own
        users.append(user)
    alice, bob = users
    bob.accept()
    heap.run(heap.now + SECOND)
    host = net.host("alice")
    asked = heap.now
    alice.keep(terms("bob", 1))
    heap.run(heap.now + 100 * SECOND, stop=lambda: _installed(host))
    install_ns = heap.now - asked
    heap.run(heap.now + 100 * SECOND, stop=lambda: len(alice.pairs) == 1)
    alice.keep(terms("bob", pairs))
    begun = time.process_time()
    heap.run(heap.now + 1_000 * SECOND, stop=lambda: len(alice.pairs) == 1 + pairs)
    spent = time.process_time() - begun
    if len(alice.pairs) <= pairs:
        raise RuntimeError(f"{len(alice.pairs)} pairs over {hops} hops within 1,000 s")
    return Run(spent * 1e6 / pairs, install_ns / (2 * hops * WIRE_NS))


def _installed(host: object) -> bool:
    circuits = host.network.demand.circuits.members  # type: ignore[attr-defined]  # an EndNode
    return any(member.place.state == 1 for member in circuits)


def figures(hops: tuple[int, ...] = HOPS, pairs: int = PAIRS) -> Iterator[Figure]:
    """Measure."""
    costs = {count: run(count, pairs).cpu_us for count in hops}
    for count, cost in costs.items():
        yield Figure(f"end-to-end pair over {count} hops, per hop", cost / count, "us")
    # Two hops share the cost of the ends; from four on it should be the hop's alone.
    first, last = (hops[1] if len(hops) > 1 else hops[0]), hops[-1]
    growth = (costs[last] / last) / (costs[first] / first)
    yield Figure(f"cost per hop, {last} hops to {first}", growth, "times", GROWTH)
    install = run(INSTALL_HOPS, 1).install_trips
    name = f"install over {INSTALL_HOPS} hops, in round trips of the path"
    yield Figure(name, install, "", INSTALL_TRIPS)

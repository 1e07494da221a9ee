"""Rates that were promised, at 0.7 of what could be: grids, rings and chains, with many seeds.

python -m tests.simulate.promised --seeds 4       every core, a summary, exit code 1 for a failure

Users ask for parts of routes until some link has given 0.7 of its time away. No link is asked for
more circuits than it has qubits, which none can carry. Of all requests of a network 95 in 100 at
least must be admitted, and each that is must have nine tenths of its pairs when its time is over:
the rate that it was promised but 10 %. Promises are of 20 pairs and more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from itertools import product

import attrs

from qstack.errors import ErrorCode
from qstack.network.routing import Query, route
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings
from qstack.testing import Party, terms
from qstack.testing.routes import RouteNetwork
from qstack.testing.routes_lab import Edges, RouteLab, chain, grid, ring
from qstack.testing.scenario import TIMING
from qstack.units import MILLISECOND, SECOND, Chance, Duration, NodeName

LOAD = 0.7
EFFICIENCY = 0.1
ASKS = 24
FEWEST = 20

SHAPES: dict[str, tuple[Edges, Duration]] = {
    "grid": (grid(3, 3), 160 * MILLISECOND),
    "ring": (ring(6), 120 * MILLISECOND),
    "chain": (chain(5), 160 * MILLISECOND),
}
"""Links, and for how long requests last."""


@attrs.frozen
class Kept:
    """What became of some requests: `missed` were admitted and had too few pairs in time."""

    asked: int = 0
    admitted: int = 0
    missed: tuple[str, ...] = ()

    def __add__(self, other: Kept) -> Kept:
        missed = self.missed + other.missed
        return Kept(self.asked + other.asked, self.admitted + other.admitted, missed)

    @property
    def good(self) -> bool:
        """Whether enough were admitted, and none missed."""
        return self.admitted >= 0.95 * self.asked and not self.missed

    def __str__(self) -> str:
        return f"{self.asked} requests, {self.admitted} admitted, {len(self.missed)} too slow"


class Users:
    """A network without faults whose nodes all have a user that listens."""

    def __init__(self, lab: RouteLab, seed: int) -> None:
        self.lab = lab
        around = Surroundings(wire=Wire(20_000), timing=TIMING)
        self.net = RouteNetwork(lab.links(), lab.world(), seed, around)
        self.of: dict[NodeName, Party] = {}
        for node in lab.nodes:
            user = self.of[node] = Party(self.net.heap, f"user-{node}", node)
            self.net.user(user.name, [node], user.listen)
        self.rest(10 * MILLISECOND)
        for user in self.of.values():
            user.accept()
        self.rest(5 * MILLISECOND)

    def rest(self, duration_ns: Duration) -> None:
        """Let time pass."""
        self.net.heap.run(self.net.heap.now + duration_ns)

    def ask(self, node: NodeName, remote: NodeName, number: int, max_time_ns: Duration) -> int:
        """Ask for pairs, and wait until routes know what is reserved; return the reference."""
        reference = self.of[node].keep(terms(remote, number, max_time_ns=max_time_ns))
        self.rest(1_500_000)
        return reference


@attrs.frozen
class Asked:
    """A request of a node's user."""

    node: NodeName
    remote: NodeName
    reference: int
    number: int


def reserve_up_to(load: float, users: Users, chance: Chance, window_ns: Duration) -> list[Asked]:
    """Ask for parts of routes, between any nodes, while no link is asked for more than `load`."""
    asked: list[Asked] = []
    reserved: dict[str, float] = {}
    circuits: dict[str, set[tuple[NodeName, NodeName]]] = {}
    nodes = users.lab.nodes
    for _ in range(ASKS):
        node = nodes[chance.below(len(nodes))]
        far = [name for name in nodes if name not in (node, *users.lab.neighbours(node))]
        remote = far[chance.below(len(far))]
        found = route(users.net.host(node).network.demand.graph, Query(node, remote))
        assert found is not None
        part = (0.1, 0.15, 0.5)[chance.below(3)]
        links = [hop.link for hop in found.hops]
        after = {name: reserved.get(name, 0.0) for name in links}
        after = {name: held + part * (1 - held) for name, held in after.items()}
        crowds = [circuits.get(name, set()) | {(node, remote)} for name in links]
        number = int(part * found.rate_hz * window_ns / SECOND)
        full = max(map(len, crowds)) > users.lab.qubits
        if max(after.values()) > load or full or number < FEWEST:
            continue
        reserved |= after
        circuits |= dict(zip(links, crowds, strict=True))
        asked.append(Asked(node, remote, users.ask(node, remote, number, window_ns), number))
    return asked


def kept(shape: str, qubits: int, seed: int) -> Kept:
    """Run one network, and count what was admitted, and what came in time."""
    edges, window_ns = SHAPES[shape]
    users = Users(RouteLab(edges, qubits, scheduler="weighted-fair", efficiency=EFFICIENCY), seed)
    asked = reserve_up_to(LOAD, users, Chance(seed), window_ns)
    users.rest(window_ns + 5 * MILLISECOND)
    admitted, missed = 0, []
    for each in asked:
        user = users.of[each.node]
        request = user.created[each.reference]
        ended = [e for e in user.ended if e.request == request]
        if ended and ended[0].code is not ErrorCode.TIMEOUT:
            continue
        admitted += 1
        pairs = sum(pair.request == request for _, pair in user.pairs)
        if pairs < 0.9 * each.number:
            who = f"{shape}, {qubits} qubits, seed {seed}: {each.node} to {each.remote}"
            missed.append(f"{who}: {pairs} of {each.number} pairs")
    return Kept(len(asked), admitted, tuple(missed))


def _work(case: tuple[int, str, int]) -> tuple[str, Kept]:
    qubits, shape, seed = case
    return f"{shape} with {qubits} qubits", kept(shape, qubits, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=4, help="of each network")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    cases = list(product((4, 8), SHAPES, range(1, given.seeds + 1)))
    found: dict[str, Kept] = {}
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for name, each in pool.imap_unordered(_work, cases):
            print(*each.missed, sep="\n", end="\n" if each.missed else "", flush=True)
            found[name] = found.get(name, Kept()) + each
    for name, each in sorted(found.items()):
        print(f"{name}: {each}: {'ok' if each.good else 'FAILED'}")
    return 0 if all(each.good for each in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Rates that were promised are delivered at 0.7 of each link's time."""

from __future__ import annotations

from dataclasses import dataclass

from qstack.errors import ErrorCode
from qstack.network.routing import Query, route
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings
from qstack.testing import Party, terms
from qstack.testing.routes import RouteNetwork
from qstack.testing.routes_lab import RouteLab, grid
from qstack.testing.scenario import TIMING
from qstack.units import MILLISECOND, SECOND, Chance

LOAD = 0.7
EFFICIENCY = 0.1


class Users:
    """A network without faults whose nodes all have a user that listens."""

    def __init__(self, lab: RouteLab, seed: int) -> None:
        self.lab = lab
        around = Surroundings(wire=Wire(20_000), timing=TIMING)
        self.net = RouteNetwork(lab.links(), lab.world(), seed, around)
        self.of: dict[str, Party] = {}
        for node in lab.nodes:
            user = self.of[node] = Party(self.net.heap, f"user-{node}", node)
            self.net.user(user.name, [node], user.listen)
        self.rest(10 * MILLISECOND)
        for user in self.of.values():
            user.accept()
        self.rest(5 * MILLISECOND)

    def rest(self, duration_ns: int) -> None:
        self.net.heap.run(self.net.heap.now + duration_ns)

    def ask(self, node: str, remote: str, number: int, max_time_ns: int) -> int:
        reference = self.of[node].keep(terms(remote, number, max_time_ns=max_time_ns))
        self.rest(1_500_000)  # until routes know what is reserved
        return reference


@dataclass
class Asked:
    node: str
    reference: int
    number: int


def reserve_up_to(load: float, users: Users, chance: Chance, window_ns: int) -> list[Asked]:
    """Ask for parts of routes, between any nodes, while no link is asked for more than `load`."""
    asked: list[Asked] = []
    reserved: dict[str, float] = {}
    nodes = users.lab.nodes
    for _ in range(24):
        node = nodes[chance.below(len(nodes))]
        far = [name for name in nodes if name not in (node, *users.lab.neighbours(node))]
        remote = far[chance.below(len(far))]
        found = route(users.net.host(node).network.demand.graph, Query(node, remote))
        assert found is not None
        part = (0.1, 0.15, 0.5)[chance.below(3)]
        links = [hop.link for hop in found.hops]
        after = {name: reserved.get(name, 0.0) for name in links}
        after = {name: held + part * (1 - held) for name, held in after.items()}
        if max(after.values()) > load:
            continue
        reserved |= after
        number = int(part * found.rate_hz * window_ns / SECOND)
        asked.append(Asked(node, users.ask(node, remote, number, window_ns), number))
    assert max(reserved.values()) > load - 0.1
    return asked


def test_at_seven_tenths_of_the_links_time_all_get_the_rate_that_they_were_promised() -> None:
    """Weighted fair links, eight qubits each: at least 95 in 100 are admitted, and each in time.

    In the window a request has 5 to 70 pairs; nine in ten of them must come, the promise but 10 %.
    """
    users = Users(RouteLab(grid(3, 3), 8, scheduler="weighted-fair", efficiency=EFFICIENCY), 1)
    window_ns = 40 * MILLISECOND
    asked = reserve_up_to(LOAD, users, Chance(1), window_ns)
    users.rest(window_ns + 5 * MILLISECOND)
    assert len(asked) >= 12
    admitted = kept = 0
    for each in asked:
        user = users.of[each.node]
        request = user.created[each.reference]
        ended = [e for e in user.ended if e.request == request]
        refused = bool(ended) and ended[0].code is not ErrorCode.TIMEOUT
        pairs = sum(pair.request == request for _, pair in user.pairs)
        admitted += not refused
        kept += not refused and pairs >= 0.9 * each.number
    assert admitted >= 0.95 * len(asked)
    assert kept == admitted

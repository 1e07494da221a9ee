"""A network of many nodes on the heap that has come together; every node has a user who listens."""

from __future__ import annotations

from typing import Any

from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.testing import Party, terms
from qstack.testing.routes_lab import RouteLab
from qstack.units import MICROSECOND, MILLISECOND, Duration, Instant, NodeName


class Many:
    """The network, its users by their nodes, and what they were told of one request."""

    def __init__(self, lab: RouteLab, around: Surroundings, seed: int = 11) -> None:
        self.lab = lab
        self.net = VirtualNetwork(lab.links(), lab.world(), seed, around)
        self.look_on()
        self.users = {node: Party(self.net.heap, f"user-{node}", node) for node in lab.nodes}
        for node, user in self.users.items():
            self.net.user(user.name, [node], user.listen)
        self.rest(40 * MILLISECOND)
        for user in self.users.values():
            user.accept()
        self.rest(40 * MILLISECOND)

    def look_on(self) -> None:
        """Called before anything happens."""

    @property
    def now(self) -> Instant:
        return self.net.heap.now

    def rest(self, duration_ns: Duration) -> None:
        self.net.heap.run(self.now + duration_ns)

    def ask(self, node: NodeName, remote: NodeName, number: int, **changes: Any) -> Any:
        """Ask for kept pairs; return the request's id."""
        user = self.users[node]
        reference = user.keep(terms(remote, number, **changes))
        self.rest(100 * MICROSECOND)
        return user.created[reference]

    def paths(self, node: NodeName) -> list[list[NodeName]]:
        """The ways of the circuits that begin at a node."""
        circuits = self.net.host(node).network.report(self.now)["circuits"]
        return [each["path"] for each in circuits if each["role"] == "head"]

    def endings(self, node: NodeName, request: Any) -> list[Any]:
        user = self.users[node]
        told: list[Any] = [*user.done, *user.ended]
        return [each for each in told if each.request == request]

"""What an end node is told when it starts."""

from __future__ import annotations

from qstack.hal.plugins import Sheet
from qstack.machine import record
from qstack.network.machine import NetworkParameters
from qstack.physical.service import LinkParameters
from qstack.stack.hosting import Identity
from qstack.stack.policy import Policy
from qstack.units import NodeName


@record
class EndNodeParameters:
    """An end node as its network file describes it.

    `hosts`: (device, process) for devices that another process serves; the others are
    reached by Device actions. `sheets` are datasheets of such devices. `memory` is the
    memory device whose slots these are.
    """

    identity: Identity
    links: tuple[LinkParameters, ...]
    memory: str
    communication: tuple[int, ...]
    storage: tuple[int, ...]
    hosts: tuple[tuple[str, NodeName], ...]
    sheets: tuple[tuple[str, Sheet], ...] = ()
    policy: Policy = Policy()

    @property
    def network(self) -> NetworkParameters:
        """What its network layer is told."""
        policy = self.policy
        decided = policy.trust, policy.lease_ns, policy.idle_ns, policy.methods
        return NetworkParameters(self.links, self.memory, *decided, policy.division)

    @property
    def neighbours(self) -> frozenset[NodeName]:
        """The other ends of its links."""
        return frozenset(link.other(self.identity.name).node for link in self.links)

    @property
    def nodes(self) -> frozenset[NodeName]:
        """All nodes that its network layer talks with: those, and the controller or who asks it."""
        name, division = self.identity.name, self.policy.division
        if division is None:
            return self.neighbours
        others = set(division.nodes) if division.controller == name else {division.controller}
        return self.neighbours | (others - {name})

"""What circuits leave behind at a node, of which nothing may be left in the end."""

from __future__ import annotations

from typing import Any

from qstack.stack import EndNode
from qstack.testing.memory import Baseline, leftovers
from qstack.testing.truth import TruthError
from qstack.units import Instant


class RouteBaseline(Baseline):
    """At the end no node has a circuit, a reservation, a label, a record or a qubit left.

    To be asked when all leases and times of rest have passed.
    """

    def finish(self, now: Instant) -> None:
        """Look into every party."""
        super().finish(now)
        left = []
        for name in sorted({end.node for link in self.net.links for end in link.ends}):
            left += [f"{name}: {each}" for each in left_of_circuits(self.net.host(name))]
        if left:
            raise TruthError("left of circuits: " + "; ".join(left))


def left_of_circuits(host: Any) -> list[str]:
    """Return what a node's network layer still holds of circuits."""
    if not isinstance(host, EndNode):
        return []
    network = host.network
    circuits, desk = network.demand.circuits, network.desk
    found = {
        "circuits": len(circuits.members),
        "labels": len(circuits._labels),
        "plans of circuits": len(network.demand._plans),
        "link requests of circuits": len(desk._owned),
        "device commands of circuits": len(desk._answers),
        "actions that nobody took": len(desk._actions),
        "requests that links serve": len(network.direct),
    }
    for link in desk.links:
        found[f"reservations of link {link}"] = network.reservations.circuits(link)
        found[f"promises of link {link}"] = network.reservations.promises(link)
    return [f"{count} {what}" for what, count in found.items() if count]


def busy(host: Any) -> bool:
    """Whether anything is left at a party at all."""
    return bool(leftovers(host) or left_of_circuits(host))

"""Whether a node takes part in a circuit, and what circuits have reserved of its links.

Every node of a path looks at the links on both its sides: that they are there, that their time
suffices, and that each circuit can have the qubits for itself without which circuits that
wait for each other's qubits would stand still: one, and at ends that purify as many as its rounds
hold at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.circuits import CircuitId
from qstack.network.advertise import joined_at
from qstack.network.places import Place, Side
from qstack.network.purification import memories_of
from qstack.physical.service import LinkParameters
from qstack.units import LinkName, NodeName

ROUNDING = 1e-9


@record
class Verdict:
    """Why a circuit is not admitted."""

    code: ErrorCode
    reason: str


def qubits_of(place: Place) -> int:
    """Return how many qubits a circuit must be able to have here on each side.

    Ends that purify hold halves of several pairs until the last of them has come.
    """
    install = place.install
    if place.is_head or place.is_tail:
        return memories_of(install.method, install.rounds)
    return 1


class Reservations:
    """What the circuits of a node hold of each of its links."""

    def __init__(self, node: NodeName, links: Iterable[LinkParameters]) -> None:
        self._node = node
        self._links = {link.name: link for link in links}
        self._shares: dict[LinkName, dict[CircuitId, float]] = {name: {} for name in self._links}
        self._qubits: dict[CircuitId, int] = {}
        self.usable: dict[LinkName, bool] = dict.fromkeys(self._links, False)
        self.draining = False

    def share(self, link: LinkName) -> float:
        """Return the part of the link's time that is reserved, in [0, 1]."""
        return min(1.0, sum(self._shares[link].values()))

    def circuits(self, link: LinkName) -> int:
        """Return how many circuits use a link."""
        return len(self._shares[link])

    def consider(self, place: Place, *, swaps: bool) -> Verdict | None:
        """Return why this node does not admit the circuit, None if it does."""
        if self.draining:
            return Verdict(ErrorCode.REJECTED, f"{self._node} takes nothing new: it is draining")
        if not place.is_head and not place.is_tail and not swaps:
            return Verdict(ErrorCode.UNSUPPORTED, f"{self._node} cannot swap")
        for side in Side:
            if place.has(side):
                verdict = self._consider_link(place, side)
                if verdict is not None:
                    return verdict
        return None

    def _consider_link(self, place: Place, side: Side) -> Verdict | None:
        leg, peer = place.leg(side), place.neighbour(side)
        link = self._links.get(leg.link)
        if link is None or link.other(self._node).node != peer:
            return Verdict(ErrorCode.CREATE, f"{self._node} has no link {leg.link!r} to {peer}")
        if not self.usable[leg.link]:
            return Verdict(ErrorCode.NO_RESOURCES, f"link {leg.link} is down at {self._node}")
        held = self._shares[leg.link]
        reserved = sum(held.values())
        if leg.share > 0 and reserved + leg.share > 1 + ROUNDING:
            free = max(0.0, 1 - reserved)
            reason = f"link {leg.link} at {self._node} has {free:.1%} of its time left"
            return Verdict(ErrorCode.NO_TIME, f"{reason}; {leg.share:.1%} is asked for")
        end = link.end(self._node)
        needed = qubits_of(place)
        joined = joined_at(end)[leg.store]
        if needed > 1 and joined < needed:
            reason = f"link {leg.link} at {self._node} joins {joined} qubits; {needed} must meet"
            return Verdict(ErrorCode.UNSUPPORTED, reason)
        room = len(end.communication) + len(end.storage)
        taken = sum(self._qubits[circuit] for circuit in held)
        if taken + needed > room:
            reason = f"link {leg.link} at {self._node} has {room} qubits, for circuits {taken}"
            return Verdict(ErrorCode.NO_RESOURCES, f"{reason}; {needed} are asked for")
        return None

    def reserve(self, place: Place) -> None:
        """Hold what the circuit needs on both sides."""
        for side in Side:
            if place.has(side):
                leg = place.leg(side)
                self._shares[leg.link][place.id] = leg.share
        self._qubits[place.id] = qubits_of(place)

    def release(self, place: Place) -> None:
        """Give it back."""
        for side in Side:
            if place.has(side):
                self._shares[place.link(side)].pop(place.id, None)
        self._qubits.pop(place.id, None)

"""Whether a node takes part in a circuit, and what circuits have reserved of its links.

Every node of a path looks at the links on both its sides: that they are there, that their time
suffices, and that each circuit can have the qubits for itself without which circuits that
wait for each other's qubits would stand still: one, and at ends that purify as many as its rounds
hold at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from qstack.errors import ErrorCode, LocalProtocolError
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
    """Why a circuit is not admitted, or is over; what other ways must avoid, if that is known."""

    code: ErrorCode
    reason: str
    link: LinkName = ""
    node: NodeName = ""


def qubits_of(place: Place) -> int:
    """Return how many qubits a circuit must be able to have here on each side.

    Ends that purify hold halves of several pairs until the last of them has come; so do those
    that hand over sets.
    """
    install = place.install
    if place.is_head or place.is_tail:
        return max(install.halves, memories_of(install.method, install.rounds))
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
        self.drained: set[LinkName] = set()
        """Links that take nothing new."""

    def drain(self, link: LinkName | None, drain: bool) -> None:
        """Take nothing new on a link, or at all; LocalProtocolError for a link that is not here."""
        if link is None:
            self.draining = drain
        elif link not in self._links:
            raise LocalProtocolError(f"{self._node} has no link {link!r} to drain")
        elif drain:
            self.drained.add(link)
        else:
            self.drained.discard(link)

    def drains(self, link: LinkName) -> bool:
        """Whether nothing new is taken on a link of this node."""
        return self.draining or link in self.drained

    def share(self, link: LinkName) -> float:
        """Return the part of the link's time that is reserved, in [0, 1]."""
        return min(1.0, sum(self._shares[link].values()))

    def circuits(self, link: LinkName) -> int:
        """Return how many circuits use a link."""
        return len(self._shares[link])

    def consider(self, place: Place, *, swaps: bool) -> Verdict | None:
        """Return why this node does not admit the circuit, None if it does."""
        if self.draining:
            reason = f"{self._node} takes nothing new: it is draining"
            return Verdict(ErrorCode.REJECTED, reason)
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
        here = f"link {leg.link} at {self._node}"
        link = self._links.get(leg.link)
        if link is None or link.other(self._node).node != peer:
            reason = f"{self._node} has no link {leg.link!r} to {peer}"
            return Verdict(ErrorCode.CREATE, reason, leg.link)
        if not self.usable[leg.link]:
            return Verdict(ErrorCode.NO_RESOURCES, f"{here} is down", leg.link)
        if leg.link in self.drained:
            reason = f"{here} takes nothing new: it is draining"
            return Verdict(ErrorCode.REJECTED, reason, leg.link)
        held = self._shares[leg.link]
        reserved = sum(held.values())
        if leg.share > 0 and reserved + leg.share > 1 + ROUNDING:
            free = max(0.0, 1 - reserved)
            reason = f"{here} has {free:.1%} of its time left; {leg.share:.1%} is asked for"
            return Verdict(ErrorCode.NO_TIME, reason, leg.link)
        needed = qubits_of(place)
        joined = joined_at(link.end(self._node))[leg.store]
        rounds = place.install.rounds > 0 and (place.is_head or place.is_tail)
        if rounds and needed > 1 and joined < needed:
            reason = f"{here} can join {joined} qubits for rounds; {needed} must meet"
            return Verdict(ErrorCode.UNSUPPORTED, reason, leg.link)
        room = self._rest(place, side)
        taken = self._taken(held if room is None else self._sharing(place, side))
        if room is None:
            end = link.end(self._node)
            room = len(end.communication) + (len(end.storage) if leg.store else 0)
        elif not room:
            reason = f"{here}: no qubit could hold a half while the other side brings one"
            return Verdict(ErrorCode.NO_RESOURCES, reason, leg.link)
        if taken + needed > room:
            reason = f"{here} has room for {room} halves, of which circuits need {taken}"
            more = f"; {needed} more are asked for" if needed > 1 else ""
            return Verdict(ErrorCode.NO_RESOURCES, reason + more, leg.link)
        return None

    def reconsider(self, place: Place, shares: tuple[float, ...]) -> Verdict | None:
        """Return why the circuit's legs cannot have these parts of their links' time here."""
        if max(shares) > 1:
            return Verdict(ErrorCode.NO_TIME, f"{max(shares):.1%} of a link's time are asked for")
        for side in Side:
            if not place.has(side):
                continue
            index = place.index - 1 if side is Side.UP else place.index
            leg, share = place.leg(side), shares[index]
            held = self._shares[leg.link]
            others = sum(each for circuit, each in held.items() if circuit != place.id)
            more = share > leg.share + ROUNDING
            if more and self.drains(leg.link):
                reason = f"link {leg.link} at {self._node} takes nothing new: it is draining"
                return Verdict(ErrorCode.REJECTED, reason, leg.link)
            if more and others + share > 1 + ROUNDING:
                reason = f"link {leg.link} at {self._node} has {max(0.0, 1 - others):.1%} of its "
                reason += f"time for it; {share:.1%} is asked for"
                return Verdict(ErrorCode.NO_TIME, reason, leg.link)
        return None

    def _rest(self, place: Place, side: Side) -> int | None:
        """How many halves of a side may rest here at once; None: as many as the link makes.

        Stored halves rest in storage, and a link gives up a half that finds none free; others rest
        in the communication qubits. A node between keeps one place for the other side's half.
        """
        link, store = self._links.get(place.link(side)), place.leg(side).store
        if link is None:
            return None
        mine = link.end(self._node)
        if not place.has(side.other):
            return len(mine.storage) if store else None
        beyond = self._links.get(place.link(side.other))
        if store or beyond is None:
            return len(mine.storage) - place.leg(side.other).store
        if not set(beyond.end(self._node).communication) <= set(mine.communication):
            return None
        return len(mine.communication) - 1

    def _taken(self, circuits: Iterable[CircuitId]) -> int:
        """How many halves these circuits must be able to have here."""
        return sum(self._qubits[circuit] for circuit in circuits)

    def _sharing(self, place: Place, side: Side) -> set[CircuitId]:
        """The circuits whose halves rest in the same places as those of a side."""
        end = self._links[place.link(side)].end(self._node)
        kind = "storage" if place.leg(side).store else "communication"
        mine = set(getattr(end, kind))
        return {
            circuit
            for name, link in self._links.items()
            if mine & set(getattr(link.end(self._node), kind))
            for circuit in self._shares[name]
        }

    def limit(self, place: Place, side: Side) -> int:
        """Return how many halves of this side a circuit may have here, 0 for any number.

        Unmatched halves of a circuit are all of one side. If all circuits together leave one
        qubit, whichever half comes next finds its partner or leaves one, so none waits for ever.
        """
        rest = self._rest(place, side)
        if rest is None:
            return 0
        needed, taken = qubits_of(place), self._taken(self._sharing(place, side))
        return max(needed, rest * needed // max(needed, taken))

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

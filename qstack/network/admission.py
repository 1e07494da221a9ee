"""Whether a node takes part in a circuit, and what circuits have reserved of its links.

Every node of a path looks at the links on both its sides: that they are there, that their time
suffices, and that each circuit can have the qubits for itself without which circuits that
wait for each other's qubits would stand still: one, and at ends that purify as many as its rounds
hold at once.

A circuit *rests* while no request is on it. Then nothing of it is reserved, and it is admitted anew
before it carries another request: who uses a link goes before who has used it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from qstack.errors import ErrorCode, LocalProtocolError
from qstack.machine import record
from qstack.messages.circuits import CircuitId
from qstack.messages.common import RequestId
from qstack.network.advertise import joined_at
from qstack.network.places import Place, Side
from qstack.network.purification import memories_of
from qstack.physical.service import LinkParameters
from qstack.units import Duration, LinkName, NodeName
from qstack.windows import in_words

ROUNDING = 1e-9


@record
class Verdict:
    """Why a circuit is not admitted, or is over; what other ways must avoid, if that is known.

    `left`: so many qubits it could have on each side of the link, where it asked for more.
    """

    code: ErrorCode
    reason: str
    link: LinkName = ""
    node: NodeName = ""
    left: int = 0


def qubits_of(place: Place, side: Side) -> int:
    """Return how many qubits a circuit must be able to have here on a side.

    Who purifies holds halves of several pairs until the last of them has come: those of a hop, and
    at an end, besides the one that these become, those that wait for it. So do ends that hand over
    sets.
    """
    leg, install = place.leg(side), place.install
    found = memories_of(leg.method, leg.rounds)
    if place.is_head or place.is_tail:
        found += max(install.halves, memories_of(install.method, install.rounds)) - 1
    return found


def both_of(place: Place) -> int:
    """Return how many qubits a circuit must be able to have where its sides share them.

    Unmatched halves are all of one side, but those in rounds are not.
    """
    needed = [qubits_of(place, side) for side in Side if place.has(side)]
    return sum(needed) if any(each > 1 for each in needed) else 1


def never(link: LinkName) -> Duration:
    """Return that of links without windows."""
    return 0


class Reservations:
    """What the circuits of a node hold of each of its links."""

    __slots__ = (
        *("_links", "_node", "_places", "_shares", "_users", "changes", "drained", "draining"),
        *("night_ns", "usable"),
    )

    def __init__(self, node: NodeName, links: Iterable[LinkParameters]) -> None:
        self._node = node
        self._links = {link.name: link for link in links}
        self._shares: dict[LinkName, dict[CircuitId, float]] = {name: {} for name in self._links}
        self._users: dict[LinkName, dict[RequestId, float]] = {name: {} for name in self._links}
        self._places: dict[CircuitId, Place] = {}
        self.usable: dict[LinkName, bool] = dict.fromkeys(self._links, False)
        self.draining = False
        self.night_ns: Callable[[LinkName], Duration] = never
        """For how long a link is closed yet, where that is long enough for routes."""
        self.drained: set[LinkName] = set()
        """Links that take nothing new."""
        self.changes = 0
        """How often anything that is advertised of this changed."""

    def drain(self, link: LinkName | None, drain: bool) -> None:
        """Take nothing new on a link, or at all; LocalProtocolError for a link that is not here."""
        self.changes += 1
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

    def refuses_more(self, place: Place) -> Verdict | None:
        """Return why a circuit that is here carries no new request, None if it may."""
        for side in Side:
            if place.has(side) and self.drains(place.link(side)):
                return self._drains(place.link(side))
        return None

    def _drains(self, link: LinkName) -> Verdict:
        if self.draining:
            reason = f"{self._node} takes nothing new: it is draining"
            return Verdict(ErrorCode.REJECTED, reason)
        reason = f"link {link} at {self._node} takes nothing new: it is draining"
        return Verdict(ErrorCode.REJECTED, reason, link)

    def free(self, link: LinkName) -> float:
        """Return the part of the link's time that neither circuits nor users were promised."""
        return max(0.0, 1 - self._reserved(link))

    def _reserved(self, link: LinkName) -> float:
        return sum(self._shares[link].values(), 0.0) + sum(self._users[link].values(), 0.0)

    def promise(self, link: LinkName, request: RequestId, share: float) -> None:
        """A part of the link's time is promised to a user's own request for the neighbour."""
        if share > 0:
            self._users[link][request] = share

    def settle(self, link: LinkName, request: RequestId) -> None:
        """Such a request is over."""
        self._users[link].pop(request, None)

    def promises(self, link: LinkName) -> int:
        """Return how many requests of users a part of the link's time is promised to."""
        return len(self._users[link])

    def share(self, link: LinkName) -> float:
        """Return the part of the link's time that circuits have reserved, in [0, 1]."""
        return min(1.0, sum(self._shares[link].values(), 0.0))

    def circuits(self, link: LinkName) -> int:
        """Return how many circuits use a link; those that rest do not."""
        return len(self._shares[link])

    def consider(self, place: Place, *, swaps: bool) -> Verdict | None:
        """Return why this node does not admit the circuit, None if it does."""
        if self.draining:
            return self._drains("")
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
        night_ns = self.night_ns(leg.link)
        if night_ns:
            reason = f"{here} is closed for {in_words(night_ns)}"
            return Verdict(ErrorCode.NO_RESOURCES, reason, leg.link)
        if leg.link in self.drained:
            return self._drains(leg.link)
        held = self._shares[leg.link]
        reserved = self._reserved(leg.link)
        if leg.share > 0 and reserved + leg.share > 1 + ROUNDING:
            free = max(0.0, 1 - reserved)
            reason = f"{here} has {free:.1%} of its time left; {leg.share:.1%} is asked for"
            return Verdict(ErrorCode.NO_TIME, reason, leg.link)
        needed = qubits_of(place, side)
        joined = joined_at(link.end(self._node))[leg.store]
        rounds = place.install.rounds > 0 and (place.is_head or place.is_tail)
        if rounds and needed > 1 and joined < needed:
            reason = f"{here} can join {joined} qubits for rounds; {needed} must meet"
            return Verdict(ErrorCode.UNSUPPORTED, reason, leg.link)
        room = self._rest(place, side)
        if room is None:
            taken = sum(qubits_of(each, each.side_on(leg.link)) for each in self._on(held))
            end = link.end(self._node)
            room = len(end.communication) + (len(end.storage) if leg.store else 0)
        elif not room:
            reason = f"{here}: no qubit could hold a half while the other side brings one"
            return Verdict(ErrorCode.NO_RESOURCES, reason, leg.link)
        else:
            needed, taken = both_of(place), self._taken(place, side)
        if taken + needed > room:
            reason = f"{here} has room for {room} halves, of which circuits need {taken}"
            more = f"; {needed} more are asked for" if needed > 1 else ""
            left = max(0, room - taken) // (2 if needed > qubits_of(place, side) else 1)
            return Verdict(ErrorCode.NO_RESOURCES, reason + more, leg.link, left=left)
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

    def _on(self, circuits: Iterable[CircuitId]) -> Iterator[Place]:
        return (self._places[circuit] for circuit in circuits)

    def _taken(self, place: Place, side: Side) -> int:
        """How many halves the circuits must be able to have that share the places of a side."""
        return sum(both_of(each) for each in self._on(self._sharing(place, side)))

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

    def sides(self, place: Place) -> tuple[tuple[Side, LinkName, bool], ...]:
        """Return the sides of a circuit here: their links, and whether halves always have a limit.

        Where they have none, there is one only while the qubits of the link are divided. As long as
        the circuit lives this stays as it is.
        """
        return tuple(
            (side, place.link(side), self._rest(place, side) is not None)
            for side in Side
            if place.has(side)
        )

    def limit(self, place: Place, side: Side, running: Collection[CircuitId]) -> int:
        """Return how many halves of this side a circuit may have here, 0 for any number.

        Unmatched halves of a circuit are all of one side. If all circuits together leave one
        qubit, whichever half comes next finds its partner or leaves one, so none waits for ever.
        Where each side has qubits of its own, those are divided among the circuits of
        `running`, if it names several.
        """
        rest = self._rest(place, side)
        if rest is None:
            return self._portion(place, side, running)
        needed = qubits_of(place, side)
        return max(needed, rest * needed // max(needed, self._taken(place, side)))

    def _portion(self, place: Place, side: Side, running: Collection[CircuitId]) -> int:
        if len(running) < 2:
            return 0
        others = (self._sharing(place, side) & set(running)) - {place.id}
        if not others:
            return 0
        needed = qubits_of(place, side)
        taken = sum(
            max(qubits_of(each, at) for at in Side if each.has(at)) for each in self._on(others)
        )
        room = len(self._links[place.link(side)].end(self._node).communication)
        return max(needed, room * needed // (needed + taken))

    def reserve(self, place: Place) -> None:
        """Hold what the circuit needs on both sides."""
        self.changes += 1
        for side in Side:
            if place.has(side):
                leg = place.leg(side)
                self._shares[leg.link][place.id] = leg.share
        self._places[place.id] = place

    def release(self, place: Place) -> None:
        """Give it back: the circuit is over, or rests."""
        self.changes += 1
        for side in Side:
            if place.has(side):
                self._shares[place.link(side)].pop(place.id, None)
        self._places.pop(place.id, None)

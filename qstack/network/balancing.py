"""What there is room for on the circuits of a node, after each of its steps."""

from __future__ import annotations

from collections.abc import Collection

from qstack.network.admission import Reservations, Verdict
from qstack.network.crowding import DIVIDED, Crowding, cutoff_of
from qstack.network.desk import Desk
from qstack.network.forwarding import Between
from qstack.network.member import Member
from qstack.network.places import Place, Side
from qstack.units import Instant, LinkName


class Balance:
    """Lets circuits rest, divides crowded links, and says how many halves may come."""

    __slots__ = ("_crowding", "_desk", "_reservations", "crowds")

    def __init__(self, desk: Desk, reservations: Reservations) -> None:
        self._desk = desk
        self._reservations = reservations
        self._crowding = Crowding(desk.node, desk.links.values(), lambda: desk.now)
        self.crowds = self._crowding.crowds

    @property
    def deadline(self) -> Instant | None:
        """When the patience with a crowded link ends, or its division."""
        return self._crowding.deadline

    def all(self, members: Collection[Member]) -> None:
        """Look at all circuits of the node."""
        for member in members:
            if member.used and not member.rests and member.quiet:
                self.may_rest(member)
        if len(members) > 1 or self.crowds:
            self._look_for_crowds(members)
        crowded = bool(self.crowds)
        for member in members:
            if crowded or member.limited is not False:
                self.one(member)

    def may_rest(self, member: Member) -> None:
        """Give back what is reserved for a circuit that carries no request any more."""
        if not member.rests and member.quiet:
            member.rests = True
            self._reservations.release(member.place)

    def take(self, member: Member) -> Verdict | None:
        """One more request is to be carried: return why this node does not have room for it."""
        place, held = member.place, self._reservations
        if member.rests:
            between = not place.is_head and not place.is_tail
            verdict = held.consider(place, swaps=self._desk.swaps or not between)
            if verdict is not None:
                return verdict
            held.reserve(place)
            member.rests = False
        else:
            verdict = held.refuses_more(place)
        if verdict is None:
            member.used = True
        return verdict

    def _look_for_crowds(self, members: Collection[Member]) -> None:
        """Let the qubits of links be divided where circuits fill them for each other."""
        over: dict[LinkName, list[tuple[Place, int]]] = {}
        for member in members:
            if member.running:
                for side in Side:
                    if member.place.has(side):
                        found = over.setdefault(member.place.link(side), [])
                        found.append((member.place, member.held_on(side)))
        for link in self._desk.links:
            self._crowding.look(link, over.get(link, ()))

    def one(self, member: Member) -> None:
        """Say how many halves may come on each side of a circuit: `limit` 0 for any number."""
        place, part = member.place, member.part
        if part is None or member.rests:
            return
        sides = member.sides
        if sides is None:
            sides = member.sides = self._reservations.sides(place)
        crowded = bool(self.crowds)
        member.limited = False
        for side, link, limited in sides:
            limit = held = 0
            if limited or crowded:
                member.limited = True
                limit = self._reservations.limit(place, side, self._crowding.sharing(link))
            if limit:  # without one it does not matter how many are here
                held = member.held_on(side)
                if limit < held:
                    if isinstance(part, Between):
                        # Halves in rounds stay: of those that wait the oldest go.
                        inside = held - part.held_on(side)
                        part.trim(side, max(0, limit - inside))
                    else:
                        part.recall(held - limit, cutoff_of((place,)) // DIVIDED)
                    held = member.held_on(side)
            if side is Side.UP:
                member.room.balance(limit, held)
            elif member.supply is not None:
                member.supply.balance(limit, held)

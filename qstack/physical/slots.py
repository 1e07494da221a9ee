"""Which memory is free: the one place that knows.

A slot is taken by an owner and carries a generation that grows with each taking, so that a
late message about an earlier life of the slot can never touch the present one. Slots are
handed out in ascending order of their number, to one asker at a time, all or nothing, so
that links and circuits cannot deadlock over memory. `releases` counts every release, so
that whoever composes rooms can see that waiting askers may try again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.common import Qubit


@record
class Owner:
    """Who holds a slot: a room ("physical", "link", "application") and what for, for people."""

    room: str
    what: Any


class Slots:
    """The memories of one node. Slot numbers are those of the memory device."""

    __slots__ = ("_communication", "_generation", "_owner", "_storage", "releases", "vacant")

    def __init__(self, communication: Iterable[int], storage: Iterable[int] = ()) -> None:
        self._communication = tuple(sorted(communication))
        self._storage = tuple(sorted(storage))
        self.releases = 0
        both = set(self._communication) & set(self._storage)
        if both:
            raise LocalProtocolError(f"slots {sorted(both)} cannot be of both kinds")
        self.vacant = set(self._communication) | set(self._storage)
        """The slots that are free, of both kinds; changed here alone."""
        self._generation = dict.fromkeys(self.vacant, 0)
        self._owner: dict[int, Owner] = {}

    def free(self, kind: str = "communication") -> int:
        """Return how many slots of this kind ("communication" or "storage") are free."""
        return sum(1 for slot in self._of(kind) if slot in self.vacant)

    def total(self, kind: str = "communication") -> int:
        """Return how many slots of this kind there are."""
        return len(self._of(kind))

    def take(
        self, owner: Owner, kind: str = "communication", among: tuple[int, ...] | None = None
    ) -> Qubit | None:
        """Take the lowest free slot of this kind (and `among` these); None where none is free."""
        free = self.vacant
        if not free:
            return None
        for slot in self._communication if kind == "communication" else self._storage:
            if slot in free and (among is None or slot in among):
                return self._take(slot, owner)
        return None

    def take_all(
        self,
        owner: Owner,
        count: int,
        kind: str = "communication",
        among: tuple[int, ...] | None = None,
    ) -> tuple[Qubit, ...] | None:
        """Take the `count` lowest free slots of this kind, or none at all (None)."""
        free = [s for s in self._of(kind) if s in self.vacant and (among is None or s in among)]
        if len(free) < count:
            return None
        return tuple(self._take(slot, owner) for slot in free[:count])

    def give(self, qubit: Qubit, old: str, new: Owner) -> None:
        """Hand a qubit from room `old` to a new owner; anything else is our own bug."""
        slot = qubit.slot
        owner = self._owner.get(slot)
        if owner is None or owner.room != old or self._generation[slot] != qubit.generation:
            raise self._foreign(qubit, old)
        self._owner[slot] = new

    def release(self, qubit: Qubit, room: str) -> None:
        """Free a qubit that `room` holds; a stale or foreign one is our own bug."""
        slot = qubit.slot
        owner = self._owner.get(slot)
        if owner is None or owner.room != room or self._generation[slot] != qubit.generation:
            raise self._foreign(qubit, room)
        del self._owner[slot]
        self.vacant.add(slot)
        self.releases += 1

    def check(self, qubit: Qubit, room: str) -> None:
        """Raise LocalProtocolError unless `room` holds this life of the slot."""
        if not self.holds(qubit, room):
            raise self._foreign(qubit, room)

    def holds(self, qubit: Qubit, room: str) -> bool:
        """Return whether `room` holds this life of the slot."""
        owner = self._owner.get(qubit.slot)
        return (
            owner is not None
            and owner.room == room
            and self._generation[qubit.slot] == qubit.generation
        )

    def held(self) -> dict[int, Owner]:
        """Return the owners of all taken slots, by slot number."""
        return dict(self._owner)

    def _take(self, slot: int, owner: Owner) -> Qubit:
        self.vacant.discard(slot)
        generation = self._generation[slot] = self._generation[slot] + 1
        self._owner[slot] = owner
        return Qubit(slot, generation)

    def _foreign(self, qubit: Qubit, room: str) -> LocalProtocolError:
        return LocalProtocolError(
            f"slot {qubit.slot} generation {qubit.generation} is not held by {room}: "
            f"it is in generation {self._generation.get(qubit.slot)}, "
            f"held by {self._owner.get(qubit.slot)}"
        )

    def _of(self, kind: str) -> tuple[int, ...]:
        return self._communication if kind == "communication" else self._storage

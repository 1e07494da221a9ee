"""What takes part in an event heap: whoever takes events, and what stands on the heap for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from qstack.machine import record
from qstack.sim.clocks import RunningClock
from qstack.sim.wires import Path
from qstack.units import Instant, NodeName


@record
class Wake:
    """A host's deadline may have come."""


WAKE = Wake()


class Target:
    """Something that takes events. It outlives its machines; `machine` is None between lives.

    `wake`: the instant of the wake-up that counts, of all that stand on the heap for it.
    `undrained`: it took something since it was last told that its inbox is empty. `answers`:
    what its listener answered, to be taken next. `paths`: from here, by destination.
    """

    __slots__ = (
        "answers",
        "clock",
        "drains",
        "life",
        "listener",
        "machine",
        "name",
        "paths",
        "undrained",
        "wake",
    )

    def __init__(self, name: NodeName, drains: bool) -> None:
        self.name = name
        self.drains = drains
        self.machine: Any = None
        self.life = 0
        self.wake: Instant | None = None
        self.listener: Callable[[Any, Instant], Iterable[Any]] | None = None
        self.clock: RunningClock | None = None
        self.undrained = False
        self.answers: deque[Any] = deque()
        self.paths: dict[NodeName, Path] = {}


Entry: TypeAlias = tuple[Target, int, Any]
"""Whom an event is for, 0, or the life that it is for, or the number of a path, below 0; and it."""

TAKEN: Entry = (Target("", drains=False), 0, None)
"""In the place of an entry that was taken: what it carried is free as soon as nobody needs it."""

NOTHING_ELSE: list[Entry] = []
"""The inbox of a host that has taken all that was in it."""

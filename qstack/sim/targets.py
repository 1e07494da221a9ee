"""What takes part in an event heap: whoever takes events, and what stands on the heap for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import attrs

from qstack.machine import record
from qstack.sim.clocks import RunningClock
from qstack.sim.wires import Path
from qstack.units import Instant, NodeName


@record
class Wake:
    """A host's deadline may have come."""


WAKE = Wake()


@attrs.define(eq=False)
class Target:
    """Something that takes events. It outlives its machines; `machine` is None between lives."""

    name: NodeName
    drains: bool
    machine: Any = None
    life: int = 0
    wake: Instant | None = None
    listener: Callable[[Any, Instant], Iterable[Any]] | None = None
    clock: RunningClock | None = None
    undrained: bool = False
    answers: deque[Any] = attrs.field(factory=deque)
    paths: dict[NodeName, Path] = attrs.field(factory=dict)


Entry: TypeAlias = tuple[Target, int, Any]
"""Whom an event is for, 0, or the life that it is for, or the number of a path, below 0; and it."""

TAKEN: Entry = (Target("", drains=False), 0, WAKE)
"""Stands in the place of what was taken, which need not be kept alive."""

"""The commands that run on a link: armed emitters, the open analyser, the clock."""

from __future__ import annotations

from typing import Any, Protocol

from qstack.messages.common import BasisPlan
from qstack.sim.world.agenda import Run
from qstack.sim.world.memories import Memory
from qstack.sim.world.optics import Values
from qstack.units import Duration, Instant, NodeName, Picoseconds


class Attempting(Protocol):
    """The link of a command, as far as its commands need it."""

    def advance(self, now: Instant) -> None:
        """Decide every cycle that has begun."""

    def replan(self) -> None:
        """Draw anew what happens next."""

    def forget(self, opening: Opening) -> None:
        """The opening has ended."""


class Place:
    """An end of a link, as arms need it: the link, its end's memory, and what is possible there.

    `keeps`: a qubit can be kept; `herald_line`: its emitter knows of a success by itself.
    """

    __slots__ = ("end", "herald_line", "keeps", "link", "memory")

    def __init__(
        self, link: Any, end: int, memory: Memory, *, keeps: bool, herald_line: bool
    ) -> None:
        self.link = link
        self.end = end
        self.memory = memory
        self.keeps = keeps
        self.herald_line = herald_line


class Arm(Run):
    """An EmitterArm (`plan` is None, one slot) or an EmitterMeasure (`left` pairs to go).

    It takes part in cycles `start` to `stop` - 1 while it is in `line`, its end's queue.
    `attempts` counts those made. `flying`: its attempt was the last, the report is on its way.
    `told`: the instant at which the latest outcome of a measuring arm is reported.
    """

    __slots__ = (
        "attempts",
        "end",
        "flying",
        "left",
        "line",
        "link",
        "memory",
        "once",
        "plan",
        "slot",
        "start",
        "stop",
        "told",
        "values",
    )

    def __init__(
        self, owner: NodeName, device: str, command: int, place: Place, values: Values
    ) -> None:
        # Run's own fields are set here: arms are made for every pair.
        self.owner = owner
        self.device = device
        self.command = command
        self.alive = True
        self.memory = place.memory
        self.end = place.end
        self.link = place.link
        self.values = values
        self.slot = -1
        self.plan: BasisPlan | None = None
        self.left = 1
        self.once = False
        self.start = 0
        self.stop = 0
        self.attempts = 0
        self.flying = False
        self.told: Instant = 0
        self.line: list[Arm] = []

    def leave(self) -> None:
        """Take no more part in cycles."""
        if not self.flying:
            self.flying = True
            self.line.remove(self)

    def release(self) -> None:
        """End: leave the queue and the slot."""
        self.alive = False
        self.leave()
        armed = self.memory.armed
        if armed.get(self.slot) is self:
            del armed[self.slot]

    def lose(self) -> None:
        """Lose the qubit that the arm holds, where it ends without a result."""
        if self.plan is None:
            self.memory.clear(self.slot)


class Clock(Run):
    """One life of a link's cycle count: cycle c begins at ``epoch + c * cycle_ns``."""

    __slots__ = ("cycle_ns", "epoch")

    def __init__(self, owner: NodeName, device: str, epoch: Instant, cycle_ns: Duration) -> None:
        super().__init__(owner, device, 0)
        self.epoch = epoch
        self.cycle_ns = cycle_ns

    def begin(self, cycle: int) -> Instant:
        """The instant at which a cycle begins."""
        return self.epoch + cycle * self.cycle_ns

    def begun(self, now: Instant) -> int:
        """The last cycle that has begun."""
        return (now - self.epoch) // self.cycle_ns


class Opening(Run):
    """An open analyser: cycles `start` to `stop` - 1 of `clock`, `modes` attempts of each.

    `remembers`: its detectors carry something from one window into the next.
    What it saw is reported as long as the clock lives, even after it was closed or replaced.
    """

    __slots__ = (
        "attempts",
        "clock",
        "link",
        "modes",
        "remembers",
        "report_failures",
        "start",
        "stop",
        "values",
        "window_ps",
    )

    def __init__(
        self,
        clock: Clock,
        link: Attempting,
        command: int,
        values: Values,
        window_ps: Picoseconds,
    ) -> None:
        super().__init__(clock.owner, clock.device, command)
        self.clock = clock
        self.link = link
        self.values = values
        self.window_ps = window_ps
        self.start = 0
        self.stop = 0
        self.modes = 0
        self.report_failures = False
        self.remembers = False
        self.attempts = 0

    def release(self) -> None:
        """End: the link is open no more."""
        super().release()
        self.link.forget(self)

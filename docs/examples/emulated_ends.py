"""An end's devices on the emulated bench: qubits that the FPGA fires, and where they are kept.

Part of the example :mod:`emulated_fpga`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from qstack.machine import Tick
from qstack.messages.common import Basis, BasisPlan, BasisSet
from qstack.messages.devices import (
    Abort,
    Aborted,
    BellResult,
    Completed,
    EmitterArm,
    EmitterHeralded,
    Exhausted,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    MemoryResult,
    Rejected,
)
from qstack.units import Chance, Duration, Instant, LinkName, earliest


def _stop(arm: EmitterArm, first: int) -> int:
    """Return the cycle after an arm's last, where `first` is its first."""
    stop = first + arm.cycles
    return min(stop, arm.before) if arm.before else stop


class EmulatedEmitter:
    """An end's qubits: armed, they fire when the FPGA says so, and stop by themselves at a herald.

    The qubits that are armed for a cycle are its modes, in the order of arming. `clocks` are the
    FPGA's: the trigger line brings them here.
    """

    def __init__(self, name: str, clocks: dict[LinkName, tuple[Instant, Duration]]) -> None:
        self.name = name
        self._clocks = clocks
        self._armed: list[tuple[EmitterArm, int]] = []
        self._said: deque[tuple[Instant, Any]] = deque()

    @property
    def deadline(self) -> Instant | None:
        """When a line said something, or when the first arm has had its cycles."""
        ends = [self._end(arm, first) for arm, first in self._armed]
        return earliest(self._said[0][0] if self._said else None, *ends)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take EmitterArm, Abort or TICK; anything else is Rejected."""
        out = self._due(now)
        match event:
            case Tick():
                pass
            case EmitterArm():
                out += self._arm(event, now)
            case Abort():
                ended = [each for each in self._armed if each[0].command == event.target]
                for each in ended:
                    self._armed.remove(each)
                    out.append(Aborted(self.name, event.target, "aborted"))
                out.append(Completed(self.name, event.command))
            case _:
                reason = f"an emulated emitter does not know {type(event).__name__}"
                out.append(Rejected(self.name, event.command, False, reason))
        return out

    def fired(self, link: LinkName, cycle: int, mode: int) -> EmitterArm | None:
        """Return the arm whose qubit is this mode of the cycle, or None."""
        there = [
            arm
            for arm, first in self._armed
            if arm.link == link and first <= cycle < _stop(arm, first)
        ]
        return there[mode] if mode < len(there) else None

    def herald(self, arm: EmitterArm, cycle: int, mode: int, now: Instant) -> None:
        """The herald line: this arm's attempt was a success."""
        self._armed = [each for each in self._armed if each[0] is not arm]
        age = 0  # grows until it is reported
        heralded = EmitterHeralded(self.name, arm.command, arm.slot, cycle, mode, age)
        self._said.append((now, heralded))

    def clock_ended(self, link: LinkName, now: Instant) -> None:
        """The link's cycles are counted no more, or anew."""
        for arm, _ in self._armed:
            if arm.link == link:
                self._said.append((now, Aborted(self.name, arm.command, "the clock ended")))
        self._armed = [each for each in self._armed if each[0].link != link]

    def _arm(self, arm: EmitterArm, now: Instant) -> list[Any]:
        reason, late, first = "", False, 0
        if arm.link not in self._clocks:
            reason = f"the clock of {arm.link} was not started"
        elif arm.cycles < 1 or any(each.slot == arm.slot for each, _ in self._armed):
            reason = "no cycles, or the slot is armed already"
        else:
            began, cycle_ns = self._clocks[arm.link]
            first = max(arm.not_before, (now - began) // cycle_ns + 1)
            late = (arm.exact and first > arm.not_before) or 0 < arm.before <= first
        if reason or late:
            return [Rejected(self.name, arm.command, late, reason or "its cycle has begun")]
        self._armed.append((arm, first))
        return []

    def _end(self, arm: EmitterArm, first: int) -> Instant:
        began, cycle_ns = self._clocks[arm.link]
        return began + _stop(arm, first) * cycle_ns

    def _due(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        while self._said and self._said[0][0] <= now:
            since, event = self._said.popleft()
            if isinstance(event, EmitterHeralded):
                e = event
                event = EmitterHeralded(e.device, e.command, e.slot, e.cycle, e.mode, now - since)
            out.append(event)
        for each in [each for each in self._armed if self._end(*each) <= now]:
            self._armed.remove(each)
            out.append(Exhausted(self.name, each[0].command, each[0].cycles))
        return out


class EmulatedMemory:
    """Answers each command at once; what it reads is noise."""

    deadline = None

    def __init__(self, name: str, chance: Chance) -> None:
        self.name = name
        self._chance = chance
        self._since: dict[int, Instant] = {}

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take the commands of a memory, Abort and TICK; anything else is Rejected."""
        match event:
            case Tick():
                return []
            case MemoryInitialise():
                self._since[event.slot] = now
            case MemoryMeasure():
                held = now - self._since.get(event.slot, now)
                basis, outcome = self._axis(event.plan), self._chance.below(2)
                slot, number = event.slot, event.command
                return [MemoryResult(self.name, number, slot, basis, outcome, held)]
            case MemoryBell():
                slots = event.slot, event.other
                held, other_held = (now - self._since.get(slot, now) for slot in slots)
                bell, number = self._chance.below(4), event.command
                return [BellResult(self.name, number, *slots, bell, held, other_held)]
            case MemoryGate() | MemoryMove() | Abort():
                pass
            case _:
                reason = f"an emulated memory does not know {type(event).__name__}"
                return [Rejected(self.name, event.command, False, reason)]
        return [Completed(self.name, event.command)]

    def _axis(self, plan: BasisPlan) -> Basis:
        drawn = self._chance.uniform()
        match plan.basis_set:
            case BasisSet.XZ | BasisSet.XYZ if drawn < plan.first:
                return Basis.X
            case BasisSet.XYZ if drawn < plan.first + plan.second:
                return Basis.Y
            case BasisSet.CHSH:
                return Basis.ZPX if drawn < plan.first else Basis.ZMX
        return Basis.Z

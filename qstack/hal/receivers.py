"""What an end of a source in the middle measures with: detectors that stand for outcomes.

A channel of the end's tagger stands for an axis and an outcome; which of them clicks, the photon
chooses, so a plan that asks for other axes is rejected. Which clicks were heralded the
:class:`~qstack.hal.pair_analyser.PairAnalyser` of the station says, of which this is a part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from qstack.machine import Tick, record
from qstack.messages.common import Basis, BasisPlan, BasisSet
from qstack.messages.devices import (
    Abort,
    Aborted,
    Completed,
    EmitterMeasure,
    EmitterOutcome,
    Exhausted,
    Rejected,
)
from qstack.units import Duration, Instant, LinkName, earliest


@record
class Channel:
    """A detector of a receiver: the axis that it stands for, and the outcome."""

    channel: int
    basis: Basis
    outcome: int


@record
class Cycles:
    """The clock of a link: when cycle 0 began, by this process's lab time."""

    began: Instant
    cycle_ns: Duration


@attrs.define
class _Measuring:
    """A command to measure: cycles from `first` on, `left` outcomes to go."""

    command: EmitterMeasure
    first: int
    left: int

    @property
    def stop(self) -> int:
        """The cycle after its last."""
        stop, before = self.first + self.command.cycles, self.command.before
        return min(stop, before) if before else stop


def axes_of(plan: BasisPlan) -> frozenset[Basis] | None:
    """Return the axes that a plan may draw; None for one with a rotation."""
    if plan.x1 or plan.y or plan.x2:
        return None
    rest = 1.0 - plan.first
    match plan.basis_set:
        case BasisSet.NONE:
            drawn = [(Basis.Z, 1.0)]
        case BasisSet.XZ:
            drawn = [(Basis.X, plan.first), (Basis.Z, rest)]
        case BasisSet.XYZ:
            drawn = [(Basis.X, plan.first), (Basis.Y, plan.second), (Basis.Z, rest - plan.second)]
        case BasisSet.CHSH:
            drawn = [(Basis.ZPX, plan.first), (Basis.ZMX, rest)]
    return frozenset(basis for basis, probability in drawn if probability > 0.0)


class Receiver:
    """The device that an end measures with; made by its analyser.

    `undecided` tells the first cycle of a link whose coincidences are still to be reported.
    """

    def __init__(
        self,
        name: str,
        channels: Iterable[Channel],
        clocks: dict[LinkName, Cycles],
        undecided: Callable[[LinkName], int],
    ) -> None:
        self.name = name
        self._undecided = undecided
        self.trouble = ""
        self._channels = {each.channel: (each.basis, each.outcome) for each in channels}
        self._axes = frozenset(basis for basis, _ in self._channels.values())
        self._clocks = clocks
        self._running: list[_Measuring] = []
        self._said: deque[tuple[Instant, Any]] = deque()

    @property
    def deadline(self) -> Instant | None:
        """When something was said, or when the first command has had its cycles."""
        said = self._said[0][0] if self._said else None
        return earliest(said, *(self._end(each) for each in self._running))

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take EmitterMeasure, Abort or TICK; anything else is Rejected."""
        out = self._due(now)
        match event:
            case Tick():
                pass
            case EmitterMeasure():
                out += self._measure(event, now)
            case Abort():
                for each in [e for e in self._running if e.command.command == event.target]:
                    self._running.remove(each)
                    out.append(Aborted(self.name, event.target, "aborted"))
                out.append(Completed(self.name, event.command))
            case _:
                reason = f"a receiver does not know {type(event).__name__}"
                out.append(Rejected(self.name, event.command, False, reason))
        return out

    def measures(self, link: LinkName, cycle: int, channel: int) -> bool:
        """Whether this cycle is measured for a link, by a detector that has this channel."""
        return channel in self._channels and self._for(link, cycle) is not None

    def clicked(
        self, link: LinkName, attempt: tuple[int, int], channel: int, at: Instant, now: Instant
    ) -> None:
        """An attempt that is measured was heralded; its photon came at `at`."""
        found = self._for(link, attempt[0])
        if found is None:
            return
        found.left -= 1
        last = found.left == 0
        if last:
            self._running.remove(found)
        basis, outcome = self._channels[channel]
        number = found.command.command
        self._said.append(
            (now, EmitterOutcome(self.name, number, *attempt, basis, outcome, now - at, last))
        )

    def clock_ended(self, link: LinkName, now: Instant) -> None:
        """The link's cycles are counted anew."""
        for each in [each for each in self._running if each.command.link == link]:
            self._running.remove(each)
            ended = Aborted(self.name, each.command.command, "clock restarted")
            self._said.append((now, ended))

    def _for(self, link: LinkName, cycle: int) -> _Measuring | None:
        for each in self._running:
            if each.command.link == link and each.first <= cycle < each.stop:
                return each
        return None

    def _measure(self, command: EmitterMeasure, now: Instant) -> list[Any]:
        reason, late, first = self.trouble, False, 0
        clock = self._clocks.get(command.link)
        if not reason and clock is None:
            reason = f"the clock of {command.link} was not started"
        elif not reason and min(command.pairs, command.cycles) < 1:
            reason = "nothing to do"
        elif not reason and axes_of(command.plan) != self._axes:
            named = ", ".join(sorted(basis.name for basis in self._axes))
            reason = f"its detectors measure {named}, each photon one of them, and nothing else"
        elif not reason and clock is not None:
            begun = (now - clock.began) // clock.cycle_ns
            late = command.exact and command.not_before <= begun
            # What shines by itself was measured already: all that counts is what was not told yet.
            first = max(command.not_before, self._undecided(command.link))
            late = late or 0 < command.before <= begun + 1
        if reason or late:
            return [Rejected(self.name, command.command, late, reason or "its cycle has begun")]
        self._running.append(_Measuring(command, first, command.pairs))
        return []

    def _end(self, measuring: _Measuring) -> Instant:
        clock = self._clocks[measuring.command.link]
        return clock.began + measuring.stop * clock.cycle_ns

    def _due(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        while self._said and self._said[0][0] <= now:
            since, event = self._said.popleft()
            if isinstance(event, EmitterOutcome) and now > since:
                untyped: Any = event
                event = attrs.evolve(untyped, age_ns=event.age_ns + now - since)
            out.append(event)
        for each in [each for each in self._running if self._end(each) <= now]:
            self._running.remove(each)
            out.append(Exhausted(self.name, each.command.command, each.command.cycles))
        return out

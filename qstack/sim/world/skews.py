"""How far the hardware of a link's parties is ahead of the network's timing.

Photons of an end that is ahead come early by as much. The error of a clock that drifts is taken
in steps that are short against the photons, so that the tables of attempts can be kept, and no
further than LIMIT_PS, where no photon meets anything any more.
"""

from __future__ import annotations

from qstack.machine import record
from qstack.units import Instant, NodeName, Picoseconds

STEP_PS: Picoseconds = 10
"""The shortest step of an error that drifts."""

STEPS_PER_LIFETIME = 1_000
"""How many steps make the lifetime of an exponential packet, where that is longer."""

LIMIT_PS: Picoseconds = 10**9

_PER_PS = 10**9
"""Parts in 10**12 of one nanosecond that make a picosecond."""


@record
class Skew:
    """One party's error: `offset_ps` at the instant `since`, and drifting from then on.

    While it drifts it is rounded to multiples of `step_ps`.
    """

    since: Instant
    offset_ps: Picoseconds
    drift_ppt: int
    step_ps: Picoseconds = STEP_PS

    def at(self, instant: Instant) -> Picoseconds:
        """Return the error at an instant."""
        error = self.offset_ps
        if self.drift_ppt:
            error += (instant - self.since) * self.drift_ppt // _PER_PS
            error = (error + self.step_ps // 2) // self.step_ps * self.step_ps
        return max(-LIMIT_PS, min(LIMIT_PS, error))

    def changes(self, instant: Instant) -> Instant | None:
        """Return the first instant later on at which `at` is another, None for never."""
        now = self.at(instant)
        if not self.drift_ppt or now == (LIMIT_PS if self.drift_ppt > 0 else -LIMIT_PS):
            return None
        half, rate = self.step_ps // 2, abs(self.drift_ppt)
        if self.drift_ppt > 0:
            needed = now + self.step_ps - half - self.offset_ps
            return self.since - (-needed * _PER_PS // rate)
        return self.since + (self.offset_ps + half - now) * _PER_PS // rate + 1


RIGHT = Skew(0, 0, 0)


class Skews:
    """The errors of a link's ends, each against the party that it is compared with.

    `parties`: end A, end B, and the station whose window the photons must meet; without a
    station (""), the ends are compared with each other. `lifetime_ps`: of the longer packets.
    """

    __slots__ = ("_parties", "_right", "_skews", "_step_ps", "drifting")

    def __init__(
        self, parties: tuple[NodeName, NodeName, NodeName], lifetime_ps: Picoseconds
    ) -> None:
        self._parties = parties
        self._step_ps = max(STEP_PS, lifetime_ps // STEPS_PER_LIFETIME)
        self._skews = [RIGHT, RIGHT, RIGHT]
        self.drifting = False
        self._right = True

    def set(self, node: NodeName, now: Instant, offset_ps: Picoseconds, drift_ppt: int) -> bool:
        """Let a node have this error from `now` on; returns whether it has a part in the link."""
        skew = Skew(now, offset_ps, drift_ppt, self._step_ps)
        for place, party in enumerate(self._parties):
            if party == node:
                self._skews[place] = skew
        self._right = not any(each.drift_ppt or each.offset_ps for each in self._skews)
        self.drifting = any(each.drift_ppt for each in self._skews)
        return node in self._parties

    def late_ps(self, instant: Instant) -> tuple[Picoseconds, Picoseconds]:
        """Return by how much each end's photons come late; negative: early."""
        if self._right:
            return 0, 0
        a, b, station = (skew.at(instant) for skew in self._skews)
        return station - a, station - b

    def changes(self, instant: Instant) -> Instant | None:
        """Return when `late_ps` next changes, None for never."""
        changes = [each for s in self._skews if (each := s.changes(instant)) is not None]
        return min(changes) if changes else None

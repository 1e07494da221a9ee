"""What the clicks of a link's analyser become, at its station: successes, held ones, or void.

A click counts only under the opening during which it was seen, and in the cycles that this was
for. Without credit at an end it is held, in order, for `confirm_ns` at most.
"""

from __future__ import annotations

from qstack.messages.devices import StationClicks
from qstack.messages.physical import Success
from qstack.physical.analyser import Health
from qstack.physical.clock import LinkClock
from qstack.physical.gate import Gate
from qstack.physical.heralding import MAX_UNCONFIRMED, StationEnd, Wanted
from qstack.physical.service import LinkParameters, Setting
from qstack.units import Instant


class Clicks:
    """The successes of one link, and the opening of its analyser that they come from."""

    __slots__ = (
        *("_bells", "_bin", "_clock", "_confirm_ns", "_first", "_gate", "_health", "_modes"),
        *("_second", "command", "counters", "pending", "purpose", "sequence"),
    )

    def __init__(
        self,
        parameters: LinkParameters,
        ends: tuple[StationEnd, StationEnd],
        clock: LinkClock,
        gate: Gate,
        health: Health,
    ) -> None:
        self._modes = parameters.modes
        self._confirm_ns = parameters.confirm_ns
        self._first, self._second = ends
        self._clock = clock
        self._gate = gate
        self._health = health
        self.command: int | None = None
        """The command by which the analyser is open; None where it is not."""
        self.purpose: Wanted | None = None
        """What it was opened for last."""
        self._bin = (0, 0)
        self._bells: dict[int, int] = {}
        self.pending: list[tuple[StationClicks, Instant]] = []
        """What waits for credit, with when it came."""
        self.sequence = 0
        """That of the last success."""
        self.counters: dict[str, int] = {}

    def opened(self, command: int, want: Wanted, setting: Setting) -> None:
        """The analyser is told to open for what both ends want."""
        self.command, self.purpose = command, want
        self._bin = want[4:]
        self._bells = {prior.clicks: prior.bell for prior in setting.patterns}

    def take(self, event: StationClicks, now: Instant) -> None:
        """Take a click: all that it changes is at the ends, or is held here."""
        cycle = event.cycle
        if not (0 <= event.mode < self._modes and 0 <= cycle < 1 << 62):
            self.count("device_errors")
            return
        if self._gate.keeps and event.command < (self._clock.command or 0):
            self.count("stray")  # of the clock's former count
            return
        begin, end = self._bin
        late = not self._clock.heard(cycle, now - event.age_ns)
        ours = event.command == self.command and begin <= cycle and (cycle < end or not end)
        if late or not ours:
            self.count("late" if late else "stray")
            self._void(event)
        elif event.clicks not in self._bells:
            self.count("failures" if event.clicks == 0 else "no_pattern")
            self._void(event)
        elif self.pending or self._first.credit <= 0 or self._second.credit <= 0:
            self.count("held")
            if len(self.pending) < MAX_UNCONFIRMED:
                self.pending.append((event, now))
            else:
                self._void(event)
        else:
            self._succeed(event, now)

    def credited(self, now: Instant) -> None:
        """Let what was held succeed as far as there is credit for it."""
        while self.pending and self._first.credit > 0 and self._second.credit > 0:
            self._succeed(self.pending.pop(0)[0], now)

    def tick(self, now: Instant) -> None:
        """Void what was held for too long."""
        while self.pending and self.pending[0][1] + self._confirm_ns <= now:
            self.count("not_credited")
            self._void(self.pending.pop(0)[0])

    def void_pending(self) -> None:
        """Void all that is held."""
        for event, _ in self.pending:
            self._void(event)
        self.pending.clear()

    def due(self) -> Instant | None:
        """When what is held the longest is held for too long."""
        return self.pending[0][1] + self._confirm_ns if self.pending else None

    def oldest(self) -> int | None:
        """The earliest cycle of what is held."""
        return min(event.cycle for event, _ in self.pending) if self.pending else None

    def count(self, name: str) -> None:
        """Count something, for people."""
        self.counters[name] = self.counters.get(name, 0) + 1

    def _succeed(self, event: StationClicks, now: Instant) -> None:
        first, second = self._first, self._second
        arm = first.arm
        if arm is None or arm.request is None or first.full or second.full:
            self._void(event)
            return
        self.sequence += 1
        self._health.works()
        success = Success(
            self.sequence,
            arm.request,
            event.cycle,
            event.mode,
            event.clicks,
            self._bells[event.clicks],
            event.tags_ps,
            arm.setting,
        )
        first.succeed(success, now)
        second.succeed(success, now)

    def _void(self, event: StationClicks) -> None:
        attempt = (event.cycle, event.mode)
        self._first.voids.append(attempt)
        self._second.voids.append(attempt)

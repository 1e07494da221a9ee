"""The station side of the physical layer, for one link: pairing, successes, heralds.

See the package's docstring for the theory of operation. Messages leave at DRAINED, so that
everything of one instant is in one herald and no statement overlooks a click that is here.
"""

from __future__ import annotations

from typing import Any, assert_never

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Drained, Note, Send, Tick, earliest
from qstack.messages.devices import (
    Abort,
    Aborted,
    Calibration,
    Completed,
    DeviceState,
    Exhausted,
    Faulted,
    Rejected,
    StationClicks,
)
from qstack.messages.physical import Arm, Success, Verdict
from qstack.physical.analyser import STANDING_CYCLES, Health, clock_command, open_command
from qstack.physical.clock import LinkClock
from qstack.physical.events import (
    Deferred,
    EndReachable,
    EndUnreachable,
    FromEnd,
    Granted,
    StationEvent,
)
from qstack.physical.gate import Gate
from qstack.physical.heralding import HARMLESS, MAX_UNCONFIRMED, StationEnd, Wanted, Word, in_bin
from qstack.physical.judging import judge, standing
from qstack.physical.pairing import TABLE, LinkState
from qstack.physical.service import LinkParameters
from qstack.units import BootId, Duration, Instant, NodeName

__all__ = ["EndReachable", "EndUnreachable", "FromEnd", "StationPhysical"]


_PASSING = (FromEnd, Tick, Completed, Granted)
"""At these, and when its opening ends, the windows of a link are looked at."""


class StationPhysical:
    """One link at its heralding station. Machine; `boot` is the station's life.

    With `shared` the analyser serves other links too: the link waits for Granted.
    """

    def __init__(
        self,
        parameters: LinkParameters,
        commands: CommandIds,
        boot: BootId,
        *,
        shared: bool = False,
    ) -> None:
        self._parameters = parameters
        self._commands = commands
        self._boot = boot
        confirm_ns = parameters.confirm_ns
        first, second = (
            StationEnd(end.node, confirm_ns, herald_line=end.herald_line) for end in parameters.ends
        )
        self._ends: tuple[StationEnd, StationEnd] = (first, second)
        self._settings = {setting.id: setting for setting in parameters.settings}
        self._failures_matter = not all(end.herald_line for end in parameters.ends)
        delay_ns = max(end.delay_ns for end in parameters.ends)
        margin_ns = confirm_ns + 2 * delay_ns + parameters.cycle_ns
        self._clock = LinkClock(parameters.cycle_ns, margin_ns)
        self._gate = Gate(parameters.windows, delay_ns, confirm_ns)
        self.state = LinkState.IDLE
        self._granted = not shared
        self._deferred_ns: Duration = 0
        self._health = Health(confirm_ns)
        self._open: int | None = None
        self._open_for: Wanted | None = None
        self._first_cycle = 0
        self._bells: dict[int, int] = {}
        self._pending: list[tuple[StationClicks, Instant]] = []
        self._sequence = 0
        self._dirty = False
        self._due: Instant | None = None
        self._due_known = False
        self.counters: dict[str, int] = {}

    # --- the machine's contract ----------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """When this machine wants a TICK."""
        if not self._due_known:
            self._due_known = True
            self._due = self._find_due()
        return self._due

    def _find_due(self) -> Instant | None:
        first, second = self._ends
        due = earliest(self._health.retry_at, first.remind_at, second.remind_at)
        due = earliest(due, first.hold_until, second.hold_until)
        if self._gate.keeps:
            opened = self._open is not None
            if opened or first.curious or second.curious:
                due = earliest(due, self._gate.due(opened))
        if self._pending:
            return earliest(due, self._pending[0][1] + self._parameters.confirm_ns)
        return due

    @property
    def agreed(self) -> bool:
        """Whether both ends want the same and nothing but the analyser may be missing."""
        return self.state in (LinkState.PAIRED, LinkState.DEFERRED) and self._gate.is_open

    def handle(self, event: StationEvent, now: Instant) -> list[Any]:
        """Take one event; RemoteProtocolError, and nothing changed, for a senseless arm."""
        if type(event) is Drained:
            return self._flush(now) if self._dirty else []
        self._due_known = False
        actions: list[Any] = []
        match event:
            case FromEnd():
                self._arm(event.node, event.message, now)
            case StationClicks():
                self._clicks(event, now)
            case EndReachable():
                self._end(event.node).begin(event.boot, self._sequence)
                actions += self._beacon(event.node, now)
            case EndUnreachable():
                self._end(event.node).lose()
            case Completed():
                if event.command == self._clock.command:
                    self._clock.completed(now)
                    self._doubt(now)
            case Exhausted() | Aborted():
                if event.command == self._open:
                    self._open = None
                    self._gate.ended(event)
                    self._look(now)
            case Rejected() | Faulted():
                actions += self._failed(event, now)
            case DeviceState():
                self._device_state(event)
            case Granted() | Deferred():
                self._granted = isinstance(event, Granted)
                self._deferred_ns = event.until_ns if isinstance(event, Deferred) else 0
            case Tick():
                self._tick(now)
            case Calibration() | Drained():
                return []
            case _:
                assert_never(event)
        self._dirty = True
        return actions + self._review(event, now)

    def report(self) -> dict[str, Any]:
        """What is going on and what was counted, for people."""
        return {
            "state": self.state.name.lower(),
            "trouble": self._health.reason,
            "last_sequence": self._sequence,
            "unconfirmed": {end.node: len(end.unconfirmed) for end in self._ends},
            "pending": len(self._pending),
            **self.counters,
        }

    # --- events ---------------------------------------------------------------------------

    def _end(self, node: NodeName) -> StationEnd:
        for end in self._ends:
            if end.node == node:
                return end
        raise RemoteProtocolError(f"{node} is no end of link {self._parameters.name}")

    def _arm(self, node: NodeName, arm: Arm, now: Instant) -> None:
        end = self._end(node)
        if arm.link != self._parameters.name:
            raise RemoteProtocolError(f"an arm of link {arm.link!r}")
        if arm.station_boot != self._boot:
            self._count("foreign_arms")
            end.reply_due = True
            return
        end.check(arm, self._sequence)
        end.take(arm, now)

    def _clicks(self, event: StationClicks, now: Instant) -> None:
        if not (0 <= event.mode < self._parameters.modes and 0 <= event.cycle < 1 << 62):
            self._count("device_errors")
            return
        if self._gate.keeps and event.command < (self._clock.command or 0):
            self._count("stray")  # of the clock's former count
            return
        late = not self._clock.heard(event.cycle, now - event.age_ns)
        ours = event.command == self._open and in_bin(self._open_for, event.cycle)
        if late or not ours:
            self._count("late" if late else "stray")
            self._void(event)
        elif event.clicks not in self._bells:
            self._count("failures" if event.clicks == 0 else "no_pattern")
            self._void(event)
        elif self._pending or min(end.credit for end in self._ends) <= 0:
            self._count("held")
            if len(self._pending) < MAX_UNCONFIRMED:
                self._pending.append((event, now))
            else:
                self._void(event)
        else:
            self._succeed(event, now)

    def _succeed(self, event: StationClicks, now: Instant) -> None:
        arm = self._ends[0].arm
        if arm is None or arm.request is None or any(end.full for end in self._ends):
            self._void(event)
            return
        self._sequence += 1
        self._health.works()
        success = Success(
            *(self._sequence, arm.request, event.cycle, event.mode, event.clicks),
            *(self._bells[event.clicks], event.tags_ps, arm.setting),
        )
        for end in self._ends:
            end.succeed(success, now)

    def _void(self, event: StationClicks) -> None:
        for end in self._ends:
            end.voids.append((event.cycle, event.mode))

    def _void_pending(self) -> None:
        for event, _ in self._pending:
            self._void(event)
        self._pending.clear()

    def _failed(self, event: Rejected | Faulted, now: Instant) -> list[Any]:
        if event.command == self._clock.command:
            self._stop_clock()
        elif event.command == self._open:
            self._open = None
        else:
            return []
        self._count("faults")
        self._health.failed(event.reason, now)
        return [Note("analyser-failed", (("device", event.device), ("reason", event.reason)))]

    def _device_state(self, event: DeviceState) -> None:
        if event.device != self._parameters.analyser:
            return
        if self._health.told(event):
            self._open = None
            self._stop_clock()

    def _tick(self, now: Instant) -> None:
        for end in self._ends:
            end.remind(now)
            end.let_go(now)
        while self._pending and self._pending[0][1] + self._parameters.confirm_ns <= now:
            self._count("not_credited")
            self._void(self._pending.pop(0)[0])
        self._health.tick(now)

    # --- pairing --------------------------------------------------------------------------

    def _judge(self) -> tuple[LinkState, str]:
        """Return the state that follows from what is known, with a reason where it is CLOSED."""
        if self._health.reason:
            return LinkState.CLOSED, self._health.reason
        opened, granted = self._open is not None, self._granted
        return judge(self._ends, self._settings, self._gate, opened=opened, granted=granted)

    def _review(self, event: StationEvent, now: Instant) -> list[Any]:
        """Let state and analyser follow the event."""
        if type(event) in _PASSING:
            self._look(now)
        state, reason = self._judge()
        if state not in TABLE[self.state][type(event)]:
            raise LocalProtocolError(
                f"{type(event).__name__} may not lead from {self.state.name} to {state.name}"
            )
        former, self.state = self.state, state
        first, second = self._ends
        want = first.wanted
        actions: list[Any] = []
        if not self._clock.running and not self._health.reason:
            actions.append(self._start_clock(now))
        if state is LinkState.PAIRED and want is not None:
            stands = standing(self._open, self._open_for, first)
            if not stands:
                actions.append(self._open_analyser(want, now))
            while self._pending and min(first.credit, second.credit) > 0:
                self._succeed(self._pending.pop(0)[0], now)
            if stands and former is state:
                return actions  # as both ends were told
        else:
            self._void_pending()
            if self._open is not None:
                abort = Abort(self._parameters.analyser, self._commands.next(), self._open)
                actions.append(Device(self._parameters.analyser, abort))
                self._open = None
        for end, other in ((first, second), (second, first)):
            verdict, why = end.verdict(other, state, reason)
            said = (verdict, self._first_cycle if state is LinkState.PAIRED else 0, why)
            if end.arm is not None and end.said != said:
                before = None if end.said is None else end.said[0]
                end.said = said
                if self._failures_matter or not (before in HARMLESS and verdict in HARMLESS):
                    end.reply_due = True
        return actions

    def _look(self, now: Instant) -> None:
        """Let the link's windows pass, and tell the ends of another one."""
        stands = standing(self._open, self._open_for, self._ends[0])
        another = self._gate.look(self._clock, now, stands)
        if self._gate.stale:
            self._stop_clock()
        elif another:
            for end in self._ends:
                end.tell_window()

    def _open_analyser(self, want: Wanted, now: Instant) -> Device:
        self._void_pending()
        setting = self._settings[want[2]]
        self._bells = {prior.clicks: prior.bell for prior in setting.patterns}
        asked = [end.arm.first_cycle for end in self._ends if end.arm is not None]
        here = self._clock.reached(now)
        # An end may ask for a little later, not for next year.
        wished = max(here, min(max(asked), here + self._clock.margin_cycles))
        self._open = self._commands.next()
        self._open_for = want
        self._first_cycle, cycles = self._gate.span(wished, STANDING_CYCLES)
        where = (self._open, self._first_cycle, cycles)
        return open_command(self._parameters, setting, where, self._failures_matter)

    # --- the clock ------------------------------------------------------------------------

    def _start_clock(self, now: Instant) -> Device:
        command = self._commands.next()
        self._clock.start(command, now)
        return clock_command(self._parameters, command)

    def _doubt(self, now: Instant) -> None:
        """A clock that took too long to begin tells no window: it has to begin again, later."""
        if not self._gate.fits(self._clock, self._parameters.cycle_ns):
            self._health.failed("its clock took longer to begin than a window lasts", now)
            self._stop_clock()

    def _stop_clock(self) -> None:
        self._void_pending()
        self._clock.stop()
        self._gate.forget()
        for end in self._ends:
            # All of the former count that is no success is void by the next one.
            end.voids.clear()
            end.reply_due = end.arm is not None

    # --- what leaves at DRAINED -----------------------------------------------------------

    def _beacon(self, node: NodeName, now: Instant) -> list[Any]:
        beacon = self._clock.beacon(self._parameters.name, self._sequence, now)
        return [] if beacon is None else [Send(node, beacon)]

    def _flush(self, now: Instant) -> list[Any]:
        self._dirty = False
        first, second = self._ends
        actions: list[Any] = []
        for end, other in ((first, second), (second, first)):
            if end.reachable and (end.herald_due or end.voids):
                actions += [Send(end.node, herald) for herald in end.heralds(self._word(now))]
            if end.reachable and end.reply_due and not self._too_early(end):
                actions.append(Send(end.node, end.reply(other, self._word(now))))
            end.voids.clear()
        return actions

    def _too_early(self, end: StationEnd) -> bool:
        """Whether an end must not be told yet: what the former clock did may still come."""
        refused = end.said is None or end.said[0] is Verdict.REFUSED
        return not refused and self._clock.uncertainty_ns is None

    def _word(self, now: Instant) -> Word:
        oldest = min((event.cycle for event, _ in self._pending), default=None)
        return Word(
            *(self._parameters.name, self._clock.cycle(now), self._sequence),
            *(self._clock.announce(now, oldest), self._first_cycle),
            self._gate.until_ns(now) or self._deferred_ns,
            self._clock.epoch,
            self._gate.cycles,
            self._gate.phase_ns(now),
        )

    def _count(self, name: str, by: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + by

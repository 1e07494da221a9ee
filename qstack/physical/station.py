"""The station side of the physical layer, for one link: pairing, successes, heralds.

See the package's docstring for the theory of operation. Messages leave at DRAINED, so that
everything of one instant is in one herald and no statement overlooks a click that is here.
"""

from __future__ import annotations

from typing import Any, assert_never

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Drained, Note, Send, Tick
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
from qstack.messages.physical import Arm, Confirm, Verdict
from qstack.physical.analyser import STANDING_CYCLES, Health, clock_command, open_command
from qstack.physical.clicks import Clicks
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
from qstack.physical.heralding import HARMLESS, StationEnd, Wanted, Word
from qstack.physical.judging import judge, standing
from qstack.physical.pairing import TABLE, LinkState
from qstack.physical.service import LinkParameters
from qstack.units import BootId, Duration, Instant, NodeName, earliest

__all__ = ["EndReachable", "EndUnreachable", "FromEnd", "StationPhysical"]


_PASSING = (FromEnd, Tick, Completed, Granted)
"""At these, and when its opening ends, the windows of a link are looked at."""


class StationPhysical:
    """One link at its heralding station. Machine; `boot` is the station's life.

    With `shared` the analyser serves other links too: the link waits for Granted.
    """

    __slots__ = (
        *("_boot", "_clicks", "_clock", "_commands", "_deferred_ns", "_dirty", "_due"),
        *("_due_known", "_ends", "_failures_matter", "_first_cycle", "_gate", "_granted"),
        *("_health", "_parameters", "_settings", "state"),
    )

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
        self._clicks = Clicks(parameters, self._ends, self._clock, self._gate, self._health)
        self._first_cycle = 0
        self._dirty = False
        self._due: Instant | None = None
        self._due_known = False

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
        due = self._health.retry_at
        for at in (first.remind_at, second.remind_at, first.hold_until, second.hold_until):
            if at is not None and (due is None or at < due):
                due = at
        if self._gate.keeps:
            opened = self._clicks.command is not None
            if opened or first.curious or second.curious:
                due = earliest(due, self._gate.due(opened))
        return earliest(due, self._clicks.due()) if self._clicks.pending else due

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
        judged = False
        match event:
            case FromEnd():
                anew = self._arm(event.node, event.message, now)
                judged = not anew and self._steady and not self._gate.keeps
                if judged and self._clicks.pending:
                    self._clicks.credited(now)
            case StationClicks():
                self._clicks.take(event, now)
                judged = self._steady
            case EndReachable():
                self._end(event.node).begin(event.boot, self._clicks.sequence)
                actions += self._beacon(event.node, now)
            case EndUnreachable():
                self._end(event.node).lose()
            case Completed():
                if event.command == self._clock.command:
                    self._clock.completed(now)
                    self._doubt(now)
            case Exhausted() | Aborted():
                if event.command == self._clicks.command:
                    self._clicks.command = None
                    self._gate.ended(event)
                    self._look(now)
                elif isinstance(event, Aborted) and event.command == self._clock.command:
                    actions += self._failed(event, now)
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
        return actions if judged else actions + self._review(event, now)

    def report(self) -> dict[str, Any]:
        """What is going on and what was counted, for people."""
        return {
            "state": self.state.name.lower(),
            "trouble": self._health.reason,
            "last_sequence": self._clicks.sequence,
            "unconfirmed": {end.node: len(end.unconfirmed) for end in self._ends},
            "pending": len(self._clicks.pending),
            **self._clicks.counters,
        }

    # --- events ---------------------------------------------------------------------------

    def _end(self, node: NodeName) -> StationEnd:
        for end in self._ends:
            if end.node == node:
                return end
        raise RemoteProtocolError(f"{node} is no end of link {self._parameters.name}")

    def _arm(self, node: NodeName, arm: Arm | Confirm, now: Instant) -> bool:
        """Take an arm, or what is new in it; return whether the end wants another thing, or may."""
        end = self._end(node)
        if arm.link != self._parameters.name:
            raise RemoteProtocolError(f"an arm of link {arm.link!r}")
        if arm.station_boot != self._boot:
            self._clicks.count("foreign_arms")
            end.reply_due = True
            return True
        if isinstance(arm, Confirm):
            end.take_more(arm, self._clicks.sequence, now)
            return False
        end.check(arm, self._clicks.sequence)
        return end.take(arm, now)

    def _failed(self, event: Rejected | Faulted | Aborted, now: Instant) -> list[Any]:
        if event.command == self._clock.command:
            self._stop_clock()
        elif event.command == self._clicks.command:
            self._clicks.command = None
        else:
            return []
        self._clicks.count("faults")
        self._health.failed(event.reason, now)
        return [Note("analyser-failed", (("device", event.device), ("reason", event.reason)))]

    def _device_state(self, event: DeviceState) -> None:
        if event.device != self._parameters.analyser:
            return
        if self._health.told(event):
            self._clicks.command = None
            self._stop_clock()

    def _tick(self, now: Instant) -> None:
        for end in self._ends:
            end.remind(now)
            end.let_go(now)
        self._clicks.tick(now)
        self._health.tick(now)

    # --- pairing --------------------------------------------------------------------------

    @property
    def _steady(self) -> bool:
        """Whether a link that is PAIRED stays so, whatever clicks and is credited."""
        first, second = self._ends
        return self.state is LinkState.PAIRED and not first.full and not second.full

    def _judge(self) -> tuple[LinkState, str]:
        """Return the state that follows from what is known, with a reason where it is CLOSED."""
        if self._health.reason:
            return LinkState.CLOSED, self._health.reason
        opened, granted = self._clicks.command is not None, self._granted
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
            stands = standing(self._clicks.command, self._clicks.purpose, first)
            if not stands:
                actions.append(self._open_analyser(want, now))
            self._clicks.credited(now)
            if stands and former is state:
                return actions  # as both ends were told
        else:
            self._clicks.void_pending()
            opened, analyser = self._clicks.command, self._parameters.analyser
            if opened is not None:
                abort = Abort(analyser, self._commands.next(), opened)
                actions.append(Device(analyser, abort))
                self._clicks.command = None
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
        stands = standing(self._clicks.command, self._clicks.purpose, self._ends[0])
        another = self._gate.look(self._clock, now, stands)
        if self._gate.stale:
            self._stop_clock()
        elif another:
            for end in self._ends:
                end.tell_window()

    def _open_analyser(self, want: Wanted, now: Instant) -> Device:
        self._clicks.void_pending()
        setting = self._settings[want[2]]
        asked = [end.arm.first_cycle for end in self._ends if end.arm is not None]
        here = self._clock.reached(now)
        # An end may ask for a little later, not for next year.
        wished = max(here, min(max(asked), here + self._clock.margin_cycles))
        command = self._commands.next()
        self._clicks.opened(command, want, setting)
        self._first_cycle, cycles = self._gate.span(wished, STANDING_CYCLES)
        where = (command, self._first_cycle, cycles)
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
        self._clicks.void_pending()
        self._clock.stop()
        self._gate.forget()
        for end in self._ends:
            # All of the former count that is no success is void by the next one.
            end.voids.clear()
            end.reply_due = end.arm is not None

    # --- what leaves at DRAINED -----------------------------------------------------------

    def _beacon(self, node: NodeName, now: Instant) -> list[Any]:
        beacon = self._clock.beacon(self._parameters.name, self._clicks.sequence, now)
        return [] if beacon is None else [Send(node, beacon)]

    def _flush(self, now: Instant) -> list[Any]:
        self._dirty = False
        first, second = self._ends
        actions: list[Any] = []
        word = None
        for end, other in ((first, second), (second, first)):
            if end.herald_due or end.voids:
                if end.reachable:
                    word = word or self._word(now)
                    actions += [Send(end.node, herald) for herald in end.heralds(word)]
                end.voids.clear()
            if end.reply_due and end.reachable and not self._too_early(end):
                word = word or self._word(now)
                actions.append(Send(end.node, end.reply(other, word)))
        return actions

    def _too_early(self, end: StationEnd) -> bool:
        """Whether an end must not be told yet: what the former clock did may still come."""
        refused = end.said is None or end.said[0] is Verdict.REFUSED
        return not refused and self._clock.uncertainty_ns is None

    def _word(self, now: Instant) -> Word:
        """Return what all messages of this instant have in common."""
        clock, gate = self._clock, self._gate
        return Word(
            self._parameters.name,
            clock.cycle(now),
            self._clicks.sequence,
            clock.announce(now, self._clicks.oldest()),
            self._first_cycle,
            gate.until_ns(now) or self._deferred_ns,
            clock.epoch,
            gate.cycles,
            gate.phase_ns(now),
        )

"""The software station: coincidence logic that makes a whole analyser of a bare detector.

:class:`SoftwareStation` is a device machine around another one, a time tagger. It keeps the
link's clock, opens the tagger while its own opening stands, and sorts the tags into attempts:

    the window of (cycle c, mode m) is [c * cycle + offset + m * mode, ... + window)

in picoseconds since the beginning of cycle 0. What clicked inside one window becomes one
StationClicks, whose mask has a bit per detector. An attempt is reported when its window is
over and `latency_ns` more have passed, by which time the tagger has reported all of it. A tag
that comes when its attempt, or a later one, was reported already is counted in `late_tags` and
lost: attempts are reported in their order and never twice.

It sees light only: it does not know which ends fired, so its datasheet has no trigger lines,
and where failures are asked for it reports every attempt of the opening.
"""

from __future__ import annotations

from typing import Any

import attrs

from qstack.errors import ConfigError
from qstack.hal.commands import CommandIds
from qstack.hal.plugins import Plugin
from qstack.hal.station import StationSheet
from qstack.machine import TICK, Machine, Tick, Up, record
from qstack.messages.devices import (
    Abort,
    Aborted,
    Calibration,
    Completed,
    DetectorOpen,
    DeviceState,
    DeviceStatus,
    Exhausted,
    Faulted,
    Rejected,
    StationClicks,
    StationClock,
    StationOpen,
    Tags,
)
from qstack.units import Duration, Instant, LinkName, Picoseconds, earliest

WORKING = (DeviceStatus.READY, DeviceStatus.DEGRADED)


@record
class Sorting:
    """How tags become attempts.

    `offset_ps`: from the beginning of a cycle to the window of its mode 0, the light's way
    included. `mode_ps`: from one mode to the next; 0 where there is one mode. `latency_ns`: how
    long after a click its tag may come. `bits`: (channel, bit of the click mask) pairs; without
    any, channel i is bit i.
    """

    offset_ps: Picoseconds = 0
    mode_ps: Picoseconds = 0
    latency_ns: Duration = 2_000_000
    bits: tuple[tuple[int, int], ...] = ()


@record
class SoftwareStationParameters:
    """A station made of a detector of its node; the rest as in StationSheet and Sorting.

    `detector` is that device's local name. It must be a pure machine of this process.
    """

    measurement: str
    detector: str
    patterns: tuple[tuple[int, int], ...] = ()
    visibility: float = 1.0
    offset_ps: Picoseconds = 0
    mode_ps: Picoseconds = 0
    latency_ns: Duration = 2_000_000
    bits: tuple[tuple[int, int], ...] = ()


def sheet(parameters: SoftwareStationParameters) -> StationSheet:
    """Return the datasheet; ConfigError for what cannot be."""
    p = parameters
    problems = []
    if min(p.offset_ps, p.mode_ps, p.latency_ns) < 0:
        problems.append("software station: offset_ps, mode_ps, latency_ns: none may be negative")
    if not 0.0 <= p.visibility <= 1.0:
        problems.append(f"software station: visibility = {p.visibility} is not in [0, 1]")
    if any(not 0 <= bit < 32 for _, bit in p.bits):
        problems.append("software station: bits: a bit of a click mask is 0 to 31")
    if problems:
        raise ConfigError(problems)
    return StationSheet(p.measurement, p.visibility, False, p.patterns, 0)


def build(
    name: str, parameters: SoftwareStationParameters, detector: str, tagger: Machine
) -> SoftwareStation:
    """Build the station around a detector: its network-wide name, and its machine."""
    p = parameters
    sorting = Sorting(p.offset_ps, p.mode_ps, p.latency_ns, p.bits)
    return SoftwareStation(name, detector, tagger, sorting)


@attrs.define
class _Clock:
    """The clock of a link: when cycle 0 began, by this process's lab time."""

    began: Instant
    cycle_ns: Duration


@attrs.define
class _Opening:
    """What is open: its command, its cycles, and the attempts that wait for their report.

    `waiting`: (cycle, mode) to the first click's time since the window's beginning, per bit.
    `done`: the attempt before which all were reported.
    """

    command: StationOpen
    clock: _Clock
    first: int
    stop: int
    done: tuple[int, int]
    waiting: dict[tuple[int, int], dict[int, Picoseconds]] = attrs.field(factory=dict)


class SoftwareStation:
    """See the module. `detector` is the inner device's name, `tagger` the machine itself."""

    def __init__(self, name: str, detector: str, tagger: Machine, sorting: Sorting) -> None:
        self.name = name
        self.late_tags = 0
        self._detector, self._tagger = detector, tagger
        self._sorting = sorting
        self._bits = dict(sorting.bits)
        self._commands = CommandIds()
        self._clocks: dict[LinkName, _Clock] = {}
        self._open: _Opening | None = None
        self._tagging: int | None = None
        self._since: Instant = 0
        self._status = DeviceStatus.READY

    @property
    def deadline(self) -> Instant | None:
        """The tagger's, or when the next attempt can be reported, or the opening ends."""
        return earliest(self._tagger.deadline, self._next_report())

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take StationClock, StationOpen, Abort or TICK; anything else is Rejected."""
        out: list[Any] = []
        deadline = self._tagger.deadline
        if deadline is not None and deadline <= now:
            out += self._from_tagger(self._tagger.handle(TICK, now), now)
        out += self._report(now)
        match event:
            case Tick():
                pass
            case Abort():
                out += self._abort(event, now)
            case StationClock() | StationOpen() if self._status not in WORKING:
                out.append(self._rejected(event, f"its detector is {self._status.name.lower()}"))
            case StationClock():
                out += self._start_clock(event, now)
            case StationOpen():
                out += self._start(event, now)
            case _:
                reason = f"a station does not know {type(event).__name__}"
                out.append(self._rejected(event, reason))
        return out

    # --- commands -------------------------------------------------------------------------

    def _rejected(self, command: Any, reason: str) -> Rejected:
        return Rejected(self.name, command.command, False, reason)

    def _start_clock(self, command: StationClock, now: Instant) -> list[Any]:
        if command.cycle_ns < 1:
            return [self._rejected(command, f"cycle_ns = {command.cycle_ns} is not positive")]
        out: list[Any] = []
        if self._open is not None and self._open.command.link == command.link:
            out = self._end(Aborted(self.name, self._open.command.command, "clock restarted"), now)
        self._clocks[command.link] = _Clock(now, command.cycle_ns)
        return [*out, Completed(self.name, command.command)]

    def _start(self, command: StationOpen, now: Instant) -> list[Any]:
        reason = self._unfit(command)
        if reason:
            return [self._rejected(command, reason)]
        out: list[Any] = []
        if self._open is not None:
            former = Aborted(self.name, self._open.command.command, "replaced")
            out, self._open = [former], None
        clock = self._clocks[command.link]
        # A window that has begun is not looked at by halves.
        here = (now - clock.began) * 1_000 - self._sorting.offset_ps
        first = max(command.first_cycle, here // (clock.cycle_ns * 1_000) + 1, 0)
        self._open = _Opening(command, clock, first, first + command.cycles, (first, 0))
        if self._tagging is None:
            self._tagging, self._since = self._commands.next(), now
            wanted = DetectorOpen(self._detector, self._tagging, 0)
            out += self._from_tagger(self._tagger.handle(wanted, now), now)
        return out

    def _unfit(self, command: StationOpen) -> str:
        clock = self._clocks.get(command.link)
        if clock is None:
            return f"the clock of {command.link} was not started"
        if self._open is not None and self._open.command.link != command.link:
            return f"it is open for {self._open.command.link}"
        if min(command.cycles, command.modes, command.window_ps) < 1:
            return "cycles, modes or window_ps is not positive"
        mode_ps = self._sorting.mode_ps
        if command.modes > 1 and mode_ps < command.window_ps:
            return f"a window of {command.window_ps} ps, but a mode every {mode_ps} ps"
        if (command.modes - 1) * mode_ps + command.window_ps > clock.cycle_ns * 1_000:
            return f"{command.modes} modes do not fit into a cycle of {clock.cycle_ns} ns"
        return ""

    def _abort(self, command: Abort, now: Instant) -> list[Any]:
        out: list[Any] = []
        if self._open is not None and self._open.command.command == command.target:
            out = self._end(Aborted(self.name, command.target, "aborted"), now)
        return [*out, Completed(self.name, command.command)]

    def _end(self, terminal: Any, now: Instant) -> list[Any]:
        """End the opening, and the tagger's with it."""
        self._open = None
        tagging, self._tagging = self._tagging, None
        out = [terminal]
        if tagging is not None:
            abort = Abort(self._detector, self._commands.next(), tagging)
            out += self._from_tagger(self._tagger.handle(abort, now), now)
        return out

    # --- what the tagger reports ----------------------------------------------------------

    def _from_tagger(self, answers: list[Any], now: Instant) -> list[Any]:
        out: list[Any] = []
        for answer in answers:
            event = answer.event if type(answer) is Up else answer
            match event:
                case DeviceState():
                    self._status = event.status
                    out.append(_renamed(event, self.name))
                case Calibration():
                    out.append(_renamed(event, self.name))
                case Tags() if event.command == self._tagging:
                    self._sort(event)
                case Tags():
                    pass
                case _ if event.command == self._tagging:
                    self._tagging = None
                    out += self._tagger_ended(event, now)
                case _:
                    pass
        return out

    def _tagger_ended(self, event: Any, now: Instant) -> list[Any]:
        if self._open is None:
            return []
        out = self._report(now)
        opened, self._open = self._open, None
        if opened is not None:
            # Whatever will be heard of these has been heard.
            out += [self._clicks(opened, attempt, now) for attempt in sorted(opened.waiting)]
            said = getattr(event, "reason", "")
            why = f"the detector ended in {type(event).__name__}" + (f": {said}" if said else "")
            out.append(Faulted(self.name, opened.command.command, why))
        return out

    def _sort(self, tags: Tags) -> None:
        opened = self._open
        if opened is None:
            return
        command, sorting = opened.command, self._sorting
        cycle_ps = opened.clock.cycle_ns * 1_000
        shift = (self._since - opened.clock.began) * 1_000 - sorting.offset_ps
        for channel, time in tags.tags:
            bit = self._bits.get(channel, -1) if self._bits else channel
            cycle, rest = divmod(time + shift, cycle_ps)
            mode, inside = divmod(rest, sorting.mode_ps or cycle_ps)
            known = bit >= 0 and opened.first <= cycle < opened.stop
            if not known or mode >= command.modes or inside >= command.window_ps:
                continue
            if (cycle, mode) < opened.done:
                self.late_tags += 1
                continue
            clicks = opened.waiting.setdefault((cycle, mode), {})
            clicks[bit] = min(inside, clicks.get(bit, inside))

    # --- what is reported -----------------------------------------------------------------

    def _window_at(self, opened: _Opening, attempt: tuple[int, int]) -> Picoseconds:
        """When the window of an attempt begins, in picoseconds of lab time."""
        cycle, mode = attempt
        began = (opened.clock.began + cycle * opened.clock.cycle_ns) * 1_000
        return began + self._sorting.offset_ps + mode * self._sorting.mode_ps

    def _report_at(self, opened: _Opening, attempt: tuple[int, int]) -> Instant:
        """When all that will be heard of an attempt has been heard."""
        end_ps = self._window_at(opened, attempt) + opened.command.window_ps
        return -(-end_ps // 1_000) + self._sorting.latency_ns

    def _last(self, opened: _Opening) -> tuple[int, int]:
        return opened.stop - 1, opened.command.modes - 1

    def _next_report(self) -> Instant | None:
        opened = self._open
        if opened is None:
            return None
        if opened.command.report_failures:
            return self._report_at(opened, opened.done)
        attempt = min(opened.waiting) if opened.waiting else self._last(opened)
        return self._report_at(opened, attempt)

    def _report(self, now: Instant) -> list[Any]:
        """Report every attempt that is decided by now, and the end of the opening."""
        out: list[Any] = []
        opened = self._open
        if opened is None:
            return out
        for attempt in self._decided(opened, now):
            out.append(self._clicks(opened, attempt, now))
            opened.waiting.pop(attempt, None)
            opened.done = self._after(opened, attempt)
        last = self._last(opened)
        if self._report_at(opened, last) <= now:
            attempts = (opened.stop - opened.first) * opened.command.modes
            out += self._end(Exhausted(self.name, opened.command.command, attempts), now)
        return out

    def _clicks(self, opened: _Opening, attempt: tuple[int, int], now: Instant) -> StationClicks:
        clicks = opened.waiting.get(attempt, {})
        mask = sum(1 << bit for bit in clicks)
        tags = tuple(clicks[bit] for bit in sorted(clicks))
        age = now - (self._window_at(opened, attempt) + min(tags, default=0)) // 1_000
        link, number = opened.command.link, opened.command.command
        return StationClicks(self.name, number, link, *attempt, mask, tags, age)

    def _decided(self, opened: _Opening, now: Instant) -> list[tuple[int, int]]:
        if not opened.command.report_failures:
            ready = (a for a in opened.waiting if self._report_at(opened, a) <= now)
            return sorted(ready)
        found, attempt = [], opened.done
        while attempt <= self._last(opened) and self._report_at(opened, attempt) <= now:
            found.append(attempt)
            attempt = self._after(opened, attempt)
        return found

    def _after(self, opened: _Opening, attempt: tuple[int, int]) -> tuple[int, int]:
        cycle, mode = attempt
        return (cycle, mode + 1) if mode + 1 < opened.command.modes else (cycle + 1, 0)


def _renamed(event: Any, name: str) -> Any:
    """The event, as the station's own."""
    return attrs.evolve(event, device=name)


SOFTWARE = Plugin(
    "software.station",
    SoftwareStationParameters,
    sheet,
    build,
    inner=("detector", "qstack.detectors"),
)

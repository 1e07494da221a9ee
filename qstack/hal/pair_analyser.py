"""A source in the middle whose ends detect with real or recorded taggers: tags to outcomes.

Two taggers, one at each end, feed one piece of software logic, which the stack sees as three
devices: a :class:`~qstack.hal.receivers.Receiver` at each end and the :class:`PairAnalyser` of
the station. Nobody configures the delay between the ends: the analyser learns it from the tags
themselves (:class:`qstack.hal.coincidence.Correlator`), and until then says that it is DEGRADED.
What belongs together is one attempt, by the time of the first end since cycle 0:

    cycle = time // cycle,    mode = (time % cycle) // (cycle / modes)

It becomes an EmitterOutcome at each end and StationClicks at the station, if both ends measure
in that cycle and the analyser is open for it.

Taggers are opened with the first opening of the analyser and stay open, so that the delay holds.
What waited for the delay to be known is reported `pace_ns` apart, with its age. The light does not
wait for commands, so a command to measure begins with the first cycle of which nothing was reported
yet, and between two commands coincidences wait, the first of them for at most `hold_ns`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from qstack.hal.coincidence import Correlator, Match, Scan
from qstack.hal.commands import CommandIds
from qstack.hal.receivers import Channel, Cycles, Receiver
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

BOTH = 0b11
"""The click mask of a coincidence: one bit for each receiver."""

WORKING = (DeviceStatus.READY, DeviceStatus.DEGRADED)


@record
class Correlation:
    """How the analyser finds what belongs together.

    `learn`: tags of each end that the first scan for the delay takes. `lean_ps`: from the delay
    that a scan finds, which is where the peak is highest, to the middle of the window, whose
    width the opening says. `pace_ns`: between reports of what had to wait. `hold_ns`: how long
    a coincidence waits for both ends to measure, while the analyser is open for it.
    """

    learn: int = 1_000
    lean_ps: Picoseconds = 0
    scan: Scan = Scan()
    pace_ns: Duration = 200_000
    hold_ns: Duration = 20_000_000


class PairAnalyser:
    """The station's device: both taggers' tags in, coincidences out; see the module.

    `ends` are (receiver's name, its channels), `taggers` (inner name, machine), in the same
    order; `receivers` are the two devices that this makes. `crowded` counts coincidences in an
    attempt that had one already, `unwanted` those outside of what was open and measured.
    """

    def __init__(
        self,
        name: str,
        ends: tuple[tuple[str, tuple[Channel, ...]], tuple[str, tuple[Channel, ...]]],
        taggers: tuple[tuple[str, Machine], tuple[str, Machine]],
        correlation: Correlation = Correlation(),  # noqa: B008  a record
    ) -> None:
        self.name = name
        self.crowded = self.unwanted = 0
        self.correlator: Correlator | None = None
        self._clocks: dict[LinkName, Cycles] = {}
        one, other = (
            Receiver(each, channels, self._clocks, self._undecided) for each, channels in ends
        )
        self.receivers = (one, other)
        self._taggers = taggers
        self._correlation = correlation
        self._commands = CommandIds()
        self._tagging: list[int | None] = [None, None]
        self._since: Instant = 0
        self._labels: tuple[deque[tuple[int, int]], ...] = (deque(), deque())
        self._newest: list[Picoseconds] = [-(1 << 63), -(1 << 63)]
        self._status = DeviceStatus.READY
        self._open: tuple[StationOpen, int, int] | None = None
        self._waiting: deque[tuple[Match, int, int]] = deque()
        self._report_at: Instant = 0
        self._held_since: Instant | None = None
        self._decided: dict[LinkName, int] = {}
        self._last: tuple[LinkName, int, int] = ("", -1, 0)

    @property
    def deadline(self) -> Instant | None:
        """The taggers', when the next coincidence is to be reported, or the opening's end."""
        report = self._report_at if self._waiting else None
        if report is not None and self._held_since is not None and not self._measured():
            report = max(report, self._held_since + self._correlation.hold_ns)
        stop = None
        if self._open is not None and not self._waiting:
            # What still waits to be reported comes before the end.
            command, _, last = self._open
            clock = self._clocks[command.link]
            stop = clock.began + last * clock.cycle_ns
        return earliest(*(tagger.deadline for _, tagger in self._taggers), report, stop)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take StationClock, StationOpen, Abort or TICK; anything else is Rejected."""
        out = self._advance(now)
        match event:
            case Tick():
                pass
            case Abort():
                if self._open is not None and self._open[0].command == event.target:
                    out.append(self._close(Aborted(self.name, event.target, "aborted")))
                out.append(Completed(self.name, event.command))
            case StationClock():
                out += self._start_clock(event, now)
            case StationOpen():
                out += self._start(event, now)
            case _:
                reason = f"an analyser does not know {type(event).__name__}"
                out.append(Rejected(self.name, event.command, False, reason))
        return out

    # --- commands -------------------------------------------------------------------------

    def _start_clock(self, command: StationClock, now: Instant) -> list[Any]:
        if command.cycle_ns < 1:
            return [Rejected(self.name, command.command, False, "no cycle")]
        out: list[Any] = []
        if self._open is not None and self._open[0].link == command.link:
            out.append(self._close(Aborted(self.name, self._open[0].command, "clock restarted")))
        for receiver in self.receivers:
            receiver.clock_ended(command.link, now)
        self._clocks[command.link] = Cycles(now, command.cycle_ns)
        self._decided.pop(command.link, None)
        return [*out, Completed(self.name, command.command)]

    def _start(self, command: StationOpen, now: Instant) -> list[Any]:
        clock = self._clocks.get(command.link)
        reason = ""
        if self._status not in WORKING:
            reason = f"it is {self._status.name.lower()}"
        elif clock is None:
            reason = f"the clock of {command.link} was not started"
        elif min(command.cycles, command.modes, command.window_ps) < 1:
            reason = "cycles, modes or window_ps is not positive"
        elif self._open is not None and self._open[0].link != command.link:
            reason = f"it is open for {self._open[0].link}"
        if reason or clock is None:
            return [Rejected(self.name, command.command, False, reason)]
        out: list[Any] = []
        if self._open is not None:
            out.append(self._close(Aborted(self.name, self._open[0].command, "replaced")))
        first = max(command.first_cycle, (now - clock.began) // clock.cycle_ns + 1)
        self._open = (command, first, first + command.cycles)
        lean, half = self._correlation.lean_ps, command.window_ps // 2
        edges = (lean - half, lean - half + command.window_ps)
        if self.correlator is None:
            out += self._open_taggers(edges, now)
        elif self.correlator.coincidences is not None and self.correlator.delay is not None:
            low, high = (self.correlator.delay.delay_ps + edge for edge in edges)
            matcher = self.correlator.coincidences
            matcher.low_ps, matcher.high_ps = low, high
        return out

    def _open_taggers(self, edges: tuple[int, int], now: Instant) -> list[Any]:
        self.correlator = Correlator(self._correlation.learn, edges, self._correlation.scan)
        self._since = now
        out = self._become(DeviceStatus.DEGRADED, "it is learning the delay between the ends")
        for side, (inner, tagger) in enumerate(self._taggers):
            number = self._tagging[side] = self._commands.next()
            out += self._reported(side, tagger.handle(DetectorOpen(inner, number, 0), now), now)
        return out

    def _close(self, terminal: Any) -> Any:
        self._open = None
        return terminal

    def _become(self, status: DeviceStatus, reason: str) -> list[Any]:
        self._status = status
        trouble = "" if status in WORKING else reason
        for receiver in self.receivers:
            receiver.trouble = trouble
        return [DeviceState(self.name, status, reason, 0, 0)]

    # --- what the taggers report ----------------------------------------------------------

    def _advance(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        for side, (_, tagger) in enumerate(self._taggers):
            deadline = tagger.deadline
            if deadline is not None and deadline <= now:
                out += self._reported(side, tagger.handle(TICK, now), now)
        while self._waiting and self._report_at <= now and not self._holds(now):
            self._report_at = now + self._correlation.pace_ns
            self._held_since = None
            out += self._decide(*self._waiting.popleft(), now)
        if self._open is not None:
            command, first, last = self._open
            clock = self._clocks[command.link]
            if clock.began + last * clock.cycle_ns <= now and not self._waiting:
                attempts = (last - first) * command.modes
                out.append(self._close(Exhausted(self.name, command.command, attempts)))
        return out

    def _reported(self, side: int, answers: Iterable[Any], now: Instant) -> list[Any]:
        out: list[Any] = []
        for answer in answers:
            event = answer.event if type(answer) is Up else answer
            if isinstance(event, DeviceState | Calibration):
                continue  # of a part; what it means for the whole shows in how it ends
            if event.command != self._tagging[side]:
                continue
            if type(event) is Tags:
                out += self._tags(side, event, now)
            else:
                self._tagging[side] = None
                if type(event) is Completed and self._tagging != [None, None]:
                    # What the other end is about to report may still belong to what is here.
                    out += self._become(DeviceStatus.DEGRADED, "the tags of one end are over")
                    continue
                out += self._ended(type(event).__name__, getattr(event, "reason", ""), now)
        return out

    def _tags(self, side: int, tags: Tags, now: Instant) -> list[Any]:
        correlator = self.correlator
        if correlator is None:
            return []
        labels = self._labels[side]
        for channel, time in tags.tags:
            # The others are out of order, and the correlator drops them too.
            if time >= self._newest[side]:
                self._newest[side] = time
                labels.append((time, channel))
        known = correlator.delay is not None
        for match in correlator.take(side, tags):
            a, b = (self._label(*each) for each in enumerate((match.a_ps, match.b_ps)))
            self._waiting.append((match, a, b))
        matcher = correlator.coincidences
        if matcher is not None:
            for kept, waiting in zip(self._labels, matcher.waiting, strict=True):
                while len(kept) > waiting:
                    kept.popleft()
        if correlator.failed:
            return self._ended("no delay", "the two ends have nothing in common", now)
        return [] if known or correlator.delay is None else self._learned(correlator)

    def _label(self, side: int, time: Picoseconds) -> int:
        """The channel of an event that was matched; what is earlier never will be."""
        labels = self._labels[side]
        while labels[0][0] < time:
            labels.popleft()
        return labels.popleft()[1]

    def _learned(self, correlator: Correlator) -> list[Any]:
        found = correlator.delay
        if found is None:
            return []
        values = (("delay_ps", float(found.delay_ps), float(found.bin_ps)),)
        said = Calibration(self.name, "delay", 0, 0, values)
        return [said, *self._become(DeviceStatus.READY, "the delay between the ends is known")]

    def _ended(self, how: str, why: str, now: Instant) -> list[Any]:
        """A tagger will say no more, or nothing that is said means anything."""
        if self._status not in WORKING:
            return []
        out: list[Any] = []
        while self._waiting:
            out += self._decide(*self._waiting.popleft(), now)
        reason = f"{how}: {why}" if why else f"a tagger ended in {how}"
        if self._open is not None:
            out.append(self._close(Faulted(self.name, self._open[0].command, reason)))
        matcher = None if self.correlator is None else self.correlator.coincidences
        if matcher is not None:
            count, chance = float(matcher.matched), matcher.expected_accidentals
            values = (("coincidences", count, count**0.5), ("accidentals", chance, chance**0.5))
            out.append(Calibration(self.name, "coincidences", 0, 0, values))
        return out + self._become(DeviceStatus.OFFLINE, reason)

    # --- what is reported -----------------------------------------------------------------

    def _place(self, match: Match, link: LinkName) -> tuple[int, Picoseconds]:
        """The cycle of a coincidence, and its time in there."""
        clock = self._clocks[link]
        shift = (self._since - clock.began) * 1_000
        return divmod(match.a_ps + shift, clock.cycle_ns * 1_000)

    def _undecided(self, link: LinkName) -> int:
        """The first cycle of which not everything was reported."""
        if self._open is None or self._open[0].link != link:
            return 0
        return max(self._open[1], self._decided.get(link, 0))

    def _measured(self) -> bool:
        """Whether the oldest coincidence that waits is measured at both ends."""
        match, channel_a, channel_b = self._waiting[0]
        if self._open is None:
            return False
        link = self._open[0].link
        cycle = self._place(match, link)[0]
        one, other = self.receivers
        return one.measures(link, cycle, channel_a) and other.measures(link, cycle, channel_b)

    def _holds(self, now: Instant) -> bool:
        """Whether the oldest coincidence shall wait for its ends, and note since when it does."""
        if self._open is None or self._measured():
            return False
        command, first, last = self._open
        if not first <= self._place(self._waiting[0][0], command.link)[0] < last:
            return False
        if self._held_since is None:
            self._held_since = now
        return now < self._held_since + self._correlation.hold_ns

    def _decide(self, match: Match, channel_a: int, channel_b: int, now: Instant) -> list[Any]:
        if self._open is None:
            self.unwanted += 1
            return []
        command, first, last = self._open
        link, cycle_ps = command.link, self._clocks[command.link].cycle_ns * 1_000
        cycle, inside = self._place(match, link)
        self._decided[link] = cycle
        mode = inside * command.modes // cycle_ps
        one, other = self.receivers
        wanted = one.measures(link, cycle, channel_a) and other.measures(link, cycle, channel_b)
        if not wanted or not first <= cycle < last:
            self.unwanted += 1
            return []
        if self._last == (link, cycle, mode):
            self.crowded += 1
            return []
        self._last = (link, cycle, mode)
        at_a, at_b = (self._since + ps // 1_000 for ps in (match.a_ps, match.b_ps))
        one.clicked(link, (cycle, mode), channel_a, at_a, now)
        other.clicked(link, (cycle, mode), channel_b, at_b, now)
        tags = (inside, inside + match.b_ps - match.a_ps)
        number = command.command
        return [StationClicks(self.name, number, link, cycle, mode, BOTH, tags, now - at_a)]

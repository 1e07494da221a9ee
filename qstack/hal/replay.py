"""``replay.detector``: a detector that plays recorded time tags, and knows no simulator.

Two forms of records are read. "npz": an archive of numpy, of which `array` names one array of
float seconds, or of integer picoseconds. "s15": S-Fifteen timestamp format 7, 64-bit
little-endian words, bits 10 to 63 the time in units of 1/256 ns, bits 0 to 3 the detectors that
clicked, bit 4 set in a dummy that only marks time; `swapped` where the two 32-bit halves of
each word changed places. (Format: s-fifteen-instruments/fpfind, checked against its test data.)

The file is read when the device is built, which a driver does at its start; the machine itself,
:class:`ReplayDetector`, touches nothing outside and can be stepped, copied and replayed. This
is the one room of the hardware contracts that opens a file and knows numpy.
"""

from __future__ import annotations

import struct
import zipfile
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from qstack.errors import ConfigError
from qstack.hal.detector import DetectorSheet
from qstack.hal.plugins import Plugin
from qstack.machine import Tick, record
from qstack.messages.devices import (
    Abort,
    Aborted,
    Completed,
    DetectorOpen,
    Rejected,
    Tags,
)
from qstack.units import Duration, Instant, Picoseconds

FORMATS = ("npz", "s15")
DUMMY = 1 << 4
TIME_BITS = 54
MAX_TAGS = 1_024
"""How many tags one message carries at most."""


@record
class ReplayParameters:
    """What is played, and how.

    `record`: path of the file, relative to where the process runs. `format`: "npz" or "s15".
    `array`: which array of an archive. `channel`: the channel of an archive's clicks.
    `channels`: for "s15", (detector bit, channel) pairs; bits that are not named are left out,
    and without any bit i is channel i. `origin_ps`: the time in the record that plays at the
    opening; what is earlier is left out. `stop_ps`: the time in the record at which it ends; 0
    for all of it. `rate`: recorded seconds per second of lab time. `batch_ns`: how long clicks
    are collected before they are reported. `swapped`: see the module. Every opening plays the
    record from its origin.
    """

    record: str
    format: str = "npz"
    array: str = ""
    channel: int = 0
    channels: tuple[tuple[int, int], ...] = ()
    origin_ps: Picoseconds = 0
    stop_ps: Picoseconds = 0
    rate: float = 1.0
    batch_ns: Duration = 1_000_000
    swapped: bool = False
    jitter_ps: Picoseconds = 0


Clicks = tuple[tuple[int, Picoseconds], ...]


def sheet(parameters: ReplayParameters) -> DetectorSheet:
    """Return the datasheet: every click of a record is real. ConfigError for what cannot be."""
    p = parameters
    problems = []
    if p.format not in FORMATS:
        problems.append(f"replay: format {p.format!r} is none of {', '.join(FORMATS)}")
    if p.format == "npz" and not p.array:
        problems.append("replay: array is missing: an archive holds several")
    if not 1e-6 <= p.rate <= 1e6:
        problems.append(f"replay: rate = {p.rate} is not within 1e-6 and 1e6")
    if p.batch_ns < 1:
        problems.append(f"replay: batch_ns = {p.batch_ns} is not positive")
    if p.stop_ps and p.stop_ps <= p.origin_ps:
        problems.append(f"replay: stop_ps = {p.stop_ps} is not after {p.origin_ps}")
    if any(not 0 <= bit < 4 for bit, _ in p.channels):
        problems.append("replay: channels: a detector bit is 0 to 3")
    if problems:
        raise ConfigError(problems)
    return DetectorSheet(1.0, 0.0, p.jitter_ps, 0, 0.0, False)


def build(name: str, parameters: ReplayParameters) -> ReplayDetector:
    """Read the record and return the device. ConfigError where it cannot be read."""
    sheet(parameters)
    clicks = read_s15(parameters) if parameters.format == "s15" else read_npz(parameters)
    return ReplayDetector(name, played(clicks, parameters), parameters.batch_ns)


def read_npz(parameters: ReplayParameters) -> Clicks:
    """Read one array of an archive of numpy: float seconds or integer picoseconds."""
    path = Path(parameters.record)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if parameters.array not in archive:
                known = ", ".join(archive)
                raise ConfigError([f"{path}: no array {parameters.array!r}: there are {known}"])
            times = archive[parameters.array]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError([f"{path}: {error}"]) from error
    if times.ndim != 1 or times.dtype.kind not in "fiu":
        raise ConfigError([f"{path}: {parameters.array} is no list of times"])
    if times.dtype.kind == "f":
        if not np.isfinite(times).all():
            raise ConfigError([f"{path}: {parameters.array} holds what is no time"])
        times = np.rint(times * 1e12)
    return tuple((parameters.channel, time) for time in sorted(int(t) for t in times))


def read_s15(parameters: ReplayParameters) -> Clicks:
    """Read a binary record of S-Fifteen format 7; clicks at one time are one per detector.

    A clock that wrapped is unwrapped; smaller steps back, which such records have, are sorted.
    """
    path = Path(parameters.record)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    if len(data) % 8:
        raise ConfigError([f"{path}: {len(data)} bytes are no whole number of 8-byte words"])
    channels = dict(parameters.channels or tuple((bit, bit) for bit in range(4)))
    clicks: list[tuple[Picoseconds, int]] = []
    turns = last = 0
    for (word,) in struct.iter_unpack("<Q", data):
        value = (word >> 32) | (word & 0xFFFF_FFFF) << 32 if parameters.swapped else word
        time = value >> 10
        if last - time > 1 << (TIME_BITS - 1):
            turns += 1
        last = time
        if value & DUMMY:
            continue
        # 1/256 ns is 1000/256 ps = 125/32 ps, rounded to the nearest whole one.
        picoseconds = ((time + (turns << TIME_BITS)) * 125 + 16) // 32
        for bit, channel in channels.items():
            if value >> bit & 1:
                clicks.append((picoseconds, channel))
    clicks.sort()
    return tuple((channel, time) for time, channel in clicks)


def played(clicks: Sequence[tuple[int, Picoseconds]], parameters: ReplayParameters) -> Clicks:
    """Return the clicks between origin and stop, by lab time since the opening."""
    rate = Fraction(parameters.rate).limit_denominator(1_000_000)
    origin, stop = parameters.origin_ps, parameters.stop_ps
    return tuple(
        (channel, (time - origin) * rate.denominator // rate.numerator)
        for channel, time in clicks
        if time >= origin and (stop == 0 or time < stop)
    )


class ReplayDetector:
    """Plays clicks, (channel, ps since the opening) in order of time, whenever it is opened.

    Clicks are reported in batches of `batch_ns`, each at its end; a batch without any is not
    reported. The command ends in Completed with the record, or after its own duration.
    """

    def __init__(self, name: str, clicks: Clicks, batch_ns: Duration) -> None:
        self.name = name
        self._clicks = clicks
        self._times = tuple(time for _, time in clicks)
        self._batch_ns = batch_ns
        self._open: DetectorOpen | None = None
        self._since: Instant = 0
        self._next = 0

    @property
    def deadline(self) -> Instant | None:
        """The end of the next batch with clicks, or of the opening."""
        if self._open is None:
            return None
        limit = self._open.duration_ns
        if self._next == len(self._clicks):
            return self._since + (self._batch_end(self._next - 1) if self._next else 0)
        batch_end = self._batch_end(self._next)
        return self._since + (min(batch_end, limit) if limit else batch_end)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take DetectorOpen, Abort or TICK; anything else is Rejected."""
        match event:
            case Tick():
                return self._report(now)
            case DetectorOpen():
                if self._open is not None:
                    return [Rejected(self.name, event.command, False, "it is open already")]
                if event.duration_ns < 0:
                    reason = f"duration_ns = {event.duration_ns} is negative"
                    return [Rejected(self.name, event.command, False, reason)]
                self._open, self._since, self._next = event, now, 0
                return []
            case Abort():
                out: list[Any] = [Completed(self.name, event.command)]
                if self._open is not None and self._open.command == event.target:
                    out = [*self._report(now), *out]
                    # The report may have been the last, and then it ended the command.
                    if self._open is not None:
                        out.insert(-1, Aborted(self.name, event.target, "aborted"))
                        self._open = None
                return out
            case _:
                reason = f"a detector does not know {type(event).__name__}"
                return [Rejected(self.name, event.command, False, reason)]

    def _batch_end(self, place: int) -> Duration:
        """When the batch of this click ends, since the opening."""
        return (self._times[place] // (self._batch_ns * 1_000) + 1) * self._batch_ns

    def _report(self, now: Instant) -> list[Any]:
        opened = self._open
        if opened is None:
            return []
        elapsed = now - self._since
        limit = opened.duration_ns
        over = bool(limit) and elapsed >= limit
        # What happened until now in the batch under way is reported at its end.
        until_ns = limit if over else elapsed // self._batch_ns * self._batch_ns
        end = bisect_left(self._times, until_ns * 1_000, self._next)
        out: list[Any] = [
            Tags(self.name, opened.command, self._clicks[start : min(start + MAX_TAGS, end)])
            for start in range(self._next, end, MAX_TAGS)
        ]
        self._next = end
        deadline = self.deadline
        if over or (end == len(self._clicks) and deadline is not None and deadline <= now):
            self._open = None
            out.append(Completed(self.name, opened.command))
        return out


REPLAY = Plugin("replay.detector", ReplayParameters, sheet, build)

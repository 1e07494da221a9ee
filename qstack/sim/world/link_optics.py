"""The optics of one link, bound to its devices: timing, losses, tables, detectors that remember.

Timing, `midpoint-bsm`: both photons reach the station together, at the beginning of the cycle
plus the longer of both ends' (preparation + fibre); the nearer end emits later. The station
reports after its latency, and the herald lines tell each end after its fibre. `midpoint-source`:
the source fires after its preparation, each receiver tells the station, the station compares.
"""

from __future__ import annotations

from math import cos, pi, sin
from typing import TypeAlias, TypeVar

from qstack.errors import ConfigError
from qstack.machine import record
from qstack.sim.devices import (
    AnalyserParameters,
    DetectorParameters,
    EmitterParameters,
    SpdcParameters,
)
from qstack.sim.heralding import BARRETT_KOK, POLARISATION, SINGLE_CLICK, phase_of
from qstack.sim.world.arms import Arm, Opening
from qstack.sim.world.counting import Counts, Odds
from qstack.sim.world.optics import (
    ArmView,
    AttemptTable,
    StationView,
    Values,
    analyser_optics,
    attempt_table,
    value,
    whole_table,
)
from qstack.sim.world.pair_tables import (
    JointTable,
    PairView,
    coincidence_table,
    double_source_table,
)
from qstack.sim.world.parameters import (
    EMITTERS,
    MIDPOINT_SOURCE,
    WorldDevice,
    WorldEnd,
    WorldLink,
    parameters_of,
)
from qstack.sim.world.recovery import Eyes, gap_ps, memory_of
from qstack.sim.world.registers import Axis, Rotation, Terms, rotate
from qstack.sim.world.skews import Skews
from qstack.units import Chance, Duration, Instant, NodeName, Picoseconds

LOSS_STEP_DB = 0.02
"""Varying loss is rounded to this, so that tables can be kept."""

KEPT_TABLES = 4096
"""How many tables of a kind are kept before all are forgotten."""

T = TypeVar("T")

Moment: TypeAlias = tuple[tuple[float, float], tuple[Picoseconds, Picoseconds]]
"""What varies by itself: the losses of both ends in dB, and by how much their photons are late."""

Key: TypeAlias = tuple[Values, Values, Values, Picoseconds, Moment, tuple[Axis, ...]]
"""What a table depends on: both settings, the station's, window, losses and lateness, axes."""

_ALIGNED: Moment = (0.0, 0.0), (0, 0)

_Z = (0.0, 0.0, 1.0)


@record
class Timing:
    """Nanoseconds from the beginning of a cycle: emission and herald per end; clicks; report."""

    emitted: tuple[Duration, Duration]
    heralded: tuple[Duration, Duration]
    clicked: Duration
    reported: Duration


class LinkOptics:
    """What attempts of a link can give, and when. See the module."""

    __slots__ = (
        *("_chance", "_constant_db", "_eyes", "_joint", "_last", "_odds", "_whole", "analyser"),
        *("clicking", "counts", "detectors", "detuned", "emitters", "jitter_ps", "lifetime_ps"),
        *("link", "pairs", "skews", "source", "stations_detectors", "timing"),
    )

    def __init__(self, link: WorldLink, devices: dict[str, WorldDevice], chance: Chance) -> None:
        self.link = link
        self.analyser = parameters_of(devices, link.analyser, AnalyserParameters)
        self.source: SpdcParameters | None = None
        self.emitters: tuple[EmitterParameters, ...] = ()
        names: tuple[str, ...] = (self.analyser.detector,)
        if link.scheme == MIDPOINT_SOURCE:
            self.source = parameters_of(devices, link.source, SpdcParameters)
            names = tuple(end.emitter for end in link.ends)
        else:
            self.emitters = tuple(_emitter(devices, end.emitter) for end in link.ends)
        self.detectors = tuple(parameters_of(devices, n, DetectorParameters) for n in names)
        sources = self.emitters if self.source is None else (self.source,)
        self.lifetime_ps = max(source.lifetime_ps for source in sources)
        self.jitter_ps = self.detectors[0].jitter_ps
        self.timing = self._find_timing()
        self.stations_detectors = _behind(self.analyser.measurement)
        self.clicking = (1 << (self.stations_detectors or 4)) - 1
        self.counts = Counts(self.stations_detectors or 4, chance.fork("counts"))
        self.detuned = len({source.frequency_hz for source in sources}) > 1
        self.pairs = self.source is not None or isinstance(sources[0], SpdcParameters)
        self._constant_db: tuple[float, float] | None = None
        if all(end.wander is None for end in link.ends):
            self._constant_db = self._losses_db(0)
        station = "" if self.source is not None else devices[link.analyser].owner
        self.skews = Skews((link.ends[0].node, link.ends[1].node, station), self.lifetime_ps)
        self._odds: dict[Key, Odds] = {}
        self._whole: dict[Key, AttemptTable] = {}
        self._joint: dict[Key, JointTable] = {}
        self._last: tuple[Opening, Values, Values, Odds] | None = None
        self._chance = chance.fork("detectors")
        self._eyes: list[Eyes] = []

    def _find_timing(self) -> Timing:
        delays = [end.fibre.delay_ns for end in self.link.ends]
        if self.source is not None:
            fired = self.source.prepare_ns
            clicked = fired + 2 * max(delays)
            emitted = (fired, fired)
        else:
            prepared = [emitter.prepare_ns for emitter in self.emitters]
            clicked = max(p + d for p, d in zip(prepared, delays, strict=True))
            emitted = (clicked - delays[0], clicked - delays[1])
        reported = clicked + self.analyser.latency_ns
        return Timing(emitted, (reported + delays[0], reported + delays[1]), clicked, reported)

    # --- detectors that remember ---------------------------------------------------------

    def remembers(self, cycle_ns: Duration, window_ps: Picoseconds) -> str:
        """Say what one attempt leaves for the next in the detectors; empty for nothing."""
        gap = gap_ps(self.analyser.measurement, cycle_ns, window_ps)
        for detector in self.detectors:
            reason = memory_of(detector, gap)
            if reason:
                return f"{reason} between two windows of a detector"
        return ""

    def eyes(self, mode: int, cycle_ns: Duration) -> Eyes:
        """Return the detectors that see this mode."""
        while len(self._eyes) <= mode:
            count = 2 if self.analyser.measurement == BARRETT_KOK else self.counts.detectors
            each = count // len(self.detectors)
            parameters = tuple(d for d in self.detectors for _ in range(each))
            measurement = self.analyser.measurement
            self._eyes.append(Eyes(measurement, parameters, cycle_ns, self._chance))
        return self._eyes[mode]

    def fresh_eyes(self) -> None:
        """Begin with detectors that remember nothing: the clock of the link was restarted."""
        self._eyes.clear()

    # --- tables --------------------------------------------------------------------------

    def odds(self, first: Arm, second: Arm, opening: Opening, at: Instant) -> Odds:
        """Return the odds of an attempt of these arms at `at`."""
        last = self._last
        if (
            last is not None
            and last[0] is opening
            and last[1] == first.values
            and last[2] == second.values
        ):
            return last[3]
        key = self._key(first, second, opening, at)
        found = self._odds.get(key)
        if found is None:
            if self.pairs:
                found = Odds(self.joint(first, second, opening, at, (_Z, _Z)))
            else:
                found = Odds(attempt_table(*self._views(first, second, opening, key[4])))
            self._odds[key] = found
            self.counts.odds.append(found)
        if not self.varies:
            self._last = (opening, first.values, second.values, found)
        return found

    def whole(self, first: Arm, second: Arm, opening: Opening, at: Instant) -> AttemptTable:
        """Return the table of all patterns of an attempt of these arms."""
        key = self._key(first, second, opening, at)
        found = self._whole.get(key)
        if found is None:
            found = whole_table(*self._views(first, second, opening, key[4]))
            _keep(self._whole, key, found)
        return found

    def joint(
        self, first: Arm, second: Arm, opening: Opening, at: Instant, seen: tuple[Axis, Axis]
    ) -> JointTable:
        """Return the table of a pair source whose halves are measured along `seen`."""
        key = self._key(first, second, opening, at, seen)
        found = self._joint.get(key)
        if found is not None:
            return found
        if self.source is None:
            views = self._views(first, second, opening, key[4])
            found = double_source_table(*views, *seen)
        else:
            detectors = (self.detectors[0], self.detectors[1])
            visibility = value(opening.values, "visibility", self.analyser.visibility)
            losses, late = key[4]
            window, apart = opening.window_ps, late[0] - late[1]
            view = PairView(
                self.source, opening.values, detectors, losses, window, visibility, apart
            )
            found = coincidence_table(view, *seen)
        _keep(self._joint, key, found)
        return found

    def _key(
        self, first: Arm, second: Arm, opening: Opening, at: Instant, seen: tuple[Axis, ...] = ()
    ) -> Key:
        moment = self._losses_db(at), self.skews.late_ps(at)
        return (first.values, second.values, opening.values, opening.window_ps, moment, seen)

    def _views(
        self, first: Arm, second: Arm, opening: Opening, moment: Moment
    ) -> tuple[ArmView, ArmView, StationView]:
        losses, late = moment
        return (
            ArmView(self.emitters[0], first.values, losses[0], late[0]),
            ArmView(self.emitters[1], second.values, losses[1], late[1]),
            StationView(self.analyser, self.detectors[0], opening.window_ps, opening.values),
        )

    def with_phase(
        self, terms: Terms, clicks: int, times: list[float], arms: tuple[Arm, Arm], opening: Opening
    ) -> Terms:
        """Turn the pair by the phase that the times of detuned photons imply (RZ on A)."""
        optics = analyser_optics(*self._views(*arms, opening, _ALIGNED))
        whole = [round(time) for time in times]
        phase = phase_of(self.analyser.measurement, clicks, whole, optics)
        return rotate(terms, 0, _about_z(phase))

    # --- losses and timing ---------------------------------------------------------------

    def _losses_db(self, at: Instant) -> tuple[float, float]:
        if self._constant_db is not None:
            return self._constant_db
        first, second = self.link.ends
        return self._loss_db(first, at), self._loss_db(second, at)

    @staticmethod
    def _loss_db(end: WorldEnd, at: Instant) -> float:
        if end.wander is None:
            return end.fibre.loss_db
        piece = max(1, end.wander.correlation_ns // 8)
        middle = at - at % piece + piece // 2
        steps = round(end.wander.loss_db(middle) / LOSS_STEP_DB)
        return end.fibre.loss_db + steps * LOSS_STEP_DB

    @property
    def varies(self) -> bool:
        """Whether losses or timing change by themselves."""
        return self._constant_db is None or self.skews.drifting

    def changes(self, at: Instant) -> Instant | None:
        """Return when losses or timing are next other than at `at`, None for never."""
        ends = []
        if self._constant_db is None:
            for end in self.link.ends:
                if end.wander is not None and end.wander.sigma_db:
                    piece = max(1, end.wander.correlation_ns // 8)
                    ends.append(at - at % piece + piece)
        if self.skews.drifting:
            change = self.skews.changes(at)
            if change is not None:
                ends.append(change)
        return min(ends) if ends else None

    def retime(self, node: NodeName, now: Instant, offset_ps: Picoseconds, drift_ppt: int) -> bool:
        """Let a node's timing hardware be wrong from `now` on; returns whether the link cares."""
        self._last = None
        return self.skews.set(node, now, offset_ps, drift_ppt)

    def tidy(self) -> None:
        """Forget odds where there are too many; only while no pairing counts on any."""
        if len(self._odds) >= KEPT_TABLES:
            self.counts.fold()
            self._odds.clear()
            self._last = None


def _keep(tables: dict[Key, T], key: Key, table: T) -> None:
    if len(tables) >= KEPT_TABLES:
        tables.clear()
    tables[key] = table


def _behind(measurement: str) -> int:
    """How many bits of a mask are the station's own detectors (and rounds)."""
    if measurement in (POLARISATION, BARRETT_KOK):
        return 4
    return 2 if measurement == SINGLE_CLICK else 0


def _emitter(devices: dict[str, WorldDevice], name: str) -> EmitterParameters:
    found = devices[name].parameters
    if not isinstance(found, EMITTERS):
        raise ConfigError([f"{name!r} is a {type(found).__name__}, no emitter"])
    return found


def _about_z(angle: float) -> Rotation:
    c, s = cos(angle % (2 * pi)), sin(angle % (2 * pi))
    return ((0, 1.0),), ((1, 1.0),), ((2, c), (3, s)), ((3, c), (2, -s))

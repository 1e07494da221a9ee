"""What an attempt of a link leaves: clicks at the station, heralds at the ends, a pair.

Timing, `midpoint-bsm`: both photons reach the station together, at the beginning of the cycle
plus the longer of both ends' (preparation + fibre); the nearer end emits later. The station
reports after its latency, and the herald lines tell each end after its fibre. `midpoint-source`:
the source fires after its preparation, each receiver tells the station, the station compares.
"""

from __future__ import annotations

from math import cos, exp, log1p, pi, sin
from typing import TypeAlias, TypeVar

from qstack.errors import ConfigError
from qstack.machine import record
from qstack.messages.common import PLAIN_Z, Basis
from qstack.messages.devices import EmitterFired, EmitterHeralded, EmitterOutcome, StationClicks
from qstack.sim.devices import (
    AnalyserParameters,
    DetectorParameters,
    EmitterParameters,
    SpdcParameters,
)
from qstack.sim.heralding import phase_of
from qstack.sim.world import axes
from qstack.sim.world.agenda import Agenda, Report
from qstack.sim.world.arms import Arm, Clock, Opening
from qstack.sim.world.optics import (
    ArmView,
    AttemptTable,
    JointTable,
    PairView,
    StationView,
    Values,
    analyser_optics,
    attempt_table,
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
from qstack.sim.world.registers import MIXED, Axis, Qubit, Register, Rotation, Terms, rotate
from qstack.sim.world.skews import Skews
from qstack.units import Chance, Duration, Instant, Picoseconds

LOSS_STEP_DB = 0.02
"""Varying loss is rounded to this, so that tables can be kept."""

KEPT_TABLES = 4096
"""How many tables are kept before all are forgotten."""

T = TypeVar("T")

Key: TypeAlias = tuple[
    Values, Values, Values, Picoseconds, tuple[float, float], tuple[int, int], tuple[Axis, ...]
]
"""What a table depends on: both settings, the station's, window, losses, lateness, axes."""

Pairing: TypeAlias = tuple[Arm, Arm, AttemptTable | JointTable]
"""One mode of a cycle: both ends' arms and what an attempt of theirs gives."""

_Z = (0.0, 0.0, 1.0)


@record
class Timing:
    """Nanoseconds from the beginning of a cycle: emission and herald per end; clicks; report."""

    emitted: tuple[Duration, Duration]
    heralded: tuple[Duration, Duration]
    clicked: Duration
    reported: Duration


class Heralding:
    """The optics of one link, bound to its devices."""

    def __init__(
        self, link: WorldLink, devices: dict[str, WorldDevice], agenda: Agenda, chance: Chance
    ) -> None:
        self.link = link
        self.heralded: dict[int, int] = {}
        self._agenda = agenda
        self._chance = chance
        self._analyser = parameters_of(devices, link.analyser, AnalyserParameters)
        self._source: SpdcParameters | None = None
        self._emitters: tuple[EmitterParameters, ...] = ()
        names: tuple[str, ...] = (self._analyser.detector,)
        if link.scheme == MIDPOINT_SOURCE:
            self._source = parameters_of(devices, link.source, SpdcParameters)
            names = tuple(end.emitter for end in link.ends)
        else:
            self._emitters = tuple(_emitter(devices, end.emitter) for end in link.ends)
        self._detectors = tuple(parameters_of(devices, n, DetectorParameters) for n in names)
        sources = self._emitters if self._source is None else (self._source,)
        self._lifetime_ps = max(source.lifetime_ps for source in sources)
        self.timing = self._find_timing()
        self._constant_db: tuple[float, float] | None = None
        if all(end.wander is None for end in link.ends):
            self._constant_db = self._losses_db(0)
        parties = (*(end.node for end in link.ends), devices[link.analyser].owner)
        station = "" if self._source else parties[2]
        self.skews = Skews((parties[0], parties[1], station), self._lifetime_ps)
        self._tables: dict[Key, AttemptTable] = {}
        self._joint: dict[Key, JointTable] = {}

    def _find_timing(self) -> Timing:
        delays = [end.fibre.delay_ns for end in self.link.ends]
        if self._source is not None:
            fired = self._source.prepare_ns
            clicked = fired + 2 * max(delays)
            emitted = (fired, fired)
        else:
            prepared = [emitter.prepare_ns for emitter in self._emitters]
            clicked = max(p + d for p, d in zip(prepared, delays, strict=True))
            emitted = (clicked - delays[0], clicked - delays[1])
        reported = clicked + self._analyser.latency_ns
        return Timing(emitted, (reported + delays[0], reported + delays[1]), clicked, reported)

    # --- what an attempt can give --------------------------------------------------------

    def table(
        self, first: Arm, second: Arm, opening: Opening, at: Instant
    ) -> AttemptTable | JointTable:
        """Return the table of an attempt of these arms at `at`."""
        if self._source is not None or isinstance(self._emitters[0], SpdcParameters):
            return self.joint_table(first, second, opening, at, (_Z, _Z))
        key = self._key(first, second, opening, at, ())
        found = self._tables.get(key)
        if found is None:
            found = attempt_table(*self._views(first, second, opening, at))
            self._keep(self._tables, key, found)
        return found

    def joint_table(
        self, first: Arm, second: Arm, opening: Opening, at: Instant, seen: tuple[Axis, Axis]
    ) -> JointTable:
        """Return the table of a pair source whose halves are measured along `seen`."""
        key = self._key(first, second, opening, at, seen)
        found = self._joint.get(key)
        if found is not None:
            return found
        if self._source is None:
            views = self._views(first, second, opening, at)
            found = double_source_table(*views, *seen)
        else:
            detectors = (self._detectors[0], self._detectors[1])
            late = self.skews.late_ps(at)
            losses, apart = self._losses_db(at), late[0] - late[1]
            view = PairView(
                self._source, opening.values, detectors, losses, opening.window_ps, apart
            )
            found = coincidence_table(view, *seen)
        self._keep(self._joint, key, found)
        return found

    def _key(
        self, first: Arm, second: Arm, opening: Opening, at: Instant, seen: tuple[Axis, ...]
    ) -> Key:
        losses, late = self._losses_db(at), self.skews.late_ps(at)
        values = first.values, second.values, opening.values
        return (*values, opening.window_ps, losses, late, seen)

    @staticmethod
    def _keep(tables: dict[Key, T], key: Key, table: T) -> None:
        if len(tables) >= KEPT_TABLES:
            tables.clear()
        tables[key] = table

    def _views(
        self, first: Arm, second: Arm, opening: Opening, at: Instant
    ) -> tuple[ArmView, ArmView, StationView]:
        losses, late = self._losses_db(at), self.skews.late_ps(at)
        return (
            ArmView(self._emitters[0], first.values, losses[0], late[0]),
            ArmView(self._emitters[1], second.values, losses[1], late[1]),
            StationView(self._analyser, self._detectors[0], opening.window_ps),
        )

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

    def changes(self, at: Instant) -> Instant | None:
        """Return when losses or timing are next other than at `at`, None for never."""
        ends = []
        if self._constant_db is None:
            for end in self.link.ends:
                if end.wander is not None and end.wander.sigma_db:
                    piece = max(1, end.wander.correlation_ns // 8)
                    ends.append(at - at % piece + piece)
        if self.skews.drifting:
            ends += [change for change in (self.skews.changes(at),) if change is not None]
        return min(ends) if ends else None

    # --- when ----------------------------------------------------------------------------

    def clicked_at(self, clock: Clock, cycle: int) -> Instant:
        """The instant at which the station reports clicks of a cycle."""
        return clock.begin(cycle) + self.timing.reported

    def heralded_at(self, clock: Clock, arm: Arm) -> Instant:
        """The instant at which an end knows of its arm's last cycle."""
        return clock.begin(arm.stop - 1) + self.timing.heralded[arm.end]

    # --- what an attempt leaves ----------------------------------------------------------

    def succeed(
        self, begin: Instant, opening: Opening, where: tuple[int, int], pairing: Pairing
    ) -> None:
        """Report a success of (cycle, mode) `where`, and let its pair be."""
        first, second, table = pairing
        if isinstance(table, JointTable):
            clicks = self._measured(begin, opening, where, first, second)
        else:
            clicks = self._entangled(begin, opening, where, (first, second), table)
        self.heralded[clicks] = self.heralded.get(clicks, 0) + 1

    def _entangled(
        self,
        begin: Instant,
        opening: Opening,
        where: tuple[int, int],
        arms: tuple[Arm, Arm],
        table: AttemptTable,
    ) -> int:
        pattern = table.draw(self._chance)
        times, tags = self._tags(pattern.clicks, opening.window_ps, begin)
        terms = self._with_phase(pattern.terms, pattern.clicks, times, arms, opening)
        emitted = self.timing.emitted
        mine = Qubit(arms[0].memory, begin + emitted[0])
        theirs = Qubit(arms[1].memory, begin + emitted[1])
        Register(terms, [mine, theirs])
        self._hand_over(begin, where, arms[0], mine)
        self._hand_over(begin, where, arms[1], theirs)
        self._clicks(begin, opening, where, pattern.clicks, tags)
        return pattern.clicks

    def _hand_over(self, begin: Instant, where: tuple[int, int], arm: Arm, qubit: Qubit) -> None:
        """Give an end its half: into its slot, or measured at once."""
        emitted, heralded = qubit.born, begin + self.timing.heralded[arm.end]
        memory = arm.memory
        age = heralded - emitted
        if arm.plan is not None:
            basis, axis = axes.draw(arm.plan, self._chance)
            self._outcome(begin, where, arm, (basis, memory.read(qubit, axis)), emitted)
            return
        arm.leave()
        memory.put(arm.slot, qubit)
        cycle, mode = where
        if arm.once:
            body = EmitterFired(arm.device, arm.command, arm.slot, cycle, mode, 0)
            self._agenda.report(emitted, Report(arm, body, True, emitted))
        else:
            herald = EmitterHeralded(arm.device, arm.command, arm.slot, cycle, mode, age)
            self._agenda.report(heralded, Report(arm, herald, True, emitted))

    def _outcome(
        self,
        begin: Instant,
        where: tuple[int, int],
        arm: Arm,
        seen: tuple[Basis, int],
        emitted: Instant,
    ) -> None:
        at = begin + self.timing.heralded[arm.end]
        arm.left -= 1
        last = arm.left == 0
        if last:
            arm.leave()
        body = EmitterOutcome(arm.device, arm.command, *where, *seen, at - emitted, last)
        self._agenda.report(at, Report(arm, body, last, emitted))

    def _measured(
        self, begin: Instant, opening: Opening, where: tuple[int, int], first: Arm, second: Arm
    ) -> int:
        """A pair of a pair source: both ends have measured; there is no state."""
        # Pair sources are never armed to keep, so there always is a plan.
        basis_a, axis_a = axes.draw(first.plan or PLAIN_Z, self._chance)
        basis_b, axis_b = axes.draw(second.plan or PLAIN_Z, self._chance)
        table = self.joint_table(first, second, opening, begin, (axis_a, axis_b))
        _, clicks, bit_a, bit_b = table.draw(self._chance)
        emitted = self.timing.emitted
        self._outcome(begin, where, first, (basis_a, bit_a), begin + emitted[0])
        self._outcome(begin, where, second, (basis_b, bit_b), begin + emitted[1])
        _, tags = self._tags(clicks, opening.window_ps, begin)
        self._clicks(begin, opening, where, clicks, tags)
        return clicks

    def fail(
        self, begin: Instant, opening: Opening, where: tuple[int, int], pairing: Pairing
    ) -> None:
        """Report a failure, where somebody wants to know; spins without a herald line stay."""
        for arm in pairing[:2]:
            if arm.once:
                qubit = Qubit(arm.memory, begin + self.timing.emitted[arm.end])
                Register(dict(MIXED), [qubit])
                self._hand_over(begin, where, arm, qubit)
        if opening.report_failures:
            self._clicks(begin, opening, where, 0, ())

    def _clicks(
        self,
        begin: Instant,
        opening: Opening,
        where: tuple[int, int],
        clicks: int,
        tags: tuple[Picoseconds, ...],
    ) -> None:
        timing = self.timing
        age = timing.reported - timing.clicked
        body = StationClicks(
            opening.device, opening.command, self.link.name, *where, clicks, tags, age
        )
        report = Report(opening.clock, body, False, begin + timing.clicked)
        self._agenda.report(begin + timing.reported, report)

    # --- time tags -----------------------------------------------------------------------

    def _tags(
        self, clicks: int, window_ps: Picoseconds, at: Instant
    ) -> tuple[list[float], tuple[Picoseconds, ...]]:
        """Draw the clicks' true times in the window, and what the tagger makes of them.

        Exponential packets from the front of the window on, or later by what their end is late,
        cut at its end.
        """
        lifetime, jitter = self._lifetime_ps, self._detectors[0].jitter_ps
        count = clicks.bit_count()
        if not lifetime and not jitter:
            return [0.0] * count, (0,) * count
        late = self.skews.late_ps(at)
        turn = late[0] != late[1] and self._chance.uniform() < 1 / 2
        times, tags = [], []
        for place in range(count):
            front = min(max(late[(place + turn) % 2], 0), window_ps)
            reach = 1.0 - exp(-(window_ps - front) / lifetime) if lifetime else 0.0
            time = front - lifetime * log1p(-reach * self._chance.uniform())
            seen = time + self._chance.gauss(0.0, jitter) if jitter else time
            times.append(time)
            tags.append(min(max(round(seen), 0), window_ps))
        return times, tuple(tags)

    def _with_phase(
        self,
        terms: Terms,
        clicks: int,
        times: list[float],
        arms: tuple[Arm, Arm],
        opening: Opening,
    ) -> Terms:
        """Turn the pair by the phase that the times of detuned photons imply (RZ on A)."""
        first, second = self._emitters
        if first.frequency_hz == second.frequency_hz:
            return terms
        optics = analyser_optics(*self._views(*arms, opening, 0))
        whole = [round(time) for time in times]
        return rotate(
            terms, 0, _about_z(phase_of(self._analyser.measurement, clicks, whole, optics))
        )


def _emitter(devices: dict[str, WorldDevice], name: str) -> EmitterParameters:
    found = devices[name].parameters
    if not isinstance(found, EMITTERS):
        raise ConfigError([f"{name!r} is a {type(found).__name__}, no emitter"])
    return found


def _about_z(angle: float) -> Rotation:
    c, s = cos(angle % (2 * pi)), sin(angle % (2 * pi))
    return ((0, 1.0),), ((1, 1.0),), ((2, c), (3, s)), ((3, c), (2, -s))

"""What an attempt of a link leaves: clicks at the station, heralds at the ends, a pair."""

from __future__ import annotations

from math import exp, log1p

from qstack.messages.common import PLAIN_Z, Basis
from qstack.messages.devices import EmitterFired, EmitterHeralded, EmitterOutcome, StationClicks
from qstack.sim.world import axes
from qstack.sim.world.agenda import Agenda, Report
from qstack.sim.world.arms import Arm, Clock, Opening
from qstack.sim.world.counting import Odds
from qstack.sim.world.link_optics import LinkOptics
from qstack.sim.world.optics import AttemptTable
from qstack.sim.world.pair_tables import Joint, JointTable, outcomes_of
from qstack.sim.world.registers import MIXED, Axis, Qubit, Register, Terms
from qstack.units import Chance, Instant, Picoseconds


class Pairing:
    """One mode of an opening: both ends' arms and their odds, from cycle `since` on.

    `hit`: the cycle of its next success, where that is known ahead.
    """

    __slots__ = ("first", "hit", "odds", "opening", "second", "since")

    def __init__(
        self, opening: Opening, arms: tuple[Arm, Arm], odds: Odds, since: int, hit: int
    ) -> None:
        self.opening = opening
        self.first, self.second = arms
        self.odds = odds
        self.since = since
        self.hit = hit


class Attempt:
    """Where and when an attempt is made: its opening, cycle and mode, and the cycle's begin."""

    __slots__ = ("begin", "cycle", "mode", "opening")

    def __init__(self, opening: Opening, begin: Instant, cycle: int, mode: int) -> None:
        self.opening = opening
        self.begin = begin
        self.cycle = cycle
        self.mode = mode


class Heralding:
    """Decides attempts of one link, and reports them."""

    __slots__ = ("_agenda", "_bells", "_chance", "_link", "counts", "optics", "timing")

    def __init__(self, optics: LinkOptics, agenda: Agenda, chance: Chance) -> None:
        self.optics = optics
        self.timing = optics.timing
        self.counts = optics.counts
        self._link = optics.link.name
        self._agenda = agenda
        self._chance = chance
        self._bells = dict(optics.analyser.heralding())

    # --- when ----------------------------------------------------------------------------

    def clicked_at(self, clock: Clock, cycle: int) -> Instant:
        """The instant at which the station reports clicks of a cycle."""
        return clock.begin(cycle) + self.timing.reported

    def heralded_at(self, clock: Clock, arm: Arm) -> Instant:
        """The instant at which an end knows of its arm's last cycle."""
        return clock.begin(arm.stop - 1) + self.timing.heralded[arm.end]

    # --- attempts ------------------------------------------------------------------------

    def succeed(self, attempt: Attempt, pairing: Pairing) -> None:
        """Let an attempt succeed, which is known of it, and nothing else."""
        odds = pairing.odds
        table = odds.table
        if type(table) is not AttemptTable:
            (basis_a, axis_a), (basis_b, axis_b) = self._axes(pairing)
            optics, opening = self.optics, attempt.opening
            first, second = pairing.first, pairing.second
            joint = optics.joint(first, second, opening, attempt.begin, (axis_a, axis_b))
            drawn = joint.draw(self._chance)
            self._measured(attempt, pairing, (basis_a, basis_b), drawn)
            times = self._times(drawn.clicks, attempt)
            self._clicks(attempt, drawn.clicks, self._tags(times, opening.window_ps))
            return
        pattern = table.draw(self._chance)
        clicks = pattern.clicks
        times = self._times(clicks, attempt)
        terms = pattern.terms
        if self.optics.detuned:
            arms = (pairing.first, pairing.second)
            terms = self.optics.with_phase(terms, clicks, times, arms, attempt.opening)
        self._entangled(attempt, pairing, terms)
        self._clicks(attempt, clicks, self._tags(times, attempt.opening.window_ps))
        self.counts.herald(odds, clicks, clicks)

    def fail(self, attempt: Attempt, pairing: Pairing) -> None:
        """Let an attempt fail: spins without a herald line stay, and some want to know."""
        for arm in (pairing.first, pairing.second):
            if arm.once:
                qubit = Qubit(arm.memory, attempt.begin + self.timing.emitted[arm.end])
                Register(dict(MIXED), [qubit])
                self._hand_over(attempt, arm, qubit)
        if attempt.opening.report_failures:
            self._clicks(attempt, 0, ())

    def happen(self, attempt: Attempt, pairing: Pairing) -> None:
        """Decide an attempt whose detectors remember: draw what came, look what they see."""
        if isinstance(pairing.odds.table, JointTable):
            self._happen_to_pairs(attempt, pairing)
            return
        optics, opening = self.optics, attempt.opening
        arms = (pairing.first, pairing.second)
        drawn = optics.whole(*arms, opening, attempt.begin).draw(self._chance)
        times = self._times(drawn.clicks, attempt)
        seen, found = self._look(attempt, drawn.clicks, times)
        if seen not in self._bells:
            self.counts.miss(pairing.odds, seen)
            self.fail(attempt, pairing)
            return
        terms = drawn.terms
        if optics.detuned:
            terms = optics.with_phase(terms, drawn.clicks, times, arms, opening)
        self._entangled(attempt, pairing, terms)
        self._clicks(attempt, seen, self._tags(found, opening.window_ps))
        self.counts.herald(pairing.odds, seen, seen)

    def _happen_to_pairs(self, attempt: Attempt, pairing: Pairing) -> None:
        optics, opening = self.optics, attempt.opening
        (basis_a, axis_a), (basis_b, axis_b) = self._axes(pairing)
        arms = (pairing.first, pairing.second)
        table = optics.joint(*arms, opening, attempt.begin, (axis_a, axis_b))
        mask = table.draw_mask(self._chance)
        shift = optics.stations_detectors
        counted = (1 << (shift or 4)) - 1
        seen, _ = self._look(attempt, mask & counted, self._times(mask & counted, attempt))
        able = outcomes_of(mask & ~counted | seen, shift, tuple(self._bells) if shift else ())
        if not able:
            self.counts.miss(pairing.odds, seen)
            self.fail(attempt, pairing)
            return
        clicks, at_a, at_b = able[self._chance.below(len(able))]
        self._measured(attempt, pairing, (basis_a, basis_b), Joint(1.0, seen, clicks, at_a, at_b))
        self._clicks(attempt, clicks, self._tags(self._times(clicks, attempt), opening.window_ps))

    def _look(self, attempt: Attempt, clicks: int, times: list[float]) -> tuple[int, list[float]]:
        opening = attempt.opening
        eyes = self.optics.eyes(attempt.mode, opening.clock.cycle_ns)
        begin = (attempt.begin + self.timing.clicked) * 1000
        return eyes.see(begin, opening.window_ps, clicks, times)

    # --- what an attempt leaves ----------------------------------------------------------

    def _entangled(self, attempt: Attempt, pairing: Pairing, terms: Terms) -> None:
        first, second = pairing.first, pairing.second
        begin, emitted = attempt.begin, self.timing.emitted
        mine = Qubit(first.memory, begin + emitted[0])
        theirs = Qubit(second.memory, begin + emitted[1])
        Register(terms, [mine, theirs])
        self._hand_over(attempt, first, mine)
        self._hand_over(attempt, second, theirs)

    def _hand_over(self, attempt: Attempt, arm: Arm, qubit: Qubit) -> None:
        """Give an end its half: into its slot, or measured at once."""
        memory, emitted = arm.memory, qubit.born
        if arm.plan is not None:
            basis, axis = axes.draw(arm.plan, self._chance)
            self._outcome(attempt, arm, basis, memory.read(qubit, axis))
            return
        arm.leave()
        # The slot was emptied when it was armed, and nothing else can be put there since.
        memory.qubits[arm.slot] = qubit
        if arm.once:
            fired = EmitterFired(arm.device, arm.command, arm.slot, attempt.cycle, attempt.mode, 0)
            self._agenda.report(emitted, Report(arm, fired, True, emitted))
            return
        at = attempt.begin + self.timing.heralded[arm.end]
        herald = EmitterHeralded(
            arm.device, arm.command, arm.slot, attempt.cycle, attempt.mode, at - emitted
        )
        self._agenda.report(at, Report(arm, herald, True, emitted))

    def _outcome(self, attempt: Attempt, arm: Arm, basis: Basis, outcome: int) -> None:
        emitted = attempt.begin + self.timing.emitted[arm.end]
        at = attempt.begin + self.timing.heralded[arm.end]
        arm.left -= 1
        arm.told = at
        last = arm.left == 0
        if last:
            arm.leave()
        body = EmitterOutcome(
            arm.device,
            arm.command,
            attempt.cycle,
            attempt.mode,
            basis,
            outcome,
            at - emitted,
            last,
        )
        self._agenda.report(at, Report(arm, body, last, emitted))

    def _axes(self, pairing: Pairing) -> tuple[tuple[Basis, Axis], tuple[Basis, Axis]]:
        """Draw both axes of a pair of a pair source, whose arms always have a plan."""
        return (
            axes.draw(pairing.first.plan or PLAIN_Z, self._chance),
            axes.draw(pairing.second.plan or PLAIN_Z, self._chance),
        )

    def _measured(
        self, attempt: Attempt, pairing: Pairing, bases: tuple[Basis, Basis], drawn: Joint
    ) -> None:
        """A pair of a pair source: both ends have measured; there is no state."""
        self._outcome(attempt, pairing.first, bases[0], drawn.at_a)
        self._outcome(attempt, pairing.second, bases[1], drawn.at_b)
        self.counts.herald(pairing.odds, drawn.clicks, drawn.mask)

    def _clicks(self, attempt: Attempt, clicks: int, tags: tuple[Picoseconds, ...]) -> None:
        timing, opening = self.timing, attempt.opening
        body = StationClicks(
            opening.device,
            opening.command,
            self._link,
            attempt.cycle,
            attempt.mode,
            clicks,
            tags,
            timing.reported - timing.clicked,
        )
        report = Report(opening.clock, body, False, attempt.begin + timing.clicked)
        self._agenda.report(attempt.begin + timing.reported, report)

    # --- time tags -----------------------------------------------------------------------

    def _times(self, clicks: int, attempt: Attempt) -> list[float]:
        """Draw the clicks' true times in the window, in picoseconds.

        Exponential packets from the front of the window on, or later by what their end is late,
        cut at its end.
        """
        lifetime, window = self.optics.lifetime_ps, attempt.opening.window_ps
        count = (clicks & self.optics.clicking).bit_count()
        uniform = self._chance.uniform
        late = self.optics.skews.late_ps(attempt.begin)
        if late[0] <= 0 >= late[1]:
            if not lifetime:
                return [0.0] * count
            reach = 1.0 - exp(-window / lifetime)
            return [-lifetime * log1p(-reach * uniform()) for _ in range(count)]
        times, fronts = [], self._fronts(late, window)
        for place in range(count):
            front = fronts[place % 2]
            reach = 1.0 - exp(-(window - front) / lifetime) if lifetime else 0.0
            times.append(front - lifetime * log1p(-reach * uniform()))
        return times

    def _fronts(
        self, late: tuple[Picoseconds, Picoseconds], window: Picoseconds
    ) -> tuple[Picoseconds, Picoseconds]:
        """When in the window the packets of the first click and of the second begin.

        Which end a photon came from is not known: either is as likely.
        """
        first, second = (min(max(each, 0), window) for each in late)
        if first != second and self._chance.uniform() < 1 / 2:
            return second, first
        return first, second

    def _tags(self, times: list[float], window_ps: Picoseconds) -> tuple[Picoseconds, ...]:
        """Return what the tagger makes of these times."""
        jitter = self.optics.jitter_ps
        if not jitter:
            return tuple([round(time) for time in times])
        blurred = [round(time + self._chance.gauss(0.0, jitter)) for time in times]
        return tuple([min(max(time, 0), window_ps) for time in blurred])

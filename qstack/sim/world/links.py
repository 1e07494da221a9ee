"""A link: its clock, who is armed, and the skip-ahead to the next success.

Between two changes (an arm, an abort, an end, a piece of varying loss or timing) all attempts are
independent and alike, so the number of failures before the next success is geometric and one
draw finds it, for each mode of the cycle. Cycles that have begun are decided; where a change
means another probability, what was drawn for later cycles is thrown away and drawn anew, which
changes no probability, because the law has no memory. A success is acted on only when its
clicks are due, or when something else happens to the link after its cycle began; so a pair
costs one wake-up, whatever its probability.

Where attempts are not independent, because detectors remember, or where every failure has a
consequence (no herald line), the link goes from cycle to cycle.
"""

from __future__ import annotations

from qstack.messages.devices import Aborted, Exhausted
from qstack.sim.world.agenda import Agenda, Report
from qstack.sim.world.arms import Arm, Clock, Opening
from qstack.sim.world.heralds import Attempt, Heralding, Pairing
from qstack.units import Chance, Instant

FOREVER = 1 << 62
"""A cycle that never comes."""


class Link:
    """The world's side of one link. Everything is up to date until cycle `next` - 1."""

    __slots__ = (
        *("_agenda", "_boundary", "_chance", "_ended", "_hit", "_pairings", "_reported", "_spare"),
        *("_stepwise", "clock", "heralding", "lines", "next", "opening", "optics", "parameters"),
        "wake",
    )

    def __init__(self, heralding: Heralding, agenda: Agenda, chance: Chance) -> None:
        self.heralding = heralding
        self.optics = heralding.optics
        self.parameters = heralding.optics.link
        self._reported = heralding.timing.reported
        self.clock: Clock | None = None
        self.opening: Opening | None = None
        self.lines: tuple[list[Arm], list[Arm]] = ([], [])
        self.wake: Instant | None = None
        self.next = 0
        self._agenda = agenda
        self._chance = chance
        self._ended = 0
        self._pairings: list[Pairing] = []
        self._spare: tuple[list[Arm], list[Arm]] = ([], [])
        self._boundary = FOREVER
        self._hit = FOREVER
        self._stepwise = False

    @property
    def attempted(self) -> int:
        """How many attempts, (cycle, mode), have begun since the world did."""
        return self._ended + sum([self.next - pairing.since for pairing in self._pairings])

    def counted(self) -> tuple[int, tuple[int, ...], dict[int, int]]:
        """Return attempts, singles by detector and heralds by pattern, since the world began."""
        self._settle()
        counts = self.heralding.counts
        return self._ended, counts.singles(), dict(counts.heralded)

    # --- changes; each is preceded by `advance` and followed by `replan` ------------------

    def start_clock(self, clock: Clock, arms: list[Arm]) -> None:
        """Begin cycle 0 of a new life; aborts what ran on the former clock: all arms that run."""
        reason = "clock restarted"
        for arm in sorted(arms, key=lambda arm: (arm.device, arm.command)):
            self._end(arm, Aborted(arm.device, arm.command, reason), clock.epoch)
        self._settle()
        if self.opening is not None:
            old = self.opening
            self._end(old, Aborted(old.device, old.command, reason), clock.epoch)
            self.opening = None
        if self.clock is not None:
            self.clock.release()
        self.optics.fresh_eyes()
        self._pairings = []
        self.clock = clock
        self.next = 1

    def add(self, arm: Arm) -> None:
        """Let an arm take part from its `start` on. This change needs no `replan` after it."""
        arm.line = self.lines[arm.end]
        arm.line.append(arm)
        present = arm.start <= self.next
        until = arm.stop if present else arm.start
        sooner = until < self._boundary
        if sooner:
            self._boundary = until
        if present:
            spare = self._spare
            if arm.plan is None:
                spare[arm.end].append(arm)
            else:
                spare[arm.end].extend([arm] * self._share(arm))
            if spare[1 - arm.end]:
                sooner = self._extend() or sooner
        if sooner:
            self._set_wake()

    def abort(self, arm: Arm) -> None:
        """Let a measuring arm attempt no more, and end when its last outcome is reported."""
        if not arm.flying:
            self._end(arm, Aborted(arm.device, arm.command, "aborted"), arm.told)
            self.replan()

    def forget(self, opening: Opening) -> None:
        """Take out an opening that has ended."""
        if self.opening is opening:
            self._settle()
            self.opening = None

    def _end(self, run: Arm | Opening, body: Aborted | Exhausted, at: Instant) -> None:
        """Stop a command now and report its end at `at`."""
        if isinstance(run, Arm):
            run.leave()
            if isinstance(body, Aborted):
                run.lose()
        self._agenda.report(at, Report(run, body, True, None))

    # --- time ----------------------------------------------------------------------------

    def advance(self, now: Instant) -> None:
        """Decide every cycle that has begun."""
        clock = self.clock
        if clock is None:
            return
        begun = (now - clock.epoch) // clock.cycle_ns
        while self.next <= begun:
            cycle = self._hit
            if cycle <= begun and cycle < self._boundary:
                self.next = cycle + 1
                if self._stepwise:
                    self._step(cycle, clock)
                else:
                    self._succeed(cycle, clock)
            elif begun < self._boundary:
                self.next = begun + 1
            else:
                self.next = self._boundary
                self.replan()

    def _step(self, cycle: int, clock: Clock) -> None:
        """Decide all modes of a cycle, each for itself."""
        heralding, begin = self.heralding, clock.begin(cycle)
        for mode, pairing in enumerate(self._pairings):
            attempt = Attempt(pairing.opening, begin, cycle, mode)
            if pairing.opening.remembers:
                heralding.happen(attempt, pairing)
            elif self._chance.uniform() < pairing.odds.success:
                heralding.succeed(attempt, pairing)
            else:
                heralding.fail(attempt, pairing)
        if any(self._used_up(pairing) for pairing in self._pairings):
            self.replan()
        else:
            self._hit = self.next
            self._set_wake()

    def _used_up(self, pairing: Pairing) -> bool:
        """Whether an arm of a pairing cannot go on in it."""
        modes = len(self._pairings)
        return any(
            arm.flying or (arm.plan is not None and arm.left < modes)
            for arm in (pairing.first, pairing.second)
        )

    def _succeed(self, cycle: int, clock: Clock) -> None:
        """Carry out the successes of a cycle, and draw what comes next in their modes."""
        begin = clock.begin(cycle)
        left, over = [], False
        for mode, pairing in enumerate(self._pairings):
            if pairing.hit == cycle:
                self.heralding.succeed(Attempt(pairing.opening, begin, cycle, mode), pairing)
                if pairing.first.plan is None and pairing.second.plan is None:
                    self._count(pairing)
                    continue
                pairing.hit = self._draw(pairing.odds.success)
                over = over or self._used_up(pairing)
            left.append(pairing)
        self._pairings = left
        if over:
            self.replan()
        else:
            self._extend()
            self._set_wake()

    def _draw(self, success: float) -> int:
        """Draw the cycle of the next success of a mode: geometric."""
        return self.next + self._chance.failures(success) if success > 0.0 else FOREVER

    def _count(self, pairing: Pairing) -> None:
        """Count the attempts of a pairing up to `next`."""
        cycles = self.next - pairing.since
        pairing.since = self.next
        pairing.first.attempts += cycles
        pairing.second.attempts += cycles
        pairing.odds.attempts += cycles
        pairing.opening.attempts += cycles
        self._ended += cycles

    def _settle(self) -> None:
        for pairing in self._pairings:
            self._count(pairing)

    # --- who takes part ------------------------------------------------------------------

    def replan(self) -> None:
        """Find who takes part from cycle `next` on, and draw what happens next."""
        self._settle()
        self._pairings, self._hit, self._stepwise = [], FOREVER, False
        self.optics.tidy()
        clock = self.clock
        if clock is None:
            return
        if self.next >= self._boundary:
            self._retire(clock)
        opening = self.opening
        self._boundary = FOREVER
        self._spare = (self._present(self.lines[0]), self._present(self.lines[1]))
        if opening is not None:
            if opening.start > self.next:
                self._boundary = min(self._boundary, opening.start)
            else:
                self._boundary = min(self._boundary, opening.stop)
                self._stepwise = opening.remembers or opening.report_failures
                self._extend()
        self._set_wake()

    def _retire(self, clock: Clock) -> None:
        """End the commands whose cycles have all passed."""
        for line in self.lines:
            for arm in [arm for arm in line if arm.stop <= self.next]:
                at = max(clock.begin(arm.stop), self.heralding.heralded_at(clock, arm))
                self._end(arm, Exhausted(arm.device, arm.command, arm.attempts), at)
        opening = self.opening
        if opening is not None and opening.stop <= self.next:
            body = Exhausted(opening.device, opening.command, opening.attempts)
            last = self.heralding.clicked_at(clock, opening.stop - 1)
            self._end(opening, body, max(clock.begin(opening.stop), last))
            self.opening = None

    def _present(self, line: list[Arm]) -> list[Arm]:
        """Who of an end takes part in cycle `next`, one entry per mode."""
        present: list[Arm] = []
        boundary, now = self._boundary, self.next
        for arm in line:
            if arm.start > now:
                boundary = min(boundary, arm.start)
            else:
                boundary = min(boundary, arm.stop)
                present.extend([arm] * self._share(arm))
        self._boundary = boundary
        return present

    def _share(self, arm: Arm) -> int:
        """How many modes an arm can take at most."""
        return 1 if arm.plan is None else min(arm.left, self.parameters.max_modes)

    def _extend(self) -> bool:
        """Pair who is left over, as long as there are modes, and find the next success.

        Returns whether what the link waits for may have changed.
        """
        opening, clock, pairings = self.opening, self.clock, self._pairings
        if opening is None or clock is None or opening.start > self.next:
            return False
        first, second = self._spare
        if first and second:
            at = clock.begin(self.next)
            while first and second and len(pairings) < opening.modes:
                one, other = first.pop(0), second.pop(0)
                odds = self.optics.odds(one, other, opening, at)
                hit = self._draw(odds.success)
                pairings.append(Pairing(opening, (one, other), odds, self.next, hit))
                self._stepwise = self._stepwise or one.once or other.once
            if self.optics.varies:
                self._find_boundary(at, clock)
        if self._stepwise and pairings:
            self._hit = self.next
        else:
            self._hit = min([pairing.hit for pairing in pairings], default=FOREVER)
        return True

    def _find_boundary(self, at: Instant, clock: Clock) -> None:
        """Plan no further than loss and timing of the moment last."""
        change = self.optics.changes(at)
        if change is not None:
            later = -(-(change - clock.epoch) // clock.cycle_ns)
            self._boundary = min(self._boundary, max(later, self.next + 1))

    def _set_wake(self) -> None:
        clock, cycle = self.clock, self._hit
        if clock is None:
            return
        wake = None if self._boundary >= FOREVER else clock.begin(self._boundary)
        if cycle < self._boundary:
            due = clock.epoch + cycle * clock.cycle_ns
            if not self._stepwise:
                due += self._reported
            if wake is None or due < wake:
                wake = due
        if wake != self.wake:
            self.wake = wake
            self._agenda.wake(self)

"""A link: its clock, who is armed, and the skip-ahead to the next success.

Between two changes (an arm, an abort, an end, a piece of varying loss or timing) all attempts are
independent and alike, so the number of failures before the next success is geometric and one
draw finds it. Cycles that have begun are decided; at a change what was drawn for later
ones is thrown away and drawn anew, which changes no probability, because the law has no
memory. A success is acted on only when its clicks are due, or when something else happens to
the link after its cycle began; so a pair costs one wake-up, whatever its probability.
"""

from __future__ import annotations

from qstack.machine import record
from qstack.messages.devices import Aborted, Exhausted
from qstack.sim.world.agenda import Agenda, Report
from qstack.sim.world.arms import Arm, Clock, Opening
from qstack.sim.world.heralds import Heralding, Pairing
from qstack.units import Chance, Instant

FOREVER = 1 << 62
"""A cycle that never comes."""


@record
class Hit:
    """The next cycle in which something happens, and the modes that succeed in it."""

    cycle: int
    modes: tuple[int, ...]
    opening: Opening


class Link:
    """The world's side of one link. Everything is up to date until cycle `next` - 1."""

    def __init__(self, heralding: Heralding, agenda: Agenda, chance: Chance) -> None:
        self.heralding = heralding
        self.parameters = heralding.link
        self.clock: Clock | None = None
        self.opening: Opening | None = None
        self.lines: tuple[list[Arm], list[Arm]] = ([], [])
        self.alive: set[Arm] = set()
        self.attempted = 0
        self.wake: Instant | None = None
        self.next = 0
        self._agenda = agenda
        self._chance = chance
        self._pairings: list[Pairing] = []
        self._boundary = FOREVER
        self._hit: Hit | None = None
        self._stepwise = False

    def end_of(self, device: str) -> int:
        """Which end (0 or 1) this emitter or receiver is; -1 where it is none."""
        for index, end in enumerate(self.parameters.ends):
            if end.emitter == device:
                return index
        return -1

    # --- changes; each is preceded by `advance` and followed by `replan` ------------------

    def start_clock(self, clock: Clock) -> None:
        """Begin cycle 0 of a new life; aborts what ran on the former clock."""
        reason = "clock restarted"
        for arm in sorted(self.alive, key=lambda arm: (arm.device, arm.command)):
            self._end(arm, Aborted(arm.device, arm.command, reason), clock.epoch)
        if self.opening is not None:
            old = self.opening
            self._end(old, Aborted(old.device, old.command, reason), clock.epoch)
            self.opening = None
        if self.clock is not None:
            self.clock.release()
        self.clock = clock
        self.next = 1

    def add(self, arm: Arm) -> None:
        """Let an arm take part from its `start` on."""
        arm.line = self.lines[arm.end]
        arm.line.append(arm)
        self.alive.add(arm)

    def forget(self, run: Arm | Opening) -> None:
        """Take out a command that has ended."""
        if isinstance(run, Opening):
            if self.opening is run:
                self.opening = None
        else:
            self.alive.discard(run)

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
        begun = clock.begun(now)
        while self.next <= begun:
            stop = min(begun + 1, self._boundary)
            hit = self._hit
            if hit is not None and hit.cycle < stop:
                self._count(hit.cycle + 1)
                self._carry_out(hit, clock)
                self.replan()
            else:
                self._count(stop)
                if stop == self._boundary:
                    self.replan()

    def _count(self, until: int) -> None:
        """Count the attempts of all cycles before `until`."""
        cycles = until - self.next
        self.next = until
        pairings = self._pairings
        if not cycles or not pairings:
            return
        for first, second, _ in pairings:
            first.attempts += cycles
            second.attempts += cycles
        tried = cycles * len(pairings)
        self.attempted += tried
        if self.opening is not None:
            self.opening.attempts += tried

    def _carry_out(self, hit: Hit, clock: Clock) -> None:
        cycle, heralding, pairings = hit.cycle, self.heralding, self._pairings
        begin = clock.begin(cycle)
        for mode in range(len(pairings)) if self._stepwise else hit.modes:
            act = heralding.succeed if mode in hit.modes else heralding.fail
            act(begin, hit.opening, (cycle, mode), pairings[mode])

    def replan(self) -> None:
        """Find who takes part from cycle `next` on, and draw what happens next."""
        self._pairings, self._hit, self._stepwise = [], None, False
        clock = self.clock
        if clock is None:
            return
        if self.next >= self._boundary:
            self._retire(clock)
        opening = self.opening
        self._boundary = FOREVER
        sides = [self._present(line, opening) for line in self.lines]
        if opening is not None:
            if opening.start > self.next:
                self._boundary = min(self._boundary, opening.start)
            else:
                self._boundary = min(self._boundary, opening.stop)
                self._pair(sides, opening, clock)
        self._set_wake(clock)

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

    def _present(self, line: list[Arm], opening: Opening | None) -> list[Arm]:
        """Who of an end takes part in cycle `next`, one entry per mode."""
        present: list[Arm] = []
        boundary, now = self._boundary, self.next
        most = 0 if opening is None else min(opening.modes, self.parameters.max_modes)
        for arm in line:
            if arm.start > now:
                boundary = min(boundary, arm.start)
                continue
            boundary = min(boundary, arm.stop)
            room = most - len(present)
            if room > 0:
                if arm.plan is None:
                    present.append(arm)
                else:
                    present.extend([arm] * min(arm.left, room))
        self._boundary = boundary
        return present

    # --- the skip-ahead ------------------------------------------------------------------

    def _pair(self, sides: list[list[Arm]], opening: Opening, clock: Clock) -> None:
        count = min(len(sides[0]), len(sides[1]))
        if not count:
            return
        at = clock.begin(self.next)
        change = self.heralding.changes(at)
        if change is not None:
            later = -(-(change - clock.epoch) // clock.cycle_ns)
            self._boundary = min(self._boundary, max(later, self.next + 1))
        table, of = None, None
        for first, second in zip(sides[0][:count], sides[1][:count], strict=True):
            if table is None or of != (first.values, second.values):
                table, of = (
                    self.heralding.table(first, second, opening, at),
                    (first.values, second.values),
                )
            self._pairings.append((first, second, table))
        self._stepwise = opening.report_failures or any(
            first.once or second.once for first, second, _ in self._pairings
        )
        self._hit = self._next_cycle(opening) if self._stepwise else self._skip_ahead(opening)

    def _next_cycle(self, opening: Opening) -> Hit:
        """Attempt by attempt: what happens in cycle `next`."""
        chance = self._chance
        modes = [
            mode
            for mode, (_, _, table) in enumerate(self._pairings)
            if chance.uniform() < table.success
        ]
        return Hit(self.next, tuple(modes), opening)

    def _skip_ahead(self, opening: Opening) -> Hit | None:
        """Draw the next cycle with a success, and all modes that succeed in it.

        Modes with the same table are one sequence of attempts, cycle by cycle.
        """
        if len(self._pairings) == 1:
            probability = self._pairings[0][2].success
            if probability <= 0.0:
                return None
            cycle = self.next + self._chance.failures(probability)
            return Hit(cycle, (0,), opening) if cycle < self._boundary else None
        groups: dict[int, list[int]] = {}
        for mode, (_, _, table) in enumerate(self._pairings):
            groups.setdefault(id(table), []).append(mode)
        best = self._boundary - self.next
        found: list[int] = []
        for modes in groups.values():
            probability = self._pairings[modes[0]][2].success
            if probability <= 0.0:
                continue
            failures = self._chance.failures(probability)
            passed, index = divmod(failures, len(modes))
            if passed < best:
                best, found = passed, []
            elif passed > best or not found:
                continue
            while index < len(modes):
                found.append(modes[index])
                index += 1
                if index < len(modes):
                    index += self._chance.failures(probability)
        return Hit(self.next + best, tuple(sorted(found)), opening) if found else None

    def _set_wake(self, clock: Clock) -> None:
        wake = None if self._boundary >= FOREVER else clock.begin(self._boundary)
        if self._hit is not None:
            cycle = self._hit.cycle
            due = clock.begin(cycle) if self._stepwise else self.heralding.clicked_at(clock, cycle)
            wake = due if wake is None else min(wake, due)
        self.wake = wake
        self._agenda.wake(self)

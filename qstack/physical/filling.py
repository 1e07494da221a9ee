"""Which attempts to make next: free memories for what is wanted and covered by nothing yet.

With a herald line a command stands until it succeeds, from any cycle on. Without one it is a
single attempt in an exact cycle of the :class:`~qstack.physical.grid.Grid`; all memories that
are free are its modes. Such attempts are made only while the station says that both ends are
paired, and an attempt that nobody shared is as good as none: on to the next cycle of the grid.
"""

from __future__ import annotations

from typing import Any

from qstack.hal.commands import CommandIds
from qstack.machine import Device, Up
from qstack.messages.devices import EmitterFired, Exhausted, Rejected
from qstack.messages.physical import ArmReply, Verdict
from qstack.physical.arming import Arming
from qstack.physical.attempts import MEASURED, Attempt, Attempts, Emission
from qstack.physical.conversation import Conversation
from qstack.physical.cycles import CycleEstimate
from qstack.physical.events import EmitterEvent
from qstack.physical.grid import Grid
from qstack.physical.service import ClockSeen, LinkParameters, Serve
from qstack.physical.slots import Slots
from qstack.physical.task import Task
from qstack.units import Instant, NodeName

MEASURED_AT_ONCE = 24
"""So many pairs are asked for with commands to measure at a time.

No more than twice that is ever undecided or unconfirmed, so that a fast emitter never makes the
station, which keeps 64 unconfirmed successes, close its analyser and throw the rest away.
"""

FOLLOW_AT = MEASURED_AT_ONCE // 2
"""The next command comes when the one before has so many pairs to go, and takes the modes that it
leaves free. A command makes no more attempts in a cycle than pairs are missing to it: alone, it
would use 3.4 of four modes."""


class Filling:
    """The attempts of one end, and the grid that they keep to where there is no herald line."""

    __slots__ = ("_confirm_ns", "_estimate", "_modes", "_passed", "attempts", "grid")

    def __init__(
        self, parameters: LinkParameters, node: NodeName, slots: Slots, commands: CommandIds
    ) -> None:
        end = parameters.end(node)
        self._modes = parameters.modes
        self._confirm_ns = parameters.confirm_ns
        self.attempts = Attempts(parameters, node, slots, commands)
        self.grid: Grid | None = None
        self._passed = 0
        """No cycle before this one is to come any more, as the emitter says."""
        divided = parameters.scheduler == "time-division"
        self._estimate = CycleEstimate(parameters.cycle_ns) if divided else None
        if not end.herald_line:
            delay_ns = max(each.delay_ns for each in parameters.ends)
            self.grid = Grid(parameters.cycle_ns, delay_ns, parameters.confirm_ns)

    @property
    def lost(self) -> bool:
        """Whether the link's cycle has to be asked for before there can be an attempt."""
        return self.grid is not None and not self.grid.known

    def follow(self, task: Task, conversation: Conversation, now: Instant) -> list[Device]:
        """Command what is wanted, covered by nothing yet and fits into memory, and offer it."""
        attempts, matching, arming = self.attempts, conversation.matching, conversation.arming
        target = task.target()
        if target is None:
            return []
        commands: list[Device] = []
        work, remaining = task.number, task.remaining
        waiting = matching.waiting(work)
        wanted = remaining - waiting if remaining > waiting else 0
        missing = wanted - attempts.armed
        if missing < 0:
            commands = attempts.withdraw(wanted, work)
        elif missing and (target.plan is None or waiting <= MEASURED_AT_ONCE):
            # Otherwise outcomes come faster than the station's word on them.
            commands = self.refill(target, work, missing, arming, now)
        outstanding = attempts.armed + waiting
        arming.offer(outstanding if outstanding < remaining else remaining, matching.seen)
        return commands

    def refill(
        self, target: Serve, work: int, uncovered: int, arming: Arming, now: Instant
    ) -> list[Device]:
        """Command attempts for at most `uncovered` pairs of this piece of work."""
        attempts = self.attempts
        if target.plan is None and attempts.starved:
            return []
        if not arming.trusted:
            # What is armed now could still be made by a clock that is about to end.
            return []
        if 0 < target.end <= self._passed:
            return []
        first = max(arming.first_cycle, target.begin)
        if target.plan is not None:
            ahead = attempts.ahead(work, target)
            if uncovered <= 0 or ahead > FOLLOW_AT or attempts.resting(MEASURED):
                return []
            pairs = min(uncovered, MEASURED_AT_ONCE - ahead)
            return [attempts.measure(work, target, pairs, first)]
        if attempts.measuring:
            return []
        count = min(uncovered, self._modes - attempts.armed)
        if count <= 0:
            return []
        cycle, exact = first, False
        if self.grid is not None:
            aim = self.grid.aim(cycle, now) if arming.accepted else None
            if aim is None or 0 < target.end <= aim:
                return []
            cycle, exact = aim, True
        commands: list[Device] = []
        for _ in range(count):
            command = attempts.keep(work, target, cycle, exact)
            if command is None:
                break
            commands.append(command)
            if attempts.sees_none():
                break  # so that nothing is tried again when an attempt ends
        return commands

    def begin(self) -> None:
        """Another life of the station: its clock is another one."""
        self._passed = 0
        if self._estimate is not None:
            self._estimate.forget()
        if self.grid is not None:
            self.grid.forget()

    def learn(
        self, attempt: Attempt, event: EmitterEvent, emission: Emission | None, now: Instant
    ) -> bool:
        """Learn from how an attempt ended; return whether it only came too late for its cycle."""
        grid = self.grid
        if grid is None or attempt.qubit is None:
            return attempt.serve.end > 0 and self._out_of_bin(attempt, event)
        if isinstance(event, EmitterFired):
            if emission is not None:
                grid.emitted(event.cycle, emission.emitted_at, now)
        elif isinstance(event, Exhausted):
            if self.attempts.current(attempt) and not grid.ended(attempt.cycle, now):
                self.attempts.rest(attempt.slot, now, self._confirm_ns)
        elif isinstance(event, Rejected) and event.late:
            if self.attempts.current(attempt):
                grid.late(attempt.cycle, now)
            return True
        return False

    def _out_of_bin(self, attempt: Attempt, event: EmitterEvent) -> bool:
        """The emitter may say that the bin is over; return whether that was news to nobody."""
        late = isinstance(event, Rejected) and event.late
        if not (late or isinstance(event, Exhausted)):
            return False
        if self.attempts.current(attempt):
            self._passed = max(self._passed, attempt.serve.end)
        return late

    def voided(self, emissions: list[Emission], now: Instant) -> None:
        """The station threw these away."""
        if self.grid is not None:
            for emission in emissions:
                if emission.qubit is not None:
                    self.grid.resolved(emission.cycle, now)

    def heard(self, reply: ArmReply, rewound: bool, work: int, now: Instant) -> list[Any]:
        """The station named its cycle, of a new life of the clock if `rewound`.

        What was armed by the former clock is aborted and counts for nothing.
        """
        actions: list[Any] = []
        if rewound:
            actions += self.attempts.withdraw(0, work)
            self.attempts.new_epoch()
            self._passed = 0
        if self.grid is not None:
            if rewound:
                self.grid.forget()
            self.grid.told(reply.cycle, now)
        if self._estimate is not None and reply.verdict is not Verdict.REFUSED:
            began = self._estimate.heard(reply.epoch, reply.cycle, now)
            if began is not None:
                actions.append(Up(ClockSeen(reply.epoch, began)))
        return actions

"""The attempts of one node on one link: what its emitter was told, and what came of it.

An attempt is one EmitterArm with the slot that it fills, or one EmitterMeasure. It ends with
the device's terminal event; what it emitted lives on as an :class:`Emission` until the
station's word is known (`matching.py`). An abort can cross a herald: whichever terminal event
the device sends is the truth.
"""

from __future__ import annotations

import sys
from enum import IntEnum, auto
from typing import Any, TypeAlias, assert_never

from qstack.errors import HardwareFault, LocalProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import Device, record
from qstack.messages.common import Basis, Qubit, RequestId
from qstack.messages.devices import (
    Abort,
    Aborted,
    EmitterArm,
    EmitterFired,
    EmitterHeralded,
    EmitterMeasure,
    EmitterOutcome,
    Exhausted,
    Faulted,
    Rejected,
)
from qstack.physical.events import EmitterEvent
from qstack.physical.service import LinkParameters, Serve
from qstack.physical.slots import Owner, Slots
from qstack.units import Duration, Instant, NodeName

BATCH_CYCLES = 1 << 32
"""How many cycles one command lasts where the hardware stops by itself; then it is renewed."""

ROOM = "physical"

MEASURED = -1
"""Stands for the slot of a command to measure, which fills none."""

FAULTS_IN_A_ROW = 3
"""So many faults of a slot in a row make it useless; when all are, it is trouble."""

LONGEST_BACKOFF = 6
"""The back-off of a slot whose commands fail grows up to this power of two."""


class AttemptState(IntEnum):
    """The life of an attempt."""

    ARMED = auto()
    """The emitter has it, or is about to."""
    ABORTING = auto()
    """It serves nothing any more; the device has been told, its last word is awaited."""
    ENDED = auto()
    """The device has said its last word."""


@record
class Withdraw:
    """This attempt is not wanted any more."""


AttemptEvent: TypeAlias = EmitterEvent | Withdraw

_NONE: frozenset[AttemptState] = frozenset()
_ENDED = frozenset({AttemptState.ENDED})
_TERMINALS: dict[type[Any], frozenset[AttemptState]] = {
    EmitterHeralded: _ENDED,
    EmitterFired: _ENDED,
    Exhausted: _ENDED,
    Rejected: _ENDED,
    Aborted: _ENDED,
    Faulted: _ENDED,
}

TABLE: dict[AttemptState, dict[type[Any], frozenset[AttemptState]]] = {
    AttemptState.ARMED: {
        **_TERMINALS,
        EmitterOutcome: frozenset({AttemptState.ARMED, AttemptState.ENDED}),
        Withdraw: frozenset({AttemptState.ABORTING}),
    },
    AttemptState.ABORTING: {
        **_TERMINALS,
        EmitterOutcome: frozenset({AttemptState.ABORTING, AttemptState.ENDED}),
    },
    AttemptState.ENDED: {},
}


@record
class Emission:
    """A photon that left, and what stayed behind: a qubit, or an outcome with its axis.

    `work` numbers the piece of work it was made for, `setting` is the working point that the
    emitter had, and `since` is when it became known.
    """

    work: int
    request: RequestId
    setting: str
    cycle: int
    mode: int
    qubit: Qubit | None
    basis: Basis
    outcome: int
    emitted_at: Instant
    since: Instant


class Attempt:
    """One command of the emitter, from `cycle` on; it may still give `left` heralds."""

    __slots__ = (
        "command",
        "cycle",
        "epoch",
        "left",
        "qubit",
        "serve",
        "state",
        "work",
    )

    def __init__(
        self, command: int, work: int, serve: Serve, qubit: Qubit | None, epoch: int
    ) -> None:
        self.command = command
        self.work = work
        self.serve = serve
        self.qubit = qubit
        self.epoch = epoch
        self.cycle = 0
        self.left = 1
        self.state = AttemptState.ARMED

    @property
    def slot(self) -> int:
        """The slot that it fills, or MEASURED."""
        return MEASURED if self.qubit is None else self.qubit.slot

    def handle(self, event: AttemptEvent) -> None:
        """Take an event; HardwareFault, and nothing changed, where the table has no entry."""
        state = self._after(event)
        if state not in TABLE[self.state].get(type(event), _NONE):
            raise HardwareFault(
                f"attempt {self.command} is {self.state.name}: no {type(event).__name__} now"
            )
        self.state = state

    def _after(self, event: AttemptEvent) -> AttemptState:
        match event:
            case EmitterHeralded() | EmitterFired():
                if self.qubit is None or event.slot != self.qubit.slot:
                    raise HardwareFault(f"attempt {self.command} does not fill slot {event.slot}")
                return AttemptState.ENDED
            case EmitterOutcome():
                if self.qubit is not None:
                    raise HardwareFault(f"attempt {self.command} was not to be measured")
                if self.left < 1:
                    raise HardwareFault(f"attempt {self.command} has all outcomes already")
                return AttemptState.ENDED if event.last else self.state
            case Exhausted() | Rejected() | Aborted() | Faulted():
                return AttemptState.ENDED
            case Withdraw():
                return AttemptState.ABORTING
            case _:
                assert_never(event)


class Attempts:
    """All attempts of a node on a link that the emitter has not ended yet, by command."""

    __slots__ = (
        *("_batch", "_commands", "_emitter", "_end", "_epoch", "_failures", "_link", "_none_since"),
        *("_owner", "_resting", "_slots", "_values", "armed", "measuring", "running", "wakes_at"),
    )

    def __init__(
        self, parameters: LinkParameters, node: NodeName, slots: Slots, commands: CommandIds
    ) -> None:
        self._link = parameters.name
        self._end = parameters.end(node)
        self._emitter = self._end.emitter
        self._batch = BATCH_CYCLES if self._end.herald_line else 1
        self._values = {setting.id: setting.values_of(node) for setting in parameters.settings}
        self._slots = slots
        self._commands = commands
        self._owner = Owner(ROOM, parameters.name)
        self._epoch = 0
        self._failures: dict[int, int] = {}
        self._resting: dict[int, Instant] = {}
        self.wakes_at: Instant | None = None
        """When the next slot may be tried again: the least of `_resting`, set where that is."""
        self._none_since = -1
        self.measuring = 0
        """How many commands to measure the emitter has, aborted or not."""
        self.armed = 0
        """How many heralds the armed attempts may still give together."""
        self.running: dict[int, Attempt] = {}

    @property
    def starved(self) -> bool:
        """Whether no slot was free when it was looked for one, and none was released since."""
        return self._none_since == self._slots.releases

    def sees_none(self) -> bool:
        """Look whether no slot is free for another attempt, which is then :attr:`starved`."""
        slots = self._slots
        if not slots.vacant.isdisjoint(self._end.communication):
            return False
        self._none_since = slots.releases
        return True

    def current(self, attempt: Attempt) -> bool:
        """Return whether an attempt was made in the present epoch."""
        return attempt.epoch == self._epoch

    def keep(self, work: int, serve: Serve, not_before: int, exact: bool) -> Device | None:
        """Arm the emitter with the next free slot; None where no slot is free.

        For those that are not :attr:`starved`, and have no command to measure.
        """
        among = self._end.communication
        if self._resting:
            among = tuple(slot for slot in among if slot not in self._resting)
        qubit = self._slots.take(self._owner, among=among)
        if qubit is None:
            # Nothing was released since: do not look again.
            self._none_since = self._slots.releases
            return None
        command = self._commands.next()
        attempt = self.running[command] = Attempt(command, work, serve, qubit, self._epoch)
        attempt.cycle = not_before
        self.armed += 1
        return Device(
            self._emitter,
            EmitterArm(
                self._emitter,
                command,
                self._link,
                qubit.slot,
                self._values[serve.setting],
                not_before,
                exact,
                self._batch,
                serve.end,
            ),
        )

    def measure(self, work: int, serve: Serve, pairs: int, not_before: int) -> Device:
        """Let the emitter attempt and measure until `pairs` heralds."""
        if serve.plan is None:
            raise LocalProtocolError(f"request {serve.request} is not to be measured here")
        command = self._commands.next()
        attempt = self.running[command] = Attempt(command, work, serve, None, self._epoch)
        attempt.left = pairs
        self.armed += pairs
        self.measuring += 1
        return Device(
            self._emitter,
            EmitterMeasure(
                self._emitter,
                command,
                self._link,
                self._values[serve.setting],
                serve.plan,
                pairs,
                not_before,
                False,
                BATCH_CYCLES,
                serve.end,
            ),
        )

    def ahead(self, work: int, serve: Serve) -> int:
        """Return how many pairs the command to measure that runs has to go for the same work.

        A number that no command has, where what runs must end before another is given.
        """
        if not self.running:
            return 0
        if len(self.running) > 1:
            return sys.maxsize
        (attempt,) = self.running.values()
        armed = attempt.state is AttemptState.ARMED and attempt.qubit is None
        same = attempt.work == work and attempt.serve.end == serve.end and self.current(attempt)
        return attempt.left if armed and same else sys.maxsize

    def withdraw(self, keep: int, work: int) -> list[Device]:
        """Abort all armed attempts but the oldest that give `keep` heralds for this work."""
        aborts = []
        for attempt in self.running.values():
            if attempt.state is not AttemptState.ARMED:
                continue
            if attempt.work == work and attempt.left <= keep:
                keep -= attempt.left
                continue
            attempt.handle(Withdraw())
            self.armed -= attempt.left
            abort = Abort(self._emitter, self._commands.next(), attempt.command)
            aborts.append(Device(self._emitter, abort))
        return aborts

    def resting(self, slot: int) -> bool:
        """Return whether this slot (or MEASURED) waits after a failure."""
        return slot in self._resting

    def wake(self, now: Instant | None) -> None:
        """Let the slots whose back-off is over be tried again; all, and forgiven, for None."""
        self._none_since = -1
        if now is None:
            self._failures.clear()
            self._resting.clear()
        else:
            self._resting = {s: until for s, until in self._resting.items() if until > now}
        self.wakes_at = min(self._resting.values(), default=None)

    def rest(self, slot: int, now: Instant, unit_ns: Duration) -> bool:
        """A command for this slot failed; return whether all slots keep failing."""
        failures = self._failures[slot] = self._failures.get(slot, 0) + 1
        self._resting[slot] = now + (unit_ns << min(failures - 1, LONGEST_BACKOFF))
        self.wakes_at = min(self._resting.values())
        slots = (MEASURED,) if slot == MEASURED else self._end.communication
        return all(self._failures.get(each, 0) >= FAULTS_IN_A_ROW for each in slots)

    def new_epoch(self) -> None:
        """The station's life ended: emissions of the attempts that run now count for nothing."""
        self._epoch += 1

    def abandon(self) -> None:
        """The emitter is gone, and its commands with it: free their slots now."""
        for attempt in self.running.values():
            self._release(attempt)
        self.running.clear()
        self.armed = self.measuring = 0

    def take(self, event: EmitterEvent, now: Instant) -> Emission | None:
        """Take a device event; return what was emitted, if that may still become a pair.

        Raises HardwareFault, with nothing changed, where the device breaks its contract.
        An event of a command that does not run here is none of this link's business.
        """
        attempt = self.running.get(event.command)
        if attempt is None:
            return None
        armed, left = attempt.state is AttemptState.ARMED, attempt.left
        attempt.handle(event)
        if attempt.state is AttemptState.ENDED:
            del self.running[event.command]
            if armed:
                self.armed -= left
            if attempt.qubit is None:
                self.measuring -= 1
        match event:
            case EmitterHeralded() | EmitterFired():
                basis, outcome = Basis.Z, 0
            case EmitterOutcome():
                attempt.left -= 1
                self.armed -= attempt.state is AttemptState.ARMED
                basis, outcome = event.basis, event.outcome
            case _:
                self._release(attempt)
                return None
        if self._failures:
            self._failures.pop(attempt.slot, None)
        if attempt.epoch != self._epoch:
            self._release(attempt)
            return None
        serve = attempt.serve
        return Emission(
            attempt.work,
            serve.request,
            serve.setting,
            event.cycle,
            event.mode,
            attempt.qubit,
            basis,
            outcome,
            now - event.age_ns,
            now,
        )

    def _release(self, attempt: Attempt) -> None:
        if attempt.qubit is not None:
            self._slots.release(attempt.qubit, ROOM)

"""The contract of a device machine, as checks that any device can be put through.

A :class:`Bench` says how to make the device and what it accepts. Each check of
:data:`CHECKS` takes a bench and raises :class:`ContractBroken`, which names the step, for a
device that breaks a promise of DESIGN section 7:

- every command ends in exactly one terminal event, and nothing of it comes after;
- what comes of a command is what may come of it, about the slot or link that it names;
- a command that the device does not know is Rejected, and an abort of nothing Completed;
- an Abort and its target end within the datasheet's bound;
- an exact arm that comes too late is Rejected as late, never silently shifted;
- after a TICK at its deadline a device does not want one in the past, or for ever at once;
- a copy of a device does what the original does;
- a device that is not ready rejects work;
- a memory that measures in the Bell basis tells the states apart that its own gates make.

The pytest plugin :mod:`qstack.kit` runs them, and random sequences of commands besides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, assert_never

import attrs

from qstack.hal.commands import ends, objection
from qstack.hal.server import Reported
from qstack.machine import TICK, Up, record
from qstack.messages.common import PLAIN_Z
from qstack.messages.devices import (
    Abort,
    Aborted,
    BellResult,
    Calibration,
    Completed,
    DetectorOpen,
    DeviceState,
    EmitterArm,
    EmitterMeasure,
    Gate,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    Rejected,
    StationClock,
    StationCount,
    StationOpen,
)
from qstack.units import Duration, Instant

E = TypeVar("E")

SHOTS = 24
"""How often each Bell state is made and measured."""

AT_ONCE = 1_000
"""How many TICKs in a row a device may want at one instant before it counts as wedged."""


class ContractBroken(AssertionError):
    """A device did what no device may do; the message says what, and after which command."""


@record
class Bench:
    """A device on the bench: how to make it, and what it takes.

    `make` returns a fresh device, the same each time; `setup` are commands that bring it into
    use, each of which ends by itself; `examples` are commands that it accepts after that, all at
    once or one by one. `abort_ns` is its bound for an Abort. `watch_ns` is how long the checks
    watch an example before they abort it. `late` is an arm with `exact` set whose cycle has
    begun `late_ns` after the set-up; None for a device that has no such command. `unready` makes
    a device that is in a state in which it takes no work; None if it has no such state. `bell` are
    two slots of a memory that takes MemoryBell for them, and makes Bell states there with its own
    gates, right in clearly more than half of all cases; None for other devices.
    """

    device: str
    make: Callable[[], Any]
    setup: tuple[Any, ...]
    examples: tuple[Any, ...]
    abort_ns: Duration = 0
    watch_ns: Duration = 1_000_000
    late: Any | None = None
    late_ns: Duration = 1_000_000
    unready: Callable[[], Any] | None = None
    bell: tuple[int, int] | None = None


def body_of(action: Any) -> Any:
    """Return the device event in what a device, or a server of devices, answered."""
    event = action.event if type(action) is Up else action
    return event.body if type(event) is Reported else event


def numbered(command: Any, number: int) -> Any:
    """Return the command with this id."""
    return attrs.evolve(command, command=number)


class Session:
    """Steps one device in virtual time and watches every promise that can be seen there.

    `log` holds (instant, event) of all that it reported.
    """

    def __init__(self, bench: Bench, device: Any) -> None:
        self.bench, self.device = bench, device
        self.now: Instant = 0
        self.running: dict[int, Any] = {}
        self.ended: dict[int, Any] = {}
        self.log: list[tuple[Instant, Any]] = []
        self.last = 0

    def send(self, template: Any) -> int:
        """Give the device a command with a fresh id, and return the id."""
        self.last += 1
        return self.give(numbered(template, self.last))

    def give(self, command: Any) -> int:
        """Give the device a command as it is."""
        number: int = command.command
        self.running[number] = command
        self._take(self.device.handle(command, self.now))
        return number

    def abort(self, target: int) -> int:
        """Abort a command and return the abort's own id."""
        return self.send(Abort(self.bench.device, 0, target))

    def run(self, duration: Duration) -> None:
        """Let time pass, waking the device at each of its deadlines."""
        end = self.now + duration
        ticks = 0
        while (deadline := self.device.deadline) is not None and deadline <= end:
            ticks = ticks + 1 if deadline <= self.now else 0
            self.now = max(self.now, deadline)
            self._take(self.device.handle(TICK, self.now))
            following = self.device.deadline
            past = following is not None and following < self.now
            self._require(not past, f"after its TICK the device wants one at {following}")
            self._require(ticks <= AT_ONCE, f"{ticks} TICKs at once, and it wants more")
        self.now = end

    def finish(self) -> None:
        """Abort all that runs; after the bound nothing may be left."""
        for number in list(self.running):
            if number in self.running:
                self.abort(number)
        self.run(self.bench.abort_ns)
        self._require(not self.running, f"no terminal event of {list(self.running.values())}")

    def _take(self, actions: Iterable[Any]) -> None:
        for action in actions:
            event = body_of(action)
            self.log.append((self.now, event))
            self._require(event.device == self.bench.device, f"{event} is of another device")
            if isinstance(event, DeviceState | Calibration):
                continue
            number = event.command
            self._require(number not in self.ended, f"{event} after {self.ended.get(number)}")
            self._require(number in self.running, f"{event} of a command that was never given")
            why = objection(self.running[number], event)
            self._require(not why, why)
            if ends(event):
                self.ended[number] = event
                del self.running[number]

    def _require(self, holds: bool, breach: str) -> None:
        if not holds:
            raise ContractBroken(f"{self.bench.device} at {self.now} ns: {breach}")


def begin(bench: Bench, device: Any = None) -> Session:
    """Return a session whose device has been set up; every command of that must end well."""
    session = Session(bench, bench.make() if device is None else device)
    for template in bench.setup:
        number = session.send(template)
        session.run(bench.watch_ns)
        outcome = session.ended.get(number)
        if outcome is None or isinstance(outcome, Rejected):
            raise ContractBroken(f"{bench.device}: the set-up's {template} came to {outcome}")
    return session


def foreign(bench: Bench) -> list[Any]:
    """Return commands of kinds that this device does not take."""
    name = bench.device
    every = (
        EmitterArm(name, 0, "nowhere", 0, (), 0, False, 1),
        EmitterMeasure(name, 0, "nowhere", (), PLAIN_Z, 1, 0, False, 1),
        StationOpen(name, 0, "nowhere", (), 0, 1, 1, 1_000, False),
        StationClock(name, 0, "nowhere", 1_000),
        MemoryMeasure(name, 0, 0, PLAIN_Z),
        MemoryGate(name, 0, Gate.X, 0, None, 0.0),
        MemoryMove(name, 0, 0, 1),
        MemoryInitialise(name, 0, 0),
        MemoryBell(name, 0, 0, 1),
        DetectorOpen(name, 0, 1),
        StationCount(name, 0, "nowhere"),
    )
    known = {type(command) for command in (*bench.setup, *bench.examples, bench.late)}
    return [command for command in every if type(command) not in known]


def check_each_command_ends_once(bench: Bench) -> None:
    """Each example alone, what measures together (D-29), all at once: one terminal event each."""
    measures = tuple(each for each in bench.examples if type(each) is EmitterMeasure)
    for examples in (*((each,) for each in bench.examples), measures, bench.examples):
        session = begin(bench)
        numbers = [session.send(each) for each in examples]
        session.run(bench.watch_ns)
        session.finish()
        session.run(bench.watch_ns)
        refused = [each for each in numbers if isinstance(session.ended[each], Rejected)]
        if refused and (len(examples) == 1 or examples is measures):
            raise ContractBroken(f"{bench.device} does not take {examples}")


def check_unknown_commands_are_rejected(bench: Bench) -> None:
    """What is for another kind of device is Rejected, and harms nothing that runs."""
    session = begin(bench)
    for template in bench.examples[:1]:
        session.send(template)
    for template in foreign(bench):
        number = session.send(template)
        session.run(bench.abort_ns)
        if not isinstance(session.ended.get(number), Rejected):
            raise ContractBroken(f"{bench.device}: {template} came to {session.ended.get(number)}")
    session.finish()


def check_an_abort_of_nothing_completes(bench: Bench) -> None:
    """An Abort whose target ended, or never was, is Completed and says nothing else."""
    session = begin(bench)
    for target in (1 << 40, 1):
        number = session.abort(target)
        session.run(bench.abort_ns)
        if not isinstance(session.ended.get(number), Completed):
            raise ContractBroken(f"{bench.device}: abort came to {session.ended.get(number)}")


def check_aborts_are_bounded(bench: Bench) -> None:
    """Target and Abort end within `abort_ns`; a target that still ran ends in Aborted."""
    for template in bench.examples:
        session = begin(bench)
        target = session.send(template)
        at_once = target not in session.running
        number = session.abort(target)
        session.run(bench.abort_ns)
        if target in session.running or number in session.running:
            raise ContractBroken(f"{bench.device}: {template} ran on {bench.abort_ns} ns after")
        if not at_once and bench.abort_ns == 0 and not isinstance(session.ended[target], Aborted):
            raise ContractBroken(f"{bench.device}: {session.ended[target]} of what was aborted")
        if not isinstance(session.ended[number], Completed):
            raise ContractBroken(f"{bench.device}: the abort came to {session.ended[number]}")
        session.run(bench.watch_ns)


def check_a_late_exact_arm_is_rejected(bench: Bench) -> None:
    """Never silently shifted. Only for benches with `late`."""
    session = begin(bench)
    session.run(bench.late_ns)
    number = session.send(bench.late)
    outcome = session.ended.get(number)
    if not isinstance(outcome, Rejected) or not outcome.late:
        raise ContractBroken(f"{bench.device}: a late exact arm came to {outcome}")


def check_a_device_that_is_not_ready_rejects(bench: Bench) -> None:
    """It burns no attempts. Only for benches with `unready`."""
    if bench.unready is None:
        return
    session = Session(bench, bench.unready())
    for template in (*bench.setup, *bench.examples):
        number = session.send(template)
        session.run(bench.abort_ns)
        if not isinstance(session.ended.get(number), Rejected):
            raise ContractBroken(f"{bench.device}: not ready, but {session.ended.get(number)}")


def check_a_copy_does_the_same(bench: Bench) -> None:
    """A copy that was made under way reports what the original reports, at the same times."""
    session = begin(bench)
    for template in bench.examples:
        session.send(template)
        twin = copy.deepcopy(session)
        for each in (session, twin):
            each.run(bench.watch_ns // 7)
        if session.log != twin.log or session.device.deadline != twin.device.deadline:
            raise ContractBroken(f"{bench.device}: a copy went another way after {template}")


def check_a_bell_measurement_agrees_with_gates(bench: Bench) -> None:
    """What the memory's H, CNOT, X and Z make, MemoryBell names; both slots are empty afterwards.

    Either slot may be named first. Only for benches with `bell`.
    """
    if bench.bell is None:
        return
    session = begin(bench)
    for slot, other in (bench.bell, bench.bell[::-1]):
        for index in range(4):
            right = sum(_bell(session, slot, other, index) == index for _ in range(SHOTS))
            if right <= SHOTS // 2:
                what = f"Bell state {index} of slots {slot} and {other}"
                raise ContractBroken(f"{bench.device}: {what} was read {right} times of {SHOTS}")


def _bell(session: Session, slot: int, other: int, index: int) -> int | None:
    """Make a Bell state with gates, measure it, and return what was measured."""
    name = session.bench.device
    for place in (slot, other):
        _done(session, MemoryInitialise(name, 0, place), Completed)
    gates: list[tuple[Gate, int, int | None]] = [(Gate.H, slot, None), (Gate.CNOT, slot, other)]
    gates += [(Gate.X, other, None)] * (index >> 1) + [(Gate.Z, other, None)] * (index & 1)
    for gate, target, partner in gates:
        _done(session, MemoryGate(name, 0, gate, target, partner, 0.0), Completed)
    result = _done(session, MemoryBell(name, 0, slot, other), BellResult)
    for place in (slot, other):
        _done(session, MemoryMeasure(name, 0, place, PLAIN_Z), Rejected)
    return result.bell


def _done(session: Session, command: Any, kind: type[E]) -> E:
    """Let a command run and return its terminal event, which must be of this kind."""
    number = session.send(command)
    session.run(session.bench.watch_ns)
    outcome = session.ended.get(number)
    if not isinstance(outcome, kind):
        raise ContractBroken(f"{session.bench.device}: {command} came to {outcome}")
    return outcome


@record
class Give:
    """A random step: the example of this place, or a foreign command behind the last example."""

    place: int


@record
class Revoke:
    """A random step: abort the command of this place among all that were given."""

    place: int


@record
class Wait:
    """A random step: let time pass."""

    duration: Duration


def play(bench: Bench, steps: Iterable[Give | Revoke | Wait]) -> Session:
    """Put a device through any sequence of steps; whatever they are, it must keep its word."""
    session = begin(bench)
    commands = (*bench.examples, *foreign(bench))
    for step in steps:
        match step:
            case Give():
                session.send(commands[step.place % len(commands)])
            case Revoke():
                session.abort(1 + step.place % (session.last + 1))
            case Wait():
                session.run(step.duration)
            case _:
                assert_never(step)
    session.finish()
    session.run(bench.watch_ns)
    return session


CHECKS: tuple[Callable[[Bench], None], ...] = (
    check_each_command_ends_once,
    check_unknown_commands_are_rejected,
    check_an_abort_of_nothing_completes,
    check_aborts_are_bounded,
    check_a_late_exact_arm_is_rejected,
    check_a_device_that_is_not_ready_rejects,
    check_a_copy_does_the_same,
    check_a_bell_measurement_agrees_with_gates,
)


def checks_for(bench: Bench) -> tuple[Callable[[Bench], None], ...]:
    """Return the checks that say something about this device."""
    return tuple(
        check
        for check in CHECKS
        if not (check is check_a_late_exact_arm_is_rejected and bench.late is None)
        and not (check is check_a_device_that_is_not_ready_rejects and bench.unready is None)
        and not (check is check_a_bell_measurement_agrees_with_gates and bench.bell is None)
    )

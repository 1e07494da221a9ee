"""Middleware: pure wrappers around a device machine, the same live and on the heap.

A wrapper takes what the device takes and reports what the device reports, so wrappers nest, and
wrap a single device (bare events) as well as a server of many (:mod:`qstack.hal.server`).
:class:`Recorder` keeps what went in and out; :class:`Faults` makes a good device a bad one, as
its plan and its chance say, without ever breaking the contract of a device: what is faulted
ends in Faulted, once, and terminal events are never lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import attrs

from qstack.errors import ConfigError
from qstack.hal.commands import ends
from qstack.hal.contract import body_of
from qstack.hal.server import Commanded, OwnerGone, Reported
from qstack.machine import TICK, Machine, Tick, Up, record
from qstack.messages.devices import Abort, Calibration, DeviceState, Faulted, Rejected
from qstack.units import Chance, Duration, Instant, NodeName, earliest


@record
class Step:
    """One step of a device: what it took, when, and all that it answered."""

    now: Instant
    event: Any
    answers: tuple[Any, ...]


class Recorder:
    """Keeps the last `keep` steps of a device; `steps` can be compared with :func:`differs`."""

    def __init__(self, device: Machine, keep: int = 10_000) -> None:
        self._device = device
        self.steps: deque[Step] = deque(maxlen=keep)

    @property
    def deadline(self) -> Instant | None:
        """The device's own."""
        return self._device.deadline

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Hand the event on and keep what came of it."""
        answers = self._device.handle(event, now)
        self.steps.append(Step(now, event, tuple(answers)))
        return answers


def differs(steps: Iterable[Step], device: Machine) -> Step | None:
    """Step a fresh device with a whole recording; return its first step that came out otherwise.

    The step returned is the device's own; None where the two agree to the end.
    """
    for step in steps:
        answers = tuple(device.handle(step.event, step.now))
        if answers != step.answers:
            return Step(step.now, step.event, answers)
    return None


@record
class FaultPlan:
    """How often what goes wrong: probabilities per event of a command.

    `late`: the event, and what follows it, comes `late_ns` later, its age grown by that much.
    `dropped`: a report that ends nothing (clicks, outcomes, tags) is lost. `faulted`: the
    command ends here in Faulted, and the device is told to abort it; neither an Abort nor a
    rejection is ever faulted. ConfigError, from :class:`Faults`, for what is no probability.
    """

    late: float = 0.0
    late_ns: Duration = 0
    dropped: float = 0.0
    faulted: float = 0.0


class Faults:
    """A device, or a server of devices, that is late, loses reports and fails; see the module.

    `counters`: late, dropped, faulted. Its aborts have negative ids, so that they never meet a
    commander's.
    """

    def __init__(self, device: Machine, plan: FaultPlan, chance: Chance) -> None:
        rates = {"late": plan.late, "dropped": plan.dropped, "faulted": plan.faulted}
        wrong = [f"{name} = {p} is not in [0, 1]" for name, p in rates.items() if not 0 <= p <= 1]
        if plan.late_ns < 0:
            wrong.append(f"late_ns = {plan.late_ns} is negative")
        if wrong:
            raise ConfigError(wrong)
        self._device, self._plan = device, plan
        self._chance = chance
        self.counters = {"late": 0, "dropped": 0, "faulted": 0}
        self._queue: deque[tuple[Instant, Instant, Any]] = deque()
        self._dead: set[tuple[NodeName, str, int]] = set()
        self._spared: set[tuple[NodeName, str, int]] = set()
        self._aborts = 0

    @property
    def deadline(self) -> Instant | None:
        """The device's own, or when what is late comes."""
        return earliest(self._device.deadline, self._queue[0][0] if self._queue else None)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Hand the event on; return what is to be seen of the answers by now."""
        if type(event) is OwnerGone:
            # Nobody is left to be told, and its ids may come again.
            kept = [entry for entry in self._queue if _owner(entry[2]) != event.owner]
            self._queue = deque(kept)
            self._dead = {key for key in self._dead if key[0] != event.owner}
            self._spared = {key for key in self._spared if key[0] != event.owner}
        command = event.body if type(event) is Commanded else event
        if type(command) is Abort:
            owner = event.owner if type(event) is Commanded else ""
            self._spared.add((owner, command.device, command.command))
        deadline = self._device.deadline
        if type(event) is not Tick:
            self._through(self._device.handle(event, now), now)
        elif deadline is not None and deadline <= now:
            self._through(self._device.handle(TICK, now), now)
        return self._due(now)

    def _through(self, actions: Iterable[Any], now: Instant) -> None:
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            body = body_of(action)
            if isinstance(body, DeviceState | Calibration):
                self._put(action, now)
                continue
            key = (_owner(action), body.device, body.command)
            if key in self._dead:
                if ends(body):
                    self._dead.discard(key)
            elif key in self._spared or type(body) is Rejected:
                self._spared.discard(key)
                self._put(action, now)
            elif self._happens("faulted"):
                self._put(_like(action, Faulted(body.device, body.command, "injected fault")), now)
                if not ends(body):
                    self._dead.add(key)
                    waiting.extend(self._abort(key, now))
            elif ends(body) or not self._happens("dropped"):
                self._put(action, now)

    def _abort(self, key: tuple[NodeName, str, int], now: Instant) -> list[Any]:
        owner, device, command = key
        self._aborts -= 1
        self._dead.add((owner, device, self._aborts))
        abort: Any = Abort(device, self._aborts, command)
        return self._device.handle(Commanded(owner, abort) if owner else abort, now)

    def _put(self, action: Any, now: Instant) -> None:
        wait = self._plan.late_ns if self._happens("late") else 0
        # Nothing overtakes: events of a device stay in order.
        at = max(now + wait, self._queue[-1][0] if self._queue else now)
        self._queue.append((at, now, action))

    def _due(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        while self._queue and self._queue[0][0] <= now:
            _, since, action = self._queue.popleft()
            body = body_of(action)
            if now > since and hasattr(body, "age_ns"):
                action = _like(action, attrs.evolve(body, age_ns=body.age_ns + now - since))
            out.append(action)
        return out

    def _happens(self, what: str) -> bool:
        plan = self._plan
        rate = {"late": plan.late, "dropped": plan.dropped, "faulted": plan.faulted}[what]
        happens = rate > 0.0 and self._chance.uniform() < rate
        self.counters[what] += happens
        return happens


def _owner(action: Any) -> NodeName:
    """Whom a server's report is for; empty for a bare device."""
    event = action.event if type(action) is Up else action
    return event.owner if type(event) is Reported else ""


def _like(action: Any, body: Any) -> Any:
    """The body, wrapped as `action` is."""
    event = action.event if type(action) is Up else action
    inner = Reported(event.owner, body) if type(event) is Reported else body
    return Up(inner) if type(action) is Up else inner

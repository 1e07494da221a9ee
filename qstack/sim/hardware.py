"""Hardware that answers late, or for a while not at all: a wrapper around the world.

It follows the rules of :mod:`qstack.hal.middleware`: what takes and reports what the world does is
a world; nothing a device says is lost, and nothing that it says overtakes; ages grow by the
time that was waited. Random trouble per event is that module's `Faults`; here each device has
its own, switched from outside. Devices that fail are the world's own affair (Break and Mend).
"""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs

from qstack.hal.contract import body_of
from qstack.hal.server import OwnerGone, Reported
from qstack.machine import TICK, Machine, Tick, Up, record
from qstack.units import Duration, Instant, earliest


@record
class Linger:
    """From now on a device answers `late_ns` late; 0: no longer."""

    device: str
    late_ns: Duration


@record
class Stall:
    """From now on a device says nothing, until :class:`Resume`."""

    device: str


@record
class Resume:
    """A device that was stalled says all that it has to say."""

    device: str


@attrs.define
class _Lane:
    """What a device has to say: (due, since, action), in order."""

    queue: deque[tuple[Instant, Instant, Any]] = attrs.field(factory=deque)
    late_ns: Duration = 0
    stalled: bool = False

    @property
    def due(self) -> Instant | None:
        if self.stalled or not self.queue:
            return None
        return self.queue[0][0]


class SlowHardware:
    """A world, some of whose devices are slow at times. `delayed` counts events, by device."""

    def __init__(self, world: Machine) -> None:
        self._world = world
        self._lanes: dict[str, _Lane] = {}
        self.delayed: dict[str, int] = {}

    @property
    def deadline(self) -> Instant | None:
        """The world's own, or when what is late comes."""
        return earliest(self._world.deadline, *(lane.due for lane in self._lanes.values()))

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take what the world takes, or a change of a device; return what is to be seen by now."""
        out: list[Any] = []
        match event:
            case Linger():
                self._lane(event.device).late_ns = event.late_ns
            case Stall():
                self._lane(event.device).stalled = True
            case Resume():
                self._lane(event.device).stalled = False
            case Tick():
                deadline = self._world.deadline
                if deadline is not None and deadline <= now:
                    self._through(self._world.handle(TICK, now), now, out)
            case _:
                if type(event) is OwnerGone:
                    self._forget(event)
                self._through(self._world.handle(event, now), now, out)
        return out + self._due(now) if self._lanes else out

    def _lane(self, device: str) -> _Lane:
        return self._lanes.setdefault(device, _Lane())

    def _forget(self, gone: OwnerGone) -> None:
        for lane in self._lanes.values():
            kept = [entry for entry in lane.queue if entry[2].event.owner != gone.owner]
            lane.queue = deque(kept)

    def _through(self, actions: list[Any], now: Instant, out: list[Any]) -> None:
        for action in actions:
            device = body_of(action).device
            lane = self._lanes.get(device)
            if lane is None or not (lane.late_ns or lane.stalled or lane.queue):
                out.append(action)
                continue
            self.delayed[device] = self.delayed.get(device, 0) + 1
            lane.queue.append((now + lane.late_ns, now, action))

    def _due(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        for device, lane in list(self._lanes.items()):
            while lane.due is not None and lane.queue[0][0] <= now:
                _, since, action = lane.queue.popleft()
                out.append(_aged(action, now - since))
            if not (lane.queue or lane.stalled or lane.late_ns):
                del self._lanes[device]
        return out


def _aged(action: Up, waited: Duration) -> Up:
    body = body_of(action)
    if not waited or not hasattr(body, "age_ns"):
        return action
    return Up(Reported(action.event.owner, attrs.evolve(body, age_ns=body.age_ns + waited)))

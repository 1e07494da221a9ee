"""A schedule of faults, played on a virtual network."""

from __future__ import annotations

from collections import Counter
from functools import partial

import attrs

from qstack.messages.devices import DeviceStatus
from qstack.sim.faults import (
    CLOCK_DRIFT,
    CLOCK_OFFSET,
    CRASH_NODE,
    CRASH_STATION,
    HARDWARE_FAIL,
    HARDWARE_LATE,
    HARDWARE_STALL,
    PARTITION,
    Fault,
    clock_of,
    wire_changes,
)
from qstack.sim.hardware import Linger, Resume, SlowHardware, Stall
from qstack.sim.heap import WORLD
from qstack.sim.network import VirtualNetwork
from qstack.sim.schedule import Schedule, check
from qstack.sim.wiring import Matches
from qstack.sim.world import Break, Mend
from qstack.units import NodeName

_SLOW = (HARDWARE_STALL, HARDWARE_LATE)


@attrs.define
class Player:
    """What of a schedule is on at present: `active`; `played` counts what has begun, by kind.

    Where faults of a kind overlap at one place, it is whole again when the last of them ends.
    """

    net: VirtualNetwork
    schedule: Schedule
    active: list[Fault] = attrs.field(factory=list)
    played: Counter[str] = attrs.field(factory=Counter)
    _handles: dict[int, int] = attrs.field(factory=dict)

    def begin(self, number: int) -> None:
        """Let the fault of this place in the schedule begin."""
        fault = self.schedule.faults[number]
        self.active.append(fault)
        self.played[fault.kind] += 1
        self._turn(number, fault, on=True)

    def end(self, number: int) -> None:
        """Let it end."""
        fault = self.schedule.faults[number]
        # By identity: two faults may be alike.
        self.active = [each for each in self.active if each is not fault]
        self._turn(number, fault, on=False)

    def _turn(self, number: int, fault: Fault, *, on: bool) -> None:
        kind = fault.kind
        if kind in (CRASH_NODE, CRASH_STATION):
            for name in fault.where:
                self._crash(name)
        elif kind in (CLOCK_OFFSET, CLOCK_DRIFT):
            for name in fault.where:
                self._set_clock(name)
        elif kind in (HARDWARE_FAIL, HARDWARE_STALL, HARDWARE_LATE):
            for device in fault.where:
                self._on_hardware(kind, device)
        else:
            self._on_wires(number, fault, on=on)

    def _at(self, place: str, *kinds: str) -> list[Fault]:
        return [each for each in self.active if each.kind in kinds and place in each.where]

    def _crash(self, name: NodeName) -> None:
        down, lives = bool(self._at(name, CRASH_NODE, CRASH_STATION)), self.net.heap.lives(name)
        if down and lives:
            self.net.crash(name)
        elif not down and not lives:
            self.net.start(name)

    def _set_clock(self, name: NodeName) -> None:
        clock = self.net.own_clock(name)
        for fault in self._at(name, CLOCK_OFFSET, CLOCK_DRIFT):
            clock = clock.plus(clock_of(fault))
        self.net.set_clock(name, clock)

    def _on_hardware(self, kind: str, device: str) -> None:
        heap, on = self.net.heap, self._at(device, kind)
        if kind == HARDWARE_FAIL:
            broken = Break(device, DeviceStatus.FAULT, "injected fault")
            heap.post(WORLD, broken if on else Mend(device))
        elif kind == HARDWARE_STALL:
            heap.post(WORLD, Stall(device) if on else Resume(device))
        else:
            late_ns = max((int(fault.amount("late_ns")) for fault in on), default=0)
            heap.post(WORLD, Linger(device, late_ns))

    def _on_wires(self, number: int, fault: Fault, *, on: bool) -> None:
        wiring = self.net.heap.wiring
        if not on:
            wiring.calm(self._handles.pop(number))
        elif fault.kind == PARTITION:
            self._handles[number] = wiring.part(_between_sides(fault, self.net))
        else:
            matches = _on_paths(fault, self.net)
            self._handles[number] = wiring.disturb(matches, **wire_changes(fault))


def play(net: VirtualNetwork, schedule: Schedule) -> Player:
    """Let all faults of a schedule come and go, from now on.

    A process that crashed is started again, with a new boot id, when its fault ends; one whose
    clock is wrong shows the offset from its next start on, and drifts at once. ConfigError
    with all that this network cannot do.
    """
    check(schedule, net.places)
    player = Player(net, schedule)
    heap = net.heap
    if any(fault.kind in _SLOW for fault in schedule.faults):
        world = heap.host(WORLD)
        if not isinstance(world, SlowHardware):
            heap.add(WORLD, SlowHardware(world))
    for number, fault in enumerate(schedule.faults):
        end = min(fault.at_ns + fault.for_ns, schedule.heal_at_ns)
        if fault.at_ns < end:
            heap.call(heap.now + fault.at_ns, partial(player.begin, number))
            heap.call(heap.now + end, partial(player.end, number))
    return player


def _on_paths(fault: Fault, net: VirtualNetwork) -> Matches:
    where, parties = frozenset(fault.where), frozenset(net.places.parties)

    def matches(source: NodeName, destination: NodeName) -> bool:
        ends = {source, destination}
        if len(where) == 2:
            return ends == where
        # A user's wires are touched only where it is named.
        return where <= ends and (ends <= parties or not where <= parties)

    return matches


def _between_sides(fault: Fault, net: VirtualNetwork) -> Matches:
    side = frozenset(fault.where)
    others = frozenset(fault.apart) or frozenset(net.places.parties) - side
    both = not fault.amount("one_way")

    def matches(source: NodeName, destination: NodeName) -> bool:
        there = source in side and destination in others
        return there or (both and source in others and destination in side)

    return matches

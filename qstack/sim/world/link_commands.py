"""Commands for emitters and analysers: arm, measure, open, start the clock."""

from __future__ import annotations

from qstack.messages.devices import (
    Aborted,
    Completed,
    EmitterArm,
    EmitterMeasure,
    StationClock,
    StationCount,
    StationCounts,
    StationOpen,
)
from qstack.sim.devices import AnalyserParameters
from qstack.sim.world.arms import Arm, Clock, Opening
from qstack.sim.world.hall import WORKING, Hall, Refused
from qstack.sim.world.links import FOREVER, Link
from qstack.sim.world.parameters import parameters_of
from qstack.units import LinkName, NodeName


def arm(hall: Hall, owner: NodeName, command: EmitterArm) -> None:
    """Arm a slot. Refused where the slot, the link or the cycle does not allow it."""
    place = hall.places.get((command.device, command.link))
    if place is None:
        raise _no_end(hall, command.device, command.link)
    if not place.keeps:
        raise Refused(f"{command.device} cannot keep its qubit")
    memory, slot = place.memory, command.slot
    if not 0 <= slot < memory.parameters.communication:
        raise Refused(f"{memory.name} has no communication slot {slot}")
    if slot in memory.armed:
        raise Refused(f"slot {slot} is armed already")
    if hall.status.get(memory.name) not in WORKING:
        raise Refused(f"{memory.name} is not ready")
    if not place.herald_line and command.cycles != 1:
        raise Refused(f"{command.device} has no herald line: cycles must be 1")
    run = Arm(owner, command.device, command.command, place, command.setting)
    run.slot, run.once = slot, not place.herald_line
    _enter(hall, run, command)
    if slot in memory.qubits:
        memory.clear(slot)
    memory.armed[slot] = run


def measure(hall: Hall, owner: NodeName, command: EmitterMeasure) -> None:
    """Attempt and measure at once."""
    place = hall.places.get((command.device, command.link))
    if place is None:
        raise _no_end(hall, command.device, command.link)
    if command.pairs < 1:
        raise Refused(f"pairs = {command.pairs}: nothing to do")
    run = Arm(owner, command.device, command.command, place, command.setting)
    run.plan, run.left = command.plan, command.pairs
    _enter(hall, run, command)


def clock(hall: Hall, owner: NodeName, command: StationClock) -> None:
    """Begin cycle 0 of a link now."""
    link = _analysed(hall, command.device, command.link)
    if command.cycle_ns < 1:
        raise Refused(f"cycle_ns = {command.cycle_ns} is not positive")
    link.advance(hall.now)
    arms = [run for run in hall.running.values() if isinstance(run, Arm) and run.link is link]
    link.start_clock(Clock(owner, command.device, hall.now, command.cycle_ns), arms)
    link.replan()
    hall.say(owner, Completed(command.device, command.command))


def open_analyser(hall: Hall, owner: NodeName, command: StationOpen) -> None:
    """Open the analyser for a link, in place of what was open for it."""
    link = _analysed(hall, command.device, command.link)
    clock_now = link.clock
    if clock_now is None:
        raise Refused(f"the clock of {command.link} was not started")
    if command.cycles < 1 or command.modes < 1:
        raise Refused(f"cycles = {command.cycles}, modes = {command.modes}: nothing to do")
    switch = _others_closed(hall, command)
    link.advance(hall.now)
    old = link.opening
    if old is not None:
        hall.finish(old)
        hall.say(old.owner, Aborted(old.device, old.command, "replaced"))
    run = Opening(clock_now, link, command.command, command.setting, command.window_ps)
    run.owner = owner
    first = max(command.first_cycle, link.next)
    if switch:
        first = max(first, clock_now.begun(hall.now + switch) + 1)
    run.start, run.stop = first, min(first + command.cycles, FOREVER)
    run.modes = min(command.modes, link.parameters.max_modes)
    run.report_failures = command.report_failures
    run.remembers = bool(link.optics.remembers(clock_now.cycle_ns, run.window_ps))
    hall.start(run)
    link.opening = run
    hall.served[command.device] = command.link
    link.replan()


def count(hall: Hall, owner: NodeName, command: StationCount) -> None:
    """Tell what was counted on a link, up to now."""
    link = _analysed(hall, command.device, command.link)
    link.advance(hall.now)
    attempts, singles, heralds = link.counted()
    body = StationCounts(
        command.device,
        command.command,
        command.link,
        attempts,
        singles,
        tuple(sorted(heralds.items())),
    )
    hall.say(owner, body)


def _others_closed(hall: Hall, command: StationOpen) -> int:
    """Refuse while the analyser serves another link; return the time that switching takes."""
    for other in hall.links.values():
        serves = other.parameters.analyser == command.device and other.opening is not None
        if serves and other.parameters.name != command.link:
            raise Refused(f"{command.device} is open for {other.parameters.name}")
    last = hall.served.get(command.device, command.link)
    analyser = parameters_of(hall.devices, command.device, AnalyserParameters)
    return analyser.switch_ns if last != command.link else 0


def _enter(hall: Hall, run: Arm, command: EmitterArm | EmitterMeasure) -> None:
    """Let an arm take part in the cycles that it names."""
    link: Link = run.link
    if link.clock is None:
        raise Refused(f"the clock of {command.link} was not started")
    if command.cycles < 1:
        raise Refused(f"cycles = {command.cycles}: nothing to do")
    link.advance(hall.now)
    start, following = command.not_before, link.next
    if start < following:
        if command.exact:
            raise Refused(f"cycle {start} has begun", late=True)
        start = following
    if 0 < command.before <= start:
        raise Refused(f"cycle {command.before} has begun, before which it was to be", late=True)
    run.start, stop = start, start + command.cycles
    if command.before:
        stop = min(stop, command.before)
    run.stop = stop if stop < FOREVER else FOREVER
    hall.start(run)
    link.add(run)


def _no_end(hall: Hall, device: str, link: LinkName) -> Refused:
    if link not in hall.links:
        return Refused(f"there is no link {link!r}")
    return Refused(f"{device} is no end of {link}")


def _analysed(hall: Hall, device: str, name: LinkName) -> Link:
    link = hall.links.get(name)
    if link is None or link.parameters.analyser != device:
        raise Refused(f"{device} is not the analyser of a link {name!r}")
    return link

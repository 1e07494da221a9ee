"""Faults as values: what goes wrong, when, for how long, where, and how badly.

================  ====================================  ========================================
kind              `where`                               amounts
================  ====================================  ========================================
loss              wires, see below                      rate, burst
duplicate         wires                                 rate
reorder           wires                                 rate, reorder_ns
corrupt           wires                                 rate, checksum (0 or 1)
bandwidth         wires                                 bits_per_s, queue_bytes
partition         one side; `apart` the other           one_way (0 or 1)
clock-offset      parties                               offset_ps, timing_ps
clock-drift       parties                               drift_ppt, timing_ppt
crash-node        end nodes                             -
crash-station     stations                              -
hardware-fail     devices                               -
hardware-stall    devices                               -
hardware-late     devices                               late_ns
================  ====================================  ========================================

Wires: none named are all between the network's parties; one name is all wires of that host; two
names are the wire between them, both ways. An empty `apart` is everybody else. What the amounts
of wires and clocks mean: :mod:`qstack.sim.wires`, :mod:`qstack.sim.clocks`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from qstack.errors import ConfigError
from qstack.machine import record
from qstack.sim.clocks import NodeClock, check_clock
from qstack.sim.wires import Wire, check_wire
from qstack.units import MICROSECOND, MILLISECOND, Duration, NodeName

Amounts: TypeAlias = tuple[tuple[str, float], ...]

WIRES, SIDES, PARTIES, NODES, STATIONS, DEVICES = (
    "wires",
    "sides",
    "parties",
    "nodes",
    "stations",
    "devices",
)

LOSS, DUPLICATE, REORDER, CORRUPT, BANDWIDTH, PARTITION = (
    "loss",
    "duplicate",
    "reorder",
    "corrupt",
    "bandwidth",
    "partition",
)
CLOCK_OFFSET, CLOCK_DRIFT, CRASH_NODE, CRASH_STATION = (
    "clock-offset",
    "clock-drift",
    "crash-node",
    "crash-station",
)
HARDWARE_FAIL, HARDWARE_STALL, HARDWARE_LATE = "hardware-fail", "hardware-stall", "hardware-late"


@record
class FaultKind:
    """Where a kind of fault is, and its amounts with the values they have where none are given."""

    place: str
    amounts: Amounts = ()


KINDS: dict[str, FaultKind] = {
    LOSS: FaultKind(WIRES, (("rate", 0.1), ("burst", 1.0))),
    DUPLICATE: FaultKind(WIRES, (("rate", 0.1),)),
    REORDER: FaultKind(WIRES, (("rate", 0.1), ("reorder_ns", float(MILLISECOND)))),
    CORRUPT: FaultKind(WIRES, (("rate", 0.1), ("checksum", 1.0))),
    BANDWIDTH: FaultKind(WIRES, (("bits_per_s", 1e7), ("queue_bytes", 65_536.0))),
    PARTITION: FaultKind(SIDES, (("one_way", 0.0),)),
    CLOCK_OFFSET: FaultKind(PARTIES, (("offset_ps", 0.0), ("timing_ps", 0.0))),
    CLOCK_DRIFT: FaultKind(PARTIES, (("drift_ppt", 0.0), ("timing_ppt", 0.0))),
    CRASH_NODE: FaultKind(NODES),
    CRASH_STATION: FaultKind(STATIONS),
    HARDWARE_FAIL: FaultKind(DEVICES),
    HARDWARE_STALL: FaultKind(DEVICES),
    HARDWARE_LATE: FaultKind(DEVICES, (("late_ns", float(100 * MICROSECOND)),)),
}
"""Every kind of fault, by name."""


@record
class Fault:
    """One thing that goes wrong, from `at_ns` on for `for_ns` of lab time; see the module."""

    kind: str
    at_ns: Duration
    for_ns: Duration
    where: tuple[str, ...] = ()
    apart: tuple[NodeName, ...] = ()
    amounts: Amounts = ()

    def amount(self, name: str) -> float:
        """Return how bad it is in this respect; its kind's default where it does not say."""
        for mine, value in (*self.amounts, *KINDS[self.kind].amounts):
            if mine == name:
                return value
        raise KeyError(name)


@record
class Places:
    """Where things can go wrong: the names of a network, each sorted."""

    nodes: tuple[NodeName, ...]
    stations: tuple[NodeName, ...]
    devices: tuple[str, ...]

    @property
    def parties(self) -> tuple[NodeName, ...]:
        """Nodes and stations."""
        return tuple(sorted((*self.nodes, *self.stations)))

    def of(self, place: str) -> tuple[str, ...]:
        """Return the names that a fault of this place may name."""
        match place:
            case "nodes":
                return self.nodes
            case "stations":
                return self.stations
            case "devices":
                return self.devices
            case _:
                return self.parties


def wire_changes(fault: Fault) -> dict[str, Any]:
    """Return what a fault of wires changes, as fields of a wire."""
    amount = fault.amount
    match fault.kind:
        case "loss":
            return {"loss": amount("rate"), "burst": amount("burst")}
        case "duplicate":
            return {"duplicate": amount("rate")}
        case "reorder":
            return {"reorder": amount("rate"), "reorder_ns": int(amount("reorder_ns"))}
        case "corrupt":
            return {"corrupt": amount("rate"), "checksum": bool(amount("checksum"))}
        case "bandwidth":
            bits, queue = int(amount("bits_per_s")), int(amount("queue_bytes"))
            return {"bits_per_s": bits, "queue_bytes": queue}
        case _:
            return {}


def clock_of(fault: Fault) -> NodeClock:
    """Return how wrong a fault of clocks makes a node's."""
    if fault.kind == CLOCK_OFFSET:
        offset, timing = int(fault.amount("offset_ps")), int(fault.amount("timing_ps"))
        return NodeClock(offset_ps=offset, timing_ps=timing)
    drift, timing = int(fault.amount("drift_ppt")), int(fault.amount("timing_ppt"))
    return NodeClock(drift_ppt=drift, timing_ppt=timing)


def problems_of(fault: Fault, places: Places | None = None) -> list[str]:
    """Return all that no network could do, or that one with these places cannot."""
    kind = KINDS.get(fault.kind)
    if kind is None:
        return [f"there is no fault called {fault.kind!r}"]
    problems = []
    if fault.at_ns < 0 or fault.for_ns < 0:
        problems.append("at_ns and for_ns are not negative")
    known = {name for name, _ in kind.amounts}
    unknown = [f"{fault.kind} has no {name!r}" for name, _ in fault.amounts if name not in known]
    problems += unknown or _impossible(fault)
    return problems if places is None else problems + _nowhere(fault, kind.place, places)


def _impossible(fault: Fault) -> list[str]:
    untyped: Any = Wire
    try:
        if changes := wire_changes(fault):
            check_wire(untyped(0, **changes))
        elif fault.kind in (CLOCK_OFFSET, CLOCK_DRIFT):
            check_clock(clock_of(fault))
    except ConfigError as error:
        return list(error.problems)
    if fault.kind == HARDWARE_LATE and fault.amount("late_ns") < 0:
        return ["late_ns is not negative"]
    return []


def _nowhere(fault: Fault, place: str, places: Places) -> list[str]:
    if place == WIRES:
        # Wires of users may be named too, and those are not among the places.
        return ["a wire has two ends"] if len(fault.where) > 2 else []
    names = places.of(place)
    if not fault.where:
        return [f"{fault.kind} must say where: {', '.join(names)}"]
    wrong = [name for name in (*fault.where, *fault.apart) if name not in names]
    return [f"{name!r} is none of {', '.join(names)}" for name in wrong]

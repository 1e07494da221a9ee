"""Schedules of faults: values that are one line of text, and can be drawn from a seed.

A :class:`Schedule` is a list of faults (:mod:`qstack.sim.faults`) and the instant at which all is
whole again, both from when it is applied. Printed (:meth:`Schedule.line`) and read back
(:func:`read`) it makes the same run again; :func:`draw` makes one from a seed. It is carried out
by :func:`qstack.sim.playing.play`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from qstack.errors import ConfigError
from qstack.machine import record
from qstack.sim.faults import (
    BANDWIDTH,
    CLOCK_DRIFT,
    CLOCK_OFFSET,
    CORRUPT,
    DUPLICATE,
    HARDWARE_LATE,
    KINDS,
    LOSS,
    PARTITION,
    REORDER,
    SIDES,
    WIRES,
    Amounts,
    Fault,
    Places,
    problems_of,
)
from qstack.units import MICROSECOND, MILLISECOND, Chance, Duration

MOST_OF_A_KIND = 3


@record
class Schedule:
    """What goes wrong in a run; faults that would last beyond `heal_at_ns` end then."""

    faults: tuple[Fault, ...]
    heal_at_ns: Duration

    def line(self) -> str:
        """Return the schedule as one line of JSON, which :func:`read` takes."""
        faults = []
        for fault in self.faults:
            entry: dict[str, Any] = {"kind": fault.kind, "at_ns": fault.at_ns}
            entry["for_ns"] = fault.for_ns
            if fault.where:
                entry["where"] = list(fault.where)
            if fault.apart:
                entry["apart"] = list(fault.apart)
            faults.append(entry | dict(fault.amounts))
        return json.dumps({"heal_at_ns": self.heal_at_ns, "faults": faults}, separators=(",", ":"))


def read(line: str) -> Schedule:
    """Return the schedule that a line of JSON describes; ConfigError with all that is wrong."""
    try:
        data = json.loads(line)
        heal, entries = data.pop("heal_at_ns"), data.pop("faults")
        numbered = list(enumerate(entries))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError([f"this is no schedule of faults: {error!r}"]) from error
    problems = [f"unknown key {key!r}" for key in data]
    if type(heal) is not int or heal < 0:
        problems.append(f"heal_at_ns = {heal!r} is no duration")
    faults = []
    for number, entry in numbered:
        try:
            faults.append(_fault(entry))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"fault {number}: {error!r}")
    if problems:
        raise ConfigError(problems)
    schedule = Schedule(tuple(faults), heal)
    check(schedule)
    return schedule


def _fault(entry: dict[str, Any]) -> Fault:
    left = dict(entry)
    kind, at_ns, for_ns = left.pop("kind"), left.pop("at_ns"), left.pop("for_ns")
    where, apart = tuple(left.pop("where", ())), tuple(left.pop("apart", ()))
    if not all(type(name) is str for name in (*where, *apart)):
        raise TypeError(f"where = {where}, apart = {apart} are lists of names")
    amounts = tuple((name, float(value)) for name, value in left.items())
    return Fault(str(kind), int(at_ns), int(for_ns), where, apart, amounts)


def check(schedule: Schedule, places: Places | None = None) -> None:
    """Raise ConfigError with all that no network could do, or that one of these places cannot."""
    problems = [
        f"fault {number}: {problem}"
        for number, fault in enumerate(schedule.faults)
        for problem in problems_of(fault, places)
    ]
    if problems:
        raise ConfigError(problems)


# --- drawn from a seed ------------------------------------------------------------------------


def draw(seed: int | str, kinds: Iterable[str], places: Places, heal_at_ns: Duration) -> Schedule:
    """Return a schedule of one to three faults of each of these kinds, before `heal_at_ns`.

    Each kind draws for itself, so that leaving one out does not change the others. A kind that
    has no place in this network is left out. ConfigError for a kind that does not exist.
    """
    wanted = sorted(set(kinds))
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise ConfigError([f"there is no fault called {kind!r}" for kind in unknown])
    faults: list[Fault] = []
    for kind in wanted:
        chance = Chance(seed).fork(f"fault {kind}")
        if not places.of(KINDS[kind].place):
            continue
        for _ in range(1 + chance.below(MOST_OF_A_KIND)):
            where = _somewhere(chance, KINDS[kind].place, places)
            at_ns = chance.below(max(1, heal_at_ns * 9 // 10))
            for_ns = 1 + int(_between(chance, 1e-3, 0.5) * heal_at_ns)
            amounts = _DRAWN[kind](chance) if kind in _DRAWN else ()
            faults.append(Fault(kind, at_ns, for_ns, where, (), amounts))
    return Schedule(tuple(sorted(faults, key=lambda fault: fault.at_ns)), heal_at_ns)


def _somewhere(chance: Chance, place: str, places: Places) -> tuple[str, ...]:
    names = list(places.of(place))
    if place == WIRES:
        count = chance.below(3)
    else:
        count = 1 + chance.below(len(names) - 1) if place == SIDES and len(names) > 1 else 1
    taken = [names.pop(chance.below(len(names))) for _ in range(min(count, len(names)))]
    return tuple(sorted(taken))


def _between(chance: Chance, least: float, most: float) -> float:
    """Log-uniform, with three digits so that lines stay short."""
    return float(f"{least * (most / least) ** chance.uniform():.3g}")


def _rate(chance: Chance) -> Amounts:
    return (("rate", _between(chance, 0.01, 0.5)),)


def _loss(chance: Chance) -> Amounts:
    burst = 1.0 if chance.uniform() < 1 / 2 else _between(chance, 2, 20)
    return (*_rate(chance), ("burst", burst))


def _reorder(chance: Chance) -> Amounts:
    span = _between(chance, 20 * MICROSECOND, 20 * MILLISECOND)
    return (*_rate(chance), ("reorder_ns", span))


def _bandwidth(chance: Chance) -> Amounts:
    bits, queue = _between(chance, 2e6, 1e9), _between(chance, 4_000, 65_536)
    return ("bits_per_s", bits), ("queue_bytes", queue)


def _offset(chance: Chance) -> Amounts:
    """The computer off by up to twenty minutes, or the timing hardware by up to a nanosecond."""
    if chance.uniform() < 1 / 2:
        return (("offset_ps", float(chance.below(1 << 50))),)
    return (("timing_ps", float(chance.below(2_000) - 1_000)),)


def _drift(chance: Chance) -> Amounts:
    """The computer by up to 100 ppm, or the timing hardware by up to 10 ppb."""
    sign = 1 if chance.uniform() < 1 / 2 else -1
    if chance.uniform() < 1 / 2:
        return (("drift_ppt", sign * _between(chance, 1e5, 1e8)),)
    return (("timing_ppt", sign * _between(chance, 100, 1e4)),)


_DRAWN: dict[str, Callable[[Chance], Amounts]] = {
    LOSS: _loss,
    DUPLICATE: _rate,
    REORDER: _reorder,
    CORRUPT: lambda chance: (*_rate(chance), ("checksum", 1.0)),
    BANDWIDTH: _bandwidth,
    PARTITION: lambda chance: (("one_way", float(chance.uniform() < 1 / 3)),),
    CLOCK_OFFSET: _offset,
    CLOCK_DRIFT: _drift,
    HARDWARE_LATE: lambda chance: (("late_ns", _between(chance, MICROSECOND, 5 * MILLISECOND)),),
}

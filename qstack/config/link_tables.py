"""The links of a network file: their tables, the devices they mean, and whether they can work."""

from __future__ import annotations

import math
from typing import Any

from qstack.adjacency.service import SILENT_INTERVALS
from qstack.config.links import optics, point
from qstack.config.records import (
    FIBRE_M_PER_S,
    ArmFile,
    LinkFile,
    NodeFile,
    SettingFile,
    sheet_of,
)
from qstack.config.settings import read_settings
from qstack.config.structure import Problems, structure, table
from qstack.config.windows import check_windows, read_windows
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.station import StationSheet
from qstack.link.budget import BARRETT_KOK, PAIR_SOURCE, POLARISATION, SINGLE_CLICK, predict
from qstack.link.scheduler import SCHEDULERS
from qstack.machine import record
from qstack.units import MILLISECOND, Duration, NodeName
from qstack.windows import Windows

MIDPOINT_BSM = "midpoint-bsm"
MIDPOINT_SOURCE = "midpoint-source"

SUITS = {
    "presence": (SINGLE_CLICK, BARRETT_KOK),
    "polarisation": (POLARISATION, BARRETT_KOK),
    "time-bin": (POLARISATION, BARRETT_KOK),
    "pairs": (PAIR_SOURCE,),
}
"""Which measurements an encoding of photons suits; unknown words suit all."""

CONFIRM_WALL_NS = 50 * MILLISECOND
"""Default patience for a confirmation: many times a loaded computer's reaction, in wall time."""

HORIZON_INTERVALS = SILENT_INTERVALS + 2
"""Default horizon, in keepalive intervals: a peer that died is lost by then, so what it may never
have reported can still expire."""

MOST_KM, MOST_DB = 1e6, 1e4
"""Beyond these a file holds a slip of the pen: further than the moon, darker than any fibre."""

ENTANGLED = 0.5
"""A pair of no larger fidelity to any Bell state may as well be no pair."""


@record
class Pace:
    """What turns wall time into defaults: lab seconds per wall second, and the keepalive."""

    time_scale: float
    keepalive_wall_ns: Duration


@record
class _Link:
    scheme: str
    station: str
    analyser: str | None = None
    detectors: str | None = None
    source: str | None = None
    cycle_ns: Duration | None = None
    modes: int = 1
    keep: bool | None = None
    scheduler: str = "first-come"
    queue_limit: int = 64
    test_rate: float = 0.0
    spread: float = 0.02
    confirm_ns: Duration | None = None
    horizon_ns: Duration | None = None


@record
class _Arm:
    km: float
    db_per_km: float
    extra_db: float = 0.0
    metres_per_second: float = FIBRE_M_PER_S
    emitter: str | None = None
    memory: str | None = None
    communication: tuple[int, ...] | None = None
    storage: tuple[int, ...] | None = None


def read_links(
    raw: dict[str, Any],
    raw_nodes: dict[str, Any],
    nodes: dict[NodeName, NodeFile],
    pace: Pace,
    problems: Problems,
) -> tuple[LinkFile, ...]:
    """Return the links of the table `links`; what is wrong with one is noted.

    `raw_nodes` are all names in the file: a node that is itself faulty is not reported again.
    """
    found = []
    for name, value in raw.items():
        link = _Reader(name, raw_nodes, nodes, problems).read(value, pace)
        if link is not None:
            found.append(link)
    return tuple(found)


class _Reader:
    """Reads one link."""

    def __init__(
        self,
        name: str,
        known: dict[str, Any],
        nodes: dict[NodeName, NodeFile],
        problems: Problems,
    ) -> None:
        self.name = name
        self.path = f"links.{name}"
        self.known = known
        self.nodes = nodes
        self.problems = problems
        self.before = problems.count

    def note(self, key: str, reason: str) -> None:
        self.problems.add(f"{self.path}.{key}" if key else self.path, reason)

    def read(self, value: Any, pace: Pace) -> LinkFile | None:
        whole = table(value, self.path, self.problems)
        rest = {k: v for k, v in whole.items() if k not in ("arms", "settings", "windows")}
        raw = structure(rest, _Link, self.path, self.problems)
        raw_arms = self._raw_arms(whole.get("arms"))
        settings = read_settings(
            whole.get("settings"),
            sorted(raw_arms),
            raw.spread if raw else 0.0,
            f"{self.path}.settings",
            self.problems,
        )
        windows = read_windows(whole.get("windows"), f"{self.path}.windows", self.problems)
        if raw is None:
            return None
        self._check_link(raw)
        source = raw.scheme == MIDPOINT_SOURCE
        arms = [self._arm(end, arm, source) for end, arm in sorted(raw_arms.items()) if arm]
        station = self._node("station", raw.station, "station")
        if station is not None and len(raw_arms) == 2:
            analyser = self._pick(station, "analyser", raw.analyser, "analyser", "")
            picked = self._optics_of(station, raw, analyser)
            whole_arms = [arm for arm in arms if arm is not None]
            if len(whole_arms) == 2 and analyser and picked and self.problems.count == self.before:
                link = self._assemble(
                    raw,
                    (analyser, *picked),
                    (whole_arms[0], whole_arms[1]),
                    (settings, windows),
                    pace,
                )
                self._check_physics(link, raw.keep)
                return link
        return None

    # --- tables -----------------------------------------------------------------------------

    def _raw_arms(self, value: Any) -> dict[str, _Arm | None]:
        if value is None:
            self.note("arms", "is missing: one table for each of the two ends")
            return {}
        raw = table(value, f"{self.path}.arms", self.problems)
        if len(raw) != 2 and isinstance(value, dict):
            self.note("arms", f"a link has two ends, not {len(raw)}")
        return {
            end: structure(arm, _Arm, f"{self.path}.arms.{end}", self.problems)
            for end, arm in raw.items()
        }

    def _check_link(self, raw: _Link) -> None:
        if raw.scheme == "direct":
            self.note("scheme", "'direct' is not yet supported: put a station at one of the ends")
        elif raw.scheme not in (MIDPOINT_BSM, MIDPOINT_SOURCE):
            self.note(
                "scheme", f"{raw.scheme!r} is neither {MIDPOINT_BSM!r} nor {MIDPOINT_SOURCE!r}"
            )
        if raw.scheduler not in SCHEDULERS:
            self.note("scheduler", f"{raw.scheduler!r} is none of {', '.join(SCHEDULERS)}")
        if not 0 <= raw.test_rate < 1:
            self.note("test_rate", f"{raw.test_rate} is not in [0, 1)")
        if not 0 <= raw.spread <= 1:
            self.note("spread", f"{raw.spread} is not in [0, 1]")
        for key in ("modes", "queue_limit", "cycle_ns", "confirm_ns", "horizon_ns"):
            value = getattr(raw, key)
            if value is not None and value < 1:
                self.note(key, f"{value} is not positive")

    # --- parties and devices ------------------------------------------------------------------

    def _node(self, key: str, name: NodeName, kind: str) -> NodeFile | None:
        if name not in self.known:
            self.note(key, f"there is no node {name!r}; there are {', '.join(sorted(self.known))}")
            return None
        node = self.nodes.get(name)
        if node is not None and node.kind in ("end", "station") and node.kind != kind:
            role = "the station" if kind == "station" else "an end"
            is_a = "an end node" if node.kind == "end" else "a station"
            self.note(key, f"{name!r} is {is_a} and cannot be {role} (are the two exchanged?)")
            return None
        return node

    def _pick(
        self, node: NodeFile, key: str, given: str | None, role: str, default: str | None
    ) -> str | None:
        """The local name of a device of this role: the one given, or the only one there is.

        `default` where there is none and none is wanted; None after noting a problem.
        """
        candidates = [device.local for device in node.devices if device.role == role]
        in_file = self.known[node.name].get("devices", {})
        sound = {device.local for device in node.devices}
        faulty = set(in_file) - sound if isinstance(in_file, dict) else {""}
        if given is not None:
            if given in candidates:
                return given
            if given in faulty:
                return None
            have = ", ".join(candidates) or "none"
            self.note(key, f"{node.name} has no {role} {given!r}; it has {have}")
            return None
        if len(candidates) == 1:
            return candidates[0]
        if not candidates and default is not None and role == "memory":
            return default
        if not candidates:
            # One that is faulty was reported, and may well be the one.
            if not faulty:
                self.note(key, f"{node.name} has no {role}")
            return None
        self.note(key, f"{node.name} has several ({', '.join(candidates)}): name one")
        return None

    def _optics_of(
        self, station: NodeFile, raw: _Link, analyser: str | None
    ) -> tuple[str, str] | None:
        """The station's detectors and its source, one of them empty."""
        if raw.scheme == MIDPOINT_SOURCE:
            source = self._pick(station, "source", raw.source, "source", None)
            return None if source is None else ("", source)
        if raw.source is not None:
            self.note("source", f"only {MIDPOINT_SOURCE!r} has one")
        given = raw.detectors
        if given is None and analyser:
            # An analyser whose plugin names its detectors means those.
            named = getattr(station.device(analyser).parameters, "detector", None)
            given = named if isinstance(named, str) else None
        detectors = self._pick(station, "detectors", given, "detectors", None)
        return None if detectors is None else (detectors, "")

    def _arm(self, end: NodeName, raw: _Arm, source: bool) -> ArmFile | None:
        key = f"arms.{end}"
        node = self._node(key, end, "end")
        for name, most in (("km", MOST_KM), ("db_per_km", MOST_DB), ("extra_db", MOST_DB)):
            if not 0 <= getattr(raw, name) <= most:
                self.note(f"{key}.{name}", f"{getattr(raw, name)} is not between 0 and {most:g}")
        if not 1e7 <= raw.metres_per_second <= 299_792_458:
            reason = f"{raw.metres_per_second:g} is no speed of light in anything"
            self.note(f"{key}.metres_per_second", reason)
        if node is None:
            return None
        role = "detectors" if source else "emitter"
        emitter = self._pick(node, f"{key}.emitter", raw.emitter, role, None)
        if source and raw.memory is None:
            memory: str | None = ""
        else:
            memory = self._pick(node, f"{key}.memory", raw.memory, "memory", "")
        if emitter is None or memory is None:
            return None
        slots = self._slots(node, memory, raw, key) if memory else ((), ())
        return ArmFile(
            end, raw.km, raw.db_per_km, raw.extra_db, raw.metres_per_second, emitter, memory, *slots
        )

    def _slots(
        self, node: NodeFile, memory: str, raw: _Arm, key: str
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        sheet = sheet_of(node, memory, MemorySheet)
        first, total = sheet.communication, sheet.communication + sheet.storage
        found = []
        for name, given, has in (
            ("communication", raw.communication, range(first)),
            ("storage", raw.storage, range(first, total)),
        ):
            slots = tuple(has) if given is None else given
            for slot in slots:
                if slot not in has:
                    have = f"{has.start} to {has.stop - 1}" if has else "none"
                    self.note(f"{key}.{name}", f"slot {slot} is no {name} slot: there are {have}")
            if len(set(slots)) < len(slots):
                self.note(f"{key}.{name}", "a slot is there twice")
            found.append(tuple(sorted(slots)))
        return found[0], found[1]

    # --- the whole ----------------------------------------------------------------------------

    def _assemble(
        self,
        raw: _Link,
        devices: tuple[str, str, str],
        arms: tuple[ArmFile, ArmFile],
        times: tuple[tuple[SettingFile, ...], Windows | None],
        pace: Pace,
    ) -> LinkFile:
        emitters = self._emitters(raw, devices[2], arms)
        keeps = raw.scheme == MIDPOINT_BSM and all(sheet.keep for sheet in emitters)
        keeps = keeps and all(arm.communication for arm in arms)
        delay = max(arm.delay_ns for arm in arms)
        confirm = raw.confirm_ns or math.ceil(CONFIRM_WALL_NS * pace.time_scale) + 4 * delay
        unnoticed = math.ceil(HORIZON_INTERVALS * pace.keepalive_wall_ns * pace.time_scale)
        return LinkFile(
            name=self.name,
            scheme=raw.scheme,
            station=raw.station,
            analyser=devices[0],
            detectors=devices[1],
            source=devices[2],
            arms=arms,
            settings=times[0],
            cycle_ns=raw.cycle_ns or self.least_cycle_ns(emitters, arms, raw.scheme),
            modes=raw.modes,
            keep=keeps if raw.keep is None else raw.keep and keeps,
            scheduler=raw.scheduler,
            queue_limit=raw.queue_limit,
            test_rate=raw.test_rate,
            confirm_ns=confirm,
            horizon_ns=raw.horizon_ns or max(2 * confirm, unnoticed),
            windows=times[1],
        )

    def _emitters(
        self, raw: _Link, source: str, arms: tuple[ArmFile, ArmFile]
    ) -> tuple[EmitterSheet, EmitterSheet]:
        if source:
            sheet = sheet_of(self.nodes[raw.station], source, EmitterSheet)
            return sheet, sheet
        first, second = (sheet_of(self.nodes[arm.node], arm.emitter, EmitterSheet) for arm in arms)
        return first, second

    @staticmethod
    def least_cycle_ns(
        emitters: tuple[EmitterSheet, EmitterSheet], arms: tuple[ArmFile, ArmFile], scheme: str
    ) -> Duration:
        """Preparation, photon to the station and herald back; a source waits for neither."""
        if scheme == MIDPOINT_SOURCE:
            return max(1, *(sheet.prepare_ns for sheet in emitters))
        needs = (
            sheet.prepare_ns + 2 * arm.km * 1e12 / arm.metres_per_second
            for sheet, arm in zip(emitters, arms, strict=True)
        )
        # Less a hair: a product that is a whole number must not be rounded up for its last digit.
        return max(1, math.ceil(max(needs) - 1e-6))

    def _check_physics(self, link: LinkFile, keep: bool | None) -> None:
        arms = optics(self.nodes, link)
        measurement = arms.station.measurement
        emitters = (arms.arms[0].emitter, arms.arms[1].emitter)
        least = self.least_cycle_ns(emitters, link.arms, link.scheme)
        if link.cycle_ns < least:
            reason = f"{link.cycle_ns} is shorter than preparation and round trip of light: {least}"
            self.note("cycle_ns", reason)
        check_windows(link, f"{self.path}.windows", self.problems)
        if keep and not link.keep:
            self.note("keep", "true, but the emitters' qubits, or the lack of memory, forbid it")
        self._check_measurement(link, arms.station)
        for arm in arms.arms:
            suits = SUITS.get(arm.emitter.encoding)
            if suits is not None and measurement not in suits:
                self.note(
                    "analyser",
                    f"{measurement!r} does not suit photons of {arm.node} that are "
                    f"{arm.emitter.encoding!r}-encoded; that needs {' or '.join(suits)}",
                )
        if self.problems.count > self.before:
            return
        for index, setting in enumerate(link.settings):
            if measurement == SINGLE_CLICK and setting.alpha is None:
                self.note(f"settings.{index}.alpha", "is missing: one click needs it")
                continue
            patterns = predict(arms, point(link, arms, setting))
            best = max((p.weights[p.bell] for p in patterns if p.share > 0), default=0.0)
            if best <= ENTANGLED:
                reason = f"no pattern stands out of the noise: the best fidelity is {best:.3f}"
                self.note(f"settings.{index}", reason)

    def _check_measurement(self, link: LinkFile, station: StationSheet) -> None:
        has_source = link.scheme == MIDPOINT_SOURCE
        if has_source != (station.measurement == PAIR_SOURCE):
            reason = f"measures {station.measurement!r}, which {link.scheme!r} has no use for"
            self.note("analyser", reason)

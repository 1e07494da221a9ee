"""What must hold between the parts of a network file, beyond the type of each."""

from __future__ import annotations

import re
from typing import Any

from qstack.config.records import ROLES, NodeFile, host_and_port
from qstack.config.structure import Problems
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.plugins import Sheet
from qstack.hal.station import StationSheet
from qstack.link.budget import HERALDS
from qstack.messages.circuits import Method
from qstack.units import MILLISECOND

MOST_SLOTS = 4_096
"""Slots that a node's books are made for."""

MOST_PAIRS = 10.0
"""Mean pairs per mode beyond which a source is bright light and no source of pairs."""

LEAST_LEASE_NS = 100 * MILLISECOND
"""A shorter lease ends before its refreshes have come through a busy computer."""

RESERVED = ("world",)
"""Names of processes that are no nodes."""


def check_names(
    tables: dict[str, dict[str, Any]], shape: re.Pattern[str], problems: Problems
) -> None:
    """Note names that are malformed, reserved, or used twice.

    `tables` are those of nodes, hosts and links, by the key of each in the file.
    """
    taken: dict[str, str] = {}
    for kind, names in tables.items():
        for name in names:
            if not shape.fullmatch(name):
                reason = "is no name: a letter, then letters, digits, '_' and '-', 32 at most"
                problems.add(f"{kind}.{name}", reason)
            if name in RESERVED:
                problems.add(f"{kind}.{name}", "this name is reserved for the simulated world")
            if name in taken:
                problems.add(f"{kind}.{name}", f"a {taken[name]} has this name already")
            taken.setdefault(name, kind.removesuffix("s"))
    if not tables["nodes"]:
        problems.add("nodes", "there are none")


def check_addresses(
    nodes: dict[str, Any], hosts: dict[str, Any], world: Any, problems: Problems
) -> None:
    """Note addresses that are malformed, and ports that two parties would both bind."""
    taken: dict[tuple[str, int], str] = {}
    places = [("world.address", world.get("address"))] if isinstance(world, dict) else []
    for name, node in nodes.items():
        if isinstance(node, dict):
            places += [(f"nodes.{name}.{key}", node.get(key)) for key in ("address", "user")]
    for name, host in hosts.items():
        if isinstance(host, dict):
            places.append((f"hosts.{name}.address", host.get("address")))
    for path, address in places:
        if not isinstance(address, str):
            continue
        try:
            place = host_and_port(address)
        except ValueError as error:
            problems.add(path, str(error))
            continue
        if place in taken:
            problems.add(path, f"{address} is the {taken[place]} already")
        else:
            taken[place] = path


def check_inner(node: NodeFile, raw_devices: dict[str, Any], problems: Problems) -> None:
    """Note devices that are built around what cannot be inside them.

    `raw_devices` are all devices of the node: one that is itself faulty is not reported again.
    """
    outside: dict[str, str] = {}
    sound = {device.local: device for device in node.devices}
    for device in node.devices:
        within = device.plugin.inner
        if within is None or device.inner is None:
            continue
        path = f"nodes.{node.name}.devices.{device.local}.{within[0]}"
        inner = sound.get(device.inner)
        if inner is None:
            if device.inner not in raw_devices:
                problems.add(path, f"{node.name} has no device {device.inner!r}")
        elif ROLES[inner.role] != within[1]:
            problems.add(path, f"{inner.local!r} is of {ROLES[inner.role]}, not {within[1]}")
        elif inner.plugin.build is None or inner.inner is not None:
            reason = "is built around another" if inner.inner else "lives in another process"
            problems.add(
                path, f"{inner.local!r} {reason}, and cannot be inside a device of this one"
            )
        elif inner.local in outside:
            problems.add(path, f"{inner.local!r} is inside {outside[inner.local]!r} already")
        else:
            outside[inner.local] = device.local


def check_sheet(sheet: Sheet, path: str, problems: Problems) -> None:
    """Note what no device can be, whatever its plugin says."""
    match sheet:
        case EmitterSheet():
            _probabilities(sheet, ("efficiency", "double_excitation"), path, problems)
            names = (
                "noise_hz",
                "pair_mean",
                "phase_sigma",
                "lifetime_ps",
                "prepare_ns",
                "abort_ns",
            )
            _not_negative(sheet, names, path, problems)
            if sheet.pair_mean > MOST_PAIRS:
                problems.add(f"{path}.pair_mean", f"{sheet.pair_mean} is more than {MOST_PAIRS:g}")
        case DetectorSheet():
            _probabilities(sheet, ("efficiency", "afterpulse"), path, problems)
            times = ("dead_ns", "afterpulse_ns", "abort_ns")
            _not_negative(sheet, ("dark_hz", "jitter_ps", *times), path, problems)
        case StationSheet():
            _probabilities(sheet, ("visibility",), path, problems)
            _not_negative(sheet, ("switch_ns", "abort_ns"), path, problems)
            _patterns(sheet, path, problems)
        case MemorySheet():
            _memory(sheet, path, problems)


def _patterns(sheet: StationSheet, path: str, problems: Problems) -> None:
    table = HERALDS.get(sheet.measurement)
    if table is None:
        reason = f"{sheet.measurement!r} is none of {', '.join(HERALDS)}"
        problems.add(f"{path}.measurement", reason)
        return
    for mask, bell in sheet.patterns:
        if mask not in table:
            known = ", ".join(map(bin, table))
            problems.add(f"{path}.patterns", f"{mask:#b} heralds nothing; what does is {known}")
        if bell not in range(4):
            problems.add(f"{path}.patterns", f"{bell} is no Bell index (0 to 3)")
    if len({mask for mask, _ in sheet.patterns}) < len(sheet.patterns):
        problems.add(f"{path}.patterns", "one click mask is there twice")


def _memory(sheet: MemorySheet, path: str, problems: Problems) -> None:
    fidelities = ("initialise_fidelity", "gate_fidelity", "two_qubit_fidelity", "move_fidelity")
    _probabilities(
        sheet, ("equilibrium", "attempt_dephasing", "swap_success", *fidelities), path, problems
    )
    for right in sheet.readout:
        if not 0 <= right <= 1:
            problems.add(f"{path}.readout", f"{right} is not in [0, 1]")
    times = ("t1_ns", "t2_ns", "gate_ns", "move_ns", "readout_ns", "bell_ns", "abort_ns")
    _not_negative(sheet, ("communication", "storage", *times), path, problems)
    if sheet.t1_ns > 0 and sheet.t2_ns > 2 * sheet.t1_ns:
        reason = f"{sheet.t2_ns} is longer than twice t1_ns = {sheet.t1_ns}"
        problems.add(f"{path}.t2_ns", reason)
    if sheet.exponent <= 0:
        problems.add(f"{path}.exponent", f"{sheet.exponent} is not positive")
    slots = sheet.communication + sheet.storage
    if not 1 <= slots <= MOST_SLOTS:
        problems.add(path, f"a memory has 1 to {MOST_SLOTS} slots, not {slots}")
    for pair in sheet.coupled:
        if not (min(pair) >= 0 and max(pair) < slots and pair[0] != pair[1]):
            problems.add(f"{path}.coupled", f"{pair} are not two of {slots} slots")


def _probabilities(sheet: Any, names: tuple[str, ...], path: str, problems: Problems) -> None:
    for name in names:
        value = getattr(sheet, name)
        if not 0 <= value <= 1:
            problems.add(f"{path}.{name}", f"{value} is not in [0, 1]")


def _not_negative(sheet: Any, names: tuple[str, ...], path: str, problems: Problems) -> None:
    for name in names:
        value = getattr(sheet, name)
        if value < 0:
            problems.add(f"{path}.{name}", f"{value} is negative")


METHOD_NAMES = {each.name.lower().replace("_", "-"): each for each in Method if each}
"""Methods of purification as network files call them."""


def check_policy(node: NodeFile, given: dict[str, Any], problems: Problems) -> None:
    """Note what a node's operator cannot decide of circuits."""
    path = f"nodes.{node.name}"
    if node.kind == "station":
        for key in ("trust", "lease_ns", "idle_ns", "purify"):
            if key in given:
                problems.add(f"{path}.{key}", "means nothing for a station: no circuit ends there")
        return
    if node.trust < 0:
        problems.add(f"{path}.trust", f"{node.trust} is negative")
    if node.lease_ns < LEAST_LEASE_NS:
        reason = f"{node.lease_ns} is shorter than {LEAST_LEASE_NS}, a tenth of a second"
        problems.add(f"{path}.lease_ns", reason)
    if node.idle_ns < 0:
        problems.add(f"{path}.idle_ns", f"{node.idle_ns} is negative")
    for method in node.purify:
        if method not in METHOD_NAMES:
            reason = f"{method!r} is none of {', '.join(METHOD_NAMES)}"
            problems.add(f"{path}.purify", reason)

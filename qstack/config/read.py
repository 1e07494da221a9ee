"""Reading a whole network file: from its text to a NetworkFile, or to everything wrong with it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeAlias

from qstack.config import changes as changed
from qstack.config.checks import (
    check_addresses,
    check_inner,
    check_names,
    check_policy,
    check_sheet,
)
from qstack.config.controller import read_controller
from qstack.config.hosts import check_served, read_hosts
from qstack.config.link_tables import Pace, read_links
from qstack.config.records import (
    IDLE_NS,
    LEASE_NS,
    PURIFY,
    ROLES,
    SHEETS,
    Control,
    DeviceFile,
    KeysFile,
    NetworkFile,
    NodeFile,
    WorldFile,
)
from qstack.config.structure import Problems, describe, structure, table
from qstack.errors import ConfigError
from qstack.hal import plugins
from qstack.hal.plugins import Plugin
from qstack.machine import record
from qstack.messages.wire import MAX_DATAGRAM

Find: TypeAlias = Callable[[str, str], Plugin]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
"""What nodes, devices and links may be called."""

MOST_SCALE = 1e6
"""Time stretched or pressed by more than this is a slip of the pen."""

LEAST_DATAGRAM = 512
"""Below this a message of ordinary size no longer fits into one frame with its header."""


@record
class _Top:
    name: str
    nodes: Any
    links: Any
    description: str = ""
    time_scale: float = 1.0
    traces: str | None = None
    control: Any = None
    world: Any = None
    hosts: Any = None
    keys: Any = None
    controller: Any = None


@record
class _Node:
    kind: str
    address: str
    user: str | None = None
    trust: int = 0
    lease_ns: int = LEASE_NS
    idle_ns: int = IDLE_NS
    purify: tuple[str, ...] = PURIFY


def load(
    name_or_path: str | Path,
    *,
    networks: Traversable | None = None,
    find: Find = plugins.find,
) -> NetworkFile:
    """Return the network of a file, or of a shipped one by its bare name.

    `networks` is the folder that bare names are looked up in, by default that of the package
    `qstack_nodes`; `find` (group, name) finds a plugin. ConfigError with every problem found.
    """
    file, text = read_text(name_or_path, networks)
    return parse(text, file, find=find)


def parse(
    text: str,
    file: str,
    *,
    changes: Mapping[str, Any] | None = None,
    find: Find = plugins.find,
) -> NetworkFile:
    """Return the network of a text; `file` is how errors call it.

    `changes` are made before anything is judged: values by dotted key, see
    :mod:`qstack.config.changes`. ConfigError with every problem found.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file}: not TOML: {error}"]) from error
    except RecursionError:
        raise ConfigError([f"{file}: not TOML: nested too deeply"]) from None
    problems = Problems(file)
    changed.apply(data, changes or {}, problems)
    # Each look for a plugin reads the metadata of all that is installed: one for each name.
    network = _network(data, problems, cache(find))
    if problems.lines or network is None:
        raise ConfigError(problems.lines)
    return network


def read_text(name_or_path: str | Path, networks: Traversable | None = None) -> tuple[str, str]:
    """Return the name and the text of a file, or of a shipped network; ConfigError without one."""
    path = Path(name_or_path)
    bare = isinstance(name_or_path, str) and NAME.fullmatch(name_or_path) is not None
    if bare and not path.is_file():
        folder = networks if networks is not None else _shipped(str(name_or_path))
        entry = folder / f"{name_or_path}.toml"
        if not entry.is_file():
            names = (item.name for item in folder.iterdir() if item.name.endswith(".toml"))
            known = ", ".join(sorted(name.removesuffix(".toml") for name in names)) or "none"
            raise ConfigError([f"{name_or_path}: no such file, and no such network of {known}"])
        return f"{name_or_path}.toml", entry.read_text(encoding="utf-8")
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from error


def _shipped(name: str) -> Traversable:
    """The folder of the shipped networks, found by name: this room imports no command."""
    try:
        return resources.files("qstack_nodes") / "networks"
    except ModuleNotFoundError:
        reason = "the shipped networks come with the command (package qstack_nodes), not installed"
        raise ConfigError([f"{name}: no such file, and {reason}"]) from None


def _network(data: dict[str, Any], problems: Problems, find: Find) -> NetworkFile | None:
    top = structure(data, _Top, "", problems)
    # Go on with what is there, so that one wrong key does not hide all others.
    raw_nodes = table(data.get("nodes", {}), "nodes", problems)
    raw_links = table(data.get("links", {}), "links", problems)
    control = structure(data.get("control", {}), Control, "control", problems)
    world = None
    if "world" in data:
        world = structure(data["world"], WorldFile, "world", problems)
    raw_hosts = table(data.get("hosts", {}), "hosts", problems)
    keys = None
    if "keys" in data:
        keys = structure(data["keys"], KeysFile, "keys", problems)
    check_names({"nodes": raw_nodes, "hosts": raw_hosts, "links": raw_links}, NAME, problems)
    hosts = read_hosts(raw_hosts, problems)
    controller, raw_links = read_controller(data, raw_nodes, raw_links, problems)
    nodes = {}
    for name, value in raw_nodes.items():
        node = _node(name, value, problems, find)
        if node is not None:
            nodes[name] = node
    _check_control(top, control, problems)
    _check_world(nodes, world, "world" in data, problems)
    check_addresses(raw_nodes, raw_hosts, data.get("world"), problems)
    scale = min(top.time_scale, MOST_SCALE) if top else 1.0
    keepalive_ns = (control or Control()).keepalive_ns
    links = read_links(raw_links, raw_nodes, nodes, Pace(scale, keepalive_ns), problems)
    check_served(raw_hosts, raw_nodes, nodes, links, problems)
    if top is None or control is None:
        return None
    return NetworkFile(
        file=problems.file,
        name=top.name,
        time_scale=top.time_scale,
        traces=top.traces,
        control=control,
        world=world,
        nodes=tuple(nodes.values()),
        links=links,
        hosts=hosts,
        keys=keys,
        controller=controller,
    )


def _node(name: str, value: Any, problems: Problems, find: Find) -> NodeFile | None:
    path = f"nodes.{name}"
    whole = table(value, path, problems)
    if not whole:
        if isinstance(value, dict):
            problems.add(path, "is empty: a node has kind, address and devices")
        return None
    rest = {key: entry for key, entry in whole.items() if key != "devices"}
    node = structure(rest, _Node, path, problems)
    raw = table(whole.get("devices", {}), f"{path}.devices", problems)
    devices = [
        device
        for local, entry in raw.items()
        if (device := _device(name, local, entry, problems, find)) is not None
    ]
    if node is None:
        return None
    if node.kind not in ("end", "station"):
        problems.add(f"{path}.kind", f"{node.kind!r} is neither 'end' nor 'station'")
    if node.kind == "end" and node.user is None:
        problems.add(f"{path}.user", "is missing: programs reach an end node by its user port")
    party = name, node.kind, node.address, node.user, tuple(devices)
    found = NodeFile(*party, node.trust, node.lease_ns, node.idle_ns, node.purify)
    check_inner(found, raw, problems)
    check_policy(found, whole, problems)
    return found


def _device(node: str, local: str, value: Any, problems: Problems, find: Find) -> DeviceFile | None:
    path = f"nodes.{node}.devices.{local}"
    if not isinstance(value, dict):
        problems.add(path, f"expected a table, found {describe(value)}")
        return None
    before = problems.count
    rest = dict(value)
    role = rest.pop("role", local)
    name = rest.pop("plugin", None)
    if not isinstance(role, str) or role not in ROLES:
        reason = f"{describe(role)} is none of {', '.join(ROLES)}"
        hint = "" if "role" in value else " (a device of another name says its role)"
        problems.add(f"{path}.role", reason + hint)
        return None
    if not isinstance(name, str):
        reason = "is missing" if name is None else f"expected text, found {describe(name)}"
        problems.add(f"{path}.plugin", reason)
        return None
    group = ROLES[role]
    try:
        plugin = find(group, name)
    except ConfigError as error:
        problems.add(f"{path}.plugin", "; ".join(error.problems))
        return None
    except ImportError as error:
        problems.add(f"{path}.plugin", f"{name!r} cannot be imported: {error}")
        return None
    parameters = structure(rest, plugin.parameters, path, problems)
    if parameters is None:
        return None
    try:
        sheet = plugin.sheet(parameters)
    except ConfigError as error:
        for problem in error.problems:
            problems.add(path, problem)
        return None
    if not isinstance(sheet, SHEETS[group]):
        problems.add(f"{path}.plugin", f"{name!r} gives a {type(sheet).__name__} in {group}")
        return None
    check_sheet(sheet, f"{path}.sheet" if plugin.remote else path, problems)
    if problems.count > before:
        return None
    return DeviceFile(f"{node}.{local}", local, role, plugin, parameters, sheet)


def _check_control(top: _Top | None, control: Control | None, problems: Problems) -> None:
    if top is not None:
        if not 1 / MOST_SCALE <= top.time_scale <= MOST_SCALE:
            reason = f"{top.time_scale} is not between {1 / MOST_SCALE:g} and {MOST_SCALE:g}"
            problems.add("time_scale", reason)
        if not NAME.fullmatch(top.name):
            problems.add("name", f"{top.name!r} is no name: letters, digits, '_' and '-'")
    if control is None:
        return
    for key in ("keepalive_ns", "retransmit_floor_ns", "hello_interval_ns"):
        if getattr(control, key) <= 0:
            problems.add(f"control.{key}", f"{getattr(control, key)} is not positive")
    if control.ack_delay_ns < 0:
        problems.add("control.ack_delay_ns", f"{control.ack_delay_ns} is negative")
    size = control.max_datagram
    if not LEAST_DATAGRAM <= size <= MAX_DATAGRAM:
        reason = f"{size} is not between {LEAST_DATAGRAM} and {MAX_DATAGRAM} bytes"
        problems.add("control.max_datagram", reason)


def _check_world(
    nodes: dict[str, NodeFile], world: WorldFile | None, given: bool, problems: Problems
) -> None:
    simulated = [d.name for node in nodes.values() for d in node.devices if d.simulated]
    if simulated and not given:
        problems.add("world", f"is missing, but {simulated[0]} is simulated: it needs an address")
    if world is not None and world.seed < 0:
        problems.add("world.seed", f"{world.seed} is negative")

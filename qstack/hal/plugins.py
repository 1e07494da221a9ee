"""Plugins: found by entry point, described by the record of their parameters.

Groups: ``qstack.emitters``, ``qstack.detectors``, ``qstack.memories``, ``qstack.stations``.
An entry point names a :class:`Plugin`. Only loading one imports its package, so a network
file can be checked without any hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from qstack.errors import ConfigError
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.station import StationSheet
from qstack.machine import Machine, record

Sheet: TypeAlias = EmitterSheet | DetectorSheet | MemorySheet | StationSheet

GROUPS = ("qstack.emitters", "qstack.detectors", "qstack.memories", "qstack.stations")


@record
class Plugin:
    """What an entry point must be.

    `name`: how network files call it. `parameters`: an attrs record class; the keys of the
    device's table in a network file are structured into it, so unknown and ill-typed keys are
    reported with their place. `sheet`: parameters to datasheet. `build`: (device name,
    parameters) to a pure device machine, or None for a device that another process serves:
    the simulated world, or, where `remote`, the process that the parameter `host` names.
    `inner`: (parameter, group) where the device is built around another one of its node: the
    parameter holds the other's local name, and `build` takes its network-wide name and its
    machine besides. The inner device is then commanded by the outer one alone.
    """

    name: str
    parameters: type[Any]
    sheet: Callable[[Any], Sheet]
    build: Callable[..., Machine] | None
    remote: bool = False
    inner: tuple[str, str] | None = None


def find(group: str, name: str) -> Plugin:
    """Return the plugin of this name; ConfigError naming the installed ones if there is none."""
    found = {entry.name: entry for entry in entry_points(group=group)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError([f"no plugin {name!r} in {group}: installed are {known}"])
    plugin = found[name].load()
    if not isinstance(plugin, Plugin):
        raise ConfigError([f"{group}: {name!r} is {type(plugin).__name__}, not a Plugin"])
    return plugin

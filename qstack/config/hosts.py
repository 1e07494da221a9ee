"""Processes that serve devices to nodes: their tables, and who is served by whom."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from qstack.config.records import DeviceFile, HostFile, LinkFile, NodeFile
from qstack.config.structure import Problems, structure
from qstack.machine import record
from qstack.units import NodeName

HERE, ELSEWHERE = "here", "elsewhere"
"""Who starts a host: ``qstack up``, or somebody else."""

PLACES = ("python", "network", "name", "folder")
"""What ``{...}`` may stand for in a command's words."""

_PLACE = re.compile(r"\{([^{}]*)\}")


@record
class _Host:
    address: str
    command: tuple[str, ...] = ()
    started: str = HERE


def read_hosts(raw: dict[str, Any], problems: Problems) -> tuple[HostFile, ...]:
    """Return the hosts of the table `hosts`; what is wrong with one is noted."""
    found = []
    for name, value in raw.items():
        path = f"hosts.{name}"
        host = structure(value, _Host, path, problems)
        if host is None:
            continue
        if host.started not in (HERE, ELSEWHERE):
            problems.add(
                f"{path}.started", f"{host.started!r} is neither {HERE!r} nor {ELSEWHERE!r}"
            )
        elif host.started == HERE and not host.command:
            reason = f"is missing: what shall qstack up start? (or: started = {ELSEWHERE!r})"
            problems.add(f"{path}.command", reason)
        for place in _PLACE.findall(" ".join(host.command)):
            if place not in PLACES:
                known = ", ".join(f"{{{each}}}" for each in PLACES)
                problems.add(f"{path}.command", f"{{{place}}} stands for nothing; known: {known}")
        found.append(HostFile(name, host.address, host.command, host.started))
    return tuple(found)


def filled(command: Iterable[str], **places: str) -> tuple[str, ...]:
    """Return the words of a command, with what their ``{...}`` stand for; see PLACES."""
    return tuple(_PLACE.sub(lambda found: places[found.group(1)], word) for word in command)


def check_served(
    hosts: dict[str, Any],
    raw_nodes: dict[str, Any],
    nodes: dict[NodeName, NodeFile],
    links: tuple[LinkFile, ...],
    problems: Problems,
) -> None:
    """Note devices without their host, hosts without devices, and links simulated in part.

    `raw_nodes` are all nodes of the file: one that is itself faulty may be served as well.
    """
    for node in nodes.values():
        for device in node.devices:
            if device.host is not None and device.host not in hosts:
                known = ", ".join(sorted(hosts)) or "none"
                reason = f"there is no host {device.host!r}; there are {known}"
                problems.add(f"nodes.{node.name}.devices.{device.local}.host", reason)
    named = set(_named(raw_nodes))
    for name in hosts:
        if name not in named:
            reason = f"serves no device: none has plugin = 'remote' and host = {name!r}"
            problems.add(f"hosts.{name}", reason)
    for link in links:
        used = _devices_of(nodes, link)
        inside = [device.name for device in used if device.simulated]
        outside = [device.name for device in used if not device.simulated]
        if inside and outside:
            reason = f"{inside[0]} is simulated, but {outside[0]} is not: no light joins the two"
            problems.add(f"links.{link.name}", reason)


def _named(raw_nodes: dict[str, Any]) -> Iterable[str]:
    """The hosts that devices name, sound or not."""
    for node in raw_nodes.values():
        devices = node.get("devices") if isinstance(node, dict) else None
        for device in devices.values() if isinstance(devices, dict) else ():
            host = device.get("host") if isinstance(device, dict) else None
            if isinstance(host, str):
                yield host


def _devices_of(nodes: dict[NodeName, NodeFile], link: LinkFile) -> list[DeviceFile]:
    station = nodes[link.station]
    used = [
        station.device(local) for local in (link.analyser, link.detectors, link.source) if local
    ]
    for arm in link.arms:
        used += [nodes[arm.node].device(each) for each in (arm.emitter, arm.memory) if each]
    return used

"""From a network file to the simulated world behind it.

The world holds the devices whose plugins say that they live in it (``build`` is None), under
their network-wide names, and the fibres of all links. It is told nothing of settings or
predictions: those are what the stack believes.
"""

from __future__ import annotations

from typing import Any

import attrs

from qstack.config import ArmFile, DeviceFile, LinkFile, NetworkFile, NodeFile
from qstack.errors import ConfigError
from qstack.sim.channels import Fibre
from qstack.sim.devices import AnalyserParameters
from qstack.sim.world.link_optics import LinkOptics
from qstack.sim.world.parameters import (
    WorldDevice,
    WorldEnd,
    WorldLink,
    WorldParameters,
    check,
)
from qstack.units import Chance, LinkName


def world_parameters(network: NetworkFile) -> WorldParameters:
    """Return the world of a network, every device and link of it that is simulated.

    ConfigError for a link that is simulated only in part, or of devices that do not fit.
    """
    devices = []
    for node in network.nodes:
        for device in node.devices:
            if device.simulated:
                parameters = _with_names(node, device)
                devices.append((device.name, WorldDevice(node.name, parameters)))
    problems: list[str] = []
    links = []
    for link in network.links:
        outside = [d.name for d in _devices_of(network, link) if not d.simulated]
        inside = [d.name for d in _devices_of(network, link) if d.simulated]
        if inside and outside:
            reason = f"{inside[0]} is simulated, but {outside[0]} is not"
            problems.append(f"{network.file}: links.{link.name}: {reason}")
        elif inside:
            links.append(_link(network, link))
    if problems:
        raise ConfigError(problems)
    world = WorldParameters(tuple(devices), tuple(links))
    check(world)
    return world


def _with_names(node: NodeFile, device: DeviceFile) -> Any:
    """The parameters, in which a device of the same node is named as the network does."""
    parameters = device.parameters
    if isinstance(parameters, AnalyserParameters) and parameters.detector:
        name = f"{node.name}.{parameters.detector}"
        # Untyped on purpose: the type checker does not see that our records are attrs classes.
        untyped: Any = parameters
        return attrs.evolve(untyped, detector=name)
    return parameters


def _devices_of(network: NetworkFile, link: LinkFile) -> list[DeviceFile]:
    station = network.node(link.station)
    used = [
        station.device(local) for local in (link.analyser, link.detectors, link.source) if local
    ]
    for arm in link.arms:
        node = network.node(arm.node)
        used += [node.device(local) for local in (arm.emitter, arm.memory) if local]
    return used


def _link(network: NetworkFile, link: LinkFile) -> WorldLink:
    station = network.node(link.station)
    first, second = (_end(network.node(arm.node), arm) for arm in link.arms)
    return WorldLink(
        name=link.name,
        scheme=link.scheme,
        ends=(first, second),
        analyser=station.device(link.analyser).name,
        max_modes=link.modes,
        source=station.device(link.source).name if link.source else "",
    )


def _end(node: NodeFile, arm: ArmFile) -> WorldEnd:
    return WorldEnd(
        node=arm.node,
        emitter=node.device(arm.emitter).name,
        memory=node.device(arm.memory).name if arm.memory else "",
        fibre=Fibre(arm.km, arm.db_per_km, arm.extra_db, arm.metres_per_second),
    )


def attempt_by_attempt(network: NetworkFile) -> tuple[tuple[LinkName, str], ...]:
    """Return each simulated link that cannot skip ahead to its successes, with the reason.

    Such links cost processor time for every attempt. ConfigError as for `world_parameters`.
    """
    world = world_parameters(network)
    devices = dict(world.devices)
    found = []
    for link in world.links:
        file = network.link(link.name)
        optics = LinkOptics(link, devices, Chance(0))
        reasons = [
            f"{end.emitter} has no herald line"
            for end, emitter in zip(link.ends, optics.emitters, strict=False)
            if not emitter.herald_line
        ]
        for setting in file.settings:
            reason = optics.remembers(file.cycle_ns, setting.window_ps)
            reasons += [f"in setting {setting.id} {reason}"] if reason else []
        if reasons:
            found.append((link.name, "; ".join(reasons)))
    return tuple(found)

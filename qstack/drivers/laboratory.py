"""A process that serves devices of a laboratory, as its network file describes it.

``plugin = "remote"`` in a network file leaves a device to another process. What that process
needs besides the device machines themselves, its address, its name, who owns which device, is in
the network file too: :func:`host_process` puts the two together, :func:`qstack.drivers.serving.run`
runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from qstack.config import NetworkFile
from qstack.drivers.places import (
    Process,
    device_process,
    identity_of,
    neighbours_of,
    node_of,
    role_of,
)
from qstack.errors import ConfigError
from qstack.hal.plugins import Sheet
from qstack.hal.served import Served
from qstack.machine import Machine, record
from qstack.stack import DeviceHost
from qstack.units import Chance, NodeName


@record
class Wanted:
    """A device that a host shall serve: its name, its owner, its role and stated datasheet."""

    device: str
    owner: NodeName
    role: str
    sheet: Sheet


@record
class Laboratory:
    """What a device host serves.

    `devices` are the machines by network-wide name; `sheets` what they are, as far as it is
    known, to be compared by their owners with what the network file states. `around` may put
    middleware (:mod:`qstack.hal.middleware`) around all of them.
    """

    devices: Mapping[str, Machine]
    sheets: Mapping[str, Sheet] = attrs.field(factory=dict)
    around: Callable[[Machine], Machine] = lambda machine: machine


def wanted_of(network: NetworkFile, name: NodeName) -> tuple[Wanted, ...]:
    """Return the devices that nodes command and that the network file leaves to the host `name`.

    ConfigError for no such host.
    """
    if all(host.name != name for host in network.hosts):
        known = ", ".join(host.name for host in network.hosts) or "none"
        raise ConfigError([f"{network.file}: there is no host {name!r}: there are {known}"])
    return tuple(
        Wanted(device.name, node.name, device.role, device.sheet)
        for node in network.nodes
        for device in network.commanded(node.name)
        if device.host == name
    )


def laboratory_host(
    network: NetworkFile, name: NodeName, laboratory: Laboratory, seed: int
) -> DeviceHost:
    """Return the machine of a host's process; ConfigError where a device is missing."""
    wanted = wanted_of(network, name)
    missing = [each.device for each in wanted if each.device not in laboratory.devices]
    if missing:
        reason = f"its process does not serve {', '.join(missing)}"
        raise ConfigError([f"{network.file}: hosts.{name}: {reason}"])
    owners = tuple(
        (owner, role_of(node_of(network, owner))) for owner in sorted(neighbours_of(network, name))
    )
    machines = {each.device: laboratory.devices[each.device] for each in wanted}
    server = Served(machines, {each.device: each.owner for each in wanted})
    sheets = tuple(
        (each.owner, each.device, laboratory.sheets[each.device])
        for each in wanted
        if each.device in laboratory.sheets
    )
    identity = identity_of(network, name, "world", Chance(seed))
    return DeviceHost(identity, owners, laboratory.around(server), sheets)


def host_process(
    network: NetworkFile, name: NodeName, laboratory: Laboratory, seed: int, text: str
) -> Process:
    """Return a host's process, its port open. Raises ConfigError and PortUnavailable."""
    host = laboratory_host(network, name, laboratory, seed)
    return device_process(network, host, seed, text)

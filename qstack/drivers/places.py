"""From a network file to one process of it: who it is, where it listens, what it drives."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from qstack import __version__
from qstack.config import DeviceFile, NetworkFile, NodeFile, host_and_port, link_parameters
from qstack.config.checks import METHOD_NAMES
from qstack.drivers.devices import LocalDevices
from qstack.drivers.keys import keyring_of
from qstack.drivers.pump import Port
from qstack.drivers.trace import TraceHeader
from qstack.drivers.udp import Address, PortUnavailable, UdpSocket, resolve
from qstack.errors import ConfigError
from qstack.network.service import TimeDivision
from qstack.stack import DeviceHost, Identity, Timing
from qstack.stack.assembly import build, devices_of
from qstack.stack.policy import Policy
from qstack.units import Chance, NodeName

WORLD: NodeName = "world"
"""The name of the simulated world's process in every network."""


@attrs.define(eq=False)
class Process:
    """A host with everything around it but the pump. `peers`: who it needs to be of use."""

    host: Any
    ports: tuple[Port, ...]
    time_scale: float
    devices: LocalDevices | None
    header: TraceHeader
    peers: frozenset[NodeName]
    traces: str | None

    def close(self) -> None:
        """Give the ports back."""
        for port in self.ports:
            port.socket.close()


def network_text(name_or_path: str) -> str:
    """Return the text of a network file, or of a shipped network by its bare name."""
    path = Path(name_or_path)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    shipped = resources.files("qstack_nodes") / "networks" / f"{name_or_path}.toml"
    return shipped.read_text(encoding="utf-8")


def timing_of(network: NetworkFile) -> Timing:
    """Return the times that are bound to the computer, in lab nanoseconds."""
    scale, control = network.time_scale, network.control

    def lab(wall_ns: int) -> int:
        return max(1, round(wall_ns * scale))

    return Timing(
        keepalive_ns=lab(control.keepalive_ns),
        retransmit_floor_ns=lab(control.retransmit_floor_ns),
        ack_delay_ns=lab(control.ack_delay_ns),
        hello_interval_ns=lab(control.hello_interval_ns),
        lab_per_wall=scale,
    )


def identity_of(network: NetworkFile, name: NodeName, role: str, chance: Chance) -> Identity:
    """Return who this process is; its boot id follows from `chance`."""
    return Identity(name, role, chance.fork("boot").boot_id(), timing_of(network), True)


def node_of(network: NetworkFile, name: NodeName) -> NodeFile:
    """Return the node of this name; ConfigError that lists the others if there is none."""
    try:
        return network.node(name)
    except KeyError:
        known = ", ".join(sorted(node.name for node in network.nodes))
        raise ConfigError(
            [f"{network.file}: there is no node {name!r}: there are {known}"]
        ) from None


def role_of(node: NodeFile) -> str:
    """Return the role that a node's adjacencies state."""
    return "station" if node.kind == "station" else "node"


def policy_of(network: NetworkFile, node: NodeFile) -> Policy:
    """Return what the operator of a node decided of circuits, in lab nanoseconds."""
    lease, idle = (max(1, round(ns * network.time_scale)) for ns in (node.lease_ns, node.idle_ns))
    methods = tuple(METHOD_NAMES[each] for each in node.purify)
    return Policy(node.trust, lease, idle, methods, division_of(network))


def division_of(network: NetworkFile) -> TimeDivision | None:
    """Return how the network's links are divided in time, in lab nanoseconds; None if not."""
    found = network.controller
    if found is None:
        return None
    span, lease = (max(1, round(ns * network.time_scale)) for ns in (found.bin_ns, found.lease_ns))
    return TimeDivision(found.node, span, lease, ends_of(network))


def ends_of(network: NetworkFile) -> tuple[NodeName, ...]:
    """Return the end nodes of a network that are on a link, sorted."""
    return tuple(sorted({arm.node for link in network.links for arm in link.arms}))


def address_of(network: NetworkFile, name: NodeName) -> Address:
    """Return the numeric address of the peers' port of a node, a device host, or the world."""
    if name == WORLD:
        if network.world is None:
            raise ConfigError([f"{network.file}: world: there is none in this network"])
        return resolve(host_and_port(network.world.address))
    if any(host.name == name for host in network.hosts):
        return resolve(host_and_port(network.host(name).address))
    return resolve(host_and_port(node_of(network, name).address))


def user_address_of(network: NetworkFile, name: NodeName) -> Address:
    """Return the numeric address of a node's user port; ConfigError if it has none."""
    node = node_of(network, name)
    if node.user is None:
        raise ConfigError([f"{network.file}: nodes.{name}.user: {name} has no user port"])
    return resolve(host_and_port(node.user))


def neighbours_of(network: NetworkFile, name: NodeName) -> frozenset[NodeName]:
    """Return the parties that `name` has adjacencies with on its peers' port."""
    return needed_by(network, name) | _over_bins(network, name)


def _over_bins(network: NetworkFile, name: NodeName) -> set[NodeName]:
    """Return whom it talks with of bins: the controller, which talks with all end nodes."""
    ends = set(ends_of(network))
    if network.controller is None or name not in ends:
        return set()
    controller = network.controller.node
    return (ends if name == controller else {controller}) - {name}


def needed_by(network: NetworkFile, name: NodeName) -> frozenset[NodeName]:
    """Return the parties without which `name` is of no use: links and devices need them."""
    found: set[NodeName] = set()
    for link in network.links:
        parties = {link.station, *(arm.node for arm in link.arms)}
        if name in parties:
            found |= parties - {name}
    if name == WORLD or any(host.name == name for host in network.hosts):
        return frozenset(n.name for n in network.nodes if name in servers_of(network, n.name))
    return frozenset(found | servers_of(network, node_of(network, name).name))


def servers_of(network: NetworkFile, name: NodeName) -> set[NodeName]:
    """Return the processes that serve devices to a node, the world among them."""
    commanded = network.commanded(name)
    found = {device.host for device in commanded if device.host is not None}
    return found | {WORLD for device in commanded if device.simulated}


def peer_port(network: NetworkFile, name: NodeName) -> Port:
    """Open the peers' port of a process, with the keys that the network file asks for.

    ConfigError names the keys that cannot be read; PortUnavailable says why there is no port.
    """
    peers = {peer: address_of(network, peer) for peer in neighbours_of(network, name)}
    keys = keyring_of(network, name, peers)
    socket = UdpSocket(address_of(network, name), owner=name, port_name="peer")
    return Port("peer", socket, peers, keys=keys)


def header_of(host: Any, seed: int, text: str) -> TraceHeader:
    """Return the header of a trace of `host`, made from this seed and network file."""
    return TraceHeader(__version__, host.name, host.boot, seed, text)


def node_host(network: NetworkFile, name: NodeName, seed: int) -> Any:
    """Return the machine of a node or station, the same for the same seed."""
    node = node_of(network, name)
    chance = Chance(seed)
    links = tuple(
        link_parameters(network, link.name)
        for link in network.links
        if name in (link.station, *(arm.node for arm in link.arms))
    )
    if not links:
        raise ConfigError([f"{network.file}: nodes.{name}: it is on no link, so has no work"])
    served = {device.name: WORLD for device in node.devices if device.simulated}
    served |= {device.name: device.host for device in node.devices if device.host is not None}
    hosts = tuple((d, served[d]) for d in devices_of(name, links) if d in served)
    sheets = tuple((d.name, d.sheet) for d in node.devices if d.host is not None)
    identity = identity_of(network, name, role_of(node), chance)
    return build(identity, links, hosts, chance, sheets, policy=policy_of(network, node))


def node_devices(network: NetworkFile, name: NodeName) -> LocalDevices | None:
    """Return the devices that the process of a node drives itself; None where it has none."""
    node = node_of(network, name)
    pure: dict[str, Any] = {}
    asynchronous: dict[str, Any] = {}
    inside = {device.inner for device in node.devices}
    for device in node.devices:
        if device.plugin.build is not None and device.local not in inside:
            made = build_device(node, device)
            (asynchronous if hasattr(made, "run") else pure)[device.name] = made
    return LocalDevices(pure, asynchronous) if pure or asynchronous else None


def build_device(node: NodeFile, device: DeviceFile) -> Any:
    """Build a device of this process, and the one inside it. ConfigError where it cannot be."""
    build_it = device.plugin.build
    if build_it is None:
        raise ConfigError([f"{device.name} lives in another process"])
    if device.inner is None:
        return build_it(device.name, device.parameters)
    inner = node.device(device.inner)
    machine = build_device(node, inner)
    if hasattr(machine, "run"):
        reason = f"{inner.name} is asynchronous, and cannot be inside a device"
        raise ConfigError([f"nodes.{node.name}.devices.{device.local}: {reason}"])
    return build_it(device.name, device.parameters, inner.name, machine)


def node_process(network: NetworkFile, name: NodeName, seed: int, text: str) -> Process:
    """Return a node's process, its ports open. Raises ConfigError and PortUnavailable."""
    node = node_of(network, name)
    host = node_host(network, name, seed)
    ports = [peer_port(network, name)]
    if node.user is not None:
        address = user_address_of(network, name)
        try:
            socket = UdpSocket(address, owner=name, port_name="user")
        except PortUnavailable:
            ports[0].socket.close()
            raise
        ports.append(Port("user", socket, {}, learns=True))
    return Process(
        host=host,
        ports=tuple(ports),
        time_scale=network.time_scale,
        devices=node_devices(network, name),
        header=header_of(host, seed, text),
        peers=needed_by(network, name),
        traces=network.traces,
    )


def device_process(network: NetworkFile, host: DeviceHost, seed: int, text: str) -> Process:
    """Return the process of a host that serves devices, its port open. Raises PortUnavailable."""
    header, peers = header_of(host, seed, text), neighbours_of(network, host.name)
    port = peer_port(network, host.name)
    return Process(host, (port,), network.time_scale, None, header, peers, network.traces)

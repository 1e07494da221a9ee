"""What a network file says, once it has been read and found right."""

from __future__ import annotations

from typing import Any, TypeVar

from qstack.errors import LocalProtocolError
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.plugins import Plugin, Sheet
from qstack.hal.station import StationSheet
from qstack.machine import record
from qstack.messages.wire import MAX_DATAGRAM
from qstack.units import MILLISECOND, SECOND, Duration, LinkName, NodeName, Picoseconds
from qstack.windows import Windows

PURIFY = ("nested-dejmps", "pumped-dejmps", "nested-loss")
"""Methods of purification that a node takes part in if its file names none."""

S = TypeVar("S")

FIBRE_M_PER_S = 2.0419e8
"""Group velocity in silica fibre at 1550 nm: c / 1.4682."""

LEASE_NS = 30 * SECOND
IDLE_NS = 500 * MILLISECOND

BIN_NS = 100 * MILLISECOND

ROLES = {
    "emitter": "qstack.emitters",
    "source": "qstack.emitters",
    "detectors": "qstack.detectors",
    "memory": "qstack.memories",
    "analyser": "qstack.stations",
}
"""What a device can be in a node, and the plugin group that it comes from."""


@record
class Control:
    """Parameters that are bound to the computer, in *wall* nanoseconds, and the datagram's cap.

    `keepalive_ns`: silence after which a keepalive is sent. `retransmit_floor_ns`: the least
    retransmission time. `ack_delay_ns`: how long an acknowledgement may wait for company.
    `hello_interval_ns`: between hellos until one is answered. `max_datagram`: bytes.
    """

    keepalive_ns: Duration = 200_000_000
    retransmit_floor_ns: Duration = 2_000_000
    ack_delay_ns: Duration = 5_000_000
    hello_interval_ns: Duration = 100_000_000
    max_datagram: int = MAX_DATAGRAM


@record
class WorldFile:
    """The process of the simulated world: its address, and the seed of everything it draws."""

    address: str
    seed: int = 0


@record
class KeysFile:
    """How datagrams between peers are sealed.

    `cipher` is a plugin of the group ``qstack.ciphers``. `folder`, beside the network file, has a
    file ``first--second.key`` for each pair of peers, their names in alphabetical order.
    """

    cipher: str = "aes-gcm"
    folder: str = "keys"


@record
class ControllerFile:
    """Which end node divides the links of the network in time. Durations in *wall* ns.

    `bin_ns`: the length of a bin. What a circuit was granted is free again `lease_ns` after the
    last word of its head-end.
    """

    node: NodeName
    bin_ns: Duration = BIN_NS
    lease_ns: Duration = LEASE_NS


@record
class HostFile:
    """A process that serves devices to nodes, and is neither a node nor the simulated world.

    `command` is what ``qstack up`` starts it with, `started` is "here"; or it is "elsewhere", and
    only waited for.
    """

    name: NodeName
    address: str
    command: tuple[str, ...]
    started: str


@record
class DeviceFile:
    """A device of a node. `name` is network-wide (node.device), `local` is the file's.

    `parameters` is a record of the plugin's own class; `sheet` the datasheet it gave of them.
    """

    name: str
    local: str
    role: str
    plugin: Plugin
    parameters: Any
    sheet: Sheet

    @property
    def simulated(self) -> bool:
        """Whether it lives in the simulated world."""
        return self.plugin.build is None and not self.plugin.remote

    @property
    def inner(self) -> str | None:
        """The local name of the device that it is built around; None for one that stands alone."""
        within = self.plugin.inner
        return None if within is None else str(getattr(self.parameters, within[0]))

    @property
    def host(self) -> NodeName | None:
        """The process of the network file that serves it; None for a device that names none."""
        return str(self.parameters.host) if self.plugin.remote else None


@record
class NodeFile:
    """A party with a process of its own: an end node or a station.

    `address` is its peers' port, `user` its users' port (None: a station without one), both as
    host:port. `trust`, `lease_ns` and `idle_ns` (wall time) are what its operator decides of
    circuits, and `purify` the methods that may be used on pairs of those that end here.
    """

    name: NodeName
    kind: str
    address: str
    user: str | None
    devices: tuple[DeviceFile, ...]
    trust: int = 0
    lease_ns: Duration = LEASE_NS
    idle_ns: Duration = IDLE_NS
    purify: tuple[str, ...] = PURIFY

    def device(self, local: str) -> DeviceFile:
        """The device of this local name; KeyError where there is none."""
        for device in self.devices:
            if device.local == local:
                return device
        raise KeyError(local)


@record
class ArmFile:
    """One end of a link: its fibre to the station and the devices it uses there.

    `emitter` is the device that the end's attempts address: an emitter, or with a source in
    the middle the receiver's detectors. `memory` is empty where nothing is kept.
    `communication` and `storage` are slot numbers of it.
    """

    node: NodeName
    km: float
    db_per_km: float
    extra_db: float
    metres_per_second: float
    emitter: str
    memory: str
    communication: tuple[int, ...]
    storage: tuple[int, ...]

    @property
    def delay_ns(self) -> Duration:
        """One way through the fibre, rounded to a nanosecond."""
        return round(self.km * 1e12 / self.metres_per_second)


@record
class SettingFile:
    """A working point as the file gives it; None: what the devices say.

    `alpha` are the bright populations in the order of the arms. `spread` is the uncertainty of
    the predicted fidelity.
    """

    id: str
    window_ps: Picoseconds
    alpha: tuple[float, float] | None
    visibility: float | None
    pair_mean: float | None
    spread: float


@record
class LinkFile:
    """A link between two end nodes over a station, arms in the order of the ends' names.

    `detectors` is the station's device behind the analyser (empty: the receivers have them),
    `source` that of `midpoint-source`. `cycle_ns` was given, or is the least that preparation
    and the round trip of light allow. `windows`: when it is open; None: always.
    """

    name: LinkName
    scheme: str
    station: NodeName
    analyser: str
    detectors: str
    source: str
    arms: tuple[ArmFile, ArmFile]
    settings: tuple[SettingFile, ...]
    cycle_ns: Duration
    modes: int
    keep: bool
    scheduler: str
    queue_limit: int
    test_rate: float
    confirm_ns: Duration
    horizon_ns: Duration
    windows: Windows | None = None


@record
class NetworkFile:
    """A network that fits together. `file` is where it was read from.

    `time_scale`: seconds of lab time per second of wall time; DESIGN section 5. `traces` is the
    folder that traces are written to, None for none.
    """

    file: str
    name: str
    time_scale: float
    traces: str | None
    control: Control
    world: WorldFile | None
    nodes: tuple[NodeFile, ...]
    links: tuple[LinkFile, ...]
    hosts: tuple[HostFile, ...] = ()
    keys: KeysFile | None = None
    controller: ControllerFile | None = None

    def host(self, name: NodeName) -> HostFile:
        """The device host of this name; KeyError where there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def node(self, name: NodeName) -> NodeFile:
        """The node of this name; KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def link(self, name: LinkName) -> LinkFile:
        """The link of this name; KeyError where there is none."""
        for link in self.links:
            if link.name == name:
                return link
        raise KeyError(name)

    def devices(self) -> dict[str, tuple[NodeFile, DeviceFile]]:
        """Every device with the node that has it, by network-wide name."""
        return {device.name: (node, device) for node in self.nodes for device in node.devices}

    def commanded(self, name: NodeName) -> tuple[DeviceFile, ...]:
        """The devices that a node's process commands: those of its links' ends or analysers."""
        found: dict[str, DeviceFile] = {}
        node = self.node(name)
        for link in self.links:
            used = [(arm.emitter, arm.memory) for arm in link.arms if arm.node == name]
            used += [(link.analyser, "")] if link.station == name else []
            found |= {local: node.device(local) for pair in used for local in pair if local}
        return tuple(found.values())

    def simulated(self) -> bool:
        """Whether any device lives in the simulated world."""
        return any(device.simulated for node in self.nodes for device in node.devices)


def sheet_of(node: NodeFile, local: str, kind: type[S]) -> S:
    """Return the datasheet of a node's device; LocalProtocolError where it is of another kind."""
    sheet = node.device(local).sheet
    if not isinstance(sheet, kind):
        raise LocalProtocolError(f"{node.name}.{local} has no {kind.__name__}")
    return sheet


def host_and_port(address: str) -> tuple[str, int]:
    """Split "host:port"; ValueError that says what is wrong with it."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{address!r} is not host:port")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"{port!r} is not a port (1 to 65535)")
    return host, int(port)


SHEETS: dict[str, type[Any]] = {
    "qstack.emitters": EmitterSheet,
    "qstack.detectors": DetectorSheet,
    "qstack.memories": MemorySheet,
    "qstack.stations": StationSheet,
}
"""Which datasheet a plugin of each group gives."""

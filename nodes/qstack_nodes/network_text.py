"""A shape as a network file: nodes with their hardware, stations, links, ports.

The hardware is that of the shipped `two_nodes`, better than anybody has, so that a generated
network runs at once; exchange it in the file for what you have. A node has an emitter and
communication qubits for each of its links, all in one memory in which every two can be joined: a
node with several links is a repeater. A link has a station in the middle, or all have one.
"""

from __future__ import annotations

import itertools

from qstack.config.link_tables import MOST_KM
from qstack.config.read import NAME
from qstack.errors import ConfigError
from qstack.machine import record
from qstack_nodes.topology import Edge, Shape

FIRST_PORT, LAST_PORT = 1_024, 65_535

_NODE = """[nodes.{name}]
kind = "end"
address = "127.0.0.1:{port}"
user = "127.0.0.1:{user}"
"""

_EMITTER = """[nodes.{name}.devices.{device}]
role = "emitter"
plugin = "sim.colour-centre"
efficiency = 1.0  # [chosen]
phase_sigma = 0.05  # [chosen]
lifetime_ps = 2_000  # [chosen]
prepare_ns = 200  # [chosen]
"""

_MEMORY = """[nodes.{name}.devices.memory]
plugin = "sim.memory"
communication = {slots}  # [chosen]
t1_ns = 10_000_000_000  # [chosen]
t2_ns = 1_000_000_000  # [chosen]
gate_ns = 1_000  # [chosen]
gate_fidelity = 0.999  # [chosen]
two_qubit_fidelity = 0.99  # [chosen]
readout_ns = 5_000  # [chosen]
readout = [0.99, 0.99]  # [chosen]
coupled = [{coupled}]  # [chosen]
"""

_STATION = """[nodes.{name}]
kind = "station"
address = "127.0.0.1:{port}"
user = "127.0.0.1:{user}"

[nodes.{name}.devices.analyser]
plugin = "sim.analyser"
measurement = "single-click"
detector = "detectors"
visibility = 0.99  # [chosen]

[nodes.{name}.devices.detectors]
plugin = "sim.threshold"
efficiency = 0.95  # [chosen]
dark_hz = 10.0  # [chosen]
jitter_ps = 50  # [chosen]
"""

_LINK = """[links.{name}]
scheme = "midpoint-bsm"
station = "{station}"
modes = {qubits}  # [chosen]
scheduler = "weighted-fair"  # [chosen] so that promised rates hold
"""

_ARM = """[links.{name}.arms.{node}]
km = {km:.6g}  # {mark}
db_per_km = 0.2  # [chosen]
emitter = "{emitter}"
communication = [{slots}]  # [chosen]
"""

_SETTING = """[[links.{name}.settings]]
id = "{setting}"
alpha = {alpha}  # [chosen]
window_ps = 20_000  # [chosen]
"""

SETTINGS = (("fast", 0.15), ("fine", 0.05), ("finest", 0.02))
"""Working points of every link, and their bright populations."""


@record
class Look:
    """What a file says besides the shape. `qubits` of each end of each link; `port`: the
    first. `mark`: where the kilometres come from."""

    name: str
    description: str
    made_by: str
    qubits: int = 1
    port: int = 48_000
    mark: str = "[chosen]"


_SCALE = "time_scale = 0.05  # [chosen] so that qubits last while processes on one computer talk\n"


def network_text(shape: Shape, look: Look) -> str:
    """Return the network file of a shape; ConfigError with all that forbids it."""
    _check(shape, look)
    ports = itertools.count(look.port)
    links = {node: [e for e in shape.edges if node in (e.one, e.other)] for node in shape.nodes}
    parts = [
        f"# {look.description}.\n#\n# Written by: {look.made_by}\n"
        "# Hardware better than anybody has; exchange it for what you have.\n",
        f'name = "{look.name}"\ndescription = "{look.description}"\n{_SCALE}',
        f'[world]\naddress = "127.0.0.1:{next(ports)}"\nseed = 1  # [chosen]\n',
    ]
    for node in shape.nodes:
        parts.append(_NODE.format(name=node, port=next(ports), user=next(ports)))
        parts += [_EMITTER.format(name=node, device=_emitter(node, e)) for e in links[node]]
        slots = look.qubits * max(1, len(links[node]))
        coupled = ", ".join(f"[{a}, {b}]" for a, b in itertools.combinations(range(slots), 2))
        parts.append(_MEMORY.format(name=node, slots=slots, coupled=coupled))
    stations = [shape.hub] if shape.hub else [_station(index) for index in range(len(shape.edges))]
    parts += [_STATION.format(name=s, port=next(ports), user=next(ports)) for s in stations]
    for index, edge in enumerate(shape.edges):
        parts += _link(edge, shape.hub or stations[index], links, look)
    return "\n".join(parts)


def _check(shape: Shape, look: Look) -> None:
    problems = []
    if not NAME.fullmatch(look.name):
        problems.append(f"--name: {look.name!r} is no name: letters, digits, '_' and '-'")
    if look.qubits < 1:
        problems.append(f"--qubits: {look.qubits} is not positive")
    strange = [edge.km for edge in shape.edges if not 0 < edge.km < MOST_KM]
    if strange:
        problems.append(f"--km: a link of {strange[0]} km")
    last = LAST_PORT - 2 * (len(shape.nodes) + (1 if shape.hub else len(shape.edges)))
    if not FIRST_PORT <= look.port <= last:
        problems.append(f"--port: {look.port} is not from {FIRST_PORT} to {last}")
    if problems:
        raise ConfigError(problems)


def _link(edge: Edge, station: str, links: dict[str, list[Edge]], look: Look) -> list[str]:
    name = f"{edge.one}-{edge.other}"
    parts = [_LINK.format(name=name, station=station, qubits=look.qubits)]
    for node in (edge.one, edge.other):
        first = look.qubits * links[node].index(edge)
        slots = ", ".join(str(slot) for slot in range(first, first + look.qubits))
        emitter = _emitter(node, edge)
        parts.append(
            _ARM.format(
                name=name, node=node, km=edge.km / 2, emitter=emitter, slots=slots, mark=look.mark
            )
        )
    return parts + [_SETTING.format(name=name, setting=s, alpha=a) for s, a in SETTINGS]


def _emitter(node: str, edge: Edge) -> str:
    return f"to-{edge.other if node == edge.one else edge.one}"


def _station(index: int) -> str:
    return f"s{index + 1}"

"""Network files made of a few numbers: a row of nodes, every two neighbours joined by a link.

Detectors have no jitter, memories no decay, packets no length: so that closed forms over
efficiencies, dark counts and visibility hold exactly.
"""

from __future__ import annotations

from pathlib import Path

from qstack.machine import record
from qstack.sim import Network
from qstack.units import Duration

METRES_PER_SECOND = 2.04e8
DB_PER_KM = 0.2

_EMITTER = {"single-click": "colour-centre", "barrett-kok": "colour-centre"}


@record
class Hardware:
    """What every link of a generated network has.

    `emitters`: the efficiency of the emitter at either end; `km`: of fibre from an end to the
    station; `dark`: the probability of a dark click per detector and window; `cycle_ns` 0: what
    preparation and light take; `modes`: attempts in a cycle, and memories of either end.
    """

    measurement: str
    alpha: float = 0.5
    emitters: tuple[float, float] = (1.0, 1.0)
    km: float = 0.0
    detector: float = 1.0
    resolving: bool = False
    dark_hz: float = 0.0
    window_ps: int = 10_000
    visibility: float = 1.0
    phase_sigma: float = 0.0
    prepare_ns: Duration = 1_000
    cycle_ns: Duration = 0
    modes: int = 1


def chain_text(nodes: int, hardware: Hardware, time_scale: float = 1.0) -> str:
    """Return the network file of a row of nodes ``n0``, ``n1``, ... with links ``l0``, ..."""
    lines = ['name = "generated"', f"time_scale = {time_scale}"]
    lines += ["[world]", 'address = "127.0.0.1:40000"']
    for number in range(nodes):
        lines += _node(number, nodes, hardware)
    for number in range(nodes - 1):
        lines += _station(number, hardware) + _link(number, hardware)
    return "\n".join(lines) + "\n"


def network_of(folder: Path, text: str, seed: int) -> Network:
    """Load a network from its text."""
    path = folder / "generated.toml"
    path.write_text(text, encoding="utf-8")
    return Network.load(path, seed=seed)


def _node(number: int, nodes: int, hardware: Hardware) -> list[str]:
    name = f"n{number}"
    lines = [f"[nodes.{name}]", 'kind = "end"', f'address = "127.0.0.1:{40_001 + 2 * number}"']
    lines.append(f'user = "127.0.0.1:{40_002 + 2 * number}"')
    # The left end of a link has the first efficiency, the right end the second.
    sides = [side for side in (0, 1) if 0 <= number - side < nodes - 1]
    plugin = _EMITTER.get(hardware.measurement, "trapped-ion")
    for side in sides:
        lines += [
            f"[nodes.{name}.devices.emitter{side}]",
            f'plugin = "sim.{plugin}"',
            'role = "emitter"',
            f"efficiency = {hardware.emitters[side]}",
            "lifetime_ps = 0",
            f"prepare_ns = {hardware.prepare_ns}",
        ]
    slots = 2 * hardware.modes
    lines += [f"[nodes.{name}.devices.memory]", 'plugin = "sim.memory"', f"communication = {slots}"]
    return lines


def _station(number: int, hardware: Hardware) -> list[str]:
    return [
        f"[nodes.s{number}]",
        'kind = "station"',
        f'address = "127.0.0.1:{50_000 + number}"',
        f"[nodes.s{number}.devices.analyser]",
        'plugin = "sim.analyser"',
        f'measurement = "{hardware.measurement}"',
        'detector = "detectors"',
        f"visibility = {hardware.visibility}",
        f"phase_sigma = {hardware.phase_sigma}",
        f"[nodes.s{number}.devices.detectors]",
        f'plugin = "sim.{"number-resolving" if hardware.resolving else "threshold"}"',
        f"efficiency = {hardware.detector}",
        f"dark_hz = {hardware.dark_hz}",
    ]


def _link(number: int, hardware: Hardware) -> list[str]:
    lines = [
        f"[links.l{number}]",
        'scheme = "midpoint-bsm"',
        f'station = "s{number}"',
        f"modes = {hardware.modes}",
    ]
    if hardware.cycle_ns:
        lines.append(f"cycle_ns = {hardware.cycle_ns}")
    for side in (0, 1):
        slots = list(range(side * hardware.modes, (side + 1) * hardware.modes))
        lines += [
            f"[links.l{number}.arms.n{number + side}]",
            f"km = {hardware.km}",
            f"db_per_km = {DB_PER_KM}",
            f"metres_per_second = {METRES_PER_SECOND}",
            f'emitter = "emitter{side}"',
            f"communication = {slots}",
        ]
    lines += [f"[[links.l{number}.settings]]", 'id = "only"', f"window_ps = {hardware.window_ps}"]
    if hardware.measurement != "polarisation":
        lines.append(f"alpha = {hardware.alpha}")
    return lines

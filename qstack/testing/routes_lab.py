"""Networks of many nodes with closed forms for datasheets: chains, rings, stars and grids.

Every link is one of :mod:`qstack.testing.lab`: one click in either of two detectors heralds, and
what is promised is what is true. Each node has one memory, with qubits of its own for each of its
links, and can join any two of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import attrs

from qstack.physical.service import (
    EndParameters,
    LinkParameters,
    MemoryModel,
    PatternPrior,
    Setting,
)
from qstack.sim.channels import Fibre
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    MemoryParameters,
)
from qstack.sim.world import WorldDevice, WorldEnd, WorldLink, WorldParameters
from qstack.testing.lab import CYCLE_NS, PREPARE_NS
from qstack.units import SECOND, Duration, LinkName, NodeName
from qstack.windows import Windows

Edges = tuple[tuple[NodeName, NodeName], ...]


def chain(count: int) -> Edges:
    """n1 - n2 - ... , `count` nodes."""
    return tuple((f"n{place}", f"n{place + 1}") for place in range(1, count))


def ring(count: int) -> Edges:
    """A chain whose ends are joined."""
    return (*chain(count), (f"n{count}", "n1"))


def star(leaves: int) -> Edges:
    """`leaves` nodes around the repeater n1."""
    return tuple(("n1", f"n{place}") for place in range(2, leaves + 2))


def grid(rows: int, columns: int) -> Edges:
    """A rectangle, numbered row by row as the generated grids are."""
    right = [(place, place + 1) for place in range(1, rows * columns) if place % columns]
    down = [(place, place + columns) for place in range(1, (rows - 1) * columns + 1)]
    return tuple((f"n{one}", f"n{other}") for one, other in (*right, *down))


SHAPES: dict[str, Edges] = {
    "chain5": chain(5),
    "ring6": ring(6),
    "star": star(4),
    "grid9": grid(3, 3),
}
"""Networks like the shipped ones of these names."""


@attrs.define
class RouteLab:
    """What a test may change of a network of many nodes. `qubits`: of each end of each link.

    `hub`: one station serves all links. `gates`: average fidelity of two-qubit gates; below 1 the
    state of single pairs cannot be foretold. `work_ns` is the time of a gate. `joined`: gates also
    join the qubits of one link, so that its pairs can be purified.
    """

    edges: Edges
    qubits: int = 4
    t2_ns: Duration = 10 * SECOND
    km: float = 0.1
    alpha: float = 0.05
    efficiency: float = 1.0
    scheduler: str = "first-come"
    herald_line: bool = True
    hub: bool = False
    confirm_ns: Duration = 1_000_000
    horizon_ns: Duration = 30_000_000
    work_ns: Duration = 0
    gates: float = 1.0
    joined: bool = False
    windows: Mapping[LinkName, Windows] = attrs.field(factory=dict)

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """All nodes, sorted."""
        return tuple(sorted({node for edge in self.edges for node in edge}))

    @property
    def stations(self) -> tuple[NodeName, ...]:
        """All stations, sorted."""
        return tuple(sorted({self._station(edge) for edge in self.edges}))

    @property
    def delay_ns(self) -> Duration:
        """How long light takes from an end to the station."""
        return round(self.km * 1e12 / 2.0419e8)

    @property
    def cycle_ns(self) -> Duration:
        """The attempt's cycle: preparation and the round trip of light, 10 us at least."""
        return max(CYCLE_NS, PREPARE_NS + 2 * self.delay_ns)

    def neighbours(self, node: NodeName) -> tuple[NodeName, ...]:
        """Who has a link with a node, in the order of the edges."""
        found = [edge for edge in self.edges if node in edge]
        return tuple(one if other == node else other for one, other in found)

    def _station(self, edge: tuple[NodeName, NodeName]) -> NodeName:
        return "hub" if self.hub else f"s-{'-'.join(sorted(edge))}"

    def _slots(self, node: NodeName, other: NodeName) -> tuple[int, ...]:
        first = self.neighbours(node).index(other) * self.qubits
        return tuple(range(first, first + self.qubits))

    def _coupled(self, node: NodeName) -> tuple[tuple[int, int], ...]:
        """Every two slots of different links, or every two."""
        slots = range(len(self.neighbours(node)) * self.qubits)
        return tuple(
            (one, other)
            for one, other in combinations(slots, 2)
            if self.joined or one // self.qubits != other // self.qubits
        )

    # --- what the stacks believe --------------------------------------------------------------

    def links(self) -> tuple[LinkParameters, ...]:
        """All links, as the stacks believe them to be."""
        return tuple(self._link(*sorted(edge)) for edge in self.edges)

    def _link(self, one: NodeName, other: NodeName) -> LinkParameters:
        name = f"{one}-{other}"
        return LinkParameters(
            name,
            "midpoint-bsm",
            (self._end(one, other), self._end(other, one)),
            self._station((one, other)),
            f"{self._station((one, other))}.{name}",
            self.cycle_ns,
            self.qubits,
            (self._setting((one, other)),),
            True,
            self.scheduler,
            64,
            0.0,
            self.confirm_ns,
            self.horizon_ns,
            self.windows.get(name),
        )

    def _end(self, node: NodeName, other: NodeName) -> EndParameters:
        model = MemoryModel(
            *(0, self.t2_ns, 1.0, self.work_ns, 1.0, self.work_ns, 1.0, (1.0, 1.0)),
            bell_measurement=len(self.neighbours(node)) > 1,
            two_qubit_fidelity=self.gates,
            coupled=self._coupled(node),
        )
        return EndParameters(
            node,
            f"{node}.to-{other}",
            f"{node}.memory",
            self._slots(node, other),
            (),
            self.herald_line,
            self.delay_ns,
            model,
        )

    def _setting(self, ends: tuple[NodeName, NodeName]) -> Setting:
        """The symmetric single-click form of the physics notes, threshold detectors, pd = 0."""
        alpha, eta = self.alpha, self.efficiency
        both = alpha**2 * (eta**2 + 2 * eta * (1 - eta))
        single = 2 * alpha * (1 - alpha) * eta
        share, fidelity = (both + single) / 2, single / (both + single)
        rest = (1 - fidelity) / 2
        patterns = (
            PatternPrior(1, 2, share, (rest, rest, fidelity, 0.0), 0.005),
            PatternPrior(2, 3, share, (rest, rest, 0.0, fidelity), 0.005),
        )
        values = tuple((node, (("alpha", alpha),)) for node in ends)
        return Setting(f"alpha-{alpha}", values, (), 1_000_000, patterns, "design")

    # --- what is true -------------------------------------------------------------------------

    def world(self) -> WorldParameters:
        """What is true."""
        devices: list[tuple[str, WorldDevice]] = []
        links = []
        emitter = ColourCentreParameters(
            self.efficiency, prepare_ns=PREPARE_NS, herald_line=self.herald_line
        )
        for node in self.nodes:
            memory = MemoryParameters(
                len(self.neighbours(node)) * self.qubits,
                t2_ns=self.t2_ns,
                gate_ns=self.work_ns,
                two_qubit_fidelity=self.gates,
                coupled=self._coupled(node),
            )
            devices.append((f"{node}.memory", WorldDevice(node, memory)))
        for edge in self.edges:
            one, other = sorted(edge)
            name, station = f"{one}-{other}", self._station(edge)
            detector = f"{station}.{name}-detector"
            analyser = AnalyserParameters("single-click", detector)
            devices.append((detector, WorldDevice(station, DetectorParameters(1.0))))
            devices.append((f"{station}.{name}", WorldDevice(station, analyser)))
            ends = []
            for node, peer in ((one, other), (other, one)):
                devices.append((f"{node}.to-{peer}", WorldDevice(node, emitter)))
                fibre = Fibre(self.km, 0.0)
                ends.append(WorldEnd(node, f"{node}.to-{peer}", f"{node}.memory", fibre))
            ends_pair = (ends[0], ends[1])
            links.append(WorldLink(name, "midpoint-bsm", ends_pair, f"{station}.{name}", 64))
        return WorldParameters(tuple(devices), tuple(links))

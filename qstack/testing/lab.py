"""Two nodes and a station between them: the small network of most tests, with its knobs.

One click in either of two detectors heralds; the datasheets of the link are closed forms of the
parameters that the world has, so that what is promised is what is true. Two photons may herald
instead, and there may be three nodes: in a row, or in a ring, all links alike, with an emitter and
memories of its own at each end of each.
"""

from __future__ import annotations

from typing import TypeAlias

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
from qstack.sim.faults import Places
from qstack.sim.heralding import BARRETT_KOK, HERALDS, SINGLE_CLICK
from qstack.sim.world import WorldDevice, WorldEnd, WorldLink, WorldParameters
from qstack.units import SECOND, Duration, LinkName, NodeName
from qstack.windows import Windows

ALPHA = 0.1
EFFICIENCY = 0.8
CYCLE_NS = 10_000
PREPARE_NS = 1_000

PAIR, ROW, RING = "pair", "row", "ring"

Joint: TypeAlias = tuple[LinkName, NodeName, NodeName, NodeName]
"""(link, first end, second end, station)."""

_JOINTS: dict[str, tuple[Joint, ...]] = {
    PAIR: (("ab", "alice", "bob", "station"),),
    ROW: (("ab", "alice", "bob", "station"), ("bc", "bob", "charlie", "station-bc")),
    RING: (
        ("ab", "alice", "bob", "station"),
        ("bc", "bob", "charlie", "station-bc"),
        ("ac", "alice", "charlie", "station-ac"),
    ),
}


@attrs.define
class Lab:
    """What a test may change of the small network; fidelity about 0.93, p about 0.15.

    `lost_charge` lowers the true fidelity, and no datasheet of the link tells. `work_ns` is the
    time of a gate, and of a move. `shape`: PAIR, ROW or RING. `two_photons`: Barrett and Kok's
    scheme, which heralds perfect pairs here. `qubits`: of either end of a link; `storage`: of a
    node, for all its links.
    """

    qubits: int = 4
    storage: int = 0
    t1_ns: Duration = 0
    t2_ns: Duration = SECOND
    km: float = 0.1
    alpha: float = ALPHA
    lost_charge: float = 0.0
    efficiency: float = EFFICIENCY
    test_rate: float = 0.0
    scheduler: str = "first-come"
    herald_line: bool = True
    confirm_ns: Duration = 5_000_000
    horizon_ns: Duration = 200_000_000
    queue_limit: int = 64
    readout: tuple[float, float] = (1.0, 1.0)
    second_setting: float | None = None
    work_ns: Duration = 0
    shape: str = PAIR
    two_photons: bool = False
    windows: Windows | None = None

    @property
    def joints(self) -> tuple[Joint, ...]:
        """The links: their ends and stations."""
        return _JOINTS[self.shape]

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """The end nodes, sorted."""
        return tuple(sorted({node for _, *ends, _ in self.joints for node in ends}))

    @property
    def stations(self) -> tuple[NodeName, ...]:
        """The stations, in the order of the links."""
        return tuple(station for *_, station in self.joints)

    @property
    def places(self) -> Places:
        """Where faults can be."""
        emitters = [self._emitter(node, joint) for joint in self.joints for node in joint[1:3]]
        devices = [*emitters, *(f"{node}.memory" for node in self.nodes)]
        devices += [f"{station}.analyser" for station in self.stations]
        return Places(self.nodes, tuple(sorted(self.stations)), tuple(sorted(devices)))

    def _place(self, node: NodeName, joint: Joint) -> int:
        """Return which of its links this is to a node, from 0."""
        return [each for each in self.joints if node in each[1:3]].index(joint)

    def _emitter(self, node: NodeName, joint: Joint) -> str:
        place = self._place(node, joint)
        return f"{node}.emitter" + (str(place + 1) if place else "")

    @property
    def _links_of_a_node(self) -> int:
        return 2 if len(self.joints) > 1 else 1

    @property
    def _slots(self) -> int:
        """How many communication slots every memory has."""
        return self._links_of_a_node * self.qubits

    @property
    def delay_ns(self) -> Duration:
        """How long light takes from an end to the station."""
        return round(self.km * 1e12 / 2.0419e8)

    @property
    def cycle_ns(self) -> Duration:
        """The attempt's cycle: preparation and the round trip of light, 10 us at least."""
        return max(CYCLE_NS, PREPARE_NS + 2 * self.delay_ns)

    def links(self) -> tuple[LinkParameters, ...]:
        """The links, as the stacks believe them to be."""
        return tuple(self._link(joint) for joint in self.joints)

    def _link(self, joint: Joint) -> LinkParameters:
        model = MemoryModel(
            *(self.t1_ns, self.t2_ns, 1.0, self.work_ns, 1.0, self.work_ns, 1.0), self.readout
        )
        storage = tuple(range(self._slots, self._slots + self.storage))
        ends = []
        for node in joint[1:3]:
            first = self._place(node, joint) * self.qubits
            slots = tuple(range(first, first + self.qubits))
            emitter, memory = self._emitter(node, joint), f"{node}.memory"
            waits = (self.herald_line, self.delay_ns)
            ends.append(EndParameters(node, emitter, memory, slots, storage, *waits, model))
        alphas = [self.alpha] + ([self.second_setting] if self.second_setting else [])
        name, _, _, station = joint
        return LinkParameters(
            name,
            "midpoint-bsm",
            (ends[0], ends[1]),
            station,
            f"{station}.analyser",
            self.cycle_ns,
            self.qubits,
            tuple(self._setting(f"alpha-{alpha}", alpha) for alpha in alphas),
            True,
            self.scheduler,
            self.queue_limit,
            self.test_rate,
            self.confirm_ns,
            self.horizon_ns,
            self.windows,
        )

    def _setting(self, name: str, alpha: float) -> Setting:
        """The symmetric single-click form of the physics notes, threshold detectors, pd = 0."""
        if self.two_photons:
            return self._two_photon_setting()
        eta = self.efficiency
        both = alpha**2 * (eta**2 + 2 * eta * (1 - eta))
        one = 2 * alpha * (1 - alpha) * eta
        share, fidelity = (both + one) / 2, one / (both + one)
        rest = (1 - fidelity) / 2
        patterns = (
            PatternPrior(1, 2, share, (rest, rest, fidelity, 0.0), 0.005),
            PatternPrior(2, 3, share, (rest, rest, 0.0, fidelity), 0.005),
        )
        values = tuple((node, (("alpha", alpha),)) for node in self.nodes)
        return Setting(name, values, (), 1_000_000, patterns, "design")

    def _two_photon_setting(self) -> Setting:
        """The double-click form with V = 1 and pd = 0: p = eta^2 / 2, F = 1."""
        perfect = {2: (0.0, 0.0, 1.0, 0.0), 3: (0.0, 0.0, 0.0, 1.0)}
        heralds = HERALDS[BARRETT_KOK]
        share = self.efficiency**2 / 2 / len(heralds)
        patterns = tuple(
            PatternPrior(clicks, bell, share, perfect[bell], 0.005)
            for clicks, bell in sorted(heralds.items())
        )
        values = tuple((node, (("alpha", 0.5),)) for node in self.nodes)
        return Setting("two-photons", values, (), 1_000_000, patterns, "design")

    def world(self) -> WorldParameters:
        """What is true."""
        emitter = ColourCentreParameters(
            self.efficiency,
            prepare_ns=PREPARE_NS,
            herald_line=self.herald_line,
            lost_charge=self.lost_charge,
        )
        slots = self._slots
        memory = MemoryParameters(
            slots,
            self.storage,
            t1_ns=self.t1_ns,
            t2_ns=self.t2_ns,
            gate_ns=self.work_ns,
            move_ns=self.work_ns,
            readout=self.readout,
            coupled=tuple((c, s) for c in range(slots) for s in range(slots, slots + self.storage)),
        )
        measurement = BARRETT_KOK if self.two_photons else SINGLE_CLICK
        devices: list[tuple[str, WorldDevice]] = []
        for station in self.stations:
            analyser = AnalyserParameters(measurement, f"{station}.detector")
            devices.append((f"{station}.detector", WorldDevice(station, DetectorParameters(1.0))))
            devices.append((f"{station}.analyser", WorldDevice(station, analyser)))
        for node in self.nodes:
            for joint in self.joints:
                if node in joint[1:3]:
                    devices.append((self._emitter(node, joint), WorldDevice(node, emitter)))
            devices.append((f"{node}.memory", WorldDevice(node, memory)))
        return WorldParameters(tuple(devices), tuple(self._world_link(j) for j in self.joints))

    def _world_link(self, joint: Joint) -> WorldLink:
        name, first, second, station = joint
        one, other = (
            WorldEnd(node, self._emitter(node, joint), f"{node}.memory", Fibre(self.km, 0.0))
            for node in (first, second)
        )
        return WorldLink(name, "midpoint-bsm", (one, other), f"{station}.analyser", 64)

"""Two nodes and a station between them: the small network of most tests, with its knobs.

One click in either of two detectors heralds; the datasheets of the link are closed forms of the
parameters that the world has, so that what is promised is what is true.
"""

from __future__ import annotations

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
from qstack.units import SECOND, Duration

ALPHA = 0.1
EFFICIENCY = 0.8
CYCLE_NS = 10_000
PREPARE_NS = 1_000


@attrs.define
class Lab:
    """What a test may change of the small network; fidelity about 0.93, p about 0.15.

    `lost_charge` lowers the true fidelity, and no datasheet of the link tells. `work_ns` is the
    time of a gate, and of a move.
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

    @property
    def delay_ns(self) -> Duration:
        """How long light takes from an end to the station."""
        return round(self.km * 1e12 / 2.0419e8)

    @property
    def cycle_ns(self) -> Duration:
        """The attempt's cycle: preparation and the round trip of light, 10 us at least."""
        return max(CYCLE_NS, PREPARE_NS + 2 * self.delay_ns)

    def links(self) -> tuple[LinkParameters, ...]:
        """The one link, as the stacks believe it to be."""
        model = MemoryModel(
            *(self.t1_ns, self.t2_ns, 1.0, self.work_ns, 1.0, self.work_ns, 1.0), self.readout
        )
        slots = tuple(range(self.qubits))
        storage = tuple(range(self.qubits, self.qubits + self.storage))
        ends = tuple(
            EndParameters(
                node,
                f"{node}.emitter",
                f"{node}.memory",
                slots,
                storage,
                self.herald_line,
                self.delay_ns,
                model,
            )
            for node in ("alice", "bob")
        )
        alphas = [self.alpha] + ([self.second_setting] if self.second_setting else [])
        return (
            LinkParameters(
                "ab",
                "midpoint-bsm",
                (ends[0], ends[1]),
                "station",
                "station.analyser",
                self.cycle_ns,
                self.qubits,
                tuple(self._setting(f"alpha-{alpha}", alpha) for alpha in alphas),
                True,
                self.scheduler,
                self.queue_limit,
                self.test_rate,
                self.confirm_ns,
                self.horizon_ns,
            ),
        )

    def _setting(self, name: str, alpha: float) -> Setting:
        """The symmetric single-click form of the physics notes, threshold detectors, pd = 0."""
        eta = self.efficiency
        both = alpha**2 * (eta**2 + 2 * eta * (1 - eta))
        one = 2 * alpha * (1 - alpha) * eta
        share, fidelity = (both + one) / 2, one / (both + one)
        rest = (1 - fidelity) / 2
        patterns = (
            PatternPrior(1, 2, share, (rest, rest, fidelity, 0.0), 0.005),
            PatternPrior(2, 3, share, (rest, rest, 0.0, fidelity), 0.005),
        )
        values = tuple((node, (("alpha", alpha),)) for node in ("alice", "bob"))
        return Setting(name, values, (), 1_000_000, patterns, "design")

    def world(self) -> WorldParameters:
        """What is true."""
        emitter = ColourCentreParameters(
            self.efficiency,
            prepare_ns=PREPARE_NS,
            herald_line=self.herald_line,
            lost_charge=self.lost_charge,
        )
        memory = MemoryParameters(
            self.qubits,
            self.storage,
            t1_ns=self.t1_ns,
            t2_ns=self.t2_ns,
            gate_ns=self.work_ns,
            move_ns=self.work_ns,
            readout=self.readout,
            coupled=tuple(
                (c, s)
                for c in range(self.qubits)
                for s in range(self.qubits, self.qubits + self.storage)
            ),
        )
        devices: list[tuple[str, WorldDevice]] = [
            ("station.detector", WorldDevice("station", DetectorParameters(1.0))),
            (
                "station.analyser",
                WorldDevice("station", AnalyserParameters("single-click", "station.detector")),
            ),
        ]
        for node in ("alice", "bob"):
            devices.append((f"{node}.emitter", WorldDevice(node, emitter)))
            devices.append((f"{node}.memory", WorldDevice(node, memory)))
        ends = tuple(
            WorldEnd(node, f"{node}.emitter", f"{node}.memory", Fibre(self.km, 0.0))
            for node in ("alice", "bob")
        )
        link = WorldLink("ab", "midpoint-bsm", (ends[0], ends[1]), "station.analyser", 64)
        return WorldParameters(tuple(devices), (link,))

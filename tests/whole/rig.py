"""Two nodes and a station on the heap, with a scripted user at each node."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

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
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.sim.world import WorldDevice, WorldEnd, WorldLink, WorldParameters
from qstack.sim.world.peek import pair_state
from qstack.testing import PairTruth, Party, Policy, free_at_once
from qstack.units import SECOND, Duration

ALPHA = 0.1
EFFICIENCY = 0.8
CYCLE_NS = 10_000


@attrs.define
class Lab:
    """What a test may change of the small network; fidelity about 0.93, p about 0.15.

    `lost_charge` lowers the true fidelity, and no datasheet of the link tells.
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

    def links(self) -> tuple[LinkParameters, ...]:
        """The one link, as the stacks believe it to be."""
        model = MemoryModel(self.t1_ns, self.t2_ns, 1.0, 0, 1.0, 0, 1.0, self.readout)
        delay = round(self.km * 1e12 / 2.0419e8)
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
                delay,
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
                CYCLE_NS,
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
            prepare_ns=1_000,
            herald_line=self.herald_line,
            lost_charge=self.lost_charge,
        )
        memory = MemoryParameters(
            self.qubits,
            self.storage,
            t1_ns=self.t1_ns,
            t2_ns=self.t2_ns,
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


class Rig:
    """A running small network; `alice` and `bob` are the scripted users of the two nodes."""

    def __init__(
        self, lab: Lab | None = None, seed: int = 1, surroundings: Surroundings | None = None
    ) -> None:
        self.lab = lab or Lab()
        around = surroundings or Surroundings()
        self.net = VirtualNetwork(self.lab.links(), self.lab.world(), seed, around)
        self.heap = self.net.heap
        self.alice = self._party("alice")
        self.bob = self._party("bob")
        self.bob.accept()
        self.alice.accept()
        self.run(lambda: len(self.alice.answers) == 1 and len(self.bob.answers) == 1)
        self.settle(5_000_000)

    def _party(self, node: str, policy: Policy = free_at_once) -> Party:
        party = Party(self.heap, f"user-{node}", node, policy)
        self.net.user(party.name, [node], party.listen)
        self.run(lambda: party.reached)
        return party

    def run(self, stop: Any, limit_ns: Duration = 100 * SECOND) -> None:
        """Turn the heap until `stop`; fails if the virtual time limit passes first."""
        until = self.heap.now + limit_ns
        self.heap.run(until, stop=stop)
        assert stop(), f"not reached by {self.heap.now / 1e9:.3f} s"

    def settle(self, duration_ns: Duration = SECOND) -> None:
        """Let the network rest."""
        self.heap.run(self.heap.now + duration_ns)

    def truth(self) -> PairTruth:
        """Put the checker of joint states between the two users."""
        checker = PairTruth(self.alice, self.bob, self.state_of)
        self.alice.policy = checker.policy_of(self.alice)
        self.bob.policy = checker.policy_of(self.bob)
        return checker

    def state_of(self, one: int, other: int, now: int) -> np.ndarray | None:
        """The joint state of a slot of alice's and one of bob's; None if one is empty."""
        try:
            return pair_state(self.net.world, ("alice.memory", one), ("bob.memory", other), now)
        except KeyError:
            return None

    def free_slots(self) -> tuple[int, int]:
        """How many communication slots are free at alice and at bob."""
        return self.net.host("alice").slots.free(), self.net.host("bob").slots.free()

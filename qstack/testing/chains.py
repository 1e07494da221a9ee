"""Chains of repeaters whose every elementary state is a closed form, with scripted users.

Segments are of two kinds. ``two-photon`` heralds with four detectors: with visibility V its
errors are all Z, with probability ``(1 - V) / 2`` (Barrett and Kok 2005; no dark counts).
With dark counts, photons from one arm each time herald a state that is fully mixed.
``one-photon`` heralds with one click, alpha the bright share: where both ends were bright the state
is \\|11>, half an X error and half a Y error. The stacks are told these closed forms and nothing
else, so that what they claim can be compared with the states of the world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import attrs

from qstack.bell import BellWeights, permute
from qstack.messages.circuits import Method
from qstack.network.service import METHODS
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
    TrappedIonParameters,
)
from qstack.sim.heralding import HERALDS
from qstack.sim.world import WorldDevice, WorldEnd, WorldLink, WorldParameters
from qstack.units import MILLISECOND, Duration, NodeName

ONE_PHOTON, TWO_PHOTON = "one-photon", "two-photon"
_MEASUREMENT = {ONE_PHOTON: "single-click", TWO_PHOTON: "polarisation"}

PREPARE_NS = 1_000
WINDOW_PS = 1_000_000


@attrs.frozen
class Segment:
    """One link of a chain, of length `km` from either end to its station in the middle.

    `efficiency` is that of each arm, detector included. `turn`: the Pauli by which the heralded
    Bell states differ from Psi+ and Psi-, so that 2 heralds Phi+ and Phi-. `dark`: the probability
    of a dark count per detector and window, for two photons.
    """

    kind: str = TWO_PHOTON
    efficiency: float = 1.0
    visibility: float = 1.0
    alpha: float = 0.05
    turn: int = 0
    km: float = 0.0
    dark: float = 0.0

    @property
    def success(self) -> float:
        """The probability of a herald per attempt."""
        if self.kind == TWO_PHOTON:
            return sum(self._two_photon())
        one, both = self._one_photon()
        return one + both

    @property
    def weights(self) -> BellWeights:
        """Errors I, Z, X, Y relative to the heralded state, at emission."""
        if self.kind == TWO_PHOTON:
            right, bunched, mixed = self._two_photon()
            total = right + bunched + mixed
            same, phase = (1 + self.visibility) / 2, (1 - self.visibility) / 2
            even = bunched / 2 + mixed / 4
            first, second = right * same + mixed / 4, right * phase + mixed / 4
            return first / total, second / total, even / total, even / total
        one, both = self._one_photon()
        wrong = both / (one + both)
        return 1 - wrong, 0.0, wrong / 2, wrong / 2

    @property
    def tilt(self) -> float:
        """Weight of |00> less that of |11>; a turn by X makes odd states of both."""
        return -2 * self.weights[2] if self.kind == ONE_PHOTON and not self.turn & 2 else 0.0

    def _two_photon(self) -> tuple[float, float, float]:
        """Heralds of both photons; of both in one detector and a dark count; of fewer photons.

        Of the second kind spins are alike, of the third fully mixed; no dark count elsewhere.
        """
        eta, dark = self.efficiency, self.dark
        alone = (1 - dark) ** 2
        bunched = eta**2 * (1 + self.visibility) / 2 * dark
        mixed = 4 * eta * (1 - eta) * dark + 4 * (1 - eta) ** 2 * dark**2
        return alone * eta**2 / 2, alone * bunched, alone * mixed

    def _one_photon(self) -> tuple[float, float]:
        eta, alpha = self.efficiency, self.alpha
        return 2 * alpha * (1 - alpha) * eta, alpha**2 * (eta**2 + 2 * eta * (1 - eta))

    @property
    def delay_ns(self) -> Duration:
        """How long light takes from an end to the station."""
        return Fibre(self.km, 0.0).delay_ns

    def patterns(self) -> tuple[tuple[int, int], ...]:
        """What heralds, as (click mask, Bell index)."""
        plain = HERALDS[_MEASUREMENT[self.kind]]
        return tuple(sorted((clicks, bell ^ self.turn) for clicks, bell in plain.items()))


@attrs.frozen
class ChainLab:
    """A chain alice, r1, ..., bob: segments, and a memory that all nodes have alike.

    Each node has a qubit for each of its links, or with `single` one to attempt with and one
    more per link to store a half in. With `qubits` more than one it has so many for each link,
    all joined to all; with `swaps_only` repeaters join only those of different links. Times in ns,
    0 where nothing fades. T1 relaxes to equal populations. `keep`: a gate of two qubits does what
    it should; `readout`: of either outcome. `methods`: to purify
    with.
    """

    segments: Sequence[Segment]
    cycle_ns: Duration = 10_000
    t1_ns: Duration = 0
    t2_ns: Duration = 0
    exponent: float = 1.0
    keep: float = 1.0
    readout: float = 1.0
    gate_ns: Duration = 0
    readout_ns: Duration = 0
    single: bool = False
    wire_ns: Duration = 50_000
    confirm_ns: Duration = 5 * MILLISECOND
    spread: float = 0.0
    qubits: int = 1
    methods: tuple[Method, ...] = METHODS
    swaps_only: bool = False

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """The nodes in order."""
        return ("alice", *(f"r{k}" for k in range(1, len(self.segments))), "bob")

    def _slots(self, index: int, *, left: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The (communication, storage) slots of node `index` for the link on one side."""
        inner = 0 < index < len(self.segments)
        if self.single:
            return (0,), ((1, 2) if inner else (1,))
        first = 0 if left or not inner else self.qubits
        return tuple(range(first, first + self.qubits)), ()

    def links(self) -> tuple[LinkParameters, ...]:
        """What the stacks believe, which is true."""
        return tuple(self._link(place, each) for place, each in enumerate(self.segments))

    def _link(self, place: int, segment: Segment) -> LinkParameters:
        one, other = self.nodes[place : place + 2]
        name = f"{one}-{other}"
        ends = []
        for node, index, left in ((one, place, False), (other, place + 1, True)):
            communication, storage = self._slots(index, left=left)
            ends.append(
                EndParameters(
                    node,
                    f"{node}.to-{other if node == one else one}",
                    f"{node}.memory",
                    communication,
                    storage,
                    True,
                    segment.delay_ns,
                    self._model(index),
                )
            )
        ends.sort(key=lambda end: end.node)
        return LinkParameters(
            name=name,
            scheme="midpoint-bsm",
            ends=(ends[0], ends[1]),
            station=f"s-{name}",
            analyser=f"s-{name}.analyser",
            cycle_ns=self.cycle_ns,
            modes=self.qubits,
            settings=(self._setting(segment, (one, other)),),
            keep=True,
            scheduler="first-come",
            queue_limit=64,
            test_rate=0.0,
            confirm_ns=self.confirm_ns,
            horizon_ns=200 * MILLISECOND,
        )

    def _setting(self, segment: Segment, ends: tuple[NodeName, NodeName]) -> Setting:
        heralding = segment.patterns()
        share = segment.success / len(heralding)
        patterns = tuple(
            PatternPrior(
                clicks, bell, share, permute(segment.weights, bell), self.spread, segment.tilt
            )
            for clicks, bell in heralding
        )
        alpha = (("alpha", segment.alpha),) if segment.kind == ONE_PHOTON else ()
        values = tuple((node, alpha) for node in sorted(ends))
        return Setting("only", values, (), WINDOW_PS, patterns, "design")

    def _coupled(self, index: int) -> tuple[tuple[int, int], ...]:
        """Which qubits of node `index` are joined."""
        if self.swaps_only and 0 < index < len(self.segments):
            return tuple(product(range(self.qubits), range(self.qubits, 2 * self.qubits)))
        return tuple(combinations(range(3 if self.single else 2 * self.qubits), 2))

    def _model(self, index: int) -> MemoryModel:
        return MemoryModel(
            t1_ns=self.t1_ns,
            t2_ns=self.t2_ns,
            exponent=self.exponent,
            move_ns=0,
            move_fidelity=1.0,
            gate_ns=self.gate_ns,
            gate_fidelity=1.0,
            readout=(self.readout, self.readout),
            bell_measurement=True,
            two_qubit_fidelity=self.keep + (1 - self.keep) / 4,
            coupled=self._coupled(index),
        )

    def world(self) -> WorldParameters:
        """What is true."""
        devices = [
            (f"{node}.memory", WorldDevice(node, self._memory(index)))
            for index, node in enumerate(self.nodes)
        ]
        links = []
        for place, segment in enumerate(self.segments):
            one, other = self.nodes[place : place + 2]
            station = f"s-{one}-{other}"
            optics = AnalyserParameters(
                _MEASUREMENT[segment.kind],
                f"{station}.detector",
                visibility=segment.visibility,
                patterns=segment.patterns(),
            )
            devices.append((f"{station}.detector", WorldDevice(station, _detectors(segment))))
            devices.append((f"{station}.analyser", WorldDevice(station, optics)))
            ends = []
            for node, far in sorted(((one, other), (other, one))):
                emitter = f"{node}.to-{far}"
                devices.append((emitter, WorldDevice(node, _emitter(segment))))
                ends.append(WorldEnd(node, emitter, f"{node}.memory", Fibre(segment.km, 0.0)))
            both = ends[0], ends[1]
            name = f"{one}-{other}"
            links.append(WorldLink(name, "midpoint-bsm", both, f"{station}.analyser", self.qubits))
        return WorldParameters(tuple(devices), tuple(links))

    def _memory(self, index: int) -> MemoryParameters:
        model = self._model(index)
        return MemoryParameters(
            1 if self.single else 2 * self.qubits,
            2 if self.single else 0,
            t1_ns=self.t1_ns,
            t2_ns=self.t2_ns,
            exponent=self.exponent,
            equilibrium=0.5,
            gate_ns=self.gate_ns,
            two_qubit_fidelity=model.two_qubit_fidelity,
            readout_ns=self.readout_ns,
            readout=model.readout,
            coupled=model.coupled,
        )


def _detectors(segment: Segment) -> DetectorParameters:
    return DetectorParameters(1.0, dark_hz=-math.log1p(-segment.dark) * 1e12 / WINDOW_PS)


def _emitter(segment: Segment) -> Any:
    if segment.kind == ONE_PHOTON:
        return ColourCentreParameters(segment.efficiency, prepare_ns=PREPARE_NS)
    return TrappedIonParameters(segment.efficiency, prepare_ns=PREPARE_NS)

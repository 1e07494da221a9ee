"""From device parameters to what one attempt can give: tables ready for drawing.

An attempt's table depends on both ends' settings, the station's setting and window, and the
loss of the moment. Probabilities and states are those of :mod:`qstack.sim.heralding`; here
they are only brought into the form that a draw needs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import TypeAlias

import numpy as np

from qstack.machine import record
from qstack.sim.channels import transmission
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    EmitterParameters,
    NumberResolvingParameters,
    QuantumDotParameters,
    SpdcParameters,
    TrappedIonParameters,
)
from qstack.sim.heralding import (
    AnalyserOptics,
    ArmOptics,
    captured,
    dark_probability,
    table_for,
    visibility_with_delay,
)
from qstack.sim.states import Matrix
from qstack.sim.world.axes import PAULIS
from qstack.sim.world.registers import Terms
from qstack.units import Chance, Picoseconds

Values: TypeAlias = tuple[tuple[str, float], ...]

NOTHING = 1e-12
"""Terms below this are rounding residue; without them Bell-diagonal pairs are four numbers."""


@record
class Pattern:
    """A click pattern: the share of all that is drawn from up to and including it, and the pair.

    `terms` are those of (A, B); they are never changed in place.
    """

    cumulative: float
    clicks: int
    terms: Terms


@record
class AttemptTable:
    """What one attempt gives: its `success` probability, and the patterns given success.

    `failing`: (pattern, probability per attempt) of clicks that herald nothing.
    """

    success: float
    patterns: tuple[Pattern, ...]
    failing: tuple[tuple[int, float], ...]

    def draw(self, chance: Chance) -> Pattern:
        """Draw the pattern of a success."""
        if len(self.patterns) == 1:
            return self.patterns[0]
        u = chance.uniform()
        for pattern in self.patterns:
            if u < pattern.cumulative:
                return pattern
        return self.patterns[-1]


@record
class ArmView:
    """One end as the analyser sees it: emitter, its setting, and the loss on the way in dB.

    `late_ps`: how much later than the window expects them its photons come.
    """

    emitter: EmitterParameters
    values: Values
    loss_db: float
    late_ps: Picoseconds = 0


@record
class StationView:
    """The analyser: its parameters, its detectors, the window, and its values of the setting."""

    analyser: AnalyserParameters
    detector: DetectorParameters
    window_ps: Picoseconds
    values: Values = ()


@lru_cache(maxsize=4096)
def attempt_table(a: ArmView, b: ArmView, station: StationView) -> AttemptTable:
    """Return the table of an attempt at a station in the middle; success: it heralds."""
    shares, states = _possible(a, b, station)
    wanted = [clicks for clicks, _ in station.analyser.heralding() if shares.get(clicks)]
    failing = tuple(
        (clicks, share) for clicks, share in shares.items() if clicks and clicks not in wanted
    )
    return AttemptTable(*_drawable(wanted, shares, states), failing)


@lru_cache(maxsize=1024)
def whole_table(a: ArmView, b: ArmView, station: StationView) -> AttemptTable:
    """Return the same attempt with every pattern as a success, silence too.

    For detectors that remember: what they make of a pattern is decided after it is drawn.
    """
    shares, states = _possible(a, b, station)
    return AttemptTable(*_drawable(list(shares), shares, states), ())


def _drawable(
    wanted: list[int], shares: dict[int, float], states: dict[int, Matrix]
) -> tuple[float, tuple[Pattern, ...]]:
    success = sum((shares[clicks] for clicks in wanted), 0.0)
    patterns, total = [], 0.0
    for clicks in wanted:
        total += shares[clicks]
        patterns.append(Pattern(total / success, clicks, terms_of(states[clicks])))
    return success, tuple(patterns)


@lru_cache(maxsize=1024)
def _possible(
    a: ArmView, b: ArmView, station: StationView
) -> tuple[dict[int, float], dict[int, Matrix]]:
    """Probability and state of every pattern that can be.

    A lost charge state mixes in attempts in which that end is dark, which is exact.
    """
    analyser = analyser_optics(a, b, station)
    turn = np.kron(PAULIS[0], PAULIS[station.analyser.turn()])
    shares: dict[int, float] = {}
    states: dict[int, Matrix] = {}
    for (dark_a, weight_a), (dark_b, weight_b) in product(_charge(a), _charge(b)):
        table = table_for(
            station.analyser.measurement,
            arm_optics(a, station, dark_a),
            arm_optics(b, station, dark_b),
            analyser,
        )
        for outcome in table.outcomes:
            share = weight_a * weight_b * outcome.probability
            clicks = outcome.clicks
            shares[clicks] = shares.get(clicks, 0.0) + share
            states[clicks] = states.get(clicks, 0.0) + share * outcome.state
    for clicks, share in shares.items():
        states[clicks] = turn @ (states[clicks] / share) @ turn.conj().T
    return shares, states


def _charge(arm: ArmView) -> tuple[tuple[bool, float], ...]:
    lost = arm.emitter.lost_charge if isinstance(arm.emitter, ColourCentreParameters) else 0.0
    return ((False, 1.0 - lost), (True, lost)) if lost else ((False, 1.0),)


def value(values: Values, name: str, default: float) -> float:
    """Return a working point's value of this name, or the device's own."""
    for key, number in values:
        if key == name:
            return number
    return default


def arm_optics(arm: ArmView, station: StationView, dark: bool = False) -> ArmOptics:
    """Return what the analyser sees of one end; `dark`: its emitter emits nothing."""
    emitter, detector = arm.emitter, station.detector
    reach = transmission(arm.loss_db) * detector.efficiency
    window = station.window_ps
    alpha = emitter.alpha if isinstance(emitter, ColourCentreParameters) else 0.5
    double = phase = 0.0
    match emitter:
        case ColourCentreParameters() | TrappedIonParameters():
            double, phase = emitter.double_excitation, emitter.phase_sigma
        case QuantumDotParameters():
            double, phase = emitter.multi_photon, emitter.phase_sigma
        case SpdcParameters():
            pass
    return ArmOptics(
        efficiency=0.0 if dark else emitter.efficiency * reach * _inside(arm, station),
        bright=value(arm.values, "alpha", alpha),
        double_excitation=double,
        noise_clicks_per_window=emitter.noise_hz * reach * window * 1e-12,
        phase_sigma=phase,
    )


def _inside(arm: ArmView, station: StationView) -> float:
    """The part of a packet that the window takes in.

    An exponential packet should have its front at the beginning of the window; one without
    length is blurred by the detector's jitter and should be in the middle.
    """
    window, late = station.window_ps, arm.late_ps
    lifetime = arm.emitter.lifetime_ps
    if lifetime <= 0:
        return captured(window, station.detector.jitter_ps, late)
    if late >= 0:
        return packet(lifetime, max(window - late, 0))
    return math.exp(late / lifetime) * packet(lifetime, window)


def packet(lifetime_ps: Picoseconds, window_ps: Picoseconds) -> float:
    """The part of an exponential packet that a window from its front on takes in."""
    return float(-np.expm1(-window_ps / lifetime_ps)) if lifetime_ps > 0 else 1.0


def analyser_optics(a: ArmView, b: ArmView, station: StationView) -> AnalyserOptics:
    """Return the interferometer and its detectors, for these two emitters.

    The visibility is that of the setting, times the overlap of packets that come apart.
    """
    analyser, detector = station.analyser, station.detector
    aligned = value(station.values, "visibility", analyser.visibility)
    lifetime = float(max(a.emitter.lifetime_ps, b.emitter.lifetime_ps))
    return AnalyserOptics(
        visibility=visibility_with_delay(aligned, a.late_ps - b.late_ps, lifetime),
        dark_probability=dark_probability(detector.dark_hz, station.window_ps),
        number_resolving=isinstance(detector, NumberResolvingParameters),
        phase_sigma=analyser.phase_sigma,
        frequency_offset_hz=a.emitter.frequency_hz - b.emitter.frequency_hz,
        lifetime_ps=lifetime,
    )


def terms_of(state: Matrix) -> Terms:
    """Return the Pauli terms of a (4, 4) state of (A, B)."""
    terms: Terms = {}
    for first, second in product(range(4), repeat=2):
        operator = np.kron(PAULIS[first], PAULIS[second])
        mean = float(np.trace(operator @ state).real)
        if abs(mean) > NOTHING:
            terms[first | second << 2] = mean
    terms[0] = 1.0
    return terms


def matrix_of(terms: Terms, qubits: int) -> Matrix:
    """Return the density matrix of Pauli terms, (2**n, 2**n) complex; first qubit leftmost."""
    total = np.zeros((1 << qubits, 1 << qubits), dtype=complex)
    for key, mean in terms.items():
        operator = np.eye(1, dtype=complex)
        for place in range(qubits):
            operator = np.kron(operator, PAULIS[(key >> (2 * place)) & 3])
        total += mean * operator
    return total / (1 << qubits)

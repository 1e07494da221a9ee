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

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.sim.channels import transmission
from qstack.sim.devices import (
    COINCIDENCE,
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
    ClickTable,
    HeraldTable,
    PairEnd,
    PairSource,
    captured,
    dark_probability,
    pair_source,
    spdc_bsm,
    table_for,
    visibility_with_delay,
)
from qstack.sim.states import Matrix
from qstack.sim.world.axes import PAULIS
from qstack.sim.world.registers import Axis, Terms
from qstack.units import Chance, Picoseconds

Values: TypeAlias = tuple[tuple[str, float], ...]

NOTHING = 1e-12
"""Terms below this are rounding residue; without them Bell-diagonal pairs are four numbers."""


@record
class Accepted:
    """One accepted pattern: its share of the successes up to and including it, and the pair.

    `terms` are those of (A, B); they are never changed in place.
    """

    cumulative: float
    clicks: int
    terms: Terms


@record
class AttemptTable:
    """What one attempt gives: its `success` probability, and the patterns given success."""

    success: float
    accepted: tuple[Accepted, ...]

    def draw(self, chance: Chance) -> Accepted:
        """Draw the pattern of a success."""
        if len(self.accepted) == 1:
            return self.accepted[0]
        u = chance.uniform()
        for pattern in self.accepted:
            if u < pattern.cumulative:
                return pattern
        return self.accepted[-1]


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
    """The analyser: its parameters, its detectors, and the window."""

    analyser: AnalyserParameters
    detector: DetectorParameters
    window_ps: Picoseconds


@lru_cache(maxsize=4096)
def attempt_table(a: ArmView, b: ArmView, station: StationView) -> AttemptTable:
    """Return the table of an attempt at a station in the middle.

    A lost charge state mixes in attempts in which that end is dark, which is exact.
    """
    analyser = analyser_optics(a, b, station)
    shares: dict[int, float] = {}
    states: dict[int, Matrix] = {}
    wanted = [clicks for clicks, _ in station.analyser.heralding()]
    for (dark_a, weight_a), (dark_b, weight_b) in product(_charge(a), _charge(b)):
        table = table_for(
            station.analyser.measurement,
            arm_optics(a, station, dark_a),
            arm_optics(b, station, dark_b),
            analyser,
        )
        _gather(table, wanted, weight_a * weight_b, shares, states)
    success = sum(shares.values())
    accepted, total = [], 0.0
    for clicks in wanted:
        if shares.get(clicks):
            total += shares[clicks]
            terms = terms_of(states[clicks] / shares[clicks])
            accepted.append(Accepted(total / success, clicks, terms))
    return AttemptTable(success, tuple(accepted))


def _gather(
    table: HeraldTable,
    wanted: list[int],
    weight: float,
    shares: dict[int, float],
    states: dict[int, Matrix],
) -> None:
    for outcome in table.outcomes:
        if outcome.clicks in wanted:
            share = weight * outcome.probability
            shares[outcome.clicks] = shares.get(outcome.clicks, 0.0) + share
            states[outcome.clicks] = states.get(outcome.clicks, 0.0) + share * outcome.state


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
        return float(-np.expm1(-max(window - late, 0) / lifetime))
    return math.exp(late / lifetime) * float(-np.expm1(-window / lifetime))


def _packet(lifetime_ps: Picoseconds, window_ps: Picoseconds) -> float:
    """The part of an exponential packet that a window from its front on takes in."""
    return float(-np.expm1(-window_ps / lifetime_ps)) if lifetime_ps > 0 else 1.0


def analyser_optics(a: ArmView, b: ArmView, station: StationView) -> AnalyserOptics:
    """Return the interferometer and its detectors, for these two emitters."""
    analyser, detector = station.analyser, station.detector
    lifetime = float(max(a.emitter.lifetime_ps, b.emitter.lifetime_ps))
    apart = a.late_ps - b.late_ps
    return AnalyserOptics(
        visibility=visibility_with_delay(analyser.visibility, apart, lifetime),
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


# --- sources of pairs: measured at once, so there are outcomes and no states ----------------


@record
class PairView:
    """Both receivers (detectors and loss), the source and its setting, and the window.

    `apart_ps`: by how much the clocks of the receivers differ.
    """

    source: SpdcParameters
    values: Values
    detectors: tuple[DetectorParameters, DetectorParameters]
    losses_db: tuple[float, float]
    window_ps: Picoseconds
    apart_ps: Picoseconds = 0


@record
class JointTable:
    """What one attempt gives that is measured at both ends.

    `draws`: (cumulative share of the successes, click mask of the station, outcome of A, of B).
    """

    success: float
    draws: tuple[tuple[float, int, int, int], ...]

    def draw(self, chance: Chance) -> tuple[float, int, int, int]:
        """Draw the pattern and both outcomes of a success."""
        u = chance.uniform()
        for entry in self.draws:
            if u < entry[0]:
                return entry
        return self.draws[-1]


@lru_cache(maxsize=4096)
def coincidence_table(view: PairView, axis_a: Axis, axis_b: Axis) -> JointTable:
    """Return the table of a source in the middle; success: both ends have a click.

    Its success probability does not depend on the axes, the outcomes do.
    """
    arms = []
    jitter = math.hypot(*(detector.jitter_ps for detector in view.detectors))
    # Half of what the coincidence window loses is taken as a loss of either arm.
    part = math.sqrt(captured(view.window_ps, jitter, view.apart_ps))
    for detector, loss in zip(view.detectors, view.losses_db, strict=True):
        reach = transmission(loss) * detector.efficiency
        reach *= _packet(view.source.lifetime_ps, view.window_ps)
        noise = view.source.noise_hz * reach * view.window_ps * 1e-12
        taken = view.source.efficiency * reach * part
        arms.append(ArmOptics(taken, noise_clicks_per_window=noise))
    mean = value(view.values, "pair_mean", view.source.pair_mean)
    # The model has one dark probability; with unequal detectors the difference is stray light.
    darks = [dark_probability(d.dark_hz, view.window_ps) for d in view.detectors]
    low = min(darks)
    for index, dark in enumerate(darks):
        if dark > low:
            extra = -2 * float(np.log1p(-(dark - low) / (1 - low)))
            arm = arms[index]
            total = arm.noise_clicks_per_window + extra
            arms[index] = ArmOptics(arm.efficiency, noise_clicks_per_window=total)
    source = PairSource(mean, view.source.bell, low)
    return _joint(pair_source(arms[0], arms[1], source, axis_a, axis_b), 0, ())


@lru_cache(maxsize=4096)
def double_source_table(
    a: ArmView, b: ArmView, station: StationView, axis_a: Axis, axis_b: Axis
) -> JointTable:
    """Return the table of a pair source at each end of a station in the middle.

    Success: an accepted pattern at the station and a click at either end.
    """
    ends = (_local(a, station, axis_a), _local(b, station, axis_b))
    table = spdc_bsm(
        ends, arm_optics(a, station), arm_optics(b, station), analyser_optics(a, b, station)
    )
    wanted = tuple(clicks for clicks, _ in station.analyser.heralding())
    return _joint(table, 4, wanted)


def _local(arm: ArmView, station: StationView, axis: Axis) -> PairEnd:
    emitter = arm.emitter
    if not isinstance(emitter, SpdcParameters):
        raise LocalProtocolError("a pair source at one end alone has no table")
    return PairEnd(
        value(arm.values, "pair_mean", emitter.pair_mean),
        emitter.local_efficiency,
        axis,
        dark_probability(emitter.local_dark_hz, station.window_ps),
        emitter.bell,
    )


def _joint(table: ClickTable, shift: int, wanted: tuple[int, ...]) -> JointTable:
    """Sum the masks into (pattern, outcomes); both detectors of an end: a fair coin."""
    shares: dict[tuple[int, int, int], float] = {}
    for mask, probability in enumerate(table.probabilities):
        station = mask & ((1 << shift) - 1) if shift else COINCIDENCE
        at_a, at_b = (mask >> shift) & 3, mask >> (shift + 2)
        if not (at_a and at_b and probability) or (wanted and station not in wanted):
            continue
        for bit_a, bit_b in product((0, 1), repeat=2):
            if at_a >> bit_a & 1 and at_b >> bit_b & 1:
                share = probability / (at_a.bit_count() * at_b.bit_count())
                key = (station, bit_a, bit_b)
                shares[key] = shares.get(key, 0.0) + share
    success = sum(shares.values())
    draws, total = [], 0.0
    for key, share in shares.items():
        total += share
        draws.append((total / success, *key))
    return JointTable(success, tuple(draws))

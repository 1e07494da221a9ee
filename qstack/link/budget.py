"""The budget of a link: from datasheets, decibel by decibel, to rate and fidelity.

The states are those of :mod:`qstack.link.closed_forms`. What is approximate, and how much: a
second photon of a double excitation never interferes (error of the order of its probability
times the efficiency); a packet is cut by the window and blurred by jitter as if the two were
independent; dead time and afterpulses count for nothing.
"""

from __future__ import annotations

import math

from qstack.bell import PHI_PLUS, PSI_MINUS, PSI_PLUS, BellIndex, permute, werner
from qstack.errors import LocalProtocolError
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.station import StationSheet
from qstack.link.closed_forms import (
    Clicks,
    SpinState,
    background,
    captured,
    decibel_to_factor,
    double_click,
    factor_to_decibel,
    pair_source,
    single_click,
)
from qstack.machine import record
from qstack.physical.service import PatternPrior
from qstack.units import Duration, LinkName, NodeName, Picoseconds

SINGLE_CLICK = "single-click"
POLARISATION = "polarisation"
BARRETT_KOK = "barrett-kok"
PAIR_SOURCE = "pair-source"

HERALDS: dict[str, dict[int, BellIndex]] = {
    SINGLE_CLICK: {0b01: PSI_PLUS, 0b10: PSI_MINUS},
    # Bits H1 V1 H2 V2: both clicks behind one port of the splitter, or one behind each.
    POLARISATION: {0b0011: PSI_PLUS, 0b1100: PSI_PLUS, 0b0110: PSI_MINUS, 0b1001: PSI_MINUS},
    # Bits 0 and 1 are round one, 2 and 3 round two: the same detector twice, or not.
    BARRETT_KOK: {0b0101: PSI_PLUS, 0b1010: PSI_PLUS, 0b0110: PSI_MINUS, 0b1001: PSI_MINUS},
    # One bit per receiver: a coincidence. Its state is what the source makes.
    PAIR_SOURCE: {0b11: PHI_PLUS},
}
"""Click masks that can herald, with the Bell index they stand for, per `measurement`."""


# --- what is predicted from ---------------------------------------------------------------


@record
class ArmSheet:
    """One arm: an emitter, a fibre, and the detectors at the end of it.

    With a source in the middle `emitter` is that source, and `detector` the receiver's.
    """

    node: NodeName
    emitter: EmitterSheet
    detector: DetectorSheet
    km: float
    db_per_km: float
    extra_db: float

    @property
    def fibre(self) -> float:
        """The transmission of the fibre with its connectors and splices."""
        return decibel_to_factor(self.km * self.db_per_km + self.extra_db)

    @property
    def efficiency(self) -> float:
        """Emission to click, whatever the window."""
        return self.emitter.efficiency * self.fibre * self.detector.efficiency


@record
class Optics:
    """Both arms, in the order of the ends, and the analyser between them."""

    arms: tuple[ArmSheet, ArmSheet]
    station: StationSheet


@record
class Point:
    """A working point: bright populations per end, window, and what it overrides.

    `alpha` is 1/2 at both ends for two-photon heralds that are not biased. `visibility` and
    `pair_mean` are those of this point. `spread` is the stated uncertainty of its fidelity.
    """

    id: str
    alpha: tuple[float, float]
    window_ps: Picoseconds
    visibility: float
    pair_mean: float
    spread: float


def beat(optics: Optics) -> float:
    """Return what a frequency offset leaves of the coherence when nobody reads the tags.

    The phase turns with the time of detection; its mean cosine over an exponential packet
    of lifetime T is 1 / (1 + (2 pi f T)^2), for one photon and for the difference of two.
    """
    a, b = (arm.emitter for arm in optics.arms)
    lifetime_ps = max(a.lifetime_ps, b.lifetime_ps)
    turn = 2 * math.pi * (a.frequency_hz - b.frequency_hz) * lifetime_ps * 1e-12
    return 1.0 / (1.0 + turn * turn)


# --- a working point ----------------------------------------------------------------------


def window_factors(optics: Optics, window_ps: Picoseconds) -> tuple[float, float]:
    """Return the part of each arm's photons that the window takes in.

    The window opens with the front of an exponential packet and is blurred by jitter. Of a
    pair source the relative jitter of both receivers counts, half of its loss at either arm.
    """
    first, second = (_packet(arm, window_ps) for arm in optics.arms)
    jitters = [arm.detector.jitter_ps for arm in optics.arms]
    if optics.station.measurement == PAIR_SOURCE:
        part = math.sqrt(captured(window_ps, math.hypot(*jitters)))
        return first * part, second * part
    return first * captured(window_ps, jitters[0]), second * captured(window_ps, jitters[1])


def _packet(arm: ArmSheet, window_ps: Picoseconds) -> float:
    lifetime = arm.emitter.lifetime_ps
    return -math.expm1(-window_ps / lifetime) if lifetime > 0 else 1.0


def efficiencies(optics: Optics, window_ps: Picoseconds) -> tuple[float, float]:
    """Return both arms' efficiencies from emission to a click inside the window."""
    parts = window_factors(optics, window_ps)
    first, second = optics.arms
    return first.efficiency * parts[0], second.efficiency * parts[1]


def dark_click(optics: Optics, window_ps: Picoseconds) -> float:
    """Return the probability of an unwanted click per analyser detector and window.

    Dark counts and the light that the emitters add, which spreads evenly over the detectors.
    """
    detectors = 4 if optics.station.measurement == POLARISATION else 2
    stray = sum(a.emitter.noise_hz * a.fibre * a.detector.efficiency for a in optics.arms)
    return background(optics.arms[0].detector.dark_hz + stray / detectors, window_ps)


def state(optics: Optics, point: Point) -> SpinState:
    """Return the spin-spin state of a midpoint measurement at a working point."""
    first, second = (arm.emitter for arm in optics.arms)
    eta = efficiencies(optics, point.window_ps)
    offset = beat(optics)
    resolving = optics.arms[0].detector.number_resolving
    dark = dark_click(optics, point.window_ps)
    if optics.station.measurement == SINGLE_CLICK:
        clicks = Clicks(point.visibility, dark, resolving)
        sigma = math.hypot(first.phase_sigma, second.phase_sigma)
        noise = math.exp(-sigma * sigma / 2)
        double = (first.double_excitation, second.double_excitation)
        return single_click(point.alpha, eta, clicks, double, noise * offset)
    # Phase noise is common to both modes and cancels. A second photon is lost nearly always:
    # between rounds it tells the spin, with polarisation (random for it) it tells nothing.
    kept = 1.0
    if optics.station.measurement == BARRETT_KOK:
        kept = (1 - first.double_excitation) * (1 - second.double_excitation)
    clicks = Clicks(point.visibility * offset, dark, resolving)
    return double_click(point.alpha, eta, clicks, kept)


def predict(optics: Optics, point: Point) -> tuple[PatternPrior, ...]:
    """Return what each heralding pattern of a working point promises, from datasheets alone.

    The patterns are those that the station accepts; where its sheet gives a pattern another
    Bell index than the optics do, its wiring differs by that Pauli. LocalProtocolError for a
    measurement, or a pattern, that no closed form is known for.
    """
    table = HERALDS.get(optics.station.measurement)
    if table is None:
        known = ", ".join(HERALDS)
        raise LocalProtocolError(f"{optics.station.measurement!r} is none of {known}")
    strange = [mask for mask, _ in optics.station.patterns if mask not in table]
    if strange:
        raise LocalProtocolError(f"patterns {', '.join(map(bin, strange))} herald nothing")
    if optics.station.measurement == PAIR_SOURCE:
        return _predict_pairs(optics, point)
    spins = state(optics, point)
    share = spins.success / len(table)
    return tuple(
        PatternPrior(
            mask,
            bell,
            share,
            permute(spins.weights(table[mask]), bell ^ table[mask]),
            point.spread,
            spins.tilt if bell & 2 else 0.0,
        )
        for mask, bell in optics.station.patterns
    )


def _predict_pairs(optics: Optics, point: Point) -> tuple[PatternPrior, ...]:
    """Coincidences of a source in the middle; errors of more than one pair are isotropic."""
    receivers = []
    for arm in optics.arms:
        stray = arm.emitter.noise_hz * arm.fibre * arm.detector.efficiency
        rate = 2 * arm.detector.dark_hz + stray
        receivers.append(background(rate, point.window_ps))
    dark = (receivers[0], receivers[1])
    eta = efficiencies(optics, point.window_ps)
    gain, wrong = pair_source(point.pair_mean, eta, dark, (1 - point.visibility) / 2)
    fidelity = 1 - 1.5 * wrong
    return tuple(
        PatternPrior(mask, bell, gain, werner(fidelity, bell), point.spread)
        for mask, bell in optics.station.patterns
    )


# --- the budget ---------------------------------------------------------------------------


@record
class Row:
    """A line of an arm's budget: a factor, its loss in dB, and what is left after it."""

    name: str
    factor: float
    loss_db: float
    left: float


@record
class ArmBudget:
    """All factors of one arm, in the order that a photon meets them."""

    node: NodeName
    rows: tuple[Row, ...]


@record
class PointBudget:
    """What a working point gives: per attempt, per second, and how good."""

    id: str
    window_ps: Picoseconds
    window_factors: tuple[float, float]
    success: float
    rate_hz: float
    fidelity: float
    patterns: tuple[PatternPrior, ...]


@record
class Budget:
    """A link, decibel by decibel; `cycle_ns` lab time per cycle of `modes` attempts."""

    link: LinkName
    measurement: str
    cycle_ns: Duration
    modes: int
    arms: tuple[ArmBudget, ArmBudget]
    points: tuple[PointBudget, ...]


def arm_budget(arm: ArmSheet) -> ArmBudget:
    """Return the rows of one arm."""
    left = 1.0
    rows = []
    for name, factor in (
        ("emission into the fibre", arm.emitter.efficiency),
        (
            f"fibre {arm.km:g} km at {arm.db_per_km:g} dB/km",
            decibel_to_factor(arm.km * arm.db_per_km),
        ),
        ("connectors and splices", decibel_to_factor(arm.extra_db)),
        ("detector", arm.detector.efficiency),
    ):
        left *= factor
        rows.append(Row(name, factor, factor_to_decibel(factor), left))
    return ArmBudget(arm.node, tuple(rows))


def mean_fidelity(patterns: tuple[PatternPrior, ...]) -> float:
    """Return the fidelity to the heralded state, over patterns by their share; 0 for none."""
    total = sum(pattern.share for pattern in patterns)
    good = sum(pattern.share * pattern.weights[pattern.bell] for pattern in patterns)
    return good / total if total > 0 else 0.0


def budget(
    link: LinkName, optics: Optics, points: tuple[Point, ...], cycle_ns: Duration, modes: int
) -> Budget:
    """Return the whole budget of a link; raises like :func:`predict`."""
    rows = []
    for point in points:
        patterns = predict(optics, point)
        success = sum(pattern.share for pattern in patterns)
        parts = window_factors(optics, point.window_ps)
        rate = modes * success / (cycle_ns * 1e-9)
        rows.append(
            PointBudget(
                point.id, point.window_ps, parts, success, rate, mean_fidelity(patterns), patterns
            )
        )
    first, second = optics.arms
    return Budget(
        link,
        optics.station.measurement,
        cycle_ns,
        modes,
        (arm_budget(first), arm_budget(second)),
        tuple(rows),
    )

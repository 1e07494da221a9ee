"""The three ways to herald spin-spin entanglement in the middle, each as a table of patterns.

All start from spins ``sqrt(1 - bright)|0> + sqrt(bright)|1>`` and use the click maps of
:mod:`.clicks`. Which Bell state a pattern heralds is in HERALDS.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from qstack.bell import PSI_MINUS, PSI_PLUS, BellIndex
from qstack.errors import LocalProtocolError
from qstack.sim.heralding.clicks import (
    Emission,
    Interferometer,
    Photon,
    background,
    click_maps,
)
from qstack.sim.heralding.optics import AnalyserOptics, ArmOptics, check_analyser, check_arm
from qstack.sim.heralding.table import HeraldTable, tabulate
from qstack.sim.states import Matrix

SINGLE_CLICK = "single-click"
POLARISATION = "polarisation"
BARRETT_KOK = "barrett-kok"

HERALDS: dict[str, dict[int, BellIndex]] = {
    SINGLE_CLICK: {0b01: PSI_PLUS, 0b10: PSI_MINUS},
    # H1 V1 or H2 V2: the same side of the splitter; H1 V2 or V1 H2: opposite sides.
    POLARISATION: {0b0011: PSI_PLUS, 0b1100: PSI_PLUS, 0b1001: PSI_MINUS, 0b0110: PSI_MINUS},
    # Bits 0, 1 of round one, bits 2, 3 of round two: the same detector twice, or not.
    BARRETT_KOK: {0b0101: PSI_PLUS, 0b1010: PSI_PLUS, 0b1001: PSI_MINUS, 0b0110: PSI_MINUS},
}
"""Click masks that herald, with the Bell index, per `measurement` of a station's sheet."""

_TWO_DETECTORS = ((0, 1),)
_FOUR_DETECTORS = ((0, 2), (1, 3))


def single_click(a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    """Return the table of one interferometer and one photon (bits 0 and 1: its detectors).

    |1> emits. 0b01 heralds Psi+, 0b10 Psi-. Phase noise multiplies the coherence by
    exp(-sigma^2 / 2). A double excitation adds a photon that tells which end it came from,
    whether it is seen or lost: it adds clicks and removes the coherence (this model keeps the
    packet of the first photon; the mechanism is that of Hermans et al., arXiv 2208.07449).
    """
    _check(a, b, analyser)
    variance = a.phase_sigma**2 + b.phase_sigma**2 + analyser.phase_sigma**2
    maps = _bright_maps(a, b, analyser, math.exp(-variance / 2))
    spins = _spins(a, b)
    return tabulate({clicks: spins * click_map for clicks, click_map in maps.items()})


def two_photon(a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    """Return the table of a polarisation or time-bin Bell measurement with four detectors.

    Each end emits |0>|H> + |1>|V>; bits 0 to 3 are H1, V1, H2, V2 (early and late for time
    bins). Both polarisations share their optical path, so phase noise cancels. The photon of a
    double excitation has a random polarisation: it adds clicks but tells nothing of the spin.
    """
    _check(a, b, analyser)
    arms = tuple(
        (_polarised(0, arm, optics), _polarised(1, arm, optics)) for arm, optics in ((0, a), (1, b))
    )
    maps = _maps(arms, _FOUR_DETECTORS, a, b, analyser)
    spins = _spins(a, b)
    return tabulate({clicks: spins * click_map for clicks, click_map in maps.items()})


def barrett_kok(a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    """Return the table of two rounds on two detectors with a spin flip of both in between.

    |1> emits in each round. Bits 0, 1: round one; bits 2, 3: round two. The optical phase enters
    once with each sign; it is taken as constant over the two rounds and cancels. The spin
    state is that after round two (the flip is not undone). Source: Barrett and Kok 2005.
    """
    _check(a, b, analyser)
    maps = _bright_maps(a, b, analyser, 1.0)
    spins = _spins(a, b)
    states: dict[int, Matrix] = {}
    for first, first_map in maps.items():
        flipped = (spins * first_map)[::-1, ::-1]
        for second, second_map in maps.items():
            states[_two_rounds(first, second)] = flipped * second_map
    return tabulate(states)


@lru_cache(maxsize=1024)
def table_for(
    measurement: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics
) -> HeraldTable:
    """Return the table of a station's `measurement`, computed once per set of parameters.

    `measurement` is "single-click", "polarisation" or "barrett-kok"; LocalProtocolError otherwise.
    """
    if measurement == SINGLE_CLICK:
        return single_click(a, b, analyser)
    if measurement == POLARISATION:
        return two_photon(a, b, analyser)
    if measurement == BARRETT_KOK:
        return barrett_kok(a, b, analyser)
    raise LocalProtocolError(f"no table of heralds for a measurement called {measurement!r}")


def _check(a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> None:
    check_arm(a)
    check_arm(b)
    check_analyser(analyser)


def _spins(a: ArmOptics, b: ArmOptics) -> Matrix:
    """The density matrix of both spins before they emit, as if no photon left."""
    first, second = (np.array([math.sqrt(1 - o.bright), math.sqrt(o.bright)]) for o in (a, b))
    vector = np.kron(first, second).astype(complex)
    return np.outer(vector, vector)


def _bright_maps(
    a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics, coherence: float
) -> dict[int, Matrix]:
    """Click maps of one round in which |1> emits; `coherence` between |01> and |10>."""
    arms = tuple(
        (_dark(), _bright(arm, optics.double_excitation)) for arm, optics in ((0, a), (1, b))
    )
    maps = _maps(arms, _TWO_DETECTORS, a, b, analyser)
    keep = np.ones((4, 4))
    keep[1, 2] = keep[2, 1] = coherence
    return {clicks: keep * click_map for clicks, click_map in maps.items()}


def _maps(
    arms: tuple[tuple[Emission, Emission], ...],
    ports: tuple[tuple[int, int], ...],
    a: ArmOptics,
    b: ArmOptics,
    analyser: AnalyserOptics,
) -> dict[int, Matrix]:
    """Click maps in the frame of the tags.

    A frequency offset turns the phase between the branches with the time of detection. Given
    the tags that phase is known and the coherence is that without offset (see :mod:`.tags`);
    how often photons bunch is an average over all times, with the lower overlap of detuned
    packets. Coherences are therefore taken at V, populations at the bunching visibility.
    """
    detectors = 2 * len(ports)
    noise = (a.noise_clicks_per_window + b.noise_clicks_per_window) / detectors
    counts = background(analyser.dark_probability, noise)

    def maps_at(visibility: float) -> dict[int, Matrix]:
        efficiencies = (a.efficiency, b.efficiency)
        overlap = math.sqrt(visibility)
        return click_maps(
            arms,
            Interferometer(ports, overlap, efficiencies, counts, analyser.number_resolving),
        )

    maps = maps_at(analyser.visibility)
    if analyser.detuning:
        bunched = maps_at(analyser.bunching_visibility)
        nothing = np.zeros((4, 4), complex)
        for clicks in set(maps) | set(bunched):
            exact = maps.setdefault(clicks, nothing.copy())
            np.fill_diagonal(exact, np.diagonal(bunched.get(clicks, nothing)))
    return maps


def _dark() -> Emission:
    return ((1.0, ()),)


def _bright(arm: int, double_excitation: float) -> Emission:
    """One photon, or with the probability of a double excitation two."""
    photon, extra = Photon(arm, 0), Photon(arm, 0, extra=True)
    once, twice = math.sqrt(1 - double_excitation), math.sqrt(double_excitation)
    return ((once, (photon,)), (twice, (photon, extra))) if twice else ((1.0, (photon,)),)


def _polarised(path: int, arm: int, optics: ArmOptics) -> Emission:
    """A photon of this polarisation, with an unpolarised one after a double excitation."""
    photon = Photon(arm, path)
    once = math.sqrt(1 - optics.double_excitation)
    twice = math.sqrt(optics.double_excitation / 2)
    if not twice:
        return ((1.0, (photon,)),)
    extras = tuple((twice, (photon, Photon(arm, p, extra=True))) for p in (0, 1))
    return ((once, (photon,)), *extras)


def _two_rounds(first: int, second: int) -> int:
    """One mask out of two rounds' masks: clicks in bits 0 to 3, "more than one" in bits 4 to 7."""
    clicks = (first & 0b11) | (second & 0b11) << 2
    return clicks | (first >> 2) << 4 | (second >> 2) << 6

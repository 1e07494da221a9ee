"""What the heralding model is told: arms, analysers, and the small laws that feed them.

Probabilities are in [0, 1], angles in radians, frequencies in Hz, spans in picoseconds.
Sources: validation dossier of the project, sections 1.1 and 1.2; the formula of the captured
fraction is the integral of a normal density over the window.
"""

from __future__ import annotations

import math

from qstack.errors import LocalProtocolError
from qstack.machine import record


@record
class ArmOptics:
    """One emitter and its way to the analyser.

    `efficiency`: probability that an emitted photon ends as a click, everything included
    (emission into the wanted line, collection, conversion, fibre, detector). `bright`:
    population of |1>, the state that emits (for two-photon schemes the weight of the |1>
    branch, 1/2 unless the preparation is biased). `double_excitation`: probability that an
    emitter which emits puts out a second photon in a packet orthogonal to all others.
    `noise_clicks_per_window`: mean number of clicks in one window, over all detectors, from
    unwanted light of this arm (Poissonian, evenly over the detectors). `phase_sigma`: r.m.s.
    optical phase noise of this arm.
    """

    efficiency: float
    bright: float = 0.5
    double_excitation: float = 0.0
    noise_clicks_per_window: float = 0.0
    phase_sigma: float = 0.0


@record
class AnalyserOptics:
    """The interferometer in the middle and its detectors.

    `visibility`: Hong-Ou-Mandel visibility V, the squared mode overlap of the two photons
    apart from the frequency offset. `dark_probability`: of a dark click, per detector per
    window. `number_resolving`: a detector tells one count from more. `phase_sigma`: r.m.s.
    phase noise of the interferometer, added in quadrature to that of the arms.
    `frequency_offset_hz`: frequency of A's photon minus that of B's. `lifetime_ps`: of the two
    equal exponential packets; with an offset it decides how much less they bunch.
    """

    visibility: float = 1.0
    dark_probability: float = 0.0
    number_resolving: bool = False
    phase_sigma: float = 0.0
    frequency_offset_hz: float = 0.0
    lifetime_ps: float = 0.0

    @property
    def detuning(self) -> float:
        """The offset in units of the packets' linewidth: 2 pi f lifetime (dimensionless)."""
        return 2 * math.pi * self.frequency_offset_hz * self.lifetime_ps * 1e-12

    @property
    def bunching_visibility(self) -> float:
        """The visibility that coincidence counts see, which do not look at the tags.

        The overlap of two exponential packets detuned by f is 1/(1 - 2 pi i f lifetime).
        """
        return self.visibility / (1 + self.detuning**2)


def check_arm(arm: ArmOptics) -> None:
    """Raise LocalProtocolError where a field of `arm` is not what its docstring says."""
    _check_probability("efficiency", arm.efficiency)
    _check_probability("bright", arm.bright)
    _check_probability("double_excitation", arm.double_excitation)
    _check_not_negative("noise_clicks_per_window", arm.noise_clicks_per_window)
    _check_not_negative("phase_sigma", arm.phase_sigma)


def check_analyser(analyser: AnalyserOptics) -> None:
    """Raise LocalProtocolError where a field of `analyser` is not what its docstring says."""
    _check_probability("visibility", analyser.visibility)
    _check_probability("dark_probability", analyser.dark_probability)
    _check_not_negative("phase_sigma", analyser.phase_sigma)
    _check_not_negative("lifetime_ps", analyser.lifetime_ps)


def captured(window_ps: float, sigma_ps: float, offset_ps: float = 0.0) -> float:
    """Return the fraction of coincidences inside a window of full width `window_ps`.

    The relative arrival time is normal with r.m.s. `sigma_ps` and mean `offset_ps`.
    """
    if sigma_ps == 0:
        return 1.0 if abs(offset_ps) <= window_ps / 2 else 0.0
    scale = math.sqrt(2) * sigma_ps
    upper = math.erf((window_ps / 2 - offset_ps) / scale)
    return (upper + math.erf((window_ps / 2 + offset_ps) / scale)) / 2


def visibility_with_delay(visibility: float, delay_ps: float, lifetime_ps: float) -> float:
    """Return the visibility of two equal exponential packets that arrive `delay_ps` apart.

    V(d) = V0 exp(-|d|/lifetime): the overlap of the packets is exp(-|d|/(2 lifetime)).
    """
    if delay_ps == 0:
        return visibility
    return visibility * math.exp(-abs(delay_ps) / lifetime_ps) if lifetime_ps > 0 else 0.0


def dark_probability(rate_hz: float, window_ps: float) -> float:
    """Return the probability of at least one Poissonian dark count in a window."""
    return -math.expm1(-rate_hz * window_ps * 1e-12)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise LocalProtocolError(f"{name} = {value} is not in [0, 1]")


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise LocalProtocolError(f"{name} = {value} is negative")

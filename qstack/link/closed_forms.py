"""Closed forms of heralded entanglement: spin-spin states and how often they are heralded.

Exact in the efficiencies for one photon per emission, for threshold and for number-resolving
detectors, with unequal arms. Everything follows from one question: with which probability
does exactly one of two detectors click when photons of given efficiencies arrive?
(:func:`one_click`.) A herald of one photon asks it once, a herald of two photons twice, and
the spin-spin state is the four populations times these answers plus one coherence.

Sources: Cabrillo et al. 1999, Bose et al. 1999 (one photon); Barrett and Kok 2005 (two photons);
Ma, Fung and Lo 2007 (pair source). Oracles: cases O1 to O5, O23 and O25 of the project's
validation dossier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from qstack.bell import PSI_PLUS, BellIndex, BellWeights
from qstack.machine import record

# --- small laws ---------------------------------------------------------------------------


def decibel_to_factor(loss_db: float) -> float:
    """Return the transmission of a loss in decibel."""
    return float(10.0 ** (-loss_db / 10.0))


def factor_to_decibel(factor: float) -> float:
    """Return the loss in decibel of a transmission; infinite for none."""
    return 0.0 - 10.0 * math.log10(factor) if factor > 0 else math.inf


def captured(window_ps: float, sigma_ps: float, offset_ps: float = 0.0) -> float:
    """Return the part of a normal arrival time inside a window of full width `window_ps`."""
    if sigma_ps <= 0:
        return 1.0 if abs(offset_ps) <= window_ps / 2 else 0.0
    scale = math.sqrt(2.0) * sigma_ps
    late = math.erf((window_ps / 2 - offset_ps) / scale)
    return (late + math.erf((window_ps / 2 + offset_ps) / scale)) / 2


def background(rate_hz: float, window_ps: float) -> float:
    """Return the probability of a click from counts at this rate within a window."""
    return -math.expm1(-rate_hz * window_ps * 1e-12)


def one_click(
    efficiencies: tuple[float, ...], dark: float, resolving: bool, visibility: float = 0.0
) -> float:
    """Return the probability that exactly one of two detectors clicks, exactly once if it counts.

    Each photon reaches either detector with half its efficiency. `visibility` is that of the
    first two photons; photons that bunch are one click only where detectors cannot count.
    """
    silent = math.prod(1 - eta for eta in efficiencies)
    if resolving:
        alone = 0.0
        for index, eta in enumerate(efficiencies):
            rest = efficiencies[:index] + efficiencies[index + 1 :]
            alone += eta * math.prod(1 - other for other in rest)
        return alone * (1 - dark) ** 2 + silent * 2 * dark * (1 - dark)
    other_silent = math.prod(1 - eta / 2 for eta in efficiencies)
    apart = 2 * ((1 - dark) * other_silent - (1 - dark) ** 2 * silent)
    if visibility and len(efficiencies) >= 2:
        both = math.prod(1 - eta / 2 for eta in efficiencies[2:])
        apart += (1 - dark) * efficiencies[0] * efficiencies[1] * visibility / 2 * both
    return apart


# --- the spin-spin state ------------------------------------------------------------------


@record
class SpinState:
    """Unnormalised, summed over all heralding patterns: populations and one coherence.

    `ud`: A bright, B dark. `coherence` is that between ud and du, real, with the sign that the
    heralded Bell state says. Nothing links uu and dd.
    """

    ud: float
    du: float
    uu: float
    dd: float
    coherence: float

    @property
    def success(self) -> float:
        """The probability per attempt of any heralding pattern."""
        return self.ud + self.du + self.uu + self.dd

    @property
    def tilt(self) -> float:
        """Weight of both dark less that of both bright: of |00> less |11>."""
        return (self.dd - self.uu) / self.success if self.success > 0 else 0.0

    @property
    def fidelity(self) -> float:
        """The fidelity to the Bell state that the pattern heralds; 1/4 where none ever does."""
        return self.weights(PSI_PLUS)[PSI_PLUS]

    def weights(self, bell: BellIndex) -> BellWeights:
        """The Bell weights, by absolute index, where `bell` (Psi+ or Psi-) was heralded."""
        total = self.success
        if total <= 0:
            return 0.25, 0.25, 0.25, 0.25
        odd, even = (self.ud + self.du) / 2, (self.uu + self.dd) / 2 / total
        right, wrong = (odd + self.coherence) / total, (odd - self.coherence) / total
        return (even, even, right, wrong) if bell == PSI_PLUS else (even, even, wrong, right)


@record
class Clicks:
    """What an analyser makes of photons: visibility, dark clicks per detector, counting."""

    visibility: float
    dark: float
    resolving: bool


def single_click(
    alpha: tuple[float, float],
    eta: tuple[float, float],
    clicks: Clicks,
    double: tuple[float, float] = (0.0, 0.0),
    phase: float = 1.0,
) -> SpinState:
    """Return the state that one click heralds; exact but for the second photons.

    `alpha` bright populations, `eta` efficiencies, `double` probabilities of a second photon,
    `phase` the mean cosine of the optical phase noise.
    """
    (a, b), (eta_a, eta_b) = alpha, eta
    keep = 1 - clicks.dark

    def answer(first: bool, second: bool) -> float:
        total = 0.0
        for extra_a, weight_a in _extras(first, double[0]):
            for extra_b, weight_b in _extras(second, double[1]):
                mains = ((eta_a,) if first else ()) + ((eta_b,) if second else ())
                photons = mains + (eta_a,) * extra_a + (eta_b,) * extra_b
                seen = clicks.visibility if first and second else 0.0
                total += (
                    weight_a * weight_b * one_click(photons, clicks.dark, clicks.resolving, seen)
                )
        return total

    # The second photon tells which end emitted, seen or lost: only single emissions interfere.
    once = math.sqrt((1 - double[0]) * (1 - double[1]))
    amplitude = math.sqrt(a * (1 - a) * b * (1 - b) * eta_a * eta_b * clicks.visibility)
    return SpinState(
        ud=a * (1 - b) * answer(True, False),
        du=b * (1 - a) * answer(False, True),
        uu=a * b * answer(True, True),
        dd=(1 - a) * (1 - b) * answer(False, False),
        coherence=amplitude * keep * (keep if clicks.resolving else 1.0) * once * phase,
    )


def double_click(
    alpha: tuple[float, float],
    eta: tuple[float, float],
    clicks: Clicks,
    phase: float = 1.0,
) -> SpinState:
    """Return the state that two clicks herald, one in each mode (polarisation or round); exact.

    With unlike spins each mode holds one photon, with like spins one mode holds both.
    """
    (a, b), (eta_a, eta_b) = alpha, eta
    dark, resolving = clicks.dark, clicks.resolving
    unlike = one_click((eta_a,), dark, resolving) * one_click((eta_b,), dark, resolving)
    empty = one_click((), dark, resolving)
    like = one_click((eta_a, eta_b), dark, resolving, clicks.visibility) * empty
    keep = (1 - dark) ** (4 if resolving else 2)
    return SpinState(
        ud=a * (1 - b) * unlike,
        du=b * (1 - a) * unlike,
        uu=a * b * like,
        dd=(1 - a) * (1 - b) * like,
        coherence=math.sqrt(a * (1 - a) * b * (1 - b))
        * (eta_a * eta_b * clicks.visibility * keep * phase),
    )


def pair_source(
    pair_mean: float, eta: tuple[float, float], dark: tuple[float, float], misaligned: float = 0.0
) -> tuple[float, float]:
    """Return (coincidences per pulse, error rate among them) of a polarisation pair source.

    `pair_mean` is the mean number of pairs per mode (two modes), `dark` the probability that
    a receiver clicks without light, `misaligned` the error rate of a single pair.
    """
    (a, b), (dark_a, dark_b), lam = eta, dark, pair_mean
    at_a, at_b = 1 + a * lam, 1 + b * lam
    both = 1 + (a + b - a * b) * lam
    linked = a * b * lam * (1 + lam)
    # Arranged as accidental plus linked coincidences: nothing small is a difference of large ones.
    click_a = (a * lam * (2 + a * lam) + dark_a) / at_a**2
    click_b = (b * lam * (2 + b * lam) + dark_b) / at_b**2
    excess = linked * (at_a * at_b + both) / (both * at_a * at_b) ** 2
    gain = click_a * click_b + (1 - dark_a) * (1 - dark_b) * excess
    right = (0.5 - misaligned) * 2 * linked / (at_a * at_b * both)
    return gain, (0.5 * gain - right) / gain if gain > 0 else 0.5


def _extras(emits: bool, double: float) -> Iterator[tuple[int, float]]:
    """How many photons beyond the first, with their probabilities."""
    yield 0, 1 - double if emits else 1.0
    if emits and double:
        yield 1, double

"""Sources of photon pairs: a source in the middle, or one at each end of a midpoint analyser.

A pair source makes ``exp(x a_i M_ij b_j)|vacuum>`` (creation operators of two polarisations at
either side, one Schmidt mode each) with x^2 = lam / (1 + lam), where lam is the mean number of
pairs per mode, and M the matrix of a Bell state. The probability that a set S of threshold
detectors stays silent is the mean of a product of (1 - efficiency)^n over their modes; such
an operator maps creation operators linearly (by matrices T_A, T_B), so that the whole sum over
photon numbers is one determinant:

    P(S silent) = (1 - dark)^|S| (1 - x^2)^2 / det(1 - x^2 M' T_A M T_B^t),

M' the adjoint of M. Patterns follow by inclusion and exclusion, with the rounding error of numbers
near one (about 1e-15 absolute). For one source and aligned axes the coincidences and their errors
are those of Ma, Fung and Lo 2007. These photons are measured, never kept.
"""

from __future__ import annotations

import math

import numpy as np

from qstack.bell import PHI_PLUS, BellIndex
from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.sim.heralding.optics import AnalyserOptics, ArmOptics, check_analyser, check_arm
from qstack.sim.states import Axis, Matrix, axis_projector, bell_vector


@record
class PairSource:
    """A pulsed source of polarisation-entangled pairs.

    `pair_mean`: mean pairs per mode and attempt (two modes: 2 pair_mean in all). `bell`: the state
    of a single pair. `dark_probability`: of each of the four end detectors, per window.
    """

    pair_mean: float
    bell: BellIndex = PHI_PLUS
    dark_probability: float = 0.0


@record
class PairEnd:
    """An end that has its own pair source and measures one photon of each pair itself.

    `efficiency`, `dark_probability` and `axis` (Bloch vector whose + outcome is detector 0) are
    those of its two local detectors.
    """

    pair_mean: float
    efficiency: float
    axis: Axis = (0.0, 0.0, 1.0)
    dark_probability: float = 0.0
    bell: BellIndex = PHI_PLUS


@record
class ClickTable:
    """Joint probabilities of threshold detectors: `probabilities[mask]`, bit k for detector k."""

    probabilities: tuple[float, ...]

    def coincidence(self) -> float:
        """For four detectors A0 A1 B0 B1: the probability that both ends have a click."""
        return sum(p for mask, p in enumerate(self.probabilities) if mask & 3 and mask >> 2)

    def mismatch(self) -> float:
        """For four detectors: the probability of a coincidence with different outcomes.

        An end where both detectors clicked draws its outcome by a fair coin.
        """
        total = 0.0
        for mask, probability in enumerate(self.probabilities):
            first, second = mask & 3, mask >> 2
            if first and second:
                both = first == 3 or second == 3
                total += probability * (0.5 if both else float(first != second))
        return total


def pair_source(
    a: ArmOptics, b: ArmOptics, source: PairSource, axis_a: Axis, axis_b: Axis
) -> ClickTable:
    """Return the joint clicks of both ends of a source in the middle.

    Bits: A0, A1, B0, B1, where detector 0 sees the + eigenstate of the end's axis (a Bloch
    vector of length one). `bright`, `double_excitation` and `phase_sigma` mean nothing here.
    """
    check_arm(a)
    check_arm(b)
    squeezing = _squeezing(source.pair_mean)
    pairing = squeezing * _pairing(source.bell)
    seen = (
        *(_seen(a.efficiency, axis_a, k) for k in (0, 1)),
        *(_seen(b.efficiency, axis_b, k) for k in (0, 1)),
    )
    noise = (a.noise_clicks_per_window / 2,) * 2 + (b.noise_clicks_per_window / 2,) * 2
    quiet = [(1 - source.dark_probability) * math.exp(-n) for n in noise]
    silent = []
    for mask in range(16):
        at_a = np.eye(2) - sum((seen[k] for k in (0, 1) if mask >> k & 1), np.zeros((2, 2)))
        at_b = np.eye(2) - sum((seen[k] for k in (2, 3) if mask >> k & 1), np.zeros((2, 2)))
        stays = math.prod(quiet[k] for k in range(4) if mask >> k & 1)
        silent.append(stays * (1 - squeezing**2) ** 2 / _determinant(pairing, at_a, at_b))
    return ClickTable(_clicks_from_silence(silent))


def spdc_bsm(
    ends: tuple[PairEnd, PairEnd], a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics
) -> ClickTable:
    """Return the joint clicks of two pair sources whose second photons meet in the middle.

    Bits 0 to 3: H1, V1, H2, V2 of the analyser; bits 4 to 7: A0, A1, B0, B1 of the ends. At
    low efficiency half of the Psi+- heralds come from two pairs of one end: such heralds
    alone promise nothing, only coincidences with both ends do. Threshold detectors
    only: LocalProtocolError otherwise.
    """
    check_arm(a)
    check_arm(b)
    check_analyser(analyser)
    if analyser.number_resolving:
        raise LocalProtocolError("pair sources are modelled with threshold detectors only")
    squeezing = [_squeezing(end.pair_mean) for end in ends]
    pairing = _blocks(*(x * _pairing(end.bell) for x, end in zip(squeezing, ends, strict=True)))
    vacuum = math.prod((1 - x**2) ** 2 for x in squeezing)
    middle = [_mixed(k, a.efficiency, b.efficiency, analyser) for k in range(4)]
    local = [_seen(end.efficiency, end.axis, k) for end in ends for k in (0, 1)]
    nothing = np.zeros((2, 2))
    local = [_blocks(m, nothing) for m in local[:2]] + [_blocks(nothing, m) for m in local[2:]]
    stray = (a.noise_clicks_per_window + b.noise_clicks_per_window) / 4
    quiet = [(1 - analyser.dark_probability) * math.exp(-stray)] * 4
    quiet += [1 - end.dark_probability for end in ends for _ in (0, 1)]
    seen = [*middle, *local]
    silent = []
    for mask in range(256):
        idler = np.eye(4) - sum((seen[k] for k in range(4) if mask >> k & 1), np.zeros((4, 4)))
        kept = np.eye(4) - sum((seen[k] for k in range(4, 8) if mask >> k & 1), np.zeros((4, 4)))
        stays = math.prod(quiet[k] for k in range(8) if mask >> k & 1)
        silent.append(stays * vacuum / _determinant(pairing, kept, idler))
    return ClickTable(_clicks_from_silence(silent))


def _squeezing(pair_mean: float) -> float:
    if not pair_mean >= 0:
        raise LocalProtocolError(f"pair_mean = {pair_mean} is negative")
    return math.sqrt(pair_mean / (1 + pair_mean))


def _pairing(bell: BellIndex) -> Matrix:
    """M of a Bell state: 2x2, unitary, so that one pair is sum M_ij |i>|j> / sqrt2."""
    result: Matrix = bell_vector(bell).reshape(2, 2) * math.sqrt(2)
    return result


def _seen(efficiency: float, axis: Axis, outcome: int) -> Matrix:
    """What detector `outcome` of an end takes out of its two modes: efficiency x projector."""
    return efficiency * axis_projector(axis, outcome)


def _mixed(
    detector: int, efficiency_a: float, efficiency_b: float, analyser: AnalyserOptics
) -> Matrix:
    """The same for a detector behind the splitter, over the modes A:H, A:V, B:H, B:V.

    Photons of A and B interfere there to the extent of their overlap, sqrt(V).
    """
    polarisation, port = detector & 1, detector >> 1
    cross = math.sqrt(efficiency_a * efficiency_b * analyser.bunching_visibility) / 2
    taken = np.zeros((4, 4), complex)
    at_a, at_b = polarisation, 2 + polarisation
    taken[at_a, at_a], taken[at_b, at_b] = efficiency_a / 2, efficiency_b / 2
    taken[at_a, at_b] = taken[at_b, at_a] = -cross if port else cross
    return taken


def _blocks(first: Matrix, second: Matrix) -> Matrix:
    """The block-diagonal matrix of two 2x2 matrices."""
    whole = np.zeros((4, 4), complex)
    whole[:2, :2], whole[2:, 2:] = first, second
    return whole


def _determinant(pairing: Matrix, at_first: Matrix, at_second: Matrix) -> float:
    """det(1 - K' T1 K T2^t) for the pairing K (squeezing included), which is real."""
    inner = pairing.conj().T @ at_first @ pairing @ at_second.T
    return float(np.linalg.det(np.eye(len(pairing)) - inner).real)


def _clicks_from_silence(silent: list[float]) -> tuple[float, ...]:
    """Turn P(all of S silent) into P(exactly C clicked), both indexed by masks.

    P(C) = sum over subsets S of C of (-1)^|S| P(S and all outside C silent): one difference
    per detector.
    """
    values = np.array(silent[::-1])  # now indexed by the detectors that may click
    bit = 1
    while bit < len(values):
        pairs = values.reshape(-1, 2, bit)
        pairs[:, 1, :] -= pairs[:, 0, :]
        bit *= 2
    return tuple(float(max(0.0, v)) for v in values)

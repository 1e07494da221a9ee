"""Tables of attempts with sources of photon pairs: measured at once, so outcomes and no states."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product

import numpy as np

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.sim.channels import transmission
from qstack.sim.devices import COINCIDENCE, DetectorParameters, SpdcParameters
from qstack.sim.heralding import (
    ArmOptics,
    ClickTable,
    PairEnd,
    PairSource,
    captured,
    dark_probability,
    pair_source,
    spdc_bsm,
)
from qstack.sim.world.optics import (
    ArmView,
    StationView,
    Values,
    analyser_optics,
    arm_optics,
    packet,
    value,
)
from qstack.sim.world.registers import Axis
from qstack.units import Chance, Picoseconds


@record
class PairView:
    """Both receivers (detectors and loss), the source and its setting, and the window.

    `visibility`: of the polarisation of a single pair, between source and receivers.
    `apart_ps`: by how much the clocks of the receivers differ.
    """

    source: SpdcParameters
    values: Values
    detectors: tuple[DetectorParameters, DetectorParameters]
    losses_db: tuple[float, float]
    window_ps: Picoseconds
    visibility: float = 1.0
    apart_ps: Picoseconds = 0


@record
class Joint:
    """What both ends see of an attempt.

    `cumulative`: the share of all that is drawn from up to and including it. `mask`: all
    detectors that clicked. `clicks`: the station's pattern; `at_a`, `at_b`: the outcomes.
    """

    cumulative: float
    mask: int
    clicks: int
    at_a: int
    at_b: int


@record
class JointTable:
    """What one attempt gives that is measured at both ends.

    `success`: the probability of any of `draws`, which are in the order of their draw.
    `failing`: (mask of the counted detectors, probability per attempt) where it fails.
    `masks`: probability of every mask of all detectors.
    """

    success: float
    draws: tuple[Joint, ...]
    failing: tuple[tuple[int, float], ...]
    masks: tuple[float, ...]

    def draw(self, chance: Chance) -> Joint:
        """Draw both outcomes of a success."""
        u = chance.uniform()
        for entry in self.draws:
            if u < entry.cumulative:
                return entry
        return self.draws[-1]

    def draw_mask(self, chance: Chance) -> int:
        """Draw the detectors that click in an attempt, whether it succeeds or not."""
        left = chance.uniform()
        for mask, probability in enumerate(self.masks):
            left -= probability
            if left < 0.0:
                return mask
        return 0


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
        reach *= packet(view.source.lifetime_ps, view.window_ps)
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
    table = pair_source(arms[0], arms[1], source, axis_a, axis_b)
    return _joint(ClickTable(_misaligned(table, view.visibility)), 0, ())


def _misaligned(table: ClickTable, visibility: float) -> tuple[float, ...]:
    """Exchange B's detectors with the error probability of a single pair, (1 - visibility) / 2.

    The error e_d of Ma, Fung and Lo 2007; how often who clicks does not change.
    """
    error = (1.0 - visibility) / 2.0
    masks = table.probabilities
    if not error:
        return masks
    other = [mask & 3 | (mask & 4) << 1 | (mask & 8) >> 1 for mask in range(16)]
    return tuple((1.0 - error) * masks[m] + error * masks[other[m]] for m in range(16))


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
    """Sort the masks of `shift` station detectors and two at each end.

    Where both detectors of an end clicked its outcome is a fair coin. Counted are the
    station's detectors, or where it has none those of the ends.
    """
    counted = (1 << (shift or 4)) - 1
    found: list[tuple[float, int, int, int, int]] = []
    failing: dict[int, float] = {}
    for mask, probability in enumerate(table.probabilities):
        outcomes = outcomes_of(mask, shift, wanted)
        for clicks, bit_a, bit_b in outcomes if probability else ():
            found.append((probability / len(outcomes), mask & counted, clicks, bit_a, bit_b))
        if not outcomes and mask & counted:
            failing[mask & counted] = failing.get(mask & counted, 0.0) + probability
    success = sum(share for share, *_ in found)
    draws, total = [], 0.0
    for share, *rest in sorted(found, reverse=True):
        total += share
        draws.append(Joint(total / success, *rest))
    return JointTable(success, tuple(draws), tuple(failing.items()), table.probabilities)


def outcomes_of(mask: int, shift: int, wanted: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return (pattern, outcome of A, of B) that these clicks can give, all equally likely.

    None where an end saw nothing, or the station's pattern is none of `wanted`.
    """
    station = mask & ((1 << shift) - 1) if shift else COINCIDENCE
    if wanted and station not in wanted:
        return []
    at_a, at_b = (mask >> shift) & 3, mask >> (shift + 2)
    pairs = product((0, 1), repeat=2)
    return [(station, a, b) for a, b in pairs if at_a >> a & 1 and at_b >> b & 1]

"""A station that heralds Phi: bob's other level is the bright one.

Linear optics heralds Psi+ and Psi-. Where B's spin emits from |0> and not from |1>, the same two
clicks herald Phi+ and Phi-: everything of B is seen through an X. The station is scripted in its
pattern table alone, and the world's physics follows it. Heralded state, from the module's notes in
test_states_delivered: ``F |Phi+-><Phi+-| + (1 - F) |10><10|``, because "both bright" is now |10>.
Fixed seeds, 4 standard errors (false alarm 6e-5 each).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, cast

import attrs
import numpy as np
import pytest

from qstack.bell import PHI_MINUS, PHI_PLUS, PSI_MINUS, PSI_PLUS
from qstack.errors import ConfigError
from qstack.physical.service import LinkParameters, PatternPrior
from qstack.sim.devices import AnalyserParameters, station_sheet
from qstack.sim.world import WorldDevice, WorldParameters
from qstack.testing import check_same_pairs, terms
from qstack.units import MILLISECOND
from tests.whole.rig import Lab, Rig
from tests.whole.test_states_delivered import BELL, FIDELITY, Tomography, sign_of

HERALDS = ((0b01, PHI_PLUS), (0b10, PHI_MINUS))
T1, T2 = 8 * MILLISECOND, 2 * MILLISECOND


class PhiLab(Lab):
    """The small network of the rig, with a station whose patterns stand for Phi+ and Phi-."""

    def links(self) -> tuple[LinkParameters, ...]:
        """What the stacks believe."""
        (link,) = super().links()
        (setting,) = link.settings
        rest = (1 - FIDELITY) / 2
        patterns = tuple(
            PatternPrior(
                clicks,
                bell,
                setting.success_probability / 2,
                (FIDELITY, 0.0, rest, rest) if bell == PHI_PLUS else (0.0, FIDELITY, rest, rest),
                0.005,
            )
            for clicks, bell in HERALDS
        )
        changed = attrs.evolve(cast(Any, setting), patterns=patterns)
        return (attrs.evolve(cast(Any, link), settings=(changed,)),)

    def world(self) -> WorldParameters:
        """What is true."""
        world = super().world()
        scripted = AnalyserParameters("single-click", "station.detector", patterns=HERALDS)
        devices = dict(world.devices)
        devices["station.analyser"] = WorldDevice("station", scripted)
        return WorldParameters(tuple(devices.items()), world.links)


def decayed(state: np.ndarray, held: tuple[int, int]) -> np.ndarray:
    """Amplitude damping and dephasing of both halves, by Kraus operators (physics notes 1.3)."""
    for half, time in enumerate(held):
        lost = 1 - math.exp(-time / T1)
        flip = (1 - math.exp(-time / T2 + time / (2 * T1))) / 2
        damping = [
            np.diag([1.0, math.sqrt(1 - lost)]),
            np.array([[0.0, math.sqrt(lost)], [0.0, 0.0]]),
        ]
        phase = [math.sqrt(1 - flip) * np.eye(2), math.sqrt(flip) * np.diag([1.0, -1.0])]
        for kraus in (damping, phase):
            sides = [np.kron(k, np.eye(2)) if half == 0 else np.kron(np.eye(2), k) for k in kraus]
            state = np.sum([side @ state @ side.T for side in sides], axis=0)
    return state


def test_phi_pairs_from_the_station_have_the_fidelity_of_their_stamped_instants() -> None:
    """2,000 pairs, T1 = 8 ms and T2 = 2 ms at both ends, tomography per Bell index."""
    rig = Rig(PhiLab(t1_ns=T1, t2_ns=T2), seed=71)
    tomography = Tomography(rig)
    rig.alice.keep(terms("bob", 2000))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    pairs = tomography.pairs(rig)
    assert len(pairs) == 2000
    counts: dict[int, int] = defaultdict(int)
    for bell, *_ in pairs:
        counts[bell] += 1
    assert set(counts) == {PHI_PLUS, PHI_MINUS}
    assert abs(counts[PHI_PLUS] - 1000) < 4 * math.sqrt(500)
    both_bright = np.diag([0.0, 0.0, 1.0, 0.0])
    for bell in counts:
        mine = [pair for pair in pairs if pair[0] == bell]
        pure = np.outer(BELL[bell], BELL[bell])
        start = FIDELITY * pure + (1 - FIDELITY) * both_bright
        predicted = np.mean([np.trace(pure @ decayed(start, held)) for *_, held in mine])
        assert predicted < FIDELITY - 0.02, "the memories must matter here"
        total, variance = 1.0, 0.0
        for axis in "XYZ":
            values = [(-1) ** parity for _, on, parity, _ in mine if on == axis]
            mean = float(np.mean(values)) * sign_of(bell, axis)
            total += mean
            variance += (1 - mean**2) / len(values)
        assert abs(total / 4 - predicted) < 4 * math.sqrt(variance) / 4


@pytest.mark.parametrize("final", [PSI_PLUS, PSI_MINUS])
def test_a_correction_turns_heralded_phi_into_psi(final: int) -> None:
    """600 pairs without decay: fidelity F to the state that was asked for."""
    rig = Rig(PhiLab(t2_ns=0), seed=72 + final)
    truth = rig.truth()
    rig.alice.keep(terms("bob", 600), final=final)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    assert {pair.info.bell for _, pair in rig.alice.pairs} == {final}
    assert len(truth.fidelities) == 600
    for _, fidelity, _ in truth.fidelities:
        assert fidelity == pytest.approx(FIDELITY, abs=1e-9)


def test_a_pattern_table_that_no_optics_can_give_is_refused() -> None:
    impossible = AnalyserParameters(
        "single-click", "detector", patterns=((0b01, PHI_PLUS), (0b10, PSI_MINUS))
    )
    with pytest.raises(ConfigError, match="no optics gives these patterns these Bell states"):
        station_sheet(impossible)

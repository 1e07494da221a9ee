"""What is delivered, by tomography and correlations, against formulas written down here.

The attempt: single click, threshold detectors, no dark counts, both centres bright with
probability alpha, efficiency eta per arm, visibility 1 (physics notes 1.1). Heralded state:
``F |Psi+-><Psi+-| + (1 - F) |uu><uu|`` with ``F = ud / (ud + uu / 2)`` where
``ud = alpha (1 - alpha) eta`` is the probability of each ordering and
``uu = alpha^2 (eta^2 + 2 eta (1 - eta))`` that both were bright and one detector clicked.

Every statistical comparison is at 4 standard errors (false alarm 6e-5 each) with a fixed seed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial

import numpy as np
import pytest

from qstack.messages.application import PairReady
from qstack.messages.common import PLAIN_Z, Basis, BasisPlan, BasisSet
from qstack.testing import Party, check_same_pairs, terms
from qstack.units import MILLISECOND
from tests.whole.rig import ALPHA, EFFICIENCY, Lab, Rig

ONE_BRIGHT = ALPHA * (1 - ALPHA) * EFFICIENCY
BOTH_BRIGHT = ALPHA**2 * (EFFICIENCY**2 + 2 * EFFICIENCY * (1 - EFFICIENCY)) / 2
FIDELITY = ONE_BRIGHT / (ONE_BRIGHT + BOTH_BRIGHT)

PLANS = {
    "X": BasisPlan(BasisSet.XYZ, 1.0, 0.0, 0.0, 0.0, 0.0),
    "Y": BasisPlan(BasisSet.XYZ, 0.0, 1.0, 0.0, 0.0, 0.0),
    "Z": PLAIN_Z,
}
PAULI = {
    "I": np.eye(2, dtype=complex),
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]], complex),
    "Z": np.diag([1, -1]).astype(complex),
}
ROOT = 2**-0.5
BELL = {
    0: np.array([ROOT, 0, 0, ROOT]),
    1: np.array([ROOT, 0, 0, -ROOT]),
    2: np.array([0, ROOT, ROOT, 0]),
    3: np.array([0, ROOT, -ROOT, 0]),
}
BRIGHT = np.array([0, 0, 0, 1.0])  # |1> is bright, so "both bright" is |11>


def heralded(bell: int) -> np.ndarray:
    """The state at emission, for Psi+ (2) or Psi- (3)."""
    pure = np.outer(BELL[bell], BELL[bell])
    return FIDELITY * pure + (1 - FIDELITY) * np.outer(BRIGHT, BRIGHT)


def sign_of(bell: int, axis: str) -> float:
    """The correlator of a Bell state, from its state vector."""
    return float(np.real(BELL[bell] @ np.kron(PAULI[axis], PAULI[axis]) @ BELL[bell]))


class Tomography:
    """Measures both halves of each pair on one axis, in turn by its sequence number."""

    def __init__(self, rig: Rig) -> None:
        self.asked: dict[str, dict[int, tuple[PairReady, str]]] = {"alice": {}, "bob": {}}
        for party in (rig.alice, rig.bob):
            party.policy = partial(self._measure, party)

    def _measure(self, party: Party, pair: PairReady, now: int) -> object:
        axis = "XYZ"[pair.info.pair.sequence % 3]
        message = party.measure(pair.qubit, PLANS[axis])
        self.asked[party.node][message.reference] = (pair, axis)
        return message

    def pairs(self, rig: Rig) -> list[tuple[int, str, int, tuple[int, int]]]:
        """(Bell index, axis, parity, times held) of every pair measured at both ends."""
        halves: dict[object, list[tuple[PairReady, str, int, int]]] = defaultdict(list)
        for party in (rig.alice, rig.bob):
            for reference, measured in party.measured.items():
                pair, axis = self.asked[party.node][reference]
                entry = (pair, axis, measured.outcome, measured.held_ns)
                halves[pair.info.pair].append(entry)
        found = []
        for both in halves.values():
            (pair, axis, one, held_one), (_, _, other, held_other) = both
            found.append((pair.info.bell, axis, one ^ other, (held_one, held_other)))
        return found


@pytest.mark.parametrize("final", [None, 0, 1])
def test_kept_fidelity_is_that_of_each_pairs_stamped_instants(final: int | None) -> None:
    """2,000 pairs, T2 = 2 ms at both ends: prediction F (1 + exp(-(tA + tB) / T2)) / 2.

    With final 0 and 1 the creator's correction has turned every pair into Phi+ or Phi-.
    """
    t2 = 2 * MILLISECOND
    rig = Rig(Lab(t2_ns=t2), seed=21 if final is None else 22 + final)
    tomography = Tomography(rig)
    rig.alice.keep(terms("bob", 2000), final=final)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    pairs = tomography.pairs(rig)
    assert len(pairs) == 2000
    bells = {bell for bell, *_ in pairs}
    assert bells == ({2, 3} if final is None else {final})
    for bell in bells:
        mine = [pair for pair in pairs if pair[0] == bell]
        predicted = np.mean([FIDELITY * (1 + math.exp(-sum(p[3]) / t2)) / 2 for p in mine])
        assert predicted < FIDELITY - 0.02, "the memories must matter here"
        total, variance = 1.0, 0.0
        for axis in "XYZ":
            values = [(-1) ** parity for _, on, parity, _ in mine if on == axis]
            mean = float(np.mean(values)) * sign_of(bell, axis)
            total += mean
            variance += (1 - mean**2) / len(values)
        assert abs(total / 4 - predicted) < 4 * math.sqrt(variance) / 4


def test_measured_pairs_show_the_correlations_of_their_bell_state() -> None:
    """6,000 measured pairs on independently drawn axes: all nine correlators per Bell index."""
    rig = Rig(Lab(), seed=31)
    drawn = BasisPlan(BasisSet.XYZ, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)
    rig.alice.measure_directly(terms("bob", 6000), drawn, drawn)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    check_same_pairs(rig.alice, rig.bob)
    products: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for (_, mine), (_, theirs) in zip(rig.alice.outcomes, rig.bob.outcomes, strict=True):
        assert mine.info.pair == theirs.info.pair
        assert (mine.info.origin, theirs.info.origin) == (True, False)
        key = (mine.info.bell, mine.basis.name, theirs.basis.name)
        products[key].append((-1) ** (mine.outcome ^ theirs.outcome))
    assert len(products) == 18
    for (bell, one, other), values in products.items():
        expected = float(np.real(np.trace(np.kron(PAULI[one], PAULI[other]) @ heralded(bell))))
        spread = math.sqrt(max(1 - expected**2, 1e-3) / len(values))
        assert abs(np.mean(values) - expected) < 4 * spread, (bell, one, other)
    counts = [sum(1 for _, o in rig.alice.outcomes if o.basis is basis) for basis in Basis][:3]
    for count in counts:
        assert abs(count - 2000) < 4 * math.sqrt(6000 * 2 / 9)


def test_basis_probabilities_of_each_end_are_those_of_its_plan() -> None:
    """2,000 pairs: alice draws X with 0.8, bob with 0.25."""
    rig = Rig(Lab(), seed=32)
    alice = BasisPlan(BasisSet.XZ, 0.8, 0.0, 0.0, 0.0, 0.0)
    bob = BasisPlan(BasisSet.XZ, 0.25, 0.0, 0.0, 0.0, 0.0)
    rig.alice.measure_directly(terms("bob", 2000), alice, bob)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    for party, share in ((rig.alice, 0.8), (rig.bob, 0.25)):
        count = sum(1 for _, outcome in party.outcomes if outcome.basis is Basis.X)
        assert abs(count - 2000 * share) < 4 * math.sqrt(2000 * share * (1 - share))


AXES = {
    "+z": (0.0, 0.0, 0.0),
    "-z": (math.pi, 0.0, 0.0),
    "+x": (0.0, -math.pi / 2, 0.0),
    "-x": (0.0, math.pi / 2, 0.0),
    "+y": (math.pi / 2, 0.0, 0.0),
    "-y": (-math.pi / 2, 0.0, 0.0),
    "non-Clifford 1": (0.7, 0.4, 0.0),
    "non-Clifford 2": (0.3, -1.1, 0.9),
}


def euler(x1: float, y: float, x2: float) -> np.ndarray:
    """Rx(x1), then Ry(y), then Rx(x2)."""

    def turn(axis: str, angle: float) -> np.ndarray:
        return math.cos(angle / 2) * PAULI["I"] - 1j * math.sin(angle / 2) * PAULI[axis]

    turned: np.ndarray = turn("X", x2) @ turn("Y", y) @ turn("X", x1)
    return turned


@pytest.mark.parametrize("name", sorted(AXES))
def test_prepared_states_are_right_for_each_bell_index_and_outcome(name: str) -> None:
    """1,200 pairs per axis: the receiver's Bloch vector by tomography, per (Bell, outcome)."""
    rig = Rig(Lab(), seed=41 + sorted(AXES).index(name))
    asked: dict[int, tuple[PairReady, str]] = {}

    def look(pair: PairReady, now: int) -> object:
        axis = "XYZ"[pair.info.pair.sequence % 3]
        message = rig.bob.measure(pair.qubit, PLANS[axis])
        asked[message.reference] = (pair, axis)
        return message

    rig.bob.policy = look
    plan = BasisPlan(BasisSet.NONE, 0.0, 0.0, *AXES[name])
    rig.alice.prepare(terms("bob", 1200), plan, correct=False)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    creator = {outcome.info.pair: outcome.outcome for _, outcome in rig.alice.outcomes}
    found: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    for reference, measured in rig.bob.measured.items():
        pair, axis = asked[reference]
        assert pair.outcome == creator[pair.info.pair]
        found[pair.info.bell, pair.outcome, axis].append((-1) ** measured.outcome)
    assert len(found) == 12
    rotation = euler(*AXES[name])
    for (bell, outcome, axis), values in found.items():
        projector = np.zeros((2, 2), complex)
        projector[outcome, outcome] = 1
        seen = rotation.conj().T @ projector @ rotation
        state = np.kron(seen, PAULI["I"]) @ heralded(bell)
        probability = np.real(np.trace(state))
        expected = np.real(np.trace(np.kron(PAULI["I"], PAULI[axis]) @ state)) / probability
        spread = math.sqrt(max(1 - expected**2, 1e-2) / len(values))
        assert abs(np.mean(values) - expected) < 4 * spread, (bell, outcome, axis)


@pytest.mark.parametrize("name", ["+x", "+z"])
def test_a_correction_leaves_one_state_whatever_the_outcome(name: str) -> None:
    """600 pairs: both Bell indices and both outcomes give the state of Phi+ and outcome 0."""
    rig = Rig(Lab(), seed=51)
    asked: dict[int, PairReady] = {}
    target = name[1].upper()

    def look(pair: PairReady, now: int) -> object:
        message = rig.bob.measure(pair.qubit, PLANS[target])
        asked[message.reference] = pair
        return message

    rig.bob.policy = look
    plan = BasisPlan(BasisSet.NONE, 0.0, 0.0, *AXES[name])
    rig.alice.prepare(terms("bob", 600), plan, correct=True)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    assert all(pair.corrected for pair in asked.values())
    values = [(-1) ** measured.outcome for measured in rig.bob.measured.values()]
    expected = 2 * FIDELITY - 1 if target == "Z" else FIDELITY
    rotation = euler(*AXES[name])
    seen = rotation.conj().T @ np.diag([1.0, 0.0]) @ rotation
    ideal = np.kron(seen, PAULI[target]) @ np.outer(BELL[0], BELL[0])
    sign = np.sign(np.real(np.trace(ideal)))
    assert abs(sign) == 1
    assert abs(sign * np.mean(values) - expected) < 4 * math.sqrt((1 - expected**2) / 600) + 0.01

"""Remote state preparation, proved with state vectors that share nothing with the product."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from qstack.link.prepare import remedy
from qstack.link.service import LinkOutcomeReady, LinkPairReady
from qstack.messages.common import Basis, BasisPlan, BasisSet, PairKind
from qstack.messages.devices import MemoryGate
from qstack.units import MILLISECOND
from tests.link.link_rig import Rig, request

Complex = NDArray[np.complex128]

X: Complex = np.array([[0, 1], [1, 0]], dtype=np.complex128)
Y: Complex = np.array([[0, -1j], [1j, 0]], dtype=np.complex128)
Z: Complex = np.array([[1, 0], [0, -1]], dtype=np.complex128)
PAULIS = [np.eye(2, dtype=np.complex128), Z, X, X @ Z]
SQ = 1 / math.sqrt(2)
OPERATORS = {Basis.Z: Z, Basis.X: X, Basis.Y: Y, Basis.ZPX: SQ * (Z + X), Basis.ZMX: SQ * (Z - X)}


def turn(pauli: Complex, angle: float) -> Complex:
    made: Complex = math.cos(angle / 2) * np.eye(2) - 1j * math.sin(angle / 2) * pauli
    return made


def held_by_receiver(plan: BasisPlan, basis: Basis, outcome: int, bell: int) -> Complex:
    """The receiver's state vector after the creator measured its half of the pair."""
    pair = np.kron(np.eye(2), PAULIS[bell]) @ (np.array([1, 0, 0, 1], dtype=np.complex128) * SQ)
    rotation = turn(X, plan.x2) @ turn(Y, plan.y) @ turn(X, plan.x1)
    values, vectors = np.linalg.eigh(OPERATORS[basis])
    bra = vectors[:, int(np.argmax(values if outcome == 0 else -values))].conj()
    state: Complex = bra @ (rotation @ pair.reshape(2, 2))
    return state / np.linalg.norm(state)


def plan(x1: float = 0.0, y: float = 0.0, x2: float = 0.0) -> BasisPlan:
    return BasisPlan(BasisSet.NONE, 0.0, 0.0, x1, y, x2)


H = math.pi / 2
CASES = {
    "z": (plan(), Basis.Z),
    "minus z": (plan(x1=math.pi), Basis.Z),
    "x": (plan(y=H), Basis.Z),
    "minus x": (plan(y=-H), Basis.Z),
    "y": (plan(x1=H), Basis.Z),
    "minus y": (plan(x1=-H), Basis.Z),
    "x by basis": (plan(), Basis.X),
    "y by basis": (plan(), Basis.Y),
    "z plus x": (plan(), Basis.ZPX),
    "z minus x": (plan(), Basis.ZMX),
    "a great circle": (plan(x1=0.7), Basis.Z),
    "another great circle": (plan(y=1.1), Basis.Z),
    "no circle": (plan(x1=0.7, y=0.4), Basis.Z),
    "no circle either": (plan(0.3, 0.9, 1.3), Basis.ZPX),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("bell", range(4))
@pytest.mark.parametrize("want", [0, 3])
def test_the_remedy_makes_one_state_of_both_outcomes_where_a_pauli_can(
    name: str, bell: int, want: int
) -> None:
    angles, basis = CASES[name]
    aim = held_by_receiver(angles, basis, 0, want)
    for outcome in (0, 1):
        cure = remedy(angles, basis, outcome, bell, want)
        state = PAULIS[cure.pauli] @ held_by_receiver(angles, basis, outcome, bell)
        overlap = abs(np.vdot(aim, state)) ** 2
        assert cure.corrected == (outcome == 0 or not name.startswith("no circle"))
        if cure.corrected:
            assert math.isclose(overlap, 1.0, abs_tol=1e-9)
        else:
            assert math.isclose(overlap, 0.0, abs_tol=1e-9)
            best = max(abs(np.vdot(aim, p @ state)) ** 2 for p in PAULIS)
            assert best < 1 - 1e-3


@pytest.mark.parametrize("origin", ["alice", "bob"])
@pytest.mark.parametrize("correct", [True, False])
def test_only_the_receiver_corrects_and_it_is_told_the_outcome(origin: str, correct: bool) -> None:
    rig = Rig()
    rig.force_bell = 3
    final = 0 if correct else None
    wanted = rig.create(request(origin, 4, kind=PairKind.PREPARE, final_bell=final))
    rig.run(10 * MILLISECOND)
    rig.alike(wanted)
    rig.no_leak()
    creator = rig.ends[origin]
    receiver = rig.ends["bob" if origin == "alice" else "alice"]
    measured = creator.of(LinkOutcomeReady, wanted)
    held = receiver.of(LinkPairReady, wanted)
    assert [u.outcome for u in measured] == [u.outcome for u in held] == [1, 0, 1, 0]
    assert [u.info.bell for u in measured] == [0 if correct else 3] * 4
    assert [u.corrected for u in held] == [correct] * 4
    gates = {
        end.name: [
            a.command.gate.name
            for _, _, actions in end.log
            for a in actions
            if hasattr(a, "command") and isinstance(a.command, MemoryGate)
        ]
        for end in (creator, receiver)
    }
    assert gates[creator.name] == []
    # Psi- is undone by Y; outcome 1 along Z is turned by X besides: Y X is Z up to a phase.
    assert gates[receiver.name] == (["Z", "Y", "Z", "Y"] if correct else [])

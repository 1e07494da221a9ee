"""Whole networks without a herald line: both ends meet in the same cycles by agreement."""

from __future__ import annotations

import pytest

from qstack.sim.heap import Wire
from qstack.testing import check_same_pairs
from tests.whole.rig import Lab, Rig
from tests.whole.test_traffic import check_truth, run_request

WIRES = [
    Wire(0, 0, 0.0, 0.0),
    Wire(50_000, 0, 0.0, 0.0),
    Wire(1_000_000, 0, 0.0, 0.0),
    Wire(50_000, 100_000, 0.1, 0.05),
]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("qubits", [1, 4])
def test_without_a_herald_line_pairs_come_over_every_wire(wire: Wire, qubits: int) -> None:
    """Thirty pairs, true and the same at both ends, for a bounded number of commands.

    An attempt succeeds with p = 0.15 and costs one command at each end: the bound of 60
    commands a pair is more than four times their mean, and what is lost must fit into it too.
    Over the last wire one seed in fifty needs more, where all heralds of a cycle were lost thrice.
    """
    rig = Rig(Lab(herald_line=False, qubits=qubits), seed=3)
    rig.heap.set_default(wire)
    truth = rig.truth()
    run_request(rig, 30)
    assert [done.delivered for done in rig.bob.done] == [30]
    assert not rig.alice.expired
    assert not rig.bob.expired
    check_same_pairs(rig.alice, rig.bob)
    check_truth(truth)
    assert rig.free_slots() == (qubits, qubits)
    assert rig.heap.frames["command:EmitterArm"] < 60 * 30

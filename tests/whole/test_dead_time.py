"""A whole network whose detectors are blind for longer than a cycle: it runs attempt by attempt."""

from __future__ import annotations

from qstack.sim.devices import DetectorParameters
from qstack.sim.world import WorldDevice, WorldParameters
from qstack.testing import check_same_pairs, terms
from tests.whole.rig import Lab, Rig
from tests.whole.test_states_delivered import FIDELITY


class SlowLab(Lab):
    """The small network of the rig with 45 us of dead time, in cycles of 10 us."""

    def world(self) -> WorldParameters:
        """What is true."""
        world = super().world()
        devices = dict(world.devices)
        slow = DetectorParameters(1.0, dead_ns=45_000)
        devices["station.detector"] = WorldDevice("station", slow)
        return WorldParameters(tuple(devices.items()), world.links)


def test_pairs_are_delivered_and_are_what_was_announced_with_detectors_that_remember() -> None:
    """300 pairs, seed fixed. After a herald four windows are missed by one detector.

    Two clicks at once, of which a blind detector misses one, herald by mistake: less than
    alpha^2 eta^2 / 2 = 0.3 % of attempts, against 15 % that succeed. So the mean fidelity is that
    of live detectors less 2 % at most.
    """
    rig = Rig(SlowLab(t2_ns=0), seed=91)
    truth = rig.truth()
    rig.alice.keep(terms("bob", 300))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    assert len(rig.alice.pairs) == 300
    assert rig.free_slots() == (4, 4)
    fidelities = [fidelity for _, fidelity, _ in truth.fidelities]
    assert len(fidelities) == 300
    assert FIDELITY - 0.02 <= sum(fidelities) / 300 <= FIDELITY + 1e-9
    attempts, singles, heralds = rig.net.world.counted("ab")
    assert sum(heralds.values()) >= 300
    assert attempts > sum(singles) >= sum(heralds.values())

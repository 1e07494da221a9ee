"""Users who are hard on their node: restarted at once, or giving back what is still in work."""

from __future__ import annotations

from typing import Any

from qstack.messages.application import FreeQubit, MeasureQubit, PairReady
from qstack.messages.common import PLAIN_Z
from qstack.testing import hold, terms
from qstack.testing.memory import leftovers
from qstack.units import MILLISECOND, SECOND
from tests.whole.rig import Rig


def serve(rig: Rig, number: int) -> None:
    """Pairs come to both users, and every memory is free afterwards."""
    rig.alice.policy = rig.bob.policy = lambda pair, now: FreeQubit(pair.qubit)
    before = len(rig.alice.done)
    rig.alice.keep(terms("bob", number))
    rig.run(lambda: len(rig.alice.done) > before, SECOND)
    rig.settle()
    assert rig.free_slots() == (4, 4)


def test_a_user_that_restarts_at_once_is_served_by_the_same_life_of_its_node() -> None:
    """Its node has not missed it yet: it hears of the new life before the old one is silent."""
    rig = Rig(seed=3)
    rig.alice.policy = hold
    rig.alice.keep(terms("bob", 2))
    rig.run(lambda: len(rig.alice.pairs) == 2)
    boot = rig.net.host("alice").boot
    rig.net.crash(rig.alice.name)
    rig.settle(MILLISECOND)
    rig.alice.holding.clear()
    rig.net.user(rig.alice.name, ["alice"], rig.alice.listen)
    rig.settle()
    assert rig.net.host("alice").boot == boot
    assert rig.alice.reached
    serve(rig, 5)


def test_a_qubit_given_back_during_its_readout_is_freed_when_that_has_ended() -> None:
    """Measured and freed in one breath: both words reach the node before the memory answers."""
    rig = Rig(seed=4)

    def measure_and_free(pair: PairReady, now: int) -> Any:
        rig.alice.say(MeasureQubit(rig.alice.reference(), pair.qubit, PLAIN_Z))
        rig.alice.say(FreeQubit(pair.qubit))

    rig.alice.policy = measure_and_free
    rig.alice.keep(terms("bob", 6))
    rig.run(lambda: bool(rig.alice.done), SECOND)
    rig.settle()
    assert leftovers(rig.net.host("alice")) == []
    assert len(rig.alice.measured) == 6
    serve(rig, 5)

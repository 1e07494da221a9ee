"""The mean true fidelity of each class of pairs is what goodness says, and is seen not to be."""

from __future__ import annotations

import pytest

from qstack.testing import Judge, Origins, States, terms
from qstack.testing.statistics import ENOUGH, Classes
from qstack.units import MILLISECOND
from tests.whole.rig import Lab, Rig

PAIRS = 4_200
"""Half of them in each click pattern, so that both classes have more than :data:`ENOUGH`."""


def classes_of(lab: Lab) -> Classes:
    rig = Rig(lab, seed=21)
    rig.truth()
    origins = Origins()
    states = States(origins)
    users = {party.name: party.node for party in (rig.alice, rig.bob)}
    Judge(rig.net, users, (origins, states))
    rig.alice.keep(terms("bob", PAIRS))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    assert len(states.seen) == PAIRS
    classes = Classes()
    classes.add(states.seen)
    return classes


@pytest.mark.parametrize("t2_ns", [10_000 * MILLISECOND, 2 * MILLISECOND])
def test_the_mean_fidelity_of_each_class_agrees_with_goodness(t2_ns: int) -> None:
    """False alarm 1e-6 for each of the classes, by Hoeffding; tolerance 0.005.

    With the short coherence time a pair that waited a tenth of a millisecond for the herald's
    message has lost a tenth of its coherence: goodness and its age must both be right.
    """
    classes = classes_of(Lab(t2_ns=t2_ns))
    judged = [mean for mean in classes.means().values() if mean.count >= ENOUGH]
    assert len(judged) == 2, "one class for each click pattern"
    assert classes.refuted() == []
    for mean in judged:
        # The same numbers by hand, far tighter than chance at its worst would allow.
        assert mean.fidelity == pytest.approx(mean.promised, abs=0.005)


def test_a_datasheet_that_promises_too_much_is_refuted_by_the_classes() -> None:
    """Emitters that lose their charge in three attempts of ten: 0.79 for 0.94."""
    classes = classes_of(Lab(lost_charge=0.3, t2_ns=10_000 * MILLISECOND))
    assert len(classes.refuted()) == 2

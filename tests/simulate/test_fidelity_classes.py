"""The mean true fidelity of each class of pairs is what goodness says, and is seen not to be."""

from __future__ import annotations

import math

import pytest

from qstack.messages.common import PairId
from qstack.testing import Judge, Origins, States, terms
from qstack.testing.checkers import Seen
from qstack.testing.statistics import ENOUGH, Classes
from qstack.units import MILLISECOND
from tests.simulate.classes import KEPT_NS, LABS, Keepers, classes_of
from tests.whole.rig import Lab, Rig

PAIRS = 4_200
"""Half of them in each click pattern, so that both classes have more than :data:`ENOUGH`."""


def classes_of_a_run(lab: Lab) -> Classes:
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
    classes = classes_of_a_run(Lab(t2_ns=t2_ns))
    judged = [mean for mean in classes.means().values() if mean.count >= ENOUGH]
    assert len(judged) == 2, "one class for each click pattern"
    assert classes.refuted() == []
    for mean in judged:
        # The same numbers by hand, far tighter than chance at its worst would allow.
        assert mean.fidelity == pytest.approx(mean.promised, abs=0.005)


def test_a_datasheet_that_promises_too_much_is_refuted_by_the_classes() -> None:
    """Emitters that lose their charge in three attempts of ten: 0.79 for 0.94."""
    classes = classes_of_a_run(Lab(lost_charge=0.3, t2_ns=10_000 * MILLISECOND))
    assert len(classes.refuted()) == 2


def test_a_pair_that_is_kept_is_looked_at_again_when_it_is_given_back() -> None:
    """Every pair once when it is told, and once more at its greater age, by another law.

    By hand: of a pair of fidelity F the halves dephase, T2 each, so that F (1 + exp(-2 t / T2)) / 2
    is left after t; nothing relaxes, and nothing else of the pair has the opposite sign.
    """
    keepers = Keepers(LABS["one click"], seed=5)
    keepers.make(90)
    eta, alpha = 0.8, 0.1
    one, two = 2 * alpha * (1 - alpha) * eta, alpha**2 * (eta**2 + 2 * eta * (1 - eta))
    fresh = one / (one + two)
    looks: dict[PairId, list[Seen]] = {}
    for seen in keepers.states.seen:
        looks.setdefault(seen.pair, []).append(seen)
    assert len(looks) == 90
    for pair, both in looks.items():
        ages = [each.age_ns + each.late_ns for each in both]
        kept_ns = KEPT_NS[pair.sequence % len(KEPT_NS)]
        assert ages[1] - ages[0] == pytest.approx(kept_ns, abs=10_000)
        for age, each in zip(ages, both, strict=True):
            by_hand = fresh * (1 + math.exp(-2 * age / (20 * MILLISECOND))) / 2
            assert each.fidelity == pytest.approx(by_hand, abs=1e-6)
            assert each.expected == pytest.approx(by_hand, abs=1e-3)


@pytest.mark.parametrize("name", LABS)
def test_every_class_of_a_working_point_is_filled(name: str) -> None:
    """A few here; ``make simulate`` fills each with as many as can be judged."""
    classes = classes_of(name, enough=2)
    assert {age_class for *_, age_class in classes.means()} == {
        "up to 0.1 ms",
        "up to 1 ms",
        "up to 10 ms",
        "older",
    }
    assert classes.refuted() == []

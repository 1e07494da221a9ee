"""The mean true fidelity of each class of pairs is what goodness says, and is seen not to be."""

from __future__ import annotations

import math

import attrs
import pytest

from qstack.messages.common import PairId
from qstack.physical.service import LinkParameters
from qstack.testing.checkers import Seen
from qstack.testing.lab import Joint
from qstack.testing.statistics import ALARM, ENOUGH, Class, Classes
from qstack.units import MICROSECOND, MILLISECOND, Duration
from tests.simulate.classes import KEPT_NS, LABS, Keepers, classes_of
from tests.whole.rig import Lab

PAIRS = 4_200
"""Half of them in each click pattern, so that both classes have more than :data:`ENOUGH`."""

YOUNG = "up to 0.1 ms"
OLD_NS: Duration = 14 * MILLISECOND


def seen_in_a_run(lab: Lab, kept_ns: Duration) -> list[Seen]:
    """Return two looks at each pair: when it is told, and when it is given back."""
    keepers = Keepers(lab, 21, (kept_ns,))
    keepers.make(PAIRS)
    assert len(keepers.states.seen) == 2 * PAIRS
    return keepers.states.seen


def judged(*runs: list[Seen]) -> Classes:
    """Return the classes of some runs, each of which has enough pairs for a verdict."""
    classes = Classes()
    for seen in runs:
        classes.add(seen)
    assert min(mean.count for mean in classes.means().values()) >= ENOUGH
    return classes


def refuted_as_before(classes: Classes) -> list[Class]:
    """Return the classes that are refuted by Hoeffding's inequality, with a tolerance of 0.005."""
    return [
        key
        for key, mean in classes.means().items()
        if abs(mean.fidelity - mean.promised)
        > 0.005 + math.sqrt(math.log(2 / ALARM) / (2 * mean.count))
    ]


@pytest.fixture(scope="module")
def fine_and_old() -> list[Seen]:
    return seen_in_a_run(LABS["one click, fine"], OLD_NS)


@pytest.fixture(scope="module")
def short_lived() -> list[Seen]:
    """Pairs that waited a tenth of a millisecond for the herald's message lost a tenth."""
    lab = attrs.evolve(LABS["one click"], t2_ns=2 * MILLISECOND)
    return seen_in_a_run(lab, 400 * MICROSECOND)


def test_the_mean_fidelity_of_each_class_agrees_with_goodness(
    fine_and_old: list[Seen], short_lived: list[Seen]
) -> None:
    """Two working points, two click patterns each, told and at an age of 0.4 and of 14 ms.

    False alarm 1e-6 over all eight classes, by the empirical Bernstein inequality; tolerance 0.001.
    With the short coherence time goodness and its age must both be right.
    """
    classes = judged(fine_and_old, short_lived)
    assert {(setting, age) for setting, _, age in classes.means()} == {
        ("alpha-0.03", YOUNG),
        ("alpha-0.03", "older"),
        ("alpha-0.1", YOUNG),
        ("alpha-0.1", "up to 1 ms"),
    }
    assert len(classes.means()) == 8
    assert classes.refuted() == []
    for mean in classes.means().values():
        # What chance must be allowed of unknown laws is not needed here: datasheets and decay are
        # closed forms of what is true, so that not a single pair may be away.
        assert mean.fidelity == pytest.approx(mean.promised, abs=1e-6)
        assert mean.variance < 1e-12


# --- what is wrong is seen ------------------------------------------------------------------


@attrs.define
class LongLived(Lab):
    """A lab whose datasheets promise memories of a coherence time of 24 ms."""

    def _link(self, joint: Joint) -> LinkParameters:
        told = attrs.asdict(self, recurse=False) | {"t2_ns": 24 * MILLISECOND}
        return Lab(**told)._link(joint)


def test_one_setting_that_promises_three_hundredths_too_much_is_refuted_among_others(
    fine_and_old: list[Seen],
) -> None:
    """Emitters that lose their charge in six attempts of a hundred: 0.905 for 0.935.

    The former bound, of Hoeffding's inequality, left 0.064 to 2,100 pairs, and refutes nothing.
    """
    lab = attrs.evolve(LABS["one click"], lost_charge=0.06)
    classes = judged(fine_and_old, seen_in_a_run(lab, OLD_NS))
    assert classes.refuted() == [("alpha-0.1", 1, YOUNG), ("alpha-0.1", 2, YOUNG)]
    for key in classes.refuted():
        mean = classes.means()[key]
        assert mean.promised - mean.fidelity == pytest.approx(0.03, abs=0.002)
    assert refuted_as_before(classes) == []


def test_a_coherence_time_that_is_too_long_is_refuted_by_old_pairs_alone() -> None:
    """24 ms for 20 ms, by hand at 14 ms: 0.94 (exp(-28 / 24) - exp(-28 / 20)) / 2 = 0.0305."""
    told = attrs.asdict(LABS["one click"], recurse=False)
    classes = judged(seen_in_a_run(LongLived(**told), OLD_NS))
    assert classes.refuted() == [("alpha-0.1", 1, "older"), ("alpha-0.1", 2, "older")]
    for key in classes.refuted():
        mean = classes.means()[key]
        assert mean.promised - mean.fidelity == pytest.approx(0.0305, abs=0.001)
    assert refuted_as_before(classes) == []


# --- what fills the classes -----------------------------------------------------------------


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

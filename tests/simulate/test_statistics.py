"""The verdict on classes of pairs: its bound against values by hand, and drawn many times."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qstack.testing.checkers import Seen
from qstack.testing.statistics import (
    ALARM,
    ENOUGH,
    ROUTED_TOLERANCE,
    TOLERANCE,
    Classes,
    chance_bound,
)
from qstack.units import MILLISECOND


def pair(fidelity: float, expected: float, setting: str = "s", age_ns: int = 1_000) -> Seen:
    # The identity of a pair plays no part here.
    return Seen(None, setting, 1, fidelity, expected, age_ns, 0)  # type: ignore[arg-type]  # see above


# --- the bound ----------------------------------------------------------------------------


def test_the_bound_of_chance_has_the_values_that_its_formula_gives_by_hand() -> None:
    """``sqrt(2 V L / n) + 7 R L / (3 (n - 1))``, with alarms that make L = log(4 / alarm) whole.

    With L = 6: 301 pairs of variance 0 in an interval of 1, 42 / 900; 301 of 1.5, 63 / 900;
    1,201 of variance 0.01, sqrt(0.12 / 1201) + 42 / 3600 = 0.0099958 + 0.0116667.
    With L = 18: two pairs of variance 1, sqrt(18) + 126 / 3.
    """
    six, eighteen = 4 * math.exp(-6), 4 * math.exp(-18)
    assert chance_bound(301, 0.0, 1.0, six) == pytest.approx(0.0466667, abs=1e-7)
    assert chance_bound(301, 0.0, 1.5, six) == pytest.approx(0.07, abs=1e-12)
    assert chance_bound(1_201, 0.01, 1.0, six) == pytest.approx(0.0216625, abs=1e-7)
    assert chance_bound(2, 1.0, 1.0, eighteen) == pytest.approx(46.2426407, abs=1e-7)


REPEATED = 20_000
SIZE = 400


@pytest.mark.parametrize("share", [0.5, 0.1, 0.003])
def test_the_bound_is_passed_by_the_means_of_pairs_of_two_fidelities_as_seldom_as_it_says(
    share: float,
) -> None:
    """Of 20,000 means of 400 pairs at most one in twenty, with pairs of fidelity 1 and of 0.

    Failures that are one in 333 are not met at all in ``(1 - 0.003) ** 400 = 0.30`` of the
    samples: these have variance 0, and a bound from the normal law, ``1.96 sqrt(V / n)``, is passed
    by all of them. The number of failures is binomial, so numpy draws that; seed 5. If the bound
    held with equality, 1,000 would pass it, with a standard deviation of 31; 4 of these more
    (1,124) are a false alarm of 3e-5.
    """
    fails = np.random.default_rng(5).binomial(SIZE, share, REPEATED)
    means = fails / SIZE
    variances = means * (1 - means) * SIZE / (SIZE - 1)
    away = np.abs(means - share)
    bounds = np.array([chance_bound(SIZE, float(each), 1.0, 0.05) for each in variances])
    assert int(np.sum(away > bounds)) <= 1_124
    passed = int(np.sum(away > 1.96 * np.sqrt(variances / SIZE)))
    assert (passed > 4 * 1_124) is (share == 0.003)


# --- classes ------------------------------------------------------------------------------


def test_pairs_that_are_worse_or_better_than_promised_refute_their_class() -> None:
    """One class of 2,000 pairs without variance: ``7 ln(4e6) / (3 * 1999) = 0.01774`` by chance.

    With the tolerance 0.0187: so 0.9 against 0.88 is refuted and against 0.882 is not. Over
    several links it is 0.0227. Hoeffding's inequality would allow sqrt(ln(2e6) / 4000) = 0.0602.
    """
    assert (ALARM, TOLERANCE, ROUTED_TOLERANCE) == (1e-6, 0.001, 0.005)
    for promised, refuted in ((0.88, True), (0.882, False), (0.918, False), (0.92, True)):
        classes = Classes()
        classes.add([pair(0.9, promised)] * ENOUGH)
        assert bool(classes.refuted()) is refuted, promised
    for promised, refuted in ((0.876, True), (0.878, False)):
        classes = Classes(ROUTED_TOLERANCE)
        classes.add([pair(0.9, promised)] * ENOUGH)
        assert bool(classes.refuted()) is refuted, promised


def test_what_a_class_is_allowed_grows_with_the_variance_and_with_the_number_of_classes() -> None:
    """By hand, for 2,000 pairs, half of them 0.1 better and half 0.1 worse than the promise 0.8.

    V = 0.01 * 2000 / 1999. Alone L = ln(4e6) = 15.2018: sqrt(2 V L / 2000) = 0.012333 and
    7 L / 5997 = 0.017744, with the tolerance 0.031077. Of two classes L = ln(8e6) = 15.8950:
    0.012611, 0.018553 and 0.001, together 0.032164.
    """
    classes = Classes()
    classes.add([pair(0.9, 0.8), pair(0.7, 0.8)] * (ENOUGH // 2))
    (alone,) = classes.means().values()
    assert alone.variance == pytest.approx(0.01 * 2000 / 1999, rel=1e-9)
    assert alone.allowed == pytest.approx(0.031077, abs=1e-6)
    classes.add([pair(0.9, 0.9, "other")] * (ENOUGH - 1))
    assert classes.means()["s", 1, "up to 0.1 ms"].allowed == alone.allowed, "too few to judge"
    classes.add([pair(0.9, 0.9, "other")])
    assert classes.means()["s", 1, "up to 0.1 ms"].allowed == pytest.approx(0.032164, abs=1e-6)


def test_promises_that_differ_within_a_class_widen_the_interval() -> None:
    """Fidelity less promise is in [-0.9, 0.5] where promises are 0.5 and 0.9: 1.4 for R.

    By hand 7 * 1.4 * ln(4e6) / 5997 + 0.001 = 0.025842.
    """
    classes = Classes()
    classes.add([pair(0.5, 0.5), pair(0.9, 0.9)] * (ENOUGH // 2))
    (mean,) = classes.means().values()
    assert mean.variance < 1e-12
    assert mean.allowed == pytest.approx(0.025842, abs=2e-6)


def test_one_class_that_is_wrong_is_named_among_others_that_are_right() -> None:
    """Age and setting make the class; 0.02 is refuted in one of four that share the alarm.

    By hand: 7 ln(16e6) / 5997 + 0.001 = 0.020363, so 0.021 is, and 0.020 is not.
    """
    for wrong, refuted in ((0.021, [("s", 1, "older")]), (0.020, [])):
        classes = Classes()
        for setting in ("s", "other"):
            classes.add([pair(0.9, 0.9, setting)] * ENOUGH)
        classes.add([pair(0.6, 0.6, "other", 14 * MILLISECOND)] * ENOUGH)
        classes.add([pair(0.6, 0.6 + wrong, "s", 14 * MILLISECOND)] * ENOUGH)
        assert classes.refuted() == refuted


def test_a_class_of_too_few_pairs_is_not_judged() -> None:
    classes = Classes()
    classes.add([pair(0.5, 0.9)])
    assert "too few" in classes.report()[0]
    classes.add([pair(0.5, 0.9)] * (ENOUGH - 2))
    assert classes.refuted() == []
    classes.add([pair(0.5, 0.9)])
    assert len(classes.refuted()) == 1
    assert "REFUTED" in classes.report()[0]

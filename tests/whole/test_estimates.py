"""The estimator follows the truth when the datasheet is wrong.

The true emitters find themselves in the wrong charge state with some probability, which no
datasheet of the link tells: the state that is heralded is worse than predicted. Test rounds,
chosen after the herald, must bring goodness down to the truth and refuse what cannot be had.
"""

from __future__ import annotations

import math

import numpy as np

from qstack.errors import ErrorCode
from qstack.testing import check_same_pairs, terms
from tests.whole.rig import Lab, Rig

LOST_CHARGE = 0.3
PAIRS = 3000
ROUNDS = 600
"""After this many test rounds goodness must have come down to the truth."""


def wrong_lab() -> Lab:
    """Predicted fidelity 0.9375; true one 0.787."""
    return Lab(lost_charge=LOST_CHARGE, test_rate=0.25, t2_ns=10**13)


def test_goodness_follows_test_rounds_down_to_the_truth() -> None:
    """3,000 pairs, a quarter more tested: afterwards goodness is at most the mean fidelity.

    Mean true fidelity of the last 1,000 pairs must not lie below goodness by more than 4
    standard errors, and goodness must not be wastefully low: within 0.1 of the truth. The error
    is mostly that of the tests: each axis of each of the two patterns has a sixth of the rounds,
    and a correlator E from n of them has the variance (1 - E^2) / n.
    """
    rig = Rig(wrong_lab(), seed=61)
    truth = rig.truth()
    rig.alice.keep(terms("bob", PAIRS))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    assert rig.alice.done[0].tested > ROUNDS
    assert rig.alice.done[0].tested == rig.bob.done[0].tested
    first, last = truth.fidelities[:50], truth.fidelities[-1000:]
    true = np.array([fidelity for _, fidelity, _ in last])
    good = np.array([goodness for _, _, goodness in last])
    assert np.mean([goodness for _, _, goodness in first]) > 0.9, "it began with the datasheet"
    correlator = (4 * np.mean(true) - 1) / 3
    of_an_axis = (1 - correlator**2) / (rig.alice.done[0].tested / 6)
    of_tests = math.sqrt(3 * of_an_axis / 16 / 2)
    error = math.hypot(of_tests, np.std(true) / math.sqrt(len(true)))
    assert error < 0.025
    assert np.mean(true) > np.mean(good) - 4 * error
    assert np.mean(good) > np.mean(true) - 0.1


def test_what_the_tests_have_refuted_is_refused_and_a_running_request_ends() -> None:
    """0.9 is promised by the datasheet; when tests say otherwise it is UNSUPPORTED."""
    rig = Rig(wrong_lab(), seed=62)
    rig.alice.keep(terms("bob", PAIRS, fidelity_min=0.9))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    for party in (rig.alice, rig.bob):
        assert [ended.code for ended in party.ended] == [ErrorCode.UNSUPPORTED]
        assert party.ended[0].delivered < 3 * ROUNDS, "a quarter of the pairs are tests"
    check_same_pairs(rig.alice, rig.bob)
    rig.alice.ended.clear()
    rig.alice.keep(terms("bob", 1, fidelity_min=0.9))
    rig.run(lambda: bool(rig.alice.ended))
    assert rig.alice.ended[0].code is ErrorCode.UNSUPPORTED
    assert rig.free_slots() == (4, 4)


def test_a_right_datasheet_is_not_refuted_by_its_own_tests() -> None:
    """1,000 pairs with a quarter of tests at the predicted fidelity: nothing is refused."""
    rig = Rig(Lab(test_rate=0.25, t2_ns=10**13), seed=63)
    rig.truth()
    rig.alice.keep(terms("bob", 1000, fidelity_min=0.9))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    assert [done.delivered for done in rig.alice.done] == [1000]
    assert rig.alice.done[0].tested > 200
    assert rig.free_slots() == (4, 4)

"""The true joint states of end-to-end pairs, against the product formula and a slot model.

The state of each pair is that which the simulated world holds when an end is told of it. Samples
are compared at 4 standard errors (false alarm 6e-5 each, fixed seeds); `make simulate` does the
same with 2,000 pairs and more of each chain.
"""

from __future__ import annotations

import numpy as np
import pytest

from qstack.testing.chain_runs import Chain, fidelity_to
from qstack.testing.chains import ChainLab, Segment
from tests.whole.chain_cases import (
    CYCLE_NS,
    DRAWN,
    END_NS,
    FADING,
    SWAP_NS,
    VISIBILITY,
    expected,
    in_rounds,
    mixed,
    pure,
    without_decay,
)
from tests.whole.chain_models import off, power_of_wait, product, with_cutoff

PAIRS = {2: 300, 3: 200, 5: 150, 9: 60}
ROUNDS = {3: 250, 5: 120, 9: 50}


def test_the_models_say_what_the_dossier_says_of_its_cases() -> None:
    werner = [(0.95, 0.05 / 3, 0.05 / 3, 0.05 / 3)] * 10
    assert product(werner[:2]) == pytest.approx(0.903333, abs=5e-7)
    assert product(werner) == pytest.approx(0.626209, abs=5e-7)
    assert with_cutoff(0.1, 10_000, 1.0)[0] == pytest.approx(14.736842, abs=5e-7)
    assert with_cutoff(0.1, 10_000, 0.9)[1] == pytest.approx(power_of_wait(0.1, 0.9), rel=1e-9)


@pytest.mark.parametrize("nodes", [2, 3, 5, 9])
def test_without_decay_every_pair_has_the_fidelity_of_the_product_formula(nodes: int) -> None:
    """Diagonal links: no pair may differ, whatever links heralded and repeaters measured."""
    pairs = without_decay(nodes, 40, diagonal=True)
    formula = expected(pure(nodes - 1))
    for pair in pairs:
        assert pair.fidelity == pytest.approx(formula, abs=1e-9)
        assert pair.claimed == pytest.approx((formula, formula), abs=1e-9)
    assert {pair.bell for pair in pairs} == ({2, 3} if nodes == 2 else {0, 1, 2, 3})


@pytest.mark.parametrize("turn", range(4))
def test_one_link_delivers_all_four_states_as_good_whichever_two_its_optics_herald(
    turn: int,
) -> None:
    """A Pauli in one arm turns Psi+ and Psi-, so that each index is delivered by some turn."""
    segment = Segment(visibility=VISIBILITY, turn=turn)
    pairs = Chain(ChainLab([segment]), seed=48).ask(40)
    assert {pair.bell for pair in pairs} == {2 ^ turn, 3 ^ turn}
    for pair in pairs:
        assert pair.fidelity == pytest.approx((1 + VISIBILITY) / 2, abs=1e-9)
        assert pair.claimed == pytest.approx((pair.fidelity, pair.fidelity), abs=1e-9)


@pytest.mark.parametrize("nodes", [2, 3, 5, 9])
def test_links_with_other_errors_compose_by_weights_in_the_mean(nodes: int) -> None:
    """Z errors of one link and X and Y errors of the next; all Bell indices pooled."""
    pairs = without_decay(nodes, PAIRS[nodes], diagonal=False)
    formula = expected(mixed(nodes - 1))
    true = np.array([pair.fidelity for pair in pairs])
    error = max(float(np.std(true)), 1e-9) / len(true) ** 0.5
    assert abs(np.mean(true) - formula) < 4 * error + 1e-9
    claims = np.array([pair.claimed for pair in pairs])
    assert np.abs(claims - formula).max() < 1e-9
    counts = np.bincount([pair.bell for pair in pairs], minlength=4)
    share = 0.5 if nodes == 2 else 0.25
    spread = (len(pairs) * share * (1 - share)) ** 0.5
    assert all(abs(count - len(pairs) * share) < 4 * spread for count in counts if count)
    assert np.count_nonzero(counts) == (2 if nodes == 2 else 4)


def test_a_flawed_swap_of_perfect_pairs_leaves_what_briegel_and_others_say() -> None:
    """Case O11 with Werner pairs of fidelity 1: 1/4 + 3/4 p2 (4 eta^2 - 1) / 3."""
    pairs = Chain(ChainLab([Segment(), Segment()], keep=0.98, readout=0.99), seed=47).ask(40)
    formula = 0.25 + 0.75 * 0.98 * (4 * 0.99**2 - 1) / 3
    for pair in pairs:
        assert pair.fidelity == pytest.approx(formula, abs=1e-9)
        assert pair.claimed == pytest.approx((formula, formula), abs=1e-9)


@pytest.mark.parametrize("wrong", ["the next pair's", "flipped by Z", "flipped by X"])
def test_the_comparison_fails_for_a_wrong_composition(wrong: str) -> None:
    pairs = without_decay(5, PAIRS[5], diagonal=False)
    bells = [pair.bell for pair in pairs]
    said = {
        "the next pair's": bells[1:] + bells[:1],
        "flipped by Z": [bell ^ 1 for bell in bells],
        "flipped by X": [bell ^ 2 for bell in bells],
    }[wrong]
    found = [fidelity_to(pair.state, bell) for pair, bell in zip(pairs, said, strict=True)]
    assert off(np.array(found), expected(mixed(4))) > 4


def test_two_fading_segments_have_the_closed_form_of_the_wait() -> None:
    """The first pair waits d cycles, and both its halves: E[l ** |d|] with l = exp(-2 C / T2)."""
    physics = FADING[3].physics
    wait = power_of_wait(0.1, np.exp(-2 * CYCLE_NS / physics.t2))
    # Both ends of the later link, and of the first as much more: until the swap, until the end.
    phase = VISIBILITY**2 * np.exp(-2 * (SWAP_NS + END_NS) / physics.t2) * wait
    true = np.array([each.pair.fidelity for each in in_rounds(3, ROUNDS[3])])
    assert off(true, (2 + 2 * phase) / 4) < 4
    assert off(true, (2 + 2 * VISIBILITY**2) / 4) > 4, "the memories must matter here"


@pytest.mark.parametrize("nodes", [3, 5, 9])
def test_fading_chains_have_the_mean_fidelity_of_the_slot_model(nodes: int) -> None:
    """9 nodes: T2 alone; 5 nodes: T1 too, and a coherence that does not compose."""
    model = FADING[nodes].model().fidelity
    true = np.array([each.pair.fidelity for each in in_rounds(nodes, ROUNDS[nodes])])
    assert off(true, float(model.mean()), float(model.std()) / DRAWN**0.5) < 4
    # A model in which the ends alone do not age is refuted: the comparison can fail.
    assert (
        off(true, product([((1 + VISIBILITY) / 2, (1 - VISIBILITY) / 2, 0, 0)] * (nodes - 1))) > 4
    )


@pytest.mark.parametrize("nodes", [3, 5, 9])
def test_what_both_ends_claim_of_a_fading_pair_is_true_of_it_when_they_are_told(
    nodes: int,
) -> None:
    """Pair by pair, with every wait of every qubit: at the ends too, while tracks wait and travel.

    Hand-over and the user's port take 4 us in all, which no end can know: 1e-4 at most.
    """
    for each in in_rounds(nodes, ROUNDS[nodes]):
        assert each.pair.claimed == pytest.approx(each.pair.fidelities, abs=1e-4)

"""How long a chain takes for a pair, counted in cycles: the largest of geometric times, or a sum.

A round begins with the chain at rest, in the gap between two cycles; everything that the protocols
say to each other fits into such gaps, so that the cycles from asking to delivery are those that
the links took. Samples at 4 standard errors (false alarm 6e-5 each, fixed seeds).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from qstack.testing.chain_runs import Chain, Round
from qstack.testing.chains import ChainLab, Segment
from qstack.units import SECOND
from tests.whole.chain_cases import (
    CUT,
    CUT_AFTER,
    CUT_GOAL,
    CYCLE_NS,
    FADING,
    in_rounds,
    with_cutoff_rounds,
)
from tests.whole.chain_models import off, slots_for_all, with_cutoff

ROUNDS = {3: 250, 4: 100, 5: 120, 9: 50}
CUT_ROUNDS = 150


def cycles(rounds: list[Round]) -> np.ndarray:
    return np.array([each.cycles for each in rounds])


@pytest.mark.parametrize(
    ("nodes", "anchor"), [(3, 14.736842), (4, 91.246913), (5, 20.273378), (9, None)]
)
def test_a_pair_takes_the_cycles_of_the_slowest_of_all_links(
    nodes: int, anchor: float | None
) -> None:
    """Case O15, through all layers: one communication qubit per link, no cutoff that acts."""
    found = cycles(in_rounds(nodes, ROUNDS[nodes]))
    expected = slots_for_all(FADING[nodes].physics.success)
    assert anchor is None or expected == pytest.approx(anchor, abs=5e-7)
    assert found.min() >= 1
    assert off(found, expected) < 4
    # Links made one after the other would take the sum: the comparison can fail.
    assert off(found, sum(1 / p for p in FADING[nodes].physics.success)) > 4


def test_a_cutoff_costs_the_cycles_and_gives_the_fidelity_of_the_closed_forms() -> None:
    """Two links of p = 0.1; what waited 4 cycles more is discarded, and both begin anew."""
    rounds = with_cutoff_rounds(CUT_ROUNDS)
    slots, _ = with_cutoff(0.1, CUT_AFTER, 1.0)
    assert off(cycles(rounds), slots) < 4
    assert off(cycles(rounds), slots_for_all((0.1, 0.1))) > 4
    true = np.array([each.pair.fidelity for each in rounds])
    assert off(true, CUT.fidelity(CUT_AFTER)) < 4
    assert off(true, CUT.fidelity(1_000)) > 4
    assert true.mean() > CUT_GOAL
    for each in rounds:
        assert each.pair.claimed == pytest.approx(each.pair.fidelities, abs=2e-4)


# --- one qubit to attempt with ----------------------------------------------------------------


def lonely(success: tuple[float, ...]) -> ChainLab:
    """Every node attempts with one qubit, and stores a half for each of its links."""
    segments = [Segment(efficiency=(2 * each) ** 0.5) for each in success]
    return ChainLab(
        segments, cycle_ns=CYCLE_NS, wire_ns=10_000, confirm_ns=50 * CYCLE_NS, single=True
    )


@cache
def lonely_rounds(success: tuple[float, ...], count: int) -> list[Round]:
    return Chain(lonely(success), seed=71).rounds(count)


@pytest.mark.parametrize("success", [(0.1, 0.2), (0.5, 0.5)])
def test_a_repeater_with_one_communication_qubit_takes_the_sum_of_both_links(
    success: tuple[float, float],
) -> None:
    found = cycles(lonely_rounds(success, 120))
    assert off(found, sum(1 / each for each in success)) < 4
    assert off(found, slots_for_all(success)) > 4


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_long_request_over_nodes_with_one_communication_qubit_is_served_whole(
    nodes: int,
) -> None:
    """Links leave each other room in the stores of their ends: nothing waits for ever."""
    chain = Chain(lonely((0.2,) * (nodes - 1)), seed=72)
    assert len(chain.ask(40, limit_ns=20 * SECOND)) == 40

"""Purification against published numbers, hand-computed values and density matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.bell import BellWeights, werner
from qstack.messages.circuits import Method
from qstack.network.budget import Operations
from qstack.network.purification import nested, plan, plans, pumped
from qstack.network.rounds import Ends, Round, bbpssw, dejmps, extreme_photon_loss, parity_round
from tests.network import registers
from tests.network.test_budget import operations, weights

LABORATORY = Operations(0.98, 0.99)
BOTH: Ends = (LABORATORY, LABORATORY)
ends = st.tuples(operations, operations)


def fidelities(rounds: Iterator[tuple[Round, float]], count: int) -> list[float]:
    return [result.weights[0] for result, _ in islice(rounds, count)]


@pytest.mark.parametrize(
    ("kept", "spent", "probability", "fidelity"),
    [(0.7, 0.7, 0.68, 0.735294), (0.9, 0.75, 0.788889, 0.859155), (0.8, 0.8, 0.7689, 0.83815)],
)
def test_a_bbpssw_round_gives_the_numbers_of_case_o13(
    kept: float, spent: float, probability: float, fidelity: float
) -> None:
    found = bbpssw(werner(kept), werner(spent))
    assert found.probability == pytest.approx(probability, abs=5e-5)
    assert found.weights == pytest.approx(werner(fidelity), abs=5e-6)


def test_a_dejmps_round_gives_the_weights_of_case_o14() -> None:
    found = dejmps((0.75, 0.12, 0.08, 0.05), (0.75, 0.12, 0.08, 0.05))
    assert found.probability == pytest.approx(0.68, rel=1e-9)
    assert found.weights == pytest.approx((0.830882, 0.110294, 0.030588, 0.028235), abs=5e-7)


def test_nested_rounds_from_seven_tenths_give_the_numbers_of_the_dossier() -> None:
    start = werner(0.7)
    assert fidelities(nested(start, dejmps), 3) == pytest.approx(
        [0.73529, 0.84595, 0.93439], abs=5e-6
    )
    assert fidelities(nested(start, bbpssw), 3) == pytest.approx(
        [0.73529, 0.77317, 0.81194], abs=5e-6
    )


def test_ideal_rounds_from_nine_tenths_give_the_numbers_of_the_dossier() -> None:
    start = werner(0.9)
    assert fidelities(nested(start, dejmps), 3) == pytest.approx([0.926, 0.9888, 0.99907], abs=5e-4)
    assert fidelities(pumped(start, dejmps), 60)[-1] == pytest.approx(0.960, abs=5e-4)
    assert fidelities(pumped(start, bbpssw), 60)[-1] == pytest.approx(0.943, abs=5e-4)


def test_noisy_rounds_from_nine_tenths_give_the_numbers_of_the_dossier() -> None:
    found = fidelities(nested(werner(0.9), dejmps, BOTH), 12)
    assert found[:2] == pytest.approx([0.909, 0.952], abs=5e-4)
    assert max(found) == pytest.approx(0.970, abs=1e-3)


def test_a_bilateral_cnot_makes_pairs_with_phase_errors_alone_worse() -> None:
    start = (0.9, 0.1, 0.0, 0.0)
    assert parity_round(start, start).weights[0] == pytest.approx(0.82)


@given(weights(), weights(), ends, st.booleans())
def test_a_round_is_what_density_matrices_say(
    kept: BellWeights, spent: BellWeights, nodes: Ends, rotate: bool
) -> None:
    total = simulated(np.kron(registers.pair(kept), registers.pair(spent)), nodes, rotate, (0, 3))
    found = (dejmps if rotate else parity_round)(kept, spent, nodes)
    assert found.probability == pytest.approx(sum(total), abs=1e-12)
    assert found.weights == pytest.approx(tuple(each / sum(total) for each in total), abs=1e-10)


def simulated(
    state: registers.Matrix, nodes: Ends, rotate: bool, accepted: tuple[int, ...]
) -> list[float]:
    """Bell weights, unnormalised, of the pair A1 B1 after a round; qubits A1 B1 A2 B2.

    `accepted`: outcomes as (A << 1) | B.
    """
    if rotate:
        for qubit in range(4):
            turn = registers.on(registers.rotation_x((-1) ** qubit * math.pi / 2), qubit, 4)
            state = turn @ state @ turn.conj().T
    for end, node in enumerate(nodes):
        state = registers.noisy_cnot(state, (end, end + 2), 4, node)
    total = np.zeros(4)
    for a, b in product((0, 1), (0, 1)):
        if a << 1 | b in accepted:
            left = registers.reads(state, 2, a, 4, nodes[0])
            left = registers.reads(left, 3, b, 4, nodes[1])
            total += registers.bell_weights(registers.without(left, (2, 3), 4))
    return list(total)


def one_click_pair(odd: float, error: float, dark: float) -> registers.Matrix:
    """Psi+ with weight `odd` less phase errors, |00> with weight `dark`, |11> the rest."""
    state = registers.pair((0.0, 0.0, odd - error, error))
    state[0, 0] += dark
    state[3, 3] += 1 - odd - dark
    return state


@given(
    st.tuples(st.floats(0.4, 1.0), st.floats(0.4, 1.0)),
    st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 0.3)),
    st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    ends,
)
def test_distillation_of_photon_loss_is_what_density_matrices_say(
    odd: tuple[float, float],
    errors: tuple[float, float],
    dark: tuple[float, float],
    nodes: Ends,
) -> None:
    given_dark = tuple((1 - o) * d for o, d in zip(odd, dark, strict=True))
    pairs = [one_click_pair(o, e, d) for o, e, d in zip(odd, errors, given_dark, strict=True)]
    total = simulated(np.kron(*pairs), nodes, False, (3,))
    first, second = ((o - e, e, (1 - o) / 2, (1 - o) / 2) for o, e in zip(odd, errors, strict=True))
    found = extreme_photon_loss(first, second, (given_dark[0], given_dark[1]), nodes)
    assert found.probability == pytest.approx(sum(total), abs=1e-12)
    # Psi+ of both: the announced state is Psi+ again, its phase error Psi-.
    order = (total[2], total[3], total[0], total[1])
    assert found.weights == pytest.approx(tuple(e / sum(total) for e in order), abs=1e-9)


def test_distillation_of_photon_loss_makes_a_pure_state_of_bright_pairs() -> None:
    alpha = 0.3
    start = (1 - alpha, 0.0, alpha / 2, alpha / 2)
    found = extreme_photon_loss(start, start, (0.0, 0.0))
    assert found.weights == (1.0, 0.0, 0.0, 0.0)
    assert found.probability == pytest.approx((1 - alpha) ** 2 / 2)


@given(weights(), weights(), ends)
def test_failing_gates_mix_what_is_kept_where_no_bit_is_preferred(
    first: BellWeights, second: BellWeights, nodes: Ends
) -> None:
    found = extreme_photon_loss(
        first, second, ((first[2] + first[3]) / 2, sum(second[2:]) / 2), nodes
    )
    # Relative to Psi+: absolute indices are 2, 3, 0, 1, and even states are split equally.
    states = [one_click_pair(w[0] + w[1], w[1], (w[2] + w[3]) / 2) for w in (first, second)]
    total = simulated(np.kron(*states), nodes, False, (3,))
    order = (total[2], total[3], total[0], total[1])
    assert found.probability == pytest.approx(sum(total), abs=1e-12)
    assert found.weights == pytest.approx(tuple(e / sum(total) for e in order), abs=1e-9)


def test_ninety_five_percent_is_planned_as_two_nested_dejmps_rounds() -> None:
    found, _ = plan(werner(0.9), 0.95, BOTH, 4)
    assert found is not None
    assert (found.method, found.rounds, found.memories) == (Method.NESTED_DEJMPS, 2, 3)
    assert found.fidelity == pytest.approx(0.952, abs=5e-4)
    first = dejmps(werner(0.9), werner(0.9), BOTH)
    second = dejmps(first.weights, first.weights, BOTH)
    assert found.pairs == pytest.approx(4 / (first.probability * second.probability))
    assert found.kept == pytest.approx(first.probability**2 * second.probability)


def test_more_than_gates_allow_is_refused_with_the_best_there_is() -> None:
    found, limit = plan(werner(0.9), 0.98, BOTH, 4)
    assert found is None
    assert limit == pytest.approx(max(fidelities(nested(werner(0.9), dejmps, BOTH), 3)))


def test_pumping_by_bbpssw_alone_does_not_reach_ninety_five_percent() -> None:
    found, limit = plan(werner(0.9), 0.95, BOTH, 4, (Method.PUMPED_BBPSSW,))
    assert found is None
    assert 0.9 < limit < 0.95


def test_pairs_that_are_good_enough_are_not_purified() -> None:
    found, _ = plan(werner(0.9), 0.9, BOTH, 4)
    assert found is not None
    assert (found.method, found.pairs, found.memories) == (Method.NONE, 1.0, 1)


@pytest.mark.parametrize("memories", [1, 2, 3])
def test_no_plan_needs_more_memories_than_there_are(memories: int) -> None:
    found = list(plans(werner(0.9), BOTH, memories))
    assert max(each.memories for each in found) == memories
    assert {each.rounds for each in found if each.method is Method.NESTED_DEJMPS} == set(
        range(1, memories)
    )

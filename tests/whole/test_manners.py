"""Measured at once, early, and all within a time, on chains that fade: against closed forms.

Samples are compared at 4 standard errors (false alarm 6e-5 each, fixed seeds).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from qstack.messages.application import FreeQubit, OutcomeReady, PairReady
from qstack.messages.common import BasisPlan, BasisSet
from qstack.network.course import Course, Promise, choose
from qstack.network.manner import PLAIN, Manner
from qstack.sim.world.peek import pair_state
from qstack.testing.chain_runs import Chain, fidelity_to
from qstack.testing.chains import ChainLab, Segment
from qstack.testing.parties import Party, terms
from qstack.units import MILLISECOND, Instant
from tests.whole.chain_cases import CYCLE_NS, END_NS, SWAP_NS, VISIBILITY, Fading
from tests.whole.chain_models import off, power_of_wait

X_AXIS = BasisPlan(BasisSet.XYZ, 1.0, 0.0, 0.0, 0.0, 0.0)
SUCCESS, T2_CYCLES = 0.1, 15.0
FADES = Fading(3, SUCCESS, T2_CYCLES)
ROUNDS = 500
READ_NS = SWAP_NS
"""From an emission to its half's measurement at an end: light, report, herald, command."""


def phase(halves: int, end_ns: int) -> float:
    """What is left of XX where so many halves of the first pair wait for the second.

    The node's halves live until the swap, those at the ends until `end_ns` after their emission.
    """
    t2 = T2_CYCLES * CYCLE_NS
    wait = power_of_wait(SUCCESS, float(np.exp(-halves * CYCLE_NS / t2)))
    return float(VISIBILITY**2 * np.exp(-2 * (SWAP_NS + end_ns) / t2) * wait)


@cache
def measured_rounds() -> list[tuple[OutcomeReady, OutcomeReady]]:
    """One pair at a time, measured along X at both ends, each asked for at rest."""
    chain = Chain(FADES.lab, seed=71)
    found = []
    for _ in range(ROUNDS):
        began = -(-chain.heap.now // CYCLE_NS) * CYCLE_NS
        chain.settle(began + CYCLE_NS // 10 - chain.heap.now)
        done = len(chain.alice.done) + 1
        chain.alice.measure_directly(terms("bob", 1), X_AXIS, X_AXIS)
        chain.run(partial(both_done, chain, done))
        found.append((chain.alice.outcomes[-1][1], chain.bob.outcomes[-1][1]))
    return found


def both_done(chain: Chain, count: int) -> bool:
    return len(chain.alice.done) >= count and len(chain.bob.done) >= count


def test_the_errors_of_measured_pairs_have_no_ageing_at_the_ends() -> None:
    """Along X: a Phi pair's outcomes are equal, or differ where its index has a Z."""
    wrong = []
    for one, other in measured_rounds():
        assert one.info.pair == other.info.pair
        assert one.info.bell == other.info.bell
        wrong.append(one.outcome ^ other.outcome ^ (one.info.bell & 1))
    rate, error = float(np.mean(wrong)), float(np.std(wrong)) / len(wrong) ** 0.5
    at_once = (1 - phase(1, READ_NS)) / 2
    kept = (1 - phase(2, END_NS)) / 2
    assert abs(rate - at_once) < 4 * error
    assert abs(rate - kept) > 4 * error, "pairs that wait at the ends are worse"


def test_what_is_told_of_measured_pairs_is_their_closed_form_at_both_ends() -> None:
    goodness = np.array([(a.info.goodness, b.info.goodness) for a, b in measured_rounds()])
    assert np.abs(goodness[:, 0] - goodness[:, 1]).max() < 1e-6
    assert off(goodness[:, 0], (2 + 2 * phase(1, READ_NS)) / 4) < 4
    assert off(goodness[:, 0], (2 + 2 * phase(2, END_NS)) / 4) > 4
    ages = {one.info.age_ns for one, _ in measured_rounds()}
    assert ages == {READ_NS}, "the age of its half when it was read"


def test_kept_pairs_of_the_same_chain_do_age_at_the_ends() -> None:
    chain = Chain(FADES.lab, seed=72)
    true = np.array([each.pair.fidelity for each in chain.rounds(150)])
    assert off(true, (2 + 2 * phase(2, END_NS)) / 4) < 4
    assert off(true, (2 + 2 * phase(1, READ_NS)) / 4) > 4


def course(chain: Chain, manner: Manner, fidelity_min: float = 0.0) -> Course:
    graph = chain.net.host("alice").network.demand.graph
    found = choose(graph, "alice", Promise("bob", fidelity_min, False, False, 0, manner), 0.0)
    assert isinstance(found, Course)
    return found


def test_more_is_promised_of_measured_pairs_and_less_of_sets_than_of_kept_ones() -> None:
    chain = Chain(FADES.lab, seed=73)
    promised = [
        course(chain, manner).fidelity
        for manner in (Manner((X_AXIS, X_AXIS)), PLAIN, Manner(within_ns=MILLISECOND, halves=2))
    ]
    assert promised == sorted(promised, reverse=True)
    least = min(one.info.goodness for one, _ in measured_rounds())
    mean = np.mean([one.info.goodness for one, _ in measured_rounds()])
    assert least < promised[0] <= mean, "a bound of the mean"
    # Two halves that rest for T2 / 15 more: their share of XX and YY.
    rests = (1 + np.exp(-2 / T2_CYCLES) * (2 * promised[1] - 1)) / 2
    assert promised[2] == pytest.approx(rests, abs=1e-6)


# --- sets ---------------------------------------------------------------------------------------


class Sets:
    """A chain of three whose users ask for sets; the world is looked at when both ends have one."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        segments = [Segment(efficiency=0.3, visibility=VISIBILITY) for _ in range(2)]
        lab = ChainLab(segments, cycle_ns=100_000, t2_ns=30 * MILLISECOND, qubits=4)
        self.chain = Chain(lab, seed)
        self.found: list[tuple[float, float]] = []
        self.sets: list[list[Instant]] = []
        self._held: dict[Any, PairReady] = {}
        for party in (self.chain.alice, self.chain.bob):
            party.policy = partial(self._told, party)

    def _told(self, party: Party, pair: PairReady, now: Instant) -> None:
        self._held[party.node, pair.info.pair] = pair
        both = [each for node, each in self._held if node == "bob"]
        if len(self._held) == 2 * self.number:
            self._look(both, now)

    def _look(self, pairs: list[Any], now: Instant) -> None:
        for pair in pairs:
            mine, theirs = self._held["alice", pair], self._held["bob", pair]
            where = ("alice.memory", mine.qubit.slot), ("bob.memory", theirs.qubit.slot)
            state = pair_state(self.chain.net.world, *where, now)
            self.found.append((fidelity_to(state, mine.info.bell), mine.info.goodness))
        for party in (self.chain.alice, self.chain.bob):
            for pair in pairs:
                party.say(FreeQubit(self._held.pop((party.node, pair)).qubit), 1)

    def ask(self, within_ns: int, fidelity_min: float = 0.0) -> None:
        alice = self.chain.alice
        done = len(alice.done) + 1
        wanted = terms("bob", self.number, within_ns=within_ns, fidelity_min=fidelity_min)
        before = len(alice.pairs)
        alice.keep(wanted)
        self.chain.run(partial(both_done, self.chain, done))
        self.sets.append([at for at, _ in alice.pairs[before:]])
        self.chain.settle(MILLISECOND)


def test_all_pairs_of_a_set_are_there_at_once_in_the_world_and_as_good_as_promised() -> None:
    sets = Sets(3, 81)
    within = 5 * MILLISECOND
    promise = course(sets.chain, Manner(within_ns=within, halves=3)).fidelity
    for _ in range(25):
        sets.ask(within, promise)
    assert len(sets.found) == 75, "each was looked at while all the others were there"
    assert all(len(times) == 3 and len(set(times)) == 1 for times in sets.sets)
    true = np.array([fidelity for fidelity, _ in sets.found])
    error = float(np.std(true)) / len(true) ** 0.5
    assert np.mean(true) > promise - 4 * error
    claimed = np.array([goodness for _, goodness in sets.found])
    assert np.abs(true - claimed).max() < 0.02, "what is told of each counts its rest"

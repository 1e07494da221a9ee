"""Kept pairs between two nodes: the same at both ends, true, and cheap, under every wire."""

from __future__ import annotations

import hashlib
import math
import random

import numpy as np
import pytest

from qstack.messages.application import PairReady
from qstack.messages.common import PLAIN_Z
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings
from qstack.testing import PairTruth, TruthError, check_same_pairs, hold, terms
from tests.benchmarks.virtual import UNLIKELY, network_cost
from tests.whole.rig import Lab, Rig

CLEAN_WIRE = 50_000


def run_request(rig: Rig, number: int) -> None:
    """Ask for kept pairs at alice and wait until the request has ended at both ends."""
    rig.alice.keep(terms("bob", number))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()


def check_truth(truth: PairTruth) -> None:
    """Every pair's joint state is that of its id: mean fidelity within 0.02 of goodness.

    A pair of the wrong halves has fidelity 1/2 at most, so a single one in fifty shows.
    """
    fidelities = [fidelity for _, fidelity, _ in truth.fidelities]
    goodness = [good for _, _, good in truth.fidelities]
    assert min(fidelities) > 0.6, "some pair is not one"
    if np.mean(fidelities) < np.mean(goodness) - 0.02:
        raise TruthError(f"mean fidelity {np.mean(fidelities)} against {np.mean(goodness)}")


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.1, 0.3])
def test_lossy_reordering_and_duplicating_wires_cost_time_but_no_pair(loss: float) -> None:
    """300 pairs per seed: all end OK at both ends, in one order, true, without an EXPIRE."""
    for seed in (1, 2):
        rig = Rig(seed=seed)
        rig.heap.set_default(Wire(CLEAN_WIRE, 100_000, loss, 0.05))
        truth = rig.truth()
        run_request(rig, 300)
        assert [done.delivered for done in rig.alice.done] == [300]
        assert [done.delivered for done in rig.bob.done] == [300]
        assert not rig.alice.expired
        assert not rig.bob.expired
        check_same_pairs(rig.alice, rig.bob)
        check_truth(truth)
        assert len(truth.fidelities) == 300
        assert rig.free_slots() == (4, 4)


def test_bytes_on_every_wire_give_the_same_service() -> None:
    """Every datagram goes through the codec."""
    rig = Rig(seed=3, surroundings=Surroundings(wire_bytes=True))
    rig.heap.set_default(Wire(CLEAN_WIRE, 50_000, 0.02, 0.02))
    truth = rig.truth()
    run_request(rig, 200)
    assert [done.delivered for done in rig.bob.done] == [200]
    check_same_pairs(rig.alice, rig.bob)
    check_truth(truth)
    assert rig.free_slots() == (4, 4)


def test_shuffled_pair_ids_fail_the_check_of_truth() -> None:
    """Hold four pairs at both ends and look at them with the ids of one end rotated."""
    rig = Rig(Lab(t2_ns=10**12))
    rig.alice.policy = rig.bob.policy = hold
    rig.alice.keep(terms("bob", 4))
    rig.run(lambda: len(rig.alice.pairs) == 4 and len(rig.bob.pairs) == 4)
    halves = list(zip([p for _, p in rig.alice.pairs], [p for _, p in rig.bob.pairs], strict=True))

    def judge(rotation: int) -> list[float]:
        truth = PairTruth(rig.alice, rig.bob, rig.state_of, lambda a, b, now: None)
        alice, bob = truth.policy_of(rig.alice), truth.policy_of(rig.bob)
        for place, (mine, _) in enumerate(halves):
            theirs: PairReady = halves[(place + rotation) % 4][1]
            alice(mine, rig.heap.now)
            renamed = PairReady(
                theirs.request,
                theirs.remote,
                theirs.purpose,
                mine.info,
                theirs.qubit,
                None,
                None,
                False,
            )
            bob(renamed, rig.heap.now)
        return [fidelity for _, fidelity, _ in truth.fidelities]

    # A kept pair has fidelity 1 or, where both centres emitted, 0 to its Bell state; the
    # state is the mixture of both, so every true pair shows the same number.
    assert judge(0) == pytest.approx([0.93755] * 4, abs=1e-3)
    assert max(judge(1)) < 0.55


def test_a_thousand_kept_pairs_cost_at_most_fourteen_frames_each() -> None:
    """Loss-free, four in flight, user and device hops included, adjacency's own frames not."""
    rig = Rig()
    before = dict(rig.heap.frames)
    run_request(rig, 1000)
    spent = {
        kind: count - before.get(kind, 0)
        for kind, count in rig.heap.frames.items()
        if not kind.startswith("control")
    }
    assert spent["application:FreeQubit"] == 2000
    assert spent["report:EmitterHeralded"] == 2000
    assert sum(spent.values()) / 1000 <= 14


def history(seed: int) -> str:
    """Hash everything that happens in a lossy run of 50 pairs."""
    rig = Rig(seed=seed)
    rig.heap.set_default(Wire(CLEAN_WIRE, 100_000, 0.1, 0.05))
    digest = hashlib.sha256()
    rig.heap.watch = lambda *step: digest.update(repr(step).encode())
    run_request(rig, 50)
    return digest.hexdigest()


def test_one_seed_makes_one_history_and_another_seed_another() -> None:
    random.seed(1)
    first = history(11)
    random.seed(2)
    assert history(11) == first
    assert history(12) != first


def test_requests_from_both_ends_at_once_are_all_served() -> None:
    rig = Rig(seed=5)
    rig.heap.set_default(Wire(CLEAN_WIRE, 100_000, 0.05, 0.05))
    truth = rig.truth()
    for number in (20, 30):
        rig.alice.keep(terms("bob", number))
        rig.bob.keep(terms("alice", number))
    rig.run(lambda: rig.alice.finished(4) and rig.bob.finished(4))
    rig.settle()
    assert sorted(done.delivered for done in rig.alice.done) == [20, 20, 30, 30]
    assert [d.request for d in rig.alice.done] == [d.request for d in rig.bob.done]
    check_same_pairs(rig.alice, rig.bob)
    check_truth(truth)
    assert rig.free_slots() == (4, 4)


def test_sixteen_qubits_share_each_cycle_as_modes() -> None:
    rig = Rig(Lab(qubits=16), seed=2)
    truth = rig.truth()
    run_request(rig, 200)
    check_same_pairs(rig.alice, rig.bob)
    check_truth(truth)
    assert rig.free_slots() == (16, 16)


@pytest.mark.parametrize("qubits", [1, 2, 4])
def test_measured_pairs_come_at_the_rate_of_all_modes_of_the_link(qubits: int) -> None:
    """3,000 pairs; ``2 a (1-a) e + a^2 (e^2 + 2 e (1-e))`` per attempt, 4 standard errors (6.8 %).

    A command alone uses 3.4 of four modes, as it makes no more attempts than pairs are missing.
    """
    rig, pairs = Rig(Lab(qubits=qubits), seed=8), 3_000
    begun = rig.heap.now
    rig.alice.measure_directly(terms("bob", pairs), PLAIN_Z, PLAIN_Z)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    a, e = 0.1, 0.8
    success = 2 * a * (1 - a) * e + a * a * (e * e + 2 * e * (1 - e))
    expected = pairs / (qubits * success)
    taken = (rig.heap.now - begun) / 10_000
    assert abs(taken / expected - 1) < 4 * math.sqrt((1 - success) / pairs)


def test_without_herald_line_every_attempt_is_confirmed_by_message() -> None:
    rig = Rig(Lab(herald_line=False), seed=2)
    truth = rig.truth()
    run_request(rig, 40)
    assert [done.delivered for done in rig.bob.done] == [40]
    check_same_pairs(rig.alice, rig.bob)
    check_truth(truth)
    assert rig.free_slots() == (4, 4)


@pytest.mark.parametrize(("qubits", "most_steps", "most_entries"), [(4, 34, 13), (16, 26, 10)])
def test_a_kept_pair_costs_few_machine_steps_and_heap_entries(
    qubits: int, most_steps: int, most_entries: int
) -> None:
    """Counted, so free of jitter: 1,000 pairs; with 16 qubits an arm stands for many of them.

    The users are at their nodes: what they say to each other is steps of both, and no entry.
    """
    pairs = 1_000
    rig = Rig(Lab(qubits=qubits, alpha=0.3), seed=9, surroundings=Surroundings(user_ns=0))
    steps, entries = rig.heap.steps, rig.heap.entries
    rig.alice.keep(terms("bob", pairs))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    assert [done.delivered for done in rig.alice.done] == [pairs]
    assert rig.heap.steps - steps <= most_steps * pairs
    assert rig.heap.entries - entries <= most_entries * pairs


def test_a_pair_for_which_nothing_else_comes_in_seconds_costs_no_more_heap_entries() -> None:
    """Acknowledgements of its own would cost it three more; of 300 pairs, without keepalives.

    Two commands, clicks and heralds of the hardware, which are seven entries of any pair, a word
    from the station to each end and one back are eleven; routes told anew each minute are the rest.
    """
    cost = network_cost(UNLIKELY, 300, keepalive=False, seed=3)
    assert cost.entries <= 13
    assert cost.steps <= 34

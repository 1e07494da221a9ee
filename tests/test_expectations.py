"""What a network file lets two nodes expect, near and far, against hand-computed values."""

from __future__ import annotations

import math

import pytest

from qstack.config import expectation, load, readouts
from qstack.messages.common import PairKind


def test_neighbours_expect_what_their_link_heralds() -> None:
    network = load("chain5")
    found = expectation(network, "alice", "r1", 0.0)
    # Bright populations of 0.05 at least; one mode, so never more than one herald a cycle.
    (link,) = [link for link in network.links if link.name == "alice-r1"]
    assert 0 < found.rate_hz < 1e9 / link.cycle_ns
    assert (found.fidelity, found.hops) == (0.0, 1)


def test_distant_nodes_expect_less_the_further_they_are() -> None:
    network = load("chain5")
    far = [expectation(network, "alice", name, 0.0) for name in ("r2", "r3", "bob")]
    assert [each.hops for each in far] == [2, 3, 4]
    near = expectation(network, "alice", "r1", 0.0)
    # Two pairs that are made at once: of equal rates r the later comes after 3 / (2 r) on average.
    # The ends' qubits, one each, then wait for the track, at the speed of light.
    (link,) = [link for link in network.links if link.name == "alice-r1"]
    track_ns = 2 * sum(arm.delay_ns for arm in link.arms)
    assert 1e9 / far[0].rate_hz == pytest.approx(1.5e9 / near.rate_hz + track_ns, rel=1e-3)
    rates, fidelities = [each.rate_hz for each in far], [each.fidelity for each in far]
    assert rates == sorted(rates, reverse=True)
    assert fidelities == sorted(fidelities, reverse=True)


def test_better_pairs_are_expected_to_be_fewer() -> None:
    network = load("chain5")
    plain, better = (expectation(network, "alice", "bob", f) for f in (0.0, 0.7))
    assert better.fidelity >= 0.7 > plain.fidelity
    assert better.rate_hz < plain.rate_hz


def test_what_no_route_can_give_is_not_expected() -> None:
    network = load("chain5")
    found = expectation(network, "alice", "bob", 0.99)
    assert (found.rate_hz, found.fidelity, found.hops) == (0.0, 0.0, 0)


def test_readouts_of_distant_nodes_are_those_of_their_memories() -> None:
    assert readouts(load("chain5"), "alice", "bob") == ((0.99, 0.99), (0.99, 0.99))
    assert readouts(load("source_in_the_middle"), "alice", "bob") == ((1.0, 1.0), (1.0, 1.0))


def test_measured_pairs_are_expected_to_be_better_and_sets_worse_and_fewer() -> None:
    network = load("chain5")
    kept, measured, sets = (
        expectation(network, "alice", "bob", 0.0, **how)
        for how in (
            {},
            {"kind": PairKind.MEASURE},
            {"number": 2, "within_ns": 100_000},
        )
    )
    assert measured.fidelity > kept.fidelity > sets.fidelity
    # Two pairs of rate r within w: the second comes in time with probability 1 - exp(-r w).
    gap = 1e9 / kept.rate_hz
    expected = 2e9 / (gap + gap / -math.expm1(-100_000 / gap))
    assert sets.rate_hz == pytest.approx(expected)


def test_sets_of_neighbours_are_expected_by_their_circuit() -> None:
    found = expectation(load("chain5"), "alice", "r1", 0.0, number=2, within_ns=100_000)
    assert found.hops == 1
    assert 0.5 < found.fidelity < 1, "one hop's, and a rest at both ends"

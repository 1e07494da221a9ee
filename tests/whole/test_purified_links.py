"""Pairs that are purified on links, before they are swapped, with their true joint states.

Two links of Werner states but for 0.3 %, four qubits for each link at each node. The closed
forms are those of the dossier: rounds of DEJMPS on each link (section 1.4), then one swap
with a mixing gate and two misread bits. Samples are compared at 4 standard errors (false alarm
6e-5 each, fixed seeds); sizes are said with each.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from qstack.errors import ErrorCode
from qstack.testing.chain_runs import Chain
from qstack.testing.parties import terms
from qstack.units import MILLISECOND, SECOND
from tests.whole.test_purified import (
    BAD,
    KEEP,
    READOUT,
    Errors,
    assert_at_rest,
    cancelled,
    lab,
    nested,
    of_purification,
    relaxed,
    segment,
    users_agree,
)


def links(*fidelities: float, **changes: Any) -> Any:
    return lab(*fidelities, **({"swaps_only": False} | changes))


def swapped(one: Errors, other: Errors, keep: float = KEEP, readout: float = READOUT) -> Errors:
    """Errors of two pairs add as bits; the gate mixes; a misread bit is a Z or an X error."""
    total = [0.0] * 4
    flips = (readout, 1 - readout)
    for a, b, z, x in np.ndindex(4, 4, 2, 2):
        total[a ^ b ^ z ^ (x << 1)] += one[a] * other[b] * flips[z] * flips[x]
    first, second, third, fourth = (keep * each + (1 - keep) / 4 for each in total)
    return first, second, third, fourth


def ends_limit(pair: Errors, rounds: int) -> float:
    return max(nested(pair, each)[1][0] for each in range(1, rounds + 1))


def assert_frequency(count: int, tried: int, chance: float) -> None:
    assert abs(count / tried - chance) < 4 * math.sqrt(chance * (1 - chance) / tried)


def test_a_swap_of_werner_pairs_is_the_formula_of_the_dossier() -> None:
    """F' = 1/4 + 3/4 p2 (4 eta^2 - 1)/3 w w, as in section 1.4."""
    start = (0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3)
    w = (4 * 0.9 - 1) / 3
    expected = 0.25 + 0.75 * KEEP * (4 * READOUT**2 - 1) / 3 * w * w
    assert swapped(start, start)[0] == pytest.approx(expected, abs=1e-12)


def test_rounds_on_links_deliver_the_product_formula_of_purified_pairs() -> None:
    """200 pairs at 0.8 over links of 0.9: one round on each link, none at the ends.

    Of each link's rounds so many succeed as DEJMPS says, and each takes two pairs.
    """
    chain = Chain(links(0.9, 0.9), seed=21)
    pairs = chain.ask(200, 0.8)
    start = segment(0.9).weights
    (odds,), polished = nested(start, 1)
    expected = swapped(polished, polished)[0]
    assert swapped(start, start)[0] < 0.8 < expected
    chain.settle(100 * MILLISECOND)
    circuit = of_purification(chain, "r1")
    assert circuit["method"] == "none"
    for pair in pairs:
        assert pair.claimed == pytest.approx((expected, expected), abs=1e-9)
    true = np.array([pair.fidelity for pair in pairs])
    # Read right, a round leaves a state that is known exactly; misread ones are rare and worse.
    _, clean = nested(start, 1, keep=KEEP, readout=1.0)
    best = swapped(clean, clean)[0]
    assert np.mean(np.abs(true - best) < 1e-9) > 0.9
    sigma = math.sqrt((best - expected) * best / len(pairs))
    assert abs(float(true.mean()) - expected) < 4 * sigma
    for hop in circuit["hops"].values():
        assert hop["method"] == "nested_dejmps"
        assert hop["kept"] == hop["purified"] >= len(pairs)
        assert_frequency(hop["kept"], hop["kept"] + hop["unlike"], odds)
    upper, lower = of_purification(chain, "alice")["hops"], circuit["hops"]
    for what in ("kept", "unlike", "purified"):
        assert upper["alice-r1"][what] == lower["alice-r1"][what]
    assert {pair.bell for pair in pairs} == {0, 1, 2, 3}
    assert {pair.one.info.hops for pair in pairs} == {2}
    assert_at_rest(chain)


def test_rounds_on_links_take_fewer_pairs_than_rounds_at_the_ends_for_the_same_fidelity() -> None:
    """Links of 0.9, 0.8 asked for; 100 pairs by each. One round is enough in both places.

    At the ends each delivered pair takes 2/p of the swapped ones, p what such a round keeps;
    on a link each takes 2/p' of the link's, and better pairs fail less often.
    """
    start = segment(0.9).weights
    (at_ends,), _ = nested(swapped(start, start), 1)
    (on_links,), _ = nested(start, 1)
    assert 2 / on_links < 2 / at_ends
    taken = []
    for only_ends in (True, False):
        chain = Chain(links(0.9, 0.9, swaps_only=only_ends), seed=22)
        began = chain.heap.now
        chain.ask(100, 0.8)
        circuit = of_purification(chain, "r1")
        assert bool(circuit["hops"]) is not only_ends
        if only_ends:
            assert circuit["method"] == "nested_dejmps"
            count = of_purification(chain)["purified"]
            assert_frequency(count["kept"], count["rounds"], at_ends)
        taken.append(chain.heap.now - began)
    assert taken[1] < taken[0]


def test_rounds_on_links_reach_what_rounds_at_the_ends_cannot() -> None:
    """Links of 0.85, 0.88 asked for: three rounds at the ends, all that four qubits allow, do not.

    With two rounds on each link, and one at the ends, 30 pairs have the promised mean.
    """
    start = segment(0.85).weights
    limit = ends_limit(swapped(start, start), 3)
    assert limit < 0.88
    refusal = Chain(links(0.85, 0.85, swaps_only=True), seed=23).refusal(0.88)
    assert refusal.code is ErrorCode.UNSUPPORTED
    assert f"stands for {limit:.4f} at most, purified" in refusal.reason
    chain = Chain(links(0.85, 0.85), seed=23)
    pairs = chain.ask(30, 0.88)
    circuit = of_purification(chain, "r1")
    assert (circuit["method"], circuit["rounds"]) == ("nested_dejmps", 1)
    assert {each["rounds"] > 0 for each in circuit["hops"].values()} == {True}
    _, polished = nested(start, 2)
    _, expected = nested(swapped(polished, polished), 1)
    assert expected[0] > 0.88
    for pair in pairs:
        assert pair.claimed == pytest.approx((expected[0], expected[0]), abs=1e-9)
    true = np.array([pair.fidelity for pair in pairs])
    sigma = math.sqrt(expected[0] * (1 - expected[0]) / len(pairs))
    assert abs(float(true.mean()) - expected[0]) < 4 * sigma
    assert_at_rest(chain)


@pytest.mark.parametrize(("exponent", "t2_ms"), [(1.0, 500), (2.0, 200)])
def test_purified_halves_that_wait_to_be_swapped_are_what_both_ends_are_told(
    exponent: float, t2_ms: int
) -> None:
    """30 pairs with readouts that are right: every single one is as was told, to 5e-5.

    Halves wait milliseconds for partners, words and swaps; the plain swapped pair is told to 2e-5.
    """
    fading = {"t1_ns": 3 * SECOND, "t2_ns": t2_ms * MILLISECOND, "exponent": exponent}
    chain = Chain(links(0.9, 0.9, readout=1.0, cycle_ns=20_000, **fading), seed=24)
    pairs = chain.ask(30, 0.815)
    assert all(hop["rounds"] for hop in of_purification(chain, "r1")["hops"].values())
    assert len({round(pair.claimed[0], 5) for pair in pairs}) > 5
    for pair in pairs:
        assert pair.fidelities == pytest.approx(pair.claimed, abs=5e-5)
    assert np.mean([pair.fidelity for pair in pairs]) > 0.815
    assert_at_rest(chain)


# --- what goes wrong ----------------------------------------------------------------------------


def in_rounds(chain: Chain) -> int:
    """How many halves wait in rounds on links at the repeater."""
    (member,) = chain.net.host("r1").network.demand.circuits.members
    return sum(still.held for still in member.stills.values())


def on_links(chain: Chain) -> None:
    assert of_purification(chain, "r1")["hops"].keys() == {"alice-r1", "r1-bob"}


def test_both_ends_have_the_same_pairs_where_a_tenth_of_the_datagrams_is_lost() -> None:
    chain = relaxed(Chain(links(0.9, 0.9), seed=25))
    for one, other in pairwise(chain.lab.nodes):
        chain.heap.set_wire(one, other, BAD)
    chain.alice.keep(terms("bob", 20, fidelity_min=0.8))
    chain.run(lambda: bool(chain.alice.done and chain.bob.done))
    on_links(chain)
    assert users_agree(chain) == 20
    # Every round that one node of a hop took as kept, or as failed, the other took so too.
    chain.settle(200 * MILLISECOND)
    hops = [of_purification(chain, node)["hops"] for node in chain.lab.nodes]
    for name, upper, lower in (("alice-r1", 0, 1), ("r1-bob", 1, 2)):
        for key in ("kept", "unlike", "purified"):
            assert abs(hops[upper][name][key] - hops[lower][name][key]) <= hops[lower][name]["void"]
    assert_at_rest(chain)


@pytest.mark.parametrize("by", ["alice", "bob"])
def test_a_cancelled_request_empties_the_rounds_on_all_its_links(by: str) -> None:
    """Two rounds on each link, so that pairs wait in them nearly always."""
    chain = relaxed(Chain(links(0.8, 0.8), seed=26))
    reference = chain.alice.keep(terms("bob", 1000, fidelity_min=0.75))
    chain.run(lambda: len(chain.bob.pairs) >= 5 and in_rounds(chain) >= 4)
    on_links(chain)
    cancelled(chain, by, chain.alice.created[reference])
    assert_at_rest(chain)


def test_a_repeater_that_is_killed_in_the_midst_of_rounds_leaves_no_slot_taken() -> None:
    chain = relaxed(Chain(links(0.9, 0.9), seed=27))
    chain.alice.keep(terms("bob", 1000, fidelity_min=0.8))
    chain.run(lambda: len(chain.bob.pairs) >= 5)
    on_links(chain)
    chain.net.crash("r1")
    chain.run(lambda: chain.alice.finished() and chain.bob.finished())
    chain.settle(2 * SECOND)
    for node in ("alice", "bob"):
        assert chain.net.host(node).slots.held() == {}
        assert chain.report(node)["circuits"] == []
    told = [{pair.info.pair for _, pair in party.pairs} for party in (chain.alice, chain.bob)]
    assert set(chain.alice.pair_ids) <= told[1]
    assert set(chain.bob.pair_ids) <= told[0]

"""Circuits whose pairs are purified, in any order of events: every seed is another history.

At the ends alone, or where repeaters can do so too, on their links before they swap.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.messages.application import RequestDone
from qstack.messages.common import BasisPlan, BasisSet, PairKind, RequestId
from qstack.units import MILLISECOND
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Chances, chain
from tests.network.purify_lab import PurifyLab

XYZ = BasisPlan(BasisSet.XYZ, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)
ASKED = {1: 0.98, 2: 0.955, 3: 0.93}
"""More than so many links give; a round or two do."""

SEEDS = st.integers(0, 1 << 32)
CHANCES = st.builds(
    Chances,
    swap_fails=st.sampled_from([0.0, 0.2]),
    device_fails=st.sampled_from([0.0, 0.05]),
    void=st.sampled_from([0.0, 0.03]),
    hurry=st.sampled_from([0.0, 0.02, 0.1]),
)


AGAINST_LOSS = {1: 0.975, 2: 0.95, 3: 0.925}
"""The same of links with one click, and one round."""


def busy(lab: PurifyLab, requests: int) -> list[tuple[str, str, RequestId]]:
    """Requests of all kinds between the ends, both ways."""
    draw, names = lab.random, lab.names
    found: list[tuple[str, str, RequestId]] = []
    for _ in range(requests):
        head, tail = draw.choice([(names[0], names[-1]), (names[-1], names[0])])
        request = lab.create(
            head,
            tail,
            draw.randrange(1, 6),
            kind=PairKind.KEEP if lab.wrong else draw.choice(list(PairKind)),
            remaining_ns=draw.choice([0, 0, 0, 100 * MILLISECOND]),
            fidelity_min=(AGAINST_LOSS if lab.clicks else ASKED)[len(names) - 1],
            final_bell=draw.choice([None, None, 0, 1, 2, 3]),
            origin_plan=XYZ,
            peer_plan=XYZ,
        )
        found.append((head, tail, request))
        lab.run(draw.choice([0, 0, 20, 200]))
    return found


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_a_request_for_more_than_the_links_give_is_served_by_rounds_at_the_ends(hops: int) -> None:
    lab = PurifyLab(chain(hops), 5 + hops, comm=4)
    ends = "n0", f"n{hops}"
    request = lab.create(*ends, 6, fidelity_min=ASKED[hops])
    lab.finish()
    for end in ends:
        assert isinstance(ended(lab, end, request), RequestDone)
        assert len(lab.users[end, request].valid) == 6
    assert lab.sent["DistilRound"] >= 6
    assert lab.sent["CircuitGive"] == 6 * hops
    assert lab.errors == []
    audit(lab)


@pytest.mark.parametrize("hops", [2, 3])
def test_rounds_on_links_serve_a_request_before_swaps_where_repeaters_can_make_them(
    hops: int,
) -> None:
    lab = PurifyLab(chain(hops), 5 + hops, on_links=True, comm=4)
    ends = "n0", f"n{hops}"
    request = lab.create(*ends, 6, fidelity_min=ASKED[hops])
    lab.run(300)
    (circuit,) = lab.nodes["n1"].report(lab.now)["circuits"]
    assert circuit["method"] == "none"
    assert all(each["rounds"] >= 1 for each in circuit["hops"].values())
    lab.finish()
    for end in ends:
        assert isinstance(ended(lab, end, request), RequestDone)
        assert len(lab.users[end, request].valid) == 6
    assert lab.sent["DistilOutcome"] >= 6
    assert "CircuitGive" not in lab.sent
    assert lab.errors == []
    audit(lab)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 3), CHANCES, st.sampled_from([0.0, 0.2]), st.booleans())
def test_both_ends_are_told_the_same_purified_pairs_in_any_order_of_events(
    seed: int, hops: int, chances: Chances, wrong: float, on_links: bool
) -> None:
    lab = PurifyLab(chain(hops), seed, wrong, on_links, comm=6, chances=chances)
    busy(lab, 2)
    lab.finish(60_000)
    assert lab.errors == []
    audit(lab)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 3), CHANCES, st.integers(0, 400))
def test_pairs_of_one_click_are_purified_against_loss_alike_in_any_order_of_events(
    seed: int, hops: int, chances: Chances, turns: int
) -> None:
    lab = PurifyLab(chain(hops), seed, on_links=True, clicks=True, comm=6, chances=chances)
    head, tail, request = busy(lab, 2)[0]
    lab.run(turns)
    if lab.random.random() < 0.5:
        lab.cancel(lab.random.choice([head, tail]), request)
    lab.finish(60_000)
    assert lab.errors == []
    audit(lab)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 3), CHANCES, st.integers(0, 400), st.booleans())
def test_a_request_for_purified_pairs_that_is_cancelled_at_any_moment_ends_alike(
    seed: int, hops: int, chances: Chances, turns: int, on_links: bool
) -> None:
    lab = PurifyLab(chain(hops), seed, on_links=on_links, comm=6, chances=chances)
    requests = busy(lab, 2)
    lab.run(turns)
    head, tail, request = lab.random.choice(requests)
    lab.cancel(lab.random.choice([head, tail]), request)
    lab.finish(60_000)
    assert lab.errors == []
    audit(lab)


@settings(max_examples=25, deadline=None)
@given(
    SEEDS,
    st.integers(1, 3),
    CHANCES,
    st.lists(st.integers(0, 400), min_size=1, max_size=3),
    st.booleans(),
)
def test_after_cuts_and_restarts_among_rounds_everything_has_ended_once(
    seed: int, hops: int, chances: Chances, pauses: list[int], on_links: bool
) -> None:
    lab = PurifyLab(chain(hops), seed, on_links=on_links, comm=6, chances=chances)
    busy(lab, 2)
    for turns in pauses:
        lab.run(turns)
        if lab.random.random() < 0.5:
            edge = lab.random.choice(lab.edges)
            lab.cut(*edge)
            lab.run(lab.random.randrange(100))
            lab.join(*edge)
        else:
            lab.restart(lab.random.choice(lab.names))
    lab.finish(60_000)
    assert lab.errors == []
    audit(lab, broken=True)

"""Whole circuits in any order of events: every seed is another history, the audit is the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.messages.common import PairKind, RequestId
from qstack.units import MILLISECOND
from tests.network.circuit_audit import audit
from tests.network.circuit_lab import XYZ, Chances, Lab, chain


def manner(lab: Lab) -> dict[str, Any]:
    """Pairs as they come, all together within a time, or halves before they are pairs."""
    draw = lab.random
    return draw.choice(
        [
            {
                "number": draw.randrange(1, 6),
                "kind": draw.choice(list(PairKind)),
                "final_bell": draw.choice([None, None, 0, 1, 2, 3]),
            },
            {
                "number": draw.randrange(1, 4),
                "within_ns": draw.choice([1, 5, 50]) * MILLISECOND,
                "remaining_ns": 200 * MILLISECOND,
                "final_bell": draw.choice([None, 0, 1]),
            },
            {"number": draw.randrange(1, 4), "early": True},
        ]
    )


def busy(lab: Lab, requests: int) -> list[tuple[str, str, RequestId]]:
    """Requests of all kinds and manners between the ends, both ways, and to the middle."""
    draw, names = lab.random, lab.names
    found: list[tuple[str, str, RequestId]] = []
    for _ in range(requests):
        ends = [(names[0], names[-1]), (names[-1], names[0])]
        if len(names) > 4:
            ends.append((names[0], names[len(names) // 2]))
        head, tail = draw.choice(ends)
        request = lab.create(
            head,
            tail,
            **{
                "remaining_ns": draw.choice([0, 0, 0, 100 * MILLISECOND]),
                "fidelity_min": draw.choice([0.5, 0.6]),
                "origin_plan": XYZ,
                "peer_plan": XYZ,
                **manner(lab),
            },
        )
        found.append((head, tail, request))
        lab.run(draw.choice([0, 0, 20, 200]))
    return found


CHANCES = st.builds(
    Chances,
    swap_fails=st.sampled_from([0.0, 0.2]),
    device_fails=st.sampled_from([0.0, 0.1]),
    void=st.sampled_from([0.0, 0.03]),
    hurry=st.sampled_from([0.0, 0.02, 0.1]),
)
SEEDS = st.integers(0, 1 << 32)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 6), st.integers(1, 3), CHANCES)
def test_both_ends_are_told_the_same_pairs_and_the_truth_in_any_order_of_events(
    seed: int, hops: int, comm: int, chances: Chances
) -> None:
    lab = Lab(chain(hops), seed, comm=comm, chances=chances)
    busy(lab, 2)
    lab.finish()
    assert lab.errors == []
    audit(lab)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 4), CHANCES, st.integers(0, 300))
def test_a_request_cancelled_at_either_end_at_any_moment_ends_alike_at_both(
    seed: int, hops: int, chances: Chances, turns: int
) -> None:
    lab = Lab(chain(hops), seed, chances=chances)
    requests = busy(lab, 2)
    lab.run(turns)
    head, tail, request = lab.random.choice(requests)
    lab.cancel(lab.random.choice([head, tail]), request)
    lab.finish()
    assert lab.errors == []
    audit(lab)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(2, 5), CHANCES, st.lists(st.integers(0, 300), min_size=1, max_size=3))
def test_after_cuts_and_restarts_at_any_moment_everything_has_ended_once(
    seed: int, hops: int, chances: Chances, pauses: list[int]
) -> None:
    lab = Lab(chain(hops), seed, chances=chances)
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
    lab.finish()
    assert lab.errors == []
    audit(lab, broken=True)

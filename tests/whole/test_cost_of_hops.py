"""What a pair costs grows no faster than the hops that it goes over: counted, not timed.

Perfect pairs, no decay, no cutoff (`tests.benchmarks.circuits`), in steady state; of a run of one
seed the counts are exact, so there is no false alarm. The ends cost the same over any number
of hops: what a pair costs per hop falls with the hops, and what further hops add stays, unless
something grows with the length of the chain, as where nodes look at all others for each pair, or
tell them something.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import attrs
import pytest

from tests.benchmarks.circuits import Chain

LENGTHS = (4, 12, 24)
PAIRS = 24
"""Three times as many as the link requests of a circuit have pairs (`qstack.network.supply`)."""
TOLERANCE = 0.01
"""Link requests begin and end a little earlier or later within what is counted.

A loop over all nodes of the network in each step of a network layer adds that much.
"""
COUNTED = ("machine steps", "heap entries", "frames", "lines of Python")


@attrs.define
class Counted:
    """How many lines of Python ran; one that loops within itself counts once for each turn."""

    lines: int = 0


@contextmanager
def lines_counted() -> Iterator[Counted]:
    """Count the lines that this thread runs."""
    counted, former = Counted(), sys.gettrace()

    def see(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            counted.lines += 1
        return see

    sys.settrace(see)
    try:
        yield counted
    finally:
        sys.settrace(former)


def cost_of_a_pair(hops: int) -> dict[str, float]:
    """Return what was counted per delivered pair."""
    chain = Chain(hops)
    chain.warm(PAIRS)
    sent = sum(chain.heap.frames.values())
    with lines_counted() as counted:
        cost = chain.go_on(PAIRS)
    return {
        "machine steps": cost.steps,
        "heap entries": cost.entries,
        "frames": (sum(chain.heap.frames.values()) - sent) / PAIRS,
        "lines of Python": counted.lines / PAIRS,
    }


@pytest.fixture(scope="module")
def costs() -> dict[int, dict[str, float]]:
    """By number of hops."""
    return {hops: cost_of_a_pair(hops) for hops in LENGTHS}


@pytest.mark.parametrize("what", COUNTED)
def test_a_pair_over_more_hops_costs_no_more_for_each(
    what: str, costs: dict[int, dict[str, float]]
) -> None:
    short, middle, long = (costs[hops][what] / hops for hops in LENGTHS)
    assert 0 < middle <= short
    assert 0 < long <= short


@pytest.mark.parametrize("what", COUNTED)
def test_the_last_hops_of_a_long_chain_add_no_more_than_the_first(
    what: str, costs: dict[int, dict[str, float]]
) -> None:
    short, middle, long = LENGTHS
    first = (costs[middle][what] - costs[short][what]) / (middle - short)
    last = (costs[long][what] - costs[middle][what]) / (long - middle)
    assert 0 < last <= first * (1 + TOLERANCE)

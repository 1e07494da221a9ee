"""What routes promise against what is delivered: the least fidelity, and the rate.

4 standard errors each (false alarm 3e-5, one-sided; fixed seeds).
"""

from __future__ import annotations

import math
import re
from functools import cache

import numpy as np
import pytest

import qstack.sim
from qstack.errors import ErrorCode
from qstack.network.routing import Query, rate_at_once, route
from qstack.testing.chain_runs import Chain
from qstack.testing.chains import ChainLab, Segment
from tests.whole.chain_models import off

CYCLE_NS = 100_000
SUCCESS = 0.1


def lab(nodes: int, t2_cycles: int) -> ChainLab:
    """Equal links, memories that fade, swaps that are not perfect."""
    return ChainLab(
        [Segment(efficiency=(2 * SUCCESS) ** 0.5, visibility=0.99)] * (nodes - 1),
        cycle_ns=CYCLE_NS,
        t2_ns=t2_cycles * CYCLE_NS,
        keep=0.995,
        wire_ns=2_000,
        confirm_ns=50 * CYCLE_NS,
    )


@pytest.mark.parametrize(
    ("nodes", "t2_cycles", "fidelity_min"),
    [
        *((3, 30, least) for least in (0.5, 0.8, 0.88, 0.94)),
        *((5, 300, least) for least in (0.5, 0.88, 0.92)),
    ],
)
def test_the_mean_of_what_is_delivered_is_not_below_what_was_asked_for(
    nodes: int, t2_cycles: int, fidelity_min: float
) -> None:
    """60 pairs in a row each, their true states at hand-over, all ageing included."""
    pairs = Chain(lab(nodes, t2_cycles), seed=81).ask(60, fidelity_min)
    for end in (0, 1):
        true = np.array([pair.fidelities[end] for pair in pairs])
        error = float(true.std(ddof=1)) / math.sqrt(len(true))
        assert true.mean() >= fidelity_min - 4 * error


def test_without_the_cutoff_that_a_promise_leads_to_it_would_not_be_kept() -> None:
    pairs = Chain(lab(3, 30), seed=81).ask(60, 0.0)
    true = np.array([pair.fidelity for pair in pairs])
    assert true.mean() < 0.94
    assert off(true, 0.94) > 4


def test_more_than_there_is_is_refused_naming_the_best_which_is_then_served() -> None:
    chain = Chain(lab(3, 300), seed=82)
    ended = chain.refusal(0.995)
    assert ended.code is ErrorCode.UNSUPPORTED
    found = re.search(r"stands for (0\.\d+) at most", ended.reason)
    assert found is not None
    best = float(found.group(1))
    assert 0.9 < best < 0.995
    pairs = chain.ask(20, best - 1e-4)
    assert np.mean([pair.fidelity for pair in pairs]) > best - 0.005


# --- rates ----------------------------------------------------------------------------------


@cache
def intervals(nodes: int, count: int) -> tuple[float, np.ndarray]:
    """The promised mean time between pairs, and those of a long request, in cycles."""
    chain = Chain(lab(nodes, 0), seed=83)
    graph = chain.net.host("alice").network.demand.graph
    way = route(graph, Query("alice", "bob"))
    assert way is not None
    times = np.array([pair.at for pair in chain.ask(count)])
    return 1e9 / rate_at_once(graph, way) / CYCLE_NS, np.diff(times) / CYCLE_NS


@pytest.mark.parametrize("nodes", [2, 3])
def test_one_link_and_two_deliver_at_the_promised_rate(nodes: int) -> None:
    promised, found = intervals(nodes, 300)
    assert off(found, promised) < 4
    assert off(found, 2 * promised) > 4


@pytest.mark.parametrize(("nodes", "count"), [(5, 120), (9, 50)])
def test_longer_chains_deliver_no_less_than_the_promised_rate(nodes: int, count: int) -> None:
    """They deliver more: inner links work ahead while outer ones wait."""
    promised, found = intervals(nodes, count)
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    assert found.mean() < promised + 4 * error
    assert found.mean() > promised / 2


def test_with_a_cutoff_of_one_cycle_four_links_deliver_at_the_promised_rate() -> None:
    """A half is kept for the next cycle and no longer; 4 standard errors."""
    cycle_ns = 1_000_000
    segment = Segment(efficiency=0.6**0.5, visibility=0.999)
    chain = Chain(
        ChainLab(
            [segment] * 4,
            cycle_ns=cycle_ns,
            t2_ns=40 * cycle_ns,
            wire_ns=2_000,
            confirm_ns=50 * cycle_ns,
            methods=(),
        ),
        seed=85,
    )
    graph = chain.net.host("alice").network.demand.graph
    times = np.array([pair.at for pair in chain.ask(100, 0.92)])
    assert chain.report("r1")["circuits"][0]["cutoff_ns"] == 3 * cycle_ns // 2
    found = route(graph, Query("alice", "bob", cutoff_ns=3 * cycle_ns // 2))
    assert found is not None
    promised = 1e9 / found.rate_hz / cycle_ns
    assert 15 < promised < 25
    assert off(np.diff(times) / cycle_ns, promised) < 4


@pytest.mark.parametrize(("network", "end"), [("ring6", "n4"), ("grid9", "n9")])
def test_a_ring_and_a_grid_keep_their_promises_too(network: str, end: str) -> None:
    """80 pairs, measured at both ends; test rounds move what the links think of themselves."""
    net = qstack.sim.Network.load(network, seed=84)
    report = net.pairs("n1", end, count=80, fidelity_min=0.7)
    assert (len(report), report.error) == (80, "")
    told, seen, sigma = report.predicted_fidelity, report.fidelity, report.fidelity_error
    assert told is not None
    assert seen is not None
    assert sigma is not None
    # What is measured is without the errors of the readouts.
    assert told >= 0.7
    assert seen >= 0.7 - 4 * sigma
    assert abs(seen - told) < 4 * sigma

"""Chains whose control messages take longer than their hardware takes for a pair.

Every segment heralds within a cycle or two of 0.1 ms; a message takes `wire_ns` between any two
parties, one way, 10 ms unless a case says otherwise. So almost all ageing is by messages, and what
a request may be promised is the product formula times ``exp(-t / T2)`` with ages t that can be
counted in messages by hand. Statistical assertions allow 4 standard errors (one-sided, false
alarm 3e-5; fixed seeds).
"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from qstack.errors import ErrorCode
from qstack.network.routing import Query, rate_at_once, route
from qstack.sim.heap import Wire
from qstack.testing.chain_runs import Chain, Delivered
from qstack.testing.chains import ChainLab, Segment
from qstack.testing.parties import terms
from qstack.units import MILLISECOND, SECOND
from tests.whole.chain_models import off

VISIBILITY, KEEP = 0.99, 0.995
WIRE_MS = 10.0


def lab(nodes: int, t2_ms: float, wire_ms: float = WIRE_MS, qubits: int = 1) -> ChainLab:
    """Both photons arrive always: a herald every other attempt."""
    return ChainLab(
        [Segment(visibility=VISIBILITY)] * (nodes - 1),
        cycle_ns=100_000,
        t2_ns=round(t2_ms * MILLISECOND),
        keep=KEEP,
        wire_ns=round(wire_ms * MILLISECOND),
        confirm_ns=round((10 + 20 * wire_ms) * MILLISECOND),
        qubits=qubits,
        methods=(),
    )


def chain_of(made: ChainLab, seed: int) -> Chain:
    """A chain whose nodes have measured round trips and told all others."""
    chain = Chain(made, seed)
    chain.settle(SECOND)
    return chain


def product(nodes: int, ages_ms: float, t2_ms: float) -> float:
    """The fidelity with all halves of a chain so old together: Z errors of links, mixing swaps."""
    links, level = nodes - 1, KEEP ** (nodes - 2)
    phase = VISIBILITY**links * level * math.exp(-ages_ms / t2_ms)
    return (1 + 2 * phase + level) / 4


def promised_ages(nodes: int, wire_ms: float = WIRE_MS) -> float:
    """In messages: each half two at its herald, that is one to the station and one back.

    Two halves at the ends wait while a track travels all hops. So long and two messages more,
    which the ends need for their next pairs, wait two halves of each chain that is made ahead: one
    of all links but those at the ends; with nine nodes one of four inside of it, whose qubits are
    free once it is swapped, and one of two inside of that.
    """
    hops, ahead = nodes - 1, {3: 1, 5: 1, 9: 3}[nodes]
    return wire_ms * (2 * 2 * hops + 2 * hops + ahead * 2 * (hops + 2))


def least_ages(nodes: int, wire_ms: float = WIRE_MS) -> float:
    """Each half one herald; of each pair one end hears only when a track passed all hops."""
    hops = nodes - 1
    return wire_ms * (2 * hops + hops)


def best_of(chain: Chain) -> float:
    """What a refusal says that the network stands for."""
    ended = chain.refusal(0.9999)
    assert ended.code is ErrorCode.UNSUPPORTED
    found = re.search(r"stands for (0\.\d+) at most", ended.reason)
    assert found is not None
    return float(found.group(1))


def means(pairs: list[Delivered]) -> list[tuple[float, float]]:
    """The mean true fidelity, and its standard error, when each end was told."""
    true = np.array([pair.fidelities for pair in pairs])
    errors = true.std(axis=0, ddof=1) / math.sqrt(len(pairs))
    return list(zip(true.mean(axis=0).tolist(), errors.tolist(), strict=True))


@pytest.mark.parametrize(
    ("nodes", "t2_ms", "qubits"), [(3, 500.0, 1), (5, 1000.0, 1), (5, 1000.0, 2), (9, 4000.0, 1)]
)
def test_what_is_promised_at_most_is_the_product_formula_aged_by_messages_and_is_delivered(
    nodes: int, t2_ms: float, qubits: int
) -> None:
    chain = chain_of(lab(nodes, t2_ms, qubits=qubits), seed=91)
    best = best_of(chain)
    # Attempts take 0.2 ms a pair: little beside 10 ms, but not nothing.
    assert best == pytest.approx(product(nodes, promised_ages(nodes), t2_ms), abs=0.006)
    asked = best - 1e-4
    for mean, error in means(chain.ask(40, asked)):
        assert mean >= asked - 4 * error
        assert mean <= product(nodes, least_ages(nodes), t2_ms) + 4 * error


def test_without_the_ageing_by_messages_the_promise_would_not_be_kept() -> None:
    chain = chain_of(lab(5, 1000.0), seed=92)
    for mean, error in means(chain.ask(40, 0.5)):
        assert mean < product(5, 0.0, 1000.0) - 0.05 - 4 * error


def test_what_fast_messages_allow_and_slow_ones_do_not_is_refused_at_once() -> None:
    asked = 0.9
    quick, slow = (chain_of(lab(5, 1000.0, wire_ms), seed=93) for wire_ms in (0.01, WIRE_MS))
    assert all(mean >= asked for mean, _ in means(quick.ask(10, asked)))
    before = slow.heap.now
    ended = slow.refusal(asked)
    assert ended.code is ErrorCode.UNSUPPORTED
    assert "the network stands for 0." in ended.reason
    # No message to another node takes part in it.
    assert slow.heap.now - before < WIRE_MS * MILLISECOND


@pytest.mark.parametrize(("nodes", "qubits"), [(3, 1), (5, 1), (5, 2), (9, 1)])
def test_pairs_come_no_slower_than_promised_where_messages_take_the_time(
    nodes: int, qubits: int
) -> None:
    """A track of all hops, and two messages until a free qubit gives a pair, for each pair."""
    chain = chain_of(lab(nodes, 0.0, qubits=qubits), seed=94)
    way = route(chain.net.host("alice").network.demand.graph, Query("alice", "bob"))
    assert way is not None
    promised_ms = 1e3 / rate_at_once(chain.net.host("alice").network.demand.graph, way)
    assert promised_ms == pytest.approx(WIRE_MS * (nodes - 1 + 2) / qubits, abs=1.5)
    times = np.diff([pair.at for pair in chain.ask(40)]) / MILLISECOND
    assert times.mean() <= promised_ms or off(times, promised_ms) < 4
    assert times.mean() > promised_ms / 2


def test_a_request_ends_when_messages_become_too_slow_for_what_it_was_promised() -> None:
    chain = chain_of(lab(5, 1000.0, 0.5), seed=95)
    asked = 0.93
    chain.alice.keep(terms("bob", 5_000, fidelity_min=asked))
    chain.run(lambda: len(chain.pairs) >= 40)
    assert not chain.alice.ended
    chain.heap.set_default(Wire(20 * MILLISECOND))
    slow_since = chain.heap.now
    chain.run(lambda: bool(chain.alice.ended))
    (ended,) = chain.alice.ended
    assert ended.code is ErrorCode.UNSUPPORTED
    assert re.search(r"fidelity 0.9300 was promised; .* stands for 0\.\d+", ended.reason)
    # A way to the last node and back until routes know, once more for the last word.
    assert chain.heap.now - slow_since < 4 * 4 * 20 * MILLISECOND
    assert all(mean >= asked for mean, _ in means(chain.pairs))
    again = chain.refusal(asked)
    assert "the network stands for 0." in again.reason

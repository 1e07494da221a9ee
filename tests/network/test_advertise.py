"""What a node says of its links, against the closed forms of heralding and of chains."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from qstack.config import NetworkFile, link_parameters, load
from qstack.messages.network import RouteUpdate
from qstack.network.advertise import View, link_metric, node_metric, offers
from qstack.network.budget import Operations
from qstack.network.desk import operations_of
from qstack.network.routing import Query, best_fidelity, route
from qstack.network.topology import graph_of
from qstack.physical.service import LinkParameters, MemoryModel
from tests.whole.rig import CYCLE_NS, Lab

FADING = MemoryModel(0, 1_000_000_000, 1.0, 0, 1.0, 0, 1.0, (0.98, 1.0))


def parameters(**changes: object) -> LinkParameters:
    return Lab(**changes).links()[0]  # type: ignore[arg-type]  # fields of Lab


def test_an_offer_has_the_rate_and_fidelity_of_the_single_click_form() -> None:
    a, eta, qubits = 0.1, 0.8, 4
    (found,) = offers(parameters(alpha=a, efficiency=eta, qubits=qubits, t2_ns=0))
    one, both = 2 * a * (1 - a) * eta, a * a * (eta * eta + 2 * eta * (1 - eta))
    assert found.rate_hz == pytest.approx(qubits * (one + both) * 1e9 / CYCLE_NS)
    # Psi+ and Psi- patterns alike: relative to each, the rest is half X and half Y errors.
    assert found.weights[0] == pytest.approx(one / (one + both))
    assert found.weights[1] == pytest.approx(0.0, abs=1e-12)
    # Twice the spread: what is asked of a link under this bound must be what the link stands for.
    assert found.fidelity_low == pytest.approx(found.weights[0] - 2 * 0.005)


def test_pairs_fade_at_both_ends_until_the_herald_is_back() -> None:
    t2_ns = 10_000_000
    (fresh,) = offers(parameters(km=50.0, t2_ns=0))
    (faded,) = offers(parameters(km=50.0, t2_ns=t2_ns))
    i, z, *_ = fresh.weights
    phase = math.exp(-2 * 2 * round(50 * 1e12 / 2.0419e8) / t2_ns)
    expected = (i + z) / 2 + phase * (i - z) / 2
    assert faded.weights[0] == pytest.approx(expected, rel=1e-9)


def test_without_a_herald_line_there_is_one_attempt_a_round_trip() -> None:
    short = {"cycle_ns": CYCLE_NS}
    with_line: Any = parameters(km=50.0, herald_line=True)
    without: Any = parameters(km=50.0, herald_line=False)
    (fast,) = offers(attrs.evolve(with_line, **short))
    (slow,) = offers(attrs.evolve(without, **short))
    trip_ns = 2 * round(50 * 1e12 / 2.0419e8)
    assert fast.rate_hz / slow.rate_hz == pytest.approx(math.ceil(trip_ns / CYCLE_NS))


def test_no_weight_is_below_zero_by_rounding() -> None:
    for alpha in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        for found in offers(parameters(alpha=alpha, t2_ns=0)):
            assert min(found.weights) >= 0


def test_a_link_that_keeps_nothing_offers_nothing() -> None:
    link = attrs.evolve(parameters(), keep=False)  # type: ignore[misc]  # a record
    assert offers(link) == ()
    assert link_metric(link, "bob", View(True, 5)).peer == "alice"


def test_a_node_says_the_worst_of_its_memories() -> None:
    eternal = MemoryModel(0, 0, 1.0, 0, 1.0, 0, 1.0, (1.0, 1.0))
    able = Operations(keep=(4 * 0.985 - 1) / 3, readout=0.99, success=0.5, turn=0.9)
    found = node_metric([eternal, FADING], (2, 0), able, swaps=True, trust=3)
    assert (found.swaps, found.trust) == (True, 3)
    assert (found.t1_ns, found.t2_ns, found.readout) == (0, 1_000_000_000, 0.99)
    assert found.keep == pytest.approx((4 * 0.985 - 1) / 3)
    assert (found.success, found.turn) == (0.5, 0.9)


def test_a_node_says_how_well_its_bell_measurement_turns_and_succeeds() -> None:
    """An H of average fidelity 0.97 mixes its qubit with probability 0.06; two-qubit gates: 1."""
    model = attrs.evolve(FADING, gate_fidelity=0.97, swap_success=0.5)  # type: ignore[misc]  # record
    found = node_metric([model], (2, 0), operations_of(model), swaps=True)
    assert found.turn == pytest.approx(0.94)
    assert found.success == 0.5
    update = RouteUpdate("r", 1, 1, 0, found, ())
    swapping = graph_of({"r": update}).sites["r"].swapping
    # Readout is right in 0.99 of all cases: 2 r - 1 = 0.98 for each bit.
    assert swapping == pytest.approx((0.94 * 0.98, 0.94 * 0.98**2, 0.98))


def said(file: NetworkFile, links: Iterable[LinkParameters]) -> dict[str, RouteUpdate]:
    """What all nodes of a network would advertise with all links up."""
    found = {}
    for node in file.nodes:
        mine = [link for link in links if node.name in (end.node for end in link.ends)]
        if node.kind != "end":
            continue
        models = [link.end(node.name).model for link in mine]
        metrics = tuple(
            link_metric(link, node.name, View(True, sum(end.delay_ns for end in link.ends)))
            for link in mine
        )
        able = operations_of(models[0])
        metric = node_metric(models, (len(mine), 0), able, swaps=len(mine) > 1)
        found[node.name] = RouteUpdate(node.name, 1, 1, 0, metric, metrics)
    return found


def test_the_shipped_chain_of_five_can_promise_seventy_percent_and_no_more_than_it_has() -> None:
    file = load("chain5")
    links = [link_parameters(file, link.name) for link in file.links]
    graph = graph_of(said(file, links))
    found = route(graph, Query("alice", "bob", 0.7))
    assert found is not None
    assert found.nodes == ("alice", "r1", "r2", "r3", "bob")
    assert found.fidelity >= 0.7
    limit = best_fidelity(graph, Query("alice", "bob"))
    assert route(graph, Query("alice", "bob", limit + 1e-6)) is None
    assert route(graph, Query("alice", "bob", limit - 1e-6)) is not None
    purest = {hop.setting for hop in route(graph, Query("alice", "bob", limit - 1e-6)).hops}  # type: ignore[union-attr]  # not None
    assert purest == {"finest"}


def test_in_the_shipped_grid_corners_are_four_hops_apart() -> None:
    file = load("grid9")
    graph = graph_of(said(file, [link_parameters(file, link.name) for link in file.links]))
    found = route(graph, Query("n1", "n9", 0.6))
    assert found is not None
    assert len(found.hops) == 4

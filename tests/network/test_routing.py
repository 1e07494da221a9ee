"""Path choice against every route of small graphs and the exact front of larger ones."""

from __future__ import annotations

import math
from itertools import pairwise, product
from random import Random
from typing import Any, cast

import attrs
import pytest

from qstack.bell import werner
from qstack.errors import LocalProtocolError
from qstack.messages.network import LinkOffer, RouteUpdate
from qstack.network.budget import ETERNAL, Operations, Storage, swap_factor
from qstack.network.course import Course, Promise, choose
from qstack.network.meeting import meeting_rate
from qstack.network.routing import (
    Hop,
    Query,
    Route,
    best_fidelity,
    fastest,
    front,
    rate_at_once,
    route,
    search,
)
from qstack.network.topology import Choice, Graph, Site, graph_of
from tests.network.flood_lab import link_metric, node_metric
from tests.network.route_oracle import (
    best_rate,
    every_route,
    exact_front,
    random_graph,
)

FIDELITIES = (0.5, 0.6, 0.7, 0.8, 0.9)


def nodes(found: Route | None) -> tuple[str, ...]:
    assert found is not None
    return found.nodes


def database(*links: tuple[str, str, LinkOffer], **changes: Any) -> dict[str, RouteUpdate]:
    """Nodes by the names in `links`; `changes` by node name are changes of its metric."""
    names = sorted({name for one, other, _ in links for name in (one, other)})
    found = {}
    for name in names:
        metrics: dict[str, list[LinkOffer]] = {}
        for one, other, offer in links:
            if name in (one, other):
                metrics.setdefault(other if name == one else one, []).append(offer)
        mine = tuple(
            link_metric("-".join(sorted((name, peer))), peer, *offers)
            for peer, offers in metrics.items()
        )
        found[name] = RouteUpdate(name, 1, 1, 0, node_metric(**changes.get(name, {})), mine)
    return found


def offer(rate_hz: float, pure: float, setting: str = "only") -> LinkOffer:
    return LinkOffer(setting, rate_hz, werner(pure), pure)


DIAMOND = (
    ("alice", "fast", offer(100, 0.85)),
    ("fast", "bob", offer(100, 0.85)),
    ("alice", "pure", offer(30, 0.99)),
    ("pure", "bob", offer(30, 0.99)),
)


# --- against oracles --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(25))
def test_on_six_nodes_the_best_of_all_routes_is_chosen(seed: int) -> None:
    graph = random_graph(6, 0.7, seed)
    for trust in (0, 1):
        query = Query("n0000", "n0001", 0.0, trust)
        every = every_route(graph, query)
        for fidelity_min in (0.0, *FIDELITIES):
            asked = Query("n0000", "n0001", fidelity_min, trust)
            found = route(graph, asked)
            rate = 0.0 if found is None else found.rate_hz
            assert rate == pytest.approx(best_rate(every, fidelity_min), rel=1e-12)
            if found is not None:
                same = [
                    f for f in every if f[2] == (*found.nodes, *(h.setting for h in found.hops))
                ]
                assert found.fidelity == pytest.approx(same[0][1], abs=1e-12)
        most = max((pure for _, pure, _ in every), default=0.0)
        assert best_fidelity(graph, query) == pytest.approx(most, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6, 7, 8])
def test_with_sixteen_labels_a_node_thirty_nodes_get_the_best_of_the_exact_front(
    seed: int,
) -> None:
    graph = random_graph(30, 0.28, seed)
    query = Query("n0000", "n0001")
    exact = exact_front(graph, query)
    for fidelity_min in FIDELITIES:
        found = route(graph, Query("n0000", "n0001", fidelity_min))
        rate = 0.0 if found is None else found.rate_hz
        assert rate == pytest.approx(best_rate(exact, fidelity_min), rel=1e-12)
    most = max((pure for _, pure, _ in exact), default=0.0)
    assert best_fidelity(graph, query) == pytest.approx(most, abs=1e-12)


def test_the_exact_front_finds_what_all_routes_give() -> None:
    for seed in range(10):
        graph = random_graph(6, 0.7, seed)
        query = Query("n0000", "n0001")
        every, exact = every_route(graph, query), exact_front(graph, query)
        for fidelity_min in FIDELITIES:
            assert best_rate(exact, fidelity_min) == best_rate(every, fidelity_min)


@pytest.mark.parametrize("seed", [2, 6, 9])
def test_a_front_has_each_route_that_is_purer_than_all_faster_ones(seed: int) -> None:
    graph = random_graph(6, 0.7, seed)
    every = sorted(every_route(graph, Query("n0000", "n0001")), reverse=True)
    expected, most = [], 0.0
    for rate, pure, _ in every:
        if pure > most:
            expected.append((rate, pure))
            most = pure
    found = front(graph, Query("n0000", "n0001"))
    assert len(found) > 1
    for each, (rate, pure) in zip(found, expected, strict=True):
        assert (each.rate_hz, each.fidelity) == pytest.approx((rate, pure), rel=1e-9)


# --- what counts ------------------------------------------------------------------------


def test_more_fidelity_is_bought_with_rate() -> None:
    graph = graph_of(database(*DIAMOND))
    assert nodes(route(graph, Query("alice", "bob"))) == ("alice", "fast", "bob")
    pure = route(graph, Query("alice", "bob", 0.9))
    assert nodes(pure) == ("alice", "pure", "bob")
    assert pure is not None
    assert pure.fidelity == pytest.approx(0.99**2 + 0.01**2 / 3)
    assert pure.rate_hz == pytest.approx(30 / 1.5)
    assert route(graph, Query("alice", "bob", 0.99)) is None
    assert best_fidelity(graph, Query("alice", "bob", 0.99)) == pytest.approx(pure.fidelity)


def test_the_route_goes_around_nodes_that_are_trusted_too_little() -> None:
    graph = graph_of(database(*DIAMOND, fast={"trust": 1}, pure={"trust": 2}))
    assert nodes(route(graph, Query("alice", "bob", 0.0, 1)))[1] == "fast"
    assert nodes(route(graph, Query("alice", "bob", 0.0, 2)))[1] == "pure"
    assert route(graph, Query("alice", "bob", 0.0, 3)) is None


def test_nodes_that_do_not_swap_or_are_draining_are_gone_around() -> None:
    for change in ({"swaps": False}, {"draining": True}):
        graph = graph_of(database(*DIAMOND, fast=change))
        assert nodes(route(graph, Query("alice", "bob")))[1] == "pure"


def test_an_end_that_is_draining_has_no_routes() -> None:
    for name in ("alice", "bob"):
        graph = graph_of(database(*DIAMOND, **{name: {"draining": True}}))
        assert route(graph, Query("alice", "bob")) is None


@pytest.mark.parametrize(("node", "peer"), [("fast", "bob"), ("bob", "fast")])
def test_a_link_counts_only_where_both_ends_say_that_it_is_up(node: str, peer: str) -> None:
    updates = database(*DIAMOND)
    whole: Any = updates[node]
    down = tuple(attrs.evolve(link, up=link.peer != peer) for link in whole.links)
    updates[node] = attrs.evolve(whole, links=down)
    assert nodes(route(graph_of(updates), Query("alice", "bob")))[1] == "pure"
    del updates["pure"]
    assert route(graph_of(updates), Query("alice", "bob")) is None


def test_a_slower_way_that_is_shorter_in_time_is_kept_for_the_ageing_of_the_ends() -> None:
    links = (
        ("alice", "hub", offer(1e5, 0.99)),
        ("hub", "far", offer(1e5, 0.99)),
        ("far", "bob", offer(1e5, 0.99)),
        ("hub", "near", offer(1e5, 0.99)),
        ("near", "bob", offer(1e5, 0.99)),
    )
    updates = database(*links)
    for name, update in updates.items():
        whole: Any = update
        latency_ns = 10_000_000 if name == "far" else 1_000
        late = tuple(attrs.evolve(link, latency_ns=latency_ns) for link in whole.links)
        seldom = node_metric(t2_ns=100_000_000, success=1e-4 if name == "near" else 1.0)
        updates[name] = attrs.evolve(whole, node=seldom, links=late)
    graph = graph_of(updates)
    assert nodes(route(graph, Query("alice", "bob", 0.5)))[2] == "far"
    assert nodes(route(graph, Query("alice", "bob", 0.9)))[2] == "near"


def test_of_two_views_of_a_link_the_worse_one_counts() -> None:
    updates = database(("alice", "bob", offer(50, 0.9)))
    whole: Any = updates["bob"]
    link: Any = whole.links[0]
    view = attrs.evolve(link, offers=(offer(40, 0.8),), reserved=0.25, latency_ns=7)
    updates["bob"] = attrs.evolve(whole, links=(view,))
    found = route(graph_of(updates), Query("alice", "bob"))
    assert found is not None
    assert found.hops == (Hop("alice-bob", "only", "bob"),)
    assert (found.rate_hz, found.latency_ns) == (30.0, 7)
    assert found.fidelity == pytest.approx(0.8)


def test_what_only_one_end_offers_or_is_reserved_is_no_choice() -> None:
    updates = database(("alice", "bob", offer(50, 0.9)), ("alice", "bob", offer(9, 0.95, "fine")))
    whole: Any = updates["bob"]
    link: Any = whole.links[0]
    updates["bob"] = attrs.evolve(whole, links=(attrs.evolve(link, offers=link.offers[1:]),))
    graph = graph_of(updates)
    assert [choice.setting for choice in graph.choices["alice"]] == ["fine"]
    updates["bob"] = attrs.evolve(whole, links=(attrs.evolve(link, reserved=1.0),))
    assert graph_of(updates).choices["alice"] == ()


def test_a_node_with_one_qubit_makes_its_pairs_one_after_the_other() -> None:
    links = (("alice", "hub", offer(60, 0.95)), ("hub", "bob", offer(30, 0.95)))
    both = route(graph_of(database(*links)), Query("alice", "bob"))
    turns = route(graph_of(database(*links, hub={"memories": (1, 1)})), Query("alice", "bob"))
    assert both is not None
    assert turns is not None
    assert both.rate_hz == pytest.approx(1 / (1 / 60 + 1 / 30 - 1 / 90))
    assert turns.rate_hz == pytest.approx(20)


def chain_graph(storage: Storage, rates: tuple[float, ...], latency_ns: int = 0) -> Graph:
    links = [(f"n{i}", f"n{i + 1}", offer(rate, 1.0)) for i, rate in enumerate(rates)]
    updates = database(*links)
    memory = {"t1_ns": storage.t1_ns, "t2_ns": storage.t2_ns, "exponent": storage.exponent}
    for name, update in updates.items():
        whole: Any = update
        far = tuple(attrs.evolve(link, latency_ns=latency_ns) for link in whole.links)
        updates[name] = attrs.evolve(whole, node=node_metric(**memory), links=far)
    return graph_of(updates)


def test_a_wait_is_never_promised_to_be_shorter_than_it_is() -> None:
    rates, t2_s = (10.0, 25.0), 0.1
    graph = chain_graph(Storage(0, round(t2_s * 1e9)), rates)
    found = route(graph, Query("n0", "n2"))
    assert found is not None
    # Two halves fade while the first waits for the second: exact mean over exponential times.
    a, b = rates
    fade = 2 / t2_s
    exact = a / (a + b) * b / (b + fade) + b / (a + b) * a / (a + fade)
    assert found.fidelity <= (1 + exact) / 2
    # Both halves wait for the slower, each on its own mean.
    assert found.fidelity == pytest.approx((1 + (10 / (10 + 1 / t2_s)) ** 2) / 2)


def test_a_cutoff_buys_fidelity_with_rate() -> None:
    graph = chain_graph(Storage(0, 100_000_000), (20.0, 20.0))
    free = route(graph, Query("n0", "n2"))
    short = route(graph, Query("n0", "n2", cutoff_ns=10_000_000))
    assert free is not None
    assert short is not None
    assert short.fidelity > free.fidelity
    assert short.rate_hz == pytest.approx(meeting_rate(20, 20, 10_000_000))
    assert short.rate_hz < free.rate_hz


def test_ends_and_what_was_made_ahead_age_while_words_travel_unless_there_is_no_swap() -> None:
    storage, latency_ns = Storage(0, 100_000_000), 3_000_000
    one = route(chain_graph(storage, (1e12,), latency_ns), Query("n0", "n1"))
    two = route(chain_graph(storage, (1e12, 1e12), latency_ns), Query("n0", "n2"))
    assert one is not None
    assert two is not None
    assert one.fidelity == pytest.approx(1.0)
    assert two.latency_ns == 2 * latency_ns
    # Two halves at the ends and two between, 6 ms each.
    assert two.fidelity == pytest.approx((1 + math.exp(-4 * 6 / 100)) / 2, abs=1e-6)


def test_of_a_cutoff_counts_what_is_left_when_the_ends_begin_anew() -> None:
    rates, latency_ns = (100.0, 100.0), 3_000_000
    graph = chain_graph(Storage(0, 100_000_000), rates, latency_ns)
    assert route(graph, Query("n0", "n2", cutoff_ns=6_000_000)) is None
    found = route(graph, Query("n0", "n2", cutoff_ns=26_000_000))
    assert found is not None
    # In 20 ms, and one of 100 per second each, with 3 ms until an end hears of a discarded pair.
    in_time = 1 - math.exp(-2)
    tried = 0.005 + in_time * 0.01 + (1 - in_time) * 0.003
    assert found.rate_hz == pytest.approx(1 / (tried / in_time + 0.006))


def test_of_an_end_with_room_for_several_pairs_the_rate_falls_less_with_the_latency() -> None:
    graph = chain_graph(ETERNAL, (100.0, 100.0), 3_000_000)
    wide = {
        name: tuple(attrs.evolve(cast(Any, choice), halves=3) for choice in choices)
        for name, choices in graph.choices.items()
    }
    for each, parallel in ((graph, 1), (Graph(graph.sites, wide), 3)):
        found = route(each, Query("n0", "n2"))
        assert found is not None
        assert found.rate_hz == pytest.approx(1 / (0.015 + 0.006 / parallel))
        assert rate_at_once(each, found) == pytest.approx(found.rate_hz)


def test_a_swap_that_fails_at_times_lowers_the_rate_alone() -> None:
    links = (("alice", "hub", offer(60, 0.95)), ("hub", "bob", offer(60, 0.95)))
    found = route(graph_of(database(*links, hub={"success": 0.5})), Query("alice", "bob"))
    assert found is not None
    assert found.rate_hz == pytest.approx(60 / 1.5 / 2)
    assert found.fidelity == pytest.approx(0.95**2 + 0.05**2 / 3)


# --- what labels may still come to ---------------------------------------------------------


def plain_graph(
    success: dict[str, float], links: tuple[tuple[str, str, float], ...], **fixed: Any
) -> Graph:
    """Perfect pairs; `fixed`: of every link, and `storage` of every node."""
    storage = fixed.pop("storage", ETERNAL)
    perfect = (1.0, 1.0, 1.0)
    choices: dict[str, list[Choice]] = {name: [] for name in success}
    for one, other, rate in links:
        for here, there in ((one, other), (other, one)):
            name, weights = f"{one}{other}", (1.0, 0.0, 0.0, 0.0)
            latency = fixed.get("latency_ns", 1_000)
            more = {key: value for key, value in fixed.items() if key != "latency_ns"}
            found = Choice(there, name, "only", rate, weights, perfect, latency, **more)
            choices[here].append(found)
    sites = {
        name: Site(name, True, 0, False, storage, perfect, share) for name, share in success.items()
    }
    return Graph(sites, {name: tuple(found) for name, found in choices.items()})


@pytest.mark.parametrize("most_labels", [16, None])
def test_swaps_before_a_slow_link_do_not_count_against_it(most_labels: int | None) -> None:
    """By n and m: 1 pair/s of the last link, half lost there: 0.5. By x: 0.9 * 2 / 3 * 0.75."""
    graph = plain_graph(
        {"a": 1.0, "n": 0.5, "m": 0.5, "t": 1.0, "x": 0.75},
        (("a", "n", 1e3), ("n", "m", 1e3), ("m", "t", 1.0), ("a", "x", 0.9), ("x", "t", 0.9)),
    )
    found = list(search(graph, Query("a", "t"), most_labels))
    assert [each.nodes for each in found] == [("a", "n", "m", "t"), ("a", "x", "t")]
    rates = [each.rate_hz for each in found]
    assert rates == pytest.approx([0.5, 0.45], abs=1e-3)


def test_a_cutoff_too_short_for_a_slot_hides_no_longer_one() -> None:
    """5 ms is the half of T2: pairs of 200/s wait 5 ms at most, and longer ones are made anew."""
    graph = plain_graph(
        {"a": 1.0, "b": 1.0, "c": 1.0},
        (("a", "b", 200.0), ("b", "c", 200.0)),
        storage=Storage(0, 10_000_000),
        latency_ns=45_000,
        slot_ns=50_000,
    )
    cutoffs = (0, 5_000_000, 225_000, 125_000)
    alone = [best_fidelity(graph, Query("a", "c", cutoff_ns=cutoff)) for cutoff in cutoffs]
    assert alone[3] == 0.0
    assert best_fidelity(graph, Query("a", "c"), cutoffs) == max(alone) == alone[2] > 0.9
    found = choose(graph, "a", Promise("c", 0.8, reserved=False), 0.0)
    assert isinstance(found, Course)
    assert found.cutoff_ns > 0


# --- to all nodes at once ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "radius", "seed"),
    [*((8, 0.6, seed) for seed in range(10)), *((30, 0.28, seed) for seed in range(3))],
)
def test_one_search_for_all_nodes_finds_what_a_search_for_each_finds(
    size: int, radius: float, seed: int
) -> None:
    draw = Random(seed)
    drawn = random_graph(size, radius, seed)
    graph = Graph(
        drawn.sites,
        {
            name: tuple(
                attrs.evolve(
                    cast(Any, choice), halves=draw.randint(1, 3), turn_ns=draw.randrange(10**6)
                )
                for choice in choices
            )
            for name, choices in drawn.choices.items()
        },
    )
    found = fastest(graph, "n0000")
    assert "n0000" not in found
    for name in sorted(graph.sites.keys() - {"n0000"}):
        one = route(graph, Query("n0000", name))
        assert (one is None) == (name not in found)
        if one is not None:
            assert found[name].rate_hz == pytest.approx(one.rate_hz, rel=1e-12)
            assert found[name].nodes == one.nodes
            assert found[name].fidelity == pytest.approx(one.fidelity, rel=1e-12)


def test_among_equal_ways_one_search_for_all_nodes_chooses_as_a_search_for_each() -> None:
    rows = 5
    links = [
        (f"n{a}{b}", f"n{c}{d}", offer(50, 0.95))
        for a, b, c, d in product(range(rows), repeat=4)
        if (a, b) < (c, d) and abs(a - c) + abs(b - d) == 1
    ]
    graph = graph_of(database(*links))
    found = fastest(graph, "n11")
    assert len(found) == rows * rows - 1
    for name, way in found.items():
        one = route(graph, Query("n11", name))
        assert one is not None
        assert (way.rate_hz, way.fidelity) == pytest.approx((one.rate_hz, one.fidelity))


# --- the same everywhere ----------------------------------------------------------------


def test_equal_routes_are_chosen_alike_whatever_the_order_they_were_learned_in() -> None:
    links = [(a, b, offer(50, 0.95)) for a in ("alice", "bob") for b in ("m1", "m2", "m3")]
    updates = database(*links)
    found = {
        nodes(route(graph_of(dict(order)), Query("alice", "bob")))
        for order in (updates.items(), reversed(updates.items()))
    }
    assert found == {("alice", "m1", "bob")}


def test_of_equal_rates_the_purer_route_is_chosen_and_then_the_shorter() -> None:
    links = [
        ("alice", "a", offer(50, 0.9)),
        ("a", "bob", offer(50, 0.9)),
        ("alice", "b", offer(50, 0.95)),
        ("b", "bob", offer(50, 0.95)),
    ]
    assert nodes(route(graph_of(database(*links)), Query("alice", "bob"))) == ("alice", "b", "bob")


def test_no_route_is_longer_than_asked_for() -> None:
    graph = chain_graph(ETERNAL, (50.0, 50.0, 50.0))
    assert route(graph, Query("n0", "n3", most_hops=2)) is None
    assert route(graph, Query("n0", "n3", most_hops=3)) is not None


def test_unknown_ends_and_a_route_to_oneself_are_the_callers_mistake() -> None:
    graph = graph_of(database(*DIAMOND))
    for query, reason in ((Query("alice", "zoe"), "zoe"), (Query("alice", "alice"), "itself")):
        with pytest.raises(LocalProtocolError, match=reason):
            route(graph, query)


def test_a_site_is_made_of_what_its_node_advertises() -> None:
    changes = {"memories": (1, 2), "keep": 0.98, "readout": 0.99, "success": 0.5, "trust": 4}
    graph = graph_of(database(("a", "b", offer(1, 0.9)), a={**changes, "t1_ns": 9, "t2_ns": 8}))
    operations = Operations(0.98, 0.99, 0.5)
    swapping = swap_factor(operations)
    site = Site("a", True, 4, True, Storage(9, 8, 1.0), swapping, 0.5, True, operations, 2)
    assert graph.sites["a"] == site


# --- the rate of a whole route ------------------------------------------------------------


@pytest.mark.parametrize(("links", "low"), [(1, 0.0), (2, 0.0), (4, 0.07), (8, 0.18)])
def test_a_route_has_the_rate_of_the_latest_of_its_links(links: int, low: float) -> None:
    """Exponential waits: rate / (1 + 1/2 + ... + 1/n); a label's is too low by as much as said."""
    names = ["alice", *(f"r{k}" for k in range(1, links)), "bob"]
    graph = graph_of(database(*((a, b, offer(100, 0.99)) for a, b in pairwise(names))))
    found = route(graph, Query("alice", "bob", 0.5))
    assert found is not None
    exact = 100 / sum(1 / k for k in range(1, links + 1))
    assert rate_at_once(graph, found) == pytest.approx(exact, rel=1e-9)
    assert 1 - found.rate_hz / exact == pytest.approx(low, abs=0.011)


def test_where_a_node_makes_one_link_after_the_other_the_rate_is_the_labels() -> None:
    links = (("alice", "r", offer(100, 0.99)), ("r", "bob", offer(50, 0.99)))
    graph = graph_of(database(*links, r={"memories": (1, 2)}))
    found = route(graph, Query("alice", "bob", 0.5))
    assert found is not None
    assert rate_at_once(graph, found) == found.rate_hz == pytest.approx(1 / (1 / 100 + 1 / 50))


@pytest.mark.parametrize("seed", range(10))
def test_the_rate_of_a_whole_route_is_never_below_its_labels(seed: int) -> None:
    graph = random_graph(12, 0.5, seed, single=False)
    for found in front(graph, Query("n0000", "n0001")):
        whole = rate_at_once(graph, found)
        assert found.rate_hz <= whole <= 1.4 * found.rate_hz

"""When what a node heard is passed on: at once, or together with what comes a little later."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.machine import TICK
from qstack.messages.network import RouteDigest, RouteUpdate
from qstack.network.linkstate import (
    Advertise,
    FloodParameters,
    FromNeighbour,
    NeighbourLost,
    NeighbourUp,
)
from qstack.units import MICROSECOND, MILLISECOND, SECOND
from tests.network.flood_lab import FloodLab, link_metric, node_metric
from tests.network.test_linkstate import TIMES, machine, sent, update

DOWN = link_metric("bc", "bob", up=False)
KEPT_NS = 2 * TIMES.hold_ns
PACE_NS = TIMES.pace_ns


# --- first words ------------------------------------------------------------------------


def test_a_first_word_that_leads_nowhere_is_passed_on_after_two_holds_and_older_by_then() -> None:
    state = machine("bob", "carol", "dave")
    word = update("carol", links=(DOWN,))
    assert sent(state.handle(FromNeighbour("carol", word), 0)) == []
    assert state.database["carol"] == word
    assert sent(state.handle(FromNeighbour("bob", RouteDigest("", "alice", ())), 1)) != []
    assert sent(state.handle(FromNeighbour("bob", RouteDigest("alice", "", ())), 1)) == []
    assert state.deadline == KEPT_NS
    later = update("carol", links=(DOWN,), age_ns=KEPT_NS)
    assert sent(state.handle(TICK, KEPT_NS)) == [("bob", later), ("dave", later)]
    assert state.deadline == TIMES.refresh_ns
    assert sent(state.handle(FromNeighbour("bob", RouteDigest("alice", "", ())), KEPT_NS)) != []


def test_what_takes_the_place_of_a_first_word_is_passed_on_at_once_and_alone() -> None:
    state = machine("bob", "carol")
    state.handle(FromNeighbour("carol", update("carol", links=(DOWN,))), 0)
    for sequence in (2, 3):
        newer = update("carol", sequence, links=(DOWN,))
        assert sent(state.handle(FromNeighbour("carol", newer), 1)) == [("bob", newer)]
    assert sent(state.handle(TICK, KEPT_NS)) == []


def test_a_first_word_that_leads_somewhere_or_comes_from_afar_is_passed_on_at_once() -> None:
    state = machine("bob", "carol")
    for word in (update("carol", links=(link_metric("bc", "bob"),)), update("erin", links=(DOWN,))):
        assert sent(state.handle(FromNeighbour("carol", word), 0)) == [("bob", word)]


def test_a_network_that_begins_as_a_whole_is_not_flooded_with_nodes_that_lead_nowhere() -> None:
    names = [f"n{number}" for number in range(10)]
    lab = FloodLab(list(zip(names, names[1:] + names[:1], strict=True)))
    lab.run(SECOND)
    assert lab.agreed()
    words = [(one, each) for one, _, each in lab.sent if type(each) is RouteUpdate]
    first = [one for one, each in words if not any(link.up for link in each.links)]
    assert first
    passed_on = [
        (one, each.origin)
        for one, each in words
        if one != each.origin and not any(link.up for link in each.links)
    ]
    assert passed_on == []


# --- bursts -----------------------------------------------------------------------------


def test_what_comes_soon_after_another_leaves_with_the_rest_when_the_pace_is_over() -> None:
    state = machine("bob", "carol", "dave")
    first = update("x1")
    assert sent(state.handle(FromNeighbour("bob", first), 0)) == [("carol", first), ("dave", first)]
    for number in (2, 3):
        burst = FromNeighbour("bob", update(f"x{number}"))
        assert sent(state.handle(burst, number * 100 * MICROSECOND)) == []
    assert state.deadline == PACE_NS
    together = sent(state.handle(TICK, PACE_NS))
    assert [(peer, each.origin, each.age_ns) for peer, each in together] == [
        ("carol", "x2", 800 * MICROSECOND),
        ("dave", "x2", 800 * MICROSECOND),
        ("carol", "x3", 700 * MICROSECOND),
        ("dave", "x3", 700 * MICROSECOND),
    ]
    assert sent(state.handle(FromNeighbour("bob", update("x4")), PACE_NS + 1)) == []
    assert state.deadline == 2 * PACE_NS
    state.handle(TICK, 2 * PACE_NS)
    calm = 3 * PACE_NS
    assert len(sent(state.handle(FromNeighbour("bob", update("x5")), calm))) == 2


def test_who_sends_the_same_meanwhile_is_not_sent_it_and_who_was_started_again_is() -> None:
    state = machine("bob", "carol", "dave", "erin")
    state.handle(FromNeighbour("bob", update("x1")), 0)
    state.handle(FromNeighbour("bob", update("x2", 2)), 1)
    assert sent(state.handle(FromNeighbour("carol", update("x2", 2)), 2)) == []
    assert [p for p, _ in sent(state.handle(FromNeighbour("erin", update("x2", 1)), 3))] == ["erin"]
    state.handle(FromNeighbour("erin", update("x2", 2)), 4)
    state.handle(NeighbourLost("erin"), 5)
    state.handle(NeighbourUp("erin"), 6)
    assert sent(state.handle(FromNeighbour("erin", RouteDigest("alice", "x1", ())), 7)) != []
    assert sent(state.handle(FromNeighbour("erin", RouteDigest("x1", "", ())), 8)) == []
    told = [(peer, each.origin) for peer, each in sent(state.handle(TICK, PACE_NS))]
    assert told == [("dave", "x2"), ("erin", "x2")]


def test_what_is_newer_than_what_waits_takes_its_place() -> None:
    state = machine("bob", "carol", "dave")
    state.handle(FromNeighbour("bob", update("x1")), 0)
    state.handle(FromNeighbour("bob", update("x2", 1)), 1)
    state.handle(FromNeighbour("carol", update("x2", 2)), 2)
    told = [(p, each.origin, each.sequence) for p, each in sent(state.handle(TICK, PACE_NS + 9))]
    assert told == [("bob", "x2", 2), ("dave", "x2", 2)]
    assert sent(state.handle(TICK, 3 * PACE_NS)) == []


LINKS = (link_metric("xa", "a"), link_metric("xb", "b"))
LESS = (link_metric("xa", "a"), link_metric("xb", "b", up=False))


@pytest.mark.parametrize(
    ("later", "waits"),
    [
        ({"links": LINKS}, True),
        ({"links": LINKS, "node": node_metric(trust=3)}, True),
        ({"links": LESS}, False),
        ({"links": LINKS[:1]}, False),
        ({"links": LINKS, "node": node_metric(draining=True)}, False),
        ({"links": LINKS, "boot": 6}, False),
    ],
)
def test_news_that_takes_ways_away_waits_for_no_pace(later: dict[str, Any], waits: bool) -> None:
    state = machine("bob", "carol", "dave")
    state.handle(FromNeighbour("bob", update("x", 1, links=LINKS)), 0)
    state.handle(FromNeighbour("bob", update("y", 1)), 2 * PACE_NS)
    word = update("x", 2, **later)
    told = sent(state.handle(FromNeighbour("bob", word), 2 * PACE_NS + 1))
    assert told == ([] if waits else [("carol", word), ("dave", word)])


def test_ones_own_word_waits_for_no_pace() -> None:
    state = machine("bob", "carol", "dave")
    at = TIMES.hold_ns
    state.handle(FromNeighbour("bob", update("x1")), at)
    state.handle(FromNeighbour("bob", update("x2")), at + 1)
    own = sent(state.handle(Advertise(node_metric(trust=4), ()), at + 2))
    assert [(peer, each.origin) for peer, each in own] == [
        ("bob", "alice"),
        ("carol", "alice"),
        ("dave", "alice"),
    ]


def test_one_other_neighbour_is_told_at_once_however_much_comes() -> None:
    state = machine("bob", "carol")
    for number in range(5):
        word = update(f"x{number}")
        assert sent(state.handle(FromNeighbour("bob", word), number)) == [("carol", word)]


@pytest.mark.parametrize("seed", range(3))
def test_a_burst_of_a_dense_network_leaves_in_few_bundles(seed: int) -> None:
    """All eight speak at once, and all hear of it within half a millisecond.

    So what a node sends to another is its own word, the first that it passes on, and the rest.
    """
    names = [f"n{number}" for number in range(8)]
    edges = [(one, other) for one in names for other in names if one < other]
    lab = FloodLab(edges, seed=seed)
    lab.run(2 * SECOND)
    lab.bundles.clear()
    for name in names:
        lab.advertise(name, trust=2)
    lab.run(50 * MILLISECOND)
    assert lab.agreed()
    assert {node.trust for _, _, node, _ in lab.known("n0").values()} == {2}
    assert len(lab.bundles) <= 3 * 2 * len(edges)


def test_the_pace_is_short_against_the_hold() -> None:
    """A burst of a start is over before the next word of an origin may come."""
    p = FloodParameters()
    assert 10 * p.pace_ns <= p.hold_ns

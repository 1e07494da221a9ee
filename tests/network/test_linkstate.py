"""Flooding between pure machines over lossy wires, through partitions and restarts."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.codec import decode_body, encode_body
from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.machine import TICK, Note, Send, Up
from qstack.messages.network import LinkOffer, RouteDigest, RouteEntry, RouteUpdate
from qstack.messages.wire import KIND_OF
from qstack.network.linkstate import (
    CHUNK,
    LARGEST_SEQUENCE,
    Advertise,
    FloodParameters,
    FromNeighbour,
    LinkState,
    NeighbourLost,
    NeighbourUp,
    RoutesChanged,
)
from qstack.units import MILLISECOND, SECOND, Chance
from tests.network.flood_lab import Edge, FloodLab, link_metric, node_metric

GRID: list[Edge] = [
    ("a", "b"),
    ("b", "c"),
    ("d", "e"),
    ("e", "f"),
    ("a", "d"),
    ("b", "e"),
    ("c", "f"),
]
OFFER = LinkOffer("fast", 100.0, (0.9, 0.1, 0.0, 0.0), 0.88)
TIMES = FloodParameters(60 * SECOND, 200 * SECOND, 20 * MILLISECOND)


def update(origin: str = "carol", sequence: int = 1, boot: int = 5, **changes: Any) -> RouteUpdate:
    values: dict[str, Any] = {"age_ns": 0, "node": node_metric(), "links": ()}
    return RouteUpdate(origin=origin, boot=boot, sequence=sequence, **(values | changes))


def machine(*neighbours: str) -> LinkState:
    state = LinkState("alice", 7, TIMES)
    state.handle(Advertise(node_metric(), ()), 0)
    for peer in neighbours:
        state.handle(NeighbourUp(peer), 0)
    return state


def sent(actions: list[Any]) -> list[tuple[str, Any]]:
    return [(action.peer, action.message) for action in actions if type(action) is Send]


# --- whole networks ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_all_nodes_come_to_know_the_same_over_wires_that_lose(seed: int, loss: float) -> None:
    lab = FloodLab(GRID, loss, seed)
    lab.run(8 * SECOND)
    lab.loss = 0.0  # What a lost adjacency changes in the last moment still has to get around.
    lab.run(2 * SECOND)
    assert lab.agreed()
    view = lab.known("a")
    assert sorted(view) == ["a", "b", "c", "d", "e", "f"]
    assert all(link.up for _, _, _, links in view.values() for link in links)


def test_a_change_reaches_all_nodes_in_as_many_hops_as_they_are_away() -> None:
    lab = FloodLab([("a", "b"), ("b", "c"), ("c", "d")])
    lab.run(2 * SECOND)
    before = dict(lab.changed)
    lab.advertise("a", trust=3)
    # Held back for 10 ms, then three hops of at most half a millisecond each.
    lab.run(12 * MILLISECOND)
    assert lab.agreed()
    assert lab.nodes["d"].database["a"].node.trust == 3
    assert {name: lab.changed[name] - before[name] for name in lab.nodes} == dict.fromkeys(
        "abcd", 1
    )


def test_an_update_crosses_each_edge_of_a_ring_at_most_once_in_each_direction() -> None:
    names = [f"n{number}" for number in range(8)]
    lab = FloodLab(list(zip(names, names[1:] + names[:1], strict=True)))
    lab.run(2 * SECOND)
    lab.sent.clear()
    lab.advertise("n0", trust=1)
    lab.run(100 * MILLISECOND)
    crossings = [(one, other) for one, other, message in lab.sent if message.origin == "n0"]
    assert len(crossings) == len(set(crossings))
    assert len(crossings) <= 2 * 8


def test_a_partition_goes_its_own_ways_and_heals() -> None:
    lab = FloodLab(GRID, 0.1)
    lab.run(4 * SECOND)
    lab.cut = {("a", "b"), ("d", "e")}
    lab.run(2 * SECOND)  # Eight silent keepalive intervals, and what they change.
    lab.loss = 0.0
    lab.run(SECOND)
    assert lab.agreed("a", "d")
    assert lab.agreed("b", "c", "e", "f")
    assert not lab.agreed("a", "b")
    lab.advertise("a", trust=5)
    lab.advertise("f", trust=6)
    lab.run(SECOND)
    assert lab.nodes["c"].database["a"].node.trust == 0
    lab.cut = set()
    lab.run(3 * SECOND)
    assert lab.agreed()
    assert lab.nodes["c"].database["a"].node.trust == 5
    assert lab.nodes["d"].database["f"].node.trust == 6


def test_a_partition_that_lasts_is_forgotten_after_the_greatest_age() -> None:
    lab = FloodLab(GRID)
    lab.run(2 * SECOND)
    lab.cut = {("a", "b"), ("d", "e")}
    lab.run(10 * SECOND)
    assert sorted(lab.known("a")) == ["a", "b", "c", "d", "e", "f"]
    lab.run(10 * SECOND)  # The greatest age is 15 s.
    assert sorted(lab.known("a")) == ["a", "d"]
    assert sorted(lab.known("f")) == ["b", "c", "e", "f"]


@pytest.mark.parametrize("seed", range(4))
def test_a_node_that_restarts_is_learned_again_in_its_new_life(seed: int) -> None:
    lab = FloodLab(GRID, 0.1, seed)
    lab.run(4 * SECOND)
    for trust in range(1, 4):
        lab.advertise("e", trust=trust)
        lab.run(SECOND)
    former = lab.nodes["e"].database["e"]
    lab.stop("e")
    lab.run(300 * MILLISECOND)
    lab.start("e")
    lab.loss = 0.0
    lab.run(3 * SECOND)
    assert lab.agreed()
    now = lab.nodes["a"].database["e"]
    assert now.boot == lab.nodes["e"].boot != former.boot
    assert now.sequence > former.sequence
    assert now.node.trust == 0


def test_a_node_that_restarts_beyond_a_partition_outdoes_its_former_life_when_it_heals() -> None:
    lab = FloodLab(GRID)
    lab.run(2 * SECOND)
    for trust in range(1, 6):
        lab.advertise("a", trust=trust)
        lab.run(SECOND)
    lab.cut = {("a", "b"), ("d", "e")}
    lab.stop("d")
    lab.stop("a")
    lab.run(2 * SECOND)
    lab.start("a")
    lab.run(2 * SECOND)
    assert lab.nodes["a"].database["a"].sequence < lab.nodes["f"].database["a"].sequence
    lab.cut = set()
    lab.start("d")
    lab.run(3 * SECOND)
    assert lab.agreed()
    assert lab.nodes["f"].database["a"].boot == lab.nodes["a"].boot
    assert lab.nodes["f"].database["a"].node.trust == 0


@pytest.mark.parametrize("seed", range(5))
def test_after_any_faults_all_nodes_agree_on_what_each_says_of_itself(seed: int) -> None:
    lab = FloodLab(GRID, 0.2, seed)
    chance = Chance(seed)
    for _ in range(12):
        edge = lab.edges[chance.below(len(lab.edges))]
        lab.cut = {edge} if chance.uniform() < 0.5 else set()
        name = sorted(lab.nodes)[chance.below(len(lab.nodes))]
        if chance.uniform() < 0.4:
            lab.stop(name)
            lab.run(chance.below(SECOND))
            lab.start(name)
        else:
            lab.advertise(name, trust=chance.below(9))
        lab.run(chance.below(SECOND))
    lab.loss, lab.cut = 0.0, set()
    lab.run(4 * SECOND)
    assert lab.agreed()
    for name, node in lab.nodes.items():
        own = node.database[name]
        assert own.boot == node.boot
        assert all(link.up for link in own.links)


# --- one machine ------------------------------------------------------------------------


def test_a_neighbour_is_sent_a_digest_and_then_only_what_it_lacks() -> None:
    state = machine("bob")
    state.handle(FromNeighbour("bob", update("carol", 4)), 0)
    state.handle(FromNeighbour("bob", update("dave", 2)), 0)
    digest = sent(state.handle(NeighbourUp("erin"), 0))
    entries = (RouteEntry("alice", 7, 1), RouteEntry("carol", 5, 4), RouteEntry("dave", 5, 2))
    assert digest == [("erin", RouteDigest("", "", entries))]
    theirs = RouteDigest("", "", (RouteEntry("carol", 5, 4), RouteEntry("dave", 5, 1)))
    answer = sent(state.handle(FromNeighbour("erin", theirs), 3 * SECOND))
    assert [(peer, each.origin, each.age_ns) for peer, each in answer] == [
        ("erin", "alice", 3 * SECOND),
        ("erin", "dave", 3 * SECOND),
    ]


def test_digests_of_large_databases_come_in_ranges_that_leave_nothing_out() -> None:
    big, small = machine("bob"), machine("bob")
    names = [f"node{number:05}" for number in range(CHUNK + 300)]
    for name in names:
        big.handle(FromNeighbour("bob", update(name)), 0)
    digests = [message for _, message in sent(big.handle(NeighbourUp("erin"), 0))]
    assert [len(each.entries) for each in digests] == [CHUNK, 301]
    assert digests[0].upto == digests[1].after
    assert (digests[0].after, digests[1].upto) == ("", "")
    # "alice" stands first, so this one ends the first digest and bounds the second.
    last = names[CHUNK - 2]
    for name in (names[0], last, names[CHUNK + 5], "zoe"):
        small.handle(FromNeighbour("bob", update(name, 2)), 0)
    newer = [
        message.origin
        for digest in digests
        for _, message in sent(small.handle(FromNeighbour("bob", digest), 0))
    ]
    assert digests[0].upto == last
    assert newer == [names[0], last, names[CHUNK + 5], "zoe"]


def test_an_older_update_is_answered_with_the_newer_one_and_an_equal_one_is_not() -> None:
    state = machine("bob", "erin")
    state.handle(FromNeighbour("bob", update(sequence=4)), 0)
    older = sent(state.handle(FromNeighbour("erin", update(sequence=3)), SECOND))
    assert [(peer, each.sequence, each.age_ns) for peer, each in older] == [("erin", 4, SECOND)]
    assert state.handle(FromNeighbour("erin", update(sequence=4)), SECOND) == []


def test_an_update_is_passed_on_to_all_neighbours_but_the_one_it_came_from() -> None:
    state = machine("bob", "dave", "erin")
    actions = state.handle(FromNeighbour("dave", update()), 0)
    assert sent(actions) == [("bob", update()), ("erin", update())]


def test_saying_the_same_again_is_no_change() -> None:
    state = machine("bob")
    assert state.handle(Advertise(node_metric(), ()), SECOND) == []
    assert state.deadline == TIMES.refresh_ns


def test_own_updates_are_held_back_and_then_sent_once() -> None:
    state = machine("bob")
    for trust in (1, 2, 3):
        assert state.handle(Advertise(node_metric(trust=trust), ()), 5 * MILLISECOND) == []
    assert state.deadline == 20 * MILLISECOND
    actions = state.handle(TICK, 20 * MILLISECOND)
    assert [each.node.trust for _, each in sent(actions)] == [3]
    assert Up(RoutesChanged(("alice",))) in actions
    assert state.deadline == 20 * MILLISECOND + TIMES.refresh_ns


def test_a_refresh_says_nothing_new_to_those_who_make_routes() -> None:
    state = machine("bob")
    refreshed = state.handle(TICK, TIMES.refresh_ns)
    assert [each.sequence for _, each in sent(refreshed)] == [2]
    assert not any(type(action) is Up for action in refreshed)
    state.handle(FromNeighbour("bob", update(sequence=1)), 0)
    again = state.handle(FromNeighbour("bob", update(sequence=2)), SECOND)
    assert not any(type(action) is Up for action in again)


def test_an_update_of_a_former_life_is_outdone_at_once() -> None:
    state = machine("bob")
    actions = state.handle(FromNeighbour("bob", update("alice", 57, boot=3)), MILLISECOND)
    assert [(each.boot, each.sequence) for _, each in sent(actions)] == [(7, 58)]
    for boot in (3, 9):
        actions = state.handle(FromNeighbour("bob", update("alice", 58, boot)), MILLISECOND)
        numbers = [(each.boot, each.sequence) for _, each in sent(actions)]
        assert numbers == [(7, state.database["alice"].sequence)]
        assert numbers[0] > (7, 58)
        state = machine("bob")
        state.handle(FromNeighbour("bob", update("alice", 57, boot=3)), MILLISECOND)


def test_a_former_life_that_is_heard_of_before_the_first_word_is_outdone_by_it() -> None:
    state = LinkState("alice", 7, TIMES)
    state.handle(NeighbourUp("bob"), 0)
    assert sent(state.handle(FromNeighbour("bob", update("alice", 57, boot=3)), 0)) == []
    actions = state.handle(Advertise(node_metric(), ()), 0)
    assert [each.sequence for _, each in sent(actions)] == [58]


def test_what_is_as_old_as_it_may_be_is_forgotten_and_not_taken() -> None:
    state = machine("bob")
    state.handle(FromNeighbour("bob", update(age_ns=50 * SECOND)), 0)
    assert state.deadline == TIMES.refresh_ns
    late = update("dave", age_ns=TIMES.max_age_ns)
    assert state.handle(FromNeighbour("bob", late), 0) == []
    actions = state.handle(TICK, 150 * SECOND)
    assert Up(RoutesChanged(("carol",))) in actions
    assert Note("route-forgotten", (("origin", "carol"),)) in actions
    assert list(state.database) == ["alice"]


def test_more_origins_than_a_node_remembers_are_refused() -> None:
    state = LinkState("alice", 7, FloodParameters(most_origins=2))
    state.handle(NeighbourUp("bob"), 0)
    for name in ("carol", "dave", "erin"):
        actions = state.handle(FromNeighbour("bob", update(name)), 0)
    assert actions == [Note("route-refused", (("origin", "erin"),))]
    assert list(state.database) == ["carol", "dave"]


def broken(**changes: Any) -> RouteUpdate:
    metric = link_metric("l", "bob", OFFER)
    whole: Any = update(links=(metric,))
    known = ("rate_hz", "weights", "fidelity_low")
    offer = attrs.evolve(OFFER, **{key: changes.pop(key) for key in known if key in changes})  # type: ignore[misc]  # a record
    link = {
        key: changes.pop(key) for key in ("reserved", "latency_ns", "windows") if key in changes
    }
    metric = attrs.evolve(metric, offers=(offer,), **link)  # type: ignore[misc]  # a record
    node = {key: changes.pop(key) for key in ("keep", "exponent", "memories") if key in changes}
    evolved: RouteUpdate = attrs.evolve(
        whole,
        node=node_metric(**node),
        links=(metric,) * changes.pop("times", 1),
        **changes,
    )
    return evolved


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 0},
        {"sequence": LARGEST_SEQUENCE + 1},
        {"age_ns": -1},
        {"rate_hz": -1.0},
        {"weights": (0.9, 0.3, 0.0, 0.0)},
        {"weights": (1.5, -0.5, 0.0, 0.0)},
        {"fidelity_low": 1.1},
        {"reserved": 1.5},
        {"latency_ns": -1},
        {"windows": ((-1, 5),)},
        {"windows": ((0, 0),)},
        {"keep": 1.2},
        {"exponent": 0.0},
        {"memories": (-1, 0)},
        {"times": 2},
    ],
)
def test_an_update_that_says_what_cannot_be_is_refused_whole(changes: dict[str, Any]) -> None:
    state = machine("bob")
    with pytest.raises(RemoteProtocolError):
        state.handle(FromNeighbour("bob", broken(**changes)), 0)
    assert list(state.database) == ["alice"]
    state.handle(FromNeighbour("bob", broken()), 0)
    assert list(state.database) == ["alice", "carol"]


def test_our_own_node_cannot_advertise_what_cannot_be() -> None:
    with pytest.raises(LocalProtocolError):
        machine().handle(Advertise(node_metric(keep=2.0), ()), 0)


def test_only_neighbours_are_listened_to() -> None:
    state = machine("bob")
    state.handle(NeighbourLost("bob"), 0)
    with pytest.raises(LocalProtocolError, match="no neighbour"):
        state.handle(FromNeighbour("bob", update()), 0)


def test_messages_of_routes_survive_the_wire() -> None:
    metric = link_metric("l", "bob", OFFER, windows=((5, 6),))
    digest = RouteDigest("a", "", (RouteEntry("alice", 7, 3),))
    for message in (update(links=(metric,)), digest):
        assert decode_body(KIND_OF[type(message)].number, encode_body(message)) == message

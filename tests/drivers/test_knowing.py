"""When a network is ready for requests between any two of its nodes."""

from __future__ import annotations

from typing import Any

from qstack.config import load, parse, read_text
from qstack.drivers.knowing import heard_of, ignorance, islands
from qstack.sim import Network
from tests.network.views import routes_of

ALL: dict[str, Any] = {
    "alice": {"alice-r1": True},
    "r1": {"alice-r1": True, "r1-bob": True},
    "bob": {"r1-bob": True},
}


def heard(**changes: Any) -> dict[str, Any]:
    """What each node of chain3 has heard; of alice's knowledge this is changed."""
    mine = {name: said for name, said in (ALL | changes).items() if said is not None}
    return {"alice": mine, "r1": ALL, "bob": ALL}


def test_nodes_that_have_heard_of_all_links_of_all_others_lack_nothing() -> None:
    assert list(ignorance(load("chain3"), heard())) == []


def test_who_was_not_heard_of_is_named() -> None:
    assert list(ignorance(load("chain3"), heard(bob=None))) == ["alice has not heard of bob"]


def test_a_link_that_one_end_calls_down_is_named() -> None:
    found = list(ignorance(load("chain3"), heard(r1={"alice-r1": True, "r1-bob": False})))
    assert found == ["alice hears from r1 that link r1-bob is down"]


def test_nobody_waits_for_an_island_that_no_link_leads_to() -> None:
    file, text = read_text("chain3")
    network = parse(text.partition("[links.r1-bob]")[0], file)
    assert islands(network) == dict.fromkeys(("alice", "r1"), frozenset({"alice", "r1"}))
    known = {"alice": {"alice-r1": True}, "r1": {"alice-r1": True}}
    assert list(ignorance(network, {"alice": known, "r1": known, "bob": {}})) == []


def test_a_status_says_what_was_heard() -> None:
    status = routes_of(("a", 3, {"ab": ("b", True), "ac": ("c", False)}), ("b", 1, {}))
    assert heard_of(status) == {"a": {"ab": True, "ac": False}, "b": {}}


def test_a_network_in_virtual_time_is_loaded_when_all_know_all() -> None:
    for name in ("chain5", "ring6", "grid9"):
        network = Network.load(name, seed=2)
        said = {each: heard_of(network.status(each)) for each in network.nodes}
        assert list(ignorance(network.file, said)) == []

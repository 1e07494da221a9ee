"""What an update costs does not grow with the network: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qstack.machine import Send
from qstack.messages.network import RouteUpdate
from qstack.network.machine import FromPeer, Network, PeerThere
from tests.network.circuit_lab import Lab, chain
from tests.network.circuit_links import evolve
from tests.network.flood_lab import node_metric
from tests.network.test_network_machine import network

MANY = 60


class Walked(dict[str, Any]):
    """A dictionary that counts how often all of it is looked through."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return super().__iter__()

    def keys(self) -> Any:
        self.walks += 1
        return super().keys()

    def values(self) -> Any:
        self.walks += 1
        return super().values()

    def items(self) -> Any:
        self.walks += 1
        return super().items()


def update(origin: str, sequence: int = 1, trust: int = 0) -> RouteUpdate:
    return RouteUpdate(origin, 5, sequence, 0, node_metric(trust=trust), ())


def crowded() -> tuple[Network, Walked]:
    """A node between two others that has heard of many."""
    node = network()
    for peer in ("bob", "carol"):
        node.handle(PeerThere(peer, 1), 0)
    for number in range(MANY):
        node.handle(FromPeer("bob", update(f"n{number}")), 0)
    assert len(node.flood.database) == MANY + 1, "alice speaks of herself"
    walked = node.flood._held = Walked(node.flood._held)
    return node, walked


def test_an_update_that_comes_looks_through_none_of_the_others() -> None:
    node, walked = crowded()
    for number in range(2 * MANY):  # half of them known, with news, and half of them unknown
        newer = update(f"n{number}", 2, trust=number)
        actions = node.handle(FromPeer("bob", newer), number)
        assert actions == [Send("carol", newer)]
        assert node.deadline is not None
    assert walked.walks == 0


def test_asking_for_the_way_looks_through_the_network_once_after_many_updates() -> None:
    node, walked = crowded()
    for number in range(MANY):
        node.handle(FromPeer("bob", update(f"n{number}", 2, trust=1)), 1)
    assert sorted(node.demand.graph.sites) == sorted(walked)
    before = walked.walks
    assert node.demand.graph is node.demand.graph
    assert walked.walks == before


def test_news_of_others_looks_at_no_circuit_and_news_of_its_nodes_does() -> None:
    lab = Lab(chain(3), 1)
    lab.create("n0", "n3", 1_000)
    lab.run(300)
    node = lab.nodes["n0"]
    assert node.demand._plans
    said = node.flood.database["n2"]
    lab.step("n0", FromPeer("n1", update("far", 1)))  # the first look at a circuit that is ready
    walked = node.flood._held = Walked(node.flood._held)
    lab.step("n0", FromPeer("n1", update("far", 2, trust=3)))
    lab.step("n0", FromPeer("n1", update("further", 1)))
    assert walked.walks == 0
    metric = evolve(said.node, trust=7)
    lab.step("n0", FromPeer("n1", evolve(said, sequence=said.sequence + 1, node=metric)))
    assert walked.walks > 0

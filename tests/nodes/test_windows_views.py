"""What people are shown of a link with windows, against the times of its file, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from qstack_nodes.asking import no_way, on_circuit
from qstack_nodes.viewing import Viewing, show

from qstack.drivers.knowing import heard_of, ignorance
from qstack.sim import Network
from qstack.units import MILLISECOND, SECOND
from tests.nodes.live_rig import NETWORKS

PERIOD_NS, OPEN_NS = 8 * SECOND, 2 * SECOND
SLACK_NS = 5 * MILLISECOND
"""The ends know their station's period by its messages, some of which wait for others."""

lab_sleep = trio.sleep


def loaded(name: str, link: str, folder: Path) -> Network:
    text = (NETWORKS / f"{name}.toml").read_text()
    more = f"[links.{link}.windows]\nperiod_ns = {PERIOD_NS}\nopen_ns = [[0, {OPEN_NS}]]\n"
    file = folder / "hours.toml"
    file.write_text(f"{text}\n{more}")
    return Network.load(str(file), seed=4)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return loaded("two_nodes", "alice-bob", tmp_path)


def at(network: Network, instant: int) -> None:
    async def wait(_: Any) -> None:
        await lab_sleep((instant - network.virtual.heap.now) / 1e9)

    network.run(wait, "alice")


def shown(network: Network, view: str, capsys: pytest.CaptureFixture[str]) -> str:
    show({name: network.status(name) for name in network.nodes}, Viewing(view, (), False))
    return capsys.readouterr().out


def test_status_and_routes_say_how_long_a_link_stays_closed_and_nothing_while_it_is_open(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(network.pairs("alice", "bob", count=20).records) == 20
    for instant, closed in ((SECOND, 0), (3 * SECOND, 5 * SECOND), (6 * SECOND, 2 * SECOND)):
        at(network, instant)
        for name in network.nodes:
            status = network.status(name)
            links = [status["links"]["alice-bob"]["closed_ns"]]
            routes = status["network"]["routes"]
            links += [said["links"]["alice-bob"]["closed_ns"] for said in routes.values()]
            assert len(links) == 3
            assert all(abs(each - closed) <= SLACK_NS for each in links), (instant, name, links)
            assert bool(closed) is all(links)
        words = shown(network, "routes", capsys)
        assert ("closed" in words) is bool(closed)
        assert "DOWN" not in words


def unknown(network: Network) -> list[str]:
    """What nodes lack that the network would be called up, as `qstack up` sees it."""
    said = {each: heard_of(network.status(each)) for each in network.nodes}
    return list(ignorance(network.file, said))


def test_a_station_that_is_missing_while_its_link_is_closed_is_missed_by_all_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It dies at 3 s, before anybody wants it, and begins a new period at 5 s."""
    network = loaded("chain3", "r1-bob", tmp_path)
    (station,) = (link.station for link in network.file.links if link.name == "r1-bob")
    at(network, 3 * SECOND)
    assert unknown(network) == [], "closed, and nobody is missed"
    assert "r1-bob is closed for" in no_way(network.status("alice"), "bob")
    network.virtual.crash(station)
    at(network, 5 * SECOND)
    lost = {
        f"{who} hears from {says} that link r1-bob is down"
        for who in network.nodes
        for says in ("r1", "bob")
    }
    assert set(unknown(network)) == lost
    words = shown(network, "routes", capsys)
    assert "closed" not in words
    assert words.count("DOWN") == 2, "at both its ends"
    assert "r1-bob is down at bob and r1" in no_way(network.status("alice"), "bob")
    network.virtual.start(station)
    at(network, 5 * SECOND + OPEN_NS + SECOND)
    assert unknown(network) == []
    assert "closed for" in shown(network, "routes", capsys), "by the new period of its station"


def test_a_request_that_waits_for_the_morning_on_a_circuit_is_not_given_up() -> None:
    def status(**view: Any) -> dict[str, Any]:
        said = {"up": False, "draining": False} | view
        circuit = {"role": "head", "path": ["a", "r", "b"], "requests": ["x"]}
        routes = {
            "a": {"links": {"ar": {"peer": "r", "up": True, "draining": False}}},
            "r": {"links": {"rb": {"peer": "b"} | said}},
        }
        return {"network": {"routes": routes, "circuits": [circuit]}}

    assert on_circuit(status(closed_ns=SECOND), "b")
    assert not on_circuit(status(closed_ns=0), "b")

"""What people are shown of a link with windows, against the times of its file, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from qstack_nodes.viewing import Viewing, show

from qstack.sim import Network
from qstack.units import MILLISECOND, SECOND
from tests.nodes.live_rig import NETWORKS

PERIOD_NS, OPEN_NS = 8 * SECOND, 2 * SECOND
SLACK_NS = 5 * MILLISECOND
"""The ends know their station's period by its messages, some of which wait for others."""

lab_sleep = trio.sleep


@pytest.fixture
def network(tmp_path: Path) -> Network:
    text = (NETWORKS / "two_nodes.toml").read_text()
    more = f"[links.alice-bob.windows]\nperiod_ns = {PERIOD_NS}\nopen_ns = [[0, {OPEN_NS}]]\n"
    file = tmp_path / "hours.toml"
    file.write_text(f"{text}\n{more}")
    return Network.load(str(file), seed=4)


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

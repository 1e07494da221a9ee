"""A link of a ring goes down: requests go round the other way, and the table shows why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from qstack_nodes.command import DONE, main
from qstack_nodes.viewing import Viewing, show

from qstack.config import load
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode
from qstack.sim import Network
from tests.nodes.live_rig import (
    LIMIT_S,
    Book,
    addresses,
    environment_for,
    on_own_ports,
    plain,
    processes,
    qstack,
    settled,
    views,
)

Printed = pytest.CaptureFixture[str]
lab_sleep = trio.sleep


def way(status: dict[str, Any], remote: str) -> list[str]:
    """The way that a node knows to another, by its status; none: empty."""
    found: list[str] = status["network"]["routes"].get(remote, {}).get("way", [])
    return found


# --- in virtual time ----------------------------------------------------------------------


async def lab_seconds(_: Any) -> None:
    await lab_sleep(0.5)  # longer than any silence after which somebody counts as lost


def test_a_ring_routes_around_a_link_whose_station_died_until_it_is_back(capsys: Printed) -> None:
    network = Network.load("ring6", seed=3)
    link = network.file.link("n1-n2")
    assert way(network.status("n1"), "n3") == ["n1", "n2", "n3"]
    assert {r.info.hops for r in network.pairs("n1", "n3", count=5).records} == {2}

    network.virtual.crash(link.station)
    network.run(lab_seconds, "n1")
    for name in network.nodes:
        assert views(network.status(name), link.name) == {"n1": False, "n2": False}
    around = ["n1", "n6", "n5", "n4", "n3"]
    assert way(network.status("n1"), "n3") == around
    report = network.pairs("n1", "n3", count=5)
    assert {record.info.hops for record in report.records} == {4}
    assert {record.pair.link for record in report.records} == {"n1-n6"}
    # Even to the neighbour beyond the dead station, once the former circuit gave up its qubits.
    network.run(lab_seconds, "n1")
    report = network.pairs("n1", "n2", count=3)
    assert {record.info.hops for record in report.records} == {5}

    show({"n4": network.status("n4")}, Viewing("routes", (), False))
    rows = [line for line in capsys.readouterr().out.splitlines() if "n1-n2" in line]
    assert len(rows) == 2
    assert all("DOWN" in row for row in rows)

    network.virtual.start(link.station)
    network.run(lab_seconds, "n1")
    assert way(network.status("n1"), "n3") == ["n1", "n2", "n3"]
    assert {r.info.hops for r in network.pairs("n1", "n3", count=5).records} == {2}


# --- live ---------------------------------------------------------------------------------


async def goes(node: LiveNode, remote: str, expected: list[str]) -> None:
    """Return when this is a node's way to another.

    Delays are measured, and for a moment a busy computer may make two links look the faster way.
    """
    while way(await node.status(), remote) != expected:
        pass


async def around_a_triangle(file: Path, environment: dict[str, str]) -> None:
    (link,) = [each for each in load(file).links if {a.node for a in each.arms} == {"n1", "n2"}]
    others = {each.name: True for each in load(file).links if each.name != link.name}
    names = [name for name in addresses(file) if not name.endswith(".user")]
    with trio.fail_after(2 * LIMIT_S):
        async with processes(file, names, environment) as children:
            async with connect(str(file), "n1", "n2", timeout_s=LIMIT_S) as (one, two):
                await settled(one, {link.name: True, **others})
                await goes(one, "n2", ["n1", "n2"])
                children[link.station].popen.kill()
                await settled(one, {link.name: False, **others})
                await goes(one, "n2", ["n1", "n3", "n2"])
                async with trio.open_nursery() as nursery:
                    mine, theirs = Book(one), Book(two)
                    await nursery.start(theirs.receive)
                    await mine.fulfil(await one.create_keep(plain("n2", 5)))
                    await theirs.reaches(5)
                    assert sorted(map(str, mine.ids)) == sorted(map(str, theirs.ids))
                    nursery.cancel_scope.cancel()
            words = ("routes", "--json", "--network", str(file))
            result = await trio.to_thread.run_sync(qstack, words, environment)
    assert result.returncode == DONE, result.stderr
    *nodes, _ = map(json.loads, result.stdout.splitlines())
    for each in nodes:
        assert views({"network": each}, link.name) == {"n1": False, "n2": False}


def test_live_a_dead_station_is_routed_around_and_the_command_shows_it(
    tmp_path: Path, capsys: Printed
) -> None:
    assert main(["topology", "ring", "--nodes", "3", "--name", "triangle"]) == DONE
    file = on_own_ports(capsys.readouterr().out, tmp_path)
    trio.run(around_a_triangle, file, environment_for(tmp_path))

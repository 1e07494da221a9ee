"""Pairs between the ends of a chain whose repeaters and stations die: live and in virtual time."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from qstack_nodes.command import DONE, UNREACHABLE
from qstack_nodes.launcher import NotReady
from qstack_nodes.running import all_known

from qstack.config import load
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode
from qstack.sim import Network
from tests.nodes.chain_story import PAIRS, VICTIMS, Ending, programs, story
from tests.nodes.live_rig import (
    LIMIT_S,
    NETWORKS,
    Child,
    addresses,
    alive,
    child_called,
    children_of,
    environment_for,
    nobody_has,
    on_own_ports,
    processes,
    qstack,
    up,
)

lab_sleep = trio.sleep
"""In virtual time nobody really waits."""

STEP_S = 0.005
"""Of lab time, between two looks at a virtual network."""


@attrs.define(eq=False)
class VirtualStage:
    """The hosts of a network on a heap; a killed one is dead for as long as `dead_s` of lab time.

    That is longer than the silence after which its neighbours notice.
    """

    network: Network
    dead_s: float

    async def kill(self, name: str) -> None:
        self.network.virtual.crash(name)

    async def back(self, name: str) -> None:
        await lab_sleep(self.dead_s)
        self.network.virtual.start(name)
        while not all(each["up"] for each in self.network.status(name)["neighbours"].values()):
            await self.wait()

    async def status(self, name: str) -> dict[str, Any]:
        return self.network.status(name)

    async def wait(self) -> None:
        await lab_sleep(STEP_S)


@attrs.define(eq=False)
class LiveStage:
    """The processes of ``qstack up``, which starts again what dies."""

    network: Child
    file: Path

    async def kill(self, name: str) -> None:
        os.kill(child_called(self.network.popen.pid, name), signal.SIGKILL)

    async def back(self, name: str) -> None:
        linked = False
        while not linked:
            line = json.loads(await self.network.until(lambda line: '"linked"' in line))
            linked = line["name"] == name

    async def status(self, name: str) -> dict[str, Any]:
        async with connect(str(self.file), name, timeout_s=LIMIT_S) as (node,):
            return await node.status()

    async def wait(self) -> None:
        await self.status("alice")  # a round trip, which takes its time


# --- in virtual time ----------------------------------------------------------------------


def played(seed: int, dead_s: float) -> list[Ending]:
    """Play the story on a heap, within a day of lab time."""
    network = Network(load("chain5"), seed)

    async def program(alice: LiveNode, bob: LiveNode) -> list[Ending]:
        one, other = programs(alice, bob)
        async with trio.open_nursery() as nursery:
            await nursery.start(other.receive)
            found = await story(VirtualStage(network, dead_s), one, other)
            nursery.cancel_scope.cancel()
        return found

    return network.run(program, "alice", "bob", patience_s=20.0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dead_s", [0.001, 0.15], ids=["unnoticed", "noticed"])
def test_in_virtual_time_a_chain_outlives_its_repeaters_and_stations(
    seed: int, dead_s: float
) -> None:
    """A repeater that dies ends what runs over it, with its name; a station ends nothing.

    A request of which no pair has come begins anew once the repeater is back.
    """
    repeater, station = played(seed, dead_s)
    assert VICTIMS == ("r2", "s2")
    assert "r2" in repeater.reason or (repeater.reason, repeater.delivered) == ("", PAIRS)
    assert station.reason == ""


# --- live ---------------------------------------------------------------------------------


async def lived(file: Path, environment: dict[str, str]) -> list[int]:
    """Play the story with ten processes; return the ids of all that ran."""
    with trio.fail_after(4 * LIMIT_S):
        async with up(file, environment) as network:
            pids = children_of(network.popen.pid)
            assert len(pids) == 10
            # As in another terminal: the network that is up need not be named.
            words = ("pairs", "alice", "bob", "--count", "10", "--fidelity-min", "0.7", "--json")
            result = await trio.to_thread.run_sync(qstack, words, environment)
            assert result.returncode == DONE, result.stderr
            expect_pairs_over_four_links([json.loads(line) for line in result.stdout.splitlines()])
            async with (
                connect(str(file), "alice", "bob", timeout_s=LIMIT_S) as (alice, bob),
                trio.open_nursery() as nursery,
            ):
                stage = LiveStage(network, file)
                one, other = programs(alice, bob)
                await nursery.start(other.receive)
                await story(stage, one, other)
                nursery.cancel_scope.cancel()
            return pids + children_of(network.popen.pid)


def expect_pairs_over_four_links(lines: list[dict[str, Any]]) -> None:
    """What `qstack pairs --json` said: ten pairs, each with all that is known of it."""
    *pairs, last = lines
    assert len({pair["pair"] for pair in pairs}) == len(pairs) == 10
    for pair in pairs:
        assert pair["pair"].startswith("alice-r1.")
        assert pair["hops"] == 4
        assert pair["bell_index"] == ["Phi+", "Phi-", "Psi+", "Psi-"].index(pair["bell"])
        assert 0 < pair["goodness_low"] < pair["goodness"] < 1
        assert pair["age_ns"] > 0
    summary = last["summary"]
    assert summary["delivered"] == [10, 10]
    assert summary["hops"] == {"4": 10}
    assert summary["promised_fidelity"] >= 0.7
    assert summary["rate_hz"] < summary["predicted_rate_hz"]


async def without(missing: str, file: Path, environment: dict[str, str]) -> Any:
    """Ask for pairs between the ends of a chain of three of which one party is not started."""
    names = [n for n in addresses(file) if n != missing and not n.endswith(".user")]
    words = ("pairs", "alice", "bob", "--count", "5", "--json", "--network", str(file))
    with trio.fail_after(4 * LIMIT_S):
        async with processes(file, names, environment) as children:
            await children["alice"].until(lambda line: line.startswith("linked "))
            with pytest.raises(NotReady, match=r"r1-bob is down|has not heard of .*bob"):
                await all_known(load(file), 1.0)
            return await trio.to_thread.run_sync(qstack, words, environment)


def test_a_node_that_no_way_leads_to_is_told_in_one_line_with_the_links_that_are_down(
    tmp_path: Path,
) -> None:
    file = on_own_ports((NETWORKS / "chain3.toml").read_text(), tmp_path)
    result = trio.run(without, "s2", file, environment_for(tmp_path))
    assert result.returncode == UNREACHABLE
    (line,) = result.stderr.strip().splitlines()
    assert "alice has found no way to bob" in line
    assert "r1-bob is down" in line or "nothing was heard of bob" in line
    assert "qstack check" in line


def test_ten_live_processes_tell_the_same_story(tmp_path: Path) -> None:
    file = on_own_ports((NETWORKS / "chain5.toml").read_text(), tmp_path)
    pids = trio.run(lived, file, environment_for(tmp_path))
    assert not alive(pids)
    assert nobody_has(file)

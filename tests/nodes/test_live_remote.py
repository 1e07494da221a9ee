"""Two nodes whose hardware is another process's: it is late, drops, restarts, and is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from qstack.drivers.client import connect
from tests.hal.benches import EXAMPLE
from tests.nodes.live_rig import (
    LIMIT_S,
    QSTACK,
    Book,
    Child,
    children_of,
    environment_for,
    on_own_ports,
    plain,
    qstack,
    up,
)

BENCH = EXAMPLE.with_name("emulated_bench.toml")
RESTART_AFTER = 40
PAIRS = 60


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_for(tmp_path)


def bench_file(folder: Path, **changes: str) -> Path:
    """The example's network, on ports of its own."""
    text = BENCH.read_text().replace("{folder}", str(EXAMPLE.parent))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return on_own_ports(text, folder)


def the_bench(pid: int) -> int:
    """The child of a running `qstack up` that is the emulated bench."""
    for child in children_of(pid):
        if b"emulated_fpga.py" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    raise LookupError(f"no child of {pid} is the bench")


async def slots_are_free(book: Book) -> None:
    """Return when every slot of the node is free again."""
    while True:
        slots = (await book.node.status())["slots"]
        if slots["communication_free"] == slots["communication"] == 2 and not slots["held"]:
            return


async def kill(network: Child, book: Book, at: int) -> None:
    """Kill the bench as kill -9 does, after so many pairs, and wait until it is back."""
    await book.reaches(at)
    os.kill(the_bench(network.popen.pid), signal.SIGKILL)
    await network.until(lambda line: '"ended"' in line and '"bench"' in line)
    await network.until(lambda line: '"linked"' in line and '"bench"' in line)


async def test_pairs_come_although_the_bench_is_late_drops_restarts_and_is_killed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    file = bench_file(tmp_path)
    with trio.fail_after(LIMIT_S):
        async with (
            up(file, environment) as network,
            connect(str(file), "alice", "bob", "midpoint", timeout_s=LIMIT_S) as nodes,
            trio.open_nursery() as nursery,
        ):
            one, other = Book(nodes[0]), Book(nodes[1])
            await nursery.start(other.receive)
            # Its own restarts first: more pairs than there are reports between two of them.
            await one.fulfil(await one.node.create_keep(plain("bob", PAIRS)))
            station = (await nodes[2].status())["links"]["alice-bob"]["physical"]
            assert station["faults"] >= PAIRS // RESTART_AFTER
            # Then it is killed under a request, which goes on when it is back.
            async with trio.open_nursery() as inner:
                inner.start_soon(kill, network, one, PAIRS + 10)
                await one.fulfil(await one.node.create_keep(plain("bob", PAIRS)))
            await other.reaches(2 * PAIRS)
            await slots_are_free(one)
            await slots_are_free(other)
            assert one.valid == other.valid
            assert len(set(one.valid)) == len(one.valid) >= 2 * PAIRS
            nursery.cancel_scope.cancel()


async def test_a_bench_that_is_started_elsewhere_is_waited_for(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    line = next(each for each in BENCH.read_text().splitlines() if each.startswith("command"))
    line = line.replace("{folder}", str(EXAMPLE.parent))
    file = bench_file(tmp_path, **{line: 'started = "elsewhere"'})
    refused = qstack(("node", str(file), "bench"), environment)
    assert refused.returncode == 2
    assert "hosts.bench: it is started elsewhere" in refused.stderr
    words = (sys.executable, str(EXAMPLE), "--network", str(file), "--name", "bench", "--watched")
    children: list[Child] = []
    try:
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                network = Child((*QSTACK, "up", str(file), "--json"), environment)
                children.append(network)
                nursery.start_soon(network.follow)
                waits = await network.until(lambda line: '"waits"' in line)
                assert '"bench"' in waits
                bench = Child(words, environment)
                children.append(bench)
                nursery.start_soon(bench.follow)
                await network.until(lambda line: '"event": "up"' in line)
                assert '"bench"' not in network.lines[-1]
                # What others started, others stop.
                network.close()
                assert bench.popen.poll() is None
                nursery.cancel_scope.cancel()
    finally:
        for child in children:
            child.close()

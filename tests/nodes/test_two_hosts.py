"""``two_hosts`` on two machines: network namespaces with a cable between them.

They need a privileged user on Linux. Where they cannot be made there is no place to run the test
in, and pytest says so.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from qstack.config import host_and_port, load
from tests.nodes.live_rig import LIMIT_S, QSTACK, ROOT, Child, environment_for

WEST, EAST = "192.0.2.1", "192.0.2.2"


def ip(*words: str) -> bool:
    """Run the command ip; return whether there is one that does as it is told."""
    try:
        done = subprocess.run(("ip", *words), capture_output=True, check=False, timeout=LIMIT_S)
    except OSError:
        return False
    return done.returncode == 0


@contextmanager
def two_machines() -> Iterator[tuple[str, str] | None]:
    """Two namespaces, west and east, joined by a cable; None where they cannot be made."""
    names = tuple(f"q{os.getpid()}{side}" for side in ("w", "e"))
    west, east = names
    try:
        made = ip("netns", "add", west) and ip("netns", "add", east)
        cable = (west, "type", "veth", "peer", "name", east, "netns", east)
        made = made and ip("link", "add", "netns", west, "name", *cable)
        for name, address in zip(names, (WEST, EAST), strict=True):
            here = ("-n", name)
            made = made and ip(*here, "addr", "add", f"{address}/30", "dev", name)
            made = made and ip(*here, "link", "set", name, "up")
            made = made and ip(*here, "link", "set", "lo", "up")
        yield (west, east) if made else None
    finally:
        for name in names:
            ip("netns", "del", name)


def places() -> list[str]:
    """Where the test can run."""
    with two_machines() as found:
        return [] if found is None else ["namespaces"]


async def play(west: str, east: str, environment: dict[str, str]) -> tuple[list[str], list[str]]:
    """Start the network's two parts, the eastern one last; ask in the west for pairs."""
    asked = ("pairs", "alice", "bob", "--count", "20", "--fidelity-min", "0.7", "--json")
    part = "world,alice,west,r1"
    first = ("ip", "netns", "exec", west, *QSTACK, "up", "two_hosts", "--only", part, "--")
    second = ("ip", "netns", "exec", east, *QSTACK, "up", "two_hosts", "--only", "bob,east")
    near = Child((*first, *QSTACK, *asked), environment)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.follow)
            far = Child((*second, "--json"), environment)
            nursery.start_soon(far.follow)
            try:
                await near.until(lambda line: '"summary"' in line)
                await trio.to_thread.run_sync(near.popen.wait)
            finally:
                far.close()
            nursery.cancel_scope.cancel()
    finally:
        near.close()
    assert near.popen.returncode == 0
    return near.lines, far.lines


@pytest.mark.parametrize("place", places())
def test_two_machines_deliver_pairs_between_their_ends_over_a_repeater(
    place: str, tmp_path: Path
) -> None:
    with two_machines() as found:
        assert found is not None, place

        async def limited() -> tuple[list[str], list[str]]:
            with trio.fail_after(2 * LIMIT_S):
                return await play(*found, environment_for(tmp_path))

        near, far = trio.run(limited)
    *pairs, last = map(json.loads, near)
    assert last["summary"]["delivered"] == [20, 20]
    assert last["summary"]["error"] == ""
    assert {pair["hops"] for pair in pairs} == {2}
    waits = [json.loads(line)["name"] for line in far if '"waits"' in line]
    assert set(waits) == {"world", "alice", "west", "r1"}


def test_each_end_is_on_the_machine_of_its_station() -> None:
    network = load("two_hosts")
    hosts = {node.name: host_and_port(node.address)[0] for node in network.nodes}
    assert hosts == {"alice": WEST, "west": WEST, "r1": WEST, "bob": EAST, "east": EAST}
    assert (ROOT / "docs/how-to/run-on-two-machines.md").is_file()

"""A sealed network, live: pairs with the right keys, nothing and no harm with a wrong one."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest
import trio

from qstack.drivers.client import connect
from tests.nodes.live_rig import LIMIT_S, Book, Child, environment_for, plain, two_nodes, up

pytest.importorskip("cryptography")

PAIRS = 30
CALLS = 10
PARTIES = ("alice", "bob", "midpoint", "world")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_for(tmp_path)


def sealed(folder: Path) -> Path:
    """Two nodes on ports of their own, with a key for each pair of parties."""
    file = two_nodes(folder)
    file.write_text('keys = {cipher = "aes-gcm", folder = "secret"}\n' + file.read_text())
    (folder / "secret").mkdir()
    for place, one in enumerate(PARTIES):
        for other in PARTIES[place + 1 :]:
            key = folder / "secret" / f"{one}--{other}.key"
            key.write_text(secrets.token_hex(32) + "\n")
    return file


async def test_pairs_come_over_a_sealed_network(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    file = sealed(tmp_path)
    with trio.fail_after(LIMIT_S):
        async with (
            up(file, environment),
            connect(str(file), "alice", "bob", timeout_s=LIMIT_S) as (alice, bob),
            trio.open_nursery() as nursery,
        ):
            one, other = Book(alice), Book(bob)
            await nursery.start(other.receive)
            await one.fulfil(await alice.create_keep(plain("bob", PAIRS)))
            await other.reaches(PAIRS)
            assert one.valid == other.valid
            nursery.cancel_scope.cancel()


async def test_a_node_with_a_wrong_key_is_kept_out_and_everybody_stays_up(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    file = sealed(tmp_path)
    # Alice's copy has another key for bob, and the right ones for all others.
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "two.toml").write_text(file.read_text())
    (copy / "secret").mkdir()
    for key in (tmp_path / "secret").iterdir():
        wrong = key.name == "alice--bob.key"
        text = secrets.token_hex(32) if wrong else key.read_text()
        (copy / "secret" / key.name).write_text(text)
    node = (sys.executable, "-m", "qstack_nodes.command", "node")
    commands = [
        (*node, str(copy / "two.toml"), "alice", "--watched"),
        (*node, str(file), "bob", "--watched"),
        (*node, str(file), "midpoint", "--watched"),
    ]
    children = [Child(command, environment) for command in commands]
    try:
        with trio.fail_after(LIMIT_S):
            async with connect(str(file), "alice", "bob", timeout_s=LIMIT_S) as nodes:
                for node_ in nodes:
                    name = "bob" if node_.name == "alice" else "alice"
                    while True:
                        seen = (await node_.status())["neighbours"]
                        if seen[name]["hellos"] >= CALLS and seen["midpoint"]["up"]:
                            break
                    # It called and called, and nothing of what came back was let in.
                    assert not seen[name]["up"]
                    assert seen[name]["received"] == 0
            assert all(child.popen.poll() is None for child in children)
    finally:
        for child in children:
            child.close()

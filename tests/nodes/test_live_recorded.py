"""Recorded tags of two ends, live: a process plays them, two nodes get the pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trio

from qstack.drivers.client import connect
from qstack.messages.common import PLAIN_Z
from tests.hal.benches import EXAMPLE
from tests.nodes.live_rig import LIMIT_S, Book, environment_for, on_own_ports, plain, up

NETWORK = EXAMPLE.with_name("recorded_source.toml")
PAIRS = 100
EVERY_PS = 5_000_000_000
LEARN = 200


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_for(tmp_path)


def record(folder: Path) -> None:
    """A click of the first end each 5 ms; every second one has a partner 75 ns earlier."""
    first = EVERY_PS * np.arange(1, 20_001, dtype=np.int64)
    lone = first[1::2] + 400_000_000
    second = np.sort(np.concatenate([first[::2] - 75_000, lone]))
    np.savez(folder / "tags.npz", a=first, b=second)


async def test_a_live_network_gets_the_pairs_of_a_recording_and_nothing_else(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    record(tmp_path)
    text = NETWORK.read_text()
    for old, new in (
        ("{folder}/recorded_source.py", str(EXAMPLE.with_name("recorded_source.py"))),
        ('"--watched"', f'"--watched", "--learn", "{LEARN}"'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    file = on_own_ports(text, tmp_path)
    with trio.fail_after(LIMIT_S):
        async with (
            up(file, environment),
            connect(str(file), "alice", "bob", timeout_s=LIMIT_S) as (alice, bob),
            trio.open_nursery() as nursery,
        ):
            one, other = Book(alice), Book(bob)
            await nursery.start(other.receive)
            asked = alice.now()
            await one.fulfil(await alice.create_measure(plain("bob", PAIRS), PLAIN_Z, PLAIN_Z))
            lasted_ps = (alice.now() - asked) * 1_000
            await other.reaches(PAIRS)
            nursery.cancel_scope.cancel()
    assert one.valid == other.valid
    assert len(set(one.valid)) == PAIRS
    # Every second click has a partner: had lone ones counted, half the time would have done.
    assert lasted_ps > 2 * EVERY_PS * (PAIRS - 1)

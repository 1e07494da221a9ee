"""Nodes, stations and the world die in the middle of their work, and come back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from qstack_nodes.asking import CONNECT_S, CONTACT_S, WATCH_S

from qstack.adjacency.service import SILENT_INTERVALS
from qstack.application.service import Delivery
from qstack.config import load
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode, Unreachable
from qstack.errors import RequestFailed
from qstack.messages.application import PairReady
from qstack.messages.common import PLAIN_Z, PairId, Qubit
from qstack.units import SECOND
from tests.nodes.live_rig import (
    LIMIT_S,
    Book,
    Child,
    addresses,
    alive,
    child_called,
    children_of,
    environment_for,
    nobody_has,
    plain,
    processes,
    qstack,
    settled,
    two_nodes,
    up,
)

PAIRS = 60
KILL_AT = (20, 75, 130)
"""After so many pairs the victim dies: in the first, second and third request of its round."""


def all_but_void(one: Book, other: Book) -> tuple[list[PairId], list[PairId]]:
    """What both programs were told, in order, without what expired at either end."""
    void = one.void | other.void
    return (
        [pair for pair in one.ids if pair not in void],
        [pair for pair in other.ids if pair not in void],
    )


async def agreed(one: Book, other: Book) -> None:
    """Return when both programs know the same pairs; what is on its way must come, or expire."""
    while True:
        mine, theirs = all_but_void(one, other)
        if mine == theirs:
            return
        async with trio.open_nursery() as nursery:
            for changed in (one.changed, other.changed):
                nursery.start_soon(_first_of, changed, nursery.cancel_scope)


async def _first_of(changed: trio.Event, scope: trio.CancelScope) -> None:
    await changed.wait()
    scope.cancel()


async def receive_until_lost(book: Book, *, task_status: trio.TaskStatus[None]) -> None:
    """Take what others ask for until the node is lost."""
    try:
        await book.receive(task_status=task_status)
    except Unreachable as error:
        assert book.node.name in str(error)  # noqa: PT017  who is lost is the point


async def linked_again(network: Child, victim: str) -> None:
    """Return when the victim has died, was started again and all reach each other."""
    await network.until(lambda line: '"ended"' in line and f'"{victim}"' in line)
    expected = {"alice", "bob", "midpoint", "world"}
    while expected:
        line = await network.until(lambda line: '"linked"' in line)
        expected -= {name for name in expected if f'"{name}"' in line}


async def kill_at(count: int, book: Book, network: Child, victim: str) -> None:
    """Kill a process as kill -9 does when so many pairs have been delivered."""
    await book.reaches(count)
    os.kill(child_called(network.popen.pid, victim), signal.SIGKILL)


@asynccontextmanager
async def books(file: Path) -> AsyncIterator[tuple[Book, Book]]:
    """A program at each end; bob's takes what alice's asks for."""
    async with (
        connect(str(file), "alice", "bob", timeout_s=LIMIT_S) as (alice, bob),
        trio.open_nursery() as nursery,
    ):
        one, other = Book(alice), Book(bob)
        await nursery.start(receive_until_lost, other)
        yield one, other
        nursery.cancel_scope.cancel()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return two_nodes(tmp_path)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_for(tmp_path)


def test_an_expiry_can_follow_for_longer_than_a_dead_peer_goes_unnoticed(file: Path) -> None:
    """Otherwise what a killed node never reported would stay valid at the other end."""
    network = load(str(file))
    unnoticed_ns = SILENT_INTERVALS * network.control.keepalive_ns * network.time_scale
    for link in network.links:
        assert link.horizon_ns > unnoticed_ns


async def test_no_kill_of_a_station_or_of_the_world_costs_a_request(
    file: Path, environment: dict[str, str]
) -> None:
    """Killed twice each in the middle of a request: it goes on when they are back."""
    with trio.fail_after(LIMIT_S):
        async with up(file, environment) as network:
            pids = children_of(network.popen.pid)
            async with books(file) as (one, other):
                for victim in ("midpoint", "world", "midpoint", "world"):
                    done = len(one.valid)
                    async with trio.open_nursery() as nursery:
                        count = len(one.ids) + KILL_AT[0]
                        nursery.start_soon(kill_at, count, one, network, victim)
                        nursery.start_soon(linked_again, network, victim)
                        await one.fulfil(await one.node.create_keep(plain("bob", PAIRS)))
                    await agreed(one, other)
                    assert len(one.valid) == len(other.valid) == done + PAIRS
                    assert one.valid == other.valid
            pids += children_of(network.popen.pid)
        assert not alive(pids)
    assert nobody_has(file)


@pytest.mark.parametrize("victim", ["alice", "bob"])
async def test_a_killed_node_ends_what_was_shared_with_it_and_serves_again(
    victim: str, file: Path, environment: dict[str, str]
) -> None:
    """Three times, each a little later; both ends know the same pairs but for what expired."""
    with trio.fail_after(LIMIT_S):
        async with up(file, environment) as network:
            pids = children_of(network.popen.pid)
            for count in KILL_AT:
                async with books(file) as (one, other):
                    asked = 0
                    with pytest.RaisesGroup(
                        pytest.RaisesExc((RequestFailed, Unreachable), match=victim),
                        allow_unwrapped=True,
                        flatten_subgroups=True,
                    ):
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(kill_at, count, one, network, victim)
                            while True:
                                request = await one.node.create_keep(plain("bob", PAIRS))
                                asked += 1
                                await one.fulfil(request)
                    # No node is further ahead of its program than its four memories allow.
                    assert asked == count // PAIRS + 1
                    await agreed(one, other)
                    mine, theirs = all_but_void(one, other)
                    assert mine == theirs
                await linked_again(network, victim)
            async with books(file) as (one, other):
                await one.fulfil(await one.node.create_keep(plain("bob", PAIRS)))
                await agreed(one, other)
                assert len(one.valid) == PAIRS
            pids += children_of(network.popen.pid)
        assert not alive(pids)
    assert nobody_has(file)


async def hold(node: LiveNode, deliveries: AsyncIterator[Delivery], count: int) -> list[Qubit]:
    """Take so many halves and keep them."""
    held: list[Qubit] = []
    async for delivery in deliveries:
        assert isinstance(delivery, PairReady), node.name
        held.append(delivery.qubit)
        if len(held) == count:
            break
    return held


async def test_a_dead_world_is_an_error_with_its_reason_until_it_is_back(
    file: Path, environment: dict[str, str]
) -> None:
    """Qubits are gone for good; a request waits, and is served when the world is back."""
    names = ("world", "midpoint", "alice", "bob")
    with trio.fail_after(LIMIT_S):
        async with (
            processes(file, names, environment) as children,
            books(file) as (one, other),
        ):
            alice = one.node
            await settled(alice, {"alice-bob": True})
            request = await alice.create_keep(plain("bob", 2))
            first, second = await hold(alice, request, 2)
            children["world"].popen.kill()
            await children["alice"].until(lambda line: line.startswith("lost alice world"))
            with pytest.raises(RequestFailed, match="world"):
                await alice.measure(first, PLAIN_Z)
            with pytest.raises(RequestFailed, match="TIMEOUT"):
                await one.fulfil(await alice.create_keep(plain("bob", 1, SECOND // 2)))
            waiting = await alice.create_keep(plain("bob", PAIRS))
            command = (sys.executable, "-m", "qstack.sim", str(file), "--watched")
            children["world"].close()
            children["world"] = Child(command, environment)
            await one.fulfil(waiting)
            await agreed_on(one, other, PAIRS)
            with pytest.raises(RequestFailed, match=r"alice\.memory"):
                await alice.measure(second, PLAIN_Z)
            status = await alice.status()
            assert status["slots"]["held"] == {}


async def agreed_on(one: Book, other: Book, count: int) -> None:
    """Return when bob's program has this many pairs and the last of them are alice's."""
    while other.valid[-count:] != one.valid[-count:]:
        changed = other.changed
        await changed.wait()
    assert len(one.valid) == count


@pytest.mark.parametrize("missing", ["world", "midpoint", "bob"])
async def test_who_is_missing_is_named_in_one_line_within_five_seconds(
    missing: str, file: Path, environment: dict[str, str]
) -> None:
    """Who, where, and what to do."""
    names = [name for name in ("world", "midpoint", "alice", "bob") if name != missing]
    words = ("pairs", "alice", "bob", "--count", "5", "--json", "--network", str(file))
    # The waiting, that is; how long an interpreter takes to start is the computer's affair.
    assert max(CONNECT_S, CONTACT_S + 2 * WATCH_S) < 4
    with trio.fail_after(LIMIT_S):
        async with processes(file, names, environment):
            result = await trio.to_thread.run_sync(qstack, words, environment)
    assert result.returncode == 3
    (line,) = result.stderr.strip().splitlines()
    place = addresses(file)["bob.user" if missing == "bob" else missing]
    assert f"{missing} at 127.0.0.1:{place[1]}" in line
    assert "qstack check" in line

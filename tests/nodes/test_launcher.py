"""Children of the launcher: tiny programs in the place of network processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
from qstack_nodes.launcher import (
    RESTARTS,
    STOP_S,
    ChildDied,
    Complaint,
    Ended,
    Happening,
    Launcher,
    Linked,
    Lost,
    NotReady,
    Plan,
    Ready,
    launched,
)

LIMIT_S = 60

OBEDIENT = "import sys; print('ready x peer=1', flush=True); print('linked x', flush=True); "
UNTIL_CLOSED = OBEDIENT + "sys.stdin.read()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + OBEDIENT + "signal.pause()"
)
BROKEN = "import sys; print('first', file=sys.stderr); sys.exit('no such port')"
SILENT = "import sys; sys.stdin.read()"


def child(name: str, program: str) -> Plan:
    return Plan(name, (sys.executable, "-c", program))


class Ear:
    """Remembers what the launcher tells."""

    def __init__(self) -> None:
        self.heard: list[Happening] = []
        self._changed = trio.Event()

    def tell(self, happening: Happening) -> None:
        self.heard.append(happening)
        self._changed.set()
        self._changed = trio.Event()

    def of(self, kind: type[Happening]) -> list[Happening]:
        return [happening for happening in self.heard if isinstance(happening, kind)]

    async def until(self, kind: type[Happening], count: int = 1) -> None:
        while len(self.of(kind)) < count:
            changed = self._changed
            await changed.wait()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until_gone(pid: int) -> None:
    """Return when a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], LIMIT_S)
        assert ready, f"process {pid} still runs"
    finally:
        os.close(descriptor)


async def test_children_are_ready_and_linked_and_then_stopped() -> None:
    ear = Ear()
    with trio.fail_after(LIMIT_S):
        async with launched([child("a", UNTIL_CLOSED), child("b", UNTIL_CLOSED)], ear.tell) as all_:
            await all_.wait_ready(LIMIT_S)
            await all_.wait_linked(LIMIT_S)
            pids = [all_.pid("a"), all_.pid("b")]
            assert all(map(is_alive, pids))
    assert {happening.name for happening in ear.of(Ready)} == {"a", "b"}
    assert {happening.name for happening in ear.of(Linked)} == {"a", "b"}
    assert not any(map(is_alive, pids))
    assert ear.of(Ended) == []


async def test_a_child_that_dies_before_it_is_ready_is_reported_by_name_at_once() -> None:
    ear = Ear()
    plans = [child("alice", SILENT), child("bob", BROKEN)]
    with trio.fail_after(LIMIT_S), pytest.RaisesGroup(ChildDied, flatten_subgroups=True) as caught:
        async with launched(plans, ear.tell) as all_:
            # Far longer than the test may take: the death must end the wait.
            await all_.wait_ready(10 * LIMIT_S)
    (error,) = caught.value.exceptions
    text = str(error)
    assert "bob" in text
    assert "exit code 1" in text
    assert text.index("first") < text.index("no such port")
    assert ear.of(Complaint) == [Complaint("bob", "first"), Complaint("bob", "no such port")]


async def test_children_that_are_late_are_named() -> None:
    plans = [child("alice", SILENT), child("bob", UNTIL_CLOSED)]
    ear = Ear()
    with trio.fail_after(LIMIT_S), pytest.RaisesGroup(NotReady, flatten_subgroups=True) as caught:
        async with launched(plans, ear.tell) as all_:
            await ear.until(Ready)
            await all_.wait_ready(0.0)
    text = str(caught.value.exceptions[0])
    assert text.startswith("alice:")
    assert "bob" not in text


async def test_a_child_that_ignores_the_order_to_stop_is_killed() -> None:
    ear = Ear()
    with trio.fail_after(LIMIT_S):
        async with launched([child("a", STUBBORN)], ear.tell) as all_:
            await all_.wait_ready(LIMIT_S)
            pid = all_.pid("a")
            began = trio.current_time()
    assert not is_alive(pid)
    assert trio.current_time() - began >= STOP_S


async def test_a_killed_child_is_started_again() -> None:
    ear = Ear()
    with trio.fail_after(LIMIT_S):
        async with (
            trio.open_nursery() as nursery,
            launched([child("a", UNTIL_CLOSED)], ear.tell) as all_,
        ):
            await all_.wait_linked(LIMIT_S)
            first = all_.pid("a")
            nursery.start_soon(all_.supervise)
            os.kill(first, signal.SIGKILL)
            await ear.until(Ready, 2)
            assert all_.pid("a") != first
            nursery.cancel_scope.cancel()
    assert ear.of(Ended) == [Ended("a", -signal.SIGKILL, ())]


async def test_a_child_that_keeps_dying_is_given_up() -> None:
    async def supervise(all_: Launcher) -> None:
        await all_.supervise()

    ear = Ear()
    dies = child("a", "print('ready a', flush=True)")
    with trio.fail_after(LIMIT_S), pytest.RaisesGroup(ChildDied, flatten_subgroups=True):
        async with launched([dies], ear.tell) as all_:
            await supervise(all_)
    assert len(ear.of(Ended)) == RESTARTS + 1


async def test_a_lost_peer_is_told_and_the_child_is_no_longer_linked() -> None:
    program = OBEDIENT + "print('lost x bob: silence', flush=True); sys.stdin.read()"
    ear = Ear()
    with trio.fail_after(LIMIT_S), pytest.RaisesGroup(NotReady, flatten_subgroups=True):
        async with launched([child("x", program)], ear.tell) as all_:
            await ear.until(Lost)
            await all_.wait_linked(0.0)
    assert ear.of(Lost) == [Lost("x", "bob: silence")]


# --- the launcher's own end, from outside -------------------------------------------------

LAUNCHER = textwrap.dedent(
    """
    import signal, sys, trio
    from qstack_nodes.launcher import Plan, launched

    async def main(program):
        plans = [Plan(name, (sys.executable, "-c", program)) for name in ("a", "b")]
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with launched(plans, lambda happening: None) as launcher:
                await launcher.wait_ready(60)
                print(launcher.pid("a"), launcher.pid("b"), flush=True)
                async for _ in signals:
                    return

    trio.run(main, sys.argv[1])
    """
)


def launch(program: str) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        (sys.executable, "-c", LAUNCHER, program),
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    return process, pids


@pytest.mark.parametrize("program", [UNTIL_CLOSED, STUBBORN])
def test_a_launcher_that_is_told_to_stop_leaves_no_child(program: str) -> None:
    process, pids = launch(program)
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    assert not any(map(is_alive, pids))
    assert process.stdout is not None
    process.stdout.close()


def test_a_launcher_that_is_killed_takes_its_children_along() -> None:
    process, pids = launch(UNTIL_CLOSED)
    process.kill()
    process.wait(LIMIT_S)
    for pid in pids:
        until_gone(pid)
    assert process.stdout is not None
    process.stdout.close()

"""The loop that waits for descriptors itself, with trio as its guest, and a pump in it."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from qstack.drivers.devices import Emit, LocalDevices
from qstack.drivers.loop import Loop
from qstack.drivers.timer import ScopeTimer
from qstack.machine import Arrived, Drained, FromDevice, Tick
from qstack.messages.devices import Completed
from tests.drivers.hosts import EchoHost, PureMemory
from tests.drivers.test_pump import Bench, bench

LIMIT_S = 20


async def turns() -> None:
    """Return after the loop has turned: what another thread did has come through it."""
    await trio.to_thread.run_sync(os.getpid)


def turn(program: Callable[[Loop], Awaitable[Any]]) -> Any:
    """Run a program in a loop of its own, which it is given."""
    loop = Loop()

    async def limited() -> Any:
        with trio.fail_after(LIMIT_S):
            return await program(loop)

    return loop.run(limited)


def test_what_the_program_returns_is_returned() -> None:
    async def program(loop: Loop) -> str:
        await turns()
        return "done"

    assert turn(program) == "done"


def test_what_the_program_raises_is_raised() -> None:
    async def program(loop: Loop) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        turn(program)


def test_a_descriptor_is_called_each_time_that_it_is_readable() -> None:
    near, far = socket.socketpair()
    came: list[bytes] = []

    async def program(loop: Loop) -> None:
        news = trio.Event()

        def take() -> None:
            came.append(near.recv(10))
            news.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.watch, {near.fileno(): take})
            for text in (b"one", b"two"):
                far.send(text)
                await news.wait()
                news = trio.Event()
            nursery.cancel_scope.cancel()

    with near, far:
        turn(program)
    assert came == [b"one", b"two"]


def test_trio_gets_its_turns_while_a_descriptor_is_always_readable() -> None:
    near, far = socket.socketpair()
    calls = 0

    def ignore() -> None:
        nonlocal calls
        calls += 1

    async def program(loop: Loop) -> None:
        far.send(b"never taken")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.watch, {near.fileno(): ignore})
            # A deadline comes, and so does the answer of another thread.
            with trio.move_on_after(0.001):
                await trio.sleep_forever()
            await turns()
            nursery.cancel_scope.cancel()

    with near, far:
        turn(program)
    assert calls > 1


def test_a_descriptor_is_called_while_trio_is_always_busy() -> None:
    near, far = socket.socketpair()
    came: list[bytes] = []

    async def program(loop: Loop) -> None:
        far.send(b"one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.watch, {near.fileno(): lambda: came.append(near.recv(10))})
            while not came:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    with near, far:
        turn(program)
    assert came == [b"one"]


def test_what_a_call_raises_is_raised_by_the_task_that_watches_and_ends_its_calls() -> None:
    near, far = socket.socketpair()
    calls: list[str] = []

    def fail() -> None:
        calls.append("again")
        raise KeyError("lost")

    async def program(loop: Loop) -> None:
        far.send(b"never taken")
        with pytest.raises(KeyError, match="lost"):
            await loop.watch({near.fileno(): fail})
        # The loop turns on, and the descriptor is still readable.
        await turns()

    with near, far:
        turn(program)
    assert calls == ["again"]


def test_nothing_is_called_once_the_watch_is_cancelled() -> None:
    near, far = socket.socketpair()
    calls: list[str] = []

    async def program(loop: Loop) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.watch, {near.fileno(): lambda: calls.append("called")})
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        far.send(b"too late")
        await turns()

    with near, far:
        turn(program)
    assert calls == []


# --- a pump in a loop ---------------------------------------------------------------------


def with_bench(use: Callable[[Bench], Awaitable[None]], **wanted: Any) -> None:
    """Use a pump in a loop, on the bench of the pump's own tests."""

    async def program(loop: Loop) -> None:
        async with bench(loop=loop, **wanted) as made:
            await use(made)

    turn(program)


def test_a_batch_is_answered_by_one_bundle_in_a_loop_too() -> None:
    async def use(made: Bench) -> None:
        assert await made.answer() == "5 came"
        kinds = [type(event) for event in made.host.seen[1:]]
        assert kinds == [Drained, *[Arrived] * 5, Drained]

    with_bench(use, before=("", "", "", "", ""))


def test_a_tick_comes_when_the_deadline_has_in_a_loop_too() -> None:
    host = EchoHost(deadline=2_000_000)

    async def use(made: Bench) -> None:
        await host.until(Tick)
        assert made.pump.clock.now() >= 2_000_000

    with_bench(use, host=host)


def test_a_tick_comes_in_a_loop_where_the_timer_has_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qstack.drivers.pump.make_timer", ScopeTimer)
    host = EchoHost(deadline=2_000_000)

    async def use(made: Bench) -> None:
        await host.until(Tick)
        # Moved by a call of the loop, not by a task.
        host.deadline = made.pump.clock.now() + 2_000_000
        made.send(1)
        await host.until(Tick, 2)
        assert host.deadline is None

    with_bench(use, host=host)


def test_a_bug_of_the_host_ends_the_pump_loudly_in_a_loop_too() -> None:
    async def use(made: Bench) -> None:
        await trio.sleep_forever()

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        with_bench(use, before=("bug",))


def test_what_a_pure_device_reports_leaves_with_the_bundle_in_a_loop_too() -> None:
    async def use(made: Bench) -> None:
        assert await made.answer() == "1 came"
        kinds = [type(event) for event in made.host.seen[2:]]
        assert kinds[:3] == [Arrived, FromDevice, Drained]

    with_bench(use, devices=LocalDevices({"memory": PureMemory()}), before=("device",))


class SlowMemory:
    """Completes each command after a while, as a task of trio."""

    async def run(self, commands: trio.MemoryReceiveChannel[Any], emit: Emit) -> None:
        async for command in commands:
            await turns()
            emit(Completed("memory", command.command))


def test_an_asynchronous_device_runs_beside_a_loop() -> None:
    async def use(made: Bench) -> None:
        await made.host.until(FromDevice)
        assert FromDevice(Completed("memory", 5)) in made.host.seen

    with_bench(use, devices=LocalDevices({}, {"memory": SlowMemory()}), before=("device",))

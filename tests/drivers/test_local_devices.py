"""Plugins in this process: pure ones, asynchronous ones, and broken ones of both kinds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from qstack.drivers.devices import MAX_COMMANDS, Emit, LocalDevices
from qstack.messages.common import Basis
from qstack.messages.devices import (
    Completed,
    DeviceState,
    DeviceStatus,
    EmitterOutcome,
    Faulted,
    MemoryInitialise,
)
from tests.drivers.hosts import PureMemory

LIMIT_S = 20


def command(number: int, device: str = "memory") -> MemoryInitialise:
    return MemoryInitialise(device, number, 0)


@attrs.define(eq=False)
class Plugin:
    """An asynchronous plugin whose run is a function."""

    body: Callable[[trio.MemoryReceiveChannel[Any], Emit], Awaitable[None]]

    async def run(self, commands: trio.MemoryReceiveChannel[Any], emit: Emit) -> None:
        await self.body(commands, emit)


async def reported(devices: LocalDevices, count: int) -> list[Any]:
    """Run the plugins until this many events were reported."""
    woken = trio.Event()
    events: list[Any] = []

    def wake() -> None:
        events.extend(devices.take())
        if len(events) >= count:
            woken.set()

    devices.woken = wake
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(devices.run)
            await woken.wait()
            nursery.cancel_scope.cancel()
    return events


def test_a_pure_device_answers_at_once_or_at_its_deadline() -> None:
    devices = LocalDevices({"memory": PureMemory(delay_ns=100)})
    assert devices.command("memory", command(1), 1_000) == []
    assert devices.deadline == 1_100
    assert devices.tick(1_099) == []
    assert devices.tick(1_100) == [Completed("memory", 1)]
    assert devices.deadline is None


def test_a_pure_device_that_raises_is_faulted_with_its_whole_cause() -> None:
    devices = LocalDevices({"memory": PureMemory(broken=True)})
    fault, state = devices.command("memory", command(1), 0)
    assert isinstance(fault, Faulted)
    assert fault.command == 1
    for part in ("KeyError", "no such register", "OSError", "cable unplugged"):
        assert part in fault.reason
    assert isinstance(state, DeviceState)
    assert state.status is DeviceStatus.FAULT
    # It is not touched again.
    assert devices.command("memory", command(2), 0) == [Faulted("memory", 2, fault.reason)]


def test_a_device_that_is_not_there_faults_the_command() -> None:
    (fault,) = LocalDevices({}).command("laser", command(3, "laser"), 0)
    assert isinstance(fault, Faulted)
    assert (fault.command, "laser" in fault.reason) == (3, True)


async def test_an_asynchronous_plugin_gets_its_commands_and_reports() -> None:
    async def body(commands: trio.MemoryReceiveChannel[Any], emit: Emit) -> None:
        async for each in commands:
            emit(Completed("memory", each.command))

    devices = LocalDevices({}, {"memory": Plugin(body)})
    for number in (1, 2, 3):
        assert devices.command("memory", command(number), 0) == []
    assert await reported(devices, 3) == [Completed("memory", number) for number in (1, 2, 3)]


@pytest.mark.parametrize("raises", [True, False])
async def test_a_plugin_that_ends_faults_what_it_had_not_finished(raises: bool) -> None:
    async def body(commands: trio.MemoryReceiveChannel[Any], emit: Emit) -> None:
        emit(Completed("memory", (await commands.receive()).command))
        await commands.receive()
        if raises:
            raise RuntimeError("the laser is off")

    devices = LocalDevices({}, {"memory": Plugin(body)})
    for number in (1, 2, 3):
        devices.command("memory", command(number), 0)
    done, *faults, state = await reported(devices, 4)
    reason = "RuntimeError: the laser is off" if raises else "the plugin ended"
    assert done == Completed("memory", 1)
    assert faults == [Faulted("memory", number, reason) for number in (2, 3)]
    assert state == DeviceState("memory", DeviceStatus.FAULT, reason, 0, 0)
    assert devices.command("memory", command(4), 0) == [Faulted("memory", 4, reason)]


async def test_a_report_that_is_not_the_last_leaves_its_command_running() -> None:
    async def body(commands: trio.MemoryReceiveChannel[Any], emit: Emit) -> None:
        number = (await commands.receive()).command
        emit(EmitterOutcome("memory", number, 1, 0, Basis.Z, 0, 0, False))

    devices = LocalDevices({}, {"memory": Plugin(body)})
    devices.command("memory", command(9), 0)
    _, fault, _ = await reported(devices, 3)
    assert fault == Faulted("memory", 9, "the plugin ended")


async def test_a_plugin_that_takes_nothing_is_faulted_before_memory_runs_out() -> None:
    async def body(commands: trio.MemoryReceiveChannel[Any], emit: Emit) -> None:
        await trio.sleep_forever()

    devices = LocalDevices({}, {"memory": Plugin(body)})
    for number in range(MAX_COMMANDS):
        assert devices.command("memory", command(number), 0) == []
    answers = devices.command("memory", command(MAX_COMMANDS), 0)
    assert len(answers) == MAX_COMMANDS + 2
    assert isinstance(answers[-1], DeviceState)

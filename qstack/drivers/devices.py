"""Plugins in this process: pure device machines, and the adapter for asynchronous ones.

A plugin is somebody else's code. Whatever it raises ends its commands in Faulted with the
cause, and leaves the device in FAULT: the node goes on, and its links pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import trio

from qstack.hal.commands import ends
from qstack.machine import TICK, Up
from qstack.messages.devices import DeviceState, DeviceStatus, Faulted
from qstack.units import Instant, earliest

Emit: TypeAlias = Callable[[Any], None]
"""Takes a device event; may be called at any time from the plugin's own tasks."""

MAX_COMMANDS = 1_024
"""How many commands may wait for an asynchronous plugin before the next one is faulted."""


class PureDevice(Protocol):
    """A device machine: ``handle(command or TICK, now)`` returns device events."""

    @property
    def deadline(self) -> Instant | None:
        """The instant at which this device wants a TICK, or None."""

    def handle(self, command: Any, now: Instant) -> list[Any]:
        """Take one command and return the events that it causes at once."""


class AsyncDevice(Protocol):
    """The second accepted form of a plugin."""

    def run(self, commands: trio.MemoryReceiveChannel[Any], emit: Emit) -> Awaitable[None]:
        """Serve commands until the channel ends; report by `emit`."""


class Running:
    """The commands of one device that have not had their terminal event."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.broken = ""
        self._ids: dict[int, None] = {}

    def begin(self, command: int) -> None:
        """A command is on its way to the plugin."""
        self._ids[command] = None

    def note(self, event: Any) -> None:
        """Take note of an event, which may be a command's terminal one."""
        if ends(event):
            self._ids.pop(getattr(event, "command", 0), None)

    def fault(self, reason: str) -> list[Any]:
        """The plugin is gone: end every command, and say so."""
        self.broken = reason
        ended: list[Any] = [Faulted(self.device, command, reason) for command in self._ids]
        self._ids.clear()
        return [*ended, DeviceState(self.device, DeviceStatus.FAULT, reason, 0, 0)]


class LocalDevices:
    """All devices that this process drives itself, by name.

    `pure` devices are stepped in place. `asynchronous` ones run as tasks of :meth:`run`, and
    what they report is collected until :meth:`take`; `woken` is called when something waits.
    """

    def __init__(
        self, pure: dict[str, PureDevice], asynchronous: dict[str, AsyncDevice] | None = None
    ) -> None:
        self.woken: Callable[[], None] = lambda: None
        self._pure = pure
        self._async = asynchronous or {}
        self._running = {name: Running(name) for name in (*self._pure, *self._async)}
        self._reported: deque[Any] = deque()
        self._inboxes: dict[str, trio.MemorySendChannel[Any]] = {}
        self._outboxes: dict[str, trio.MemoryReceiveChannel[Any]] = {}
        for name in self._async:
            # Made here, so that commands sent before the task runs are not lost.
            self._inboxes[name], self._outboxes[name] = trio.open_memory_channel[Any](MAX_COMMANDS)

    @property
    def deadline(self) -> Instant | None:
        """The earliest deadline of the pure devices that work."""
        return earliest(
            *(d.deadline for name, d in self._pure.items() if not self._running[name].broken)
        )

    def command(self, device: str, command: Any, now: Instant) -> list[Any]:
        """Give a command to a device and return what it reports at once."""
        running = self._running.get(device)
        if running is None:
            return [Faulted(device, command.command, f"there is no device {device!r} here")]
        if running.broken:
            return [Faulted(device, command.command, running.broken)]
        running.begin(command.command)
        if device in self._pure:
            return self._step(device, command, now)
        try:
            self._inboxes[device].send_nowait(command)
        except trio.WouldBlock:
            return running.fault(f"{MAX_COMMANDS} commands wait: the plugin takes none")
        except trio.BrokenResourceError:
            return running.fault("the plugin takes no more commands")
        return []

    def tick(self, now: Instant) -> list[Any]:
        """Wake the pure devices whose deadline has come."""
        events: list[Any] = []
        for name, device in self._pure.items():
            if self._running[name].broken:
                continue
            deadline = device.deadline
            if deadline is not None and deadline <= now:
                events += self._step(name, TICK, now)
        return events

    def take(self) -> list[Any]:
        """Return what asynchronous plugins have reported since the last time."""
        events = list(self._reported)
        self._reported.clear()
        return events

    async def run(self) -> None:
        """Run the asynchronous plugins; returns when all have ended."""
        async with trio.open_nursery() as nursery:
            for name, plugin in self._async.items():
                nursery.start_soon(self._run_one, name, plugin)

    def _step(self, name: str, event: Any, now: Instant) -> list[Any]:
        running = self._running[name]
        try:
            answers = self._pure[name].handle(event, now)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            return running.fault(_cause(error))
        events = [answer.event if isinstance(answer, Up) else answer for answer in answers]
        for event_ in events:
            running.note(event_)
        return events

    async def _run_one(self, name: str, plugin: AsyncDevice) -> None:
        running = self._running[name]

        def emit(event: Any) -> None:
            running.note(event)
            self._reported.append(event)
            self.woken()

        with self._outboxes[name] as commands:
            try:
                await plugin.run(commands, emit)
                reason = "the plugin ended"
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                reason = _cause(error)
        self._reported.extend(running.fault(reason))
        self.woken()


def _cause(error: BaseException) -> str:
    """Return what went wrong, with what caused it, in one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_cause(each) for each in error.exceptions)
    text = f"{type(error).__name__}: {error}"
    return text if error.__cause__ is None else f"{text} (because of {_cause(error.__cause__)})"

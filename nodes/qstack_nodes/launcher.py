"""The processes of a network as children of one: started, watched, stopped.

A child says ``ready NAME ...`` on its standard output when its ports are open and ``linked
NAME`` when its peers have answered (:mod:`qstack.drivers.serving`). Children run in process
groups of their own, so that Ctrl-C reaches the launcher alone, which stops them in order; each
holds the reading end of a pipe whose writing end only the launcher has, so a launcher that is
killed takes them along.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import trio

from qstack.errors import QstackError
from qstack.machine import record

STOP_S = 1.2
"""How long a child may take to stop, in wall seconds, before it is killed."""

RESTARTS = 5
"""How often a child is restarted within :data:`RESTART_SPAN_S` before the launcher gives up."""

RESTART_SPAN_S = 60.0

_TAIL = 12


@record
class Plan:
    """A child to be: how people call it, and its command line."""

    name: str
    command: tuple[str, ...]


@record
class Ready:
    """A child's ports are open; `where` says which."""

    name: str
    where: str


@record
class Linked:
    """All the peers that a child needs have answered."""

    name: str


@record
class Lost:
    """A child lost a peer."""

    name: str
    text: str


@record
class Complaint:
    """A line that a child wrote to standard error."""

    name: str
    text: str


@record
class Ended:
    """A child ended by itself; `code` is negative for a signal, `tail` what it last wrote."""

    name: str
    code: int
    tail: tuple[str, ...]


Happening: TypeAlias = Ready | Linked | Lost | Complaint | Ended


class ChildDied(QstackError):
    """A child ended before the network was ready, or too often; `ended` says which and how."""

    def __init__(self, ended: Ended, when: str) -> None:
        last = "".join(f"\n    {line}" for line in ended.tail)
        super().__init__(f"{ended.name} {how_ended(ended.code)} {when}{last}")
        self.ended = ended


class NotReady(QstackError):
    """Some children did not get ready in time; the message names them."""


def how_ended(code: int) -> str:
    """Return what an exit code means, as a verb."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@attrs.define(eq=False)
class _Child:
    plan: Plan
    popen: subprocess.Popen[bytes]
    tail: deque[str] = attrs.field(factory=lambda: deque(maxlen=_TAIL))
    ready: bool = False
    linked: bool = False
    ended: trio.Event = attrs.field(factory=trio.Event)


class Launcher:
    """The running children. Made by :func:`launched`; `tell` takes what happens, in order."""

    def __init__(self, nursery: trio.Nursery, tell: Callable[[Happening], None]) -> None:
        self._nursery = nursery
        self._tell = tell
        self._children: dict[str, _Child] = {}
        self._starts: dict[str, list[float]] = {}
        self._send, self._happenings = trio.open_memory_channel[Happening](1_024)
        self._stopping = False

    def start(self, plan: Plan) -> None:
        """Start a child, or start it again in the place of one that ended."""
        # Not by trio, which forks in a helper thread: what dies with the launcher must be
        # the child of its main thread.
        popen = subprocess.Popen(  # noqa: S603  the command line is the launcher's own
            plan.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        child = self._children[plan.name] = _Child(plan, popen)
        self._starts.setdefault(plan.name, []).append(time.monotonic())
        self._nursery.start_soon(self._live, child)

    def pid(self, name: str) -> int:
        """Return the process id of a child."""
        return self._children[name].popen.pid

    async def wait_ready(self, seconds: float) -> None:
        """Return when every child is ready. Raises ChildDied at once, and NotReady."""
        await self._wait(lambda child: child.ready, "its ports are not open", seconds)

    async def wait_linked(self, seconds: float) -> None:
        """Return when every child has reached its peers. Raises ChildDied and NotReady."""
        await self._wait(lambda child: child.linked, "it has not reached its peers", seconds)

    async def supervise(self) -> None:
        """Start children again that end; ChildDied for one that ends too often. Never returns."""
        while True:
            happening = await self._happenings.receive()
            if isinstance(happening, Ended):
                since = time.monotonic() - RESTART_SPAN_S
                recent = [start for start in self._starts[happening.name] if start > since]
                self._starts[happening.name] = recent
                if len(recent) > RESTARTS:
                    raise ChildDied(happening, f"and was restarted {RESTARTS} times already")
                self.start(self._children[happening.name].plan)

    async def stop(self) -> None:
        """Stop every child; kill those that take longer than :data:`STOP_S`."""
        self._stopping = True
        for child in self._children.values():
            self._signal(child, signal.SIGTERM)
        with trio.move_on_after(STOP_S):
            for child in self._children.values():
                await child.ended.wait()
        for child in self._children.values():
            self._signal(child, signal.SIGKILL)
        for child in self._children.values():
            await child.ended.wait()

    async def _wait(self, condition: Callable[[_Child], bool], reason: str, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while not all(map(condition, self._children.values())):
                happening = await self._happenings.receive()
                if isinstance(happening, Ended):
                    raise ChildDied(happening, "before the network was ready")
            return
        late = [name for name, child in self._children.items() if not condition(child)]
        raise NotReady(f"{', '.join(late)}: {reason} after {seconds:g} s")

    @staticmethod
    def _signal(child: _Child, number: signal.Signals) -> None:
        """Send a signal to the child's whole group, if the child still lives."""
        if not child.ended.is_set() and child.popen.poll() is None:
            os.killpg(child.popen.pid, number)

    # --- one child ------------------------------------------------------------------------

    async def _live(self, child: _Child) -> None:
        # Only the end of the child ends this task: who stops children waits for it.
        with trio.CancelScope(shield=True):
            await self._live_to_the_end(child)

    async def _live_to_the_end(self, child: _Child) -> None:
        popen = child.popen
        assert popen.stdin is not None  # noqa: S101  all three are pipes
        assert popen.stdout is not None  # noqa: S101  for the type checker
        assert popen.stderr is not None  # noqa: S101  for the type checker
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, popen.stdout.fileno(), child, self._said)
                nursery.start_soon(self._read, popen.stderr.fileno(), child, self._complained)
            # Its ends of the pipes are closed, so it ends, or has.
            code = await trio.to_thread.run_sync(popen.wait)
        finally:
            for pipe in (popen.stdin, popen.stdout, popen.stderr):
                pipe.close()
        child.ended.set()
        child.ready = child.linked = False
        if not self._stopping:
            self._happened(Ended(child.plan.name, code, tuple(child.tail)))

    async def _read(
        self, descriptor: int, child: _Child, take: Callable[[_Child, str], None]
    ) -> None:
        """Give every line of a pipe to `take`, until the pipe ends."""
        rest = b""
        async with trio.lowlevel.FdStream(os.dup(descriptor)) as stream:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    take(child, line.decode(errors="replace"))
        if rest:
            take(child, rest.decode(errors="replace"))

    def _said(self, child: _Child, line: str) -> None:
        word, _, text = line.partition(" ")
        name = child.plan.name
        text = text.removeprefix(name).strip()
        if word == "ready":
            child.ready = True
            self._happened(Ready(name, text))
        elif word == "linked":
            child.linked = True
            self._happened(Linked(name))
        elif word == "lost":
            child.linked = False
            self._happened(Lost(name, text))
        else:
            self._complained(child, line)

    def _complained(self, child: _Child, line: str) -> None:
        child.tail.append(line)
        self._tell(Complaint(child.plan.name, line))

    def _happened(self, happening: Happening) -> None:
        self._tell(happening)
        try:
            self._send.send_nowait(happening)
        except trio.WouldBlock:
            # Nobody waits any more; `tell` has it.
            return


@asynccontextmanager
async def launched(
    plans: Sequence[Plan], tell: Callable[[Happening], None]
) -> AsyncIterator[Launcher]:
    """Start these children; stop them all, whatever happens, at the end of the block."""
    async with trio.open_nursery() as nursery:
        launcher = Launcher(nursery, tell)
        try:
            for plan in plans:
                launcher.start(plan)
            yield launcher
        finally:
            with trio.CancelScope(shield=True):
                await launcher.stop()
            nursery.cancel_scope.cancel()

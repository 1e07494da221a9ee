"""A loop of our own that waits for a few descriptors, with trio as its guest.

What trio does for each wake-up (a task rescheduled, stepped and parked again, its descriptor
registered anew) is about half of what a process needs that only relays a datagram (DESIGN
section 9). So the process of a node lets this loop wait for its sockets and its timer, and has it
call the pump. All else that lives in the process, signals, standard input, asynchronous plugins,
is a trio program as ever: trio runs in the same thread as a guest
(:func:`trio.lowlevel.start_guest_run`) and gets its turns when it has something to do. A helper
thread of trio's waits for that, in the kernel.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import trio

Job: TypeAlias = Callable[[], object]

POSSIBLE = hasattr(select, "epoll")
"""Whether this system has what the loop needs."""


class Loop:
    """Runs one trio program, once, and calls what belongs to the descriptors it was given."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Job] = {}
        self._jobs: deque[Job] = deque()
        self._outcomes: list[Any] = []
        # Rung by the helper thread.
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._add(self._bell.fileno(), self._rung)

    def run(self, program: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Run a trio program to its end, as trio.run does; return or raise what it does."""
        trio.lowlevel.start_guest_run(
            program,
            *arguments,
            run_sync_soon_threadsafe=self._soon,
            run_sync_soon_not_threadsafe=self._jobs.append,
            done_callback=self._outcomes.append,
        )
        try:
            while not self._outcomes:
                self._turn()
        finally:
            self._epoll.close()
            self._bell.close()
            self._rope.close()
        return self._outcomes[0].unwrap()

    async def watch(self, found: Mapping[int, Job]) -> None:
        """Call what belongs to a descriptor whenever that is readable, until cancelled.

        What a call raises is raised here, and none of them is called any more.
        """
        watch = _Watch(self, found)
        for descriptor, job in found.items():
            self._add(descriptor, watch.guarded(job))
        try:
            await watch.broken.wait()
        finally:
            watch.end()
        raise watch.errors[0]

    def forget(self, descriptor: int) -> None:
        """Call nothing for this descriptor any more."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _add(self, descriptor: int, job: Job) -> None:
        self._watched[descriptor] = job
        self._epoll.register(descriptor, select.EPOLLIN)

    def _turn(self) -> None:
        """Wait, unless trio has something to do; then call what is to be called, once each."""
        jobs, watched = self._jobs, self._watched
        for descriptor, _ in self._epoll.poll(0 if jobs else None):
            job = watched.get(descriptor)
            # None: forgotten by what was called before it.
            if job is not None:
                job()
        for _ in range(len(jobs)):
            jobs.popleft()()

    def _soon(self, job: Job) -> None:
        """Have a job called, from any thread."""
        self._jobs.append(job)
        # A full rope rings already.
        with suppress(BlockingIOError):
            self._rope.send(b"!")

    def _rung(self) -> None:
        self._bell.recv(4_096)


class _Watch:
    """The descriptors of one task, and what went wrong."""

    def __init__(self, loop: Loop, found: Mapping[int, Job]) -> None:
        self._loop = loop
        self._found = found
        self.broken = trio.Event()
        self.errors: list[BaseException] = []

    def guarded(self, job: Job) -> Job:
        """Return a job that hands what it raises to the task."""

        def call() -> None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - the task raises it
                self.errors.append(error)
                self.end()
                self.broken.set()

        return call

    def end(self) -> None:
        """Call none of them any more."""
        for descriptor in self._found:
            self._loop.forget(descriptor)

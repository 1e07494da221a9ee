"""One wake-up, moved rarely and on time.

trio hands its timeouts to epoll, which counts in whole milliseconds: a herald that is due in
fifty microseconds would come a millisecond late. Linux has timers that are file descriptors;
elsewhere a cancel scope must do. Python names the calls from 3.13 on; until then they are
taken from the C library.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Protocol

import trio

_SPEC = struct.Struct("@qqqq")
_CLOCK_MONOTONIC = 1


class Timer(Protocol):
    """Something to be woken by. Set again before it fires, it fires at the new time only."""

    def set(self, seconds: float) -> None:
        """Fire in this many seconds (at once, if they are not positive)."""

    @property
    def descriptor(self) -> int | None:
        """What is readable once it has fired; None where there is no such thing."""

    def take(self) -> bool:
        """Whether it has fired since the last time that this was asked."""

    async def fired(self) -> None:
        """Return when it fires; once for each time it is set."""

    def close(self) -> None:
        """Give back what it holds."""


class ScopeTimer:
    """A timer of trio's own; late by up to a millisecond where the system counts in those."""

    descriptor = None

    def __init__(self) -> None:
        self._scope = trio.CancelScope()

    def take(self) -> bool:
        """See :class:`Timer`; there is no descriptor that would be a reason to ask."""
        return False

    def set(self, seconds: float) -> None:
        """See :class:`Timer`."""
        self._scope.deadline = trio.current_time() + seconds

    async def fired(self) -> None:
        """See :class:`Timer`."""
        with self._scope:
            await trio.sleep_forever()
        self._scope = trio.CancelScope()

    def close(self) -> None:
        """See :class:`Timer`."""


class KernelTimer:
    """A timer file descriptor of Linux, with the kernel's own resolution (tens of us)."""

    def __init__(self) -> None:
        """Raise OSError where the system has no such timers."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, seconds: float) -> None:
        """See :class:`Timer`."""
        # Zero would stop the timer.
        nanoseconds = max(1, int(seconds * 1e9))
        spec = _SPEC.pack(0, 0, *divmod(nanoseconds, 1_000_000_000))
        self._libc.timerfd_settime(self._fd, 0, spec, None)

    @property
    def descriptor(self) -> int:
        """See :class:`Timer`."""
        return self._fd

    def take(self) -> bool:
        """See :class:`Timer`."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            # Set anew between its firing and the turn of whoever waits for it.
            return False
        return True

    async def fired(self) -> None:
        """See :class:`Timer`."""
        await trio.lowlevel.wait_readable(self._fd)
        while not self.take():
            await trio.lowlevel.wait_readable(self._fd)

    def close(self) -> None:
        """See :class:`Timer`."""
        os.close(self._fd)


def make_timer() -> Timer:
    """Return the best timer that this system has."""
    if sys.platform == "linux":
        try:
            return KernelTimer()
        except (OSError, AttributeError):
            pass
    return ScopeTimer()

"""The errors of the stack, each with the code that stands for it on the wire.

Who raises what: :class:`LocalProtocolError` when our own caller breaks a rule (loud),
:class:`RemoteProtocolError` when a peer does (counted and survived),
:class:`HardwareFault` when a device does, :class:`ConfigError` for a network file,
:class:`RequestFailed` to a program whose request ended with an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ErrorCode(IntEnum):
    """How a request may end badly (EGP names; numbers as in QLink-Interface 1.0)."""

    UNSUPPORTED = 0
    """The fidelity, or the time, cannot be had even on an idle link."""
    NO_TIME = 1
    """It cannot be done in time because of what is queued already."""
    NO_RESOURCES = 2
    """Not enough memory, now or ever."""
    TIMEOUT = 3
    """The maximum time passed before all pairs were delivered."""
    REJECTED = 4
    """The peer refused: no rule for this purpose, or its queue is full."""
    OTHER = 5
    """Anything else: hardware, a lost peer, a cancelled request."""
    EXPIRED = 6
    """Pairs that were reported, or were about to be, are void."""
    CREATE = 7
    """The request itself makes no sense."""


class QstackError(Exception):
    """The root of every error that this project raises on purpose."""

    code: ErrorCode = ErrorCode.OTHER


class LocalProtocolError(QstackError):
    """Our own caller did something that the state does not allow: a bug on this side."""

    code = ErrorCode.CREATE


class RemoteProtocolError(QstackError):
    """A peer sent something malformed, or illegal in the present state."""

    code = ErrorCode.OTHER


class HardwareFault(QstackError):
    """A device failed; the message says which one, doing what, and why."""

    code = ErrorCode.OTHER


class ConfigError(QstackError):
    """A network file is wrong. Carries every problem found, not the first alone."""

    code = ErrorCode.CREATE

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class RequestFailed(QstackError):
    """A request ended with an error; `code` names it and `reason` explains it."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason

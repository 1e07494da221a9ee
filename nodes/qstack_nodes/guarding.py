"""What goes wrong in a verb, in words and exit codes instead of tracebacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from qstack.errors import ConfigError, QstackError, RequestFailed

T = TypeVar("T")

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
INTERRUPTED = 128 + 2
"""As shells say of a program that Ctrl-C ended."""


class UsageError(QstackError):
    """The command line does not say enough."""


def guarded(verb: Callable[[T], int], given: T) -> int:
    """Run a verb; say what went wrong without a traceback where that is no bug of ours."""
    try:
        return verb(given)
    except UsageError as error:
        print(f"qstack: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Standard output went to something like `head`, which has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.filename is None:
            raise
        print(f"qstack: {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE
    except QstackError as error:
        return _explained(error, error)
    except BaseExceptionGroup as group:
        # Ctrl-C reaches whichever task runs, and comes out of its nursery in a group.
        if group.subgroup(KeyboardInterrupt) is not None:
            return INTERRUPTED
        return _explained(_first(group), group)


def _first(group: BaseException) -> BaseException:
    """Return the first error of nested groups: the others are its company."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _explained(error: BaseException, whole: BaseException) -> int:
    """Say what an error means and return its exit code; what is a bug of ours goes on."""
    if isinstance(error, ConfigError):
        print("\n".join(error.problems), file=sys.stderr)
        return USAGE
    from qstack.drivers.live import Unreachable  # noqa: PLC0415  loaded by what raised it
    from qstack.drivers.trace import TraceError  # noqa: PLC0415  loaded by what raised it
    from qstack.drivers.udp import PortUnavailable  # noqa: PLC0415  loaded by what raised it

    if isinstance(error, Unreachable | PortUnavailable):
        print(f"qstack: {error}", file=sys.stderr)
        return UNREACHABLE
    if isinstance(error, RequestFailed | TraceError):
        print(f"qstack: {error}", file=sys.stderr)
        return FAILED
    raise whole

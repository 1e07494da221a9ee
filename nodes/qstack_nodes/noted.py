"""Which networks are up on this machine: in another terminal the only one need not be named.

``qstack up`` keeps a file for as long as it runs, in a folder of the user's own, and a lock on it.
A file without its lock is what a launcher left behind that was killed, and means nothing.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def folder() -> Path:
    """Return where the files are: in ``XDG_RUNTIME_DIR``, else among temporary ones."""
    place = os.environ.get("XDG_RUNTIME_DIR")
    return (
        Path(place) / "qstack" if place else Path(tempfile.gettempdir()) / f"qstack-{os.getuid()}"
    )


@contextmanager
def noted(network: str) -> Iterator[None]:
    """Let it be known that this network is up. Without such a folder people have to name it."""
    final = folder() / str(os.getpid())
    hidden = final.with_name(f".{final.name}")
    try:
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = hidden.open("w", encoding="utf-8")
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(network)
        file.flush()
        # Nobody sees it before it is locked.
        hidden.rename(final)
        try:
            yield
        finally:
            final.unlink(missing_ok=True)


def running() -> list[str]:
    """Return the networks that are up, as they were named; what was left behind is removed."""
    place = folder()
    try:
        about = place.stat()
    except OSError:
        return []
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        return []  # somebody else could have written there
    found = set()
    for path in place.glob("[0-9]*"):
        try:
            with path.open(encoding="utf-8") as file:
                if _left_behind(file.fileno()):
                    path.unlink(missing_ok=True)
                else:
                    found.add(file.read())
        except OSError:
            continue  # it ended just now
    return sorted(found)


def _left_behind(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

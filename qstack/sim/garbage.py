"""Python's search for cyclic garbage, made rare while a heap of events turns.

What the machines make and drop has no cycles, and is gone as soon as nobody refers to it. But
every 700 objects that live a little longer Python looks through the youngest, and time and again
through all of them: the more hosts there are, the more is looked through, for nothing. A
third of the cost of a pair among 1,000 nodes was that. So a search is made for every
:data:`OBJECTS`, as long as any thread is in such a block, and as usual afterwards.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType

OBJECTS = 1_000_000
"""How many objects more than before, of those that Python watches, are worth a search. What a user
of the heap keeps of each pair is such: where many hosts are busy it has left the processor's cache
when it is looked through. Garbage of cycles, if there is any, takes some 100 MB at most until the
heap stops turning."""


class _Seldom:
    """The block. Blocks of threads, and blocks in blocks, may overlap: the last one restores.

    Where garbage is not searched for at all (a threshold of 0), or more seldom, that stays.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._former = gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                self._former = gc.get_threshold()
                if 0 < self._former[0] < OBJECTS:
                    gc.set_threshold(OBJECTS, *self._former[1:])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                gc.set_threshold(*self._former)


SELDOM_COLLECTED = _Seldom()
"""One for the process, because the thresholds are."""

"""What this machine does in a microsecond: the yardstick of everything that is not live."""

from __future__ import annotations

import heapq
import time

from qstack.machine import record
from qstack.units import Instant

OPERATIONS = 1_000_000
_DEPTH = 256


@record
class _Entry:
    """A small event, as the heap of a virtual network holds them."""

    instant: Instant
    target: str
    body: int


def heap_operation_us(operations: int = OPERATIONS) -> float:
    """Return microseconds of processor time per heap operation with record building.

    One operation takes the earliest of 256 entries off a heap, builds a record, and puts it back
    in the place that a cheap pseudo-random step gives it.
    """
    heap = [(n, n, _Entry(n, "alice", n)) for n in range(_DEPTH)]
    push, pop = heapq.heappush, heapq.heappop
    step = 1
    begun = time.process_time()
    for order in range(_DEPTH, _DEPTH + operations):
        now, _, entry = pop(heap)
        step = step * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
        instant = now + (step >> 16 & 0x3FF)
        push(heap, (instant, order, _Entry(instant, entry.target, order)))
    return (time.process_time() - begun) * 1e6 / operations

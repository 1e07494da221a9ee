"""What it costs to wake a node program in virtual time, beside what its heap entries cost.

Woken by the heap: a host on the heap tells a waiting task of every event that it takes; the same
events without a task are measured first, and the difference is the wake-up: stopping the heap, a
round of trio's loop, a step of the task. Woken by the clock: a task that sleeps a microsecond of
lab time, again and again, beside nothing but the keepalives of a network at rest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from typing import Any

import trio

from qstack.machine import TICK, Up
from qstack.sim import Network
from qstack.sim.clock import HeapClock
from qstack.units import Instant
from tests.benchmarks.table import Figure
from tests.benchmarks.virtual import HEAP

WAKE_US = 6.0
_EVERY_NS = 1_000


class _Bell:
    """A host that indicates every event it takes."""

    deadline = None

    def handle(self, event: Any, now: Instant) -> list[Any]:
        return [Up(event)]


class _Ringing:
    """A bell on the heap of a network, that rings so many times, a microsecond apart."""

    def __init__(self, times: int) -> None:
        self.network = Network.load("two_nodes", seed=1)
        self.heap = self.network.virtual.heap
        self.rung = trio.Event()
        self.clock: HeapClock | None = None
        self.heap.add("bell", _Bell(), self._listen)
        for number in range(times):
            self.heap.post("bell", TICK, number * _EVERY_NS)

    def _listen(self, event: Any, now: Instant) -> Iterable[Any]:
        if self.clock is not None:
            self.clock.tell()
            self.rung.set()
        return ()


def by_heap_us(times: int) -> tuple[float, float]:
    """Return microseconds of processor time per wake-up by the heap, and per entry without."""
    alone = _Ringing(times)
    begun = time.process_time()
    alone.heap.run(alone.heap.now + times * _EVERY_NS)
    entry = time.process_time() - begun

    ringing = _Ringing(times)
    took = 0.0

    async def program() -> None:
        nonlocal took
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, HeapClock)
        ringing.clock = clock
        begun = time.process_time()
        for _ in range(times):
            ringing.rung = trio.Event()
            await ringing.rung.wait()
        took = time.process_time() - begun

    ringing.network.run(program)
    return (took - entry) * 1e6 / times, entry * 1e6 / times


def by_clock_us(times: int) -> float:
    """Return microseconds of processor time per wake-up from a sleep in lab time."""
    network = Network.load("two_nodes", seed=1)
    took = 0.0

    async def program() -> None:
        nonlocal took
        begun = time.process_time()
        until = trio.current_time()
        for _ in range(times):
            until += _EVERY_NS / 1e9
            await trio.sleep_until(until)
        took = time.process_time() - begun

    network.run(program)
    return took * 1e6 / times


def figures(operation_us: float, times: int = 20_000, repetitions: int = 3) -> Iterator[Figure]:
    """Measure wake-ups; medians. `operation_us`: of the calibration."""

    def cost(name: str, value: float, target: float | None = None) -> Figure:
        return Figure(name, value, "us", target, ratio=value / operation_us, ratio_of=HEAP)

    woken = [by_heap_us(times) for _ in range(repetitions)]
    yield cost("wake-up of a program by the heap", statistics.median(w for w, _ in woken), WAKE_US)
    yield cost("  the heap entry behind it", statistics.median(entry for _, entry in woken))
    slept = statistics.median(by_clock_us(times) for _ in range(repetitions))
    yield cost("wake-up of a program from a sleep", slept)

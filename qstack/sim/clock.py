"""The clock of a trio run in virtual time, and trio's own chances taken under control.

trio asks its clock for a time to sleep only when no task can run. :class:`HeapClock` turns the
heap there, until a task has been told something or the nearest deadline of a task has come; so
tasks are woken only for what they asked for, at most one turn of the heap before they run, and
virtual time stands still while they do.

Some things of trio are not public and needed all the same; they are touched here and nowhere
else. The clock of a run is chosen by who starts it, and node programs must work in a run that is
there already: :func:`virtual_time` puts the heap's clock in its place for a block. The order in
which tasks run that became runnable together is drawn by trio: batches are reversed on a coin
flip, and tasks that are cancelled together come out of sets, in the order of their addresses.
trio has a switch against both, made for tests under Hypothesis: batches are sorted by the age of
their tasks and shuffled by one generator. It is thrown for the block, with a generator of our own
for this thread, then both are put back; so the order is still any order, but one that follows from
the seed. And where a program must end because nothing can come any more, tasks behind a shield
lose it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from random import Random
from typing import Any

import attrs
import trio
from trio._core import _run as trio_run
from trio.testing import active_thread_count

from qstack.errors import LocalProtocolError, QstackError
from qstack.sim.garbage import SELDOM_COLLECTED
from qstack.sim.heap import EventHeap
from qstack.units import SECOND, Duration

_LOOK_AROUND = 6_000
"""After so many steps of the heap trio may look for Ctrl-C and the end of threads."""

_THREAD, _WAITS = "to_thread_run_sync", "wait_task_rescheduled"
"""How a task stands that waits for its thread: one in the other, and nothing between."""


class Stalled(QstackError):
    """A program waits for something that can never come; the message says for what, and why."""


@attrs.define
class Watch:
    """How long a program may wait, and how to find out that it does so in vain.

    `quiet_ns`: when neither a program nor any layer above the adjacencies has had anything to
    do for so long, nothing may be left that could wake anybody. `patience_ns`: longest wait for
    the next delivery, however busy the network is. `busy` tells whether anything but the upkeep
    of adjacencies is under way or will be, `explain` says what everybody is doing.
    """

    quiet_ns: Duration
    patience_ns: Duration
    busy: Callable[[], bool]
    explain: Callable[[], str]


class _Caught:
    """Keeps the error of its block: trio takes none from a clock, the program shall have it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.error = error
        return True


class HeapClock(trio.abc.Clock):
    """Lab time of a heap, in seconds; see the module. Whoever wakes a task says :meth:`tell`."""

    def __init__(self, heap: EventHeap, watch: Watch, runner: Any) -> None:
        self._told = False
        self.failure: BaseException | None = None
        self.scope = trio.CancelScope()
        self._heap = heap
        self._watch = watch
        self._runner = runner
        self._caught = _Caught()
        self._program = trio.lowlevel.current_task()
        self._pierced = False
        self._files = -1
        self._quiet = False
        self._reached = 0.0
        self._woken_at = heap.now
        self._look_at = heap.now + watch.quiet_ns

    def start_clock(self) -> None:
        """Nothing starts: the heap's time is what it is."""

    def tell(self) -> None:
        """A task was told something, and shall run before the heap turns on."""
        self._told = True
        self._heap.rest()

    def current_time(self) -> float:
        """Return lab time in seconds. A deadline that was reached is reached exactly."""
        return max(self._heap.now / SECOND, self._reached)

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Turn the heap until somebody is told something, or until the deadline has come.

        Returns how long trio shall wait for the outside world: not at all, or, where threads work
        or :func:`trio.testing.wait_all_tasks_blocked` waits for this very moment, for ever.
        """
        runner = self._runner
        # The count of threads is one of the locals, and asking for one that is not set is slow.
        if runner.waiting_for_idle or (runner._locals and self._threads_at_work()):
            return inf
        if self._files < 0:
            self._files = _tasks_at_files()
        until = None if deadline == inf else max(self._heap.now, round(deadline * SECOND))
        self._told = False
        limit = self._look_at if until is None else min(until, self._look_at)
        turned = True
        with self._caught:
            turned = self._heap.run(max(limit, self._heap.now), rest_after=_LOOK_AROUND)
        if self._caught.error is not None:
            self._fail(self._caught.error)
            return 0.0
        if self._told:
            self._quiet = False
            self._woken_at = self._heap.now
            self._look_at = self._woken_at + self._watch.quiet_ns
            return 0.0
        if not turned:  # the heap ran dry: nothing happens before the deadline
            self._heap.now = max(self._heap.now, limit)
        if until is not None and self._heap.now >= until:
            self._reached = deadline
            self._quiet = False
            self._woken_at = until
            return 0.0
        return self._looked() if self._heap.now >= self._look_at else 0.0

    def _threads_at_work(self) -> bool:
        """Whether a thread of the run computes; one that waits for a task of ours does not."""
        count = active_thread_count()
        if count:
            for task in tasks_from(self._program):
                names = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
                if _THREAD in names:
                    inner = names.index(_THREAD) + 1
                    count -= names[inner : inner + 1] != [_WAITS]
        return count > 0

    def _looked(self) -> float:
        """Look whether anything can still come."""
        self._look_at = self._heap.now + self._watch.quiet_ns
        waited = self._heap.now - self._woken_at
        if self._runner.deadlines.next_deadline() != inf:
            self._quiet = False
            return 0.0
        busy = self._watch.busy()
        # Quiet now and at the look before: what came last has had all this time to stir others.
        quiet, self._quiet = self._quiet and not busy, not busy
        if not quiet and waited < self._watch.patience_ns:
            return 0.0
        if _tasks_at_files() > self._files:
            return inf  # something outside of virtual time may come
        why = "nothing can come any more, no layer has anything left to do"
        if not quiet:
            why = "longer than the patience of this run, though the network is busy"
        seconds = f"the program has waited in vain for {waited / SECOND:g} s of lab time"
        self._fail(Stalled(f"{seconds}: {why}\n{self._watch.explain()}"))
        return 0.0

    def _fail(self, error: BaseException) -> None:
        """End the programs with this error, at the second time also those behind a shield."""
        if self._pierced:
            raise error
        if self.failure is not None:
            self._pierced = True
            self._pierce()
            return
        self.failure = error
        self.scope.cancel()

    def _pierce(self) -> None:
        """Take away the shields that keep tasks waiting for what never comes."""
        for task in tasks_from(self._program):
            status: Any = task._cancel_status
            while status is not None and status._scope is not self.scope:
                status._scope.shield = False
                status = status._parent


def tasks_from(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """Yield a task and all that run in its nurseries, parents first, older ones first."""
    yield task
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda each: each._counter):
            yield from tasks_from(child)


def _tasks_at_files() -> int:
    """How many tasks wait for files and sockets; trio's own waker is one of them."""
    found: Any = trio.lowlevel.current_statistics().io_statistics
    names = ("tasks_waiting", "tasks_waiting_read", "tasks_waiting_write")
    return sum(getattr(found, name, 0) for name in names)


@contextmanager
def virtual_time(heap: EventHeap, watch: Watch, seed: str) -> Iterator[HeapClock]:
    """Let the present trio run live in the time of a heap while the block lasts.

    `seed` is what the order of tasks follows from. An error of the heap, or :class:`Stalled`,
    ends the block. LocalProtocolError where the run has such a clock already, waits for
    deadlines of its own clock, which would mean something else in the block, or is a guest.
    """
    runner = trio_run.GLOBAL_RUN_CONTEXT.runner
    if isinstance(runner.clock, HeapClock):
        raise LocalProtocolError("this trio run is in virtual time already: one network at a time")
    if runner.is_guest:
        raise LocalProtocolError("a guest run of trio has the time of its host")
    if runner.deadlines.next_deadline() != inf:
        raise LocalProtocolError(
            "a deadline or a sleep of this trio run counts the time outside: begin virtual time "
            "before it, and set the deadline inside"
        )
    outer: trio.abc.Clock = runner.clock
    clock = HeapClock(heap, watch, runner)
    with SELDOM_COLLECTED, _ORDER.follows(seed):
        runner.clock = clock
        try:
            with clock.scope:
                yield clock
            if clock.failure is not None:
                # Not "during handling of Cancelled": that was our own way to end the block.
                raise clock.failure from clock.failure.__cause__
        finally:
            runner.clock = outer


class _Chances:
    """trio's generator of chances, but for threads that are in virtual time their own."""

    def __init__(self, outside: Any) -> None:
        self.outside = outside
        self.inside = threading.local()

    def shuffle(self, batch: list[Any]) -> None:
        """Order a batch; a single task, the usual case, costs next to nothing."""
        if len(batch) > 1:
            getattr(self.inside, "generator", self.outside).shuffle(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self.inside, "generator", self.outside), name)


class _Order:
    """Lets the order of tasks follow from seeds while any thread is in virtual time.

    trio keeps switch and generator once for the whole process: the first thread that comes
    changes them, the last that goes puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._switch = False
        self._module: Any = trio_run

    @contextmanager
    def follows(self, seed: str) -> Iterator[None]:
        """Draw the order of this thread's tasks from a seed while the block lasts."""
        module = self._module
        with self._lock:
            self._threads += 1
            if self._threads == 1:
                self._switch = module._ALLOW_DETERMINISTIC_SCHEDULING
                module._ALLOW_DETERMINISTIC_SCHEDULING = True
                module._r = _Chances(module._r)
            chances = module._r
        chances.inside.generator = Random(seed)  # noqa: S311  an order of tasks is no secret
        try:
            yield
        finally:
            del chances.inside.generator
            with self._lock:
                self._threads -= 1
                if self._threads == 0:
                    module._ALLOW_DETERMINISTIC_SCHEDULING = self._switch
                    module._r = chances.outside


_ORDER = _Order()
"""One for the process, because trio's switch is."""

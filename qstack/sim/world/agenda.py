"""What the world will do and say, and when: one heap for reports and for links that wake."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.devices import (
    EmitterFired,
    EmitterHeralded,
    EmitterOutcome,
    StationClicks,
)
from qstack.units import Duration, Instant, NodeName

NEVER: Instant = 1 << 200
"""An instant that never comes."""


class Run:
    """A command that runs on a device, until its terminal event is sent."""

    __slots__ = ("alive", "command", "device", "owner")

    def __init__(self, owner: NodeName, device: str, command: int) -> None:
        self.owner = owner
        self.device = device
        self.command = command
        self.alive = True

    def release(self) -> None:
        """Give up what the command holds; called once, when it ends."""
        self.alive = False


@record
class Report:
    """A device event to send: dropped if `run` is over by then; ends it if `terminal`.

    `since`: the instant that its `age_ns` counts from, None where it has none.
    """

    run: Run
    body: Any
    terminal: bool
    since: Instant | None


def aged(body: Any, age_ns: Duration) -> Any:
    """Return a report that leaves late with the age that it then has."""
    match body:
        case EmitterHeralded():
            told = (body.device, body.command, body.slot, body.cycle, body.mode, age_ns)
            return EmitterHeralded(*told)
        case EmitterFired():
            told = (body.device, body.command, body.slot, body.cycle, body.mode, age_ns)
            return EmitterFired(*told)
        case EmitterOutcome():
            where = (body.device, body.command, body.cycle, body.mode)
            return EmitterOutcome(*where, body.basis, body.outcome, age_ns, body.last)
        case StationClicks():
            cycle = (body.device, body.command, body.link, body.cycle)
            return StationClicks(*cycle, body.mode, body.clicks, body.tags_ps, age_ns)
        case _:
            raise LocalProtocolError(f"{type(body).__name__} has no age")


class Waker(Protocol):
    """Something that wants to be woken at `wake` (None: not at all), and knows to be late."""

    wake: Instant | None

    def advance(self, now: Instant) -> None:
        """Bring it up to date."""


class Agenda:
    """A heap of reports and wakers in the order of their instants, then of their making."""

    __slots__ = ("_heap", "_limit", "_order", "first")

    def __init__(self) -> None:
        self._heap: list[tuple[Instant, int, Report | Waker]] = []
        # The instant of the first entry; one comparison tells that nothing is due.
        self.first: Instant = NEVER
        self._order = 0
        self._limit = 64

    def report(self, at: Instant, item: Report | Waker) -> None:
        """Send a report at an instant."""
        self._order = order = self._order + 1
        heap = self._heap
        heappush(heap, (at, order, item))
        self.first = heap[0][0]
        if len(heap) > self._limit:
            self._tidy()

    def _tidy(self) -> None:
        """Drop what will come to nothing."""
        # In place: `deadline` and `due` hold on to the list.
        self._heap[:] = [entry for entry in self._heap if not self._stale(entry)]
        heapify(self._heap)
        self.first = self._heap[0][0] if self._heap else NEVER
        self._limit = 2 * len(self._heap) + 64

    def wake(self, waker: Waker) -> None:
        """Wake a waker when it now says; what it said before is forgotten."""
        if waker.wake is not None:
            self.report(waker.wake, waker)

    def due(self, now: Instant) -> tuple[Instant, Report | Waker] | None:
        """Take the next entry that is due at `now`; None where there is none."""
        heap = self._heap
        while self.first <= now:
            at, _, item = heappop(heap)
            self.first = heap[0][0] if heap else NEVER
            # As in `_stale`; here and below once for every report.
            if item.run.alive if type(item) is Report else item.wake == at:  # type: ignore[union-attr]  # the other kind
                return at, item
        return None

    @property
    def deadline(self) -> Instant | None:
        """The instant of the first entry that will come to something."""
        heap = self._heap
        while heap:
            at, _, item = heap[0]
            if item.run.alive if type(item) is Report else item.wake == at:  # type: ignore[union-attr]  # the other kind
                return at
            heappop(heap)
            self.first = heap[0][0] if heap else NEVER
        return None

    @staticmethod
    def _stale(entry: tuple[Instant, int, Report | Waker]) -> bool:
        item = entry[2]
        if type(item) is Report:
            return not item.run.alive
        return item.wake != entry[0]  # type: ignore[union-attr]  # the other kind

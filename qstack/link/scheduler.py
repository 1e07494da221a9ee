"""Which request of the distributed queue is served: pure functions of what both ends share.

A scheduler sees the committed items (equal at both ends at one queue version) and how many
pairs of each were counted (equal after the same herald sequence), and nothing else: no clock,
no memory of its own. (Time division adds the bin that the link's cycle is in, which is part of
the basis too.) So two ends that know the same choose the same, and the station finds out
by comparing their bases when one of them knows less. Overtaking happens between pairs; an item
that is atomic or consecutive and has begun is never interrupted.

Sources: strict priority and weighted fair queueing over requests with shipped virtual start
times, as in the QLinkLayerSimulations code (Dahlberg et al. 2019); self-clocked fair queueing
(Golestani 1994) for the virtual time. Here a larger priority number is earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from qstack.machine import record
from qstack.messages.common import RequestId
from qstack.messages.link import FIRST_FLOW, LinkRequest


@record
class Item:
    """One entry of the queue, as the master committed it.

    `position` grows with each commit. `virtual_start` and `cycles_per_pair` are in cycles.
    """

    request: LinkRequest
    position: int
    setting: str
    virtual_start: float
    cycles_per_pair: float

    def finish_tag(self, pairs: int) -> float:
        """The virtual time, in cycles, at which `pairs` pairs of this item are finished."""
        return self.virtual_start + self.cycles_per_pair * pairs / self.request.weight


Progress: TypeAlias = Mapping[RequestId, int]
"""How many valid pairs were counted of each request, after the last herald seen."""


class Scheduler(Protocol):
    """What every way of choosing is.

    `counts`: the choice may change with every counted pair, not only when an item is finished.
    `bins`: what is chosen from are the items that the bin of the present cycle admits
    (:mod:`qstack.link.timetable`), where the queue has a timetable.
    """

    counts: bool
    bins: bool

    def choose(self, items: Sequence[Item], progress: Progress) -> Item | None:
        """Return the item to work for now, or None where none wants a pair."""

    def ahead(
        self, items: Sequence[Item], progress: Progress, request: LinkRequest, cycles: float
    ) -> list[Item]:
        """Return the items that would be finished before `request`, if it were added now.

        `cycles` is what one of its pairs takes, in cycles.
        """


def wanted(item: Item, progress: Progress) -> int:
    """Return how many pairs this item still wants."""
    return item.request.number - progress.get(item.request.id, 0)


def _begun(items: Sequence[Item], progress: Progress) -> Item | None:
    """Return the item that nothing may interrupt, if there is one."""
    for item in items:
        request = item.request
        inseparable = request.atomic or request.consecutive
        if inseparable and 0 < progress.get(request.id, 0) < request.number:
            return item
    return None


class FirstCome:
    """In the order of commitment."""

    counts = False
    bins = False

    def choose(self, items: Sequence[Item], progress: Progress) -> Item | None:
        """Return the item with the lowest position that wants a pair."""
        begun = _begun(items, progress)
        if begun is not None:
            return begun
        hungry = [item for item in items if wanted(item, progress) > 0]
        return min(hungry, key=lambda item: item.position, default=None)

    def ahead(
        self, items: Sequence[Item], progress: Progress, request: LinkRequest, cycles: float
    ) -> list[Item]:
        """Everything that is queued."""
        return list(items)


class StrictPriority:
    """The largest priority first, then the order of commitment."""

    counts = False
    bins = False

    def choose(self, items: Sequence[Item], progress: Progress) -> Item | None:
        """Return the most urgent item that wants a pair."""
        begun = _begun(items, progress)
        if begun is not None:
            return begun
        hungry = [item for item in items if wanted(item, progress) > 0]
        return min(hungry, key=lambda i: (-i.request.priority, i.position), default=None)

    def ahead(
        self, items: Sequence[Item], progress: Progress, request: LinkRequest, cycles: float
    ) -> list[Item]:
        """What is as urgent or more."""
        return [item for item in items if item.request.priority >= request.priority]


class WeightedFair:
    """The smallest virtual finish time first: shares of link time in proportion to weights.

    The finish time of an ordinary item is that of its next pair, so it is bumped by each
    counted pair; that of an inseparable one is that of its last pair.
    """

    counts = True
    bins = False

    def choose(self, items: Sequence[Item], progress: Progress) -> Item | None:
        """Return the item whose next finish time is the smallest; ties by position."""
        best: Item | None = None
        least = 0.0
        for item in items:  # in one pass: this is asked anew for every pair
            request = item.request
            counted = progress.get(request.id, 0)
            if counted >= request.number:
                continue
            inseparable = request.atomic or request.consecutive
            if inseparable and counted > 0:
                return item
            tag = item.finish_tag(request.number if inseparable else counted + 1)
            first = best is None or tag < least
            if first or (best is not None and tag == least and item.position < best.position):
                best, least = item, tag
        return best

    def ahead(
        self, items: Sequence[Item], progress: Progress, request: LinkRequest, cycles: float
    ) -> list[Item]:
        """What has a smaller last finish time than the newcomer would have."""
        own = virtual_now(items, progress) + cycles * request.number / request.weight
        return [item for item in items if item.finish_tag(item.request.number) <= own]


class TimeDivision(WeightedFair):
    """Bins of the link's cycles for whom a timetable names; weighted fair in what they admit.

    A bin interrupts whatever is not its own at its boundaries, atomic and consecutive items too.
    """

    bins = True


def virtual_now(items: Sequence[Item], progress: Progress) -> float:
    """Return the virtual time, in cycles: where the least served of the hungry items stands.

    The master gives it to a new item as its virtual start, so that a newcomer neither waits
    for what others had before it came, nor is repaid for the time when it was not there.
    """
    tags = [
        item.finish_tag(progress.get(item.request.id, 0))
        for item in items
        if wanted(item, progress) > 0
    ]
    return min(tags, default=0.0)


def virtual_start(items: Sequence[Item], progress: Progress, request: LinkRequest) -> float:
    """Return the virtual time, in cycles, at which a new item of this request begins.

    A request of a flow follows the one before it, so that two of them have one share between them
    and are served in their order; all others begin where the queue is now.
    """
    before = [
        item.finish_tag(item.request.number)
        for item in items
        if request.purpose >= FIRST_FLOW
        and item.request.purpose == request.purpose
        and item.request.id.origin == request.id.origin
    ]
    return max(virtual_now(items, progress), *before, 0.0)


SCHEDULERS: dict[str, Scheduler] = {
    "first-come": FirstCome(),
    "strict-priority": StrictPriority(),
    "weighted-fair": WeightedFair(),
    "time-division": TimeDivision(),
}
"""By the names that a network file uses."""

"""The time-division schedule of a network: which request has which bins of which links.

Time is counted in *bins* of equal length, half-open: bin n begins at n and ends before n + 1.
A bin of a link belongs to one request at most, and a node that works with few communication
qubits on several links is in so many bins at once at most. A request asks for a number of
bins on each link of its path, after it came and before its deadline. Who has the earliest deadline
goes first, and whoever is under way may be interrupted at the end of any bin. Links of one path
may be asked for *together*, in the same bins: halves at repeaters then find their partners at once,
and do not wait in memory for a bin of the other side.

On one resource that order misses a deadline only where every order does, so a refusal is final.
Where nodes are shared between links the problem is an edge colouring with deadlines, and no
simple order is the best: a request may then be refused although some schedule has room for it. What
is admitted is always kept, for admission makes the schedule. A refusal says which of the two it is:
`impossible` where a link or node would need more bins than there are between two instants (the
demand-bound test), else that the earliest deadline first finds no room.

Sources: Liu and Layland 1973 and Dertouzos 1974 (earliest deadline first), Baruah, Rosier and
Howell 1990 (demand bound), Skrzypczyk and Wehner 2021 (arXiv:2111.13124, quantum networks).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from qstack.machine import record
from qstack.messages.circuits import CircuitId
from qstack.messages.common import RequestId
from qstack.messages.schedule import BinRun, Timetable
from qstack.units import BootId, Duration, LinkName, NodeName

Asker: TypeAlias = RequestId | CircuitId
"""Whose bins these are: any id that says who made it, in which life, and the how-manieth."""


@record
class Plant:
    """What there is to share: links by their two ends, and nodes that are in few bins at once.

    A node that `at_once` does not name can be in a bin of each of its links at the same time. The
    links of one request that asks for them together count once at a node.
    """

    links: Mapping[LinkName, tuple[NodeName, NodeName]]
    at_once: Mapping[NodeName, int]


@record
class Ask:
    """A request for bins: so many on each link named, from bin `begin` on, before bin `deadline`.

    Two asks of one schedule have different ids. `together`: equally many on each link, and all
    links in the same bins.
    """

    id: Asker
    begin: int
    deadline: int
    needs: tuple[tuple[LinkName, int], ...]
    together: bool = False


@record
class Run:
    """The bins from `begin` to before `end` of a link are those of one request."""

    link: LinkName
    begin: int
    end: int
    id: Asker


@record
class Refusal:
    """Why there is no schedule. `impossible`: no order at all could keep every deadline."""

    impossible: bool
    reason: str


def bins_for(pairs: int, pair_ns: Duration, bin_ns: Duration, lost_ns: Duration = 0) -> int:
    """Return how many bins `pairs` pairs take on a link where one takes `pair_ns` in the mean.

    Of each bin `lost_ns` pass until both ends are at work. ValueError where nothing is left.
    """
    if pairs < 0 or pair_ns <= 0 or not 0 <= lost_ns < bin_ns:
        raise ValueError(f"{pairs} pairs of {pair_ns} ns in bins of {bin_ns} less {lost_ns} ns")
    return -(-pairs * pair_ns // (bin_ns - lost_ns))


def overload(plant: Plant, asks: Sequence[Ask]) -> str | None:
    """Return which link or node would need more bins than there are, and when; None for none.

    The test is necessary: what it names cannot be scheduled. For one link it is sufficient too.
    """
    for what, most, needs in _resources(plant, asks):
        begins = sorted({ask.begin for ask, _ in needs})
        for begin in begins:
            demand = 0
            for ask, bins in sorted(needs, key=lambda each: each[0].deadline):
                if ask.begin < begin:
                    continue
                demand += bins
                room = most * max(0, ask.deadline - begin)
                if demand > room:
                    return (
                        f"{what} would need {demand} bins from bin {begin} to before bin "
                        f"{ask.deadline}, where it has {room}"
                    )
    return None


def _resources(
    plant: Plant, asks: Sequence[Ask]
) -> Iterable[tuple[str, int, list[tuple[Ask, int]]]]:
    """Yield each link and each bounded node: its name, its bins at once, who needs how many."""
    for link in plant.links:
        needs = [(ask, n) for ask in asks for name, n in ask.needs if name == link and n > 0]
        yield f"link {link}", 1, needs
    for node, most in plant.at_once.items():
        here = {link for link, ends in plant.links.items() if node in ends}
        sums = []
        for ask in asks:
            mine = [n for link, n in ask.needs if link in here]
            sums.append((ask, max(mine, default=0) if ask.together else sum(mine)))
        yield f"node {node}", most, [(ask, n) for ask, n in sums if n > 0]


def earliest_deadline_first(plant: Plant, asks: Iterable[Ask]) -> tuple[Run, ...] | Refusal:
    """Return the runs of all requests, by begin and link, or why a deadline would be missed.

    Equal asks give equal schedules, in whatever order they come: ties go by the request's id.
    """
    ordered = sorted(asks, key=_urgency)
    left = {ask.id: {link: n for link, n in ask.needs if n > 0} for ask in ordered}
    runs: list[Run] = []
    now = min((ask.begin for ask in ordered), default=0)
    while any(left.values()):
        chosen = _choose(plant, [ask for ask in ordered if ask.begin <= now], left)
        coming = [ask.begin for ask in ordered if ask.begin > now and left[ask.id]]
        spans = [left[ask.id][link] for ask, link in chosen]
        until = min([now + span for span in spans] + coming)
        for ask, link in chosen:
            runs.append(Run(link, now, until, ask.id))
            left[ask.id][link] -= until - now
            if not left[ask.id][link]:
                del left[ask.id][link]
        now = until
        for ask in ordered:
            if left[ask.id] and now + max(left[ask.id].values()) > ask.deadline:
                link = max(left[ask.id], key=lambda name: left[ask.id][name])
                missing = now + left[ask.id][link] - ask.deadline
                reason = f"{ask.id} would miss its deadline on link {link} by {missing} bins"
                return Refusal(False, f"{reason}, earliest deadline first")
    return _joined(runs)


def _urgency(ask: Ask) -> tuple[int, NodeName, int, int]:
    return ask.deadline, ask.id.origin, ask.id.boot, ask.id.number


def _choose(
    plant: Plant, asks: Iterable[Ask], left: Mapping[Asker, Mapping[LinkName, int]]
) -> list[tuple[Ask, LinkName]]:
    """Return who works on which link now: the first in order, wherever link and nodes are free."""
    chosen: list[tuple[Ask, LinkName]] = []
    taken: set[LinkName] = set()
    busy: dict[NodeName, int] = {}
    for ask in asks:
        wanted = [link for link, _ in ask.needs if link in left[ask.id]]
        for links in [wanted] if ask.together else [[link] for link in wanted]:
            nodes = {node for link in links for node in plant.links[link]}
            full = any(busy.get(node, 0) >= plant.at_once.get(node, 1 << 30) for node in nodes)
            if full or not taken.isdisjoint(links):
                continue
            taken.update(links)
            for node in nodes:
                busy[node] = busy.get(node, 0) + 1
            chosen += [(ask, link) for link in links]
    return chosen


def _joined(runs: list[Run]) -> tuple[Run, ...]:
    """Return the runs with those of one request that follow each other on a link made one."""
    last: dict[LinkName, Run] = {}
    out: list[Run] = []
    for run in runs:
        former = last.get(run.link)
        if former is not None and (former.end, former.id) == (run.begin, run.id):
            last[run.link] = Run(run.link, former.begin, run.end, run.id)
            continue
        if former is not None:
            out.append(former)
        last[run.link] = run
    return tuple(sorted([*out, *last.values()], key=lambda run: (run.begin, run.link)))


def admit(plant: Plant, admitted: Iterable[Ask], new: Ask) -> tuple[Run, ...] | Refusal:
    """Return the schedule of what is admitted already and of `new`, or why `new` is refused.

    The caller goes on with the former schedule where it is. Raises ValueError for an ask that
    means nothing, or whose id is there already.
    """
    asks = [*admitted, new]
    _check(plant, asks)
    reason = overload(plant, asks)
    if reason is not None:
        return Refusal(True, reason)
    return earliest_deadline_first(plant, asks)


@record
class Origin:
    """Where a link's timetable begins: in which life of its clock, and at which of its cycles."""

    station_boot: BootId
    epoch: int
    first_cycle: int
    bin_cycles: int


def timetable(
    runs: Iterable[Run],
    link: LinkName,
    span: tuple[int, int],
    origin: Origin,
    owners: Mapping[Asker, tuple[NodeName, int]],
) -> Timetable:
    """Return the timetable of one link for the bins in `span` of a schedule.

    `span`: the first bin, and that before which it ends. `owners` are (origin, purpose) of the link
    requests that each request makes on this link. Bins that are nobody's are left to all.
    """
    first, end = span
    own = sorted((run for run in runs if run.link == link), key=lambda run: run.begin)
    found = [
        BinRun(max(run.begin, first) - first, min(run.end, end) - first, *owners[run.id])
        for run in own
        if run.begin < end and first < run.end
    ]
    where = (origin.station_boot, origin.epoch, origin.first_cycle, origin.bin_cycles)
    return Timetable(*where, end - first, 1, True, tuple(found))


def _check(plant: Plant, asks: Sequence[Ask]) -> None:
    if len({ask.id for ask in asks}) < len(asks):
        raise ValueError(f"request {asks[-1].id} has been admitted already")
    for ask in asks:
        names = [link for link, _ in ask.needs]
        if len(set(names)) < len(names) or not set(names) <= plant.links.keys():
            raise ValueError(f"{ask.id} goes by links {names}")
        if any(bins < 0 for _, bins in ask.needs):
            raise ValueError(f"{ask.id} needs fewer than no bins")
        if ask.together and len({bins for _, bins in ask.needs}) > 1:
            raise ValueError(f"{ask.id} needs {ask.needs} together")
    if any(most < 1 for most in plant.at_once.values()):
        raise ValueError("a node that can be in no bin has no links")

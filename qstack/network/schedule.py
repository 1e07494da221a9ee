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

import attrs

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
    on_link: dict[LinkName, list[tuple[Ask, int]]] = {link: [] for link in plant.links}
    at_node: dict[NodeName, list[tuple[Ask, int]]] = {node: [] for node in plant.at_once}
    for ask in asks:
        sums: dict[NodeName, int] = {}
        for link, bins in ask.needs:
            if bins <= 0:
                continue
            on_link[link].append((ask, bins))
            for node in plant.links[link]:
                before = sums.get(node, 0)
                sums[node] = max(before, bins) if ask.together else before + bins
        for node, bins in sums.items():
            if node in at_node:
                at_node[node].append((ask, bins))
    for link, needs in on_link.items():
        yield f"link {link}", 1, needs
    for node, needs in at_node.items():
        yield f"node {node}", plant.at_once[node], needs


@attrs.define(eq=False)
class _Piece:
    """What has to go together: all links of an ask, or one of them. `bounds`: nodes that count.

    `left`: bins that it still needs on each of its links.
    """

    ask: Ask
    links: tuple[LinkName, ...]
    bounds: tuple[tuple[NodeName, int], ...]
    left: int


def _pieces(plant: Plant, asks: Iterable[Ask]) -> list[_Piece]:
    """The work there is to do, the earliest deadline first."""
    found = []
    for ask in sorted(asks, key=_urgency):
        needs = {link: bins for link, bins in ask.needs if bins > 0}
        groups = [tuple(needs)] if ask.together and needs else [(link,) for link in needs]
        for links in groups:
            nodes = sorted({node for link in links for node in plant.links[link]})
            bounds = tuple((node, plant.at_once[node]) for node in nodes if node in plant.at_once)
            found.append(_Piece(ask, links, bounds, needs[links[0]]))
    return found


def earliest_deadline_first(plant: Plant, asks: Iterable[Ask]) -> tuple[Run, ...] | Refusal:
    """Return the runs of all requests, by begin and link, or why a deadline would be missed.

    Equal asks give equal schedules, in whatever order they come: ties go by the request's id.
    """
    pieces = _pieces(plant, asks)
    runs: list[Run] = []
    now = min((piece.ask.begin for piece in pieces), default=0)
    while pieces:
        chosen = _choose(piece for piece in pieces if piece.ask.begin <= now)
        coming = [piece.ask.begin for piece in pieces if piece.ask.begin > now]
        until = min([now + piece.left for piece in chosen] + coming)
        for piece in chosen:
            runs += [Run(link, now, until, piece.ask.id) for link in piece.links]
            piece.left -= until - now
        now = until
        pieces = [piece for piece in pieces if piece.left]
        late = next((piece for piece in pieces if now + piece.left > piece.ask.deadline), None)
        if late is not None:
            return _late(late.ask, [each for each in pieces if each.ask is late.ask], now)
    return _joined(runs)


def _late(ask: Ask, pieces: Iterable[_Piece], now: int) -> Refusal:
    """Say by how much an ask would be late, on the link that has the most to do."""
    worst = max(pieces, key=lambda piece: piece.left)
    missing = now + worst.left - ask.deadline
    reason = f"{ask.id} would miss its deadline on link {worst.links[0]} by {missing} bins"
    return Refusal(False, f"{reason}, earliest deadline first")


def _urgency(ask: Ask) -> tuple[int, NodeName, int, int]:
    return ask.deadline, ask.id.origin, ask.id.boot, ask.id.number


def _choose(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Return who works now: the first in order, wherever all their links and nodes are free."""
    chosen: list[_Piece] = []
    taken: set[LinkName] = set()
    busy: dict[NodeName, int] = {}
    for piece in pieces:
        if not taken.isdisjoint(piece.links):
            continue
        if any(busy.get(node, 0) >= most for node, most in piece.bounds):
            continue
        taken.update(piece.links)
        for node, _ in piece.bounds:
            busy[node] = busy.get(node, 0) + 1
        chosen.append(piece)
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

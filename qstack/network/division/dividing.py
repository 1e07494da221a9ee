"""Masters: from the controller's bins to cycles of the link, and to the link's timetable.

The controller's words of its clock are late by their way, and never early; the earliest counts,
moved a little for clocks that drift apart. The cycle of a link is known from its station in the
same way. So a bin begins, at a link, as late as both words of the least late kind were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from qstack.errors import RemoteProtocolError
from qstack.link.service import LinkClock
from qstack.machine import record
from qstack.messages.circuits import CircuitId
from qstack.messages.schedule import BinRun, BinsClock, BinsPlan, CircuitRun, Timetable
from qstack.physical.service import LinkParameters
from qstack.units import SECOND, BootId, Duration, Instant, LinkName, NodeName

LEAK_SHIFT = 13
"""An earliest word is taken as later by the 2^-13th part of the time since: computers' clocks."""
TOLERANCE = 64
"""A timetable stays while its bins are off by less than one part in so many of a bin."""
MOST_RUNS = 4_096
LONGEST_BIN: Duration = 3_600 * SECOND


class BinsEstimate:
    """When bin 0 of the controller's present life began, by this node's clock."""

    __slots__ = ("_at", "began", "boot")

    def __init__(self) -> None:
        self.boot: BootId = 0
        self.began: Instant | None = None
        self._at: Instant = 0

    def heard(self, boot: BootId, into_ns: Duration, now: Instant) -> None:
        """The controller said, some time ago, that bin 0 of this life had begun `into_ns` ago."""
        began = now - into_ns
        if boot == self.boot and self.began is not None:
            began = min(began, self.began + ((now - self._at) >> LEAK_SHIFT))
        self.boot, self.began, self._at = boot, began, now


Owner = tuple[NodeName, int]


@record
class _Sent:
    """What a link was told, and by which beginnings of bin 0 and of cycle 0 it was made."""

    table: Timetable | None
    began: Instant
    clock: LinkClock


@attrs.define
class _Plan:
    """A link of which this node is master, its plan, its clock, and what it was told."""

    parameters: LinkParameters
    plan: BinsPlan | None = None
    clock: LinkClock | None = None
    sent: _Sent | None = None
    up: bool = False
    roused: bool = False


class Dividing:
    """The links of a node that it is master of, and that are divided in time.

    `divide` takes a link's name and what is to hold there from now on. `owner_of`: (origin,
    purpose) of the link requests of a circuit on a link, None where the circuit is not ready here.
    """

    __slots__ = ("_divide", "_estimate", "_links", "_owner_of", "now")

    def __init__(
        self,
        node: NodeName,
        links: Iterable[LinkParameters],
        divide: Callable[[LinkName, Timetable | None], None],
        owner_of: Callable[[CircuitId, LinkName], Owner | None],
    ) -> None:
        self._links = {
            link.name: _Plan(link)
            for link in links
            if link.scheduler == "time-division" and link.master == node
        }
        self._divide = divide
        self._owner_of = owner_of
        self._estimate = BinsEstimate()
        self.now: Instant = 0

    def planned(self, plan: BinsPlan) -> None:
        """Take what the controller says of a link."""
        link = self._links.get(plan.link)
        _check(plan)
        if link is None:
            raise RemoteProtocolError(f"link {plan.link!r} is not divided in time from here")
        self._estimate.heard(plan.boot, plan.bin * plan.bin_ns + plan.into_ns, self.now)
        link.plan = plan
        self._make(link)
        self._made_anew(plan.bin_ns)

    def told_time(self, clock: BinsClock) -> None:
        """Take the controller's word of its clock; it means nothing without a plan of that life."""
        lengths = {
            link.plan.bin_ns
            for link in self._links.values()
            if link.plan is not None and link.plan.boot == clock.boot
        }
        if not lengths:
            return
        bin_ns = lengths.pop()
        if clock.bin < 0 or not 0 <= clock.into_ns < bin_ns:
            raise RemoteProtocolError(f"{clock} cannot be")
        self._estimate.heard(clock.boot, clock.bin * bin_ns + clock.into_ns, self.now)
        self._made_anew(bin_ns)

    def _made_anew(self, bin_ns: Duration) -> None:
        """Where the clock turns out to be quite another, timetables are."""
        began = self._estimate.began
        for link in self._links.values():
            if link.sent is None or began is None:
                continue
            if abs(began - link.sent.began) > bin_ns // TOLERANCE:
                self._make(link)

    def clock(self, name: LinkName, clock: LinkClock) -> None:
        """The link's cycle is known, or better than before."""
        link = self._links.get(name)
        if link is None:
            return
        link.clock = clock
        sent = link.sent
        if link.plan is None:
            return
        if sent is not None:
            same = (sent.clock.station_boot, sent.clock.epoch) == (clock.station_boot, clock.epoch)
            off = abs(sent.clock.began - clock.began)
            if same and off <= link.plan.bin_ns // TOLERANCE:
                return
        self._make(link)

    def seen(self, name: LinkName, up: bool) -> None:
        """A link is up, or down: then its other end has lost what it was told."""
        link = self._links.get(name)
        if link is None or link.up == up:
            return
        link.up = up
        link.sent, link.roused = None, False
        if up:
            self._make(link)

    def changed(self, links: Iterable[LinkName]) -> None:
        """A circuit on these links has become ready, or is over."""
        for name in links:
            link = self._links.get(name)
            if link is not None:
                self._make(link)

    def report(self, now: Instant) -> dict[LinkName, list[dict[str, Any]]]:
        """Return who has which bins of the links of which this node is master, from now on."""
        found = {}
        for name, link in self._links.items():
            coming = [] if link.plan is None else list(self._coming(link.plan, now))
            found[name] = [
                {
                    "circuit": str(run.circuit),
                    "bins": [run.begin, run.end],
                    "here": self._owner_of(run.circuit, name) is not None,
                }
                for run in coming
            ]
        return found

    # --- timetables ------------------------------------------------------------------------------

    def _coming(self, plan: BinsPlan, now: Instant) -> Iterable[CircuitRun]:
        """The runs of a plan that are not over."""
        began = self._estimate.began
        if began is None or plan.boot != self._estimate.boot:
            return ()
        return (run for run in plan.runs if began + run.end * plan.bin_ns > now)

    def _make(self, link: _Plan) -> None:
        """Tell a link its timetable, if it is another than what it was told."""
        began, plan, clock = self._estimate.began, link.plan, link.clock
        if plan is None or began is None or not link.up or plan.boot != self._estimate.boot:
            return
        coming = tuple(self._coming(plan, self.now))[:MOST_RUNS]
        if clock is None:
            # Any change makes both ends ask their station, whose reply tells the cycle.
            if coming and not link.roused:
                link.roused = True
                self._divide(link.parameters.name, None)
            return
        table = self._table(link.parameters, plan, coming, clock)
        if link.sent is not None and link.sent.table == table:
            return
        before, link.sent = link.sent, _Sent(table, began, clock)
        if table is not None or (before is not None and before.table is not None):
            self._divide(link.parameters.name, table)

    def _table(
        self,
        link: LinkParameters,
        plan: BinsPlan,
        coming: Iterable[CircuitRun],
        clock: LinkClock,
    ) -> Timetable | None:
        """Return the timetable, whose own bins are single cycles: those of plans have any length.

        A cycle belongs to the bin that it begins in. Runs whose circuit is not ready are nobody's.
        """
        began, cycle_ns = self._estimate.began or 0, link.cycle_ns
        runs: list[tuple[int, int, Owner]] = []
        for run in coming:
            owner = self._owner_of(run.circuit, link.name)
            ends = (began + number * plan.bin_ns - clock.began for number in (run.begin, run.end))
            begin, end = (max(0, -(-ns // cycle_ns)) for ns in ends)
            if owner is not None and begin < end:
                runs.append((begin, end, owner))
        if not runs:
            return None
        first, after = runs[0][0], runs[-1][1]
        own = tuple(BinRun(begin - first, end - first, *owner) for begin, end, owner in runs)
        where = clock.station_boot, clock.epoch, first
        return Timetable(*where, 1, after - first, 1, True, own)


def _check(plan: BinsPlan) -> None:
    """RemoteProtocolError for a plan that means nothing."""
    if not 0 < plan.bin_ns <= LONGEST_BIN or plan.bin < 0 or not 0 <= plan.into_ns < plan.bin_ns:
        raise RemoteProtocolError(f"a plan for link {plan.link!r} with times that cannot be")
    last = 0
    for run in plan.runs:
        if not last <= run.begin < run.end <= 1 << 40:
            raise RemoteProtocolError(f"a plan for link {plan.link!r} whose runs overlap")
        last = run.end

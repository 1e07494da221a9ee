"""The controller: what it granted to whom, in bins of its own, and what masters are told of it.

Bin 0 begins with the controller's life. Whoever is granted bins gets them on all links of the
way together. What is asked is placed at once, from a few bins ahead on, beside what was granted
and is not over; what was granted is kept, though perhaps in other bins than before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import attrs

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.machine import Action, Note, Send, Tick, record
from qstack.messages.circuits import CircuitId
from qstack.messages.schedule import (
    BinsAnswer,
    BinsAsk,
    BinsRelease,
    CircuitRun,
)
from qstack.network.division.masters import Bins, Masters
from qstack.network.places import LONGEST
from qstack.network.schedule import Ask, Plant, Refusal, Run, admit
from qstack.network.service import TimeDivision
from qstack.units import SECOND, BootId, Duration, Instant, LinkName, NodeName, earliest

LEAD_BINS = 2
"""The bin under way and the next stay as they are: so long masters and stations may take."""
MOST_ASKS = 1_024
MOST_RUNS = 1_024
"""So many runs a link may be divided into."""
LONGEST_WORK: Duration = 366 * 86_400 * SECOND
"""Longer times are refused as nonsense."""

Ends: TypeAlias = tuple[NodeName, NodeName]


@record
class NodeThere:
    """The adjacency with a node that may ask is up, in this life of it."""

    node: NodeName
    boot: BootId


@record
class NodeGone:
    """It is lost. What the node was granted stays for its lease."""

    node: NodeName


@record
class FromAsker:
    """A BinsAsk or BinsRelease of a node."""

    node: NodeName
    message: Any


ControllerEvent: TypeAlias = NodeThere | NodeGone | FromAsker | Tick


@attrs.define
class _Grant:
    """What one circuit was granted: on which links, before which bin, and until when that holds."""

    ask: BinsAsk
    links: tuple[LinkName, ...]
    deadline: int
    lease_until: Instant


def nobody_knows(node: NodeName) -> int | None:
    """Say of every node that its qubits are not known."""
    return None


class Controller:
    """The pure machine of the controller role.

    `handle` takes a ControllerEvent and returns Send and Note actions; what a node must not send
    raises RemoteProtocolError and changes nothing. `qubits_at`: how many communication qubits a
    node has, None where that is not known: in so many bins at once it can be.
    """

    __slots__ = (
        *("_actions", "_bins", "_ends", "_grants", "_masters", "_now", "_qubits_at", "_runs"),
        *("boot", "division", "node"),
    )

    def __init__(
        self,
        node: NodeName,
        boot: BootId,
        division: TimeDivision,
        qubits_at: Callable[[NodeName], int | None] = nobody_knows,
    ) -> None:
        self.node, self.boot = node, boot
        self.division = division
        self._qubits_at = qubits_at
        self._bins = Bins(division.bin_ns)
        self._masters = Masters(node, boot, self._bins)
        self._now: Instant = 0
        self._grants: dict[CircuitId, _Grant] = {}
        self._ends: dict[LinkName, Ends] = {}
        self._runs: tuple[Run, ...] = ()
        self._actions: list[Action] = []

    # --- what is known -------------------------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """When a lease ends, or masters are to hear of the clock."""
        leases = (grant.lease_until for grant in self._grants.values())
        return earliest(self._masters.clock_at, *leases)

    @property
    def granted(self) -> tuple[CircuitId, ...]:
        """Whose bins it keeps."""
        return tuple(self._grants)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The schedule: what was under way or to come when something last happened."""
        return self._runs

    def report(self, now: Instant) -> list[dict[str, Any]]:
        """Return who has which bins, in JSON's types; `bins` counts those that are not over."""
        here = self._bins.at(now)
        return [
            {
                "circuit": str(circuit),
                "links": list(grant.links),
                "bins": sum(
                    run.end - max(run.begin, here) for run in self._coming(grant.links[0], circuit)
                ),
                "before_ns": max(0, self._bins.begin(grant.deadline) - now),
                "lease_ns": max(0, grant.lease_until - now),
            }
            for circuit, grant in self._grants.items()
        ]

    @property
    def bins(self) -> Bins:
        """Which bin is when."""
        return self._bins

    def _coming(self, link: LinkName, circuit: CircuitId | None = None) -> list[Run]:
        """The runs of a link that are not over, in order; of one circuit if it is given."""
        here = self._bins.at(self._now)
        return [
            run
            for run in self._runs
            if run.link == link and run.end > here and circuit in (None, run.id)
        ]

    # --- stepping ------------------------------------------------------------------------------

    def handle(self, event: ControllerEvent, now: Instant) -> list[Action]:
        """Take one event; return what is to be done about it."""
        self._bins.start(now)
        self._now = now
        here = self._bins.at(now)
        self._runs = tuple(run for run in self._runs if run.end > here)
        match event:
            case NodeThere(node, boot):
                self._up(node, boot)
            case NodeGone(node):
                self._masters.gone(node)
            case FromAsker(node, message):
                self._told_by(node, message)
            case Tick():
                self._tick()
        actions, self._actions = self._actions, []
        return actions

    def _told_by(self, node: NodeName, message: Any) -> None:
        if message.circuit.origin != node:
            raise RemoteProtocolError(f"{node} asks for {message.circuit}, which is not its own")
        match message:
            case BinsAsk():
                self._asked(node, message)
            case BinsRelease():
                self._drop([message.circuit])
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} is not for a controller")

    def _up(self, node: NodeName, boot: BootId) -> None:
        """A node can be reached: what it had in a former life is free, and it hears its plans."""
        self._masters.up(node)
        self._drop([c for c in self._grants if c.origin == node and c.boot != boot])
        mine = [link for link, ends in self._ends.items() if min(ends) == node]
        for link in mine:
            self._masters.forget(link)
        self._tell(mine)

    def _tick(self) -> None:
        now = self._now
        late = [circuit for circuit, grant in self._grants.items() if now >= grant.lease_until]
        for circuit in late:
            self._note("bins-lease-over", circuit)
        self._drop(late)
        clock_at = self._masters.clock_at
        if clock_at is not None and now >= clock_at:
            self._say_clock()

    def _note(self, name: str, circuit: CircuitId, **fields: Any) -> None:
        self._actions.append(Note(name, (("circuit", str(circuit)), *fields.items())))

    # --- asks ----------------------------------------------------------------------------------

    def _asked(self, node: NodeName, ask: BinsAsk) -> None:
        self._check(ask)
        grant = self._grants.get(ask.circuit)
        if grant is not None and not ask.dry:
            if grant.ask.hops != ask.hops:
                raise RemoteProtocolError(f"{ask.circuit} goes another way than before")
            if self._coming(grant.links[0], ask.circuit):
                grant.lease_until = self._now + self.division.lease_ns
                self._grant(node, ask.circuit, grant.links[0])
                return
            self._drop([ask.circuit])  # all its bins are over, and it needs more
        if len(self._grants) >= MOST_ASKS:
            reason = f"{MOST_ASKS} circuits have bins already"
            self._refuse(node, ask, ErrorCode.NO_RESOURCES, reason)
            return
        lost, whole = ask.lost_ns, self.division.bin_ns
        if lost >= whole:
            reason = f"bins of {whole} ns are too short: {lost} ns of each are lost on this way"
            self._refuse(node, ask, ErrorCode.UNSUPPORTED, reason)
            return
        need = -(-ask.work_ns // (whole - lost))
        self._place(node, ask, need)

    def _place(self, node: NodeName, ask: BinsAsk, need: int) -> None:
        """Find bins for what is asked beside what was granted, or say why there are none."""
        origin, before = ask.circuit.origin, {}
        for hop in ask.hops:
            ends = min(origin, hop.node), max(origin, hop.node)
            if self._ends.get(hop.link, ends) != ends:
                raise RemoteProtocolError(f"{hop.link} is between {self._ends[hop.link]}")
            before[hop.link] = ends
            origin = hop.node
        start = self._bins.at(self._now) + LEAD_BINS
        links = tuple(hop.link for hop in ask.hops)
        deadline = self._bins.at(self._now + ask.within_ns)
        new = Ask(ask.circuit, start, deadline, tuple((link, need) for link in links), True)
        ends_of = self._ends | before
        found = admit(self._plant(ends_of), self._left(start), new)
        if isinstance(found, Refusal):
            busiest = max(links, key=lambda link: self._taken(link, start, deadline))
            link = busiest if self._taken(busiest, start, deadline) else ""
            self._refuse(node, ask, ErrorCode.NO_TIME, found.reason, link)
            return
        runs = self._from(start, found)
        counted = Counter(run.link for run in runs)
        most = max(links, key=lambda link: counted[link])
        if counted[most] > MOST_RUNS:
            reason = f"link {most} would be divided into more than {MOST_RUNS} runs"
            self._refuse(node, ask, ErrorCode.NO_RESOURCES, reason, most)
            return
        if ask.dry:
            self._actions.append(Send(node, BinsAnswer(ask.circuit, None, "", "", need, 0, 0)))
            return
        self._ends, self._runs = ends_of, runs
        lease = self._now + self.division.lease_ns
        self._grants[ask.circuit] = _Grant(ask, links, deadline, lease)
        self._grant(node, ask.circuit, links[0])
        self._tell(sorted({run.link for run in runs}))

    def _check(self, ask: BinsAsk) -> None:
        nodes = [ask.circuit.origin, *(hop.node for hop in ask.hops)]
        if len(set(nodes)) < len(nodes) or not 1 <= len(ask.hops) <= LONGEST:
            raise RemoteProtocolError(f"{ask.circuit} asks for bins by {nodes}")
        if len({hop.link for hop in ask.hops}) < len(ask.hops):
            raise RemoteProtocolError(f"{ask.circuit} asks for bins of a link twice")
        times = ask.work_ns, ask.within_ns
        if not all(0 < each <= LONGEST_WORK for each in times) or ask.lost_ns < 0:
            raise RemoteProtocolError(f"{ask.circuit} asks for times that mean nothing")

    def _plant(self, ends: dict[LinkName, Ends]) -> Plant:
        nodes = {node for pair in ends.values() for node in pair}
        qubits = {node: self._qubits_at(node) for node in sorted(nodes)}
        return Plant(ends, {node: count for node, count in qubits.items() if count})

    def _left(self, start: int) -> list[Ask]:
        """What was granted and lies at or after bin `start`."""
        left: dict[tuple[LinkName, Any], int] = {}
        for run in self._runs:
            if run.end > start:
                key = run.link, run.id
                left[key] = left.get(key, 0) + run.end - max(run.begin, start)
        found = []
        for circuit, grant in self._grants.items():
            bins = left.get((grant.links[0], circuit), 0)
            if bins:
                needs = tuple((link, bins) for link in grant.links)
                found.append(Ask(circuit, start, grant.deadline, needs, True))
        return found

    def _from(self, start: int, after: Iterable[Run]) -> tuple[Run, ...]:
        """The schedule as it was up to bin `start`, and `after` from there.

        What somebody has on both sides of `start` is one run.
        """
        kept: dict[tuple[LinkName, Any], Run] = {}
        runs: list[Run] = []
        for run in self._runs:
            if run.end < start:
                runs.append(run)
            elif run.begin < start:
                kept[run.link, run.id] = Run(run.link, run.begin, start, run.id)
        for run in after:
            former = kept.pop((run.link, run.id), None) if run.begin == start else None
            runs.append(run if former is None else Run(run.link, former.begin, run.end, run.id))
        runs += kept.values()
        return tuple(sorted(runs, key=lambda run: (run.begin, run.link)))

    def _taken(self, link: LinkName, start: int, deadline: int) -> int:
        return sum(
            max(0, min(run.end, deadline) - max(run.begin, start)) for run in self._coming(link)
        )

    def _refuse(
        self, node: NodeName, ask: BinsAsk, code: ErrorCode, reason: str, link: LinkName = ""
    ) -> None:
        self._note("bins-refused", ask.circuit, reason=reason)
        self._actions.append(Send(node, BinsAnswer(ask.circuit, code, reason, link, 0, 0, 0)))

    def _grant(self, node: NodeName, circuit: CircuitId, link: LinkName) -> None:
        here, runs = self._bins.at(self._now), self._coming(link, circuit)
        bins = sum(run.end - max(run.begin, here) for run in runs)
        first = max(0, self._bins.begin(runs[0].begin) - self._now) if runs else 0
        last = self._bins.begin(runs[-1].end) - self._now if runs else 0
        self._actions.append(Send(node, BinsAnswer(circuit, None, "", "", bins, first, last)))

    def _drop(self, circuits: Iterable[CircuitId]) -> None:
        """These need their bins no more, from a few bins ahead on: others may go before.

        If the order of deadlines could not keep what was granted without them, as can be where
        links are asked for together, all others stay where they are.
        """
        gone = {
            circuit: self._grants.pop(circuit) for circuit in circuits if circuit in self._grants
        }
        if not gone:
            return
        start = self._bins.at(self._now) + LEAD_BINS
        touched = {run.link for run in self._runs}
        touched |= {link for grant in gone.values() for link in grant.links}
        self._runs = tuple(run for run in self._runs if run.id not in gone)
        again = _schedule(self._plant(self._ends), self._left(start))
        if again is not None:
            self._runs = self._from(start, again)
        self._tell(sorted(touched))

    # --- masters -------------------------------------------------------------------------------

    def _tell(self, links: Iterable[LinkName]) -> None:
        """Tell the masters of these links what is new; forget links of which nobody has bins."""
        used = {link for grant in self._grants.values() for link in grant.links}
        coming: dict[LinkName, list[CircuitRun]] = {}
        for run in self._runs:
            found = CircuitRun(run.begin, run.end, _circuit(run))
            coming.setdefault(run.link, []).append(found)
        for link in links:
            runs = tuple(coming.get(link, ()))
            self._actions += self._masters.tell(link, min(self._ends[link]), runs, self._now)
            if link not in used and not runs:
                self._masters.forget(link)
                del self._ends[link]

    def _say_clock(self) -> None:
        """Tell the masters of links that somebody has bins of which bin it is."""
        divided = {run.link for run in self._runs}
        masters = {min(self._ends[link]) for link in divided}
        self._actions += self._masters.say_clock(masters, self._now)


def _circuit(run: Run) -> CircuitId:
    if not isinstance(run.id, CircuitId):
        raise TypeError(f"bins of {run.id}, which is no circuit")
    return run.id


def _schedule(plant: Plant, asks: list[Ask]) -> tuple[Run, ...] | None:
    """Return the runs of all these, None where the order of deadlines cannot keep them."""
    if not asks:
        return ()
    *others, last = asks
    found = admit(plant, others, last)
    return None if isinstance(found, Refusal) else found

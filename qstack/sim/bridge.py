"""Node programs in virtual time: trio tasks on the heap of a whole network.

``async with running(network) as session:`` puts the present trio run into the lab time of the
network (:mod:`qstack.sim.clock`); ``session.node(name)`` is then the very class that a program has
on live processes, with a line that leads to a user host on the heap instead of one behind a
socket. What the heap delivers sets an event of the waiting task and stops the heap, so that the
task runs before anything else happens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from qstack.drivers.live import LiveNode, Unreachable
from qstack.errors import ConfigError, LocalProtocolError
from qstack.sim.clock import HeapClock, Stalled, Watch, tasks_from, virtual_time
from qstack.sim.heap import WORLD, EventHeap
from qstack.sim.network import VirtualNetwork
from qstack.stack import FromNode, NodeLost, NodeReached
from qstack.stack.assembly import roles
from qstack.units import SECOND, Duration, Instant, NodeName

PATIENCE_NS: Duration = 10_000 * SECOND
"""Longest wait of a program for its next delivery, in lab time, unless told otherwise."""

_QUIET_INTERVALS = 100
"""Silence for so many keepalives, or hellos, is more than any peer needs to be lost and found."""

_UPKEEP = ("control:", "network:Route", "network:CircuitRefresh")

_NOT_OURS = ("trio.", "contextlib", "qstack.drivers.")
"""Where a program does not wait by its own doing."""


@attrs.frozen
class LabTime:
    """The lab time of a heap."""

    heap: EventHeap

    def now(self) -> Instant:
        """Return the present instant."""
        return self.heap.now


class HeapLine:
    """A program's line to one node: a user host on the heap, and the node as it is seen there.

    What is said before the node has answered waits until it does.
    """

    def __init__(self, network: VirtualNetwork, user: NodeName, node: NodeName) -> None:
        self.clock = LabTime(network.heap)
        self.node = LiveNode(node, self)
        self.reached = False
        self.bell: HeapClock | None = None
        self._user = user
        self._heap = network.heap
        self._early: list[Any] = []

    def post(self, event: Any) -> None:
        """Give the user host an event of the program."""
        if self.reached:
            self._heap.post(self._user, event)
        else:
            self._early.append(event)

    def listen(self, event: Any, now: Instant) -> Iterable[Any]:
        """Take what the user host indicates; see EventHeap.add."""
        if self.bell is not None:
            self.bell.tell()
        match event:
            case FromNode():
                self.node.told(event.message)
            case NodeReached():
                self.reached = True
                early, self._early = self._early, []
                return early
            case NodeLost():
                self.reached = False
                lost = f"{self.node.name} was lost at {now / SECOND:g} s: {event.reason}"
                self.node.lost(
                    Unreachable(
                        f"{lost}; what it held for this program is gone: ask the session for "
                        "the node again"
                    )
                )
                self.node = LiveNode(self.node.name, self)
        return ()


class Session:
    """The nodes of a network while a program runs. Made by :func:`running`."""

    def __init__(self, network: VirtualNetwork, number: int) -> None:
        self.network = network
        self.clock: HeapClock | None = None
        self._number = number
        self._known = roles(network.links)
        self._lines: dict[NodeName, HeapLine] = {}
        self._program = trio.lowlevel.current_task()
        self._traffic = -1

    def node(self, name: NodeName) -> LiveNode:
        """Return a node as its user sees it; after a loss, with a fresh start.

        ConfigError for a name that the network does not have, LocalProtocolError after the end.
        """
        if name not in self._known:
            known = ", ".join(self._known)
            raise ConfigError([f"there is no node {name!r} in this network: there are {known}"])
        if self.clock is None:
            raise LocalProtocolError("this session has ended: the network does not run any more")
        line = self._lines.get(name)
        if line is None:
            user = f"user-{self._number}-{name}"
            line = self._lines[name] = HeapLine(self.network, user, name)
            line.bell = self.clock
            self.network.user(user, [name], line.listen)
        return line.node

    @property
    def now(self) -> Instant:
        """The present instant of lab time."""
        return self.network.heap.now

    def close(self, reason: str) -> None:
        """Say goodbye to the nodes, which free what the program still holds."""
        self.clock = None
        heap = self.network.heap
        for name, line in self._lines.items():
            line.bell = None
            heap.stop(f"user-{self._number}-{name}", reason)
            line.node.lost(Unreachable(f"{name}: {reason}"))
        heap.run(heap.now + 2 * self.network.surroundings.user_ns)

    # --- whether anything can still come --------------------------------------------------

    def busy(self) -> bool:
        """Whether anything but the upkeep of adjacencies went on, goes on, or is to come."""
        heap, before = self.network.heap, self._traffic
        counts = heap.frames.items()
        self._traffic = sum(count for kind, count in counts if not kind.startswith(_UPKEEP))
        if before != self._traffic or heap.awaits or heap.host(WORLD).deadline is not None:
            return True
        return any(host.work_deadline is not None for _, host in self._hosts())

    def _hosts(self) -> Iterator[tuple[NodeName, Any]]:
        for name in self._known:
            if self.network.heap.lives(name):
                yield name, self.network.host(name)

    def explain(self) -> str:
        """Say what the program waits for and what each node is doing."""
        lines = []
        for task in tasks_from(self._program):
            lines.append(f"  task {task.name.rpartition('.')[2]} waits {_where(task)}")
        for name, line in self._lines.items():
            lines += [f"  {name}: the program waits for {what}" for what in line.node.waiting()]
            if not line.reached:
                lines.append(f"  {name} does not answer the program")
        here = dict(self._hosts())
        for name in self._known:
            lines.append(f"  {name}: {_doing(here[name], self.now) if name in here else 'is down'}")
        return "\n".join(lines)


def _where(task: trio.lowlevel.Task) -> str:
    """Say in which line of the program's own code a task waits."""
    found = "where nobody can say"
    for frame, line in task.iter_await_frames():
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_NOT_OURS):
            break
        found = f"in {frame.f_code.co_name}, {frame.f_code.co_filename}:{line}"
    return found


def _doing(host: Any, now: Instant) -> str:
    """Say what a host is doing: its links, its requests, whom it misses."""
    status = host.status(now)
    missed = [peer for peer, each in status["neighbours"].items() if not each["up"]]
    parts = [f"no contact with {', '.join(missed)}"] if missed else []
    for link, rooms in status.get("links", {}).items():
        physical = rooms.get("physical", {})
        requests = rooms.get("link", {}).get("requests", [])
        state = physical.get("state", "") if isinstance(physical, dict) else ""
        parts.append(f"link {link} {state}".rstrip())
        parts += [
            f"request {each['request']} {each['state']}, {each['reported']} of {each['wanted']}"
            for each in requests
        ]
        for each in physical.get("troubles", {}).values() if isinstance(physical, dict) else ():
            parts.append(str(each))
        if "link" in rooms and not requests:
            parts.append("no request")
    slots = status.get("slots")
    if slots and slots["communication_free"] < slots["communication"]:
        parts.append(f"{slots['communication_free']} of {slots['communication']} memories free")
    return ", ".join(parts)


@asynccontextmanager
async def running(
    network: VirtualNetwork, number: int, patience_ns: Duration = PATIENCE_NS
) -> AsyncIterator[Session]:
    """Let programs use the network while the block lasts. `number`: of this block, from 1.

    Raises :class:`Stalled` where a program waits in vain, and LocalProtocolError as
    :func:`~qstack.sim.clock.virtual_time` does.
    """
    session = Session(network, number)
    timing = network.surroundings.timing
    quiet_ns = _QUIET_INTERVALS * max(timing.keepalive_ns, timing.hello_interval_ns)
    watch = Watch(quiet_ns, patience_ns, session.busy, session.explain)
    with virtual_time(network.heap, watch, f"{network.seed}/{number}") as clock:
        session.clock = clock
        try:
            yield session
        finally:
            if clock.failure is None or isinstance(clock.failure, Stalled):
                session.close("the program ended")

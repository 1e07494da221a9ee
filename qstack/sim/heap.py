"""The event heap: many hosts, one world and faulty wires in one process, in virtual time.

One heap of instants drives everything; what is due at an instant is taken in the order in which it
was put there, so one seed makes one history. Where many hosts keep step, as links of equal cycles
do, an instant has many entries and the heap stays small. The machines are those that run live:
the heap contains no protocol logic and the hosts cannot see each other but through wires. What can
go wrong on wires is in :mod:`qstack.sim.wires`, with clocks in :mod:`qstack.sim.clocks`; what is
off costs nothing here.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from qstack.hal.server import Commanded, OwnerGone
from qstack.machine import (
    DRAINED,
    TICK,
    Arrived,
    Device,
    FromDevice,
    Hand,
    Handed,
    Note,
    Transmit,
    Up,
)
from qstack.messages.wire import Datagram
from qstack.sim.clocks import NodeClock, RunningClock, check_clock
from qstack.sim.company import WORLD, Company
from qstack.sim.garbage import SELDOM_COLLECTED
from qstack.sim.tally import Tally
from qstack.sim.targets import TAKEN, WAKE, Entry, Target
from qstack.sim.wires import NOBODY, Wire
from qstack.sim.wiring import Wiring
from qstack.units import Chance, Duration, Instant, NodeName

__all__ = ["WORLD", "EventHeap", "Wire"]


class EventHeap(Company):
    """See the module. Hosts are added with :meth:`add`, then :meth:`run` turns the heap.

    `wire_bytes`: datagrams go through the codec on every hop. `device_ns`: latency of the
    hardware port, one way. `watch`, if set, is called with (target, event, now, actions) after
    every step: the trace, and the checkers' eyes; `now` is by the target's own clock, the true
    instant is that of the heap. `wiring`: the wires, and what is wrong with them. Over a plain
    wire without latency hosts hand their datagrams over directly: no entry counts them. Parties
    of one process hand over messages, without any wire.
    """

    def __init__(
        self, chance: Chance, wire: Wire, *, device_ns: Duration = 0, wire_bytes: bool = False
    ) -> None:
        super().__init__(Wiring(chance.fork("wires"), wire, as_bytes=wire_bytes))
        self.steps = 0
        self.entries = 0
        self.watch: Callable[[NodeName, Any, Instant, list[Any]], None] | None = None
        self._device_ns = device_ns
        # The entries of an instant stay in `due` until another is due: more may yet be put there.
        self._instants: list[Instant] = []
        self._due: dict[Instant, list[Entry]] = {}
        self._at: Instant = -1
        self._present: list[Entry] = []
        self._place = 0
        self._handed: deque[Entry] = deque()
        self._limit = 1 << 62
        self._world = self._target(WORLD)
        self._script = Target("", drains=False)
        self._lives = 0
        self._tally = Tally()

    # --- who takes part ------------------------------------------------------------------

    def add(
        self,
        name: NodeName,
        machine: Any,
        listener: Callable[[Any, Instant], Iterable[Any]] | None = None,
        clock: NodeClock | None = None,
    ) -> None:
        """Let a host take part from now on, or again with a new life.

        `listener` takes what the host indicates by Up, with the true instant, and returns
        events for the host, which it takes at once. A host that has `start` is started. The
        world is the target named :data:`WORLD`. A `clock` shows its offset from now on.
        """
        self._lives += 1
        target = self._target(name)
        target.machine, target.life, target.wake = machine, self._lives, None
        target.drains = name != WORLD and getattr(machine, "drains", True)
        target.listener = target.listener if listener is None else listener
        target.undrained = False
        target.answers.clear()
        target.clock = None
        if clock is not None:
            check_clock(clock)
            target.clock = RunningClock(clock, self.now)
        start = getattr(machine, "start", None)
        if start is None:
            self._schedule(target)
            return
        self._carry_out(target, start(self._local(target)))
        self._push(self.now, target, DRAINED if target.drains else WAKE)

    def remove(self, name: NodeName) -> None:
        """End a host at once, as a power cut does; the world loses what it owned.

        KeyError where no such host lives.
        """
        if not self.lives(name):
            raise KeyError(name)
        target = self._targets[name]
        target.machine = None
        target.undrained = False
        target.answers.clear()
        if self._world.machine is not None:
            self._push(self.now, self._world, OwnerGone(name))

    def stop(self, name: NodeName, reason: str) -> None:
        """End a host on purpose: it says goodbye to its peers before it goes."""
        target = self._targets[name]
        self._carry_out(target, target.machine.stop(reason, self._local(target)))
        self.remove(name)

    def set_drift(self, name: NodeName, drift_ppt: int) -> None:
        """Let a host's clock run at another rate from now on (parts in 10**12), without a jump."""
        clock = NodeClock(drift_ppt=drift_ppt)
        check_clock(clock)
        target = self._target(name)
        if target.clock is not None:
            target.clock.drift(drift_ppt, self.now)
        elif drift_ppt:
            target.clock = RunningClock(clock, self.now)
        if target.machine is not None:
            self._schedule(target)

    # --- time ----------------------------------------------------------------------------

    def post(self, name: NodeName, event: Any, after_ns: Duration = 0) -> None:
        """Put an event for a target on the heap."""
        self._push(self.now + after_ns, self._target(name), event)

    def call(self, at: Instant, action: Callable[[], None]) -> None:
        """Let something be done to the network at an instant; no entry and no step counts it."""
        self._push(max(at, self.now), self._script, action)

    @property
    def next_at(self) -> Instant | None:
        """The instant of the next entry, None where the heap is empty."""
        if self._place < len(self._present):
            return self._at
        return self._instants[0] if self._instants else None

    @property
    def awaits(self) -> bool:
        """Whether anything is on the heap but wake-ups and datagrams: events yet to come."""
        return any(
            entry[2] is not WAKE and entry[2] is not DRAINED and type(entry[2]) is not Arrived
            for entries in self._due.values()
            for entry in entries
        )

    def run(
        self,
        until: Instant | None = None,
        *,
        stop: Callable[[], bool] | None = None,
        max_steps: int = 10_000_000,
    ) -> bool:
        """Turn the heap until the instant, or until `stop` says so; False if it ran dry.

        Raises RuntimeError after `max_steps` steps: a run that does not end is a bug.
        """
        self._limit = self.steps + max_steps
        with SELDOM_COLLECTED:
            return self._run(until, stop)

    def _run(self, until: Instant | None, stop: Callable[[], bool] | None) -> bool:
        instants, turn = self._instants, self.turn
        while True:
            if self._place >= len(self._present):
                if not instants:
                    return False
                if until is not None and instants[0] > until:
                    self.now = until
                    return True
            turn()
            if stop is not None and stop():
                return True
            if self.steps > self._limit:
                self._endless()

    def turn(self) -> None:
        """Take the next entry of the heap, which must not be empty."""
        place = self._place
        if place >= len(self._present):
            self._advance()
            place = 0
        target, life, event = self._present[place]
        self._present[place] = TAKEN
        self._place = place + 1
        if target.machine is None:
            self._to_nobody(target, life, event)
        else:
            self._serve(target, life, event)
        if self._handed:
            self._hand_over()

    def _serve(self, target: Target, life: int, event: Any) -> None:
        local = self._at if target.clock is None else target.clock.local(self._at)
        if life > 0 and life != target.life:
            event = None
        elif event is WAKE:
            event = self._woken(target, local)
        if event is not None:
            self.entries += 1
            target.undrained = target.drains and event is not DRAINED
            self._step(target, event, local)
            if target.answers:
                self._answer(target, local)
        # Also after an entry that came to nothing: the one before it left the inbox to it.
        if self._place < len(self._present) and self._present[self._place][0] is target:
            return
        self._conclude(target, local)

    def _conclude(self, target: Target, local: Instant) -> None:
        """Let a host know that its inbox is drained, and note when it wants to be woken."""
        while target.undrained:
            target.undrained = False
            self._step(target, DRAINED, local)
            if target.answers:
                self._answer(target, local)
        if target.machine is not None:
            self._schedule(target)

    def _hand_over(self) -> None:
        """Let hosts take what comes from others at the same place, without the heap."""
        handed = self._handed
        while handed:
            target, number, event = handed.popleft()
            if target.machine is None:
                self._to_nobody(target, number, event)
                continue
            if self.steps > self._limit:
                self._endless()
            target.undrained, local = target.drains, self._local(target)
            self._step(target, event, local)
            if target.answers:
                self._answer(target, local)
            if not handed or handed[0][0] is not target:
                self._conclude(target, local)

    def _advance(self) -> None:
        """Go on to the next instant at which something is due."""
        self._due.pop(self._at, None)
        self.now = self._at = heapq.heappop(self._instants)
        self._present, self._place = self._due[self._at], 0

    def _woken(self, target: Target, local: Instant) -> Any:
        """Return what a wake-up comes to: a TICK, or None where it is in vain."""
        if target.wake != self.now:
            return None  # An earlier wake-up took the place of this one.
        target.wake = None
        deadline = target.machine.deadline
        return TICK if deadline is not None and deadline <= local else None

    def _to_nobody(self, target: Target, life: int, event: Any) -> None:
        """Do what a script says; or drop what is for a host that does not live."""
        if target is self._script:
            event()
        elif life < 0:
            self.wiring.paths[-1 - life].counts[NOBODY] += 1

    def _step(self, target: Target, event: Any, local: Instant) -> None:
        self.steps += 1
        actions = target.machine.handle(event, local)
        if self.watch is not None:
            self.watch(target.name, event, local, actions)
        if actions:
            self._carry_out(target, actions)

    def _answer(self, target: Target, local: Instant) -> None:
        """Let a host take what its listener answered."""
        while target.answers:
            if self.steps > self._limit:
                self._endless()
            target.undrained = target.drains
            self._step(target, target.answers.popleft(), local)

    def _endless(self) -> None:
        raise RuntimeError(f"still running after {self.steps} steps, at {self.now} ns")

    def _schedule(self, target: Target) -> None:
        deadline = target.machine.deadline
        if deadline is None:
            return
        if target.clock is not None:
            deadline = target.clock.when(deadline)
        if target.wake is None or deadline < target.wake:
            target.wake = wake = max(deadline, self.now)
            self._push(wake, target, WAKE, target.life)

    def _push(self, instant: Instant, target: Target, event: Any, life: int = 0) -> None:
        due = self._due.get(instant)
        if due is None:
            self._due[instant] = [(target, life, event)]
            heapq.heappush(self._instants, instant)
        else:
            due.append((target, life, event))

    # --- what hosts do -------------------------------------------------------------------

    def _carry_out(self, target: Target, actions: list[Any]) -> None:
        for action in actions:
            kind = type(action)
            if kind is Transmit:
                self._transmit(target, action)
            elif kind is Device:
                command = action.command
                self._tally.ports["command", type(command)] += 1
                event = Commanded(target.name, command)
                self._push(self.now + self._device_ns, self._world, event)
            elif kind is Up:
                self._indicated(target, action.event)
            elif kind is Hand:
                self._tally.words[type(action.word)] += 1
                word = Handed(target.name, action.word)
                self._handed.append((self._target(action.peer), 0, word))
            elif kind is not Note:
                raise TypeError(f"{target.name}: {kind.__name__} is nothing that a host may do")

    def _indicated(self, target: Target, event: Any) -> None:
        if target is self._world:
            body = event.body
            self._tally.ports["report", type(body)] += 1
            owner = self._targets.get(event.owner)
            if owner is not None and owner.machine is not None:
                self._push(self.now + self._device_ns, owner, FromDevice(body), owner.life)
        elif target.listener is not None:
            target.answers.extend(target.listener(event, self.now))

    def _transmit(self, source: Target, action: Transmit) -> None:
        datagram: Datagram = action.datagram
        kinds = self._tally.kinds
        for frame in datagram.frames:
            kinds[frame.kind] += 1
        destination = datagram.header.destination
        path = source.paths.get(destination)
        if path is None:
            path = self._path(source, destination)
        path.sent += 1
        port = action.port
        if path.plain_ns > 0:
            arrived = Arrived(port, datagram)
            self._push(self.now + path.plain_ns, path.target, arrived, path.number)
        elif path.plain_ns == 0:
            self._handed.append((path.target, path.number, Arrived(port, datagram)))
        else:
            for instant, carried in path.carry(datagram, self.now):
                self._push(instant, path.target, Arrived(port, carried), path.number)

    @property
    def frames(self) -> dict[str, int]:
        """Frames sent by "layer:Kind"; "command:Kind" and "report:Kind" of the hardware port."""
        return self._tally.by_name()

"""The event heap: many hosts, one world and faulty wires in one process, in virtual time.

One heap of instants drives everything; what is due at an instant is taken in the order in which it
was put there, so one seed makes one history. Where many hosts keep step, as links of equal cycles
do, an instant has many entries and the heap stays small. The machines are those that run live:
the heap contains no protocol logic and the hosts cannot see each other but through wires. What can
go wrong on wires is in :mod:`qstack.sim.wires`, with clocks in :mod:`qstack.sim.clocks`; what is
off costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

from qstack.hal.server import Commanded, OwnerGone, Reported
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
from qstack.sim.targets import NOTHING_ELSE, TAKEN, WAKE, Entry, Target
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
        # Of those of the present instant so many were taken.
        self._instants: list[Instant] = []
        self._due: dict[Instant, list[Entry]] = {}
        self._at: Instant = -1
        self._present: list[Entry] = []
        self._taken = 0
        self._handed: list[Entry] = []
        self._limit = self._rest_at = 1 << 62
        self._may_rest = False
        self._world = self._target(WORLD)
        self._script = Target("", drains=False)
        self._lives = 0
        self._tally = tally = Tally()
        self._kinds, self._words = tally.kinds, tally.words
        self._commands, self._reports = tally.commands, tally.reports

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
        if self._taken < len(self._present):
            return self._at
        return self._instants[0] if self._instants else None

    @property
    def awaits(self) -> bool:
        """Whether anything is on the heap but wake-ups and datagrams: events yet to come."""
        return any(
            entry[2] is not WAKE and entry[2] is not DRAINED and type(entry[2]) is not Arrived
            for entries in self._due.values()
            for entry in entries[self._taken if entries is self._present else 0 :]
        )

    def run(
        self,
        until: Instant | None = None,
        *,
        stop: Callable[[], bool] | None = None,
        max_steps: int = 10_000_000,
        rest_after: int | None = None,
    ) -> bool:
        """Turn the heap until the instant, or until `stop` says so; False if it ran dry.

        `stop` is asked after every turn. With `rest_after` it returns after so many steps, or
        where a listener said :meth:`rest`. Raises RuntimeError after `max_steps` steps: a run
        that does not end is a bug.
        """
        self._limit = self.steps + max_steps
        self._may_rest = rest_after is not None
        self._rest_at = self._limit + 1 if rest_after is None else self.steps + rest_after
        with SELDOM_COLLECTED:
            return self._run(until, stop)

    def _run(self, until: Instant | None, stop: Callable[[], bool] | None) -> bool:
        instants, handed = self._instants, self._handed
        while True:
            present, at = self._present, self._taken
            if at == len(present):
                if not instants:
                    return False
                if until is not None and instants[0] > until:
                    self.now = until
                    return True
                present, at = self._advance(), 0
            target, life, event = present[at]
            present[at] = TAKEN
            self._taken = at = at + 1
            if target.machine is None:
                self._to_nobody(target, life, event)
            else:
                if event is WAKE:
                    event = self._woken(target, life)
                elif life > 0 and life != target.life:
                    event = None
                if event is None:
                    self._in_vain(target, present, at)
                else:
                    self.entries += 1
                    target.undrained = target.drains and event is not DRAINED
                    self._serve(target, event, present, at)
            if handed:
                self._hand_over()
            if stop is not None and stop():
                return True
            if self.steps >= self._rest_at:
                if self.steps > self._limit:
                    self._endless()
                return True

    def rest(self) -> None:
        """Let :meth:`run`, if it may, return after the present turn: somebody waits for it."""
        if self._may_rest:
            self._rest_at = 0

    def turn(self) -> None:
        """Take the next entry of the heap, if there is one."""
        self._run(None, _at_once)

    def _advance(self) -> list[Entry]:
        """Go on to the next instant at which something is due; return all that is."""
        self._due.pop(self._at, None)
        self.now = self._at = instant = heappop(self._instants)
        self._present, self._taken = self._due[instant], 0
        return self._present

    def _woken(self, target: Target, life: int) -> Any:
        """Return what a wake-up comes to: a TICK, or None where it is in vain."""
        # Of a former life, or an earlier wake-up took the place of this one.
        if (life and life != target.life) or target.wake != self.now:
            return None
        target.wake = None
        deadline = target.machine.deadline
        return TICK if deadline is not None and deadline <= self._local(target) else None

    def _in_vain(self, target: Target, inbox: list[Entry], at: int) -> None:
        """Take an entry that came to nothing: the one before it may have left the inbox to it."""
        if at < len(inbox) and inbox[at][0] is target:
            return
        if target.undrained:
            target.undrained = False
            self._serve(target, DRAINED, NOTHING_ELSE, 0)
        else:
            self._schedule(target)

    def _serve(self, target: Target, event: Any, inbox: list[Entry], at: int) -> None:
        """Let a host take an event, and what its listener answers to what it says.

        Where what comes next in the inbox, `at` there, is not for it, it is told so, and says its
        deadline.
        """
        local = self.now if target.clock is None else target.clock.local(self.now)
        answers, is_last = target.answers, False
        while True:
            self.steps += 1
            actions = target.machine.handle(event, local)
            if self.watch is not None:
                self.watch(target.name, event, local, actions)
            if actions:
                self._carry_out(target, actions)
            if answers:
                if self.steps > self._limit:
                    self._endless()
                target.undrained = target.drains
                event = answers.popleft()
            elif not is_last and at < len(inbox) and inbox[at][0] is target:
                return
            elif target.undrained:
                is_last, target.undrained = True, False
                event = DRAINED
            else:
                break
        self._schedule(target)

    def _hand_over(self) -> None:
        """Let hosts take what comes from others at the same place, without the heap."""
        handed, at = self._handed, 0
        try:
            while at < len(handed):
                target, number, event = handed[at]
                handed[at] = TAKEN
                at += 1
                if target.machine is None:
                    self._to_nobody(target, number, event)
                    continue
                if self.steps > self._limit:
                    self._endless()
                target.undrained = target.drains
                self._serve(target, event, handed, at)
        finally:
            del handed[:at]

    def _to_nobody(self, target: Target, life: int, event: Any) -> None:
        """Do what a script says; or drop what is for a host that does not live."""
        if target is self._script:
            event()
        elif life < 0:
            self.wiring.paths[-1 - life].counts[NOBODY] += 1

    def _endless(self) -> None:
        raise RuntimeError(f"still running after {self.steps} steps, at {self.now} ns")

    def _schedule(self, target: Target) -> None:
        """Note when a host wants to be woken; one whose listener ended it, not at all."""
        machine = target.machine
        deadline = None if machine is None else machine.deadline
        if deadline is None:
            return
        if target.clock is not None:
            deadline = target.clock.when(deadline)
        wake = target.wake
        if wake is None or deadline < wake:
            target.wake = wake = max(deadline, self.now)
            self._push(wake, target, WAKE, target.life)

    def _push(self, instant: Instant, target: Target, event: Any, life: int = 0) -> None:
        due = self._due.get(instant)
        if due is None:
            self._due[instant] = [(target, life, event)]
            heappush(self._instants, instant)
        else:
            due.append((target, life, event))

    # --- what hosts do -------------------------------------------------------------------

    def _carry_out(self, target: Target, actions: list[Any]) -> None:
        for action in actions:
            kind = type(action)
            if kind is Hand:
                word, peer = action.word, action.peer
                self._words[type(word)] = self._words.get(type(word), 0) + 1
                receiver = self._targets.get(peer) or self._target(peer)
                self._handed.append((receiver, 0, Handed(target.name, word)))
            elif kind is Transmit:
                self._transmit(target, action)
            elif kind is Up:
                if target is self._world:
                    self._report(action.event)
                elif target.listener is not None:
                    target.answers.extend(target.listener(action.event, self.now))
            elif kind is Device:
                command = action.command
                self._commands[type(command)] = self._commands.get(type(command), 0) + 1
                event = Commanded(target.name, command)
                self._push(self.now + self._device_ns, self._world, event)
            elif kind is not Note:
                raise TypeError(f"{target.name}: {kind.__name__} is nothing that a host may do")

    def _report(self, reported: Reported) -> None:
        """Carry what a device of the world says to whom it belongs to."""
        body = reported.body
        self._reports[type(body)] = self._reports.get(type(body), 0) + 1
        owner = self._targets.get(reported.owner)
        if owner is not None and owner.machine is not None:
            self._push(self.now + self._device_ns, owner, FromDevice(body), owner.life)

    def _transmit(self, source: Target, action: Transmit) -> None:
        datagram: Datagram = action.datagram
        kinds = self._kinds
        for frame in datagram.frames:
            kinds[frame.kind] = kinds.get(frame.kind, 0) + 1
        destination = datagram.header.destination
        path = source.paths.get(destination) or self._path(source, destination)
        path.sent += 1
        latency_ns = path.plain_ns
        if latency_ns > 0:
            arrived = Arrived(action.port, datagram)
            self._push(self.now + latency_ns, path.target, arrived, path.number)
        elif latency_ns == 0:
            self._handed.append((path.target, path.number, Arrived(action.port, datagram)))
        else:
            for instant, carried in path.carry(datagram, self.now):
                self._push(instant, path.target, Arrived(action.port, carried), path.number)

    @property
    def frames(self) -> dict[str, int]:
        """Frames sent by "layer:Kind"; "command:Kind" and "report:Kind" of the hardware port."""
        return self._tally.by_name()


def _at_once() -> bool:
    return True

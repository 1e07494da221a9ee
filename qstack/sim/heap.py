"""The event heap: many hosts, one world and faulty wires in one process, in virtual time.

One heap of (instant, order, target, event) drives everything; order is that of insertion, so
one seed makes one history. The machines are those that run live: the heap contains no protocol
logic and the hosts cannot see each other but through wires.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from qstack.codec import decode_datagram, encode_datagram
from qstack.hal.server import Commanded, OwnerGone
from qstack.machine import DRAINED, TICK, Arrived, Device, FromDevice, Note, Transmit, Up, record
from qstack.messages.wire import KINDS, Datagram, Layer
from qstack.units import Chance, Duration, Instant, NodeName

WORLD: NodeName = "world"


@record
class Wire:
    """How datagrams travel between two hosts, one way; probabilities are per datagram.

    A datagram takes `latency_ns` plus a uniform share of `jitter_ns`, so jitter reorders. It may
    be lost, or duplicated.
    """

    latency_ns: Duration
    jitter_ns: Duration = 0
    loss: float = 0.0
    duplicate: float = 0.0


@record
class _Wake:
    """A host's deadline may have come."""


_WAKE = _Wake()


@attrs.define
class _Target:
    """Something that takes events, in its present life."""

    machine: Any
    life: int
    wake: Instant | None
    listener: Callable[[Any, Instant], Iterable[Any]] | None
    undrained: bool = False


class EventHeap:
    """See the module. Hosts are added with :meth:`add`, then :meth:`run` turns the heap.

    `wire_bytes`: datagrams go through the codec on every hop. `device_ns`: latency of the
    hardware port, one way. `watch`, if set, is called with (target, event, now, actions) after
    every step: the trace, and the checkers' eyes.
    """

    def __init__(
        self, chance: Chance, wire: Wire, *, device_ns: Duration = 0, wire_bytes: bool = False
    ) -> None:
        self.now: Instant = 0
        self.steps = 0
        self.entries = 0
        self.frames: dict[str, int] = {}
        self.watch: Callable[[NodeName, Any, Instant, list[Any]], None] | None = None
        self._chance = chance.fork("wires")
        self._default = wire
        self._wires: dict[tuple[NodeName, NodeName], Wire] = {}
        self._cut: set[NodeName] = set()
        self._device_ns = device_ns
        self._wire_bytes = wire_bytes
        self._heap: list[tuple[Instant, int, NodeName, int, Any]] = []
        self._order = 0
        self._targets: dict[NodeName, _Target] = {}
        self._lives = 0

    # --- who takes part ------------------------------------------------------------------

    def add(
        self,
        name: NodeName,
        machine: Any,
        listener: Callable[[Any, Instant], Iterable[Any]] | None = None,
    ) -> None:
        """Let a host take part from now on, or again with a new life.

        `listener` takes what the host indicates by Up, and returns events for the host. A host
        that has `start` is started. The world is the target named :data:`WORLD`.
        """
        self._lives += 1
        if listener is None and name in self._targets:
            listener = self._targets[name].listener
        self._targets[name] = _Target(machine, self._lives, None, listener)
        start = getattr(machine, "start", None)
        if start is not None:
            self._carry_out(name, start(self.now))
            self._push(self.now, name, DRAINED)

    def remove(self, name: NodeName) -> None:
        """End a host at once, as a power cut does; the world loses what it owned."""
        del self._targets[name]
        if WORLD in self._targets:
            self._push(self.now, WORLD, OwnerGone(name))

    def stop(self, name: NodeName, reason: str) -> None:
        """End a host on purpose: it says goodbye to its peers before it goes."""
        self._carry_out(name, self._targets[name].machine.stop(reason, self.now))
        self.remove(name)

    def has(self, name: NodeName) -> bool:
        """Whether a host of this name takes part at present."""
        return name in self._targets

    def host(self, name: NodeName) -> Any:
        """Return the machine of this name."""
        return self._targets[name].machine

    # --- wires ---------------------------------------------------------------------------

    def set_wire(self, one: NodeName, other: NodeName, wire: Wire) -> None:
        """Set both directions between two hosts."""
        self._wires[one, other] = wire
        self._wires[other, one] = wire

    def set_default(self, wire: Wire) -> None:
        """Set what holds between hosts without a wire of their own."""
        self._default = wire

    def cut(self, name: NodeName, cut: bool = True) -> None:
        """Cut a host off the control network, or join it again."""
        (self._cut.add if cut else self._cut.discard)(name)

    # --- time ----------------------------------------------------------------------------

    def post(self, name: NodeName, event: Any, after_ns: Duration = 0) -> None:
        """Put an event for a target on the heap."""
        self._push(self.now + after_ns, name, event)

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
        begun = self.steps
        while self._heap:
            if until is not None and self._heap[0][0] > until:
                self.now = until
                return True
            self._turn()
            if stop is not None and stop():
                return True
            if self.steps - begun > max_steps:
                raise RuntimeError(f"still running after {max_steps} steps, at {self.now} ns")
        return False

    @property
    def awaits(self) -> bool:
        """Whether anything is on the heap but wake-ups and datagrams: events yet to come."""
        return any(
            event is not _WAKE and event is not DRAINED and type(event) is not Arrived
            for _, _, _, _, event in self._heap
        )

    def _turn(self) -> None:
        instant, _, name, life, event = heapq.heappop(self._heap)
        self.now = instant
        target = self._targets.get(name)
        if target is None:
            return
        event = self._due(target, life, event)
        if event is not None:
            self.entries += 1
            self._step(name, target, event)
            target.undrained = name != WORLD and event is not DRAINED
        # Also after an entry that came to nothing: the one before it left the inbox to it.
        if target.undrained:
            following = self._heap[0] if self._heap else None
            if following is None or following[0] != instant or following[2] != name:
                target.undrained = False
                self._step(name, target, DRAINED)
        if self._targets.get(name) is target:
            self._schedule(name, target)

    def _due(self, target: _Target, life: int, event: Any) -> Any:
        """Return what an entry comes to: the event, a TICK, or None where it is in vain."""
        if life and life != target.life:
            return None
        if event is not _WAKE:
            return event
        if target.wake != self.now:
            return None  # An earlier wake-up took the place of this one.
        target.wake = None
        deadline = target.machine.deadline
        return TICK if deadline is not None and deadline <= self.now else None

    def _step(self, name: NodeName, target: _Target, event: Any) -> None:
        self.steps += 1
        actions = target.machine.handle(event, self.now)
        if self.watch is not None:
            self.watch(name, event, self.now, actions)
        if actions:
            self._carry_out(name, actions)

    def _schedule(self, name: NodeName, target: _Target) -> None:
        deadline = target.machine.deadline
        if deadline is not None and (target.wake is None or deadline < target.wake):
            target.wake = max(deadline, self.now)
            self._push(target.wake, name, _WAKE, target.life)

    def _push(self, instant: Instant, name: NodeName, event: Any, life: int = 0) -> None:
        self._order += 1
        heapq.heappush(self._heap, (instant, self._order, name, life, event))

    # --- what hosts do -------------------------------------------------------------------

    def _carry_out(self, name: NodeName, actions: list[Any]) -> None:
        for action in actions:
            kind = type(action)
            if kind is Transmit:
                self._transmit(name, action)
            elif kind is Device:
                self._count("command", type(action.command).__name__)
                self._push(self.now + self._device_ns, WORLD, Commanded(name, action.command))
            elif kind is Up:
                self._indicated(name, action.event)
            elif kind is not Note:
                raise TypeError(f"{name}: {kind.__name__} is nothing that a host may do")

    def _indicated(self, name: NodeName, event: Any) -> None:
        if name == WORLD:
            self._count("report", type(event.body).__name__)
            target = self._targets.get(event.owner)
            life = 0 if target is None else target.life
            report = FromDevice(event.body)
            self._push(self.now + self._device_ns, event.owner, report, life)
            return
        listener = self._targets[name].listener
        for answer in () if listener is None else listener(event, self.now):
            self._push(self.now, name, answer)

    def _transmit(self, name: NodeName, action: Transmit) -> None:
        datagram: Datagram = action.datagram
        destination = datagram.header.destination
        for frame in datagram.frames:
            self._count_frame(frame.kind)
        wire = self._wires.get((name, destination), self._default)
        if name in self._cut or destination in self._cut or self._happens(wire.loss):
            return
        arrivals = 2 if self._happens(wire.duplicate) else 1
        for _ in range(arrivals):
            carried = decode_datagram(encode_datagram(datagram)) if self._wire_bytes else datagram
            delay = wire.latency_ns
            if wire.jitter_ns:
                delay += int(self._chance.uniform() * wire.jitter_ns)
            self._push(self.now + delay, destination, Arrived(action.port, carried))

    def _happens(self, probability: float) -> bool:
        return probability > 0.0 and self._chance.uniform() < probability

    def _count(self, what: str, kind: str) -> None:
        key = f"{what}:{kind}"
        self.frames[key] = self.frames.get(key, 0) + 1

    def _count_frame(self, kind: int) -> None:
        entry = KINDS.get(kind)
        layer = Layer.CONTROL if entry is None else entry.layer
        name = "unknown" if entry is None else entry.cls.__name__
        self._count(layer.name.lower(), name)

"""The pump: one host, driven over UDP sockets in a trio program.

A task per port waits for its socket, or a :class:`~qstack.drivers.loop.Loop` waits for all of them;
a socket is drained until it would block; everything that came in is stepped, then the host is told
that the inbox is empty, and all answers leave bundled.
There is one wake-up for the host's and the devices' deadlines: it is moved only when a deadline
comes nearer, and fires in vain rather than being moved away (a cancel scope per wait costs 11 to
18 % of the processor time, DESIGN section 9).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import attrs
import trio

from qstack.codec import Forged, decode_datagram, encode_datagram
from qstack.drivers.devices import LocalDevices
from qstack.drivers.loop import Loop
from qstack.drivers.ports import MAX_LEARNED, Port
from qstack.drivers.replay import step
from qstack.drivers.timer import make_timer
from qstack.drivers.trace import START, Stop, TraceWriter
from qstack.drivers.udp import Address, format_address
from qstack.errors import RemoteProtocolError
from qstack.machine import (
    DRAINED,
    TICK,
    Arrived,
    Device,
    FromDevice,
    Note,
    Transmit,
    Up,
)
from qstack.units import Duration, Instant, earliest

__all__ = ["MAX_LEARNED", "Counters", "LabClock", "Outside", "Port", "Pump"]

_BATCH = 64
_NOTE_EVERY_NS = 1_000_000_000


class LabClock:
    """Lab time: wall time since this clock was made, times `scale` (lab seconds per wall second).

    Integer arithmetic: no instant is ever rounded twice. `source` returns wall nanoseconds.
    """

    def __init__(self, scale: float = 1.0, source: Callable[[], int] = time.monotonic_ns) -> None:
        exact = Fraction(scale).limit_denominator(1_000_000)
        if exact <= 0:
            raise ValueError(f"a time scale of {scale} makes no sense: it must be above 0")
        self._times, self._over = exact.numerator, exact.denominator
        self._source = source
        self._origin = source()

    def now(self) -> Instant:
        """Return the present instant of lab time."""
        return (self._source() - self._origin) * self._times // self._over

    def wall_seconds(self, lab: Duration) -> float:
        """Return how long a span of lab time lasts on the wall; rounded up to a nanosecond."""
        return -(-lab * self._over // self._times) / 1e9


class Counters:
    """What a pump has seen; all grow only."""

    def __init__(self) -> None:
        self.events = 0
        self.ticks = 0
        self.batches = 0
        self.malformed = 0
        self.forged = 0
        self.strangers = 0
        self.remote_errors = 0
        self.unaddressed = 0

    def report(self) -> dict[str, int]:
        """Return the counters by name."""
        return {
            "events": self.events,
            "ticks": self.ticks,
            "batches": self.batches,
            "malformed": self.malformed,
            "forged": self.forged,
            "strangers": self.strangers,
            "remote_errors": self.remote_errors,
            "unaddressed": self.unaddressed,
        }


@attrs.define
class Outside:
    """What a pump may have besides its host and ports; all of it may be left out.

    `on_up` and `on_note` take what the host indicates and notes, with the instant. `loop` is the
    loop that trio runs in, where it is to wait for the ports and the timer.
    """

    devices: LocalDevices | None = None
    trace: TraceWriter | None = None
    on_up: Callable[[Any, Instant], None] | None = None
    on_note: Callable[[Note, Instant], None] | None = None
    loop: Loop | None = None


class Pump:
    """Drives one host until cancelled. See the module."""

    def __init__(
        self, host: Any, ports: Sequence[Port], clock: LabClock, outside: Outside | None = None
    ) -> None:
        outside = outside or Outside()
        self.host = host
        self.ports = {port.name: port for port in ports}
        neighbours = getattr(host, "neighbours", None)
        if neighbours is not None:
            for port in ports:
                port.holds = neighbours.is_up
        self.clock = clock
        self.counters = Counters()
        self._devices = outside.devices
        self._trace = outside.trace
        self._on_up = outside.on_up
        self._on_note = outside.on_note
        self._loop = outside.loop
        self._events: deque[Any] = deque()
        self._parked = trio.lowlevel.ParkingLot()
        self._timer = make_timer()
        self._armed: Instant | None = None
        self._noted: dict[str, tuple[Instant, int]] = {}
        if self._devices is not None:
            self._devices.woken = self._wake

    def post(self, event: Any) -> None:
        """Give the host an event of the program; what it causes leaves with the next bundle."""
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        self._parked.unpark_all()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the host and drive it. A bug of the host propagates, with the trace flushed."""
        try:
            async with trio.open_nursery() as nursery:
                self._settle(self.clock.now(), START)
                if self._loop is None:
                    for port in self.ports.values():
                        nursery.start_soon(self._listen, port)
                else:
                    nursery.start_soon(self._loop.watch, self._watched())
                if self._loop is None or self._timer.descriptor is None:
                    nursery.start_soon(self._keep_time)
                nursery.start_soon(self._take_posted)
                if self._devices is not None:
                    nursery.start_soon(self._devices.run)
                task_status.started()
        finally:
            self._timer.close()
            if self._trace is not None:
                self._trace.flush()

    def farewell(self, reason: str) -> None:
        """Let the host tell its peers that it stops, after :meth:`run` has ended."""
        self._step(Stop(reason), self.clock.now())

    def report(self) -> dict[str, Any]:
        """Return the counters of the pump and its ports."""
        return {
            **self.counters.report(),
            "ports": {name: port.socket.report() for name, port in self.ports.items()},
        }

    # --- what wakes the host --------------------------------------------------------------

    def _watched(self) -> dict[int, Callable[[], None]]:
        """Return what a loop is to call, by descriptor."""
        found: dict[int, Callable[[], None]] = {
            port.socket.descriptor: partial(self._drain, port) for port in self.ports.values()
        }
        if self._timer.descriptor is not None:
            found[self._timer.descriptor] = self._ring
        return found

    async def _listen(self, port: Port) -> None:
        while True:
            await port.socket.readable()
            self._drain(port)

    def _drain(self, port: Port) -> None:
        """Take everything that came in by a port, and let the answers leave."""
        taken = False
        # What comes meanwhile is taken too: its answers leave in the same bundle.
        for data, source in port.socket.receive(_BATCH):
            self._arrived(port, data, source, self.clock.now())
            taken = True
        if taken:
            self.counters.batches += 1
            self._settle(self.clock.now())

    async def _take_posted(self) -> None:
        while True:
            if not self._events and not self._collect():
                await self._parked.park()
                # Programs that were woken together have all had their turn: this task was woken by
                # the first that posted, and so comes with the next batch of tasks.
            self._settle(self.clock.now())

    def _collect(self) -> bool:
        """Take what asynchronous devices reported; return whether there was anything."""
        if self._devices is None:
            return False
        events = self._devices.take()
        self._events.extend(FromDevice(event) for event in events)
        return bool(events)

    async def _keep_time(self) -> None:
        while True:
            await self._timer.fired()
            self._fired()

    def _ring(self) -> None:
        if self._timer.take():
            self._fired()

    def _fired(self) -> None:
        """See whether the timer was right to fire."""
        self._armed = None
        now = self.clock.now()
        deadline = self._deadline(self.host.deadline)
        if deadline is not None and deadline <= now:
            self._tick(now)
        else:
            self._arm(self.host.deadline)

    def _tick(self, now: Instant) -> None:
        self.counters.ticks += 1
        if self._devices is not None:
            self._events.extend(FromDevice(event) for event in self._devices.tick(now))
        own = self.host.deadline
        if own is not None and own <= now:
            self._step(TICK, now)
        self._settle(now)

    def _deadline(self, own: Instant | None) -> Instant | None:
        return own if self._devices is None else earliest(own, self._devices.deadline)

    def _arm(self, own: Instant | None) -> None:
        """See that the timer fires no later than the next deadline; `own` is the host's."""
        deadline = self._deadline(own)
        if deadline is None or (self._armed is not None and self._armed <= deadline):
            return
        self._armed = deadline
        self._timer.set(self.clock.wall_seconds(deadline - self.clock.now()))

    # --- stepping -------------------------------------------------------------------------

    def _arrived(self, port: Port, data: bytes, source: Address, now: Instant) -> None:
        try:
            datagram = decode_datagram(data, port.keys)
        except Forged as error:
            self.counters.forged += 1
            self._note_rarely("forged", source, str(error), now)
            return
        except RemoteProtocolError as error:
            self.counters.malformed += 1
            self._note_rarely("malformed", source, str(error), now)
            return
        name = datagram.header.source
        if not port.admits(name, source):
            self.counters.strangers += 1
            self._note_rarely("stranger", source, f"says it is {name!r}, on {port.name}", now)
            return
        # A trace holds what was opened, so that it can be replayed without the keys.
        self._step(Arrived(port.name, datagram), now, data if port.keys is None else None)

    def _settle(self, now: Instant, first: Any = None) -> None:
        """Step what waits, then tell the host that the inbox is empty, until nothing is left.

        What the host then finds due at once does not take the way round by the timer. It is
        asked for its deadline only once the bundle has left: that takes time, and somebody
        waits for the bundle.
        """
        if first is not None:
            self._step(first, now)
        events = self._events
        ticks = 0
        while True:
            while events:
                self._step(events.popleft(), now)
            self._step(DRAINED, now)
            due = self.host.deadline
            former = ticks
            # Bounded, so that a host which is always due cannot keep the sockets waiting.
            while due is not None and due <= now and ticks < _BATCH:
                ticks += 1
                self.counters.ticks += 1
                self._step(TICK, now)
                due = self.host.deadline
            if ticks == former and not events:
                break
        self._arm(due)

    def _step(self, event: Any, now: Instant, raw: bytes | None = None) -> None:
        self.counters.events += 1
        if self._trace is not None:
            self._trace.event(event, now, raw)
        for action in step(self.host, event, now):
            self._carry_out(action, now)

    def _carry_out(self, action: Any, now: Instant) -> None:
        kind = type(action)
        if kind is Transmit:
            self._transmit(action, now)
            return
        if self._trace is not None:
            self._trace.action(action, now)
        if kind is Device:
            self._command(action, now)
        elif kind is Up:
            if self._on_up is not None:
                self._on_up(action.event, now)
        elif kind is Note:
            if action.name == "remote-error":
                self.counters.remote_errors += 1
            if self._on_note is not None:
                self._on_note(action, now)
        else:
            raise TypeError(f"{self.host.name}: {kind.__name__} is nothing that a host may do")

    def _transmit(self, action: Transmit, now: Instant) -> None:
        port = self.ports[action.port]
        data = encode_datagram(action.datagram, port.keys)
        if self._trace is not None:
            self._trace.action(action, now, data if port.keys is None else None)
        address = port.address_of(action.datagram.header.destination)
        if address is None:
            self.counters.unaddressed += 1
        else:
            port.socket.send(data, address)

    def _command(self, action: Device, now: Instant) -> None:
        if self._devices is None:
            raise TypeError(f"{self.host.name} has no device {action.device!r} in its process")
        events = self._devices.command(action.device, action.command, now)
        self._events.extend(FromDevice(event) for event in events)

    def _note_rarely(self, name: str, source: Address, reason: str, now: Instant) -> None:
        """Note a nuisance of the wire at most once a second, with how many went unnoted.

        It is no action of the host, so it stays out of the trace.
        """
        last, silent = self._noted.get(name, (-_NOTE_EVERY_NS, 0))
        if now - last < _NOTE_EVERY_NS:
            self._noted[name] = (last, silent + 1)
            return
        self._noted[name] = (now, 0)
        if self._on_note is not None:
            where = format_address(source)
            fields = (("from", where), ("reason", reason), ("unnoted", silent))
            self._on_note(Note(name, fields), now)

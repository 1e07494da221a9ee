"""The machine of one neighbour: its states, its clockwork, what leaves and what comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from qstack.adjacency.flight import Cargo, Flight, Received, RoundTrip
from qstack.adjacency.greeting import Greeting
from qstack.adjacency.inbox import Inbox
from qstack.adjacency.kinds import ASKING, HELLO, OURS, REASON_LENGTH
from qstack.adjacency.outbox import Outbox
from qstack.adjacency.service import (
    COUNTERS,
    AdjacencyParameters,
    Delivered,
    Dormant,
    Open,
    PeerLost,
    PeerUp,
    Post,
    Shut,
    check_parameters,
)
from qstack.adjacency.states import TABLE, Event, State
from qstack.codec import room_for_frames
from qstack.errors import LocalProtocolError
from qstack.machine import Arrived, Drained, Note, Tick, Transmit, Up
from qstack.messages.control import Bye, Credit, Hello, KeepAlive, Refusal
from qstack.messages.wire import KIND_OF, VERSION, Datagram, Frame, Header
from qstack.units import BootId, Duration, Instant

_NONE: list[Any] = []
"""The actions between two events."""


class Adjacency:
    """One neighbour, as a pure machine. `boot` is this process's boot id.

    `deadline` is the instant of the next Tick or None; `counters` are read by anyone and
    written here alone. LocalProtocolError for events that the state does not allow, for
    messages that cannot be carried, and for parameters that cannot work.
    """

    __slots__ = (
        *("_actions", "_came", "_counters", "_due", "_due_known", "_flight", "_greeting"),
        *("_inbox", "_is_open", "_live_at", "_number", "_outbox", "_received", "_room"),
        *("_row", "_turned", "_us_ns", "parameters", "state"),
    )

    def __init__(self, parameters: AdjacencyParameters, boot: BootId) -> None:
        check_parameters(parameters)
        self.parameters = parameters
        self.state = State.CLOSED
        self._row = TABLE[self.state]
        self._is_open = False
        # Whether it was opened, shut, came up or was lost: nothing else is another state.
        self._turned = False
        self._due: Instant | None = None
        self._due_known = True
        self._us_ns = 1_000 * parameters.lab_per_wall
        self._room = room_for_frames(parameters.name, parameters.peer)
        self._greeting = Greeting(parameters, boot, self._room)
        # Datagrams that left, and that came.
        self._number = self._came = 0
        self._actions = _NONE
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._live_at: Instant | None = None
        self._begin(0)

    @property
    def counters(self) -> Mapping[str, int]:
        """What was counted since construction, by name."""
        return dict(self._counters, sent=self._number, received=self._came)

    @property
    def smoothed_rtt_ns(self) -> Duration | None:
        """The smoothed round-trip time in lab ns; None before the first measurement."""
        return self._flight.round_trip.smoothed

    @property
    def recent_rtt_ns(self) -> Duration | None:
        """That, or the latest round trip if it was shorter: a busy start is soon forgotten."""
        return self._flight.round_trip.recent

    @property
    def peer_boot(self) -> BootId | None:
        """The boot id of the peer's process while the adjacency is up."""
        return self._greeting.peer_boot if self._greeting.peer_life else None

    @property
    def deadline(self) -> Instant | None:
        """When this machine wants a Tick."""
        if self._due_known:  # what it is made of changes in `handle` alone, which forgets it
            return self._due
        due, at = self._received.ack_at, self._live_at
        if due is None or (at is not None and at < due):
            due = at
        at = self._flight.deadline
        if at is not None and (due is None or at < due):
            due = at
        at = self._greeting.deadline
        if at is not None and (due is None or at < due):
            due = at
        self._due_known = True
        self._due = due = due if self._is_open else None
        return due

    def quiet(self, now: Instant) -> bool:
        """Whether DRAINED would let nothing leave now, so that it need not be handed in."""
        greeting, ack_at = self._greeting, self._received.ack_at
        if not greeting.peer_life or (ack_at is not None and ack_at <= now):
            return False
        # No hello is owed, nor will be by the passing of time.
        return self._outbox.idle and greeting.owed is None and greeting.deadline is None

    def handle(self, event: Event, now: Instant) -> list[Any]:
        """Take one event; return Transmit, Up and Note actions."""
        allowed = self._row.get(type(event))
        if allowed is None:
            name = type(event).__name__
            raise LocalProtocolError(f"{name} is not allowed while {self.state.name}")
        actions = self._actions = []
        self._due_known = False
        match event:
            case Post():
                self._post(event.message)
            case Arrived() if self._is_open:
                self._arrived(event.datagram, now)
            case Drained() if self._is_open:
                self._flush(now)
            case Tick() if self._is_open:
                self._tick(now)
            case Arrived() | Drained() | Tick():
                pass
            case Dormant():
                if self._live_at is not None:
                    self._received.heard = max(self._received.heard, event.until)
                    self._live_at = max(self._live_at, event.until)
            case Open():
                self._greeting.open(now)
                self._is_open = self._turned = True
            case Shut():
                self._shut(event.reason, now)
                self._is_open, self._turned = False, True
            case _:
                assert_never(event)
        if self._turned:
            self._turned, successor = False, self._successor()
            if successor not in allowed:
                raise LocalProtocolError(f"{self.state.name} cannot become {successor.name}")
            self.state = successor
            self._row = TABLE[successor]
        # Kept here they would die at the next event, when the processor has forgotten them.
        self._actions = _NONE
        return actions

    def _successor(self) -> State:
        if self._greeting.peer_life:
            return State.UP
        if not self._is_open:
            return State.CLOSED
        return State.CALLING if self.parameters.initiate else State.WAITING

    # --- lives ----------------------------------------------------------------------------

    def _begin(self, now: Instant) -> None:
        """Start with nothing shared: new streams, nothing received, nothing on its way."""
        p = self.parameters
        self._outbox = Outbox(p.wire, self._room)
        self._inbox = Inbox(p.wire, p.window_bytes)
        self._received = Received(now)
        self._flight = Flight(RoundTrip(p.retransmit_floor_ns, p.ack_delay_ns, p.hello_interval_ns))
        self._live_at = None

    def _come_up(self, header: Header, hello: Hello, now: Instant) -> None:
        p = self.parameters
        self._begin(now)
        self._turned = True
        self._greeting.confirm(header.source_boot, hello.boot, now)
        if p.keepalive_ns:
            self._live_at = now + p.keepalive_ns
        self._counters["ups"] += 1
        features = tuple(name for name in p.features if name in hello.features)
        self._note("adjacency-up", ("boot", hello.boot))
        self._actions.append(Up(PeerUp(p.peer, hello.boot, hello.role, features, hello.datasheets)))

    def _lose(self, reason: str, now: Instant) -> None:
        """End this life of the peer, with everything shared, once."""
        boot = self._greeting.peer_boot
        self._turned = True
        self._greeting.lose(now)
        self._begin(now)
        self._counters["losses"] += 1
        self._note("adjacency-lost", ("boot", boot), ("reason", reason))
        self._actions.append(Up(PeerLost(self.parameters.peer, boot, reason)))

    def _shut(self, reason: str, now: Instant) -> None:
        if self._greeting.peer_life:
            self._outbox = Outbox(self.parameters.wire, self._room)
            self._outbox.post(Bye(reason[:REASON_LENGTH]))
            self._flush(now)
            self._lose(f"shut here: {reason}", now)
        self._greeting.shut()

    # --- what comes in --------------------------------------------------------------------

    def _arrived(self, datagram: Datagram, now: Instant) -> None:
        header, p, greeting = datagram.header, self.parameters, self._greeting
        self._came += 1
        if header.source != p.peer or header.destination != p.name:
            self._refused(0, "a datagram between others")
            return
        if not greeting.knows(header):
            self._strange(datagram, now)
            if not greeting.knows(header):
                return
        if header.version != VERSION:
            self._refused(0, f"version {header.version} was not agreed on")
            return
        if not greeting.sure:
            greeting.assured()
        received = self._received
        fresh = received.add(header.number, now)
        for frame in datagram.frames:
            if frame.stream or frame.kind in ASKING:
                received.owe(fresh, now, p.ack_delay_ns)
                break
        if not fresh:
            self._counters["duplicates"] += 1
            return
        if header.largest:
            self._acknowledged(header, now)
        if datagram.frames:
            self._frames(datagram.frames, now)

    def _strange(self, datagram: Datagram, now: Instant) -> None:
        """Take a datagram that is not between our confirmed lives: only its hello counts."""
        hello = self._greeting.find(datagram.frames)
        header = datagram.header
        if hello is None:
            self._counters["strangers"] += 1
            self._greeting.answer_stranger(header, now)
            return
        verdict = self._greeting.hear(header, hello, now)
        if verdict.incompatible:
            self._counters["refused"] += 1
            self._note("adjacency-version", ("boot", hello.boot), ("reason", verdict.reason))
            if self._greeting.peer_life:
                self._lose(verdict.reason, now)
            else:
                lost = PeerLost(self.parameters.peer, hello.boot, verdict.reason)
                self._actions.append(Up(lost))
        elif verdict.confirmed:
            if self._greeting.peer_life:
                self._greeting.replaced()
                same = hello.boot == self._greeting.peer_boot
                self._lose("the peer had lost us" if same else "the peer restarted", now)
            self._come_up(header, hello, now)

    def _acknowledged(self, header: Header, now: Instant) -> None:
        if header.largest > self._number:
            self._refused(0, "acknowledges what was never sent")
            return
        flight = self._flight
        if not flight.on_way and flight.probe is None:
            return
        held = int(header.ack_delay_us * 1_000 * self.parameters.lab_per_wall)
        arrived, lost = flight.acknowledged(header.largest, header.bitmap, held, now)
        for stream, frame in arrived:
            stream.arrived(frame)
        if lost:
            self._again(lost)

    def _again(self, lost: Cargo) -> None:
        """Hand frames that are lost back to their streams."""
        self._counters["retransmitted"] += len(lost)
        for stream, frame in lost:
            stream.lost(frame)

    def _frames(self, frames: tuple[Frame, ...], now: Instant) -> None:
        peer, inbox = self.parameters.peer, self._inbox
        before = inbox.duplicates
        for frame in frames:
            if frame.kind == HELLO:
                continue
            for message in inbox.take(frame):
                if type(message) not in OURS:
                    self._actions.append(Up(Delivered(peer, message)))
                elif type(message) is Bye:
                    self._lose(f"the peer left: {message.reason}", now)
                    self._greeting.rest(now)
                    return
                else:
                    self._control(message)
        if inbox.duplicates != before:
            self._counters["duplicates"] += inbox.duplicates - before
        if inbox.grants:
            for credit in inbox.grants:
                self._outbox.post(credit)
            inbox.grants.clear()
        if inbox.problems:
            # Each bad frame is counted; one of a datagram is answered.
            for kind, reason in inbox.problems:
                self._refused(kind, reason)
            answer = inbox.answer()
            if answer is not None:
                self._outbox.post(answer)

    def _control(self, message: Any) -> None:
        if type(message) is Credit:
            self._outbox.credit(message.channel, message.limit_bytes)
        elif type(message) is Refusal:
            self._counters["refusals"] += 1
            fields = (("kind", message.kind), ("reason", message.reason))
            self._note("adjacency-refused-by-peer", *fields)

    # --- what leaves ----------------------------------------------------------------------

    def _post(self, message: Any) -> None:
        cls = type(message)
        if cls in OURS or cls not in KIND_OF:
            raise LocalProtocolError(f"{cls.__name__} is not for others to post")
        if self._greeting.peer_life:
            self._outbox.post(message)
            return
        self._counters["dropped"] += 1
        self._note("adjacency-dropped", ("kind", cls.__name__))

    def _tick(self, now: Instant) -> None:
        if self._live_at is not None and self._live_at <= now:
            self._check_life(now)
        expires = self._flight.deadline
        if expires is not None and expires <= now:
            self._again(self._flight.expired(now))
        self._flush(now)

    def _check_life(self, now: Instant) -> None:
        interval = self.parameters.keepalive_ns
        patience = interval * self.parameters.silent_intervals
        silent = now - self._received.heard
        if silent >= patience:
            self._lose(f"silent for {self.parameters.silent_intervals} keepalive intervals", now)
        elif silent >= interval:
            self._counters["keepalives"] += 1
            self._outbox.post(KeepAlive())
            self._live_at = min(now + interval, self._received.heard + patience)
        else:
            self._live_at = self._received.heard + interval

    def _flush(self, now: Instant) -> None:
        """Send everything that may leave, bundled, and the acknowledgement that is due."""
        frames: list[Frame] = []
        room = self._room
        greeting, outbox, flight = self._greeting, self._outbox, self._flight
        silent = greeting.owed is None and greeting.deadline is None
        hello = None if silent else greeting.due(now)
        if hello is not None:
            self._counters["hellos"] += 1
            frames.append(hello)
            room -= greeting.size
        if not greeting.peer_life:
            if frames:
                self._send(frames, now)
            return
        while True:
            cargo: Cargo = []
            is_left = not outbox.idle and outbox.fill(frames, cargo, room, flight)
            if frames:
                self._send(frames, now)
                if cargo:
                    flight.sent(self._number, cargo, now)
                elif any(frame.kind in ASKING for frame in frames):
                    flight.asked(self._number, now)
            elif self._received.ack_at is not None and self._received.ack_at <= now:
                self._counters["bare_acks"] += 1
                self._send(frames, now)
            else:
                return
            if not is_left:
                return
            frames, room = [], self._room

    def _send(self, frames: list[Frame], now: Instant) -> None:
        p, greeting, received = self.parameters, self._greeting, self._received
        self._number = number = self._number + 1
        mine, theirs, largest = greeting.life, greeting.peer_life, received.largest
        held = received.told(now, self._us_ns)
        header = Header(
            VERSION, p.name, p.peer, mine, theirs, number, largest, received.bitmap, held, 0
        )
        self._actions.append(Transmit(p.port, Datagram(header, tuple(frames))))

    def _refused(self, kind: int, reason: str) -> None:
        self._counters["refused"] += 1
        self._note("adjacency-refused", ("kind", kind), ("reason", reason))

    def _note(self, name: str, *fields: tuple[str, Any]) -> None:
        self._actions.append(Note(name, (("peer", self.parameters.peer), *fields)))

"""What waits to leave: timed frames, soft states, reliable channels, and what was lost."""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import Any, TypeAlias

from qstack.adjacency.flight import Cargo, Flight
from qstack.codec import FRAME_OVERHEAD, MAX_TEXT, encode_body
from qstack.errors import LocalProtocolError
from qstack.messages.wire import KIND_OF, Delivery, Frame, Kind, stream_of

FRAME_COST = 32
"""What a reliable frame costs of its channel's credit besides the bytes of its body."""

INITIAL_CREDIT = 65_536
"""What a channel may send before the first Credit, in bytes of cost."""

NOMINAL_BODY = 64
"""What a body counts for where it never becomes bytes."""


def cost_of(body: Any) -> int:
    """Return what a frame with this body costs of its channel's credit."""
    return FRAME_COST + (len(body) if type(body) is bytes else NOMINAL_BODY)


class SoftOut:
    """A soft stream: its newest state, until that is known to have arrived."""

    __slots__ = ("_outbox", "newest", "sequence", "size")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.sequence = 0
        self.newest: Frame | None = None
        self.size = 0

    def arrived(self, frame: Frame) -> None:
        """The peer has this frame."""
        if frame.sequence == self.sequence:
            self.newest = None

    def lost(self, frame: Frame) -> None:
        """This frame is lost: the newest state leaves again, unless a newer one did."""
        if frame.sequence == self.sequence and self.newest is not None:
            self._outbox.soft[frame.stream] = self
            self._outbox.idle = False


class ChannelOut:
    """A reliable channel: what waits for its turn, or for the peer's credit."""

    __slots__ = ("_outbox", "_spent", "limit", "sequence", "waiting")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.sequence = 0
        self.waiting: deque[tuple[Frame, int, bool, int]] = deque()  # frame, size, bulk, cost
        self.limit = INITIAL_CREDIT
        self._spent = 0

    def head(self, bulk: bool) -> tuple[Frame, int] | None:
        """Return the next frame and its size; None if credit, or its being bulk, holds it."""
        if not self.waiting:
            return None
        frame, size, is_bulk, cost = self.waiting[0]
        if (is_bulk and not bulk) or self._spent + cost > self.limit:
            return None
        return frame, size

    def leave(self) -> None:
        """The head leaves for the first time."""
        self._spent += self.waiting.popleft()[3]

    def arrived(self, frame: Frame) -> None:
        """The peer has this frame."""

    def lost(self, frame: Frame) -> None:
        """This frame is lost and leaves again, before all that never left."""
        self._outbox.again.append((self, frame))
        self._outbox.idle = False


StreamOut: TypeAlias = SoftOut | ChannelOut


class _Route:
    """Where the messages of one kind go; streams are found by the value of one field."""

    __slots__ = ("found", "is_timed", "kind", "last", "streams", "value")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.is_timed = kind.delivery is Delivery.TIMED
        self.value = None if kind.stream is None else attrgetter(kind.stream)
        self.streams: dict[Any, tuple[str, int, StreamOut]] = {}
        # The value and the stream of the message before.
        self.last: Any = None
        self.found: tuple[str, int, StreamOut] | None = None


class Outbox:
    """All that one life of the adjacency has to send. `room` is that of a datagram's frames.

    `idle`: nothing waits, be it for a datagram or for credit.
    """

    __slots__ = (
        *("_ready", "_room", "_routes", "_streams", "_timed", "_wire", "again", "idle", "soft"),
    )

    def __init__(self, wire: bool, room: int) -> None:
        self.idle = True
        self._wire = wire
        self._room = room
        self._routes: dict[type[Any], _Route] = {}
        self._streams: dict[str, StreamOut] = {}
        self._timed: deque[tuple[Frame, int]] = deque()
        self._ready: dict[str, ChannelOut] = {}
        self.soft: dict[str, SoftOut] = {}
        self.again: deque[tuple[ChannelOut, Frame]] = deque()

    def post(self, message: Any) -> None:
        """Queue a message as its kind demands; LocalProtocolError where it cannot be carried."""
        cls = type(message)
        route = self._routes.get(cls)
        if route is None:
            if cls not in KIND_OF:
                raise LocalProtocolError(f"{cls.__name__} is not a message")
            route = self._routes[cls] = _Route(KIND_OF[cls])
        kind = route.kind
        body = encode_body(message) if self._wire else message
        if route.is_timed:
            size = FRAME_OVERHEAD + (len(body) if self._wire else NOMINAL_BODY)
            if size > self._room:
                raise self._too_long(cls, size)
            self._timed.append((Frame(kind.number, "", 0, False, body), size))
            self.idle = False
            return
        value = None if route.value is None else route.value(message)
        found = route.found
        if found is None or value != route.last:
            found = route.streams.get(value)
            if found is None:
                found = route.streams[value] = self._open(message)
            route.last, route.found = value, found
        name, overhead, stream = found
        if type(stream) is SoftOut:
            stream.size = size = overhead + (len(body) if self._wire else NOMINAL_BODY)
            if size > self._room:
                raise self._too_long(cls, size)
            stream.sequence += 1
            stream.newest = Frame(kind.number, name, stream.sequence, False, body)
            self.soft[name] = stream
        elif type(stream) is ChannelOut:
            self._enqueue(stream, name, overhead, kind, body)
        self.idle = False

    def credit(self, name: str, limit: int) -> None:
        """The peer takes frames of this channel up to `limit`; unknown channels are ignored."""
        stream = self._streams.get(name)
        if type(stream) is ChannelOut and limit > stream.limit:
            stream.limit = limit

    def fill(self, frames: list[Frame], cargo: Cargo, room: int, flight: Flight) -> bool:
        """Move what goes into one datagram: timed, soft, lost, control, and bulk frames.

        Channels wait while enough datagrams are in `flight`. Returns whether anything is left.
        """
        is_left = self._fill(frames, cargo, room, flight)
        self.idle = not (is_left or self._timed or self.soft or self.again or self._ready)
        return is_left

    def _fill(self, frames: list[Frame], cargo: Cargo, room: int, flight: Flight) -> bool:
        timed = self._timed
        while timed:
            frame, size = timed[0]
            if size > room:
                return True
            timed.popleft()
            frames.append(frame)
            room -= size
        if self.soft:
            for name, soft in list(self.soft.items()):
                if soft.size > room:
                    return True
                del self.soft[name]
                if soft.newest is not None:
                    frames.append(soft.newest)
                    cargo.append((soft, soft.newest))
                    room -= soft.size
        if not (self.again or self._ready):
            return False
        if not flight.has_room:
            return True
        while self.again:
            channel, frame = self.again[0]
            size = self._size(frame)
            if size > room:
                return True
            self.again.popleft()
            frames.append(frame)
            cargo.append((channel, frame))
            room -= size
        if self._ready:
            self._draw(frames, cargo, self._draw(frames, cargo, room, False), True)
        return bool(self._ready)

    def _draw(self, frames: list[Frame], cargo: Cargo, room: int, bulk: bool) -> int:
        """Take turns among the channels until nothing more fits; return the room that is left."""
        turn = list(self._ready.items())
        while turn:
            still = []
            for name, channel in turn:
                head = channel.head(bulk)
                if head is None:
                    continue
                frame, size = head
                if size > room:
                    return 0
                channel.leave()
                frames.append(frame)
                cargo.append((channel, frame))
                room -= size
                # To the end of the row, so that a datagram's end favours no channel.
                del self._ready[name]
                if channel.waiting:
                    self._ready[name] = channel
                    still.append((name, channel))
            turn = still
        return room

    def _open(self, message: Any) -> tuple[str, int, StreamOut]:
        """Return name, overhead per frame and state of the stream that a message belongs to."""
        name = stream_of(message)
        stream = self._streams.get(name)
        if stream is None:
            if len(name) > MAX_TEXT:
                raise LocalProtocolError(f"the stream name {name[:40]!r}... is too long")
            soft = KIND_OF[type(message)].delivery is Delivery.SOFT
            stream = self._streams[name] = SoftOut(self) if soft else ChannelOut(self)
        return name, FRAME_OVERHEAD + len(name.encode()), stream

    def _enqueue(
        self, channel: ChannelOut, name: str, overhead: int, kind: Kind, body: Any
    ) -> None:
        """Put a message into its channel, cut into pieces that fit a datagram."""
        piece = self._room - overhead
        self._ready[name] = channel
        if not self._wire or len(body) <= piece:
            size = overhead + (len(body) if self._wire else NOMINAL_BODY)
            channel.sequence += 1
            frame = Frame(kind.number, name, channel.sequence, False, body)
            channel.waiting.append((frame, size, kind.bulk, cost_of(body)))
            return
        if piece <= 0:
            raise LocalProtocolError(f"the stream name {name[:40]!r}... leaves no room")
        for start in range(0, len(body), piece):
            part = body[start : start + piece]
            channel.sequence += 1
            frame = Frame(kind.number, name, channel.sequence, start + piece < len(body), part)
            size = overhead + len(part)
            channel.waiting.append((frame, size, kind.bulk, cost_of(part)))

    def _too_long(self, cls: type[Any], size: int) -> LocalProtocolError:
        """Return the error of a timed or soft message, which are never cut and so must fit."""
        return LocalProtocolError(f"{cls.__name__} needs {size} bytes, {self._room} are there")

    def _size(self, frame: Frame) -> int:
        body = len(frame.body) if self._wire else NOMINAL_BODY
        return FRAME_OVERHEAD + len(frame.stream.encode()) + body

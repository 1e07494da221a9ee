"""The trace: all that entered a host and all that left it, with its instants, as one file.

It is the log, the bug report and the replay file (DESIGN section 1). A trace begins with
``QSTACKTR``, a version byte and the length of a JSON header (:class:`TraceHeader`); records
follow, each a fixed head (kind: u8, instant: i64, length: u32, little-endian) and that many
bytes. A name inside a record is a length byte and UTF-8. Messages are stored as the codec
writes them, so a trace can be read wherever the wire can. A process that is killed leaves at
most its last buffer unwritten; a cut last record is not an error.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

from qstack.codec import decode_body, decode_datagram, encode_body, encode_datagram
from qstack.errors import QstackError, RemoteProtocolError
from qstack.machine import (
    CAME,
    Arrived,
    Came,
    Device,
    Drained,
    FromDevice,
    Hand,
    Handed,
    Left,
    Note,
    Tick,
    Transmit,
    Up,
    record,
)
from qstack.messages.wire import KIND_OF, Frame
from qstack.stack import FromNode, ToNode
from qstack.units import Instant

MAGIC = b"QSTACKTR"
FORMAT = 1
LIMIT_BYTES = 1 << 30
"""After this much a trace ends with a CUT record: the disk is worth more than the rest."""

MOST = 1 << 16
"""Bytes of a datagram in a trace. On a wire it has fewer; where datagrams hold messages that never
become bytes, what goes into one is reckoned by a guess of their size."""

_HEAD = struct.Struct("<BqI")
_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<H")
_FLUSH_NS = 1_000_000_000


class TraceError(QstackError):
    """A file is not a trace, or belongs to another version."""


class Kind(IntEnum):
    """What a record holds; below 16 what entered the host, from 16 on what left it."""

    START = 1
    ARRIVED = 2
    TICK = 3
    DRAINED = 4
    FROM_DEVICE = 5
    POSTED = 6
    STOP = 7
    HANDED = 8
    TRANSMIT = 16
    DEVICE = 17
    NOTE = 18
    UP = 19
    HAND = 20
    CUT = 31
    """The limit was reached; nothing after this was recorded."""


@record
class Start:
    """The host's first event, for which :meth:`start` is called."""


@record
class Stop:
    """The host's last event, for which :meth:`stop` is called."""

    reason: str


START = Start()


@record
class TraceHeader:
    """What a replay needs to build the host again.

    `network` is the whole text of the network file; `seed` that of the host's Chance. `virtual`
    is empty for a process; of a host in virtual time it says how it was built instead (see
    :mod:`qstack.testing.recording`), and `seed` is that of its whole network.
    """

    qstack: str
    name: str
    boot: int
    seed: int
    network: str
    virtual: str = ""

    @property
    def network_sha256(self) -> str:
        """The hash of the network file's text."""
        return hashlib.sha256(self.network.encode()).hexdigest()


_FIELDS = ("qstack", "name", "boot", "seed", "network", "virtual")


@record
class TraceRecord:
    """One record. `data` is as it stands in the file; see :func:`event_of`."""

    kind: Kind
    now: Instant
    data: bytes

    @property
    def is_event(self) -> bool:
        """Whether it entered the host."""
        return self.kind < Kind.TRANSMIT


# --- messages and names as bytes ----------------------------------------------------------


def pack_message(message: Any) -> bytes:
    """Return a message's kind as a little-endian u16, and its body."""
    return _NUMBER.pack(KIND_OF[type(message)].number) + encode_body(message)


def unpack_message(data: bytes) -> Any:
    """Return the message of :func:`pack_message`."""
    return decode_body(_NUMBER.unpack_from(data)[0], data[_NUMBER.size :])


_CAME, _LEFT = 0xFFFE, 0xFFFF
"""Stand for a message's kind where a party of the same process begins or ends."""


def pack_word(word: Any) -> bytes:
    """Return what parties of one process say to each other, as a message is packed."""
    if type(word) is Came:
        return _NUMBER.pack(_CAME)
    if type(word) is Left:
        return _NUMBER.pack(_LEFT) + word.reason.encode()
    return pack_message(word)


def unpack_word(data: bytes) -> Any:
    """Return the word of :func:`pack_word`."""
    (number,) = _NUMBER.unpack_from(data)
    if number == _CAME:
        return CAME
    if number == _LEFT:
        return Left(data[_NUMBER.size :].decode())
    return unpack_message(data)


def _named(name: str, data: bytes) -> bytes:
    text = name.encode()
    return bytes((len(text),)) + text + data


def split_name(data: bytes) -> tuple[str, bytes]:
    """Return the name at the beginning of a record's data, and what follows it."""
    end = 1 + data[0]
    return data[1:end].decode(), data[end:]


# --- events and actions as records --------------------------------------------------------


def event_record(event: Any, now: Instant, raw: bytes | None = None) -> TraceRecord:
    """Return the record of an event; `raw` are the bytes that an Arrived was decoded from."""
    match event:
        case Arrived():
            data = encode_datagram(event.datagram, most=MOST) if raw is None else raw
            return TraceRecord(Kind.ARRIVED, now, _named(event.port, data))
        case Drained():
            return TraceRecord(Kind.DRAINED, now, b"")
        case Tick():
            return TraceRecord(Kind.TICK, now, b"")
        case FromDevice():
            return TraceRecord(Kind.FROM_DEVICE, now, pack_message(event.event))
        case ToNode():
            return TraceRecord(Kind.POSTED, now, _named(event.node, pack_message(event.message)))
        case Handed():
            return TraceRecord(Kind.HANDED, now, _named(event.peer, pack_word(event.word)))
        case Start():
            return TraceRecord(Kind.START, now, b"")
        case Stop():
            return TraceRecord(Kind.STOP, now, event.reason.encode())
    raise TypeError(f"{type(event).__name__} is no event of a host")


def action_record(action: Any, now: Instant, raw: bytes | None = None) -> TraceRecord:
    """Return the record of an action; `raw` is a Transmit's datagram, encoded already."""
    match action:
        case Transmit():
            data = encode_datagram(action.datagram, most=MOST) if raw is None else raw
            return TraceRecord(Kind.TRANSMIT, now, _named(action.port, data))
        case Device():
            return TraceRecord(
                Kind.DEVICE, now, _named(action.device, pack_message(action.command))
            )
        case Hand():
            return TraceRecord(Kind.HAND, now, _named(action.peer, pack_word(action.word)))
        case Note():
            text = json.dumps([action.name, dict(action.fields)], default=str)
            return TraceRecord(Kind.NOTE, now, text.encode())
        case Up(FromNode(node, message)):
            return TraceRecord(Kind.UP, now, _named(node, pack_message(message)))
        case Up():
            return TraceRecord(Kind.UP, now, _named("", repr(action.event).encode()))
    raise TypeError(f"{type(action).__name__} is nothing that a host may do")


def event_of(item: TraceRecord) -> Any:
    """Return the event that a record was made of; raises RemoteProtocolError for bad bytes."""
    match item.kind:
        case Kind.ARRIVED:
            port, data = split_name(item.data)
            return Arrived(port, decode_datagram(data, most=MOST))
        case Kind.DRAINED:
            return Drained()
        case Kind.TICK:
            return Tick()
        case Kind.FROM_DEVICE:
            return FromDevice(unpack_message(item.data))
        case Kind.POSTED:
            node, data = split_name(item.data)
            return ToNode(node, unpack_message(data))
        case Kind.HANDED:
            peer, data = split_name(item.data)
            return Handed(peer, unpack_word(data))
        case Kind.START:
            return START
        case Kind.STOP:
            return Stop(item.data.decode())
        case _:
            raise TraceError(f"a {item.kind.name} record is no event")


def describe(item: TraceRecord) -> list[str]:
    """Return what a record says, for people: one line, or one for each frame."""
    match item.kind:
        case Kind.ARRIVED | Kind.TRANSMIT:
            port, data = split_name(item.data)
            datagram = decode_datagram(data, most=MOST)
            header = datagram.header
            inward = item.kind is Kind.ARRIVED
            other = f"from {header.source}" if inward else f"to {header.destination}"
            head = f"{port} {other} #{header.number} ({len(data)} bytes)"
            return [head, *(_describe_frame(frame) for frame in datagram.frames)]
        case Kind.FROM_DEVICE:
            return [repr(unpack_message(item.data))]
        case Kind.POSTED | Kind.DEVICE:
            name, data = split_name(item.data)
            return [f"{name}: {unpack_message(data)!r}"]
        case Kind.HANDED | Kind.HAND:
            name, data = split_name(item.data)
            return [f"{name}: {unpack_word(data)!r}"]
        case Kind.UP:
            name, data = split_name(item.data)
            return [f"{name}: {unpack_message(data)!r}" if name else data.decode()]
        case Kind.NOTE:
            name, fields = json.loads(item.data)
            return [" ".join([name, *(f"{key}={value}" for key, value in fields.items())])]
        case Kind.STOP:
            return [item.data.decode()]
        case Kind.START | Kind.TICK | Kind.DRAINED:
            return [""]
        case Kind.CUT:
            return ["the trace reached its limit: what followed was not recorded"]


def _describe_frame(frame: Frame) -> str:
    place = f"    {frame.stream}[{frame.sequence}]" if frame.stream else "    timed"
    try:
        return f"{place} {decode_body(frame.kind, frame.body)!r}"
    except RemoteProtocolError:
        # A piece of a long message, or a kind of another version.
        return f"{place} kind {frame.kind:#x}, {len(frame.body)} bytes of a longer message"


# --- files --------------------------------------------------------------------------------


class TraceWriter:
    """Writes one trace. :meth:`flush` is called by itself about once a second of lab time."""

    def __init__(self, path: Path, header: TraceHeader, limit_bytes: int = LIMIT_BYTES) -> None:
        self._file: BinaryIO = path.open("wb", buffering=1 << 16)
        self._left = limit_bytes
        self._flushed: Instant = 0
        self.path = path
        fields = {name: getattr(header, name) for name in _FIELDS}
        text = json.dumps({**fields, "network_sha256": header.network_sha256}).encode()
        self._file.write(MAGIC + bytes((FORMAT,)) + _LENGTH.pack(len(text)) + text)
        self._file.flush()

    def event(self, event: Any, now: Instant, raw: bytes | None = None) -> None:
        """Record what enters the host, before it is stepped."""
        if self._left > 0:
            self._write(event_record(event, now, raw))

    def action(self, action: Any, now: Instant, raw: bytes | None = None) -> None:
        """Record what the host does, in the order in which it said so."""
        if self._left > 0:
            self._write(action_record(action, now, raw))

    def _write(self, item: TraceRecord) -> None:
        self._left -= _HEAD.size + len(item.data)
        if self._left <= 0:
            item = TraceRecord(Kind.CUT, item.now, b"")
        self._file.write(_HEAD.pack(item.kind, item.now, len(item.data)) + item.data)
        if item.now - self._flushed > _FLUSH_NS or item.kind is Kind.CUT:
            self._flushed = item.now
            self._file.flush()

    def flush(self) -> None:
        """Hand everything to the system now."""
        self._file.flush()

    def close(self) -> None:
        """Write what is buffered and end the file."""
        self._file.close()


def read_trace(path: Path) -> tuple[TraceHeader, Iterator[TraceRecord]]:
    """Return a trace's header and its records, read as they are asked for.

    A record that is cut off at the end of the file ends the iteration. Raises TraceError for
    what is no trace, OSError for what cannot be read.
    """
    data = path.read_bytes()
    start = len(MAGIC) + 1 + _LENGTH.size
    if len(data) < start or not data.startswith(MAGIC):
        raise TraceError(f"{path} is not a qstack trace")
    if data[len(MAGIC)] != FORMAT:
        raise TraceError(f"{path} has trace format {data[len(MAGIC)]}; this reads {FORMAT}")
    end = start + _LENGTH.unpack_from(data, len(MAGIC) + 1)[0]
    try:
        fields = json.loads(data[start:end])
        fields.setdefault("virtual", "")
        header = TraceHeader(**{name: fields[name] for name in _FIELDS})
    except (ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{path}: the header cannot be read: {error}") from error
    return header, _records(path, data, end)


def _records(path: Path, data: bytes, place: int) -> Iterator[TraceRecord]:
    while place + _HEAD.size <= len(data):
        number, now, length = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        if place + length > len(data):
            return
        try:
            kind = Kind(number)
        except ValueError as error:
            raise TraceError(f"{path}: unknown record {number} before byte {place}") from error
        yield TraceRecord(kind, now, data[place : place + length])
        place += length

"""Headers, frames, and the keys that seal and open them."""

from __future__ import annotations

from typing import Any, Protocol

import attrs
import msgpack

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.messages.wire import MAX_DATAGRAM, Datagram, Frame, Header
from qstack.units import NodeName


class Forged(RemoteProtocolError):
    """A datagram is not sealed as its sender's would be."""


class Keys(Protocol):
    """Hooks that seal what leaves and open what comes in.

    `associated` are the header's bytes as they travel: they are authenticated with the frames.
    A header's number is never used twice under one source boot id towards one destination.
    """

    def key_id(self, peer: NodeName) -> int:
        """Return the id of the key for what is sent to `peer`; 0: it leaves in the clear."""

    def seal(self, header: Header, associated: bytes, frames: bytes) -> bytes:
        """Return the sealed frames, at most SEAL_OVERHEAD bytes longer; `key_id` is not 0."""

    def open(self, header: Header, associated: bytes, frames: bytes) -> bytes:
        """Return the frames of a datagram; `Forged` where it is not sealed as it must be.

        Called for every datagram, so that one in the clear (key id 0) can be refused too.
        """


MAX_NAME = 64
"""UTF-8 bytes of a party's name in a header."""

MAX_STREAM = 512
"""Characters of a stream's name."""

FRAME_OVERHEAD = 24
"""An upper bound of what a frame adds to its body and its stream's name, in bytes."""

SEAL_OVERHEAD = 32
"""What a seal may add to the frames, in bytes: kept free in every datagram."""

_HEADER_NUMBERS = 80
"""An upper bound of a header but for its two names, and of the head of the frames' binary."""

_HEADER_FIELDS = 10
_FRAME_FIELDS = 5


def room_for_frames(source: NodeName, destination: NodeName) -> int:
    """Return how many bytes of frames fit into a datagram between these two, whatever its numbers.

    LocalProtocolError where a name is longer than MAX_NAME bytes.
    """
    names = 0
    for name in (source, destination):
        size = len(name.encode())
        if not 0 < size <= MAX_NAME:
            raise LocalProtocolError(f"a name has 1 to {MAX_NAME} bytes: {name!r}")
        names += size
    return MAX_DATAGRAM - _HEADER_NUMBERS - names - SEAL_OVERHEAD


def encode_datagram(
    datagram: Datagram, keys: Keys | None = None, most: int = MAX_DATAGRAM
) -> bytes:
    """Return the datagram's bytes, sealed where `keys` has one; bodies must be bytes already.

    LocalProtocolError where it has more than `most` bytes, or a value does not fit its field.
    """
    pack = msgpack.packb
    h = datagram.header
    if keys is not None:
        untyped: Any = h
        h = attrs.evolve(untyped, key_id=keys.key_id(h.destination))
    try:
        header: bytes = pack(
            (
                h.version,
                h.source,
                h.destination,
                h.source_boot,
                h.destination_boot,
                h.number,
                h.largest,
                h.bitmap,
                h.ack_delay_us,
                h.key_id,
            )
        )
        frames = b"".join(
            [pack((f.kind, f.stream, f.sequence, f.more, f.body)) for f in datagram.frames]
        )
        if keys is not None and h.key_id:
            frames = keys.seal(h, header, frames)
        data: bytes = header + pack(frames)
    except (ValueError, OverflowError, TypeError) as error:
        raise LocalProtocolError(f"cannot send this datagram: {error}") from error
    if len(data) > most:
        raise LocalProtocolError(f"a datagram of {len(data)} bytes is too long")
    return data


def decode_datagram(data: bytes, keys: Keys | None = None, most: int = MAX_DATAGRAM) -> Datagram:
    """Return the datagram that these bytes hold, with the frames' bodies as bytes.

    What `keys` has opened has key id 0, as before it was sealed. RemoteProtocolError for anything
    malformed or of more than `most` bytes; Forged for what `keys` refuses, and for what is sealed
    where there are none.
    """
    size = len(data)
    if size > most:
        raise RemoteProtocolError(f"a datagram of {size} bytes")
    unpacker = _unpacker(size)
    unpacker.feed(data)
    try:
        fields = unpacker.unpack()
        header_size = unpacker.tell()
        frames = unpacker.unpack()
        end = unpacker.tell()
    except (ValueError, msgpack.OutOfData) as error:
        raise RemoteProtocolError(f"malformed datagram: {error}") from error
    if end != size or type(frames) is not bytes:
        raise RemoteProtocolError("a datagram is a header and a binary, and nothing more")
    header = _header(fields)
    if keys is not None:
        frames = keys.open(header, data[:header_size], frames)
        if header.key_id:
            untyped: Any = header
            header = attrs.evolve(untyped, key_id=0)
    elif header.key_id:
        raise Forged(f"sealed with key {header.key_id}, and there are no keys here")
    return Datagram(header, _frames(frames))


def _unpacker(size: int) -> msgpack.Unpacker:
    """Return an unpacker for `size` bytes that can be made to reserve little more than them."""
    return msgpack.Unpacker(
        max_buffer_size=size or 1, read_size=size or 1, max_map_len=0, max_ext_len=0
    )


def _header(fields: Any) -> Header:
    if type(fields) is not list or len(fields) < _HEADER_FIELDS:
        raise RemoteProtocolError(f"a header is an array of at least {_HEADER_FIELDS}")
    if len(fields) > _HEADER_FIELDS:
        del fields[_HEADER_FIELDS:]
    version, source, destination, boot, other_boot, number, largest, bitmap, delay, key = fields
    if type(source) is not str or type(destination) is not str:
        raise RemoteProtocolError("the names in a header are texts")
    if len(source) > MAX_NAME or len(destination) > MAX_NAME:
        raise RemoteProtocolError("a name in the header is too long")
    # What msgpack holds is no larger than 64 bits; a truth value is no number.
    if not (
        type(version) is type(boot) is type(other_boot) is type(number) is int
        and type(largest) is type(bitmap) is type(delay) is type(key) is int
        and version >= 0 and boot >= 0 and other_boot >= 0 and number >= 0
        and largest >= 0 and bitmap >= 0 and delay >= 0 and key >= 0
    ):  # fmt: skip
        raise RemoteProtocolError("the numbers in a header are unsigned integers")
    if not number:
        raise RemoteProtocolError("datagrams are counted from 1")
    return Header(
        version, source, destination, boot, other_boot, number, largest, bitmap, delay, key
    )


def _frames(data: bytes) -> tuple[Frame, ...]:
    if type(data) is not bytes:
        raise RemoteProtocolError("opened frames are bytes")
    if not data:
        return ()
    try:
        # Most datagrams hold one frame, which needs no stream of objects.
        return (_frame(msgpack.unpackb(data, max_map_len=0, max_ext_len=0)),)
    except msgpack.ExtraData:
        return _several(data)
    except ValueError as error:  # every error of msgpack and of unicode is a ValueError
        raise RemoteProtocolError(f"malformed frame: {error}") from error


def _several(data: bytes) -> tuple[Frame, ...]:
    unpacker = _unpacker(len(data))
    unpacker.feed(data)
    try:
        frames = [_frame(fields) for fields in unpacker]
        end = unpacker.tell()
    except ValueError as error:  # every error of msgpack and of unicode is a ValueError
        raise RemoteProtocolError(f"malformed frame: {error}") from error
    if end != len(data):
        raise RemoteProtocolError("the last frame is incomplete")
    return tuple(frames)


def _frame(fields: Any) -> Frame:
    if type(fields) is not list or len(fields) < _FRAME_FIELDS:
        raise RemoteProtocolError(f"a frame is an array of at least {_FRAME_FIELDS}")
    if len(fields) > _FRAME_FIELDS:
        del fields[_FRAME_FIELDS:]
    kind, stream, sequence, more, body = fields
    if type(kind) is not int or type(sequence) is not int or type(more) is not bool:
        raise RemoteProtocolError("kind, sequence or more of a frame is of the wrong type")
    if type(stream) is not str or type(body) is not bytes or len(stream) > MAX_STREAM:
        raise RemoteProtocolError("stream or body of a frame is of the wrong type or too long")
    # What msgpack holds is no larger than 64 bits.
    if kind < 0 or sequence < 0:
        raise RemoteProtocolError("kind or sequence of a frame is out of range")
    return Frame(kind, stream, sequence, more, body)

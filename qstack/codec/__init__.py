"""Bytes to messages and back: the only room that knows msgpack.

A **body** is a positional array of the record's fields in the order of their declaration;
records inside it are arrays again, tuples are arrays, enumerations are their integers. Elements
after the known fields are ignored, at every level, so that a newer peer may add fields. A
**frame** is ``[kind, stream, sequence, more, body]`` with the body as a binary. A **datagram**
is two msgpack objects one after the other: the header as an array, and a binary that holds the
frames one after the other, or their sealed form (DESIGN section 5).

What is malformed raises `RemoteProtocolError` when it came from a peer and
`LocalProtocolError` when we were asked to send it, and nothing else, whatever the bytes are.
Memory is bounded by caps on lengths (`MAX_TEXT`, `MAX_ELEMENTS`, `MAX_MESSAGE`), never by what
the bytes claim. Two modules: `bodies` (records) and `datagrams` (headers, frames, keys).
"""

from __future__ import annotations

from qstack.codec.bodies import (
    MAX_ELEMENTS,
    MAX_TEXT,
    UnknownKind,
    decode_body,
    decode_record,
    encode_body,
    encode_record,
)
from qstack.codec.datagrams import (
    FRAME_OVERHEAD,
    MAX_NAME,
    SEAL_OVERHEAD,
    Forged,
    Keys,
    decode_datagram,
    encode_datagram,
    room_for_frames,
)

__all__ = [
    "FRAME_OVERHEAD",
    "MAX_ELEMENTS",
    "MAX_NAME",
    "MAX_TEXT",
    "SEAL_OVERHEAD",
    "Forged",
    "Keys",
    "UnknownKind",
    "decode_body",
    "decode_datagram",
    "decode_record",
    "encode_body",
    "encode_datagram",
    "encode_record",
    "room_for_frames",
]

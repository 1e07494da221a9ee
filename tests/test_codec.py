"""The codec: what it carries, and that hostile bytes cost nothing but an error."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import resource
import time
import tracemalloc
import types
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.codec import (
    FRAME_OVERHEAD,
    MAX_ELEMENTS,
    MAX_NAME,
    MAX_TEXT,
    SEAL_OVERHEAD,
    Forged,
    UnknownKind,
    decode_body,
    decode_datagram,
    decode_record,
    encode_body,
    encode_datagram,
    encode_record,
    room_for_frames,
)
from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.messages.application import ApplyGate, Status
from qstack.messages.common import PLAIN_Z, PairId, PairKind, Qubit, RequestId
from qstack.messages.control import Credit, Hello, KeepAlive
from qstack.messages.devices import Aborted, Calibration, Completed, Gate, MemoryMeasure, Tags
from qstack.messages.link import LinkAdd, LinkAnswer, LinkRequest
from qstack.messages.physical import Arm, Success
from qstack.messages.wire import (
    KIND_OF,
    KINDS,
    MAX_DATAGRAM,
    MAX_MESSAGE,
    VERSION,
    Datagram,
    Frame,
    Header,
)

HOSTILE = int(os.environ.get("QSTACK_HOSTILE", "1000000"))
"""How many hostile datagrams are tried; a million takes about 6 s on one core."""

ADD = LinkAdd(
    "lab",
    LinkRequest(
        *(RequestId("alice", 2**63 + 5, 7), PairKind.KEEP, 3, 0.8, 0, 1, 1, 1.0),
        *(False, True, False, PLAIN_Z, PLAIN_Z, None),
    ),
)


def header(number: int = 9) -> Header:
    return Header(VERSION, "alice", "bob", 2**64 - 1, 5, number, 8, 2**64 - 1, 250, 0)


def frame_of(message: Any, sequence: int = 1) -> Frame:
    return Frame(KIND_OF[type(message)].number, "link/lab", sequence, False, encode_body(message))


SAMPLE = Datagram(header(), (frame_of(ADD), frame_of(KeepAlive(), 2)))


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Derive a strategy from an annotation, independently of the codec."""
    plain: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**64 - 1),
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bytes: st.binary(max_size=40),
        str: st.text(max_size=20),
    }
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in plain:
        return plain[hint]
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values_of(argument) for argument in arguments))
    if origin in (Union, types.UnionType):
        return st.one_of([values_of(a) if a is not type(None) else st.none() for a in arguments])
    if issubclass(hint, IntEnum):
        return st.sampled_from(list(hint))
    return records(hint)


def records(cls: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, *(values_of(hints[field.name]) for field in attrs.fields(cls)))


@pytest.mark.parametrize("number", sorted(KINDS), ids=lambda number: KINDS[number].cls.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_every_kind_comes_back_as_it_was_sent(number: int, data: st.DataObject) -> None:
    message = data.draw(records(KINDS[number].cls))
    body = encode_body(message)
    back = decode_body(number, body)
    assert back == message
    assert type(back) is type(message)
    assert encode_body(back) == body


@pytest.mark.parametrize("number", sorted(KINDS), ids=lambda number: KINDS[number].cls.__name__)
@settings(max_examples=10)
@given(data=st.data())
def test_every_kind_ignores_what_a_newer_version_appends(number: int, data: st.DataObject) -> None:
    message = data.draw(records(KINDS[number].cls))
    longer = msgpack.packb([*msgpack.unpackb(encode_body(message)), "new", [1, 2]])
    assert decode_body(number, longer) == message


@pytest.mark.parametrize("number", sorted(KINDS), ids=lambda number: KINDS[number].cls.__name__)
@settings(max_examples=10)
@given(data=st.data())
def test_every_kind_with_a_field_missing_is_refused(number: int, data: st.DataObject) -> None:
    fields = msgpack.unpackb(encode_body(data.draw(records(KINDS[number].cls))))
    if fields:
        with pytest.raises(RemoteProtocolError):
            decode_body(number, msgpack.packb(fields[:-1]))
    with pytest.raises(RemoteProtocolError):
        decode_body(number, msgpack.packb({"not": "an array"}))


def test_trailing_elements_of_nested_records_and_tuples_are_ignored() -> None:
    fields = msgpack.unpackb(encode_body(ADD))
    fields[1][0].append("newer")
    fields[1].append(None)
    assert decode_body(KIND_OF[LinkAdd].number, msgpack.packb(fields)) == ADD
    calibration = Calibration("d", "c", 1, 2, (("t", 1.0, 0.5),))
    fields = msgpack.unpackb(encode_body(calibration))
    fields[4][0].append("newer")
    assert decode_body(KIND_OF[Calibration].number, msgpack.packb(fields)) == calibration


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (Completed, ["device", True]),
        (Completed, ["device", 1.0]),
        (Completed, ["device", None]),
        (Completed, [b"device", 1]),
        (Completed, ["d" * (MAX_TEXT + 1), 1]),
        (LinkAnswer, ["l", ["a", 1, 1], 99, ""]),
        (LinkAnswer, ["l", ["a", 1, 1], True, ""]),
        (LinkAnswer, ["l", None, None, ""]),
        (ApplyGate, [1, 0, [1, 1], None, float("nan")]),
        (ApplyGate, [1, 0, [1, 1], None, float("inf")]),
        (ApplyGate, [1, 0, [1, 1], None, False]),
        (ApplyGate, [1, 0, [1, 1], [1], 0.0]),
        (Success, [1, ["a", 1, 1], 1, 1, 1, 1, "tags"]),
    ],
)
def test_a_field_of_the_wrong_type_or_out_of_bounds_is_refused(
    cls: type[Any], fields: list[Any]
) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_record(cls, msgpack.packb(fields))


@pytest.mark.parametrize(
    "message",
    [
        Completed("device", 2**64),
        Completed("d" * (MAX_TEXT + 1), 1),
        Completed("lone \ud800 surrogate", 1),
        ApplyGate(1, Gate.X, Qubit(1, 1), None, float("nan")),
        Tags("d", 1, ((1, 1),) * (MAX_ELEMENTS + 1)),
        Status(1, "x" * MAX_MESSAGE),
        PairId("no message", 1, 1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_the_peer_would_refuse_is_refused_here_first_and_loudly(message: Any) -> None:
    with pytest.raises(LocalProtocolError):
        encode_body(message)


def test_a_reason_that_has_grown_too_long_is_cut_and_sent_but_must_be_a_text() -> None:
    """Each party puts its words before another's, who may have said as much as a text holds."""
    told = LinkAnswer("ab", ADD.request.id, None, "\N{GRINNING FACE}" * (MAX_TEXT + 100))
    taken = decode_body(KIND_OF[LinkAnswer].number, encode_body(told))
    assert taken == attrs.evolve(told, reason="\N{GRINNING FACE}" * MAX_TEXT)  # type: ignore[misc]  # a record
    wrong: Any = None
    with pytest.raises(LocalProtocolError):
        encode_body(Aborted("d" * (MAX_TEXT + 1), 1, "because"))
    with pytest.raises((LocalProtocolError, TypeError)):  # TypeError by records that are compiled
        encode_body(Aborted("d", 1, wrong))


def test_a_truth_value_never_leaves_as_one_where_a_number_is_expected() -> None:
    event = Completed("device", True)
    if type(event.command) is bool:
        with pytest.raises(LocalProtocolError):
            encode_body(event)
    else:  # in the compiled build the record itself has made a number of it
        assert type(msgpack.unpackb(encode_body(event))[1]) is int


def test_integers_become_floats_where_a_float_is_expected() -> None:
    body = msgpack.packb([1, 5, [1, 1], None, 2])
    angle = decode_body(KIND_OF[ApplyGate].number, body).angle
    assert (angle, type(angle)) == (2.0, float)


def test_long_texts_are_taken_where_the_field_is_meant_for_them() -> None:
    status = Status(1, "x" * 100_000)
    assert decode_body(KIND_OF[Status].number, encode_body(status)) == status
    hello = Hello((1,), (), "node", 1, 0, (("emitter", "y" * 900),))
    assert decode_body(KIND_OF[Hello].number, encode_body(hello)) == hello


def test_records_that_are_no_messages_travel_too() -> None:
    assert decode_record(PairId, encode_record(PairId("l", 2**64 - 1, 4))) == PairId(
        "l", 2**64 - 1, 4
    )


def test_an_unknown_kind_is_told_apart_from_a_malformed_body() -> None:
    with pytest.raises(UnknownKind):
        decode_body(0x7FFF, b"\x90")


def test_a_datagram_comes_back_as_it_was_sent() -> None:
    assert decode_datagram(encode_datagram(SAMPLE)) == SAMPLE
    bare = Datagram(header(), ())
    assert decode_datagram(encode_datagram(bare)) == bare


def test_the_room_that_is_promised_fits_with_the_largest_numbers_and_a_seal() -> None:
    names = "n" * MAX_NAME, "m" * MAX_NAME
    room = room_for_frames(*names)
    largest = 2**64 - 1
    top = Header(largest, *names, *(largest,) * 7)
    stream = "s" * 100
    body = b"b" * (room - FRAME_OVERHEAD - len(stream))
    datagram = Datagram(top, (Frame(2**32 - 1, stream, largest, True, body),))
    data = encode_datagram(datagram, ToyKeys(b"k", SEAL_OVERHEAD))
    assert len(data) <= MAX_DATAGRAM
    with pytest.raises(LocalProtocolError):
        room_for_frames("n" * (MAX_NAME + 1), "bob")


def test_a_datagram_that_is_too_long_is_refused_at_both_ends() -> None:
    long = Datagram(header(), (Frame(1, "", 0, False, b"x" * MAX_DATAGRAM),))
    with pytest.raises(LocalProtocolError):
        encode_datagram(long)
    with pytest.raises(RemoteProtocolError):
        decode_datagram(b"\xc4" * (MAX_DATAGRAM + 1))


class ToyKeys:
    """An authenticated seal of the standard library: a hash stream and a truncated HMAC."""

    def __init__(self, key: bytes, tag: int = 16) -> None:
        self._key = key
        self._size = tag

    def key_id(self, peer: str) -> int:
        return 2**64 - 1

    def _mix(self, number: int, data: bytes) -> bytes:
        stream = hashlib.shake_256(self._key + number.to_bytes(8, "big")).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    def _tag(self, head: bytes, sealed: bytes) -> bytes:
        return hmac.digest(self._key, head + sealed, "sha256")[: self._size]

    def seal(self, header: Header, associated: bytes, frames: bytes) -> bytes:
        assert header.key_id == self.key_id(header.destination)
        sealed = self._mix(header.number, frames)
        return sealed + self._tag(associated, sealed)

    def open(self, header: Header, associated: bytes, frames: bytes) -> bytes:
        sealed, tag = frames[: -self._size], frames[-self._size :]
        if not hmac.compare_digest(tag, self._tag(associated, sealed)):
            raise Forged("forged")
        return self._mix(header.number, sealed)


def test_a_sealed_datagram_opens_with_the_key_and_never_after_a_change() -> None:
    toy = ToyKeys(b"k" * 32)
    data = encode_datagram(SAMPLE, toy)
    assert encode_body(ADD) not in data
    assert decode_datagram(data, toy) == SAMPLE
    for others in (ToyKeys(b"l" * 32), None):
        with pytest.raises(Forged):
            decode_datagram(data, others)
    with pytest.raises(Forged):
        decode_datagram(encode_datagram(SAMPLE), toy)
    for place in range(len(data)):
        forged = bytearray(data)
        forged[place] ^= 1
        with pytest.raises(RemoteProtocolError):
            decode_datagram(bytes(forged), toy)


@pytest.mark.parametrize("wrong", [-1, True, 1.0, "1", None])
@pytest.mark.parametrize(
    "name", [n for n in get_type_hints(Header) if n not in ("source", "destination")]
)
def test_each_number_of_a_header_is_an_unsigned_integer(name: str, wrong: object) -> None:
    fields = {each: getattr(SAMPLE.header, each) for each in get_type_hints(Header)}
    frames = msgpack.packb(b"")
    assert decode_datagram(msgpack.packb([*fields.values()]) + frames).header == SAMPLE.header
    with pytest.raises(RemoteProtocolError):
        decode_datagram(msgpack.packb([*{**fields, name: wrong}.values()]) + frames)


def crafted() -> Iterator[bytes]:
    """Datagrams made to hurt: huge claims, deep nesting, bad text, foreign types, leftovers."""
    whole = encode_datagram(SAMPLE)
    head = msgpack.packb([getattr(SAMPLE.header, name) for name in get_type_hints(Header)])
    claims: tuple[bytes, ...] = (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    )
    claims += (b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xdc\xff\xff", b"\xc1")
    for claim in claims:
        yield claim
        yield head + claim
        yield head + msgpack.packb(claim)
        yield head + msgpack.packb(msgpack.packb([1, "", 0, False, b""]) + claim)
        yield head + msgpack.packb(b"\x95\x01" + claim)
    for opening in (b"\x91", b"\xdc\x04\x00", b"\xdd\x00\x00\x04\x00", b"\x81", b"\x95"):
        deep = (opening * MAX_DATAGRAM)[: MAX_DATAGRAM - len(head) - 3]
        yield deep
        yield head + deep
        yield head + msgpack.packb(deep)
    yield from (whole + b"\x00", whole + whole, b"", b"\xc0", head, head + b"\xc0")
    yield b"\x9a\x01\xa2\xff\xfe" + whole[8:]
    yield head + msgpack.packb(b"\x95\x01\xa2\xff\xfe\x00\xc2\xc4\x00")
    yield head + msgpack.packb(b"\x95\x01\xa0\x00\xc2\xd6\xff\x00\x00\x00\x00")


def hostile(count: int) -> Iterator[bytes]:
    """Yield crafted ones, all truncations and single-byte changes of valid ones, then chance."""
    yield from crafted()
    heralded = Arm("lab", 5, 1, RequestId("a", 1, 1), PairKind.KEEP, "s", 1, 1, 4, 100, 0)
    samples = [encode_datagram(SAMPLE)]
    samples.append(encode_datagram(Datagram(header(3), (frame_of(heralded),))))
    samples.append(encode_datagram(Datagram(header(1), (frame_of(Credit("c", 5)),))))
    made = 0
    for data in samples:
        yield from (data[:end] for end in range(len(data)))
        made += len(data)
        for place in range(len(data)):
            before, after = data[:place], data[place + 1 :]
            yield from (before + bytes((value,)) + after for value in range(256))
            made += 256
    chance = random.Random(20)
    noise = chance.randbytes(1 << 20)
    while made < count:
        start, length = chance.randrange(1 << 19), chance.randrange(1, 200)
        piece = noise[start : start + length]
        data = samples[made % len(samples)]
        place = chance.randrange(len(data))
        yield piece if made % 3 == 0 else data[:place] + piece + data[place + made % 3 * 7 :]
        made += 1


def survive(data: bytes) -> int:
    """Decode a datagram and its bodies; return how many messages it held."""
    try:
        datagram = decode_datagram(data)
    except RemoteProtocolError:
        return 0
    messages = 0
    for each in datagram.frames:
        try:
            message = decode_body(each.kind, each.body)
        except RemoteProtocolError:
            continue
        assert decode_body(each.kind, encode_body(message)) == message
        messages += 1
    return messages


def test_a_million_hostile_datagrams_raise_nothing_but_remote_protocol_error() -> None:
    started = time.perf_counter()
    tried = valid = 0
    high_water_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in hostile(HOSTILE):
        tried += 1
        valid += survive(data) > 0
    assert tried >= HOSTILE
    assert 0 < valid < tried
    growth_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - high_water_before
    assert growth_kib < 32_768
    print(f"{tried} datagrams, {valid} valid, {time.perf_counter() - started:.1f} s")


def test_hostile_datagrams_leave_no_memory_behind_and_reserve_little() -> None:
    for data in hostile(1):
        survive(data)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for data in crafted():
            survive(data)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Nested heads make the decoder reserve their claims: at most 400 arrays of 1,200 pointers.
    assert after - before < 100_000
    assert peak - before < 8_000_000


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\xdc\x0f\xff", b"\xdc\x10\x01", b"\xdd\x00\x0f\xff\xff"]
)
def test_a_nested_message_of_full_length_reserves_a_bounded_memory(opening: bytes) -> None:
    body = (opening * MAX_MESSAGE)[:MAX_MESSAGE]
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decode_body(KIND_OF[MemoryMeasure].number, body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 1,024 levels, the parser's own limit, of MAX_ELEMENTS pointers of 8 bytes, and the body.
    assert peak < 1_024 * MAX_ELEMENTS * 8 + 4 * MAX_MESSAGE
    with pytest.raises(RemoteProtocolError):
        decode_body(KIND_OF[MemoryMeasure].number, body + b"\x00")

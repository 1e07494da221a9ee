"""Records as positional arrays: one writer and one reader per class, compiled once.

Both are closures built from the annotations. A writer turns a field into what msgpack packs
and a reader turns what it unpacked into the field; both are strict about types (no bool for an
int, an int for a float is taken and converted) and about bounds.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import IntEnum
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import msgpack

from qstack.codec.quick import Bounds, Field, reader, writer
from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.messages import (  # noqa: F401  importing them registers their kinds
    application,
    control,
    devices,
    link,
    network,
    physical,
    schedule,
)
from qstack.messages.wire import KIND_OF, KINDS, MAX_MESSAGE

MAX_TEXT = 512
"""Characters of a text field, unless `LONG_TEXT` names it; bytes of a binary field."""

MAX_ELEMENTS = 4_096
"""Elements of one array. Bounds what nested array heads can make a decoder reserve."""

INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1

BOUNDS = Bounds(INT_MIN, INT_MAX, MAX_TEXT)

LONG_TEXT = {("Status", "text"), ("Hello", "datasheets")}
"""(class, field) pairs whose text is bounded by the size of the message alone."""

REASON = "reason"
"""Texts of fields of this name are for people, and grow on their way from one party to the next:
what is too long of one is left out where it is sent, not refused."""

Converter: TypeAlias = Callable[[Any], Any]
R = TypeVar("R")


class UnknownKind(RemoteProtocolError):
    """The frame's kind is not registered here: an error for that frame alone."""


class _Unfit(ValueError):
    """A value does not fit its field; becomes a Local- or RemoteProtocolError at the door."""


class Shape(NamedTuple):
    """The two converters of a type."""

    write: Converter
    read: Converter


# --- scalars ----------------------------------------------------------------------------


def _integer(value: Any) -> Any:
    if type(value) is not int or not INT_MIN <= value <= INT_MAX:
        raise _Unfit(f"not an integer of 64 bits: {type(value).__name__}")
    return value


def _boolean(value: Any) -> Any:
    if value is not True and value is not False:
        raise _Unfit(f"not a bool: {type(value).__name__}")
    return value


def _number(value: Any) -> Any:
    if type(value) is float:
        if isfinite(value):
            return value
        raise _Unfit("not a finite number")
    if type(value) is int and INT_MIN <= value <= INT_MAX:
        return float(value)
    raise _Unfit(f"not a number: {type(value).__name__}")


def _text(limit: int) -> Converter:
    def text(value: Any) -> Any:
        if type(value) is not str or len(value) > limit:
            raise _Unfit(f"not a text of at most {limit} characters: {type(value).__name__}")
        return value

    return text


def _cut(limit: int) -> Converter:
    whole = _text(limit)

    def cut(value: Any) -> Any:
        return value[:limit] if type(value) is str else whole(value)

    return cut


def _binary(value: Any) -> Any:
    if type(value) is not bytes or len(value) > MAX_TEXT:
        raise _Unfit(f"not a binary of at most {MAX_TEXT} bytes: {type(value).__name__}")
    return value


def _both(convert: Converter) -> Shape:
    return Shape(convert, convert)


# --- composed types ---------------------------------------------------------------------


def _enumeration(cls: type[IntEnum]) -> Shape:
    members = {int(member): member for member in cls}

    def write(value: Any) -> Any:
        if type(value) is not cls:
            raise _Unfit(f"not a {cls.__name__}: {type(value).__name__}")
        return value.value

    def read(value: Any) -> Any:
        if type(value) is not int or value not in members:
            raise _Unfit(f"not a {cls.__name__}")
        return members[value]

    return Shape(write, read)


def _optional(inner: Shape) -> Shape:
    write_inner, read_inner = inner

    def write(value: Any) -> Any:
        return None if value is None else write_inner(value)

    def read(value: Any) -> Any:
        return None if value is None else read_inner(value)

    return Shape(write, read)


def _sequence(inner: Shape) -> Shape:
    """Build the shape of ``tuple[X, ...]``."""
    write_inner, read_inner = inner

    def write(value: Any) -> Any:
        if type(value) is not tuple or len(value) > MAX_ELEMENTS:
            raise _Unfit(f"not a tuple of at most {MAX_ELEMENTS}: {type(value).__name__}")
        return [write_inner(element) for element in value]

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise _Unfit(f"not an array: {type(value).__name__}")
        return tuple([read_inner(element) for element in value])

    return Shape(write, read)


def _fixed(inner: list[Shape]) -> Shape:
    """Build the shape of ``tuple[X, Y]``."""
    count = len(inner)
    writers = [shape.write for shape in inner]
    readers = [shape.read for shape in inner]

    def write(value: Any) -> Any:
        if type(value) is not tuple or len(value) != count:
            raise _Unfit(f"not a tuple of {count}: {type(value).__name__}")
        return [convert(element) for convert, element in zip(writers, value, strict=True)]

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) < count:
            raise _Unfit(f"not an array of {count}: {type(value).__name__}")
        return tuple([convert(e) for convert, e in zip(readers, value, strict=False)])

    return Shape(write, read)


_shapes: dict[Any, Shape] = {}
"""What was compiled already, by record class."""


def _record(cls: Any) -> Shape:
    """Return the shape of a record class, compiled at its first use."""
    shape = _shapes.get(cls)
    if shape is None:
        shape = _shapes[cls] = _compile(cls)
    return shape


def _compile(cls: type[Any]) -> Shape:
    """Build the shape of a record class from its annotations."""
    hints = get_type_hints(cls)
    names = tuple(field.name for field in attrs.fields(cls))
    count = len(names)
    limits = [MAX_MESSAGE if (cls.__name__, name) in LONG_TEXT else MAX_TEXT for name in names]
    inner = [_shape(hints[name], limit) for name, limit in zip(names, limits, strict=True)]
    if REASON in names:
        place = names.index(REASON)
        inner[place] = Shape(_cut(limits[place]), inner[place].read)
    values_of = _values_of(names)
    writers = [shape.write for shape in inner]
    readers = [shape.read for shape in inner]

    def write(value: Any) -> Any:
        if type(value) is not cls:
            raise _Unfit(f"not a {cls.__name__}: {type(value).__name__}")
        return [convert(v) for convert, v in zip(writers, values_of(value), strict=True)]

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) < count:
            raise _Unfit(f"a {cls.__name__} is an array of at least {count}")
        # Not strict: a newer peer's trailing elements end here.
        return cls(*[convert(v) for convert, v in zip(readers, value, strict=False)])

    fields = [
        Field(name, hints[name], limit, *shape)
        for name, limit, shape in zip(names, limits, inner, strict=True)
    ]
    return Shape(writer(cls, fields, BOUNDS, write), reader(cls, fields, BOUNDS, read))


def _values_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads the attributes `names` into a tuple, also for none and for one."""
    if not names:
        return lambda value: ()
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda value: (get(value),)
    return attrgetter(*names)


def _shape(hint: Any, text_limit: int) -> Shape:
    """Build the shape of an annotation; TypeError for one that the wire has no form for."""
    scalars = {int: _integer, bool: _boolean, float: _number, bytes: _binary}
    if hint in scalars:
        return _both(scalars[hint])
    if hint is str:
        return _both(_text(text_limit))
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _sequence(_shape(arguments[0], text_limit))
        return _fixed([_shape(argument, text_limit) for argument in arguments])
    if origin in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        some = next(argument for argument in arguments if argument is not type(None))
        return _optional(_shape(some, text_limit))
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _enumeration(hint)
    if isinstance(hint, type) and attrs.has(hint):
        return _record(hint)
    raise TypeError(f"no form on the wire for {hint!r}")


# --- doors ------------------------------------------------------------------------------


def encode_record(value: Any) -> bytes:
    """Return the positional array of any record; LocalProtocolError where a field is unfit."""
    cls = type(value)
    try:
        # A fresh packer each time: a shared one would keep state between callers.
        data: bytes = msgpack.packb(_record(cls).write(value))
    except (ValueError, OverflowError) as error:
        raise LocalProtocolError(f"cannot send {cls.__name__}: {error}") from error
    if len(data) > MAX_MESSAGE:
        raise LocalProtocolError(f"cannot send {cls.__name__}: {len(data)} bytes are too many")
    return data


def decode_record(cls: type[R], data: bytes) -> R:
    """Return the record that these bytes hold; RemoteProtocolError where they hold none."""
    size = len(data)
    if size > MAX_MESSAGE:
        raise RemoteProtocolError(f"{cls.__name__} of {size} bytes")
    try:
        value: R = _record(cls).read(
            msgpack.unpackb(
                data,
                max_array_len=size if size < MAX_ELEMENTS else MAX_ELEMENTS,
                max_map_len=0,
                max_ext_len=0,
            )
        )
    except ValueError as error:  # every error of msgpack and of unicode is a ValueError
        raise RemoteProtocolError(f"malformed {cls.__name__}: {error}") from error
    return value


def encode_body(message: Any) -> bytes:
    """Return a registered message as its body; LocalProtocolError if it is none, or unfit."""
    if type(message) not in KIND_OF:
        raise LocalProtocolError(f"{type(message).__name__} is not a message")
    return encode_record(message)


def decode_body(kind_number: int, data: bytes) -> Any:
    """Return the message of this kind. RemoteProtocolError, UnknownKind where it is unknown."""
    kind = KINDS.get(kind_number)
    if kind is None:
        raise UnknownKind(f"kind {kind_number:#x} is not known here")
    return decode_record(kind.cls, data)

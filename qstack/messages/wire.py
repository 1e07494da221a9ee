"""The datagram, its frames, and the registry of message kinds."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import attrs

from qstack.record import payload as payload
from qstack.record import record
from qstack.units import BootId, Duration, NodeName

VERSION = 1
MAX_DATAGRAM = 1_200
MAX_MESSAGE = 1 << 20

C = TypeVar("C")


class Delivery(IntEnum):
    """How adjacency carries a message (DESIGN section 5)."""

    TIMED = 0
    """Sent once; worthless when late."""
    SOFT = 1
    """Carries its whole state; the newest wins and is repeated until it is known to be there."""
    RELIABLE = 2
    """Delivered once, in the order of its channel."""


class Layer(IntEnum):
    """Which room a message is for; a party accepts only the layers of its peer's role."""

    CONTROL = 0
    PHYSICAL = 1
    LINK = 2
    NETWORK = 3
    APPLICATION = 4
    DEVICE = 5


@attrs.frozen
class Kind:
    """What is registered of a message class.

    `stream` names the field whose value, with the layer, names the channel of a reliable
    message or the key of a soft one; None where the layer alone does.
    `bulk` messages wait behind the others of the same datagram.
    """

    number: int
    cls: type[Any]
    layer: Layer
    delivery: Delivery
    stream: str | None
    bulk: bool


KINDS: dict[int, Kind] = {}
KIND_OF: dict[type[Any], Kind] = {}


def message(
    number: int,
    layer: Layer,
    delivery: Delivery,
    *,
    stream: str | None = None,
    bulk: bool = False,
) -> Callable[[type[C]], type[C]]:
    """Register a message: a record with a kind number. Put it above :func:`record`."""

    def register(cls: type[C]) -> type[C]:
        if number in KINDS:
            raise ValueError(f"kind {number:#x} is taken by {KINDS[number].cls.__name__}")
        kind = Kind(number, cls, layer, delivery, stream, bulk)
        KINDS[number] = kind
        KIND_OF[cls] = kind
        return cls

    return register


def stream_of(body: Any) -> str:
    """Return the name of the stream that a soft or reliable message belongs to.

    ``layer.name/value`` for kinds with a stream field, ``layer.name`` for others; soft kinds
    add their kind number, so that two soft kinds of one stream do not overwrite each other.
    """
    kind = KIND_OF[type(body)]
    name = kind.layer.name.lower()
    if kind.stream is not None:
        name = f"{name}/{getattr(body, kind.stream)}"
    if kind.delivery is Delivery.SOFT:
        name = f"{name}#{kind.number:x}"
    return name


@record
class Header:
    """The first object of a datagram, in the clear, authenticated when frames are sealed.

    `number` counts this sender's datagrams of this boot id to this destination, from 1;
    `largest` is the largest number received from the destination, 0 for none; bit i of
    `bitmap` says that number ``largest - 1 - i`` arrived too. `ack_delay_us` is the time that
    passed here, in wall microseconds, between the arrival of `largest` and this datagram.
    """

    version: int
    source: NodeName
    destination: NodeName
    source_boot: BootId
    destination_boot: BootId
    number: int
    largest: int
    bitmap: int
    ack_delay_us: Duration
    key_id: int


@record
class Frame:
    """One frame. `body` is the message itself, or its bytes (or a piece of them) on a wire.

    `stream` is empty for timed kinds. `sequence` counts the frames of the stream, from 1.
    `more` is true where the message goes on in the next frame of the channel.
    """

    kind: int
    stream: str
    sequence: int
    more: bool
    body: Any


@record
class Datagram:
    """What travels: one header and one or more frames (none: a bare acknowledgement)."""

    header: Header
    frames: tuple[Frame, ...]

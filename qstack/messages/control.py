"""Adjacency with adjacency: who is there, in which life, and what it can do."""

from __future__ import annotations

from qstack.machine import record
from qstack.messages.wire import Delivery, Layer, message
from qstack.units import BootId


@message(0x01, Layer.CONTROL, Delivery.TIMED)
@record
class Hello:
    """Opens an adjacency, or answers a Hello; repeated until both ends are confirmed.

    `echo` is the boot id of the other that the sender has seen, 0 for none. A boot id
    counts only after a Hello that echoes mine. `role` is "node", "station", "world" or
    "user". `features` are names; what both list may be used. `datasheets` are (name, text)
    pairs that describe the hardware behind the sender, free for people to read.
    """

    versions: tuple[int, ...]
    features: tuple[str, ...]
    role: str
    boot: BootId
    echo: BootId
    datasheets: tuple[tuple[str, str], ...]


@message(0x02, Layer.CONTROL, Delivery.TIMED)
@record
class KeepAlive:
    """Asks for nothing but an acknowledgement."""


@message(0x03, Layer.CONTROL, Delivery.TIMED)
@record
class Bye:
    """The sender stops on purpose; whatever was shared with it ends now."""

    reason: str


@message(0x04, Layer.CONTROL, Delivery.SOFT, stream="channel")
@record
class Credit:
    """The receiver of `channel` takes frames up to this many bytes since its start."""

    channel: str
    limit_bytes: int


@message(0x05, Layer.CONTROL, Delivery.TIMED)
@record
class Refusal:
    """A frame of the other was not understood or not allowed; for people and counters."""

    kind: int
    reason: str

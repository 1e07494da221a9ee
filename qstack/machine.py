"""The contract of a machine, and the addresses of what it does.

A machine is a value: it is stepped by ``handle(event, now) -> actions`` and says with
``deadline`` when it wants a :class:`Tick`. It never sleeps, never reads a clock, never
touches a socket. Actions name where they go: up, down, to a peer, to a device, or into the
notes that make the trace.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from qstack.record import record as record
from qstack.units import Instant, NodeName


@record
class Tick:
    """The machine's deadline has come."""


@record
class Drained:
    """The inbox is empty for now: what was collected may leave, bundled."""


TICK = Tick()
DRAINED = Drained()


@record
class Up:
    """An indication for the layer above."""

    event: Any


@record
class Down:
    """A request for the layer below."""

    request: Any


@record
class Send:
    """A message for a peer; how it is delivered is written in the message's kind."""

    peer: NodeName
    message: Any


@record
class Device:
    """A command for one of this node's devices."""

    device: str
    command: Any


@record
class Note:
    """Something worth recording: `name` is one of a fixed list, `fields` are plain values."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()


@record
class Arrived:
    """A datagram for this node came in by one of its ports ("peer", "user" or "device")."""

    port: str
    datagram: Any


@record
class FromDevice:
    """An event of one of this node's devices."""

    event: Any


@record
class Transmit:
    """A datagram to send by the port of this name; its header names the destination."""

    port: str
    datagram: Any


@record
class Came:
    """A party of the same process begins to talk, or answers the first word of another."""


CAME = Came()


@record
class Left:
    """A party of the same process talks no more: it stopped, or its life ended."""

    reason: str


@record
class Hand:
    """For a party of the same process: no adjacency and no datagram lie between.

    `word` is a message, :data:`CAME` or :class:`Left`.
    """

    peer: NodeName
    word: Any


@record
class Handed:
    """What a party of the same process said, see :class:`Hand`."""

    peer: NodeName
    word: Any


Action: TypeAlias = Up | Down | Send | Device | Note


class Machine(Protocol):
    """What every layer, device and whole node is."""

    @property
    def deadline(self) -> Instant | None:
        """The instant at which this machine wants a :class:`Tick`, or None."""

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take one event and return what is to be done about it."""

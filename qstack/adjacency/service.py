"""What an adjacency is told and what it indicates."""

from __future__ import annotations

from typing import Any

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.units import BootId, Duration, Instant, NodeName

COUNTERS = (
    *("sent", "received", "bare_acks", "hellos", "keepalives", "retransmitted", "duplicates"),
    *("strangers", "refused", "refusals", "dropped", "ups", "losses"),
)
"""Datagrams, but for `retransmitted`, `refused`, `refusals` (frames) and the last three."""


SILENT_INTERVALS = 8
"""After so many keepalive intervals without a word a peer is lost."""


@record
class AdjacencyParameters:
    """Who talks to whom, by which port, and how patiently. Durations in lab ns.

    `role` is mine. `wire`: frame bodies are bytes and long messages are cut; otherwise bodies
    are the messages themselves. `initiate`: call the peer, rather than wait to be called.
    `keepalive_ns`: after this long without a word from the peer it is asked for one, 0 never;
    after `silent_intervals` of them it is lost. `hello_interval_ns`: between repeated hellos,
    and the first guess of the retransmission time. `lab_per_wall`: lab ns per wall ns.
    `window_bytes`: credit that each channel of the peer has ahead of what was delivered.
    """

    name: NodeName
    peer: NodeName
    role: str
    port: str
    wire: bool
    initiate: bool
    keepalive_ns: Duration
    retransmit_floor_ns: Duration
    ack_delay_ns: Duration
    hello_interval_ns: Duration
    lab_per_wall: float = 1.0
    silent_intervals: int = SILENT_INTERVALS
    window_bytes: int = 65_536
    features: tuple[str, ...] = ()
    datasheets: tuple[tuple[str, str], ...] = ()


def check_parameters(parameters: AdjacencyParameters) -> None:
    """Raise LocalProtocolError for times that cannot work."""
    if min(parameters.hello_interval_ns, parameters.retransmit_floor_ns) <= 0:
        raise LocalProtocolError("hello interval and retransmission floor are positive")
    if parameters.lab_per_wall <= 0:
        raise LocalProtocolError("lab_per_wall is positive")


# --- requests ---------------------------------------------------------------------------


@record
class Open:
    """Begin: call, or wait to be called, as the parameters say."""


@record
class Shut:
    """Stop on purpose: the peer is told, with this reason, and nothing more is sent."""

    reason: str


@record
class Post:
    """Carry this message to the peer, as its kind demands; dropped with a note while not up."""

    message: Any


@record
class Dormant:
    """The peer cannot answer before `until`: no keepalive and no loss before then."""

    until: Instant


# --- indications ------------------------------------------------------------------------


@record
class Delivered:
    """A message of the peer."""

    peer: NodeName
    message: Any


@record
class PeerUp:
    """The peer is there, in this life of its process; `features` are what both ends list."""

    peer: NodeName
    boot: BootId
    role: str
    features: tuple[str, ...]
    datasheets: tuple[tuple[str, str], ...]


@record
class PeerLost:
    """All that was shared with this life of the peer ended; nothing of it comes any more.

    Also indicated, once per life, for a peer that never came up because no version is common.
    """

    peer: NodeName
    boot: BootId
    reason: str

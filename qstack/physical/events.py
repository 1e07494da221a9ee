"""What the machines of this room are told by whoever composes them, and all they take."""

from __future__ import annotations

from typing import TypeAlias

from qstack.machine import Drained, Tick, record
from qstack.messages.devices import (
    Aborted,
    Calibration,
    Completed,
    DeviceState,
    EmitterFired,
    EmitterHeralded,
    EmitterOutcome,
    Exhausted,
    Faulted,
    Rejected,
    StationClicks,
)
from qstack.messages.physical import Arm, ArmReply, Beacon, Confirm, Herald
from qstack.physical.service import Rest, Serve
from qstack.units import BootId, Duration, NodeName


@record
class StationReachable:
    """At a node: the adjacency with the station is up, in this life of the station."""

    boot: BootId


@record
class StationUnreachable:
    """At a node: the adjacency with the station is lost."""

    reason: str


@record
class SlotsChanged:
    """At a node: somebody freed a slot."""


SLOTS_CHANGED = SlotsChanged()


@record
class FromEnd:
    """At a station: an end of the link sent this."""

    node: NodeName
    message: Arm | Confirm


@record
class EndReachable:
    """At a station: the adjacency with an end is up, in this life of the end.

    With boot 0, which is not known, it is taken for a new life.
    """

    node: NodeName
    boot: BootId = 0


@record
class EndUnreachable:
    """At a station: the adjacency with an end is lost."""

    node: NodeName
    reason: str


@record
class Granted:
    """At a station: the analyser is this link's; for links that share one."""


@record
class Deferred:
    """At a station: the analyser serves another link, for about this long."""

    until_ns: Duration


EmitterEvent: TypeAlias = (
    EmitterHeralded | EmitterFired | EmitterOutcome | Exhausted | Rejected | Aborted | Faulted
)

NodeEvent: TypeAlias = (
    Serve
    | Rest
    | ArmReply
    | Herald
    | Beacon
    | StationReachable
    | StationUnreachable
    | EmitterEvent
    | Completed
    | DeviceState
    | Calibration
    | SlotsChanged
    | Tick
    | Drained
)

StationEvent: TypeAlias = (
    FromEnd
    | EndReachable
    | EndUnreachable
    | Granted
    | Deferred
    | StationClicks
    | Completed
    | Exhausted
    | Rejected
    | Aborted
    | Faulted
    | DeviceState
    | Calibration
    | Tick
    | Drained
)

"""What a node's network layer is told of its peers and links, besides what links indicate."""

from __future__ import annotations

from typing import Any

from qstack.machine import record
from qstack.units import BootId, Duration, LinkName, NodeName


@record
class PeerThere:
    """The adjacency with another node is up, with `boot` the life it is in.

    With a neighbour, or, where links are divided in time, with the controller, or as such.
    """

    peer: NodeName
    boot: BootId = 0


@record
class PeerGone:
    """It is lost; `reason` is for people."""

    peer: NodeName
    reason: str


@record
class FromPeer:
    """A message of such a node for the network layer."""

    peer: NodeName
    message: Any


@record
class LinkSeen:
    """Whether pairs can be had on a link, as far as this end can see.

    `latency_ns`: one way, of control messages to the other end. `turn_ns`: to the station and back.
    """

    link: LinkName
    up: bool
    latency_ns: Duration
    turn_ns: Duration = 0

"""What the network layer offers to the application layer, one instance per node.

Results are the messages of :mod:`qstack.messages.application` themselves: they say what a
user needs to know whether the pair came over one link or over many.
"""

from __future__ import annotations

from typing import TypeAlias

from qstack.machine import record
from qstack.messages.application import (
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import RequestId
from qstack.messages.link import LinkRequest
from qstack.units import NodeName

FIRST_LABEL = 1 << 32
"""Purposes from here on are labels of circuits: users' are below."""


@record
class NetworkCreate:
    """Ask for end-to-end pairs with `remote`: by their link if they share one, or by a circuit."""

    remote: NodeName
    request: LinkRequest


@record
class NetworkCancel:
    """End a request early, at either end."""

    request: RequestId
    reason: str


@record
class NetworkListen:
    """Accept (or no longer accept) the requests of others with this purpose."""

    purpose: int
    accept: bool


NetworkRequest: TypeAlias = NetworkCreate | NetworkCancel | NetworkListen


@record
class RequestAccepted:
    """A request of `remote` for pairs with this node was accepted; its pairs follow."""

    request: RequestId
    remote: NodeName
    purpose: int


NetworkIndication: TypeAlias = (
    RequestAccepted | PairReady | OutcomeReady | RequestDone | RequestEnded | PairExpired
)
"""A qubit in PairReady belongs to the application layer from the indication on."""

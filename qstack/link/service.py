"""What the link layer offers to the network layer, one instance per link and node."""

from __future__ import annotations

import math
from typing import TypeAlias

from qstack.errors import ErrorCode
from qstack.link.prepare import Remedy, remedy
from qstack.machine import record
from qstack.messages.common import Basis, PairId, PairInfo, Qubit, RequestId
from qstack.messages.link import LinkRequest
from qstack.messages.schedule import Timetable
from qstack.units import BootId, Instant, NodeName

__all__ = [
    "PRIOR_SIGMAS",
    "LinkAccepted",
    "LinkCancel",
    "LinkClock",
    "LinkCreate",
    "LinkDivide",
    "LinkDone",
    "LinkExpired",
    "LinkFailed",
    "LinkIndication",
    "LinkListen",
    "LinkOutcomeReady",
    "LinkPairReady",
    "LinkServiceRequest",
    "LinkWindows",
    "Remedy",
    "remedy",
    "senseless",
]

PRIOR_SIGMAS = 2.0
"""Without tests a link stands for a datasheet's fidelity less so many times its spread."""


@record
class LinkCreate:
    """Ask for pairs with the other end of this link."""

    request: LinkRequest


@record
class LinkCancel:
    """End a request early, at either end."""

    request: RequestId
    reason: str


@record
class LinkListen:
    """Accept (or no longer accept) requests of the peer with this purpose."""

    purpose: int
    accept: bool


@record
class LinkDivide:
    """Divide the link's time as this timetable says, from now on; None: not any more.

    Asked of the link's master alone, and under the scheduler `time-division` alone. It is forgotten
    when the other end is lost, and counts for nothing in another life of the station's clock.
    """

    timetable: Timetable | None


LinkServiceRequest: TypeAlias = LinkCreate | LinkCancel | LinkListen | LinkDivide


@record
class LinkAccepted:
    """A request of the peer entered the queue: its pairs will be indicated here too."""

    request: LinkRequest


@record
class LinkPairReady:
    """OK: a half is in `qubit`, which now belongs to the receiver of this indication.

    For PREPARE at the receiver `outcome` and `basis` are the creator's, and `corrected` says
    that a Pauli turned the qubit into the state that outcome 0 stands for.
    """

    request: RequestId
    remote: NodeName
    purpose: int
    info: PairInfo
    qubit: Qubit
    outcome: int | None
    basis: Basis | None
    corrected: bool


@record
class LinkOutcomeReady:
    """OK: this half was measured; axis and outcome raw."""

    request: RequestId
    remote: NodeName
    purpose: int
    info: PairInfo
    basis: Basis
    outcome: int


@record
class LinkDone:
    """Terminal: `delivered` pairs were reported, `tested` more were spent on test rounds."""

    request: RequestId
    delivered: int
    tested: int


@record
class LinkFailed:
    """Terminal: the request ended with an error; pairs that were reported stay valid."""

    request: RequestId
    code: ErrorCode
    reason: str
    delivered: int


@record
class LinkExpired:
    """EXPIRE: this reported pair is void. A qubit stays with its owner, who frees it."""

    request: RequestId
    pair: PairId
    reason: str


@record
class LinkClock:
    """Cycle 0 of the station's life and epoch began at `began`, local lab time, as far as is known.

    Indicated at the master of a link that is divided in time, again when the estimate has moved.
    """

    station_boot: BootId
    epoch: int
    began: Instant


@record
class LinkWindows:
    """A period of the link's windows began at `began`, local lab time, as far as is known.

    Indicated at both ends of a link that has windows, again when the estimate has moved.
    """

    began: Instant


LinkIndication: TypeAlias = (
    LinkAccepted
    | LinkPairReady
    | LinkOutcomeReady
    | LinkDone
    | LinkFailed
    | LinkExpired
    | LinkClock
    | LinkWindows
)


def senseless(request: LinkRequest) -> str:
    """Return which term of a request makes no sense over any number of links; empty if none."""
    complaint = ""
    if request.number < 1:
        complaint = f"number is {request.number}; ask for one pair at least"
    elif not 0.0 <= request.fidelity_min <= 1.0:
        complaint = f"fidelity_min is {request.fidelity_min}; it lies between 0 and 1"
    elif request.remaining_ns < 0:
        complaint = f"the maximum time is {request.remaining_ns} ns; 0 means no limit"
    elif not (math.isfinite(request.weight) and request.weight > 0):
        complaint = f"weight is {request.weight}; it must be positive"
    elif request.final_bell is not None and request.final_bell not in range(4):
        complaint = f"final_bell is {request.final_bell}; Bell indices are 0 to 3"
    return complaint

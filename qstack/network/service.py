"""What the network layer offers to the application layer, one instance per node.

Results are the messages of :mod:`qstack.messages.application` themselves: they say what a
user needs to know whether the pair came over one link or over many.
"""

from __future__ import annotations

from typing import TypeAlias

from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.application import (
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.circuits import Method
from qstack.messages.common import RequestId
from qstack.messages.link import FIRST_FLOW, LinkRequest
from qstack.units import BootId, Duration, LinkName, NodeName

METHODS = (Method.NESTED_DEJMPS, Method.PUMPED_DEJMPS, Method.NESTED_LOSS)
"""With these a node purifies if nobody says otherwise: BBPSSW never does better."""


@record
class TimeDivision:
    """That the links of a network are divided in time, by a controller. Durations in lab ns.

    `controller`: the node with that role. `bin_ns`: the length of a bin. What was granted is free
    again `lease_ns` after its head-end's last word. `nodes`: all that may ask.
    """

    controller: NodeName
    bin_ns: Duration
    lease_ns: Duration
    nodes: tuple[NodeName, ...]


FIRST_LABEL = FIRST_FLOW
"""Purposes from here on are labels of circuits: users' are below."""


class RequestIds:
    """Hands out the numbers of a node's own requests, starting at 1: one counter per life."""

    __slots__ = ("_boot", "_last", "_node")

    def __init__(self, node: NodeName, boot: BootId) -> None:
        self._node, self._boot, self._last = node, boot, 0

    def next(self) -> RequestId:
        """Return an id that was never given before."""
        self._last += 1
        return RequestId(self._node, self._boot, self._last)


@record
class NetworkCreate:
    """Ask for end-to-end pairs with `remote`: by their link if they share one, or by a circuit.

    `trust_min`: what every node between the two must be trusted with at least.
    """

    remote: NodeName
    request: LinkRequest
    trust_min: int = 0


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


@record
class NetworkTry:
    """A dry run: would this request get a circuit now? Answered by TryAnswer; nothing is made.

    The circuit is looked at by every node on its way as one that is installed, and nothing of it
    stays. Neighbours are treated as others are: by the route over their link.
    """

    remote: NodeName
    request: LinkRequest
    trust_min: int = 0


@record
class NetworkDrain:
    """Take nothing new on a link (None: at this node at all), or do so again.

    What runs is finished. Routes of others avoid what drains.
    """

    link: LinkName | None
    drain: bool


NetworkRequest: TypeAlias = (
    NetworkCreate | NetworkCancel | NetworkListen | NetworkTry | NetworkDrain
)


@record
class TryAnswer:
    """What a dry run found. `code` None: it would be admitted; otherwise why not, by `reason`.

    `nodes` from here to the remote, over `links`; pairs per second of lab time, mean fidelity at
    hand-over, latency of control messages end to end, as the head-end reckons. `promised_hz`: what
    the request would reserve of the rate, 0 without a maximum time. `cutoffs_ns`: of the nodes
    between, in their order. Its ends would purify by `method` in `rounds`. Empty and zero where no
    way was found, or none admitted.
    """

    request: RequestId
    code: ErrorCode | None
    reason: str
    nodes: tuple[NodeName, ...] = ()
    links: tuple[LinkName, ...] = ()
    rate_hz: float = 0.0
    fidelity: float = 0.0
    latency_ns: Duration = 0
    promised_hz: float = 0.0
    cutoffs_ns: tuple[Duration, ...] = ()
    method: Method = Method.NONE
    rounds: int = 0


@record
class RequestAccepted:
    """A request of `remote` for pairs with this node was accepted; its pairs follow."""

    request: RequestId
    remote: NodeName
    purpose: int


NetworkIndication: TypeAlias = (
    RequestAccepted
    | PairReady
    | OutcomeReady
    | HalfReady
    | HalfConfirmed
    | HalfDiscarded
    | RequestDone
    | RequestEnded
    | PairExpired
    | TryAnswer
)
"""A qubit in PairReady or HalfReady belongs to the application layer from the indication on."""

"""The two ends of a link: the distributed queue, expiry and test rounds (EGP)."""

from __future__ import annotations

from qstack.bell import BellIndex
from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.common import Basis, BasisPlan, PairKind, RequestId
from qstack.messages.wire import Delivery, Layer, message, payload
from qstack.units import BootId, Duration, LinkName

FIRST_FLOW = 1 << 32
"""Purposes below are users'. From here on a purpose names a flow of requests, and whoever runs
above the links gives it out: those of a flow are served in order, with one share between them."""


@payload
class LinkRequest:
    """A request as both ends hold it.

    `fidelity_min` in [0, 1] bounds the goodness at delivery. `remaining_ns` is what is left of
    the maximum time at the moment of sending, 0 for no limit. `priority`: larger is earlier.
    `atomic`: all pairs at once in memory, and nothing in between. `consecutive`: nothing in
    between. `store`: move each kept half to storage. `origin_plan` and `peer_plan` say how
    measured halves are measured at the requester and at its peer. `final_bell`: the creator
    turns each pair into this Bell state (for PREPARE the receiver does, where a Pauli can);
    None: as heralded. `weight` is the share under the weighted fair scheduler.

    Links know nothing of the last two. `within_ns`: all pairs are handed over together, and none of
    them was there for longer; 0: each as it comes. `early`: kept halves are handed over before
    it is known whether they belong to a pair.
    """

    id: RequestId
    kind: PairKind
    number: int
    fidelity_min: float
    remaining_ns: Duration
    purpose: int
    priority: int
    weight: float
    atomic: bool
    consecutive: bool
    store: bool
    origin_plan: BasisPlan
    peer_plan: BasisPlan
    final_bell: BellIndex | None
    within_ns: Duration = 0
    early: bool = False


@message(0x20, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkSync:
    """First message of a link after the adjacency came up: a fresh start of the queue.

    `test_key` is this end's half of the secret that chooses test rounds. `purposes` are the
    purpose ids that this end accepts now, for information; `memories` (communication,
    storage) are this end's, and bound what an atomic request may ask for.
    """

    link: LinkName
    test_key: bytes
    memories: tuple[int, int]
    purposes: tuple[int, ...]


@message(0x21, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkAdd:
    """Proposes a request for the queue."""

    link: LinkName
    request: LinkRequest


@message(0x22, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkAnswer:
    """Answers an add: None accepts (the master commits next), a code refuses."""

    link: LinkName
    request: RequestId
    code: ErrorCode | None
    reason: str


@message(0x23, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkCommit:
    """The master's word: at `version` this request is in the queue, at `position`.

    `virtual_start` and `cycles_per_pair` feed the weighted fair scheduler, so that both
    ends compute the same order from the same numbers. `setting` is the working point.
    """

    link: LinkName
    version: int
    position: int
    request: LinkRequest
    setting: str
    virtual_start: float
    cycles_per_pair: float


@message(0x24, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkSetting:
    """The master's word: from `version` on the request is served with another setting."""

    link: LinkName
    version: int
    request: RequestId
    setting: str


@message(0x25, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkEnd:
    """An end wants the request to end before it is complete, with this code."""

    link: LinkName
    request: RequestId
    code: ErrorCode
    reason: str


@message(0x26, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkRemove:
    """The master's word: at `version` the request is out of the queue, with this code."""

    link: LinkName
    version: int
    request: RequestId
    code: ErrorCode
    reason: str


@message(0x27, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkExpire:
    """The pairs `low` to `high` (both included) of this station's life are void."""

    link: LinkName
    station_boot: BootId
    low: int
    high: int
    reason: str


@message(0x28, Layer.LINK, Delivery.RELIABLE, stream="link", bulk=True)
@record
class LinkTest:
    """The outcome of one end's half of a test round; `held_ns` from emission to readout."""

    link: LinkName
    station_boot: BootId
    sequence: int
    outcome: int
    held_ns: Duration


@message(0x29, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkOutcome:
    """For PREPARE: what the creator measured of this pair; the receiver delivers with it."""

    link: LinkName
    station_boot: BootId
    sequence: int
    basis: Basis
    outcome: int


@message(0x2A, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkClose:
    """The sender has reported all that it ever will of this request, unless a pair expires.

    (`station_boot`, `sequence`) name the last valid pair that it reported, zeros where there
    is none. If not `final`, the request's number was reached: it is done once both ends
    closed with the same last pair. If `final`, the request is out of the queue and the station
    confirmed to the sender that no success of it can follow: it is over once both ends said so.

    `losses` is how many losses of the station (``LinkStation`` with `up` false) the sender has
    heard of from the receiver since their queue began. A close whose last pair is above one that
    it has not heard of is nothing: the sender will yet void that pair.
    """

    link: LinkName
    request: RequestId
    station_boot: BootId
    sequence: int
    final: bool
    losses: int


@message(0x2B, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkStation:
    """The sender lost this life of the station (`up` false), or sees it again (`up` true).

    `sequence` is the highest of that life that the sender indicated, 0 for none. After a loss
    every higher one is void at both ends, until the sender sees the same life again.
    """

    link: LinkName
    station_boot: BootId
    sequence: int
    up: bool


@message(0x2C, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkEstimate:
    """The master's word: from `version` on, pairs of this setting and pattern are judged so.

    `tallies` are the sums over all test rounds, for the axes X, Y and Z in this order: number
    of rounds, sum of signed products, expected sum at correlator 0, and its slope (see
    ``qstack.link.fidelity``). Both ends compute goodness from these numbers alone.
    """

    link: LinkName
    version: int
    setting: str
    clicks: int
    tallies: tuple[tuple[int, float, float, float], ...]

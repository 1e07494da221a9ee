"""A node and its heralding station: arms, replies, heralds, beacons (MHP, in batches)."""

from __future__ import annotations

from enum import IntEnum

from qstack.bell import BellIndex
from qstack.machine import record
from qstack.messages.common import PairKind, RequestId
from qstack.messages.wire import Delivery, Layer, message, payload
from qstack.units import BootId, Duration, LinkName, Picoseconds


class Verdict(IntEnum):
    """What a station says about an arm."""

    ACCEPT = 0
    """Paired: the analyser is open from `first_cycle` on."""
    WAIT = 1
    """The other end has not armed yet, or is idle."""
    BEHIND = 2
    """The other end armed for something else on a newer basis, which the reply names."""
    AHEAD = 3
    """The other end armed for something else on an older basis, and has been told."""
    DEFER = 4
    """The analyser serves another link, or the link is closed, for `until_ns`."""
    REFUSED = 5
    """Nothing can be served now; `reason` says why. All other verdicts: the clock runs."""


@payload
class Success:
    """One heralded success of a link.

    (`cycle`, `mode`) name the attempt; `sequence` counts the successes of the link in the
    station's present life, from 1; `tags_ps` are the clicks' times within the attempt.
    `setting` is the working point that the analyser was open for: a half that was made at
    another one is no half of this pair.
    """

    sequence: int
    request: RequestId
    cycle: int
    mode: int
    clicks: int
    bell: BellIndex
    tags_ps: tuple[Picoseconds, ...]
    setting: str


@message(0x10, Layer.PHYSICAL, Delivery.SOFT, stream="link")
@record
class Arm:
    """A node's standing wish, whole; the newest replaces what was there.

    `number` grows with each change of `request`, `kind`, `setting`, `queue_version` or bin (not
    of `credits`). `request` None means idle: attempts stop. The basis is (`queue_version`,
    `herald_sequence`): the version of the distributed queue and the last success seen;
    the latter also confirms all successes up to it. `credits` counts the memories that were
    offered under this number, ever. `query` grows when the node wants an answer although
    nothing else changed. `station_boot` is the life of the station that the arm is meant for.
    Under time division this was chosen for the cycles from `bin` to before `bin_end` (0: no end),
    and a success of another cycle does not count; `bin` is part of the basis, after the version.
    """

    link: LinkName
    station_boot: BootId
    number: int
    request: RequestId | None
    kind: PairKind
    setting: str
    queue_version: int
    herald_sequence: int
    credits: int
    first_cycle: int
    query: int
    bin: int = 0
    bin_end: int = 0


@message(0x11, Layer.PHYSICAL, Delivery.SOFT, stream="link")
@record
class ArmReply:
    """The station's whole state of one end of a link.

    `number` and `query` are those of the arm that is answered. `cycle` is the link's present
    cycle. `last_sequence` is that of the last success, and `decided_cycle` the last cycle of
    which every click was decided: what a node holds from a cycle up to it, and finds in no
    success, is void. `unconfirmed` are the oldest successes above the end's confirmed sequence,
    at most 8 of them, which keeps the message inside one datagram. `epoch` counts the lives of
    the link's clock within this life of the station, from 0: with another one the cycles begin
    again, and what a node holds of the former count and finds in no success is void.
    A link that has windows is open in the cycles from `opens_cycle` to before `closes_cycle`, the
    present or the next ones, and the station is `phase_ns` into a period of its windows; both
    cycles are 0 where it has none, or where the clock does not run.
    """

    link: LinkName
    number: int
    query: int
    verdict: Verdict
    first_cycle: int
    analyser: int
    until_ns: Duration
    other_version: int
    other_sequence: int
    cycle: int
    last_sequence: int
    decided_cycle: int
    unconfirmed: tuple[Success, ...]
    reason: str
    epoch: int
    opens_cycle: int = 0
    closes_cycle: int = 0
    phase_ns: Duration = 0


@message(0x14, Layer.PHYSICAL, Delivery.TIMED)
@record
class Confirm:
    """What an end adds to its arm when it has seen successes: that, and what it offers then.

    It stands for an Arm that differs from the last one of this `number` in `herald_sequence` and
    `credits` alone, and says nothing where the station has an arm of another number, or knows as
    much. Sent once: the station repeats what is not confirmed in an ArmReply, and a node that is
    told again of what no Arm has confirmed since sends its whole Arm.
    """

    link: LinkName
    station_boot: BootId
    number: int
    herald_sequence: int
    credits: int


@message(0x12, Layer.PHYSICAL, Delivery.TIMED)
@record
class Herald:
    """Sent at once after a decision: all successes that are new, and the latest not confirmed.

    At most 8 successes travel in one message. More of them come in several at once, of which
    all but the last have `decided_cycle` -1, for what is decided is true of all together; what a
    node misses before them comes with a reply, which it asks for. `voids` are the (cycle, mode)
    of clicks that count for nothing; where the hardware has no herald line they name every
    attempt that failed.
    `epoch` is as in ArmReply: a node takes nothing from a herald of an epoch that no reply has
    told it of, and asks for that reply.
    """

    link: LinkName
    cycle: int
    last_sequence: int
    decided_cycle: int
    successes: tuple[Success, ...]
    voids: tuple[tuple[int, int], ...]
    epoch: int


@message(0x13, Layer.PHYSICAL, Delivery.TIMED)
@record
class Beacon:
    """The link's cycle, for a node's estimate; `uncertainty_ns` is the station's own."""

    link: LinkName
    cycle: int
    cycle_ns: Duration
    uncertainty_ns: Duration
    last_sequence: int
    decided_cycle: int

"""Time division: whose bins of a link are which (0x58-0x5f), and how bins are asked for.

LinkBins is the word of a link's master to the other end, in cycles of that link. All others pass
between a node and the controller of the network, over an adjacency of their own, and count in the
controller's bins, which begin with its life and are all equally long.
"""

from __future__ import annotations

from qstack.errors import ErrorCode
from qstack.machine import record
from qstack.messages.circuits import CircuitId
from qstack.messages.wire import Delivery, Layer, message, payload
from qstack.units import BootId, Duration, LinkName, NodeName


@payload
class BinRun:
    """The bins from `begin` to before `end` of each frame belong to one owner.

    The owner are the link requests that the node `origin` makes under this `purpose`.
    """

    begin: int
    end: int
    origin: NodeName
    purpose: int


@payload
class Timetable:
    """The bins of a link, in cycles of its station's life `station_boot` and clock `epoch`.

    Bins have `bin_cycles` cycles each and are half-open: the first begins at `first_cycle`.
    `frame_bins` of them are a frame, which is repeated `frames` times; before and after
    that the link is nobody's, and its queue is served as without a timetable. `runs` are in order
    and do not overlap. In bins of no run nothing is served, or, if `spare`, whoever asks.
    """

    station_boot: BootId
    epoch: int
    first_cycle: int
    bin_cycles: int
    frame_bins: int
    frames: int
    spare: bool
    runs: tuple[BinRun, ...]


@message(0x58, Layer.LINK, Delivery.RELIABLE, stream="link")
@record
class LinkBins:
    """The master's word: from `version` of the queue on, this timetable holds; None: none does."""

    link: LinkName
    version: int
    timetable: Timetable | None


# --- between nodes and the controller --------------------------------------------------------


@payload
class BinHop:
    """One hop of the way that bins are asked for: a link, and the node that it leads to."""

    link: LinkName
    node: NodeName


@payload
class CircuitRun:
    """The controller's bins from `begin` to before `end` are those of one circuit."""

    begin: int
    end: int
    circuit: CircuitId


@message(0x59, Layer.NETWORK, Delivery.RELIABLE)
@record
class BinsAsk:
    """To the controller: bins for a circuit of mine, on all links of its way in the same bins.

    `hops` lead from the circuit's head-end. So long, `work_ns`, all links have to be at work for it
    together, within `within_ns` from now; of each bin `lost_ns` pass until they are. Said again
    it keeps what was granted for another lease; a controller that does not know the circuit takes
    it as new, with what is still to be done. A `dry` one is answered and leaves nothing behind.
    Answered by BinsAnswer.
    """

    circuit: CircuitId
    hops: tuple[BinHop, ...]
    work_ns: Duration
    within_ns: Duration
    lost_ns: Duration
    dry: bool


@message(0x5A, Layer.NETWORK, Delivery.RELIABLE)
@record
class BinsAnswer:
    """From the controller: so many `bins` are the circuit's (None), or why it has none.

    `first_ns` from now the first of them that has not passed begins, `last_ns` from now the last
    one ends; 0 for none. `link`: which has no room, empty where it is not one link.
    """

    circuit: CircuitId
    code: ErrorCode | None
    reason: str
    link: LinkName
    bins: int
    first_ns: Duration
    last_ns: Duration


@message(0x5B, Layer.NETWORK, Delivery.RELIABLE)
@record
class BinsRelease:
    """To the controller: the circuit needs its bins no more."""

    circuit: CircuitId


@message(0x5C, Layer.NETWORK, Delivery.RELIABLE)
@record
class BinsPlan:
    """To the master of a link: all that the controller has granted of it and that is not over.

    In its life `boot` bin 0 began with it, and all are `bin_ns` long; when it sent this it was
    `into_ns` into bin `bin`. `runs` are in order and do not overlap. It counts until the next one.
    """

    link: LinkName
    boot: BootId
    bin_ns: Duration
    bin: int
    into_ns: Duration
    runs: tuple[CircuitRun, ...]


@message(0x5D, Layer.NETWORK, Delivery.TIMED)
@record
class BinsClock:
    """To the master of a link: the controller is `into_ns` into bin `bin` of its life `boot`.

    Every such word is late by its way; that which was the least late counts.
    """

    boot: BootId
    bin: int
    into_ns: Duration

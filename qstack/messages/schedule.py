"""Time division: whose bins of a link are which (0x58-0x5f)."""

from __future__ import annotations

from qstack.machine import record
from qstack.messages.wire import Delivery, Layer, message, payload
from qstack.units import BootId, LinkName, NodeName


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

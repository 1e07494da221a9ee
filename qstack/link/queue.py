"""The distributed queue, as one end sees it.

The master changes it and ships each change with the next version number; the stream between
the ends is reliable and ordered, so the slave applies version after version, and equal
versions are equal queues. Nothing here is retried or acknowledged: adjacency does that.
Source of the idea: the distributed queue protocol of Dahlberg et al. (2019), without its
sequence windows, caches and acknowledgement backlogs, which a reliable stream makes needless.
"""

from __future__ import annotations

from qstack.errors import RemoteProtocolError
from qstack.link.scheduler import Item, Progress, virtual_start
from qstack.messages.common import RequestId
from qstack.messages.link import LinkCommit, LinkEstimate, LinkRemove, LinkRequest, LinkSetting
from qstack.messages.schedule import LinkBins, Timetable


class Queue:
    """Items in the order of their commitment, and the version that names this content."""

    __slots__ = ("_items", "_last_position", "timetable", "version")

    def __init__(self) -> None:
        self.version = 0
        self.timetable: Timetable | None = None
        self._items: dict[RequestId, Item] = {}
        self._last_position = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> tuple[Item, ...]:
        """Every item, in the order of commitment."""
        return tuple(self._items.values())

    def get(self, request: RequestId) -> Item | None:
        """The item of this request, if it is in the queue."""
        return self._items.get(request)

    def next_version(self) -> int:
        """Begin the master's next change and return its version."""
        self.version += 1
        return self.version

    def append(
        self, request: LinkRequest, setting: str, cycles_per_pair: float, progress: Progress
    ) -> Item:
        """Make and hold the master's new item; the caller has begun a version for it."""
        self._last_position += 1
        start = virtual_start(self.items, progress, request)
        item = Item(request, self._last_position, setting, start, cycles_per_pair)
        self._items[request.id] = item
        return item

    def follow(
        self, change: LinkCommit | LinkSetting | LinkRemove | LinkEstimate | LinkBins
    ) -> None:
        """Apply a change that the master shipped.

        Raises RemoteProtocolError, and changes nothing, unless it is the next version and
        names what there is.
        """
        if change.version != self.version + 1:
            raise RemoteProtocolError(
                f"queue change of version {change.version} after version {self.version}"
            )
        match change:
            case LinkCommit():
                if change.request.id in self._items:
                    raise RemoteProtocolError(f"{change.request.id} is in the queue already")
                self._items[change.request.id] = Item(
                    change.request,
                    change.position,
                    change.setting,
                    change.virtual_start,
                    change.cycles_per_pair,
                )
                self._last_position = max(self._last_position, change.position)
            case LinkSetting():
                self.retune(change.request, change.setting)
            case LinkRemove():
                self.drop(change.request)
            case LinkBins():
                self.timetable = change.timetable
            case LinkEstimate():
                pass  # a new version of the same content: it separates heralds before and after
        self.version = change.version

    def retune(self, request: RequestId, setting: str) -> None:
        """Serve a request with another setting from now on, if it is still here."""
        item = self._items.get(request)
        if item is not None:
            self._items[request] = Item(
                item.request, item.position, setting, item.virtual_start, item.cycles_per_pair
            )

    def drop(self, request: RequestId) -> None:
        """Forget a request: it is done, or the master removed it."""
        self._items.pop(request, None)

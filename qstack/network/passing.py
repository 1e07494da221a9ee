"""Requests of a circuit as a node between its ends sees them pass: which want pairs now."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from qstack.errors import RemoteProtocolError
from qstack.messages.common import RequestId

MOST_REQUESTS = 256
"""So many requests a circuit carries at a time; a node refuses what goes beyond."""


class Wish(IntEnum):
    """How far a request has come, as this node saw."""

    ASKED = 0
    """It went downstream."""
    RUNNING = 1
    """The tail-end took it: pairs are wanted."""
    OVER = 2
    """The head-end wants no more. The tail-end's last word has not passed."""


class Passing:
    """The requests of one circuit at one node between its ends."""

    __slots__ = ("_answered", "_priority", "wishes")

    def __init__(self) -> None:
        self.wishes: dict[RequestId, Wish] = {}
        """How far each of them has come."""
        self._priority: dict[RequestId, int] = {}
        self._answered: set[RequestId] = set()

    def __iter__(self) -> Iterator[RequestId]:
        return iter(self.wishes)

    def __len__(self) -> int:
        return len(self.wishes)

    @property
    def wanted(self) -> bool:
        """Whether some request wants pairs."""
        return Wish.RUNNING in self.wishes.values()

    @property
    def priority(self) -> int:
        """The largest among the requests that want pairs; 0 if none does."""
        running = [r for r, wish in self.wishes.items() if wish is Wish.RUNNING]
        return max((self._priority[request] for request in running), default=0)

    def forwarded(self, request: RequestId, priority: int) -> bool:
        """One goes downstream; return whether there is room for it."""
        if request in self.wishes:
            raise RemoteProtocolError(f"request {request} was asked for already")
        if len(self.wishes) >= MOST_REQUESTS:
            return False
        self.wishes[request], self._priority[request] = Wish.ASKED, priority
        return True

    def answered(self, request: RequestId, *, taken: bool) -> None:
        """The tail-end's answer goes upstream; it may have crossed the word that all is over."""
        wish = self.wishes.get(request)
        if wish is None or request in self._answered:
            raise RemoteProtocolError(f"nobody asked for request {request}")
        self._answered.add(request)
        if not taken:
            self._forget(request)
        elif wish is Wish.ASKED:
            self.wishes[request] = Wish.RUNNING

    def completed(self, request: RequestId) -> None:
        """The head-end wants no more pairs for it."""
        if request in self.wishes:
            self.wishes[request] = Wish.OVER

    def closed(self, request: RequestId) -> None:
        """The tail-end's last word goes upstream."""
        wish = self.wishes.get(request)
        if wish is not None and wish is not Wish.OVER:
            raise RemoteProtocolError(f"request {request} is closed, but runs")
        self._forget(request)

    def _forget(self, request: RequestId) -> None:
        self.wishes.pop(request, None)
        self._priority.pop(request, None)
        self._answered.discard(request)

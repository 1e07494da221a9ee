"""What a program waits for: deliveries in order, and the answers to its calls."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

import trio

from qstack.application.service import Delivery
from qstack.errors import QstackError, RemoteProtocolError, RequestFailed
from qstack.messages.application import Answer, HalfReady, PairReady
from qstack.messages.common import Qubit

T = TypeVar("T")

_TURN = 32
"""After this many deliveries in a row without waiting, other tasks get a turn."""


class Queue:
    """Deliveries in order, then their end: normal (None) or an error.

    `most` are kept, the newest. `title` says what is delivered, `given` how much has been taken,
    `awaited` how many wait.
    """

    def __init__(self, title: str, most: int | None = None) -> None:
        self.title = title
        self.given = 0
        self.awaited = 0
        self._items: deque[Delivery] = deque(maxlen=most)
        self._more = trio.Event()
        self._ended = False
        self._error: QstackError | None = None
        self._taken = 0

    def put(self, item: Delivery) -> None:
        """Append a delivery."""
        self._items.append(item)
        self._more.set()

    def end(self, error: QstackError | None = None) -> None:
        """Nothing follows; what is there is still given out. The first end counts."""
        if not self._ended:
            self._ended, self._error = True, error
        self._more.set()

    def drop_qubits(self) -> list[Qubit]:
        """Empty the queue and return the qubits that were waiting in it."""
        ready = PairReady | HalfReady
        qubits = [item.qubit for item in self._items if isinstance(item, ready)]
        self._items.clear()
        return qubits

    async def get(self) -> Delivery:
        """Return the next delivery; StopAsyncIteration, or the error, at the end.

        What is there already is given out without a turn of the scheduler, so that the
        program's answers to one datagram leave in one datagram.
        """
        while not self._items:
            self._taken = 0
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            if not self.awaited:
                self._more = trio.Event()
            self.awaited += 1
            try:
                await self._more.wait()
            finally:
                self.awaited -= 1
        self.given += 1
        self._taken += 1
        if self._taken % _TURN == 0:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        return self._items.popleft()


class Reply:
    """The answer to one call; `kind` is what is waited for, None before anybody does."""

    def __init__(self) -> None:
        self._there = trio.Event()
        self._message: Any = None
        self.kind: type[Any] | None = None

    def give(self, message: Any) -> None:
        """Take the answer, or the error that came in its place."""
        self._message = message
        self._there.set()

    async def wait(self, kind: type[T]) -> T:
        """Return the answer, which is of this kind unless the call was refused."""
        self.kind = kind
        await self._there.wait()
        message = self._message
        if isinstance(message, QstackError):
            raise message
        if isinstance(message, Answer) and message.code is not None:
            raise RequestFailed(message.code, message.reason)
        if not isinstance(message, kind):
            raise RemoteProtocolError(f"{type(message).__name__} answers no such call")
        return message

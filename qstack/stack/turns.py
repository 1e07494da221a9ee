"""Steps of machines that call each other: what may happen inside a step, and what comes after it.

The actions of a step are carried out one after another, and each may lead back to the machine that
wants them: a link indicates a pair, the network layer asks the link for something, and the link
would answer that before the rest of what it had decided first. So requests wait for their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from qstack.units import Instant


class Turns:
    """The steps of one machine; `step` makes one and carries out all that follows from it."""

    __slots__ = ("_depth", "_step", "_waiting")

    def __init__(self, step: Callable[[Any, Instant], list[Any]]) -> None:
        self._step = step
        self._depth = 0
        self._waiting: deque[Any] = deque()

    def inside(self, event: Any, now: Instant) -> list[Any]:
        """Step at once, also where a step is being carried out: for what it asked for itself."""
        self._depth += 1
        try:
            out = self._step(event, now)
        finally:
            self._depth -= 1
        if self._waiting and not self._depth:
            out += self._others(now)
        return out

    def after(self, event: Any, now: Instant) -> list[Any]:
        """Step when every step that is being carried out is done."""
        if not (self._depth or self._waiting):
            return self.inside(event, now)
        self._waiting.append(event)
        return [] if self._depth else self._others(now)

    def _others(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        while self._waiting:
            self._depth += 1
            try:
                out += self._step(self._waiting.popleft(), now)
            finally:
                self._depth -= 1
        return out

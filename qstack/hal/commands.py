"""Command ids: one counter per node, shared by all rooms that command devices."""

from __future__ import annotations


class CommandIds:
    """Hands out the ids of device commands; unique in a node's life, starting at 1."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return an id that was never given before."""
        self._last += 1
        return self._last

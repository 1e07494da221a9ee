"""Commands of devices: their ids, and where they end."""

from __future__ import annotations

from typing import Any

from qstack.messages.devices import Calibration, DeviceState, EmitterOutcome, StationClicks, Tags

_ON_THE_WAY = frozenset({StationClicks, Tags, DeviceState, Calibration})


def ends(event: Any) -> bool:
    """Whether a device event is the terminal one of its command."""
    kind = type(event)
    if kind is EmitterOutcome:
        return bool(event.last)
    return kind not in _ON_THE_WAY


class CommandIds:
    """Hands out the ids of device commands, starting at 1.

    One counter per node, shared by all rooms that command devices: unique in a node's life.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return an id that was never given before."""
        self._last += 1
        return self._last

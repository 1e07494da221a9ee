"""Halves that are used before it is known what they are halves of, at one end."""

from __future__ import annotations

from contextlib import suppress

import attrs

from qstack.application.service import Node
from qstack.errors import RequestFailed
from qstack.messages.application import HalfConfirmed, HalfDiscarded, HalfReady, Measured
from qstack.messages.common import PairId, PairInfo
from qstack.programs.pairs_report import DRAWN
from qstack.units import Duration


@attrs.define(eq=False)
class Halves:
    """What was read of each half, and what its notice said, by the half's name.

    `discarded`: halves of no pair. `in_advance`: outcomes that were there before the notice.
    """

    discarded: int = 0
    in_advance: int = 0
    _read: dict[PairId, Measured | None] = attrs.field(factory=dict)
    _told: dict[PairId, tuple[PairInfo, Duration]] = attrs.field(factory=dict)

    async def measure(self, node: Node, ready: HalfReady) -> None:
        """Read a half that has come, on an axis that the hardware draws; it may fail to."""
        read: Measured | None = None
        with suppress(RequestFailed):
            read = await node.measure(ready.qubit, DRAWN)
        self._read[ready.half] = read

    def confirm(self, notice: HalfConfirmed, latency_ns: Duration) -> None:
        """It is one of a pair, as was told so long after the request."""
        self.in_advance += notice.half in self._read
        self._told[notice.half] = notice.info, latency_ns

    def discard(self, notice: HalfDiscarded) -> None:
        """It is of no pair."""
        self.in_advance += notice.half in self._read
        self.discarded += 1

    def settled(self, half: PairId) -> tuple[PairInfo, Measured | None, Duration] | None:
        """Return pair, reading (None where it failed) and latency; None where one is to come."""
        told = self._told.get(half)
        if told is None or half not in self._read:
            return None
        return told[0], self._read[half], told[1]

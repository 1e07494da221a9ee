"""Test rounds: kept pairs that are measured instead of delivered, to know what they are like.

A measured pair cannot certify a kept one (it never waits), so rounds are taken from kept pairs,
after the herald, by a keyed pseudo-random function of the pair's name. Both ends know the key
(the XOR of one half from each), so both know at once which pair is a test and along which axis,
without a message; the station and the hardware do not know it, so they cannot treat
tests better than what is delivered.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias, TypeVar

from qstack.bell import BellIndex
from qstack.link.fidelity import AXES, Round
from qstack.machine import record
from qstack.messages.common import BasisPlan, BasisSet
from qstack.units import BootId, Duration

Key: TypeAlias = tuple[BootId, int]
"""A pair of this link: (station boot id, herald sequence)."""

T = TypeVar("T")

KEY_BYTES = 16
PENDING_LIMIT = 256
"""Rounds that wait for one end's outcome; the oldest gives way."""

PLANS = {
    "X": BasisPlan(BasisSet.XZ, 1.0, 0.0, 0.0, 0.0, 0.0),
    "Y": BasisPlan(BasisSet.XYZ, 0.0, 1.0, 0.0, 0.0, 0.0),
    "Z": BasisPlan(BasisSet.NONE, 0.0, 0.0, 0.0, 0.0, 0.0),
}
"""How to measure along each axis, without chance."""


@record
class Trial:
    """A pair that was chosen as a test round."""

    axis: str
    setting: str
    clicks: int
    bell: BellIndex


class Trials:
    """The choice of test rounds, and the outcomes that wait for their other half."""

    __slots__ = ("_first", "_mine", "_rate", "_secret", "_theirs", "_trials")

    def __init__(self, rate: float, first: bool) -> None:
        """`first`: this end is the first of the link's ends."""
        self._rate = rate
        self._first = first
        self._secret: bytes | None = None
        self._trials: dict[Key, Trial] = {}
        self._mine: dict[Key, tuple[int, Duration]] = {}
        self._theirs: dict[Key, tuple[int, Duration]] = {}

    def begin(self, mine: bytes, theirs: bytes) -> None:
        """Agree on the secret of this life of the two ends, and forget the former one's rounds."""
        self.end()
        self._secret = bytes(a ^ b for a, b in zip(mine, theirs, strict=True))

    def end(self) -> None:
        """The peer is gone: there is no secret any more, and no round will be finished."""
        self._secret = None
        self._trials.clear()
        self._mine.clear()
        self._theirs.clear()

    def axis_of(self, key: Key) -> str | None:
        """Return the axis to test this pair along, or None where it is to be delivered."""
        if self._secret is None or self._rate <= 0:
            return None
        boot, sequence = key
        text = boot.to_bytes(8, "big") + sequence.to_bytes(8, "big")
        digest = hashlib.blake2b(text, key=self._secret, digest_size=16).digest()
        if int.from_bytes(digest[:8], "big") / 2.0**64 >= self._rate:
            return None
        return AXES[int.from_bytes(digest[8:], "big") % 3]

    def chosen(self, key: Key, trial: Trial) -> None:
        """Remember what is tested; outcomes follow."""
        _keep(self._trials, key, trial)

    def mine(self, key: Key, outcome: int, held_ns: Duration) -> Round | None:
        """Take my outcome; return the round if it is finished."""
        _keep(self._mine, key, (outcome, held_ns))
        return self._finished(key)

    def theirs(self, key: Key, outcome: int, held_ns: Duration) -> Round | None:
        """Take the peer's outcome, which may come before my herald; return a finished round."""
        _keep(self._theirs, key, (outcome, held_ns))
        return self._finished(key)

    def void(self, key: Key) -> None:
        """The pair never was: there is nothing to learn from it."""
        self._trials.pop(key, None)
        self._mine.pop(key, None)
        self._theirs.pop(key, None)

    def _finished(self, key: Key) -> Round | None:
        trial, mine, theirs = self._trials.get(key), self._mine.get(key), self._theirs.get(key)
        if trial is None or mine is None or theirs is None:
            return None
        self.void(key)
        first, second = (mine, theirs) if self._first else (theirs, mine)
        return Round(trial.setting, trial.clicks, trial.bell, trial.axis, first, second)


def _keep(held: dict[Key, T], key: Key, value: T) -> None:
    if len(held) >= PENDING_LIMIT:
        del held[next(iter(held))]
    held[key] = value

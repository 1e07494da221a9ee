"""What is known of the lives of a link's station: how far each was seen, here and by the peer."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from qstack.link.trials import Key
from qstack.units import BootId

V = TypeVar("V")

LIVES_LIMIT = 8
"""Station lives of which something is remembered; the oldest gives way."""
EARLY_LIMIT = 1024
"""What the peer says of pairs that this end has not seen yet; the oldest gives way."""
LOSSES_LIMIT = 64
"""Losses of the station that were told and may not have been heard; the oldest gives way."""


def is_above(key: Key, boot: BootId, highest: int) -> bool:
    """Return whether a loss of this life, seen up to `highest`, makes the pair void."""
    return key[0] == boot and key[1] > highest


def remember(said: dict[Key, V], key: Key, value: V) -> None:
    """Keep what the peer said of a pair that this end has not seen yet."""
    if len(said) >= EARLY_LIMIT:
        del said[next(iter(said))]
    said[key] = value


class Losses:
    """The losses of the station that the ends told each other since their queue began.

    A loss of mine and a close of the peer's may cross on the way. Each close says how many of my
    losses it knows of, so that I see which it does not.
    """

    __slots__ = ("_told", "_unheard", "heard")

    def __init__(self) -> None:
        self.heard = 0
        self._told = 0
        self._unheard: deque[tuple[int, BootId, int]] = deque(maxlen=LOSSES_LIMIT)

    def told(self, boot: BootId, highest: int) -> None:
        """The peer is told of a loss here."""
        self._told += 1
        self._unheard.append((self._told, boot, highest))

    def stand(self, last: Key, heard: int) -> bool:
        """Return whether a close of the peer, that knows of `heard` losses, will stand.

        One that knows of more than there were knows of all of them: whatever made the peer
        count too many, no request may wait for a number that will never be right.
        """
        while self._unheard and self._unheard[0][0] <= heard:
            self._unheard.popleft()
        return not any(is_above(last, boot, highest) for _, boot, highest in self._unheard)


class Lives:
    """Per boot id of the station: the highest sequence seen here, and the peer's ceiling.

    A *ceiling* is the highest sequence that the peer saw before it lost that life: what is
    above it is void, for the peer will never hold the other half.
    """

    __slots__ = ("_ceilings", "_highest", "_told_lost")

    def __init__(self) -> None:
        self._highest: dict[BootId, int] = {}
        self._ceilings: dict[BootId, int] = {}
        self._told_lost: set[BootId] = set()

    def highest(self, boot: BootId) -> int:
        """The highest sequence of this life that was indicated here, 0 for none."""
        return self._highest.get(boot, 0)

    def indicated(self, key: Key) -> None:
        """A herald was indicated here."""
        boot, sequence = key
        highest = self._highest.get(boot)
        if highest is None:
            if len(self._highest) >= LIVES_LIMIT:
                del self._highest[next(iter(self._highest))]
            highest = 0
        self._highest[boot] = sequence if sequence > highest else highest

    def is_above(self, key: Key) -> bool:
        """Return whether the peer lost the station before this herald."""
        return bool(self._ceilings) and key[1] > self._ceilings.get(key[0], key[1])

    def peer_lost(self, boot: BootId, highest: int) -> None:
        """The peer lost this life, having seen so much of it."""
        if len(self._ceilings) >= LIVES_LIMIT:
            del self._ceilings[next(iter(self._ceilings))]
        self._ceilings[boot] = highest

    def peer_found(self, boot: BootId) -> None:
        """The peer sees this life again."""
        self._ceilings.pop(boot, None)

    def lost(self, boot: BootId) -> None:
        """This end lost the station, and tells the peer."""
        if len(self._told_lost) >= LIVES_LIMIT:
            self._told_lost.clear()
        self._told_lost.add(boot)

    def found(self, boot: BootId) -> bool:
        """This end sees a life again; return whether the peer was told that it was lost."""
        told = boot in self._told_lost
        self._told_lost.discard(boot)
        return told

    def forget_the_peer(self) -> None:
        """The peer's life is over: what it said and was told no longer counts."""
        self._ceilings.clear()
        self._told_lost.clear()

"""One half of a pair in a distillery, and its life."""

from __future__ import annotations

from collections.abc import Set
from enum import StrEnum
from typing import TypeAlias, assert_never

from qstack.bell import BellIndex, BellWeights
from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.common import PairId, Qubit
from qstack.network.distillation.service import Deliver
from qstack.units import Duration, Instant


class HalfState(StrEnum):
    """Where a half stands at this end."""

    IDLE = "waits for a partner"
    BOUND = "in a round, which may be void while a device still works"
    SPENT = "read, its slot free; the round goes on"
    PURIFIED = "handed over"
    GONE = "discarded"


@record
class Bound:
    """A round begins with it."""


@record
class Read:
    """It was the spent one, and was read."""


@record
class Merged:
    """It was the kept one, and a round succeeded: what it is now, and whether that was the last."""

    bell: BellIndex
    weights: BellWeights
    stated_ns: Duration
    consumed: tuple[PairId, ...]
    level: int
    last: bool


@record
class Freed:
    """It is void and its slot is free."""


HalfEvent: TypeAlias = Bound | Read | Merged | Freed

_H = HalfState
HALF_TABLE: dict[HalfState, dict[type, frozenset[HalfState]]] = {
    _H.IDLE: {Bound: frozenset({_H.BOUND}), Freed: frozenset({_H.GONE})},
    _H.BOUND: {
        Read: frozenset({_H.SPENT}),
        Merged: frozenset({_H.IDLE, _H.PURIFIED}),
        Freed: frozenset({_H.GONE}),
    },
    _H.SPENT: {},
    _H.PURIFIED: {},
    _H.GONE: {},
}
"""The allowed successors. An event that a state does not list is illegal there."""

HOLDING = frozenset({HalfState.IDLE, HalfState.BOUND})
"""States in which the slot is ours."""


class Half:
    """One half: what it is, how often it was purified, and what was spent on it.

    `weights` hold for the age `stated_ns` of this half, and for the age `far_ns` of the other, None
    where that one's end says so, as does `tilt`. `level`: rounds that it went through.
    """

    __slots__ = (
        *("_born", "bell", "consumed", "far_ns", "level", "order", "pair", "qubit", "state"),
        *("stated_ns", "tilt", "weights"),
    )

    def __init__(self, given: Deliver, order: int, now: Instant) -> None:
        self.state = HalfState.IDLE
        self.pair = given.pair
        self.qubit: Qubit = given.qubit
        self.bell = given.bell
        self.weights = given.weights
        self.stated_ns = given.age_ns
        self.far_ns, self.tilt = given.far_ns, given.tilt
        self.consumed: tuple[PairId, ...] = ()
        self.level = 0
        self.order = order
        self._born = now - given.age_ns

    @property
    def names(self) -> tuple[PairId, ...]:
        """The pairs that it is made of, itself first."""
        return (self.pair, *self.consumed)

    @property
    def holds(self) -> bool:
        """Whether its slot is ours."""
        return self.state in HOLDING

    def age(self, now: Instant) -> Duration:
        """Return how long ago it was initialised."""
        return now - self._born

    def handle(self, event: HalfEvent) -> None:
        """Take one event; LocalProtocolError where its state does not allow it."""
        following = self._follow(event)
        if following not in HALF_TABLE[self.state].get(type(event), ()):
            raise LocalProtocolError(
                f"{type(event).__name__} for {self.pair}, which is {self.state.name}"
            )
        if isinstance(event, Merged):
            self.bell, self.weights, self.stated_ns = event.bell, event.weights, event.stated_ns
            self.consumed, self.level = event.consumed, event.level
            self.far_ns, self.tilt = None, 0.0  # a round leaves no state of two preferred
        self.state = following

    def _follow(self, event: HalfEvent) -> HalfState:
        match event:
            case Bound():
                return HalfState.BOUND
            case Read():
                return HalfState.SPENT
            case Merged():
                return HalfState.PURIFIED if event.last else HalfState.IDLE
            case Freed():
                return HalfState.GONE
            case _:
                assert_never(event)


def may_meet(levels: Set[int], *, nested: bool) -> bool:
    """Return whether a method lets pairs of so many rounds meet: for the other end's check.

    `levels` are those that are known; of a pair that is void already nobody knows.
    """
    return len(levels) < 2 or (not nested and 0 in levels)

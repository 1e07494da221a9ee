"""The leading end's choices: which two halves meet, which is kept, and how they are turned.

**Which is kept.** With outcomes that are read right a round gives the same weights whichever pair
is the control. Misread ones let a pair pass whose parity was wrong, and then it is the control's
own X errors that stay: the better pair is to be the control. Of two equals that waited
unequally long that is the younger. Where both are as good, only what comes afterwards counts,
and the half is kept that fades less from now on: the younger where decay gets faster with age
(stretched exponent above 1), the older where it gets slower, the younger where it is all the
same. A pumped pair is always kept, as its plan says.
"""

from __future__ import annotations

from collections.abc import Iterable

from qstack.bell import BellWeights
from qstack.machine import record
from qstack.messages.circuits import Method
from qstack.messages.network import TurnAxis
from qstack.network.distillation import algebra
from qstack.network.distillation.halves import Half, HalfState
from qstack.network.distillation.service import DRAWN, DistilleryParameters
from qstack.network.purification import ENOUGH
from qstack.network.rounds import parity_round
from qstack.units import Chance, Instant


@record
class Meeting:
    """Two halves that are to meet, the control first, and their turns."""

    kept: Half
    spent: Half
    turns: tuple[TurnAxis, TurnAxis]


class Choice:
    """Chooses for one distillery; `chance` draws the turns of methods that twirl."""

    __slots__ = ("_chance", "_parameters")

    def __init__(self, parameters: DistilleryParameters, chance: Chance) -> None:
        self._parameters = parameters
        self._chance = chance

    def next(self, halves: Iterable[Half], now: Instant) -> Meeting | None:
        """Return who meets now, None where nobody can."""
        two = next_two(halves, nested=self._parameters.nested)
        if two is None:
            return None
        turns = (self._turn(two[0]), self._turn(two[1]))
        if self._keeps_first(two, turns, now):
            return Meeting(*two, turns)
        return Meeting(two[1], two[0], (turns[1], turns[0]))

    def _turn(self, half: Half) -> TurnAxis:
        """Draw the axis of a turn where the method twirls; each error goes equally to all then."""
        axes = axes_of(self._parameters.method, half.level)
        return axes[self._chance.below(len(axes))] if len(axes) > 1 else axes[0]

    def _keeps_first(
        self, two: tuple[Half, Half], turns: tuple[TurnAxis, TurnAxis], now: Instant
    ) -> bool:
        first, second = two
        if first.level != second.level:
            return first.level > second.level
        ones, others = (self._expected(*each, now) for each in zip(two, turns, strict=True))
        ends = self._parameters.operations
        gain = parity_round(ones, others, ends).weights[0]
        gain -= parity_round(others, ones, ends).weights[0]
        if abs(gain) > ENOUGH:
            return gain > 0
        younger = (first.age(now), first.order) < (second.age(now), second.order)
        return younger == (self._parameters.storage[0].exponent >= 1)

    def _expected(self, half: Half, axis: TurnAxis, now: Instant) -> BellWeights:
        """What the pair is now and after its turn, if its other half is as old as this one."""
        losses = (
            algebra.fading_between(model, half.stated_ns, half.age(now))
            for model in self._parameters.storage
        )
        return algebra.turn(algebra.fade(half.weights, *losses), axis)


def axes_of(method: Method, level: int) -> tuple[TurnAxis, ...]:
    """Return about which axes a pair may be turned for its next round, after `level` of them."""
    if method in DRAWN:
        return TurnAxis.X, TurnAxis.Y, TurnAxis.Z
    return (TurnAxis.NONE,) if method is Method.NESTED_LOSS and not level else (TurnAxis.X,)


def next_two(halves: Iterable[Half], *, nested: bool) -> tuple[Half, Half] | None:
    """Return the two halves, the longer waiting first, that are to meet now; None: none yet.

    Nested: two of one level, the highest such. Pumped: the pair that was pumped last and a fresh
    one, or two fresh ones if there is none; one round at a time.
    """
    idle: dict[int, list[Half]] = {}
    for half in halves:
        if half.state is HalfState.IDLE:
            idle.setdefault(half.level, []).append(half)
        elif half.state is HalfState.BOUND and not nested:
            return None
    for waiting in idle.values():
        waiting.sort(key=lambda half: half.order)
    if nested:
        level = max((level for level, some in idle.items() if len(some) > 1), default=None)
        return None if level is None else (idle[level][0], idle[level][1])
    fresh = idle.pop(0, [])
    built = [half for some in idle.values() for half in some]
    meeting = [*built[:1], *fresh][:2]
    return (meeting[0], meeting[1]) if len(meeting) == 2 else None

"""One round at one end: two halves, the device commands on them, and both outcomes."""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum
from typing import TypeAlias, assert_never

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.common import PLAIN_Z, PairId
from qstack.messages.devices import Gate, MemoryGate, MemoryMeasure
from qstack.messages.network import DistilAges, DistilRound, TurnAxis
from qstack.network.distillation.halves import Bound, Half
from qstack.network.distillation.service import Cause
from qstack.units import Instant

GATE_OF = {TurnAxis.X: Gate.RX, TurnAxis.Y: Gate.RY, TurnAxis.Z: Gate.RZ}


class RoundState(StrEnum):
    """Where a round stands at this end."""

    AWAITING = "announced by the peer; a pair has not been delivered here"
    WORKING = "the device works on it"
    ASKED = "done here; the peer has not answered"
    CONDEMNED = "void, but the device still works on it"
    KEPT = "the outcomes agree"
    UNLIKE = "the outcomes disagree"
    VOID = "one of its pairs is void"


@record
class Present:
    """Both halves are here, and the first command is given."""


@record
class Stepped:
    """A command is done, and the next one is given."""


@record
class Halted:
    """A command ended, well or badly, and no more are given."""


@record
class Announced:
    """This end leads, has read its outcome, and has told the peer."""


@record
class Compared:
    """Both outcomes are known here."""

    alike: bool


@record
class Voided:
    """One of its pairs is void, or the peer is gone."""


RoundEvent: TypeAlias = Present | Stepped | Halted | Announced | Compared | Voided

_R = RoundState
_ENDS = frozenset({_R.KEPT, _R.UNLIKE})
ROUND_TABLE: dict[RoundState, dict[type, frozenset[RoundState]]] = {
    _R.AWAITING: {Present: frozenset({_R.WORKING}), Voided: frozenset({_R.VOID})},
    _R.WORKING: {
        Stepped: frozenset({_R.WORKING}),
        Halted: frozenset({_R.VOID}),
        Announced: frozenset({_R.ASKED}),
        Compared: _ENDS,
        Voided: frozenset({_R.CONDEMNED}),
    },
    _R.ASKED: {Compared: _ENDS, Voided: frozenset({_R.VOID})},
    _R.CONDEMNED: {Halted: frozenset({_R.VOID})},
    _R.KEPT: {},
    _R.UNLIKE: {},
    _R.VOID: {},
}
"""The allowed successors. An event that a state does not list is illegal there."""


class Round:
    """One round. `halves` are None while they have not been delivered here.

    `announced` is what the leading end said. `due`: when the leading end gives it up. `cause` and
    `reason`: why it is void.
    """

    __slots__ = (
        *("_ages", "_work", "announced", "cause", "due", "halves", "heard_at", "number", "pairs"),
        *("reason", "state", "turns"),
    )

    def __init__(
        self, number: int, pairs: tuple[PairId, PairId], turns: tuple[TurnAxis, TurnAxis]
    ) -> None:
        self.state = RoundState.AWAITING
        self.number = number
        self.pairs = pairs
        self.turns = turns
        self.halves: list[Half | None] = [None, None]
        self.announced: DistilRound | None = None
        self.heard_at: Instant = 0
        self.due: Instant | None = None
        self.cause = Cause.EXPIRED
        self.reason = ""
        self._ages: tuple[DistilAges, DistilAges] | None = None
        self._work: deque[MemoryGate | MemoryMeasure] = deque()

    @property
    def unfinished(self) -> bool:
        """Whether commands remain to be given."""
        return bool(self._work)

    @property
    def disputed(self) -> bool:
        """Whether the halves here are announced in other Bell states than at the leading end."""
        said = self.announced
        here = (self.kept.bell, self.spent.bell)
        return said is not None and here != (said.kept.bell, said.spent.bell)

    @property
    def misfits(self) -> bool:
        """Whether it is against photon loss, which pairs announced in Phi do not show."""
        return TurnAxis.NONE in self.turns and not self.kept.bell & self.spent.bell & 2

    @property
    def missing(self) -> bool:
        """Whether a half has not been delivered here."""
        return None in self.halves

    @property
    def kept(self) -> Half:
        """The half that stays."""
        return self._half(0)

    @property
    def spent(self) -> Half:
        """The half that is read."""
        return self._half(1)

    @property
    def ages(self) -> tuple[DistilAges, DistilAges]:
        """The ages of the kept and the spent half of this end."""
        if self._ages is None:
            raise LocalProtocolError(f"round {self.number} has not begun")
        return self._ages

    @property
    def names(self) -> tuple[PairId, ...]:
        """All pairs that are part of it, here or not."""
        each = (
            (pair,) if half is None else half.names
            for pair, half in zip(self.pairs, self.halves, strict=True)
        )
        return tuple(name for names in each for name in names)

    @property
    def said(self) -> DistilRound:
        """What the leading end said."""
        if self.announced is None:
            raise LocalProtocolError(f"round {self.number} has not been announced")
        return self.announced

    def announce(self, message: DistilRound, due: Instant | None) -> None:
        """This end leads, and says this."""
        self.announced, self.due = message, due

    def hear(self, message: DistilRound, now: Instant) -> None:
        """The leading end said this."""
        self.announced, self.heard_at = message, now

    def join(self, half: Half) -> None:
        """Let a half take part."""
        half.handle(Bound())
        self.halves[self.pairs.index(half.pair)] = half

    def plan(self, memory: str, sign: int, now: Instant) -> None:
        """Write down the commands: a turn of each half, the CNOT, the readout of the spent one.

        `sign` is 1 at the leading end, -1 at the other. Command ids are given later.
        """
        kept, spent = self.kept, self.spent
        self._ages = (
            DistilAges(kept.stated_ns, kept.age(now)),
            DistilAges(spent.stated_ns, spent.age(now)),
        )
        for half, axis in ((kept, self.turns[0]), (spent, self.turns[1])):
            if axis is TurnAxis.NONE:
                continue
            angle = math.pi / 2 * (1 if axis is TurnAxis.Y else sign)
            self._work.append(MemoryGate(memory, 0, GATE_OF[axis], half.qubit.slot, None, angle))
        slots = kept.qubit.slot, spent.qubit.slot
        self._work.append(MemoryGate(memory, 0, Gate.CNOT, *slots, 0.0))
        self._work.append(MemoryMeasure(memory, 0, slots[1], PLAIN_Z))

    def next_command(self, command: int) -> MemoryGate | MemoryMeasure | None:
        """Return the next command under this id; None where all are done."""
        if not self._work:
            return None
        match self._work.popleft():
            case MemoryGate() as work:
                return MemoryGate(
                    work.device, command, work.gate, work.slot, work.other, work.angle
                )
            case MemoryMeasure() as work:
                return MemoryMeasure(work.device, command, work.slot, work.plan)

    def handle(self, event: RoundEvent) -> None:
        """Take one event; LocalProtocolError where its state does not allow it."""
        following = self._follow(event)
        if following not in ROUND_TABLE[self.state].get(type(event), ()):
            raise LocalProtocolError(
                f"{type(event).__name__} for round {self.number}, which is {self.state.name}"
            )
        self.state = following

    def _follow(self, event: RoundEvent) -> RoundState:
        match event:
            case Present() | Stepped():
                return RoundState.WORKING
            case Announced():
                return RoundState.ASKED
            case Compared():
                return RoundState.KEPT if event.alike else RoundState.UNLIKE
            case Halted():
                return RoundState.VOID
            case Voided():
                working = self.state is RoundState.WORKING
                return RoundState.CONDEMNED if working else RoundState.VOID
            case _:
                assert_never(event)

    def _half(self, place: int) -> Half:
        half = self.halves[place]
        if half is None:
            raise LocalProtocolError(f"{self.pairs[place]} of round {self.number} is not here")
        return half

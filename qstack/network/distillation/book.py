"""The books of one end: halves, rounds and reports, and what it means that a pair is void."""

from __future__ import annotations

from collections.abc import Iterable

from qstack.machine import Action, Send, Up
from qstack.messages.common import PairId, Qubit
from qstack.messages.network import DistilVoid
from qstack.network.distillation.halves import Freed, Half, HalfState
from qstack.network.distillation.reports import Reports
from qstack.network.distillation.rounds import Halted, Round, RoundState, Voided
from qstack.network.distillation.service import (
    Cause,
    Discarded,
    DistilleryParameters,
    PurifiedExpired,
)
from qstack.physical.slots import Slots
from qstack.units import Instant

MOST_GONE = 4_096
"""So many pairs that are void or spent are remembered, for what may still be said of them."""

MOST_REASON = 300
"""Characters of a reason that goes to the peer."""


class Book:
    """What one end holds, by the names of pairs.

    `halves`: by each pair that a half is made of. `rounds` that are under way, by number.
    `awaited`: pairs of announced rounds that have not been delivered here. `running`: rounds
    that a device works on, void ones among them, by command. `actions` are to be taken away.
    """

    __slots__ = (
        *("_gone", "_parameters", "_slots", "actions", "awaited", "counters", "halves"),
        *("peer_gone", "reports", "rounds", "running"),
    )

    def __init__(self, parameters: DistilleryParameters, slots: Slots) -> None:
        self.halves: dict[PairId, Half] = {}
        self.rounds: dict[int, Round] = {}
        self.awaited: dict[PairId, Round] = {}
        self.running: dict[int, Round] = {}
        self.reports = Reports(parameters.horizon_ns)
        self.counters = {"rounds": 0, "kept": 0, "unlike": 0, "void": 0, "purified": 0}
        self.peer_gone = False
        self.actions: list[Action] = []
        self._parameters = parameters
        self._slots = slots
        self._gone: dict[PairId, None] = {}

    @property
    def held(self) -> tuple[Qubit, ...]:
        """The qubits that are ours."""
        halves = [*self.halves.values()]
        halves += [half for each in self.running.values() for half in each.halves if half]
        return tuple(dict.fromkeys(half.qubit for half in halves if half.holds))

    def is_gone(self, pair: PairId) -> bool:
        """Return whether this pair is void, or over, here."""
        return pair in self._gone

    # --- what is said of it ---------------------------------------------------------------

    def send(self, message: object) -> None:
        """Say this to the peer, if there is one."""
        if not self.peer_gone:
            self.actions.append(Send(self._parameters.peer, message))

    def tell_void(self, pairs: Iterable[PairId], reason: str, known: Iterable[PairId] = ()) -> None:
        """Tell the peer which pairs are lost, less those that it named itself."""
        told = set(known)
        news = tuple(dict.fromkeys(pair for pair in pairs if pair not in told))
        if news:
            circuit, link = self._parameters.circuit, self._parameters.link
            self.send(DistilVoid(circuit, news, reason[:MOST_REASON], link))

    def discarded(self, pairs: tuple[PairId, ...], cause: Cause, reason: str) -> None:
        """Indicate that these pairs are no more."""
        self.actions.append(Up(Discarded(self._parameters.circuit, pairs, cause, reason)))

    # --- halves ---------------------------------------------------------------------------

    def void(
        self, pairs: Iterable[PairId], reason: str, cause: Cause = Cause.EXPIRED
    ) -> list[PairId]:
        """Give up whatever holds any of these pairs; return the pairs that are lost by it."""
        lost: list[PairId] = []
        for pair in pairs:
            half = self.halves.get(pair)
            round_ = self.awaited.get(pair) or self._round_of(half)
            report = self.reports.take(pair)
            if round_ is not None:
                lost += self.void_round(round_, cause, reason)
            elif half is not None:
                lost += self.drop(half, cause, reason)
            elif report is not None:
                expired = PurifiedExpired(self._parameters.circuit, report.pair, reason)
                self.actions.append(Up(expired))
                self.forget(report.names)
            else:
                self.forget((pair,))
        return lost

    def drop(self, half: Half, cause: Cause, reason: str) -> tuple[PairId, ...]:
        """Give up a half that is in no round; return the pairs that it was made of."""
        self.free(half)
        self.forget(half.names)
        self.discarded(half.names, cause, reason)
        return half.names

    def free(self, half: Half) -> None:
        """Free the slot of a half that is void."""
        half.handle(Freed())
        self._slots.release(half.qubit, self._parameters.room)

    def forget(self, pairs: Iterable[PairId]) -> None:
        """These pairs are over here."""
        for pair in pairs:
            self.halves.pop(pair, None)
            self._gone[pair] = None
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _round_of(self, half: Half | None) -> Round | None:
        if half is None or half.state is HalfState.IDLE:
            return None
        return next(each for each in self.rounds.values() if half in each.halves)

    # --- rounds that come to nothing --------------------------------------------------------

    def void_round(self, round_: Round, cause: Cause, reason: str) -> tuple[PairId, ...]:
        """End a round; both its pairs are lost, for gates may have touched both, here or there.

        What a device works on is freed when its command has ended.
        """
        round_.cause, round_.reason = cause, reason
        round_.handle(Voided())
        self._strike(round_)
        if round_.state is RoundState.VOID:
            self._bury(round_)
        return round_.names

    def halted(self, round_: Round, cause: Cause, reason: str) -> tuple[PairId, ...]:
        """No command of this round follows: free what it holds; return pairs that are lost now."""
        condemned = round_.state is RoundState.CONDEMNED
        round_.handle(Halted())
        if not condemned:
            round_.cause, round_.reason = cause, reason
            self._strike(round_)
        self._bury(round_)
        return () if condemned else round_.names

    def _strike(self, round_: Round) -> None:
        """Take a void round and its pairs off the books."""
        self.counters["void"] += 1
        del self.rounds[round_.number]
        for pair in round_.pairs:
            self.awaited.pop(pair, None)
        self.forget(round_.names)

    def _bury(self, round_: Round) -> None:
        """Free what a void round still holds; what was never here is not indicated."""
        here = [half for half in round_.halves if half is not None]
        for half in here:
            if half.holds:
                self.free(half)
        if here:
            names = tuple(name for half in here for name in half.names)
            self.discarded(names, round_.cause, round_.reason)

    def end(self, reason: str) -> list[PairId]:
        """Give everything back that is not handed over; return the pairs that are lost by it."""
        lost: list[PairId] = []
        for round_ in list(self.rounds.values()):
            lost += self.void_round(round_, Cause.ENDED, reason)
        for half in dict.fromkeys(self.halves.values()):
            lost += self.drop(half, Cause.ENDED, reason)
        return lost

    def late(self, now: Instant) -> tuple[Round, ...]:
        """Return the rounds for whose outcome this end has waited long enough."""
        return tuple(
            each for each in self.rounds.values() if each.due is not None and each.due <= now
        )

"""Scripted users: they speak through their node's user port and write down all that they hear."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import attrs

from qstack.bell import BellIndex
from qstack.messages.application import (
    Answer,
    Created,
    CreateKeep,
    CreateMeasure,
    CreatePrepare,
    FreeQubit,
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    Listen,
    Measured,
    MeasureQubit,
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
    Status,
    Terms,
)
from qstack.messages.common import BasisPlan, PairId, Qubit, RequestId
from qstack.sim.heap import EventHeap
from qstack.stack import FromNode, NodeLost, NodeReached, ToNode
from qstack.testing.judge import as_ready
from qstack.units import Instant, NodeName

Policy: TypeAlias = Callable[[PairReady, Instant], Any]
"""What a scripted user does with a delivered half: a message for its node, or None to hold it."""


def free_at_once(pair: PairReady, now: Instant) -> FreeQubit:
    """Give every half back on delivery."""
    return FreeQubit(pair.qubit)


def hold(pair: PairReady, now: Instant) -> None:
    """Keep every half."""


def terms(remote: NodeName, number: int, **changes: Any) -> Terms:
    """Return the terms of a plain request, with changes by name."""
    plain = Terms(remote, number, 0.0, 0, 0, 0, 1.0, False, False)
    # The type checker does not see that our records are attrs classes.
    return attrs.evolve(cast(Any, plain), **changes) if changes else plain


@attrs.define
class Party:
    """A scripted user of one node: it records what it is told, and answers by its policy.

    Pass :meth:`listen` as the listener of its UserHost. All records are in order of arrival.
    """

    heap: EventHeap
    name: NodeName
    node: NodeName
    policy: Policy = free_at_once
    reached: bool = False
    lost: list[str] = attrs.field(factory=list)
    created: dict[int, RequestId] = attrs.field(factory=dict)
    pairs: list[tuple[Instant, PairReady]] = attrs.field(factory=list)
    outcomes: list[tuple[Instant, OutcomeReady]] = attrs.field(factory=list)
    expired: list[PairExpired] = attrs.field(factory=list)
    done: list[RequestDone] = attrs.field(factory=list)
    ended: list[RequestEnded] = attrs.field(factory=list)
    measured: dict[int, Measured] = attrs.field(factory=dict)
    answers: dict[int, Answer] = attrs.field(factory=dict)
    statuses: list[str] = attrs.field(factory=list)
    holding: dict[PairId, Qubit] = attrs.field(factory=dict)
    early: dict[PairId, Qubit] = attrs.field(factory=dict)
    _reference: int = 0

    def listen(self, event: Any, now: Instant) -> Iterable[Any]:
        """Take what the UserHost indicates; return what it shall do."""
        if type(event) is FromNode:
            answer = self._told(event.message, now)
            return () if answer is None else (ToNode(self.node, answer),)
        match event:
            case NodeReached():
                self.reached = True
            case NodeLost():
                self.reached = False
                self.lost.append(event.reason)
                self.holding.clear()
                self.early.clear()
        return ()

    def at_once(self, half: HalfReady, now: Instant) -> Any:
        """Decide what happens to a half that came early; by default it waits for its notice."""
        self.early[half.half] = half.qubit
        return None

    def _told(self, message: Any, now: Instant) -> Any:
        match message:
            case PairReady():
                self.pairs.append((now, message))
                answer = self.policy(message, now)
                if answer is None:
                    self.holding[message.info.pair] = message.qubit
                return answer
            case HalfReady():
                return self.at_once(message, now)
            case HalfConfirmed():
                ready = as_ready(message)
                self.pairs.append((now, ready))
                if self.early.pop(message.half, None) is None:
                    return None
                answer = self.policy(ready, now)
                if answer is None:
                    self.holding[ready.info.pair] = ready.qubit
                return answer
            case HalfDiscarded():
                qubit = self.early.pop(message.half, None)
                return None if qubit is None else FreeQubit(qubit)
            case OutcomeReady():
                self.outcomes.append((now, message))
            case Measured():
                self.measured[message.reference] = message
            case PairExpired():
                self.expired.append(message)
                if message.pair in self.holding:
                    return FreeQubit(self.holding.pop(message.pair))
            case RequestDone():
                self.done.append(message)
            case RequestEnded():
                self.ended.append(message)
            case Created():
                self.created[message.reference] = message.request
            case Answer():
                self.answers[message.reference] = message
            case Status():
                self.statuses.append(message.text)
        return None

    # --- what the user asks for ----------------------------------------------------------

    def say(self, message: Any, after_ns: int = 0) -> None:
        """Send a message to the node, now or later."""
        self.heap.post(self.name, ToNode(self.node, message), after_ns)

    def reference(self) -> int:
        """Return a fresh number for a call."""
        self._reference += 1
        return self._reference

    def accept(self, purpose: int = 0) -> None:
        """Listen on a purpose."""
        self.say(Listen(self.reference(), purpose))

    def keep(
        self,
        wanted: Terms,
        *,
        store: bool = False,
        final: BellIndex | None = None,
        early: bool = False,
    ) -> int:
        """Ask for pairs to keep; return the call's reference."""
        reference = self.reference()
        self.say(CreateKeep(reference, wanted, store, final, early))
        return reference

    def measure_directly(self, wanted: Terms, local: BasisPlan, remote: BasisPlan) -> int:
        """Ask for measured pairs; return the call's reference."""
        reference = self.reference()
        self.say(CreateMeasure(reference, wanted, local, remote))
        return reference

    def prepare(self, wanted: Terms, local: BasisPlan, *, correct: bool) -> int:
        """Prepare the remote halves; return the call's reference."""
        reference = self.reference()
        self.say(CreatePrepare(reference, wanted, False, local, correct))
        return reference

    def measure(self, qubit: Qubit, plan: BasisPlan) -> MeasureQubit:
        """Return the message that measures a qubit, under a fresh reference."""
        return MeasureQubit(self.reference(), qubit, plan)

    def release(self, pair: PairId) -> None:
        """Free a half that is held."""
        if pair in self.holding:
            self.say(FreeQubit(self.holding.pop(pair)))

    @property
    def pair_ids(self) -> list[PairId]:
        """The ids of what was delivered here and is not void, in order, kept and measured."""
        both = [(now, pair.info.pair) for now, pair in self.pairs]
        both += [(now, outcome.info.pair) for now, outcome in self.outcomes]
        void = {expired.pair for expired in self.expired}
        return [pair for _, pair in sorted(both, key=lambda e: e[0]) if pair not in void]

    def finished(self, requests: int = 1) -> bool:
        """Whether this many requests have ended here, well or badly."""
        return len(self.done) + len(self.ended) >= requests

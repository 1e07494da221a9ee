"""Whole networks from one seed: scripted users, and the checkers of global truth.

Nothing here decides anything for the protocols: users speak through their node's user port,
and the checkers look into the world from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import attrs
import numpy as np

from qstack.bell import BellIndex
from qstack.messages.application import (
    Answer,
    Created,
    CreateKeep,
    CreateMeasure,
    CreatePrepare,
    FreeQubit,
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
from qstack.sim.states import bell_projector
from qstack.stack import FromNode, NodeLost, NodeReached, ToNode
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
    _reference: int = 0

    def listen(self, event: Any, now: Instant) -> Iterable[Any]:
        """Take what the UserHost indicates; return what it shall do."""
        match event:
            case FromNode(_, message):
                answer = self._told(message, now)
                return () if answer is None else (ToNode(self.node, answer),)
            case NodeReached():
                self.reached = True
            case NodeLost():
                self.reached = False
                self.lost.append(event.reason)
                self.holding.clear()
        return ()

    def _told(self, message: Any, now: Instant) -> Any:
        match message:
            case PairReady():
                self.pairs.append((now, message))
                answer = self.policy(message, now)
                if answer is None:
                    self.holding[message.info.pair] = message.qubit
                return answer
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

    def keep(self, wanted: Terms, *, store: bool = False, final: BellIndex | None = None) -> int:
        """Ask for pairs to keep; return the call's reference."""
        reference = self.reference()
        self.say(CreateKeep(reference, wanted, store, final))
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


class TruthError(AssertionError):
    """What the protocols said is not what the world holds."""


@attrs.define
class PairTruth:
    """Checks each kept pair at the moment when both ends have it.

    Use :meth:`policy` as the policy of both parties. When the second end has delivered, the joint
    state is looked up in the world, its fidelity to the announced Bell state is recorded, and
    both halves are freed, or given to `then`. `state_of(slot, other slot, now)` returns None where
    a half is gone, as it is when its node crashed after the delivery; `gone` lists those.
    """

    one: Party
    other: Party
    state_of: Callable[[int, int, Instant], np.ndarray | None]
    then: Callable[[PairReady, PairReady, Instant], None] | None = None
    fidelities: list[tuple[PairId, float, float]] = attrs.field(factory=list)
    gone: list[PairId] = attrs.field(factory=list)
    _waiting: dict[PairId, tuple[NodeName, PairReady]] = attrs.field(factory=dict)

    def policy_of(self, party: Party) -> Policy:
        """Return the policy for one of the two parties."""
        return lambda pair, now: self._delivered(party, pair, now)

    @property
    def one_sided(self) -> int:
        """How many pairs only one end has been told of so far."""
        return len(self._waiting)

    def _delivered(self, party: Party, pair: PairReady, now: Instant) -> None:
        identity = pair.info.pair
        first = self._waiting.pop(identity, None)
        if first is None:
            self._waiting[identity] = (party.name, pair)
            return
        if first[0] == party.name:
            raise TruthError(f"{identity} was delivered twice to {party.name}")
        mine, theirs = pair, first[1]
        if party is self.other:
            mine, theirs = theirs, mine
        self._check(mine, theirs, now)
        if self.then is not None:
            self.then(mine, theirs, now)
            return
        # The second policy call is still running: what it holds is entered after it returns.
        party.say(FreeQubit(pair.qubit))
        (self.one if party is self.other else self.other).release(identity)

    def _check(self, mine: PairReady, theirs: PairReady, now: Instant) -> None:
        if mine.info.bell != theirs.info.bell or mine.request != theirs.request:
            raise TruthError(f"the ends disagree: {mine} and {theirs}")
        state = self.state_of(mine.qubit.slot, theirs.qubit.slot, now)
        if state is None:
            self.gone.append(mine.info.pair)
            return
        fidelity = float(np.real(np.trace(bell_projector(mine.info.bell) @ state)))
        self.fidelities.append((mine.info.pair, fidelity, mine.info.goodness))


def check_same_pairs(one: Party, other: Party) -> None:
    """Both ends were told the same pairs in the same order; raises TruthError otherwise."""
    if one.pair_ids != other.pair_ids:
        raise TruthError(
            f"{one.name} has {len(one.pair_ids)} pairs and {other.name} {len(other.pair_ids)}: "
            f"first difference at {_first_difference(one.pair_ids, other.pair_ids)}"
        )


def _first_difference(one: list[PairId], other: list[PairId]) -> str:
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return f"place {place}: {mine} against {theirs}"
    return f"place {min(len(one), len(other))}: the shorter list ends"

"""One end of a distillery: which event concerns which pair and round, and what follows."""

from __future__ import annotations

from typing import assert_never

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import Action, Device, Drained, Tick, Up
from qstack.messages.common import PairId, Qubit
from qstack.messages.devices import Aborted, Completed, Faulted, MemoryResult, Rejected
from qstack.messages.network import (
    DistilEnd,
    DistilInput,
    DistilOutcome,
    DistilRound,
    DistilVoid,
)
from qstack.network.distillation import algebra
from qstack.network.distillation.book import MOST_REASON, Book
from qstack.network.distillation.choice import Choice, axes_of
from qstack.network.distillation.halves import (
    Half,
    HalfState,
    Merged,
    Read,
    may_meet,
)
from qstack.network.distillation.rounds import (
    Announced,
    Compared,
    Present,
    Round,
    RoundState,
    Stepped,
)
from qstack.network.distillation.service import (
    Cause,
    Deliver,
    DistilleryEnded,
    DistilleryParameters,
    Expire,
    PeerGone,
    Purified,
    Stop,
)
from qstack.network.distillation.states import TABLE, DistilleryState, Event, FromMemory
from qstack.physical.slots import Slots
from qstack.units import Chance, Duration, Instant, earliest

MOST_ROUNDS = 256
"""So many rounds of a peer may be under way: each holds a qubit there."""


class Distillery:
    """Purification of one circuit's pairs at one end; see the package's text.

    Events: those of :mod:`qstack.network.distillation.service`, the peer's messages of this
    circuit, the terminal events of the memory (those of foreign commands are ignored), and Tick.
    Actions: ``Device(memory, command)``, ``Send(peer, message)``, ``Up(<indication>)``. Raises
    RemoteProtocolError, with its state unchanged, for what the peer must not send now, and
    LocalProtocolError for what our own layers must not.
    """

    def __init__(
        self, parameters: DistilleryParameters, slots: Slots, commands: CommandIds, chance: Chance
    ) -> None:
        parameters.check()
        self.parameters = parameters
        self.state = DistilleryState.RUNNING
        self._slots = slots
        self._commands = commands
        self._book = Book(parameters, slots)
        self._choice = Choice(parameters, chance)
        self._announcements = self._arrivals = 0
        self._reason: str | None = None

    @property
    def counters(self) -> dict[str, int]:
        """Rounds begun, kept, with unlike outcomes, void; pairs handed over."""
        return self._book.counters

    @property
    def held(self) -> tuple[Qubit, ...]:
        """The qubits that it owns."""
        return self._book.held

    @property
    def deadline(self) -> Instant | None:
        """When a round is given up, or, after the end, when the last report can be forgotten."""
        if self.state is DistilleryState.RUNNING:
            return earliest(*(round_.due for round_ in self._book.rounds.values()))
        return self._book.reports.deadline

    @property
    def over(self) -> bool:
        """Whether it may be forgotten: it holds nothing, and nothing it handed over can expire."""
        return self.state is DistilleryState.ENDED and not self._book.reports

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Take one event and return what is to be done about it."""
        allowed = TABLE[self.state].get(type(event))
        if allowed is None:
            raise LocalProtocolError(f"a distillery knows no {type(event).__name__}")
        book = self._book
        book.reports.forget(now)
        self._follow(event, now)
        if self._reason is None and self.parameters.leads:
            self._pair_up(now)
        following = self._verdict()
        if following not in allowed:
            raise LocalProtocolError(f"{type(event).__name__} leads to {following.name}")
        if following is DistilleryState.ENDED and self.state is not following:
            circuit, purified = self.parameters.circuit, book.counters["purified"]
            book.actions.append(Up(DistilleryEnded(circuit, self._reason or "", purified)))
        self.state = following
        actions, book.actions = book.actions, []
        return actions

    def _verdict(self) -> DistilleryState:
        if self._reason is None:
            return DistilleryState.RUNNING
        return DistilleryState.ENDING if self._book.running else DistilleryState.ENDED

    def _follow(self, event: Event, now: Instant) -> None:
        book = self._book
        match event:
            case Deliver():
                self._deliver(event, now)
            case Expire(pair, reason):
                if not book.is_gone(pair):
                    book.tell_void((pair, *book.void((pair,), reason)), reason)
            case DistilRound():
                self._announced(event, now)
            case DistilOutcome():
                self._answered(event, now)
            case DistilVoid(_, pairs, reason):
                book.tell_void(book.void(pairs, reason), reason, pairs)
            case DistilEnd(_, pairs, reason):
                book.void(pairs, reason)
                self._end(f"{self.parameters.peer} ended it: {reason}")
            case Stop(reason):
                self._stop(reason)
            case PeerGone(reason):
                self._lose(reason)
            case Completed() | MemoryResult() | Rejected() | Aborted() | Faulted():
                self._worked(event, now)
            case Tick():
                for round_ in book.late(now):
                    why = f"{self.parameters.peer} did not answer round {round_.number} in time"
                    book.tell_void(book.void_round(round_, Cause.LATE, why), why)
            case Drained():
                pass
            case _:
                assert_never(event)

    # --- pairs ---------------------------------------------------------------------------

    def _deliver(self, event: Deliver, now: Instant) -> None:
        """Take a half over; it may be void already, or awaited by a round."""
        book, pair, room = self._book, event.pair, self.parameters.room
        self._slots.check(event.qubit, room)
        if pair in book.halves or pair in book.reports:
            raise LocalProtocolError(f"{pair} was delivered before")
        if not 0 <= event.bell <= 3 or not algebra.possible(event.weights) or event.age_ns < 0:
            raise LocalProtocolError(f"{pair} cannot be what is said of it: {event}")
        if self._reason is not None or book.is_gone(pair):
            self._slots.release(event.qubit, room)
            cause = Cause.EXPIRED if self._reason is None else Cause.ENDED
            book.discarded((pair,), cause, self._reason or "it was void before it came")
            return
        self._arrivals += 1
        half = book.halves[pair] = Half(event, self._arrivals, now)
        round_ = book.awaited.pop(pair, None)
        if round_ is not None:
            round_.join(half)
            self._begin(round_, now)

    def _pair_up(self, now: Instant) -> None:
        """The leading end lets all meet that can."""
        book = self._book
        while meeting := self._choice.next(dict.fromkeys(book.halves.values()), now):
            self._announcements += 1
            pairs = (meeting.kept.pair, meeting.spent.pair)
            round_ = Round(self._announcements, pairs, meeting.turns)
            book.rounds[round_.number] = round_
            round_.join(meeting.kept)
            round_.join(meeting.spent)
            self._begin(round_, now)

    # --- rounds --------------------------------------------------------------------------

    def _begin(self, round_: Round, now: Instant) -> None:
        """Give the first command, if all is here and the ends agree about it."""
        if round_.missing:
            return
        if round_.disputed or round_.misfits:
            reason = "the ends announce different Bell states"
            if round_.misfits:
                reason = "a round against photon loss needs pairs in Psi"
            self._book.tell_void(self._book.void_round(round_, Cause.FAULT, reason), reason)
            return
        self._book.counters["rounds"] += 1
        round_.plan(self.parameters.memory, 1 if self.parameters.leads else -1, now)
        round_.handle(Present())
        self._command(round_)

    def _command(self, round_: Round) -> bool:
        """Give the next command; return whether there was one."""
        number = self._commands.next()
        command = round_.next_command(number)
        if command is None:
            return False
        self._book.running[number] = round_
        self._book.actions.append(Device(self.parameters.memory, command))
        return True

    def _worked(self, event: FromMemory, now: Instant) -> None:
        """A command has ended."""
        round_ = self._book.running.pop(event.command, None)
        if round_ is None:
            return
        if round_.state is RoundState.WORKING:
            if isinstance(event, MemoryResult) and not round_.unfinished:
                self._read(round_, event.outcome, now)
                return
            if isinstance(event, Completed) and self._command(round_):
                round_.handle(Stepped())
                return
        said = "ended otherwise than it must"
        if isinstance(event, Rejected | Aborted | Faulted):
            said = event.reason
        reason = f"{event.device}: {said}"
        self._book.tell_void(self._book.halted(round_, Cause.FAULT, reason), reason)

    def _read(self, round_: Round, outcome: int, now: Instant) -> None:
        """This end is through with a round: tell the other."""
        parameters = self.parameters
        kept, spent = round_.kept, round_.spent
        spent.handle(Read())
        self._slots.release(spent.qubit, parameters.room)
        circuit, number, ages = parameters.circuit, round_.number, round_.ages
        if parameters.leads:
            first, second = (
                DistilInput(half.pair, half.bell, half.weights, axis, its, half.far_ns, half.tilt)
                for half, axis, its in zip((kept, spent), round_.turns, ages, strict=True)
            )
            sent_ns, link = kept.age(now), parameters.link
            said = DistilRound(circuit, number, first, second, outcome, sent_ns, link)
            round_.announce(said, now + parameters.patience_ns if parameters.patience_ns else None)
            round_.handle(Announced())
            self._book.send(said)
        else:
            sent_ns, link = kept.age(now), parameters.link
            answer = DistilOutcome(circuit, number, outcome, *ages, sent_ns, link)
            self._book.send(answer)
            self._compare(round_, answer, now)

    def _compare(self, round_: Round, second: DistilOutcome, now: Instant) -> None:
        """Both outcomes are known: keep the pair or not, as the other end does."""
        parameters, book, first = self.parameters, self._book, round_.said
        here, there = parameters.storage
        models = (here, there) if parameters.leads else (there, here)
        found = algebra.result(first, second, models, parameters.operations)
        del book.rounds[round_.number]
        round_.handle(Compared(found.alike))
        kept, spent = round_.kept, round_.spent
        if not found.alike:
            book.counters["unlike"] += 1
            book.free(kept)
            book.forget(round_.names)
            book.discarded(round_.names, Cause.UNLIKE, Cause.UNLIKE.value)
            return
        book.counters["kept"] += 1
        level = max(kept.level, spent.level) + 1
        last = level == parameters.rounds
        for name in spent.names:
            book.halves[name] = kept
        consumed = (*kept.consumed, *spent.names)
        stated = round_.ages[0].begun_ns
        kept.handle(Merged(found.bell, found.weights, stated, consumed, level, last))
        if last and parameters.leads:
            self._hand_over(kept, (second.kept.begun_ns, second.sent_ns), now)
        elif last:
            passed = now - round_.heard_at + 2 * parameters.latency_ns
            self._hand_over(kept, (first.kept.ages.begun_ns, first.sent_ns + passed), now)

    def _hand_over(self, half: Half, far: tuple[Duration, Duration], now: Instant) -> None:
        """A pair is through; `far`: the other half's age when the weights hold, and at hand-over.

        The other end handed its half over when it answered; or it will one trip from now, and
        then it will have waited two trips and our work since it announced the round.
        """
        book, (near, other) = self._book, self.parameters.storage
        weights = algebra.fade(
            half.weights,
            algebra.fading_between(near, half.stated_ns, half.age(now)),
            algebra.fading_between(other, *far),
        )
        for name in half.names:
            del book.halves[name]
        book.reports.add(half.pair, half.names, now)
        book.counters["purified"] += 1
        ready = Purified(
            self.parameters.circuit,
            half.pair,
            half.qubit,
            half.bell,
            weights,
            half.age(now),
            half.level,
            half.consumed,
        )
        book.actions.append(Up(ready))

    # --- the peer ------------------------------------------------------------------------

    def _announced(self, message: DistilRound, now: Instant) -> None:
        """The leading end has done its part of a round."""
        if self._reason is not None:
            return
        self._check_announced(message)
        book, pairs = self._book, (message.kept.pair, message.spent.pair)
        round_ = Round(message.number, pairs, (message.kept.turn, message.spent.turn))
        round_.hear(message, now)
        if any(book.is_gone(pair) for pair in pairs):
            reason = "one of its pairs is void already"
            book.tell_void((*pairs, *book.void(pairs, reason)), reason)
            return
        book.rounds[message.number] = round_
        for pair in pairs:
            half = book.halves.get(pair)
            if half is None:
                book.awaited[pair] = round_
            else:
                round_.join(half)
        self._begin(round_, now)

    def _check_announced(self, message: DistilRound) -> None:
        parameters, book = self.parameters, self._book
        if parameters.leads:
            raise RemoteProtocolError(f"{parameters.node} leads, not {parameters.peer}")
        if message.number < 1 or message.number in book.rounds:
            raise RemoteProtocolError(f"round {message.number} cannot begin")
        if len(book.rounds) >= MOST_ROUNDS:
            raise RemoteProtocolError(f"more than {MOST_ROUNDS} rounds wait for pairs")
        algebra.check_round(message)
        levels = set()
        for each in (message.kept, message.spent):
            half = book.halves.get(each.pair)
            # Of one that is void nobody knows the level.
            known = (0, 1) if half is None else (half.level,)
            if not any(each.turn in axes_of(parameters.method, level) for level in known):
                raise RemoteProtocolError(f"{parameters.method.name} never turns about {each.turn}")
            idle = half is None or (half.state is HalfState.IDLE and half.pair == each.pair)
            if not idle or each.pair in book.awaited or each.pair in book.reports:
                raise RemoteProtocolError(f"{each.pair} is not there to meet another")
            if not book.is_gone(each.pair):
                levels.add(0 if half is None else half.level)
        if not may_meet(levels, nested=parameters.nested):
            raise RemoteProtocolError(f"pairs after {sorted(levels)} rounds do not meet")

    def _answered(self, message: DistilOutcome, now: Instant) -> None:
        """The other end has done its part; a round may have been given up meanwhile."""
        if self._reason is not None:
            return
        if not self.parameters.leads or not 1 <= message.number <= self._announcements:
            raise RemoteProtocolError(f"nobody asked {self.parameters.peer} for {message.number}")
        algebra.check_outcome(message)
        round_ = self._book.rounds.get(message.number)
        if round_ is None:
            return
        if round_.state is not RoundState.ASKED:
            raise RemoteProtocolError(f"round {message.number} has not been announced")
        self._compare(round_, message, now)

    # --- the end -------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        if self._reason is None:
            lost = tuple(self._end(reason))
            circuit, link = self.parameters.circuit, self.parameters.link
            self._book.send(DistilEnd(circuit, lost, reason[:MOST_REASON], link))

    def _end(self, reason: str) -> list[PairId]:
        if self._reason is not None:
            return []
        self._reason = reason
        return self._book.end(reason)

    def _lose(self, reason: str) -> None:
        """The peer is gone: a pair that it may not have handed over is void."""
        self._book.peer_gone = True
        why = f"{self.parameters.peer} is lost: {reason}"
        self._book.void([report.pair for report in self._book.reports.all()], why)
        self._end(why)

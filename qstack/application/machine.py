"""The application layer of a node: users, their requests, and the qubits they own."""

from __future__ import annotations

import math
from collections.abc import Container
from functools import partial
from typing import Any

import attrs

from qstack.application.asking import Plans, refusal, tried, wanted_of
from qstack.application.users import FromUser, User, UserDown, UserUp
from qstack.errors import ErrorCode
from qstack.hal.commands import CommandIds
from qstack.machine import Action, Device, Down, Note, Send
from qstack.messages.application import (
    Answer,
    ApplyGate,
    Cancel,
    Created,
    CreateKeep,
    CreateMeasure,
    CreatePrepare,
    Drain,
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
    StopListen,
    Terms,
    TryPairs,
)
from qstack.messages.common import PLAIN_Z, PairKind, Qubit, RequestId
from qstack.messages.devices import (
    Aborted,
    Completed,
    Faulted,
    MemoryGate,
    MemoryMeasure,
    MemoryResult,
    Rejected,
)
from qstack.network.service import (
    FIRST_LABEL,
    NetworkCancel,
    NetworkCreate,
    NetworkDrain,
    NetworkListen,
    NetworkTry,
    RequestAccepted,
    RequestIds,
    TryAnswer,
)
from qstack.physical.slots import Slots
from qstack.units import Instant, LinkName, NodeName

MOST_ENDED = 1_024
"""So many requests that have ended are remembered, for pairs of theirs that expire later."""


@attrs.frozen
class _Work:
    """A device command that runs for a user."""

    user: NodeName
    reference: int
    qubits: tuple[Qubit, ...]
    consumes: bool


class Application:
    """One per node. See the package's theory of operation.

    Events: :class:`UserUp`, :class:`UserDown`, :class:`FromUser`, the indications of
    :mod:`qstack.network.service`, and the terminal events of its own device commands.
    Actions: ``Send(user, message)``, ``Down(<network request>)``, ``Device(memory, command)``.
    """

    __slots__ = (
        *("_commands", "_ended", "_links", "_listener", "_memory", "_refuse", "_requests"),
        *("_slots", "_tries", "_user_of", "_users", "_work", "counters", "node"),
    )

    def __init__(
        self,
        node: NodeName,
        requests: RequestIds,
        memory: str,
        slots: Slots,
        commands: CommandIds,
        *,
        links: Container[LinkName] = (),
    ) -> None:
        self.node = node
        self._requests = requests
        self._memory = memory
        self._slots = slots
        self._commands = commands
        self._links = links
        self._users: dict[NodeName, User] = {}
        self._listener: dict[int, NodeName] = {}
        self._user_of: dict[RequestId, NodeName] = {}
        self._ended: dict[RequestId, NodeName] = {}
        self._work: dict[int, _Work] = {}
        self._refuse = partial(refusal, node)
        self._tries: dict[RequestId, tuple[NodeName, int]] = {}
        counted = ("requests", "pairs", "early", "outcomes", "expired", "unclaimed")
        self.counters = dict.fromkeys(counted, 0)

    @property
    def deadline(self) -> Instant | None:
        """Users have time; the layers below keep the deadlines of requests."""
        return None

    def handle(self, event: Any, now: Instant) -> list[Action]:
        """Take an event from a user, from the network layer, or from the memory."""
        match event:
            case FromUser():
                return self._called(event.user, event.message)
            case PairReady():
                self.counters["pairs"] += 1
                return self._pair(event)
            case HalfReady():
                self.counters["early"] += 1
                return self._pair(event)
            case HalfConfirmed():
                self.counters["pairs"] += 1
                return self._tell(event.request, event)
            case HalfDiscarded():
                return self._tell(event.request, event)
            case OutcomeReady():
                self.counters["outcomes"] += 1
                return self._tell(event.request, event)
            case MemoryResult() | Completed() | Rejected() | Aborted() | Faulted():
                return self._worked(event)
            case PairExpired():
                self.counters["expired"] += 1
                user = self._ended.get(event.request)
                return self._tell(event.request, event) if user is None else [Send(user, event)]
            case RequestDone() | RequestEnded():
                actions = self._tell(event.request, event)
                self._forget(event.request)
                return actions
            case RequestAccepted():
                return self._accepted(event)
            case TryAnswer():
                user, reference = self._tries.pop(event.request)
                return [Send(user, tried(reference, event))] if user in self._users else []
            case UserUp():
                self._users[event.user] = User()
                return []
            case UserDown():
                return self._user_gone(event)
            case _:
                return []

    # --- users ---------------------------------------------------------------------------

    def _called(self, user: NodeName, message: Any) -> list[Action]:
        match message:
            case FreeQubit():
                return self._free(user, message.qubit)
            case MeasureQubit():
                return self._measure(user, message)
            case CreateKeep():
                final = message.final_bell
                return self._create(user, message, PairKind.KEEP, (PLAIN_Z, PLAIN_Z, final))
            case CreateMeasure():
                measured = (message.local, message.remote, None)
                return self._create(user, message, PairKind.MEASURE, measured)
            case CreatePrepare():
                prepared = (message.local, PLAIN_Z, 0 if message.correct else None)
                return self._create(user, message, PairKind.PREPARE, prepared)
            case ApplyGate():
                return self._gate(user, message)
            case Listen() | StopListen():
                return self._listen(user, message)
            case Cancel():
                return self._cancel(user, message)
            case Drain():
                return self._drain(user, message)
            case TryPairs():
                request = self._requests.next()
                self._tries[request] = user, message.reference
                terms, plans = message.terms, (PLAIN_Z, PLAIN_Z, None)
                wanted = wanted_of(request, terms, PairKind.KEEP, plans, store=False)
                return [Down(NetworkTry(terms.remote, wanted, terms.trust_min))]
            case _:
                return []

    def _drain(self, user: NodeName, message: Drain) -> list[Action]:
        if message.link is not None and message.link not in self._links:
            return [self._refuse(user, message.reference, f"no link {message.link!r} is here")]
        fields = (("user", user), ("link", message.link or "all"), ("drain", message.drain))
        down = Down(NetworkDrain(message.link, message.drain))
        return [Note("drain", fields), down, Send(user, Answer(message.reference, None, ""))]

    def _create(
        self,
        user: NodeName,
        message: CreateKeep | CreateMeasure | CreatePrepare,
        kind: PairKind,
        plans: Plans,
    ) -> list[Action]:
        terms: Terms = message.terms
        self.counters["requests"] += 1
        request = self._requests.next()
        self._users[user].requests.add(request)
        self._user_of[request] = user
        store = False if isinstance(message, CreateMeasure) else message.store
        early = isinstance(message, CreateKeep) and message.early
        wanted = wanted_of(request, terms, kind, plans, store=store, early=early)
        created = Send(user, Created(message.reference, request))
        if not 0 <= terms.purpose < FIRST_LABEL:
            reason = f"{self.node}: purpose {terms.purpose} is not between 0 and {FIRST_LABEL - 1}"
            ended = RequestEnded(request, ErrorCode.CREATE, reason, 0)
            self._forget(request)
            return [created, Send(user, ended)]
        return [created, Down(NetworkCreate(terms.remote, wanted, terms.trust_min))]

    def _cancel(self, user: NodeName, message: Cancel) -> list[Action]:
        if self._user_of.get(message.request) != user:
            reason = f"no request {message.request} of yours is running"
            return [self._refuse(user, message.reference, reason)]
        answer = Send(user, Answer(message.reference, None, ""))
        return [answer, Down(NetworkCancel(message.request, f"cancelled by {user}"))]

    def _listen(self, user: NodeName, message: Listen | StopListen) -> list[Action]:
        purpose, reference = message.purpose, message.reference
        holder = self._listener.get(purpose)
        if isinstance(message, Listen):
            if not 0 <= purpose < FIRST_LABEL:
                reason = f"purpose {purpose} is not between 0 and {FIRST_LABEL - 1}"
                return [self._refuse(user, reference, reason)]
            if holder is not None and holder != user:
                reason = f"purpose {purpose} is taken by {holder}"
                return [self._refuse(user, reference, reason, ErrorCode.NO_RESOURCES)]
            self._listener[purpose] = user
            self._users[user].purposes.add(purpose)
        else:
            if holder != user:
                return [self._refuse(user, reference, f"you do not listen on {purpose}")]
            del self._listener[purpose]
            self._users[user].purposes.discard(purpose)
        down = Down(NetworkListen(purpose, isinstance(message, Listen)))
        return [down, Send(user, Answer(reference, None, ""))]

    def _user_gone(self, event: UserDown) -> list[Action]:
        gone = self._users.pop(event.user, None)
        if gone is None:
            return []
        actions: list[Action] = []
        for purpose in sorted(gone.purposes):
            del self._listener[purpose]
            actions.append(Down(NetworkListen(purpose, False)))
        reason = f"user {event.user} is gone: {event.reason}"
        self._ended = {r: user for r, user in self._ended.items() if user != event.user}
        for request in sorted(gone.requests, key=lambda r: (r.origin, r.boot, r.number)):
            del self._user_of[request]
            actions.append(Down(NetworkCancel(request, reason)))
        busy = {qubit for work in self._work.values() for qubit in work.qubits}
        for qubit in sorted(gone.qubits - busy, key=lambda q: q.slot):
            self._slots.release(qubit, "application")
        actions.append(Note("user-gone", (("user", event.user), ("reason", event.reason))))
        return actions

    # --- qubits --------------------------------------------------------------------------

    def _free(self, user: NodeName, qubit: Qubit) -> list[Action]:
        owned = self._users[user].qubits
        if qubit not in owned:
            fields = (("user", user), ("slot", qubit.slot), ("generation", qubit.generation))
            return [Note("foreign-qubit", fields)]
        owned.discard(qubit)
        if not self._work or not self._busy(qubit):
            self._slots.release(qubit, "application")
        return []  # What a device still works on is freed when it has ended.

    def _measure(self, user: NodeName, message: MeasureQubit) -> list[Action]:
        if message.qubit not in self._users[user].qubits or self._busy(message.qubit):
            reason = f"{message.qubit} is not yours, or busy"
            return [self._refuse(user, message.reference, reason)]
        command = self._commands.next()
        self._work[command] = _Work(user, message.reference, (message.qubit,), True)
        measure = MemoryMeasure(self._memory, command, message.qubit.slot, message.plan)
        return [Device(self._memory, measure)]

    def _gate(self, user: NodeName, message: ApplyGate) -> list[Action]:
        qubits = (message.qubit,) if message.other is None else (message.qubit, message.other)
        owned = self._users[user].qubits
        if not math.isfinite(message.angle) or len(set(qubits)) != len(qubits):
            return [self._refuse(user, message.reference, "the gate's operands make no sense")]
        if any(qubit not in owned or self._busy(qubit) for qubit in qubits):
            return [self._refuse(user, message.reference, "a qubit is not yours, or busy")]
        command = self._commands.next()
        self._work[command] = _Work(user, message.reference, qubits, False)
        other = None if message.other is None else message.other.slot
        gate = MemoryGate(
            self._memory, command, message.gate, message.qubit.slot, other, message.angle
        )
        return [Device(self._memory, gate)]

    def _worked(
        self, event: MemoryResult | Completed | Rejected | Aborted | Faulted
    ) -> list[Action]:
        work = self._work.pop(event.command, None)
        if work is None:
            return []
        user = self._users.get(work.user)
        for qubit in work.qubits:
            if work.consumes or user is None or qubit not in user.qubits:
                self._slots.release(qubit, "application")
                if user is not None:
                    user.qubits.discard(qubit)
        if user is None:
            return []
        match event:
            case MemoryResult():
                measured = Measured(
                    work.reference, work.qubits[0], event.basis, event.outcome, event.held_ns
                )
                return [Send(work.user, measured)]
            case Completed():
                return [Send(work.user, Answer(work.reference, None, ""))]
            case _:
                reason = f"{event.device}: {event.reason}"
                return [self._refuse(work.user, work.reference, reason, ErrorCode.OTHER)]

    def _busy(self, qubit: Qubit) -> bool:
        return any(qubit in work.qubits for work in self._work.values())

    # --- deliveries ----------------------------------------------------------------------

    def _pair(self, event: PairReady | HalfReady) -> list[Action]:
        """A qubit is a user's, or nobody's."""
        user = self._user_of.get(event.request)
        if user is None:
            self.counters["unclaimed"] += 1
            self._slots.release(event.qubit, "application")
            return []
        self._users[user].qubits.add(event.qubit)
        return [Send(user, event)]

    def _accepted(self, event: RequestAccepted) -> list[Action]:
        user = self._listener.get(event.purpose)
        if user is None:
            reason = f"nobody at {self.node} listens on purpose {event.purpose} any more"
            return [Down(NetworkCancel(event.request, reason))]
        self._user_of[event.request] = user
        self._users[user].requests.add(event.request)
        return []

    def _tell(self, request: RequestId, message: Any) -> list[Action]:
        user = self._user_of.get(request)
        return [] if user is None else [Send(user, message)]

    def _forget(self, request: RequestId) -> None:
        user = self._user_of.pop(request, None)
        if user is not None:
            self._users[user].requests.discard(request)
            self._ended[request] = user
            if len(self._ended) > MOST_ENDED:
                del self._ended[next(iter(self._ended))]

"""A program's view of one node of a running network.

Made by :mod:`qstack.drivers.client` over the node's user port, and by :mod:`qstack.sim.bridge`
over a heap in virtual time: it is the same class, so a program cannot tell the difference.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

import attrs
import trio

from qstack.application.service import Delivery
from qstack.bell import BellIndex
from qstack.drivers.deliveries import Queue, Reply
from qstack.errors import LocalProtocolError, QstackError, RequestFailed
from qstack.messages.application import (
    Answer,
    ApplyGate,
    AskStatus,
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
    Status,
    StopListen,
    Terms,
    Tried,
    TryPairs,
)
from qstack.messages.common import BasisPlan, Qubit, RequestId
from qstack.messages.devices import Gate
from qstack.stack import ToNode
from qstack.units import Instant, LinkName, NodeName

MOST_EXPIRED = 1_024
"""So many late expiries wait for the program, and so many ended requests are remembered."""


class Unreachable(QstackError):
    """A node does not answer; the message says who, where, and what to do."""


class Clock(Protocol):
    """What tells lab time."""

    def now(self) -> Instant:
        """Return the present instant of lab time."""


class Line(Protocol):
    """What carries a program's messages to its nodes: a pump, or a heap."""

    @property
    def clock(self) -> Clock:
        """The lab time of whoever is at this end."""

    def post(self, event: Any) -> None:
        """Give the user host an event of the program."""


class LiveRequest:
    """See :class:`qstack.application.service.Request`."""

    def __init__(self, node: LiveNode, identity: RequestId, queue: Queue) -> None:
        self._node = node
        self._identity = identity
        self._queue = queue

    @property
    def id(self) -> RequestId:
        """The network-wide id."""
        return self._identity

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        return await self._queue.get()

    async def cancel(self) -> None:
        """End the request early; the iteration then raises RequestFailed(OTHER)."""
        reference, reply = self._node.call()
        self._node.tell(Cancel(reference, self._identity))
        await reply.wait(Answer)


class LiveIncoming:
    """See :class:`qstack.application.service.Incoming`."""

    def __init__(self, node: LiveNode, purpose: int, queue: Queue) -> None:
        self._node = node
        self._purpose = purpose
        self._queue = queue

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        return await self._queue.get()

    async def close(self) -> None:
        """Refuse later requests; what still comes for running ones is delivered first."""
        await self._node.stop_listening(self._purpose)
        self._queue.end()


class _Expired:
    """Iterates over what expired too late for the iteration that delivered it."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def __aiter__(self) -> AsyncIterator[PairExpired]:
        return self

    async def __anext__(self) -> PairExpired:
        expired = await self._queue.get()
        assert isinstance(expired, PairExpired)  # noqa: S101  nothing else is put there
        return expired


@attrs.define(eq=False)
class _Books:
    """What a live node waits for. Deliveries of others' requests go by purpose.

    `purposes` also holds the last requests that have ended, for pairs that expire later.
    """

    calls: dict[int, Reply] = attrs.field(factory=dict)
    creating: dict[int, Queue] = attrs.field(factory=dict)
    requests: dict[RequestId, Queue] = attrs.field(factory=dict)
    incoming: dict[int, Queue] = attrs.field(factory=dict)
    purposes: dict[RequestId, int] = attrs.field(factory=dict)
    expired: Queue = attrs.field(factory=lambda: Queue("the next late expiry", MOST_EXPIRED))


class LiveNode:
    """A :class:`qstack.application.service.Node` of a running network. Made by connect()."""

    def __init__(self, name: NodeName, line: Line) -> None:
        self._name = name
        self._line = line
        self._last = 0
        self._books = _Books()
        self._lost: Unreachable | None = None
        self._spent: dict[int, int] = {}  # per slot, the last generation that was used up

    @property
    def name(self) -> str:
        """The node's name in the network."""
        return self._name

    def now(self) -> Instant:
        """The present instant of this program's lab time."""
        return self._line.clock.now()

    # --- the service ----------------------------------------------------------------------

    async def create_keep(
        self,
        terms: Terms,
        *,
        store: bool = False,
        final_bell: BellIndex | None = None,
        early: bool = False,
    ) -> LiveRequest:
        """Ask for pairs to keep. Deliveries are PairReady; `early`: HalfReady and notices."""
        reference, reply = self.call()
        wanted = CreateKeep(reference, terms, store, final_bell, early)
        return await self._create(reference, reply, wanted)

    async def create_measure(
        self, terms: Terms, local: BasisPlan, remote: BasisPlan
    ) -> LiveRequest:
        """Ask for pairs to be measured at both ends at once. Deliveries are OutcomeReady."""
        reference, reply = self.call()
        return await self._create(reference, reply, CreateMeasure(reference, terms, local, remote))

    async def create_prepare(
        self, terms: Terms, local: BasisPlan, *, store: bool = False, correct: bool = False
    ) -> LiveRequest:
        """Prepare the remote half by measuring mine. Deliveries are OutcomeReady."""
        reference, reply = self.call()
        wanted = CreatePrepare(reference, terms, store, local, correct)
        return await self._create(reference, reply, wanted)

    async def listen(self, purpose: int) -> LiveIncoming:
        """Take what others ask for with this purpose."""
        title = f"the next delivery for purpose {purpose}"
        queue = self._books.incoming.setdefault(purpose, Queue(title))
        reference, reply = self.call()
        self.tell(Listen(reference, purpose))
        await reply.wait(Answer)
        return LiveIncoming(self, purpose, queue)

    async def measure(self, qubit: Qubit, plan: BasisPlan) -> Measured:
        """Measure a qubit of mine; it is freed. LocalProtocolError if it is used up already."""
        self._check_unspent(qubit)
        reference, reply = self.call()
        self.tell(MeasureQubit(reference, qubit, plan))
        measured = await reply.wait(Measured)
        self._spent[qubit.slot] = qubit.generation
        return measured

    async def gate(
        self, gate: Gate, qubit: Qubit, other: Qubit | None = None, angle: float = 0.0
    ) -> None:
        """Apply a gate to qubits of mine. LocalProtocolError if one is used up already."""
        for each in (qubit,) if other is None else (qubit, other):
            self._check_unspent(each)
        reference, reply = self.call()
        self.tell(ApplyGate(reference, gate, qubit, other, angle))
        await reply.wait(Answer)

    async def free(self, qubit: Qubit) -> None:
        """Give a qubit back. LocalProtocolError if it is used up already."""
        self._check_unspent(qubit)
        self._spent[qubit.slot] = qubit.generation
        self.tell(FreeQubit(qubit))
        # No turn of the scheduler: what is freed in a row leaves in one datagram.
        await trio.lowlevel.checkpoint_if_cancelled()

    async def drain(self, link: LinkName | None = None, *, undo: bool = False) -> None:
        """Take nothing new on a link of this node, None: at all; `undo`: do so again."""
        reference, reply = self.call()
        self.tell(Drain(reference, link, not undo))
        await reply.wait(Answer)

    async def try_pairs(self, terms: Terms) -> Tried:
        """Return whether and how a request on these terms would be served now: a dry run."""
        reference, reply = self.call()
        self.tell(TryPairs(reference, terms))
        return await reply.wait(Tried)

    @property
    def expired(self) -> AsyncIterator[PairExpired]:
        """Pairs that expired after the iteration which delivered them had ended."""
        return _Expired(self._books.expired)

    async def status(self) -> dict[str, Any]:
        """Return what the node knows and has counted."""
        reference, reply = self.call()
        self.tell(AskStatus(reference))
        answer = await reply.wait(Status)
        found: dict[str, Any] = json.loads(answer.text)
        return found

    # --- calls ----------------------------------------------------------------------------

    def call(self) -> tuple[int, Reply]:
        """Return a fresh reference and the reply that will be given to it."""
        self._check()
        self._last += 1
        reply = self._books.calls[self._last] = Reply()
        return self._last, reply

    def tell(self, message: Any) -> None:
        """Send a message to the node."""
        self._check()
        self._line.post(ToNode(self._name, message))

    async def stop_listening(self, purpose: int) -> None:
        """Refuse later requests with this purpose."""
        reference, reply = self.call()
        self.tell(StopListen(reference, purpose))
        await reply.wait(Answer)
        queue = self._books.incoming.pop(purpose, None)
        for qubit in () if queue is None else queue.drop_qubits():
            self.tell(FreeQubit(qubit))

    async def _create(self, reference: int, reply: Reply, message: Any) -> LiveRequest:
        # Made before the node can answer: a delivery may come in the datagram of Created.
        terms = message.terms
        title = f"the next of {terms.number} pairs with {terms.remote}"
        queue = self._books.creating[reference] = Queue(title)
        self.tell(message)
        created = await reply.wait(Created)
        return LiveRequest(self, created.request, queue)

    def waiting(self) -> list[str]:
        """Return what tasks of the program wait for at this node, in words."""
        books = self._books
        found = [
            f"the answer to a call ({reply.kind.__name__})"
            for reply in books.calls.values()
            if reply.kind is not None
        ]
        queues = [*books.requests.values(), *books.incoming.values(), books.expired]
        return found + [f"{each.title}, after {each.given}" for each in queues if each.awaited]

    @property
    def is_lost(self) -> bool:
        """Whether the node was lost; every call then raises :class:`Unreachable`."""
        return self._lost is not None

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _check_unspent(self, qubit: Qubit) -> None:
        if self._spent.get(qubit.slot, -1) >= qubit.generation:
            raise LocalProtocolError(
                f"{self._name}: {qubit} was measured or freed already; a delivered half is used "
                "up once"
            )

    # --- what the node says ---------------------------------------------------------------

    def told(self, message: Any) -> None:
        """Take a message of the node."""
        match message:
            case PairReady() | OutcomeReady() | PairExpired():
                self._delivered(message)
            case HalfReady() | HalfConfirmed() | HalfDiscarded():
                self._delivered(message)
            case Measured() | Answer() | Status() | Tried():
                self._answered(message.reference, message)
            case Created():
                queue = self._books.creating.pop(message.reference, None)
                if queue is not None:
                    self._books.requests[message.request] = queue
                self._answered(message.reference, message)
            case RequestDone():
                self._ended(message.request, None)
            case RequestEnded():
                self._ended(message.request, RequestFailed(message.code, message.reason))

    def lost(self, error: Unreachable) -> None:
        """The node is gone: all that waits for it ends with this error."""
        self._lost = error
        books, self._books = self._books, _Books()
        for reply in books.calls.values():
            reply.give(error)
        for queues in (books.requests, books.incoming, books.creating):
            for queue in queues.values():
                queue.end(error)
        books.expired.end(error)
        # Asked for once more, it says so at once.
        self._books.expired.end(error)

    def _answered(self, reference: int, message: Any) -> None:
        reply = self._books.calls.pop(reference, None)
        self._books.creating.pop(reference, None)
        if reply is not None:
            reply.give(message)

    def _delivered(self, message: Delivery) -> None:
        books = self._books
        queue = books.requests.get(message.request)
        if queue is None:
            if not isinstance(message, PairExpired | HalfDiscarded):
                books.purposes[message.request] = message.purpose
                if len(books.purposes) > MOST_EXPIRED:
                    del books.purposes[next(iter(books.purposes))]
            purpose = books.purposes.get(message.request, -1)
            queue = books.incoming.get(purpose)
            if queue is None and isinstance(message, PairExpired):
                queue = books.expired
        if queue is not None:
            queue.put(message)
        elif isinstance(message, PairReady | HalfReady):
            # Nobody here waits for it any more: the memory is worth more than the pair.
            self.tell(FreeQubit(message.qubit))

    def _ended(self, request: RequestId, error: RequestFailed | None) -> None:
        queue = self._books.requests.pop(request, None)
        if queue is not None:
            queue.end(error)

"""The life of an end-to-end request at one of its two ends, from the asking to its one end."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, assert_never

import attrs

from qstack.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from qstack.machine import record
from qstack.messages.common import PairId
from qstack.messages.link import LinkRequest
from qstack.units import Instant


class OrderState(StrEnum):
    """Where a request stands at this end. The tail-end's begin as RUNNING."""

    WAITING = "waiting"
    """Its circuit is being installed."""
    ASKED = "asked"
    """The tail-end was asked."""
    RUNNING = "running"
    """Both ends want pairs."""
    CLOSING = "closing"
    """Head-end: the tail-end has not said that it is through. Tail-end: pairs are in hand."""
    OVER = "over"
    """Terminal."""


@record
class Installed:
    """Its circuit is there, and the tail-end is asked."""


@record
class Taken:
    """The tail-end takes it."""


@record
class Declined:
    """No circuit, or the tail-end does not take it."""

    code: ErrorCode
    reason: str


@record
class Halted:
    """It is to end: its number is reached (None), its time is over, or somebody wants it to."""

    code: ErrorCode | None
    reason: str


@record
class Finished:
    """Both ends are through."""


@record
class Broken:
    """The circuit is over: it ends without a word from the other end."""

    code: ErrorCode
    reason: str


@record
class Rerouted:
    """The circuit is over; it looks for another."""


OrderEvent: TypeAlias = Installed | Taken | Declined | Halted | Finished | Broken | Rerouted

_S = OrderState
TABLE: dict[OrderState, dict[type, frozenset[OrderState]]] = {
    _S.WAITING: {
        Installed: frozenset({_S.ASKED}),
        Declined: frozenset({_S.OVER}),
        Halted: frozenset({_S.OVER}),
        Broken: frozenset({_S.OVER}),
    },
    _S.ASKED: {
        Taken: frozenset({_S.RUNNING}),
        Declined: frozenset({_S.OVER}),
        Halted: frozenset({_S.CLOSING}),
        Broken: frozenset({_S.OVER}),
        Rerouted: frozenset({_S.WAITING}),
    },
    _S.RUNNING: {
        Halted: frozenset({_S.CLOSING}),
        Broken: frozenset({_S.OVER}),
        Rerouted: frozenset({_S.WAITING}),
    },
    _S.CLOSING: {
        Taken: frozenset({_S.CLOSING}),
        Declined: frozenset({_S.CLOSING}),
        Halted: frozenset({_S.CLOSING}),
        Finished: frozenset({_S.OVER}),
        Broken: frozenset({_S.OVER}),
    },
    _S.OVER: {},
}
"""The allowed successors. An event that a state does not list is illegal there."""

_OF_THE_PEER = (Taken, Declined, Finished)


class Turns:
    """Whose turn it is among the requests of a circuit: start-time fair queueing (Goyal 1996).

    Each pair moves its request on by the inverse of its weight, so pairs are shared by weight
    among those that want some; who wanted none for a while, or is new, has no claim to the past.
    """

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0

    def begin(self, order: Order) -> float:
        """Return when the next turn of a request begins."""
        return max(self.now, order.served)

    def rank(self, order: Order) -> tuple[int, float]:
        """Return what is least for whom the next pair is."""
        return -order.wanted.priority, self.begin(order)


@attrs.define(eq=False)
class Order:
    """One request at one end: its state and its pairs.

    `outstanding`: pairs given to it that are not delivered. `delivered`: how many were.
    `unconfirmed`: those of them, by the head-end's id, of which the other end has not said that it
    delivered them too. `code` and `reason`: why it ends; None: its number was reached.
    `peer_through`: the tail-end has said its last word. `reroutes`: circuits that it has lost.
    `patience`: so long the head-end waits for the tail-end's word, while it is ASKED or CLOSING.
    `served`: up to which point of the circuit's turns it has had its pairs. `need_hz`: at which
    rate the circuit has to serve it, 0 if nothing is reserved for it.
    """

    wanted: LinkRequest
    state: OrderState
    deadline: Instant | None
    outstanding: set[PairId] = attrs.field(factory=set)
    delivered: int = 0
    unconfirmed: dict[PairId, None] = attrs.field(factory=dict)
    code: ErrorCode | None = None
    reason: str = ""
    peer_through: bool = False
    reroutes: int = 0
    patience: Instant = 0
    served: float = 0.0
    need_hz: float = 0.0

    @property
    def wants(self) -> int:
        """How many more pairs may be given to it."""
        if self.state is not OrderState.RUNNING:
            return 0
        return self.wanted.number - self.delivered - len(self.outstanding)

    def give(self, pair: PairId, turns: Turns) -> None:
        """A pair is this request's now, and its turn is over."""
        self.outstanding.add(pair)
        begin = turns.now = turns.begin(self)
        self.served = begin + 1 / (self.need_hz or self.wanted.weight)

    def legal(self, kind: type) -> bool:
        """Whether this kind of event is allowed now."""
        return kind in TABLE[self.state]

    def handle(self, event: OrderEvent) -> None:
        """Take one event; afterwards `state` says what has become of the request."""
        allowed = TABLE[self.state].get(type(event))
        if allowed is None:
            error = RemoteProtocolError if isinstance(event, _OF_THE_PEER) else LocalProtocolError
            raise error(f"{type(event).__name__} for {self.wanted.id} which is {self.state.value}")
        following = self._follow(event)
        if following not in allowed:
            raise LocalProtocolError(
                f"{type(event).__name__} leads {self.wanted.id} from {self.state.value} "
                f"to {following.value}"
            )
        self.state = following

    def _follow(self, event: OrderEvent) -> OrderState:
        closing = self.state is OrderState.CLOSING
        match event:
            case Installed():
                return OrderState.ASKED
            case Taken():
                return self.state if closing else OrderState.RUNNING
            case Declined(code, reason) | Broken(code, reason):
                if not closing or self.code is None:
                    self.code, self.reason = code, reason
                return self.state if closing and isinstance(event, Declined) else OrderState.OVER
            case Halted(code, reason):
                if not closing:
                    self.code, self.reason = code, reason
                return OrderState.OVER if self.state is OrderState.WAITING else OrderState.CLOSING
            case Finished():
                return OrderState.OVER
            case Rerouted():
                self.outstanding.clear()
                self.reroutes += 1
                return OrderState.WAITING
            case _:
                assert_never(event)

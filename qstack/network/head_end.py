"""The head-end of a circuit: whose each pair is, and when a request is complete."""

from __future__ import annotations

from typing import assert_never

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.messages.application import PairExpired
from qstack.messages.circuits import (
    CircuitAnswer,
    CircuitClosed,
    CircuitComplete,
    CircuitGive,
    CircuitStop,
)
from qstack.messages.common import PairId, RequestId
from qstack.network.ends import End
from qstack.network.finishing import Local
from qstack.network.orders import (
    Declined,
    Finished,
    Halted,
    Order,
    OrderState,
    Rerouted,
    Taken,
)
from qstack.network.places import Side

MOST_REROUTES = 3
"""So many circuits a request may lose and begin anew."""


def movable(order: Order) -> bool:
    """Return whether a request may begin anew on another circuit."""
    fresh = order.legal(Rerouted) and not order.delivered and order.deadline is None
    return fresh and order.reroutes < MOST_REROUTES


class Head(End):
    """The head-end: it gives pairs to requests, in the order in which these came."""

    def _arrived(self, local: Local) -> None:
        if local.wanted is None:
            self._assign()
        elif local.track is not None:
            self._ready(local)

    def _assign(self) -> None:
        for local in list(self._local.values()):
            if local.wanted is not None or local.void or local.half.pair not in self._local:
                continue
            order = next((each for each in self.orders.values() if each.wants > 0), None)
            if order is None:
                return
            if self.purifier is not None and not local.polished:
                self._submit(self.purifier, local)
                continue
            local.wanted = order.wanted
            order.outstanding.add(local.half.pair)
            if local.polished:
                self._give(local, order)
            else:
                self._send_track(local, order.wanted.id)
            if local.track is not None:
                self._ready(local)

    def _give(self, local: Local, order: Order) -> None:
        """Tell the tail-end whose a purified pair is, and what is told of it."""
        if local.track is None:
            raise RemoteProtocolError("a half without a track cannot be given")
        info = self._info(local, local.track, order)
        place, told = self._place, (info.age_ns, info.goodness, info.goodness_low)
        local.given = CircuitGive(place.id, local.half.pair, order.wanted.id, *told)
        self._desk.send(place.neighbour(Side.DOWN), local.given)

    def _ready(self, local: Local) -> None:
        """The tail-end has its half. While a request is being ended its last word is waited for."""
        order = None if local.wanted is None else self.orders.get(local.wanted.id)
        if order is not None and order.state is OrderState.RUNNING and not local.busy:
            self._finish(local, order)

    def _progress(self, order: Order) -> None:
        if order.state is OrderState.RUNNING and order.delivered >= order.wanted.number:
            order.handle(Halted(None, ""))
            self._complete(order)
        self._settle(order)
        self._assign()

    def told(self, message: CircuitAnswer | CircuitClosed | CircuitStop) -> None:
        """The tail-end's word on a request; of one that is over here it is nothing."""
        order = self.orders.get(message.request)
        if order is None:
            return
        match message:
            case CircuitAnswer(_, _, None, _):
                order.handle(Taken())
                self._assign()
            case CircuitAnswer(_, _, code, reason):
                order.handle(Declined(ErrorCode.OTHER if code is None else code, reason))
                if order.state is OrderState.OVER:
                    self.conclude(order)
            case CircuitStop(_, _, code, reason):
                self.halt(order, code, reason)
            case CircuitClosed():
                self._closed(order, message.pairs)
            case _:
                assert_never(message)

    def halt(self, order: Order, code: ErrorCode, reason: str) -> None:
        """The request is to end early; the tail-end is told, and has the last word."""
        before = order.state
        order.handle(Halted(code, reason))
        if before is not OrderState.CLOSING:
            self._complete(order)

    def rescue(self) -> tuple[Order, ...]:
        """The circuit is over: take out the requests that can begin anew on another.

        Those are they of which this user has no pair, and that have no maximum time, for which
        a part of the links would have to be reserved again.
        """
        found = tuple(order for order in self.orders.values() if movable(order))
        for order in found:
            self._let_go(order)
        return found

    def spare(self, request: RequestId) -> Order | None:
        """The circuit has no room for a request that was asked for: take it out if it can move."""
        order = self.orders.get(request)
        if order is None or order.state is not OrderState.ASKED or not movable(order):
            return None
        self._let_go(order)
        return order

    def _let_go(self, order: Order) -> None:
        del self.orders[order.wanted.id]
        order.handle(Rerouted())

    def _complete(self, order: Order) -> None:
        place, request = self._place, order.wanted.id
        order.patience = self._desk.now + self._desk.parameters.lease_ns
        complete = CircuitComplete(place.id, request, order.code, order.reason)
        self._desk.send(place.neighbour(Side.DOWN), complete)

    def _closed(self, order: Order, pairs: tuple[PairId, ...]) -> None:
        """The tail-end is through; these it delivered, besides those that it told of before."""
        if not order.legal(Finished):
            raise RemoteProtocolError(f"{order.wanted.id} is closed, but {order.state.value} here")
        order.peer_through = True
        self.confirmed(pairs)
        for pair in sorted(order.outstanding, key=lambda each: (each.link, each.sequence)):
            local = self._local[pair]
            if local.busy:
                continue
            if local.confirmed and not local.void:
                self._finish(local, order)
            else:
                self._drop(local, "its request ended", tell=True)
        self._settle(order)

    def _settle(self, order: Order) -> None:
        """End a request that both ends are through with, unless that is done already."""
        if not order.peer_through or order.outstanding or order.state is OrderState.OVER:
            return
        for identity in order.unconfirmed:
            reason = f"{self._place.tail} did not deliver it"
            self._delivered.pop(identity, None)
            self._desk.up(PairExpired(order.wanted.id, identity, reason))
        order.delivered -= len(order.unconfirmed)
        order.unconfirmed.clear()
        if order.code is not None:
            self._tell_all()
        order.handle(Finished())
        self.conclude(order)

"""The head-end of a circuit: whose each pair is, and when a request is complete."""

from __future__ import annotations

from typing import assert_never

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.messages.application import PairExpired
from qstack.messages.circuits import (
    CircuitAnswer,
    CircuitClosed,
    CircuitComplete,
    CircuitGather,
    CircuitGive,
    CircuitStop,
)
from qstack.messages.common import PairId, RequestId
from qstack.network.desk import Desk
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
    Turns,
)
from qstack.network.places import Place, Side
from qstack.network.telling import info_of
from qstack.units import Instant, earliest

MOST_REROUTES = 3
"""So many circuits a request may lose and begin anew."""


def movable(order: Order) -> bool:
    """Return whether a request may begin anew on another circuit."""
    fresh = order.legal(Rerouted) and not order.delivered and order.deadline is None
    return fresh and order.reroutes < MOST_REROUTES


class Head(End):
    """The head-end: it gives pairs to requests, by turns, and gathers sets."""

    def __init__(self, desk: Desk, place: Place) -> None:
        super().__init__(desk, place)
        self._turns = Turns()
        self._gathers = False

    @property
    def deadline(self) -> Instant | None:
        """When the oldest half of a set has been there for too long."""
        if not self._gathers:
            return None
        resting = (self._until(local) for local in self._local.values() if local.of_set)
        return earliest(*resting)

    def tick(self) -> None:
        """Discard halves for which their set comes too late; their pairs are made anew."""
        for local in list(self._local.values()):
            here = local.of_set and local.half.pair in self._local
            if here and self._desk.now >= self._until(local):
                self._too_old(local)

    def _arrived(self, local: Local) -> None:
        if local.wanted is None:
            self._assign()
        elif local.track is not None:
            self._ready(local)

    def _assign(self) -> None:
        for local in list(self._local.values()):
            if local.wanted is not None or local.void or local.half.pair not in self._local:
                continue
            order = self._next()
            if order is None:
                return
            if self.purifier is not None and not local.polished:
                self._submit(self.purifier, local)
                continue
            local.wanted = order.wanted
            order.give(local.half.pair, self._turns)
            if self._at_once(order.wanted) and local.read is None:
                self._finisher.measure(local, order.wanted)
            else:
                self._offer(local, order)

    def _next(self) -> Order | None:
        """Whose the next half is: of those of the highest priority the one whose turn it is."""
        wanting = [order for order in self.orders.values() if order.wants > 0]
        return min(wanting, key=self._turns.rank, default=None)

    def _offer(self, local: Local, order: Order) -> None:
        """Tell the tail-end whose a half's pair is, and the user of it if it is wanted early."""
        if local.polished:
            self._give(local, order)
        else:
            if order.wanted.early:
                self._finisher.hand_over(local, order.wanted)
            self._send_track(local, order.wanted.id)
        if local.track is not None:
            self._ready(local)

    def measured(self, local: Local) -> None:
        """A half was read. If its request wants no more it is anybody's."""
        self._reads = True
        order = None if local.wanted is None else self.orders.get(local.wanted.id)
        if order is not None and order.state is OrderState.RUNNING:
            self._offer(local, order)
            return
        local.wanted = None
        if not self.orders:
            self._drop(local, "its request ended", tell=self._tells(local))
        if order is not None:
            order.outstanding.discard(local.half.pair)
            self._settle(order)
        self._assign()

    def _give(self, local: Local, order: Order) -> None:
        """Tell the tail-end whose a purified pair is, and what is told of it."""
        if local.track is None:
            raise RemoteProtocolError("a half without a track cannot be given")
        info = info_of(self._desk, self._place, local, local.track, order.wanted)
        place, told = self._place, (info.age_ns, info.goodness, info.goodness_low)
        local.given = CircuitGive(place.id, local.half.pair, order.wanted.id, *told)
        self._desk.send(place.neighbour(Side.DOWN), local.given)

    def _ready(self, local: Local) -> None:
        """The tail-end has its half. While a request is being ended its last word is waited for."""
        order = None if local.wanted is None else self.orders.get(local.wanted.id)
        if order is None or order.state is not OrderState.RUNNING or local.busy:
            return
        if order.wanted.within_ns and not local.of_set:
            local.of_set = self._gathers = True
            if self._desk.now >= self._until(local):
                self._too_old(local)
                return
        self._finish(local, order)

    # --- sets ----------------------------------------------------------------------------------

    def _until(self, local: Local) -> Instant:
        """From when on a half is too old for its set."""
        return local.there_at + (local.wanted.within_ns if local.wanted else 0) + 1

    def _too_old(self, local: Local) -> None:
        """Discard a half of a set; the tail-end is told, by its pair."""
        self._desk.counters["outlived"] += 1
        reason = f"its set was not there {local.wanted.within_ns if local.wanted else 0} ns later"
        if local.busy:
            local.void = local.void or reason
        else:
            self._drop(local, reason, tell=True)

    def rests(self, local: Local) -> None:
        """One more of a set is there; once all are, they are handed over."""
        order = None if local.wanted is None else self.orders.get(local.wanted.id)
        if order is None or order.state is not OrderState.RUNNING:
            return  # The tail-end's last word will say what becomes of it.
        if self._desk.now >= self._until(local):
            self._too_old(local)
            return
        found = [self._local[pair] for pair in order.outstanding if self._local[pair].turned]
        if len(found) < order.wanted.number:
            return
        found.sort(key=lambda each: (each.there_at, each.half.pair.sequence))
        place, pairs = self._place, tuple(each.half.pair for each in found)
        gather = CircuitGather(place.id, order.wanted.id, pairs)
        self._desk.send(place.neighbour(Side.DOWN), gather)
        for each in found:
            each.of_set = False
            self._finish(each, order)

    # --- ends of requests ------------------------------------------------------------------------

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

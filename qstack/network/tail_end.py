"""The tail-end of a circuit: it hears whose each pair is, and has the last word on a request."""

from __future__ import annotations

from qstack.errors import RemoteProtocolError
from qstack.messages.circuits import (
    CircuitClosed,
    CircuitComplete,
    CircuitGive,
    CircuitOutcome,
)
from qstack.messages.common import PairKind, RequestId
from qstack.network.ends import End
from qstack.network.finishing import Local
from qstack.network.orders import Finished, Halted, Order, OrderState
from qstack.network.places import Side


class Tail(End):
    """The tail-end: it tracks every half at once, and hears from the head-end whose it is."""

    def _arrived(self, local: Local) -> None:
        if not local.tracked:
            local.tracked = True
            self._send_track(local, None)
        if local.track is None:
            return
        if self.purifier is not None:
            if any(order.state is OrderState.RUNNING for order in self.orders.values()):
                self._submit(self.purifier, local)
            else:
                self._drop(local, "its request ended", tell=True)
            return
        request = local.track.request
        order = None if request is None else self.orders.get(request)
        if order is None or order.state is not OrderState.RUNNING:
            self._drop(local, "its request ended", tell=False)
        else:
            self._finish(local, order)

    def _assign(self) -> None:
        """The head-end does that."""

    def given(self, message: CircuitGive) -> None:
        """The head-end gives a purified pair to a request; it may be void by now."""
        for local in self._local.values():
            if local.polished and local.track and local.track.origin == message.pair:
                break
        else:
            return
        order = self.orders.get(message.request)
        if local.given is not None or order is None or order.state is not OrderState.RUNNING:
            raise RemoteProtocolError(f"{message.pair} cannot be given to {message.request}")
        local.given = message
        self._finish(local, order)

    def outcome(self, message: CircuitOutcome) -> None:
        """The head-end measured its half of a pair that is to be prepared here."""
        for local in self._local.values():
            track = local.track
            if track is not None and track.origin == message.origin and local.prepared is None:
                wanted = local.wanted
                if wanted is None or wanted.kind is not PairKind.PREPARE:
                    raise RemoteProtocolError(f"an outcome for {message.origin}, which is kept")
                local.prepared = (message.basis, message.outcome)
                self._finisher.prepared(local)
                return

    def completed(self, message: CircuitComplete) -> None:
        """The head-end wants no more pairs for a request."""
        order = self.orders.get(message.request)
        if order is None:
            self._close(message.request)
            return
        order.handle(Halted(message.code, message.reason))
        for pair in sorted(order.outstanding, key=lambda each: (each.link, each.sequence)):
            if not self._local[pair].busy:
                self._drop(self._local[pair], "its request ended", tell=True)
        self._progress(order)

    def _progress(self, order: Order) -> None:
        if order.state is OrderState.CLOSING and not order.outstanding:
            self._close(order.wanted.id)
            order.handle(Finished())
            self.conclude(order)

    def _close(self, request: RequestId) -> None:
        pairs = tuple(pair for owner, pair in self._fresh if owner == request)
        self._fresh = [each for each in self._fresh if each[0] != request]
        closed = CircuitClosed(self._place.id, request, pairs)
        self._desk.send(self._place.neighbour(Side.UP), closed)

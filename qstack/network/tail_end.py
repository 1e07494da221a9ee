"""The tail-end of a circuit: it hears whose each pair is, and has the last word on a request."""

from __future__ import annotations

from qstack.errors import RemoteProtocolError
from qstack.messages.circuits import (
    CircuitClosed,
    CircuitComplete,
    CircuitGather,
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
        first = next(iter(self.orders.values()), None)
        if first is not None and local.read is None and self._at_once(first.wanted):
            if not local.busy:
                self._finisher.measure(local, first.wanted)
            return
        if not local.tracked:
            local.tracked = True
            self._send_track(local, None)
        if local.track is None:
            self._assign()
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
        elif local.read is not None and not self._at_once(order.wanted):
            self._drop(local, f"{self._desk.node} has measured it", tell=True)
        elif order.wanted.within_ns:
            local.wanted, local.of_set = order.wanted, True
            order.outstanding.add(local.half.pair)
        else:
            if order.wanted.early and not local.early:
                self._finisher.hand_over(local, order.wanted)
            self._finish(local, order)

    def measured(self, local: Local) -> None:
        """A half was read; its track may be here already."""
        self._reads = True
        if self.orders:
            self._arrived(local)
        else:
            self._drop(local, "its request ended", tell=self._tells(local))

    def rests(self, local: Local) -> None:
        """The head-end says when a set is complete."""

    def gathered(self, message: CircuitGather) -> None:
        """The head-end handed over a set: so does this end, but for what is void by now."""
        order = self.orders.get(message.request)
        if order is None or order.state is not OrderState.RUNNING or not order.wanted.within_ns:
            raise RemoteProtocolError(f"nothing is gathered for {message.request}")
        found = {
            local.track.origin: local
            for local in self._local.values()
            if local.of_set and local.track is not None
        }
        for pair in message.pairs:
            local = found.pop(pair, None)
            if local is not None:
                local.of_set, local.turned = False, True
                self._finish(local, order)

    def _assign(self) -> None:
        """Hand over early what has come, but for what exceeds the request."""
        order = next(iter(self.orders.values()), None)
        if order is None or not order.wanted.early or order.state is not OrderState.RUNNING:
            return
        waiting = [local for local in self._local.values() if not local.early and not local.void]
        least = order.delivered + len(self._local) - len(waiting)
        for local in waiting[: max(0, order.wanted.number - least)]:
            self._finisher.hand_over(local, order.wanted)

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
            self._desk.close(order.wanted.id)
            self.conclude(order)

    def _close(self, request: RequestId) -> None:
        pairs = tuple(pair for owner, pair in self._fresh if owner == request)
        self._fresh = [each for each in self._fresh if each[0] != request]
        closed = CircuitClosed(self._place.id, request, pairs)
        self._desk.send(self._place.neighbour(Side.UP), closed)

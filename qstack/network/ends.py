"""Pairs of a circuit at its two ends: given to requests, tracked, delivered, expired.

The head-end decides which request a pair is for and says so in its track; it never gives a
request more pairs than are missing. Each end delivers a half once the other end's track for it
has come, which it does only where every node between has swapped. Ends never discard a half for
its age, but the head-end one that its set can do nothing with any more (`head_end`).

Halves that keep other circuits out of a link that is divided (`crowding`) an end asks back: it
sends their tracks again. Where such a pair is not joined yet, the node that has its other end gives
it up and says so; where it is, the track finds everything done and changes nothing. So no end gives
up a half of which the other could have delivered the pair.

Every message of a circuit keeps its order on every hop, and a track that waited at a node is
passed on before the track of the other end passes there. So once the head-end has delivered all
pairs and says that the request is complete, the tail-end has delivered the same ones. Where a
request is ended early the tail-end's last word decides: it names the pairs that it delivered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.messages.application import PairExpired, RequestDone, RequestEnded
from qstack.messages.circuits import (
    CircuitDelivered,
    CircuitExpire,
    CircuitTrack,
)
from qstack.messages.common import PairId, PairKind, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.desk import Desk, Half
from qstack.network.finishing import Finisher, Local
from qstack.network.orders import Broken, Order
from qstack.network.places import Gone, Ledger, Place, Side
from qstack.network.purifying import Purifier
from qstack.network.telling import identity_of, info_of, track_of
from qstack.units import Duration, Instant

TOLD_AT_ONCE = 8
"""After so many deliveries an end tells the other of them."""
MOST_DELIVERED = 1_024
"""So many delivered pairs an end remembers, for expiries that come later."""


class End(ABC):
    """What both ends have in common: halves, tracks, requests."""

    def __init__(self, desk: Desk, place: Place) -> None:
        self._desk = desk
        self._place = place
        self._side = Side.DOWN if place.is_head else Side.UP
        self._local: dict[PairId, Local] = {}
        self._ledger = Ledger()
        self._finisher = Finisher(desk, place, self)
        self.purifier: Purifier | None = None
        if place.install.rounds:
            self.purifier = Purifier(desk, place, self._polished, self._voided)
        self._delivered: dict[PairId, tuple[RequestId, PairId]] = {}
        self._fresh: list[tuple[RequestId, PairId]] = []
        self._doubtful: dict[PairId, RequestId] = {}
        self._over = self._reads = False
        self.orders: dict[RequestId, Order] = {}

    @property
    def deadline(self) -> Instant | None:
        """When a half here has waited for too long; where none does, None."""
        return None

    @property
    def held(self) -> int:
        """How many qubits are here of pairs that were not delivered."""
        halves = len(self._local)
        if self._reads:
            halves = sum(local.read is None for local in self._local.values())
        return halves + (self.purifier.held if self.purifier else 0)

    # --- what comes in -----------------------------------------------------------------------

    def pair(self, half: Half) -> None:
        """The link delivered a half."""
        if self._ledger.fate(half.pair) is not None or not self.orders:
            self._desk.free(half.qubit)
            self._lose(half.pair, "its request ended")
            return
        local = self._local[half.pair] = Local(half)
        parked = self._ledger.unpark(half.pair)
        if parked is not None:
            local.track = self._desk.unparked(parked, self._place.end(self._side))
            local.told_at = self._desk.now
        self._arrived(local)

    def tracked(self, track: CircuitTrack) -> None:
        """The other end's word came along the circuit, by one of the pairs of this end's link.

        It comes again where the other end wanted a half back, too late: the pair is there.
        """
        if track.at in self._delivered:
            return
        if self.purifier is not None and self.purifier.knows(track.at):
            return
        local = self._local.get(track.at)
        if local is not None:
            if local.track is None:
                local.track, local.told_at = track, self._desk.now
                self._arrived(local)
            return
        fate = self._ledger.fate(track.at)
        if isinstance(fate, Gone):
            self._say_expired(track.at, fate.reason)
            return
        lost = self._ledger.park(track, self._desk.now)
        if lost is not None:
            self._say_expired(lost.track.at, f"{self._desk.node} keeps too many tracks")

    def expired(self, pair: PairId, reason: str) -> None:
        """What this half's pair leads to is void: by the link, or by a node beyond it."""
        if self.purifier is not None and self.purifier.knows(pair):
            self.purifier.expire(pair, reason)
        else:
            self._voided(pair, reason)

    def distil(self, message: Any) -> None:
        """The other end's word on a round of purification."""
        if self.purifier is None:
            raise RemoteProtocolError(f"circuit {self._place.id} purifies nothing")
        self.purifier.told(message)

    def _voided(self, pair: PairId, reason: str) -> None:
        local = self._local.get(pair)
        self._ledger.settle(pair, Gone(reason))
        if local is not None:
            local.void = reason
            if not local.busy:
                self._drop(local, reason, tell=False)
            return
        found = self._delivered.pop(pair, None)
        if found is None:
            return
        request, identity = found
        self._doubtful.pop(identity, None)
        self._desk.counters["expired"] += 1
        self._desk.up(PairExpired(request, identity, reason))
        order = self.orders.get(request)
        if order is not None:
            order.delivered -= 1
            order.unconfirmed.pop(identity, None)
            self._assign()

    # --- one half ----------------------------------------------------------------------------

    def _at_once(self, wanted: LinkRequest) -> bool:
        """Whether a request's halves are measured when they come."""
        return wanted.kind is PairKind.MEASURE and self.purifier is None

    @abstractmethod
    def _arrived(self, local: Local) -> None:
        """A half, or the track for one that was here, has come."""

    @abstractmethod
    def _assign(self) -> None:
        """Give halves to requests, where this end decides that."""

    def _polished(self, local: Local) -> None:
        """A half went through all rounds of purification."""
        self._local[local.half.pair] = local
        self._assign()

    def _submit(self, purifier: Purifier, local: Local) -> None:
        """Let a half be purified: tell the other end of it, and wait for its word."""
        if not local.tracked:
            local.tracked = True
            self._send_track(local, None)
        if local.track is not None:
            del self._local[local.half.pair]
            purifier.take(local)

    def _send_track(self, local: Local, request: RequestId | None) -> None:
        track = track_of(self._desk, self._place, local, request)
        self._desk.send(self._place.neighbour(self._side), track)

    def _finish(self, local: Local, order: Order) -> None:
        """Both halves are known to be there: bring this one to its user."""
        if local.track is None:
            raise RemoteProtocolError("a half without a track cannot be finished")
        local.wanted = order.wanted
        order.outstanding.add(local.half.pair)
        local.info = info_of(self._desk, self._place, local, local.track, order.wanted)
        self._finisher.begin(local)

    @abstractmethod
    def measured(self, local: Local) -> None:
        """A half was read before the other end's word of it was known."""

    @abstractmethod
    def rests(self, local: Local) -> None:
        """A half of a set was turned, and waits for the others."""

    def through(self, local: Local, done: bool) -> None:
        """The last step of a half ended: its user has it, or a device failed."""
        pair = local.half.pair
        del self._local[pair]
        order = None if local.wanted is None else self.orders.get(local.wanted.id)
        if order is not None:
            order.outstanding.discard(pair)
        if not done or local.info is None:
            known = isinstance(self._ledger.fate(pair), Gone)
            self._lose(pair, local.void, tell=not known)
        elif order is not None:
            identity = local.info.pair
            order.delivered += 1
            if not local.confirmed:
                order.unconfirmed[identity] = None
            self._tell_of(order.wanted.id, identity)
            self._remember(pair, order.wanted.id, identity)
        if order is not None:
            self._progress(order)

    @abstractmethod
    def _progress(self, order: Order) -> None:
        """A pair of this request was delivered or lost."""

    def _tell_of(self, request: RequestId, identity: PairId) -> None:
        """Let the other end know, now and then, what was delivered here."""
        self._fresh.append((request, identity))
        if len(self._fresh) >= TOLD_AT_ONCE:
            self._tell_all()

    def _tell_all(self) -> None:
        if self._fresh and not self._over:
            pairs, self._fresh = tuple(pair for _, pair in self._fresh), []
            place = self._place
            self._desk.send(place.neighbour(self._side), CircuitDelivered(place.id, pairs))

    def _remember(self, pair: PairId, request: RequestId, identity: PairId) -> None:
        self._delivered[pair] = (request, identity)
        if len(self._delivered) > MOST_DELIVERED:
            del self._delivered[next(iter(self._delivered))]

    def confirmed(self, pairs: tuple[PairId, ...]) -> None:
        """The other end delivered these pairs too."""
        for identity in pairs:
            self._doubtful.pop(identity, None)
        for local in self._local.values():
            # Its last step may take longer here, or wait for the tail-end's last word.
            track = local.track
            if track is not None and identity_of(self._place, local, track) in pairs:
                local.confirmed = True
        for order in self.orders.values():
            for identity in pairs:
                order.unconfirmed.pop(identity, None)

    # --- what is lost ------------------------------------------------------------------------

    def _drop(self, local: Local, reason: str, *, tell: bool) -> None:
        """Give back a half on which no device works."""
        pair = local.half.pair
        del self._local[pair]
        self._finisher.give_back(local, reason)
        if local.wanted is not None and local.wanted.id in self.orders:
            self.orders[local.wanted.id].outstanding.discard(pair)
        self._lose(pair, reason, tell=tell)
        self._assign()

    def _lose(self, pair: PairId, reason: str, *, tell: bool = True) -> None:
        parked = self._ledger.settle(pair, Gone(reason))
        if tell or parked is not None:
            self._say_expired(pair, reason)

    def _say_expired(self, pair: PairId, reason: str) -> None:
        if not self._over:
            place = self._place
            expire = CircuitExpire(place.id, pair, reason)
            self._desk.send(place.neighbour(self._side), expire)

    # --- ends of requests ----------------------------------------------------------------------

    def conclude(self, order: Order) -> None:
        """A request is over here: tell its user, and forget it."""
        request = order.wanted.id
        del self.orders[request]
        if order.code is not None and not self._over:
            # It ended early: the other end may yet fail to deliver what this one has delivered.
            self._doubtful.update(dict.fromkeys(order.unconfirmed, request))
            while len(self._doubtful) > MOST_DELIVERED:
                del self._doubtful[next(iter(self._doubtful))]
        for local in list(self._local.values()):
            if local.wanted is not None and local.wanted.id == request and not local.busy:
                self._drop(local, "its request ended", tell=self._tells(local))
        if order.code is None and order.delivered == order.wanted.number:
            self._desk.up(RequestDone(request, order.delivered, 0))
        else:
            code = ErrorCode.OTHER if order.code is None else order.code
            reason = order.reason or "a pair was lost after the last was delivered"
            self._desk.up(RequestEnded(request, code, reason, order.delivered))

    def stop(self) -> None:
        """No request runs on the circuit any more: what waits is given back."""
        for local in list(self._local.values()):
            if not local.busy:
                self._drop(local, "its request ended", tell=self._tells(local))
        if self.purifier is not None:
            self.purifier.empty("its request ended")

    def recall(self, surplus: int, again_ns: Duration) -> None:
        """So many halves keep other circuits out: give up the newest of those that wait.

        What nobody was told of is dropped. Of others the other end may have delivered the pair by
        now: their tracks are sent again, which turns them back where the pair is not joined yet,
        and does nothing otherwise. A half is asked back anew after `again_ns`.
        """
        waiting = [each for each in self._local.values() if not (each.void or each.busy)]
        for local in waiting[::-1]:
            if surplus <= 0:
                return
            here = self._local.get(local.half.pair) is local
            if local.read is not None or local.polished or not here:
                continue
            if self._unsaid(local):
                surplus -= 1
                self._desk.counters["trimmed"] += 1
                reason = f"{self._desk.node} needs its qubit for another circuit"
                self._drop(local, reason, tell=True)
            elif local.track is None:
                surplus -= 1
                if self._desk.now >= local.recalled:
                    local.recalled = self._desk.now + again_ns
                    wanted = None if self.purifier is not None else local.wanted
                    self._send_track(local, None if wanted is None else wanted.id)

    def _unsaid(self, local: Local) -> bool:
        """Whether no track was sent for a half yet."""
        return not local.tracked and local.wanted is None

    def _tells(self, local: Local) -> bool:
        """Whether the other end must hear of a half that goes with its request.

        It might give a half of which it was told to the next request. Where halves belong to no
        request before they are purified, it does not know by itself.
        """
        return local.tracked or self.purifier is not None

    def end(self, code: ErrorCode, reason: str) -> None:
        """The circuit is over: so are its requests, and pairs that nobody confirmed are void."""
        self._over = True
        for identity, request in self._doubtful.items():
            self._desk.up(PairExpired(request, identity, reason))
        self._doubtful.clear()
        for order in list(self.orders.values()):
            request = order.wanted.id
            for identity in order.unconfirmed:
                self._desk.up(PairExpired(request, identity, reason))
            order.delivered -= len(order.unconfirmed)
            order.unconfirmed.clear()
            order.handle(Broken(code, reason))
            self.conclude(order)
        for local in self._local.values():
            local.void = local.void or reason
        self.stop()
        if self.purifier is not None:
            self.purifier.gone(reason)

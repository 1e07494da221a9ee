"""A distillery at work for a circuit, and those of single hops: pairs are purified, then swapped.

Where a circuit's install gives a hop rounds, the two nodes of the hop purify what its link brings
before anything else becomes of it. Each node gives its distillery
(:mod:`qstack.network.distillation`) every half of that hop, and what comes out is to the rest of
the layer what a half of the link is elsewhere: it has the id of the pair that was kept, it is
swapped, tracked, cut off by its wait since the hand-over, and expires. Halves that still are in
rounds are nobody's: no track names them.

The node further down leads, so that the one further up hands a pair over first, in the step in
which its outcome leaves: no track and no expiry that either sends about the pair can come to the
other before that one has it. Rounds go on only while a request wants pairs.

**Who tells what of a pair.** A track that goes downstream takes the weights of a hop as the upper
node of the hop knows them, one that goes upstream those of the lower node. Both compute them from
the same numbers, each for the instants at which the two halves were handed over; the upper
node takes it that the lower one does so one trip after it.

**What goes wrong.** A pair that is void before it is through is void at both nodes with all that it
met, and both set down that nothing is at its other end: a track that was sent too early turns back.
One that becomes void after the hand-over is an EXPIRE of the link like any other, at each
node for its own side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from qstack.machine import Device, Send, Up
from qstack.messages.circuits import Method
from qstack.messages.common import PairId
from qstack.network.advertise import storage_of
from qstack.network.desk import ROOM, Desk, Half, operations_of
from qstack.network.distillation.machine import Distillery
from qstack.network.distillation.service import (
    Cause,
    Deliver,
    Discarded,
    DistilleryParameters,
    Expire,
    PeerGone,
    Purified,
    PurifiedExpired,
)
from qstack.network.places import Place, Side
from qstack.network.purification import doubt_after


class Still(ABC):
    """A distillery, its messages and commands, on one side of one node of a circuit.

    Counters are those of the distillery.
    """

    def __init__(
        self, desk: Desk, place: Place, side: Side, parameters: DistilleryParameters
    ) -> None:
        self._desk, self._place, self._side = desk, place, side
        self._queue: deque[Any] = deque()
        self._working = self._over = False
        chance = desk.chance.fork(f"purify/{place.id}{parameters.link}")
        self._distillery = Distillery(parameters, desk.slots, desk.commands, chance)

    @property
    def held(self) -> int:
        """How many halves are in rounds or wait for them."""
        return len(self._distillery.held)

    @property
    def counters(self) -> dict[str, int]:
        """Rounds begun, kept, with unlike outcomes, void; pairs handed over."""
        return self._distillery.counters

    def told(self, message: Any) -> None:
        """Take a word of the other end's; RemoteProtocolError where it makes no sense."""
        self._handle(message)

    def gone(self, reason: str) -> None:
        """The circuit is over: what is here is given back, and nobody is told of anything."""
        self._over = True
        self._handle(PeerGone(reason))

    def _handle(self, event: Any) -> None:
        """Let it take an event; one that comes of its own indications is next."""
        self._queue.append(event)
        if self._working:
            return
        self._working = True
        try:
            while self._queue:
                for action in self._distillery.handle(self._queue.popleft(), self._desk.now):
                    self._act(action)
        finally:
            self._working = False

    def _act(self, action: Any) -> None:
        match action:
            case Send(_, message):
                if not self._over:
                    self._desk.send(self._place.neighbour(self._side), message)
            case Device(_, command):
                self._desk.device(command, self._handle)
            case Up(Purified() as done):
                self._purified(done)
            case Up(PurifiedExpired(_, name, reason)):
                if not self._over:
                    self._expired(name, reason)
            case Up(Discarded() as lost):
                self._discarded(lost)

    @abstractmethod
    def _purified(self, done: Purified) -> None:
        """A pair went through all rounds."""

    @abstractmethod
    def _expired(self, name: PairId, reason: str) -> None:
        """A pair that did is void."""

    @abstractmethod
    def _discarded(self, lost: Discarded) -> None:
        """Pairs came to nothing."""


class HopStill(Still):
    """The distillery of a hop at one of its nodes, on `side` of it.

    `ready(half)` takes a half that went through all rounds, `void(pair, reason)` hears of a pair
    of the hop at whose other end there is nothing (any more).
    """

    def __init__(
        self,
        desk: Desk,
        place: Place,
        side: Side,
        ready: Callable[[Half], None],
        void: Callable[[PairId, str], None],
    ) -> None:
        self._ready, self._void = ready, void
        self._inside: dict[PairId, Half] = {}
        parameters = _of_hop(desk, place, side)
        self._way = parameters.method, parameters.rounds
        super().__init__(desk, place, side, parameters)

    def take(self, half: Half) -> None:
        """Take over a half that the link has just brought."""
        self._inside[half.pair] = half
        given = half.bell, half.weights, half.age_ns, None, half.tilt
        self._handle(Deliver(half.pair, half.qubit, *given))

    def refuse(self, half: Half, reason: str) -> None:
        """Give back a half that nobody wants any more; the other node is told."""
        self._desk.free(half.qubit)
        self.expire(half.pair, reason)

    def expire(self, pair: PairId, reason: str) -> None:
        """EXPIRE of the link: a pair of it is void, and all that was made with it."""
        self._handle(Expire(pair, reason))

    def empty(self, reason: str) -> None:
        """Give back everything that was not handed over; the other node is told."""
        for pair in list(self._inside):
            if pair in self._inside:
                self._handle(Expire(pair, reason))

    def _purified(self, done: Purified) -> None:
        kept = self._inside.pop(done.pair)
        others = [self._inside.pop(name) for name in done.consumed]
        doubt = max(each.doubt for each in (kept, *others))
        ends = self._distillery.parameters.operations
        doubt = doubt_after(self._way, kept.weights, doubt, ends, kept.tilt)
        told = done.weights, doubt, done.age_ns, self._desk.now
        self._ready(Half(done.pair, done.qubit, done.bell, *told))

    def _expired(self, name: PairId, reason: str) -> None:
        self._void(name, reason)

    def _discarded(self, lost: Discarded) -> None:
        for name in lost.pairs:
            self._inside.pop(name, None)
            if lost.cause is not Cause.UNLIKE and not self._over:
                self._void(name, lost.reason)


def _of_hop(desk: Desk, place: Place, side: Side) -> DistilleryParameters:
    leg, link = place.leg(side), desk.links[place.link(side)]
    here, there = link.end(desk.node).model, link.other(desk.node).model
    return DistilleryParameters(
        node=desk.node,
        peer=place.neighbour(side),
        circuit=place.id,
        method=leg.method,
        rounds=leg.rounds,
        memory=desk.parameters.memory,
        room=ROOM,
        storage=(storage_of(here), storage_of(there)),
        operations=(operations_of(here), operations_of(there)),
        latency_ns=leg.latency_ns,
        patience_ns=0,
        # A word of the other node's can be under way for as long as the circuit lives without one.
        horizon_ns=link.horizon_ns + place.install.lease_ns,
        leads=side is Side.UP,
        link=link.name,
    )


def refines(place: Place, side: Side) -> bool:
    """Whether the pairs of the hop on this side are purified before they are swapped."""
    return place.has(side) and place.leg(side).method is not Method.NONE

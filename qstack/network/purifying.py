"""Purification at an end of a circuit: pairs that both ends confirmed become fewer and better.

The circuit's install says by which method and in how many rounds. Each end gives its distillery
(:mod:`qstack.network.distillation`) a half when the other end's track for it has come, and
takes back what went through all rounds. The tail-end leads the rounds, so the head-end always
hands over first, in the same step in which its outcome leaves; it gives the pair to a
request and says so right behind. So requests never get more pairs than they asked for, and
pairs in hand serve whichever request is next. The rounds' messages go hop by hop along the
circuit, in its one ordered channel: no track, word of a round or end of a request overtakes
another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from qstack.bell import BellWeights
from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.machine import Device, Send, Up
from qstack.messages.circuits import CircuitInstall, CircuitTrack, Method
from qstack.messages.common import PairId
from qstack.network.admission import Verdict
from qstack.network.budget import correlators, together, weights_of
from qstack.network.desk import ROOM, Desk, Half, faded
from qstack.network.distillation.machine import Distillery
from qstack.network.distillation.service import (
    Deliver,
    Discarded,
    DistilleryParameters,
    Expire,
    PeerGone,
    Purified,
    PurifiedExpired,
)
from qstack.network.finishing import Local
from qstack.network.places import Place, Side
from qstack.network.purification import MOST_NESTED, MOST_PUMPED, doubt_after

MOST_NAMES = 4_096
"""So many pairs that went in are remembered, for expiries that come later."""


class _Input(NamedTuple):
    local: Local
    weights: BellWeights
    doubt: float


class Purifier:
    """The distillery of a circuit at one of its ends.

    `ready(local)` takes a half that went through all rounds; `void(pair, reason)` hears that one
    which it took is void, by this end's own pair. Counters are those of the distillery.
    """

    def __init__(
        self,
        desk: Desk,
        place: Place,
        ready: Callable[[Local], None],
        void: Callable[[PairId, str], None],
    ) -> None:
        self._desk, self._place = desk, place
        self._ready, self._void = ready, void
        self._side = Side.DOWN if place.is_head else Side.UP
        self._inside: dict[PairId, _Input] = {}
        self._names: dict[PairId, PairId] = {}
        self._own: dict[PairId, PairId] = {}
        self._queue: deque[Any] = deque()
        self._working = self._over = False
        chance = desk.chance.fork(f"purify/{place.id}")
        self._distillery = Distillery(self._parameters(), desk.slots, desk.commands, chance)

    def _parameters(self) -> DistilleryParameters:
        desk, place, install = self._desk, self._place, self._place.install
        far, link = place.end(self._side), place.link(self._side)
        # A word of the other end's can be under way for as long as the circuit lives without one.
        horizon = max(each.horizon_ns for each in desk.links.values()) + install.lease_ns
        return DistilleryParameters(
            node=desk.node,
            peer=far,
            circuit=place.id,
            method=install.method,
            rounds=install.rounds,
            memory=desk.parameters.memory,
            room=ROOM,
            storage=(desk.storage(link), desk.storage_at(far)),
            operations=(desk.operations, desk.operations_at(far)),
            latency_ns=install.latency_ns,
            patience_ns=0,
            horizon_ns=horizon,
            leads=place.is_tail,
        )

    @property
    def held(self) -> int:
        """How many halves are in rounds or wait for them."""
        return len(self._distillery.held)

    @property
    def counters(self) -> dict[str, int]:
        """Rounds begun, kept, with unlike outcomes, void; pairs handed over."""
        return self._distillery.counters

    def knows(self, pair: PairId) -> bool:
        """Whether this pair of this end's link went into rounds, lately."""
        return pair in self._names

    # --- pairs -------------------------------------------------------------------------------

    def take(self, local: Local) -> None:
        """Take over a half whose track has come."""
        track, half, desk = local.track, local.half, self._desk
        if track is None:
            raise ValueError("a half without a track cannot be purified")
        name = half.pair if self._place.is_head else track.origin
        self._names[half.pair] = name
        self._own[name] = half.pair
        if len(self._names) > MOST_NAMES:
            oldest = next(iter(self._names))
            self._own.pop(self._names.pop(oldest), None)
        waited = desk.waited(self._place.link(self._side), half)
        weights = weights_of(together(correlators(track.weights), waited))
        self._inside[name] = _Input(local, weights, track.doubt)
        age = half.age_ns + desk.now - half.ready_at
        self._handle(Deliver(name, half.qubit, track.bell, weights, age, track.age_ns))

    def expire(self, pair: PairId, reason: str) -> None:
        """A pair that went in is void, by this end's pair; all that was made with it is too."""
        self._handle(Expire(self._names[pair], reason))

    def empty(self, reason: str) -> None:
        """Give back everything that was not handed over; the other end is told."""
        for name in list(self._inside):
            if name in self._inside:
                self._handle(Expire(name, reason))

    def told(self, message: Any) -> None:
        """Take a word of the other end's; RemoteProtocolError where it makes no sense."""
        self._handle(message)

    def gone(self, reason: str) -> None:
        """The circuit is over: what is here is given back, and nobody is told of anything."""
        self._over = True
        self._handle(PeerGone(reason))

    # --- the distillery ------------------------------------------------------------------------

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
                if not self._over and name in self._own:
                    self._void(self._own[name], reason)
            case Up(Discarded(_, names)):
                for name in names:
                    self._inside.pop(name, None)

    def _purified(self, done: Purified) -> None:
        desk, install = self._desk, self._place.install
        kept = self._inside.pop(done.pair)
        others = [self._inside.pop(name) for name in done.consumed]
        doubt = max(each.doubt for each in (kept, *others))
        ends = desk.operations, desk.operations_at(self._place.end(self._side))
        doubt = doubt_after((install.method, install.rounds), kept.weights, doubt, ends)
        track, pair = kept.local.track, kept.local.half.pair
        half = Half(pair, done.qubit, done.bell, done.weights, doubt, done.age_ns, desk.now)
        local = Local(half, track=None if track is None else _turned(track, done), polished=True)
        self._ready(local)


def _turned(track: CircuitTrack, done: Purified) -> CircuitTrack:
    return CircuitTrack(
        track.circuit,
        track.origin,
        track.at,
        done.bell,
        done.weights,
        track.doubt,
        track.age_ns,
        None,
    )


def consent(desk: Desk, place: Place) -> Verdict | None:
    """Return why this end does not purify as a circuit wants it to, None if it does."""
    method = place.install.method
    if method is Method.NONE or not (place.is_head or place.is_tail):
        return None
    if method in desk.parameters.methods:
        return None
    return Verdict(ErrorCode.UNSUPPORTED, f"{desk.node} does not purify by {method.name}")


def check_way(install: CircuitInstall) -> None:
    """Raise RemoteProtocolError for rounds that no distillery makes."""
    nested = install.method in (Method.NESTED_DEJMPS, Method.NESTED_BBPSSW)
    most = 0 if install.method is Method.NONE else MOST_NESTED if nested else MOST_PUMPED
    least = 0 if install.method is Method.NONE else 1
    if not least <= install.rounds <= most:
        what = f"{install.rounds} rounds of {install.method.name}"
        raise RemoteProtocolError(f"circuit {install.circuit} asks for {what}")


def waited_on(desk: Desk, place: Place, half: Half) -> BellWeights:
    """Return what a purified pair is now, if both halves waited since its hand-over here."""
    side = Side.DOWN if place.is_head else Side.UP
    age = half.age_ns + desk.now - half.ready_at
    near = desk.waited(place.link(side), half)
    far = faded(desk.storage_at(place.end(side)), half.age_ns, age)
    return weights_of(together(correlators(half.weights), near, far))

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

from collections.abc import Callable
from typing import NamedTuple

from qstack.bell import BellWeights
from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.messages.circuits import CircuitInstall, CircuitTrack, Method
from qstack.messages.common import PairId
from qstack.network.admission import Verdict
from qstack.network.budget import correlators, together, weights_of
from qstack.network.desk import ROOM, Desk, Half, faded
from qstack.network.distillation.service import (
    Deliver,
    Discarded,
    DistilleryParameters,
    Expire,
    Purified,
)
from qstack.network.finishing import Local
from qstack.network.places import Place, Side
from qstack.network.purification import doubt_after, most_rounds
from qstack.network.stills import Still
from qstack.units import Duration

MOST_NAMES = 4_096
"""So many pairs that went in are remembered, for expiries that come later."""


class _Input(NamedTuple):
    local: Local
    weights: BellWeights
    doubt: float


class Purifier(Still):
    """The distillery of a circuit at one of its ends.

    `ready(local)` takes a half that went through all rounds; `void(pair, reason)` hears that one
    which it took is void, by this end's own pair.
    """

    def __init__(
        self,
        desk: Desk,
        place: Place,
        ready: Callable[[Local], None],
        void: Callable[[PairId, str], None],
    ) -> None:
        self._ready, self._void = ready, void
        self._inside: dict[PairId, _Input] = {}
        self._names: dict[PairId, PairId] = {}
        self._own: dict[PairId, PairId] = {}
        side = Side.DOWN if place.is_head else Side.UP
        super().__init__(desk, place, side, self._parameters(desk, place, side))

    @staticmethod
    def _parameters(desk: Desk, place: Place, side: Side) -> DistilleryParameters:
        install, far, link = place.install, place.end(side), place.link(side)
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
        tilt = self._tilt(half, track.age_ns)
        self._handle(Deliver(name, half.qubit, track.bell, weights, age, track.age_ns, tilt))

    def _tilt(self, half: Half, far_ns: Duration) -> float:
        """What is left of a half's: swaps leave nothing, both waits their share."""
        desk, place = self._desk, self._place
        if not half.tilt or len(place.install.legs) > 1:
            return 0.0
        near = desk.waited(place.link(self._side), half)
        far = faded(desk.storage_at(place.end(self._side)), half.age_ns, far_ns)
        return half.tilt * (near[2] + far[2]) / 2

    def expire(self, pair: PairId, reason: str) -> None:
        """A pair that went in is void, by this end's pair; all that was made with it is too."""
        self._handle(Expire(self._names[pair], reason))

    def empty(self, reason: str) -> None:
        """Give back everything that was not handed over; the other end is told."""
        for name in list(self._inside):
            if name in self._inside:
                self._handle(Expire(name, reason))

    def _purified(self, done: Purified) -> None:
        desk, install = self._desk, self._place.install
        kept = self._inside.pop(done.pair)
        others = [self._inside.pop(name) for name in done.consumed]
        doubt = max(each.doubt for each in (kept, *others))
        ends = desk.operations, desk.operations_at(self._place.end(self._side))
        way, tilt = (install.method, install.rounds), kept.local.half.tilt
        doubt = doubt_after(way, kept.weights, doubt, ends, tilt)
        track, pair = kept.local.track, kept.local.half.pair
        half = Half(pair, done.qubit, done.bell, done.weights, doubt, done.age_ns, desk.now)
        local = Local(half, track=None if track is None else _turned(track, done), polished=True)
        self._ready(local)

    def _expired(self, name: PairId, reason: str) -> None:
        if name in self._own:
            self._void(self._own[name], reason)

    def _discarded(self, lost: Discarded) -> None:
        for name in lost.pairs:
            self._inside.pop(name, None)


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
    """Return why this node does not purify as a circuit wants it to, None if it does."""
    ways = [place.leg(side).method for side in Side if place.has(side)]
    if place.is_head or place.is_tail:
        ways.append(place.install.method)
    for method in ways:
        if method is not Method.NONE and method not in desk.parameters.methods:
            reason = f"{desk.node} does not purify by {method.name}"
            return Verdict(ErrorCode.UNSUPPORTED, reason)
    return None


def check_way(install: CircuitInstall) -> None:
    """Raise RemoteProtocolError for rounds that no distillery makes."""
    ways = [(leg.method, leg.rounds) for leg in install.legs]
    for method, rounds in ((install.method, install.rounds), *ways):
        if not (method is not Method.NONE) <= rounds <= most_rounds(method):
            what = f"{rounds} rounds of {method.name}"
            raise RemoteProtocolError(f"circuit {install.circuit} asks for {what}")
    if install.method is Method.NESTED_LOSS and len(install.legs) > 1:
        raise RemoteProtocolError(
            f"circuit {install.circuit} has swaps before {install.method.name}"
        )


def waited_on(desk: Desk, place: Place, half: Half) -> BellWeights:
    """Return what a purified pair is now, if both halves waited since its hand-over here."""
    side = Side.DOWN if place.is_head else Side.UP
    age = half.age_ns + desk.now - half.ready_at
    near = desk.waited(place.link(side), half)
    far = faded(desk.storage_at(place.end(side)), half.age_ns, age)
    return weights_of(together(correlators(half.weights), near, far))

"""What an end of a circuit tells of its pairs: the other end by tracks, its user by their info."""

from __future__ import annotations

from qstack.bell import BellIndex
from qstack.messages.circuits import CircuitTrack
from qstack.messages.common import PairId, PairInfo, PairKind, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.budget import PERFECT, Correlators, correlators, product, shrunk, weights_of
from qstack.network.desk import Desk, faded
from qstack.network.finishing import Local
from qstack.network.places import Place, Side
from qstack.network.purifying import waited_on
from qstack.units import Duration


def track_of(desk: Desk, place: Place, local: Local, request: RequestId | None) -> CircuitTrack:
    """Return the track of a half as it is now."""
    half = local.half
    return CircuitTrack(
        place.id,
        half.pair,
        half.pair,
        half.bell,
        shrunk(half.weights, _waited(desk, place, local)),
        half.doubt,
        _age(desk, local),
        request,
        local.read is not None,
    )


def info_of(
    desk: Desk, place: Place, local: Local, track: CircuitTrack, wanted: LinkRequest
) -> PairInfo:
    """Return what a user is told of a pair at hand-over."""
    if local.polished:
        good, low, age = _polished(desk, place, local)
    else:
        far = place.tail if place.is_head else place.id.origin
        theirs, transit = track.age_ns, PERFECT
        if not track.measured:
            theirs += place.install.latency_ns + desk.now - local.told_at
            transit = faded(desk.storage_at(far), track.age_ns, theirs)
        here = product(correlators(track.weights), _waited(desk, place, local))
        good = weights_of(product(here, transit))[0]
        low = max(0.0, good - track.doubt)
        age = _age(desk, local) if place.is_head else theirs
    return PairInfo(
        identity_of(place, local, track),
        _final(track.bell, wanted),
        0,
        str(place.id),
        good,
        low,
        age,
        2 * place.install.latency_ns + desk.links[place.link(_side(place))].horizon_ns,
        place.is_head,
        len(place.install.legs),
    )


def identity_of(place: Place, local: Local, track: CircuitTrack) -> PairId:
    """Return the pair's id at both ends: that of the head-end's half."""
    return local.half.pair if place.is_head else track.origin


def _side(place: Place) -> Side:
    return Side.DOWN if place.is_head else Side.UP


def _age(desk: Desk, local: Local) -> Duration:
    """How old a half is, or was when it was measured."""
    half = local.half
    return half.age_ns + desk.now - half.ready_at if local.read is None else local.read.age_ns


def _waited(desk: Desk, place: Place, local: Local) -> Correlators:
    """What waiting here did to a half since its link delivered it."""
    return desk.held(place.link(_side(place)), local.half, _age(desk, local))


def _polished(desk: Desk, place: Place, local: Local) -> tuple[float, float, Duration]:
    """What is told of a purified pair: the head-end's numbers, at both ends."""
    half, given = local.half, local.given
    if given is not None:
        return given.goodness, given.goodness_low, given.age_ns
    good = waited_on(desk, place, half)[0]
    return good, max(0.0, good - half.doubt), half.age_ns + desk.now - half.ready_at


def _final(bell: BellIndex, wanted: LinkRequest) -> BellIndex:
    """The Bell state in which a pair is delivered."""
    if wanted.final_bell is None or wanted.kind is PairKind.MEASURE:
        return bell
    return wanted.final_bell

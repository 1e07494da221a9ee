"""Bugs of end-to-end pairs, planted one by one into our machines: each must be found by a checker.

As in :mod:`tests.simulate.planted`; numbers are those of the pitfalls in the notes on protocol
sources, section 5. ``python -m tests.simulate.routes --bugs`` looks for them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from qstack.messages.circuits import (
    CircuitRelease,
    CircuitTrack,
)
from qstack.messages.common import PairKind
from qstack.messages.devices import MemoryResult
from qstack.network.admission import Reservations
from qstack.network.circuits import Circuits
from qstack.network.demand import Demand
from qstack.network.ends import End
from qstack.network.finishing import Finisher, Local
from qstack.network.forwarding import Between
from qstack.network.head_end import Head
from qstack.network.member import Member
from qstack.network.places import PlaceState, Side, Swapped
from qstack.network.talk import Talk
from tests.simulate.planted import Patch, changed, patched

MOST_SEEDS = 2_000

BUGS: dict[str, Callable[[], tuple[Patch, ...]]] = {}


def bug(build: Callable[[], tuple[Patch, ...]]) -> Callable[[], tuple[Patch, ...]]:
    """Register a bug under its function's name."""
    BUGS[build.__name__] = build
    return build


FOUND: dict[str, tuple[int, str]] = {
    "n12_an_expiry_of_a_swapped_pair_is_not_passed_on": (61, "liveness"),
    "ours_a_confirmation_that_comes_first_is_forgotten": (55, "RouteSamePairs"),
    "ours_a_reservation_outlives_its_circuit": (0, "liveness"),
    "ours_circuits_that_nobody_uses_are_kept": (0, "RouteBaseline"),
    "ours_labels_of_circuits_are_never_forgotten": (0, "RouteBaseline"),
    "ours_outcomes_are_flipped_at_the_tail_end": (0, "RouteOutcomes"),
    "ours_the_outcome_of_a_swap_is_left_out": (0, "RouteStates"),
    "pitfall_10_both_ends_correct": (4, "LocalProtocolError"),
    "pitfall_12_a_half_is_delivered_before_the_other_ends_track": (0, "RouteOutcomes"),
    "pitfall_14_a_track_for_a_swapped_pair_is_dropped": (0, "liveness"),
    "pitfall_15_a_cutoff_leaves_no_record_for_tracks_that_come_later": (7, "liveness"),
    "pitfall_37_a_release_that_meets_an_install_is_dropped": (12, "liveness"),
}
"""The seed at which each bug is found first, and who complains: a checker, or what never came."""


def planted(name: str) -> AbstractContextManager[None]:
    """Let this bug be in our machines for a while."""
    return patched(BUGS[name]())


@bug
def pitfall_12_a_half_is_delivered_before_the_other_ends_track() -> tuple[Patch, ...]:
    """The head-end believes that its half leads to the tail-end as soon as its link has it."""
    arrived = Head._arrived

    def at_once(self: Head, local: Local) -> None:
        half = local.half
        if local.track is None:
            place = self._place.id
            found = (half.bell, half.weights, half.doubt, half.age_ns)
            local.track = CircuitTrack(place, half.pair, half.pair, *found, None)
        arrived(self, local)
        if half.pair in self._local and local.wanted is not None:
            self._ready(local)

    return ((Head, "_arrived", at_once),)


@bug
def pitfall_14_a_track_for_a_swapped_pair_is_dropped() -> tuple[Patch, ...]:
    """The qubit is gone, so the word about its pair is thought to be of no use."""
    tracked = Between.tracked

    def drop(self: Between, side: Side, track: CircuitTrack) -> None:
        if not isinstance(self._ledger.fate(track.at), Swapped):
            tracked(self, side, track)

    return ((Between, "tracked", drop),)


@bug
def pitfall_15_a_cutoff_leaves_no_record_for_tracks_that_come_later() -> tuple[Patch, ...]:
    """A pair is discarded; the track that crosses this waits for its swap for ever."""

    def forget(self: Between, side: Side, half: Any, reason: str) -> None:
        self._desk.free(half.qubit)

    return ((Between, "_discard", forget),)


@bug
def pitfall_10_both_ends_correct() -> tuple[Patch, ...]:
    """The tail-end too turns the pair into the Bell state that was asked for."""
    begin = Finisher.begin

    def turn_too(self: Finisher, local: Local) -> None:
        wanted, info, track = local.wanted, local.info, local.track
        if wanted is None or info is None or track is None or wanted.kind is not PairKind.KEEP:
            begin(self, local)
        else:
            self._turn(local, track.bell ^ info.bell, None)

    return ((Finisher, "begin", turn_too),)


@bug
def pitfall_37_a_release_that_meets_an_install_is_dropped() -> tuple[Patch, ...]:
    """Nodes after a break that came while the circuit was being made keep it for ever."""
    told, tick = Talk.told, Circuits.tick

    def drop(self: Talk, peer: str, message: Any) -> None:
        if type(message) is CircuitRelease:
            member = self._circuits.member(message.circuit)
            if member is not None and member.place.state is PlaceState.INSTALLING:
                return
        told(self, peer, message)

    def without_leases(self: Circuits) -> None:
        for member in self.members:
            member.place.lease_until = 1 << 62
        tick(self)

    return (Talk, "told", drop), (Circuits, "tick", without_leases)


@bug
def n12_an_expiry_of_a_swapped_pair_is_not_passed_on() -> tuple[Patch, ...]:
    """The half is swapped and its qubit gone, so its end is thought to concern nobody."""
    expired = Between.expired

    def keep_quiet(self: Between, side: Side, pair: Any, reason: str) -> None:
        if pair not in self._swaps and not isinstance(self._ledger.fate(pair), Swapped):
            expired(self, side, pair, reason)

    return ((Between, "expired", keep_quiet),)


@bug
def ours_the_outcome_of_a_swap_is_left_out() -> tuple[Patch, ...]:
    """The indices of the two pairs alone are combined."""
    settle = Between._settle

    def without(self: Between, *given: Any) -> None:
        side, half, other, _, factors = given
        settle(self, side, half, other, 0, factors)

    return ((Between, "_settle", without),)


@bug
def ours_a_confirmation_that_comes_first_is_forgotten() -> tuple[Patch, ...]:
    """The other end's word on a pair that is not delivered here yet counts for nothing."""

    def only_delivered(self: End, pairs: Any) -> None:
        for order in self.orders.values():
            for identity in pairs:
                order.unconfirmed.pop(identity, None)

    return ((End, "confirmed", only_delivered),)


@bug
def ours_outcomes_are_flipped_at_the_tail_end() -> tuple[Patch, ...]:
    """What the memory read is told the other way round."""
    measured = Finisher._measured

    def flip(self: Finisher, local: Local, event: Any) -> None:
        if type(event) is MemoryResult and not self._place.is_head:
            event = changed(event, outcome=event.outcome ^ 1)
        measured(self, local, event)

    return ((Finisher, "_measured", flip),)


@bug
def ours_circuits_that_nobody_uses_are_kept() -> tuple[Patch, ...]:
    """A circuit is refreshed for ever, whether or not a request runs on it."""

    def never(self: Demand, circuit: Any, plan: Any) -> None:
        plan.idle_until = 1 << 62

    return ((Demand, "_rest", never),)


@bug
def ours_a_reservation_outlives_its_circuit() -> tuple[Patch, ...]:
    """What a node between the ends holds of its links is not given back."""
    release = Reservations.release

    def keep(self: Reservations, place: Any) -> None:
        if place.is_head or place.is_tail:
            release(self, place)

    return ((Reservations, "release", keep),)


@bug
def ours_labels_of_circuits_are_never_forgotten() -> tuple[Patch, ...]:
    """A table grows by an entry with every circuit that comes by."""
    forget = Circuits.forget

    def keep(self: Circuits, member: Member) -> None:
        forget(self, member)
        if member.place.label:
            self._labels[member.place.label] = member.place.id

    return ((Circuits, "forget", keep),)

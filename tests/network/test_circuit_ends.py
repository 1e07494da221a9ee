"""The head-end alone: the tail-end's last word meets pairs that are still in hand."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.bell import werner
from qstack.errors import ErrorCode
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Send, Up
from qstack.messages.application import PairExpired, PairReady, RequestEnded
from qstack.messages.circuits import (
    CircuitClosed,
    CircuitExpire,
    CircuitId,
    CircuitInstall,
    CircuitTrack,
    Leg,
    Method,
)
from qstack.messages.common import PairId, PairKind
from qstack.messages.devices import Completed
from qstack.network.desk import Desk, Half, NetworkParameters
from qstack.network.head_end import Head
from qstack.network.orders import Order, OrderState
from qstack.network.places import Place
from qstack.physical.slots import Owner, Slots
from tests.network.circuit_links import evolve
from tests.network.links import link_between
from tests.network.test_circuit_hostile import request_of

CIRCUIT = CircuitId("a", 1, 1)
PAIRS = (PairId("ab", 7, 1), PairId("ab", 7, 2))
NOTHING = (Method.NONE, 0)
NESTED = (Method.NESTED_DEJMPS, 1)
AGAIN = 1_000
"""So long an end does not ask again for a half back."""


class Rig:
    """The head-end of a circuit from a by b to c, with one request."""

    def __init__(
        self, kind: PairKind, slots: int = 3, way: tuple[Method, int] = NOTHING, **changes: Any
    ) -> None:
        among = tuple(range(slots))
        links = (link_between("ab", "a", "b", slots=(among, among)),)
        self.slots = Slots(among)
        self.desk = Desk("a", 1, NetworkParameters(links, "a/memory"), self.slots, CommandIds())
        legs = (Leg("ab", "b", 0.9, 0.0, 0, False), Leg("bc", "c", 0.9, 0.0, 0, False))
        self.head = Head(self.desk, Place(CircuitInstall(CIRCUIT, legs, 10, 10, False, *way), 0))
        self.request = evolve(request_of("a", 1, 1, kind=kind), **changes)
        self.order = Order(self.request, OrderState.RUNNING, None)
        self.head.orders[self.request.id] = self.order
        self.told: list[Any] = []
        self.sent: list[Any] = []
        self.commands: list[Any] = []

    def collect(self) -> None:
        for action in self.desk.take_actions():
            if isinstance(action, Up):
                self.told.append(action.event)
            elif isinstance(action, Device):
                self.commands.append(action.command)
            elif isinstance(action, Send):
                self.sent.append(action.message)

    def end(self, command: Any) -> None:
        """The memory did what it was told."""
        self.desk.answered(Completed("a/memory", command.command))
        self.collect()

    def half(self, pair: PairId) -> None:
        qubit = self.slots.take(Owner("network", pair))
        assert qubit is not None
        self.head.pair(Half(pair, qubit, 0, werner(0.97, 0), 0.0, 0, 0))

    def track(self, pair: PairId) -> None:
        far = PairId("bc", 8, pair.sequence)
        self.head.tracked(
            CircuitTrack(CIRCUIT, far, pair, 0, werner(0.97, 0), 0.0, 0, None),
        )

    def closed(self, *pairs: PairId) -> None:
        self.head.told(CircuitClosed(CIRCUIT, self.request.id, pairs))
        self.collect()


def test_several_pairs_that_the_last_word_names_are_delivered_and_the_end_is_told_once() -> None:
    rig = Rig(PairKind.KEEP)
    for pair in PAIRS:
        rig.half(pair)
    rig.head.halt(rig.order, ErrorCode.OTHER, "enough")
    for pair in PAIRS:
        rig.track(pair)
    rig.closed(*PAIRS)
    assert [type(event) for event in rig.told] == [PairReady, PairReady, RequestEnded]
    assert rig.told[-1].delivered == 2


def test_a_pair_that_the_tail_end_told_of_while_its_half_was_turned_is_valid() -> None:
    """Told of by CircuitDelivered, so left out of the last word; the gate ends after both."""
    rig = Rig(PairKind.KEEP, final_bell=2)
    rig.half(PAIRS[0])
    rig.track(PAIRS[0])
    rig.collect()
    (command,) = rig.commands
    rig.head.confirmed((PAIRS[0],))
    rig.head.halt(rig.order, ErrorCode.OTHER, "enough")
    rig.closed()
    rig.end(command)
    assert [type(event) for event in rig.told] == [PairReady, RequestEnded]


def test_a_pair_that_the_tail_end_never_told_of_is_void_once_both_are_through() -> None:
    rig = Rig(PairKind.KEEP)
    rig.half(PAIRS[0])
    rig.track(PAIRS[0])
    rig.head.halt(rig.order, ErrorCode.OTHER, "enough")
    rig.closed()
    assert [type(event) for event in rig.told] == [PairReady, PairExpired, RequestEnded]
    assert rig.told[-1].delivered == 0
    rig.head.expired(PAIRS[0], "its link too")
    rig.collect()
    assert len(rig.told) == 3


def _said(rig: Rig) -> list[tuple[str, int]]:
    """What was sent since the last look, each with the number of its pair."""
    rig.sent.clear()
    rig.collect()
    return [(type(message).__name__, message.at.sequence) for message in rig.sent]


@pytest.mark.parametrize("way", [NOTHING, NESTED], ids=["plain", "purified"])
def test_an_end_asks_back_its_newest_halves_by_their_tracks_and_frees_them_when_told(
    way: tuple[Method, int],
) -> None:
    """Of four halves the second has its pair, which waits for its set or for a round."""
    within = {"within_ns": 50_000} if way == NOTHING else {}
    rig = Rig(PairKind.KEEP, 4, way, number=4, **within)
    pairs = [PairId("ab", 7, number) for number in range(1, 5)]
    for pair in pairs:
        rig.half(pair)
    rig.collect()
    first = {m.at: m for m in rig.sent if isinstance(m, CircuitTrack)}
    assert list(first) == pairs
    rig.track(pairs[1])
    rig.head.recall(2, AGAIN)
    assert _said(rig) == [("CircuitTrack", 4), ("CircuitTrack", 3)]
    assert rig.sent == [first[pairs[3]], first[pairs[2]]]
    assert len(rig.slots.held()) == 4
    rig.head.recall(3, AGAIN)
    assert _said(rig) == [("CircuitTrack", 1)]
    rig.desk.now = AGAIN
    rig.head.recall(1, AGAIN)
    assert _said(rig) == [("CircuitTrack", 4)]
    rig.head.expired(pairs[3], "given back")
    assert _said(rig) == []
    assert len(rig.slots.held()) == 3
    assert rig.told == []


def test_halves_of_which_nobody_was_told_are_dropped_at_once_and_the_other_end_hears_it() -> None:
    """The request lacks one pair: the second half is nobody's yet."""
    rig = Rig(PairKind.KEEP, number=1)
    for pair in PAIRS:
        rig.half(pair)
    _said(rig)
    rig.head.recall(1, AGAIN)
    assert _said(rig) == [("CircuitExpire", 2)]
    assert len(rig.slots.held()) == 1
    assert all(isinstance(message, CircuitExpire) for message in rig.sent)


@pytest.mark.parametrize("way", [NOTHING, NESTED], ids=["plain", "purified"])
def test_a_track_that_comes_again_for_a_pair_that_is_there_changes_nothing(
    way: tuple[Method, int],
) -> None:
    """Delivered, or in rounds: its half went where nobody can ask it back."""
    rig = Rig(PairKind.KEEP, 3, way, number=2)
    rig.half(PAIRS[0])
    rig.track(PAIRS[0])
    before = _said(rig), list(rig.told), rig.head.held
    rig.track(PAIRS[0])
    assert _said(rig) == []
    assert (rig.told, rig.head.held) == before[1:]
    assert rig.head._ledger.parked == 0

"""The head-end alone: the tail-end's last word meets pairs that are still in hand."""

from __future__ import annotations

from typing import Any

from qstack.bell import werner
from qstack.errors import ErrorCode
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Send, Up
from qstack.messages.application import PairExpired, PairReady, RequestEnded
from qstack.messages.circuits import CircuitClosed, CircuitId, CircuitInstall, CircuitTrack, Leg
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


class Rig:
    """The head-end of a circuit from a by b to c, with one request."""

    def __init__(self, kind: PairKind, slots: int = 3, **changes: Any) -> None:
        among = tuple(range(slots))
        links = (link_between("ab", "a", "b", slots=(among, among)),)
        self.slots = Slots(among)
        self.desk = Desk("a", 1, NetworkParameters(links, "a/memory"), self.slots, CommandIds())
        legs = (Leg("ab", "b", 0.9, 0.0, 0, False), Leg("bc", "c", 0.9, 0.0, 0, False))
        self.head = Head(self.desk, Place(CircuitInstall(CIRCUIT, legs, 10, 10, False), 0))
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

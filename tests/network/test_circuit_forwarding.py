"""One node between: the algebra of swaps, tracks before and after them, cutoffs and expiries."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from qstack.bell import werner
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Send
from qstack.messages.circuits import CircuitExpire, CircuitId, CircuitInstall, CircuitTrack, Leg
from qstack.messages.common import PairId
from qstack.messages.devices import Aborted, BellResult, Faulted, Rejected
from qstack.network.desk import Desk, Half, NetworkParameters
from qstack.network.forwarding import Between
from qstack.network.places import MOST_FATES, MOST_PARKED, Place, Side
from qstack.physical.slots import Owner, Slots
from tests.network.links import link_between
from tests.network.registers import bell_vector

CIRCUIT = CircuitId("a", 1, 1)
UP, DOWN = PairId("ab", 7, 1), PairId("bc", 8, 1)
CUTOFF = 1_000


class Rig:
    """Node b between a and c; `cutoff` of its halves."""

    def __init__(self, cutoff: int = 0) -> None:
        links = (
            link_between("ab", "a", "b", slots=((0,), (0, 1))),
            link_between("bc", "b", "c", slots=((2, 3), (0,))),
        )
        self.slots = Slots(range(4))
        self.desk = Desk("b", 1, NetworkParameters(links, "b/memory"), self.slots, CommandIds())
        legs = (Leg("ab", "b", 0.9, 0.0, cutoff, False), Leg("bc", "c", 0.9, 0.0, cutoff, False))
        place = Place(CircuitInstall(CIRCUIT, legs, 10, 10, False), 1)
        self.between = Between(self.desk, place)
        self.sent: list[tuple[str, Any]] = []
        self.commands: list[Any] = []

    def collect(self) -> None:
        for action in self.desk.take_actions():
            if isinstance(action, Send):
                self.sent.append((action.peer, action.message))
            elif isinstance(action, Device):
                self.commands.append(action.command)

    def half(self, side: Side, pair: PairId, bell: int) -> None:
        qubit = self.slots.take(Owner("network", pair), among=((0, 1), (2, 3))[side])
        assert qubit is not None
        weights = werner(0.97, 0)
        self.between.pair(side, Half(pair, qubit, bell, weights, 0.0, 0, self.desk.now))
        self.collect()

    def track(self, side: Side, at: PairId, bell: int) -> None:
        origin = PairId("far", 1, at.sequence)
        weights = werner(0.97, 0)
        track = CircuitTrack(CIRCUIT, origin, at, bell, weights, 0.0, 0, None)
        self.between.tracked(side, track)
        self.collect()

    def answer(self, event: Any) -> None:
        self.desk.answered(event)
        self.collect()

    def swapped(self, outcome: int | None) -> None:
        command = self.commands.pop(0)
        self.answer(
            BellResult("b/memory", command.command, command.slot, command.other, outcome, 0, 0)
        )

    def of(self, kind: type) -> list[tuple[str, Any]]:
        return [(peer, message) for peer, message in self.sent if isinstance(message, kind)]


def joined(one: int, other: int, outcome: int) -> int:
    """The Bell state of the far ends by projecting four qubits: the definition of a swap."""
    state = np.kron(bell_vector(one), bell_vector(other)).reshape(2, 2, 2, 2)
    read = bell_vector(outcome).reshape(2, 2)
    left = np.einsum("ambc,mb->ac", state, read.conj()).reshape(4)
    left = left / np.linalg.norm(left)
    (found,) = [k for k in range(4) if abs(np.vdot(bell_vector(k), left)) ** 2 > 1 - 1e-9]
    return found


ORDERS = [
    order
    for order in permutations(("up", "down", "track up", "track down", "swap"))
    if order.index("swap") > max(order.index("up"), order.index("down"))
]


@pytest.mark.parametrize("order", ORDERS, ids=",".join)
def test_all_64_combinations_give_both_tracks_the_joined_index_in_every_order(
    order: tuple[str, ...],
) -> None:
    for one, other, outcome in np.ndindex(4, 4, 4):
        rig = Rig()
        steps: dict[str, Any] = {
            "up": lambda rig=rig, one=one: rig.half(Side.UP, UP, one),
            "down": lambda rig=rig, other=other: rig.half(Side.DOWN, DOWN, other),
            "track up": lambda rig=rig, one=one: rig.track(Side.UP, UP, one),
            "track down": lambda rig=rig, other=other: rig.track(Side.DOWN, DOWN, other),
            "swap": lambda rig=rig, outcome=outcome: rig.swapped(outcome),
        }
        for step in order:
            steps[step]()
        truth = joined(one, other, outcome)
        tracks = dict(rig.of(CircuitTrack))
        assert len(rig.sent) == 2
        assert (tracks["c"].at, tracks["c"].bell) == (DOWN, truth)
        assert (tracks["a"].at, tracks["a"].bell) == (UP, truth)
        assert not rig.slots.held()


def bad_ends(command: int) -> list[Any]:
    memory = "b/memory"
    return [
        BellResult(memory, command, 0, 2, None, 0, 0),
        Faulted(memory, command, "broken"),
        Rejected(memory, command, False, "busy"),
        Aborted(memory, command, "stopped"),
    ]


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("early", [True, False])
def test_a_swap_that_fails_turns_both_tracks_back_and_frees_both_qubits(
    which: int, early: bool
) -> None:
    rig = Rig()
    rig.half(Side.UP, UP, 0)
    rig.half(Side.DOWN, DOWN, 0)
    if early:
        rig.track(Side.UP, UP, 0)
        rig.track(Side.DOWN, DOWN, 0)
    rig.answer(bad_ends(rig.commands[0].command)[which])
    if not early:
        rig.track(Side.UP, UP, 0)
        rig.track(Side.DOWN, DOWN, 0)
    assert [(peer, m.at) for peer, m in rig.of(CircuitExpire)] == [("a", UP), ("c", DOWN)]
    assert rig.of(CircuitTrack) == []
    assert not rig.slots.held()


@pytest.mark.parametrize("early", [True, False])
def test_a_pair_that_was_cut_off_is_never_swapped_and_turns_its_track_back(early: bool) -> None:
    rig = Rig(CUTOFF)
    rig.half(Side.UP, UP, 0)
    if early:
        rig.track(Side.UP, UP, 0)
    assert rig.between.deadline == CUTOFF
    rig.desk.now = CUTOFF - 1
    rig.between.tick()
    assert rig.slots.held()
    rig.desk.now = CUTOFF
    rig.between.tick()
    rig.collect()
    assert not rig.slots.held()
    rig.half(Side.DOWN, DOWN, 0)
    assert rig.commands == []
    if not early:
        assert rig.of(CircuitExpire) == []
        rig.track(Side.UP, UP, 0)
    assert [(peer, m.at) for peer, m in rig.of(CircuitExpire)] == [("a", UP)]


@pytest.mark.parametrize("when", ["held", "swapping", "swapped"])
@pytest.mark.parametrize("side", list(Side))
def test_an_expiry_reaches_the_other_side_wherever_the_pair_stands(when: str, side: Side) -> None:
    rig = Rig()
    pair, other = (UP, DOWN) if side is Side.UP else (DOWN, UP)
    away = "c" if side is Side.UP else "a"
    rig.half(side, pair, 0)
    if when == "held":
        rig.between.expired(side, pair, "void")
        rig.collect()
        assert (rig.sent, rig.slots.held()) == ([], {})
        rig.half(side.other, other, 0)
        assert rig.commands == []
        return
    rig.half(side.other, other, 0)
    if when == "swapped":
        rig.swapped(2)
    rig.between.expired(side, pair, "void")
    rig.collect()
    if when == "swapping":
        assert rig.sent == []
        rig.swapped(2)
    assert [(peer, m.at) for peer, m in rig.of(CircuitExpire)] == [(away, other)]
    rig.track(side.other, other, 0)
    assert rig.of(CircuitTrack) == []
    assert not rig.slots.held()


def test_what_a_node_remembers_of_pairs_and_tracks_is_bounded() -> None:
    rig = Rig()
    for number in range(2 * MOST_FATES):
        rig.track(Side.UP, PairId("ab", 7, number), 0)
        rig.between.expired(Side.DOWN, PairId("bc", 8, number), "void")
    ledger = rig.between._ledger
    assert ledger.parked == MOST_PARKED
    assert len(ledger._fates) <= MOST_FATES
    assert len(rig.of(CircuitExpire)) == 2 * MOST_FATES - MOST_PARKED


@pytest.mark.parametrize("side", list(Side))
def test_a_track_that_comes_again_gives_its_end_the_half_back_if_it_is_not_joined(
    side: Side,
) -> None:
    """The first alone only waits: nothing is lost until its end asks."""
    rig = Rig()
    pair, other, end = (UP, DOWN, "a") if side is Side.UP else (DOWN, UP, "c")
    rig.half(side, pair, 0)
    rig.track(side, pair, 0)
    assert (rig.sent, len(rig.slots.held())) == ([], 1)
    rig.track(side, pair, 0)
    assert [(peer, m.at) for peer, m in rig.of(CircuitExpire)] == [(end, pair)]
    assert not rig.slots.held()
    assert rig.desk.counters["trimmed"] == 1
    assert rig.between._ledger.parked == 0
    rig.half(side.other, other, 0)
    assert rig.commands == []


@pytest.mark.parametrize("side", list(Side))
def test_a_track_that_comes_again_too_late_follows_the_pair_and_undoes_no_swap(side: Side) -> None:
    rig = Rig()
    pair, other, away = (UP, DOWN, "c") if side is Side.UP else (DOWN, UP, "a")
    rig.half(side, pair, 0)
    rig.track(side, pair, 0)
    rig.half(side.other, other, 0)
    rig.track(side, pair, 0)
    assert rig.sent == []
    rig.swapped(2)
    rig.track(side, pair, 0)
    assert [(peer, m.at) for peer, m in rig.sent] == [(away, other)] * 2
    assert rig.sent[0] == rig.sent[1]


def test_a_track_that_comes_again_before_its_half_goes_on_waiting() -> None:
    """The link's half may be in rounds yet: it is not there to be given back."""
    rig = Rig()
    rig.track(Side.UP, UP, 0)
    rig.track(Side.UP, UP, 0)
    assert (rig.sent, rig.between._ledger.parked) == ([], 1)
    rig.half(Side.UP, UP, 0)
    rig.half(Side.DOWN, DOWN, 0)
    rig.swapped(0)
    assert [peer for peer, _ in rig.of(CircuitTrack)] == ["c"]

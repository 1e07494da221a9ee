"""Halves that ends treat before they know of a pair: measured at once, or handed over early."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.bell import werner
from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Send, Up
from qstack.messages.application import (
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    OutcomeReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.circuits import (
    CircuitComplete,
    CircuitGather,
    CircuitInstall,
    CircuitTrack,
    Leg,
)
from qstack.messages.common import Basis, PairId, PairKind, RequestId
from qstack.messages.devices import MemoryMeasure, MemoryResult
from qstack.network.desk import Desk, Half, NetworkParameters
from qstack.network.head_end import Head
from qstack.network.orders import Order, OrderState, Turns
from qstack.network.places import Parked, Place
from qstack.network.tail_end import Tail
from qstack.physical.slots import Owner, Slots
from qstack.units import MICROSECOND, MILLISECOND, SECOND
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import XYZ, Chances, Lab, chain
from tests.network.circuit_links import evolve
from tests.network.links import link_between, memory
from tests.network.test_circuit_ends import CIRCUIT, PAIRS, Rig
from tests.network.test_circuit_hostile import request_of

T2 = 10 * MILLISECOND


class TailRig:
    """The tail-end of a circuit from a by b to c, with requests. Its memory fades with T2."""

    def __init__(self, *wanted: dict[str, Any]) -> None:
        among = (0, 1, 2, 3)
        model = evolve(memory(4), t2_ns=T2)
        links = (link_between("bc", "b", "c", slots=(among, among), model=model),)
        self.slots = Slots(among)
        self.desk = Desk("c", 2, NetworkParameters(links, "c/memory"), self.slots, CommandIds())
        legs = (Leg("ab", "b", 0.9, 0.0, 0, False), Leg("bc", "c", 0.9, 0.0, 0, False))
        self.tail = Tail(self.desk, Place(CircuitInstall(CIRCUIT, legs, 10, 10, False), 2))
        self.requests: list[RequestId] = []
        for number, changes in enumerate(wanted, 1):
            request = evolve(request_of("a", 1, number), **changes)
            self.requests.append(request.id)
            self.tail.orders[request.id] = Order(request, OrderState.RUNNING, None)
        self.told: list[Any] = []
        self.sent: list[Any] = []
        self.commands: list[Any] = []

    def collect(self) -> None:
        for action in self.desk.take_actions():
            match action:
                case Up(event):
                    self.told.append(event)
                case Send(_, message):
                    self.sent.append(message)
                case Device(_, command):
                    self.commands.append(command)

    def half(self, sequence: int) -> PairId:
        pair = PairId("bc", 7, sequence)
        qubit = self.slots.take(Owner("network", pair))
        assert qubit is not None
        self.tail.pair(Half(pair, qubit, 0, werner(0.97, 0), 0.0, 0, self.desk.now))
        self.collect()
        return pair

    def track(self, pair: PairId, request: RequestId | None = None, **changes: Any) -> None:
        far = PairId("ab", 8, pair.sequence)
        whose = self.requests[0] if request is None else request
        track = CircuitTrack(CIRCUIT, far, pair, 2, werner(0.97, 0), 0.0, 0, whose)
        self.tail.tracked(evolve(track, **changes))
        self.collect()

    def read(self, outcome: int = 1) -> None:
        """The memory has measured what it was told to, at this age."""
        command = self.commands.pop(0)
        assert isinstance(command, MemoryMeasure)
        age = self.desk.now + MICROSECOND
        result = MemoryResult("c/memory", command.command, command.slot, Basis.X, outcome, age)
        self.desk.answered(result)
        self.collect()


# --- measured at once ---------------------------------------------------------------------------

MEASURED = {"kind": PairKind.MEASURE, "origin_plan": XYZ, "peer_plan": XYZ}


def test_a_half_to_be_measured_is_measured_when_it_comes_and_its_outcome_is_withheld() -> None:
    rig = TailRig(MEASURED)
    pair = rig.half(1)
    assert not rig.sent, "its track says that it is measured, and when"
    rig.read()
    assert not rig.slots.held(), "its memory is free"
    assert not rig.told, "nobody knows yet whether there is a pair"
    (track,) = rig.sent
    assert (track.measured, track.age_ns) == (True, MICROSECOND)
    rig.track(pair, measured=True)
    (told,) = rig.told
    assert isinstance(told, OutcomeReady)
    assert (told.outcome, told.basis, told.info.bell) == (1, Basis.X, 2)


def test_a_track_that_comes_while_a_half_is_measured_waits_for_the_outcome() -> None:
    rig = TailRig(MEASURED)
    pair = rig.half(1)
    rig.track(pair, measured=True)
    assert not rig.told
    rig.read()
    assert [type(event) for event in rig.told] == [OutcomeReady]


def test_measured_halves_do_not_age_at_either_end_while_words_travel_and_wait() -> None:
    goodness = []
    for measured in (True, False):
        rig = TailRig(MEASURED if measured else {})
        pair = rig.half(1)
        if measured:
            rig.read()
        rig.desk.now = T2
        rig.track(pair, measured=measured)
        (told,) = rig.told
        goodness.append(told.info.goodness)
    assert goodness[0] == pytest.approx(0.97, abs=1e-3), "T2 / 10,000 until it was read"
    assert goodness[1] < 0.7, "one half fades by 1 / e"


def test_a_track_of_a_measured_half_that_waits_at_a_node_does_not_age() -> None:
    rig = TailRig(MEASURED)
    rig.desk.now = T2
    rig.desk.storage_at = lambda node: rig.desk.storage("bc")
    track = CircuitTrack(CIRCUIT, PAIRS[0], PAIRS[0], 0, werner(0.97, 0), 0.0, 5, None, True)
    assert rig.desk.unparked(Parked(track, 0), "a") == track
    kept = rig.desk.unparked(Parked(evolve(track, measured=False), 0), "a")
    assert kept.weights[0] < 0.7


def test_a_half_that_expires_while_it_is_measured_or_after_gives_no_outcome() -> None:
    for early in (True, False):
        rig = TailRig(MEASURED)
        pair = rig.half(1)
        if early:
            rig.tail.expired(pair, "void")
        rig.read()
        if not early:
            rig.tail.expired(pair, "void")
        rig.track(pair, measured=True)
        assert not rig.told
        assert not rig.slots.held()
        assert not rig.tail.held


def test_a_measured_half_that_a_head_end_gives_to_be_kept_is_turned_back() -> None:
    """No head-end of ours does that: its circuits have requests of one manner."""
    rig = TailRig(MEASURED, {})
    pair = rig.half(1)
    rig.read()
    rig.track(pair, rig.requests[1])
    assert [type(m).__name__ for m in rig.sent] == ["CircuitTrack", "CircuitExpire"]
    assert not rig.told


def test_what_the_head_end_measured_for_a_request_that_ended_is_another_ones() -> None:
    rig = Rig(PairKind.MEASURE)
    other = Order(evolve(rig.request, id=RequestId("a", 1, 9)), OrderState.RUNNING, None)
    rig.half(PAIRS[0])
    rig.collect()
    rig.head.halt(rig.order, ErrorCode.OTHER, "enough")
    rig.head.orders[other.wanted.id] = other
    (command,) = rig.commands
    rig.desk.answered(MemoryResult("a/memory", command.command, command.slot, Basis.Z, 0, 0))
    rig.collect()
    (track,) = [message for message in rig.sent if isinstance(message, CircuitTrack)]
    assert (track.request, track.measured) == (other.wanted.id, True)
    rig.closed()
    assert [type(event) for event in rig.told] == [RequestEnded]
    rig.track(PAIRS[0])
    rig.collect()
    assert [type(event) for event in rig.told] == [RequestEnded, OutcomeReady]


# --- early ------------------------------------------------------------------------------------


def test_a_half_that_is_wanted_early_is_its_users_when_it_comes_and_a_notice_follows() -> None:
    rig = TailRig({"early": True, "number": 2})
    first, second = rig.half(1), rig.half(2)
    assert [type(event) for event in rig.told] == [HalfReady, HalfReady]
    qubits = {event.half: event.qubit for event in rig.told}
    assert all(rig.slots.holds(qubit, "application") for qubit in qubits.values())
    rig.told.clear()
    rig.track(first)
    rig.tail.expired(second, "cut off")
    rig.collect()
    yes, no = rig.told
    assert isinstance(yes, HalfConfirmed)
    assert (yes.half, yes.qubit, yes.info.pair) == (first, qubits[first], PairId("ab", 8, 1))
    assert yes.info.bell == 2
    assert isinstance(no, HalfDiscarded)
    assert (no.half, no.qubit, no.reason) == (second, qubits[second], "cut off")
    for qubit in qubits.values():
        assert rig.slots.holds(qubit, "application"), "a notice takes nothing back"


def test_no_more_is_handed_over_early_than_a_request_lacks() -> None:
    rig = TailRig({"early": True, "number": 1})
    first, second = rig.half(1), rig.half(2)
    assert [event.half for event in rig.told] == [first]
    rig.tail.expired(first, "cut off")
    rig.collect()
    assert [type(event) for event in rig.told] == [HalfReady, HalfDiscarded, HalfReady]
    assert rig.told[-1].half == second
    third = rig.half(3)
    rig.track(third)
    assert [type(event) for event in rig.told[3:]] == [HalfReady, HalfConfirmed]


def test_all_notices_of_a_request_come_before_its_end() -> None:
    rig = TailRig({"early": True, "number": 2})
    rig.half(1)
    rig.tail.completed(CircuitComplete(CIRCUIT, rig.requests[0], ErrorCode.OTHER, "enough"))
    rig.collect()
    assert [type(event) for event in rig.told] == [HalfReady, HalfDiscarded, RequestEnded]


def test_halves_that_were_handed_over_early_are_discarded_where_a_circuit_breaks() -> None:
    rig = TailRig({"early": True, "number": 2})
    pair = rig.half(1)
    rig.half(2)
    rig.track(pair)
    rig.tail.end(ErrorCode.OTHER, "lost")
    rig.collect()
    names = [type(event).__name__ for event in rig.told[2:]]
    assert names == ["HalfConfirmed", "PairExpired", "HalfDiscarded", "RequestEnded"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 4), st.integers(0, 600), st.booleans())
def test_of_each_half_that_users_had_early_one_notice_comes_and_both_ends_hear_alike(
    seed: int, hops: int, turns: int, cancel: bool
) -> None:
    """The lab's users measure some at once, and their outcomes fit the frames that come later."""
    lab = Lab(chain(hops), seed, comm=2, chances=Chances(swap_fails=0.1, void=0.02))
    head, tail = "n0", f"n{hops}"
    request = lab.create(head, tail, 4, early=True)
    if cancel:
        lab.run(turns)
        lab.cancel(lab.random.choice([head, tail]), request)
    lab.finish()
    assert lab.errors == []
    audit(lab)
    one, other = lab.users[head, request], lab.users[tail, request]
    assert one.valid == other.valid
    if not cancel:
        assert len(one.pairs) >= 4 or isinstance(ended(lab, head, request), RequestEnded)


# --- requests that share a circuit --------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.integers(2, 4),
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 150), st.integers(0, 300) | st.none()),
        min_size=2,
        max_size=5,
    ),
    st.booleans(),
)
def test_requests_come_and_go_on_a_circuit_and_each_pair_is_for_the_same_one_at_both_ends(
    seed: int, hops: int, plan: list[tuple[int, int, int | None]], measured: bool
) -> None:
    """Numbers, pauses, and after how long some are cancelled, while pairs and tracks fly.

    What epochs are for elsewhere: that both ends give each pair to the same of the requests.
    """
    lab = Lab(chain(hops), seed, comm=3, chances=Chances(swap_fails=0.1, void=0.02))
    head, tail = "n0", f"n{hops}"
    manner: dict[str, Any] = MEASURED if measured else {}
    pending: list[tuple[int, RequestId]] = []
    most = 0
    for number, pause, doomed in plan:
        request = lab.create(head, tail, number, weight=lab.random.choice([0.5, 1.0]), **manner)
        if doomed is not None:
            pending.append((doomed, request))
        most = max(most, len(lab.nodes[head].demand.circuits.members))
        lab.run(pause)
    for turns, request in pending:
        lab.run(turns)
        lab.cancel(lab.random.choice([head, tail]), request)
    lab.finish()
    assert lab.errors == []
    assert most == 1, "they share a circuit"
    audit(lab)
    owners: Counter[PairId] = Counter()
    for (name, _), user in lab.users.items():
        if name == head:
            owners.update(user.pairs.keys())
    assert set(owners.values()) <= {1}, "a pair is one request's"


def test_pairs_of_a_circuit_are_shared_by_weight_among_requests_that_want_some() -> None:
    """Two thirds and one third; who comes later has no claim to what was before."""
    turns = Turns()

    def order(number: int, weight: float) -> Order:
        request = evolve(request_of("a", 1, number), number=1_000, weight=weight)
        return Order(request, OrderState.RUNNING, None)

    def give(orders: list[Order], count: int) -> list[int]:
        got = Counter[int]()
        for sequence in range(count):
            chosen = min(orders, key=turns.rank)
            chosen.give(PairId("ab", len(got), sequence), turns)
            got[chosen.wanted.id.number] += 1
        return [got[number] for number in (1, 2, 3)]

    orders = [order(1, 2.0), order(2, 1.0)]
    assert give(orders, 300) == [200, 100, 0]
    orders.append(order(3, 1.0))
    assert give(orders, 400) == [200, 100, 100]
    orders[1] = Order(evolve(orders[1].wanted, priority=5), OrderState.RUNNING, None)
    assert give(orders, 50) == [0, 50, 0], "priority before turns"


def test_a_short_request_is_not_kept_waiting_by_a_long_one_on_its_circuit() -> None:
    lab = Lab(chain(2), 5, comm=3)
    long = lab.create("n0", "n2", 200)
    lab.run(400)
    short = lab.create("n0", "n2", 3)
    before = len(lab.users["n0", long].pairs)
    while not lab.users["n0", short].ends:
        assert lab.turn()
    assert isinstance(ended(lab, "n0", short), RequestDone)
    assert len(lab.users["n0", long].pairs) - before < 20
    lab.cancel("n0", long)
    lab.finish()
    audit(lab)


def test_a_tail_end_takes_no_request_that_its_circuit_cannot_serve_beside_the_others() -> None:
    lab = Lab(chain(2), 7, comm=4)
    first = lab.create("n0", "n2", 5_000)
    while not lab.users["n0", first].pairs:
        lab.turn()
    (member,) = lab.nodes["n0"].demand.circuits.members
    assert isinstance(member.part, Head)
    for changes in ({"early": True}, {"kind": PairKind.MEASURE}, {"within_ns": MILLISECOND}):
        identity = lab.nodes["n0"].desk.requests.next()
        request = evolve(lab.asked[first], id=identity, number=1, **changes)
        lab.asked[request.id] = request
        lab.users["n0", request.id].accepted = 1
        order = Order(request, OrderState.ASKED, None, patience=lab.now + SECOND)
        member.part.orders[request.id] = order
        lab.nodes["n0"].demand.circuits.forward(member.place.id, request)
        (action,) = lab.nodes["n0"].desk.take_actions()
        assert isinstance(action, Send)
        lab.wires["n0", "n1"].append(action.message)
        while not lab.users["n0", request.id].ends:
            lab.turn()
        end = ended(lab, "n0", request.id)
        assert isinstance(end, RequestEnded)
        assert end.code is ErrorCode.UNSUPPORTED


def test_a_set_that_nobody_asked_for_is_the_head_ends_mistake() -> None:
    rig = TailRig({}, {"within_ns": 5})
    for request in (rig.requests[0], RequestId("a", 1, 77)):
        with pytest.raises(RemoteProtocolError, match="nothing is gathered"):
            rig.tail.gathered(CircuitGather(CIRCUIT, request, (PAIRS[0],)))
    rig.tail.gathered(CircuitGather(CIRCUIT, rig.requests[1], (PAIRS[0],)))
    rig.collect()
    assert not rig.told, "one that is void here by now is not delivered"


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.integers(2, 4),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 250)), min_size=3, max_size=6),
    st.sampled_from([{}, MEASURED]),
)
def test_where_nothing_fails_no_pair_is_taken_back_however_requests_follow_each_other(
    seed: int, hops: int, plan: list[tuple[int, int]], manner: dict[str, Any]
) -> None:
    """Halves that one request left over may serve the next, or none: both ends know which."""
    lab = Lab(chain(hops), seed, comm=3, chances=Chances(hurry=0.0))
    for number, pause in plan:
        lab.create("n0", f"n{hops}", number, **manner)
        lab.run(pause)
    lab.finish()
    audit(lab)
    for (name, request), user in lab.users.items():
        assert isinstance(ended(lab, name, request), RequestDone)
        assert not any(delivery.expired for delivery in user.pairs.values())

"""Users, their requests and their qubits, against a scripted network layer."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.application.machine import MOST_ENDED, Application
from qstack.application.users import FromUser, UserDown, UserUp
from qstack.errors import ErrorCode
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Down, Send
from qstack.messages.application import (
    Answer,
    ApplyGate,
    Cancel,
    Created,
    CreateKeep,
    Drain,
    FreeQubit,
    Listen,
    Measured,
    MeasureQubit,
    PairExpired,
    PairReady,
    RequestDone,
    StopListen,
    Terms,
    Tried,
    TryPairs,
)
from qstack.messages.circuits import Method
from qstack.messages.common import PLAIN_Z, Basis, PairId, PairInfo, Qubit, RequestId
from qstack.messages.devices import Completed, Faulted, Gate, MemoryMeasure, MemoryResult
from qstack.network.service import (
    NetworkCancel,
    NetworkCreate,
    NetworkDrain,
    NetworkListen,
    NetworkTry,
    RequestAccepted,
    RequestIds,
    TryAnswer,
)
from qstack.physical.slots import Owner, Slots

INFO = PairInfo(PairId("ab", 1, 1), 2, 1, "s", 0.9, 0.8, 0, 0, True)
TERMS = Terms("bob", 2, 0.5, 0, 7, 0, 1.0, False, False)


class Bench:
    """One application machine with four slots."""

    def __init__(self) -> None:
        self.slots = Slots(range(4))
        self.machine = Application(
            "alice", RequestIds("alice", 99), "alice/memory", self.slots, CommandIds(), links={"ab"}
        )

    def do(self, event: Any) -> list[Any]:
        return self.machine.handle(event, 0)

    def says(self, user: str, message: Any) -> list[Any]:
        return self.do(FromUser(user, message))

    def create(self, user: str) -> RequestId:
        actions = self.says(user, CreateKeep(1, TERMS, False, None))
        assert isinstance(actions[0], Send)
        created = actions[0].message
        assert isinstance(created, Created)
        assert isinstance(actions[1], Down)
        assert isinstance(actions[1].request, NetworkCreate)
        return created.request

    def pair(self, request: RequestId) -> Qubit:
        qubit = self.slots.take(Owner("application", str(request)))
        assert qubit is not None
        self.do(PairReady(request, "bob", 7, INFO, qubit, None, None, False))
        return qubit


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.do(UserUp("u"))
    made.do(UserUp("v"))
    return made


def test_created_comes_before_anything_the_network_says(bench: Bench) -> None:
    actions = bench.says("u", CreateKeep(5, TERMS, False, None))
    assert actions[0] == Send("u", Created(5, RequestId("alice", 99, 1)))
    assert actions[1].request.remote == "bob"
    assert actions[1].request.request.number == 2


def test_measuring_consumes_the_qubit_and_frees_its_slot(bench: Bench) -> None:
    qubit = bench.pair(bench.create("u"))
    (device,) = bench.says("u", MeasureQubit(3, qubit, PLAIN_Z))
    assert isinstance(device, Device)
    assert isinstance(device.command, MemoryMeasure)
    result = MemoryResult("alice/memory", device.command.command, qubit.slot, Basis.Z, 1, 10)
    assert bench.do(result) == [Send("u", Measured(3, qubit, Basis.Z, 1, 10))]
    assert bench.slots.free() == 4
    assert bench.says("u", MeasureQubit(4, qubit, PLAIN_Z))[0].message.code is ErrorCode.CREATE


def test_a_second_measurement_of_a_busy_qubit_is_refused(bench: Bench) -> None:
    qubit = bench.pair(bench.create("u"))
    bench.says("u", MeasureQubit(3, qubit, PLAIN_Z))
    (refusal,) = bench.says("u", MeasureQubit(4, qubit, PLAIN_Z))
    assert refusal.message.reference == 4
    assert refusal.message.code is ErrorCode.CREATE


def test_a_qubit_of_another_user_can_neither_be_freed_nor_measured(bench: Bench) -> None:
    qubit = bench.pair(bench.create("u"))
    bench.says("v", FreeQubit(qubit))
    assert bench.slots.free() == 3
    (refusal,) = bench.says("v", MeasureQubit(1, qubit, PLAIN_Z))
    assert refusal.message.code is ErrorCode.CREATE


def test_a_stale_generation_of_a_slot_frees_nothing(bench: Bench) -> None:
    request = bench.create("u")
    old = bench.pair(request)
    bench.says("u", FreeQubit(old))
    new = bench.pair(request)
    assert new.slot == old.slot
    bench.says("u", FreeQubit(old))
    assert bench.slots.holds(new, "application")


def test_a_purpose_has_one_listener_and_is_announced_below(bench: Bench) -> None:
    assert bench.says("u", Listen(1, 7)) == [
        Down(NetworkListen(7, True)),
        Send("u", Answer(1, None, "")),
    ]
    (refusal,) = bench.says("v", Listen(1, 7))
    assert refusal.message.code is ErrorCode.NO_RESOURCES
    assert bench.says("u", StopListen(2, 7))[0] == Down(NetworkListen(7, False))


def test_pairs_of_an_accepted_request_go_to_the_listener(bench: Bench) -> None:
    bench.says("v", Listen(1, 7))
    request = RequestId("bob", 5, 1)
    bench.do(RequestAccepted(request, "bob", 7))
    qubit = bench.slots.take(Owner("application", "x"))
    assert qubit is not None
    pair = PairReady(request, "bob", 7, INFO, qubit, None, None, False)
    assert bench.do(pair) == [Send("v", pair)]


def test_an_accepted_request_without_listener_is_cancelled(bench: Bench) -> None:
    (down,) = bench.do(RequestAccepted(RequestId("bob", 5, 1), "bob", 7))
    assert isinstance(down.request, NetworkCancel)


def test_a_user_that_goes_leaves_nothing_behind(bench: Bench) -> None:
    bench.says("u", Listen(1, 7))
    request = bench.create("u")
    bench.pair(request)
    measured = bench.pair(request)
    (device,) = bench.says("u", MeasureQubit(3, measured, PLAIN_Z))
    actions = bench.do(UserDown("u", "silent"))
    assert Down(NetworkListen(7, False)) in actions
    cancels = [a.request for a in actions if isinstance(a, Down)]
    assert any(isinstance(c, NetworkCancel) and c.request == request for c in cancels)
    assert bench.slots.free() == 3, "the qubit under measurement waits for its result"
    fault = Faulted("alice/memory", device.command.command, "broken")
    assert bench.do(fault) == []
    assert bench.slots.free() == 4


def test_a_pair_that_expires_after_its_request_ended_is_still_told_to_its_user(
    bench: Bench,
) -> None:
    bench.do(UserUp("u"))
    bench.do(UserUp("v"))
    mine, theirs = bench.create("u"), bench.create("v")
    for request in (mine, theirs):
        bench.do(RequestDone(request, 1, 0))
    expired = PairExpired(mine, INFO.pair, "lost")
    assert bench.do(expired) == [Send("u", expired)]
    bench.do(UserDown("u", "left"))
    assert bench.do(expired) == []
    also = PairExpired(theirs, INFO.pair, "lost")
    assert bench.do(also) == [Send("v", also)]
    # Remembered are the latest; the first of so many is forgotten.
    for _ in range(MOST_ENDED):
        bench.do(RequestDone(bench.create("v"), 1, 0))
    assert bench.do(also) == []


def test_a_pair_that_comes_after_its_user_went_is_freed(bench: Bench) -> None:
    request = bench.create("u")
    bench.do(UserDown("u", "gone"))
    bench.pair(request)
    assert bench.slots.free() == 4
    assert bench.machine.counters["unclaimed"] == 1


def test_only_the_requester_may_cancel_and_only_while_it_runs(bench: Bench) -> None:
    request = bench.create("u")
    assert bench.says("v", Cancel(1, request))[0].message.code is ErrorCode.CREATE
    actions = bench.says("u", Cancel(2, request))
    assert isinstance(actions[1].request, NetworkCancel)
    bench.do(RequestDone(request, 2, 0))
    assert bench.says("u", Cancel(3, request))[0].message.code is ErrorCode.CREATE


def test_gates_keep_the_qubit_and_their_faults_are_reported(bench: Bench) -> None:
    request = bench.create("u")
    one, two = bench.pair(request), bench.pair(request)
    (device,) = bench.says("u", ApplyGate(1, Gate.CNOT, one, two, 0.0))
    done = bench.do(Completed("alice/memory", device.command.command))
    assert done == [Send("u", Answer(1, None, ""))]
    (device,) = bench.says("u", ApplyGate(2, Gate.X, one, None, 0.0))
    (answer,) = bench.do(Faulted("alice/memory", device.command.command, "laser off"))
    assert answer.message.code is ErrorCode.OTHER
    assert "laser off" in answer.message.reason
    assert bench.slots.free() == 2
    assert bench.says("u", ApplyGate(3, Gate.CNOT, one, one, 0.0))[0].message.code is not None


@pytest.mark.parametrize("link", [None, "ab"])
@pytest.mark.parametrize("drain", [True, False])
def test_a_user_drains_the_node_or_one_of_its_links_and_takes_it_back(
    bench: Bench, link: str | None, drain: bool
) -> None:
    actions = bench.says("u", Drain(4, link, drain))
    assert [a.request for a in actions if isinstance(a, Down)] == [NetworkDrain(link, drain)]
    assert actions[-1] == Send("u", Answer(4, None, ""))


def test_a_link_of_somebody_else_is_not_drained(bench: Bench) -> None:
    (refusal,) = bench.says("u", Drain(4, "bc", True))
    assert refusal == Send("u", Answer(4, ErrorCode.CREATE, "alice: no link 'bc' is here"))


def test_what_a_dry_run_finds_goes_to_the_user_who_asked_if_there_still_is_one(
    bench: Bench,
) -> None:
    terms = Terms("bob", 2, 0.5, 10, 7, 0, 1.0, False, False, 3)
    for user in ("u", "v"):
        (down,) = bench.says(user, TryPairs(8, terms))
        assert isinstance(down, Down)
        asked = down.request
        assert isinstance(asked, NetworkTry)
        assert (asked.remote, asked.trust_min) == ("bob", 3)
        wanted = asked.request
        assert (wanted.number, wanted.fidelity_min, wanted.remaining_ns) == (2, 0.5, 10)
        way = ("alice", "r", "bob"), ("ar", "rb")
        found = TryAnswer(wanted.id, None, "", *way, 5.0, 0.9, 20, 4.0, (7,), Method.NONE, 0)
        if user == "v":
            bench.do(UserDown("v", "left"))
            assert bench.do(found) == []
        else:
            tried = Tried(8, None, "", *way, 5.0, 4.0, 0.9, 20, (7,), Method.NONE, 0)
            assert bench.do(found) == [Send("u", tried)]

"""Two distilleries and a fake wire: alike whatever comes late, in disorder or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.machine import TICK, Device, Send
from qstack.messages.circuits import Method
from qstack.messages.common import Qubit
from qstack.messages.devices import Faulted, Gate, MemoryGate, Rejected
from qstack.messages.network import (
    DistilAges,
    DistilEnd,
    DistilInput,
    DistilOutcome,
    DistilRound,
    DistilVoid,
    TurnAxis,
)
from qstack.network.budget import Storage
from qstack.network.distillation.halves import HALF_TABLE, HalfState
from qstack.network.distillation.rounds import ROUND_TABLE, RoundState
from qstack.network.distillation.service import (
    Cause,
    Deliver,
    Discarded,
    Expire,
    PeerGone,
    Purified,
    PurifiedExpired,
    Stop,
)
from qstack.network.distillation.states import TABLE, DistilleryState
from qstack.physical.slots import Owner
from tests.network.distil_lab import (
    CIRCUIT,
    GOOD,
    NODES,
    OTHER,
    End,
    bench,
    deliver,
    deliver_to_both,
    names,
    pair_id,
    parameters,
)

# --- one thing at a time --------------------------------------------------------------------


def test_a_round_waits_at_the_other_end_until_its_pair_comes_there() -> None:
    rig = bench()
    deliver_to_both(rig, 1)
    deliver(rig, "alice", 2)
    rig.settle()
    assert rig.ends["bob"].ups == []
    deliver(rig, "bob", 2)
    rig.settle()
    assert [end.valid.keys() for end in rig.ends.values()] == [{pair_id(2)}] * 2


@pytest.mark.parametrize(
    ("method", "rounds"), [(Method.PUMPED_DEJMPS, 1), (Method.NESTED_DEJMPS, 2)]
)
def test_one_pair_is_pumped_at_a_time_while_nested_rounds_go_side_by_side(
    method: Method, rounds: int
) -> None:
    rig = bench(method, rounds=2)
    for number in range(4):
        deliver(rig, "alice", number)
    assert len(rig.commands["alice"]) == rounds


def test_the_leading_end_turns_one_way_and_the_other_end_the_other() -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    angles: dict[str, list[float]] = {node: [] for node in NODES}
    for _ in range(20):
        for node in NODES:
            for command in rig.commands[node]:
                if isinstance(command, MemoryGate) and command.gate is Gate.RX:
                    angles[node].append(command.angle)
            rig.work(node)
            rig.arrive(node)
    assert angles == {
        "alice": [pytest.approx(1.5707963)] * 2,
        "bob": [pytest.approx(-1.5707963)] * 2,
    }


def test_unlike_outcomes_discard_both_pairs_at_both_ends() -> None:
    rig = bench()
    for node in NODES:
        deliver(rig, node, 1)
        deliver(rig, node, 2, error=2)
    rig.settle()
    for node in NODES:
        (lost,) = rig.ends[node].ups
        assert (set(lost.pairs), lost.cause) == (names((1, 2)), Cause.UNLIKE)
        assert rig.ends[node].slots.held() == {}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("number", [1, 2])
def test_a_pair_that_expires_after_it_was_spent_voids_what_was_made_of_it(
    node: str, number: int
) -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    rig.settle()
    rig.step(node, Expire(pair_id(number), "one end never had it"))
    rig.settle()
    for end in rig.ends.values():
        (expired,) = end.all(PurifiedExpired)
        assert (expired.pair, expired.reason) == (pair_id(2), "one end never had it")
    rig.step(node, Expire(pair_id(3 - number), "this one too"))
    assert not any(rig.wires.values())


@pytest.mark.parametrize("done", range(4))
def test_a_pair_that_expires_while_the_leading_end_works_costs_its_partner_at_both_ends(
    done: int,
) -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    for _ in range(done):
        rig.work("alice")
    rig.step("bob", Expire(pair_id(1), "it never came"))
    rig.settle()
    for end in rig.ends.values():
        assert end.fates() == dict.fromkeys(names((1, 2)), 1)
        assert end.slots.held() == {}


def test_a_round_is_given_up_at_once_when_the_pair_that_it_waits_for_expires() -> None:
    rig = bench()
    deliver_to_both(rig, 1)
    deliver(rig, "alice", 2)
    rig.settle()
    rig.step("bob", Expire(pair_id(2), "void"))
    assert rig.ends["bob"].slots.held() == {}
    rig.settle()
    assert rig.ends["alice"].slots.held() == {}


def test_a_round_with_a_pair_that_is_void_already_is_answered_with_both_its_names() -> None:
    rig = bench()
    deliver(rig, "bob", 2)
    rig.step("bob", DistilVoid(CIRCUIT, (pair_id(1),), "void"))
    assert not rig.wires["alice"]
    rig.step("bob", announcement())
    (answer,) = rig.wires["alice"]
    assert isinstance(answer, DistilVoid)
    assert set(answer.pairs) == names((1, 2))
    assert rig.ends["bob"].slots.held() == {}


def test_a_lost_peer_may_not_know_of_what_was_handed_over_so_that_expires() -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    rig.settle()
    for node in NODES:
        rig.step(node, PeerGone("silent"))
        (expired,) = rig.ends[node].all(PurifiedExpired)
        assert (expired.pair, expired.reason) == (pair_id(2), f"{OTHER[node]} is lost: silent")
        assert rig.ends[node].machine.over


def test_a_pair_that_was_void_before_it_came_is_given_back_at_once() -> None:
    rig = bench()
    rig.step("alice", Expire(pair_id(1), "void"))
    rig.settle()
    for node in NODES:
        deliver(rig, node, 1)
        (lost,) = rig.ends[node].ups
        assert (lost.pairs, lost.cause) == ((pair_id(1),), Cause.EXPIRED)
        assert rig.ends[node].slots.held() == {}


def test_a_purified_pair_may_become_void_while_its_next_round_is_on_the_way() -> None:
    rig = bench(rounds=2)
    deliver_to_both(rig, 1, 2, 3, 4)
    while not any(message.number == 3 for message in rig.wires["bob"]):
        rig.arrive("bob")
        for node in NODES:
            rig.work(node)
        rig.arrive("alice")
    (message,) = rig.wires["bob"]
    rig.step("bob", Expire(message.spent.pair, "void"))
    rig.settle()
    for end in rig.ends.values():
        assert end.fates() == dict.fromkeys(names((1, 2, 3, 4)), 1)
        assert end.slots.held() == {}


@pytest.mark.parametrize(("later", "expired"), [(100, 1), (101, 0)])
def test_after_its_horizon_a_purified_pair_no_longer_expires(later: int, expired: int) -> None:
    rig = bench(horizon_ns=100)
    deliver_to_both(rig, 1, 2)
    while not rig.ends["bob"].ups:
        for node in NODES:
            rig.work(node)
            rig.arrive(node)
    handed_over = rig.ends["bob"].all(Purified)[0].age_ns + 4  # bob's half came at 4
    rig.ends["bob"].step(PeerGone("silent"), handed_over + later)
    assert len(rig.ends["bob"].all(PurifiedExpired)) == expired
    rig.ends["bob"].step(TICK, handed_over + 101)
    assert rig.ends["bob"].machine.over


def test_an_ended_distillery_is_over_when_its_last_report_can_be_forgotten() -> None:
    rig = bench(horizon_ns=100)
    deliver_to_both(rig, 1, 2)
    rig.settle()
    rig.step("alice", Stop("enough"))
    machine = rig.ends["alice"].machine
    assert not machine.over
    rig.tick("alice")
    assert machine.over
    assert machine.deadline is None


def test_an_end_that_stops_takes_back_what_only_the_other_end_handed_over() -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    for _ in range(4):
        rig.work("alice")
    rig.arrive("bob")
    for _ in range(4):
        rig.work("bob")
    assert rig.ends["bob"].valid.keys() == {pair_id(2)}
    rig.step("alice", Stop("enough"))
    rig.settle()
    assert [end.valid for end in rig.ends.values()] == [{}, {}]


def test_a_peer_that_does_not_answer_in_time_costs_the_round() -> None:
    rig = bench(patience_ns=50)
    deliver_to_both(rig, 1, 2)
    for _ in range(4):
        rig.work("alice")
    held = rig.wires["bob"].popleft()
    rig.tick("alice")
    (lost,) = rig.ends["alice"].ups
    assert (set(lost.pairs), lost.cause) == (names((1, 2)), Cause.LATE)
    rig.wires["bob"].appendleft(held)
    rig.settle()
    for end in rig.ends.values():
        assert end.valid == {}
        assert end.slots.held() == {}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("done", range(4))
def test_a_device_that_fails_costs_both_pairs_at_both_ends(node: str, done: int) -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    while not rig.commands[node]:
        rig.work("alice")
        rig.arrive("bob")
    for _ in range(done):
        rig.work(node)
    (command,) = rig.commands[node]
    rig.commands[node].clear()
    rig.step(node, Rejected(command.device, command.command, False, "not coupled"))
    rig.settle()
    (lost,) = rig.ends[node].all(Discarded)
    assert (lost.cause, lost.reason) == (Cause.FAULT, f"{node}.memory: not coupled")
    for end in rig.ends.values():
        assert end.fates() == dict.fromkeys(names((1, 2)), 1)
        assert end.slots.held() == {}


def test_a_void_half_is_freed_only_when_its_device_is_done() -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    rig.step("alice", Stop("enough"))
    alice = rig.ends["alice"]
    assert alice.machine.state is DistilleryState.ENDING
    assert len(alice.machine.held) == 2
    assert alice.ups == []
    rig.work("alice")
    assert rig.commands["alice"] == []
    assert [type(message) for message in rig.wires["bob"]] == [DistilEnd]
    alice.assert_all_given_back()
    assert alice.slots.held() == {}


CAUSES = {"alice": Cause.EXPIRED, "bob": Cause.FAULT}


def test_ends_that_announce_different_bell_states_purify_nothing() -> None:
    rig = bench()
    for node in NODES:
        deliver(rig, node, 1)
        deliver(rig, node, 2, bell=NODES.index(node), error=1)  # bob is told 1, the truth is 0
    rig.settle()
    for end in rig.ends.values():
        (lost,) = end.ups
        assert (set(lost.pairs), lost.cause) == (names((1, 2)), CAUSES[end.node])
        assert end.slots.held() == {}


@pytest.mark.parametrize(("exponent", "kept"), [(1.0, 2), (2.0, 2), (0.5, 1)])
def test_of_two_pairs_that_meet_the_one_that_fades_less_from_then_on_is_kept(
    exponent: float, kept: int
) -> None:
    fading = Storage(0, 1_000_000, exponent)
    rig = bench(storage=(fading, fading))
    deliver_to_both(rig, 1)
    rig.now += 1_000
    deliver_to_both(rig, 2)
    rig.settle()
    for end in rig.ends.values():
        assert end.valid.keys() == {pair_id(kept)}


def test_a_pair_that_comes_after_the_end_is_given_back_at_once() -> None:
    rig = bench()
    rig.step("alice", Stop("enough"))
    deliver(rig, "alice", 1)
    alice = rig.ends["alice"]
    assert alice.slots.held() == {}
    assert alice.fates() == {pair_id(1): 1}


# --- what is refused ------------------------------------------------------------------------


def announcement(**changes: Any) -> DistilRound:
    ages = DistilAges(0, 5)
    values: dict[str, Any] = {
        "circuit": CIRCUIT,
        "number": 1,
        "kept": DistilInput(pair_id(1), 0, GOOD, TurnAxis.X, ages),
        "spent": DistilInput(pair_id(2), 0, GOOD, TurnAxis.X, ages),
        "outcome": 0,
        "sent_ns": 5,
    }
    return DistilRound(**(values | changes))


def given_pair(number: int = 1, **changes: Any) -> DistilInput:
    values: dict[str, Any] = {
        "pair": pair_id(number),
        "bell": 0,
        "weights": GOOD,
        "turn": TurnAxis.X,
        "ages": DistilAges(0, 5),
    }
    return DistilInput(**(values | changes))


@pytest.mark.parametrize(
    "message",
    [
        announcement(number=0),
        announcement(outcome=2),
        announcement(kept=given_pair(2)),
        announcement(kept=given_pair(bell=4)),
        announcement(kept=given_pair(weights=(0.5, 0.0, 0.0, 0.0))),
        announcement(kept=given_pair(weights=(1.5, -0.5, 0.0, 0.0))),
        announcement(kept=given_pair(turn=TurnAxis.Y)),
        announcement(kept=given_pair(ages=DistilAges(6, 5))),
        announcement(sent_ns=4),
        announcement(kept=given_pair(3)),
        DistilOutcome(CIRCUIT, 1, 0, DistilAges(0, 0), DistilAges(0, 0), 0),
    ],
)
def test_what_the_leading_end_must_not_say_changes_nothing(message: Any) -> None:
    rig = bench()
    deliver_to_both(rig, 3, 4)
    rig.settle()
    for number in (1, 2):
        deliver(rig, "bob", number)
    bob = rig.ends["bob"]
    before = bob.machine.held, bob.ups.copy()
    with pytest.raises(RemoteProtocolError):
        bob.machine.handle(message, rig.now)
    assert (bob.machine.held, bob.ups) == before
    rig.step("bob", announcement())
    assert rig.commands["bob"]


@pytest.mark.parametrize(
    "message",
    [
        announcement(),
        DistilOutcome(CIRCUIT, 1, 0, DistilAges(0, 0), DistilAges(0, 0), 0),
        DistilOutcome(CIRCUIT, 2, 0, DistilAges(0, 0), DistilAges(0, 0), 0),
        DistilOutcome(CIRCUIT, 0, 0, DistilAges(0, 0), DistilAges(0, 0), 0),
    ],
)
def test_what_the_other_end_must_not_say_changes_nothing(message: Any) -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    with pytest.raises(RemoteProtocolError):
        rig.ends["alice"].machine.handle(message, rig.now)
    rig.settle()
    assert rig.ends["alice"].valid.keys() == {pair_id(2)}


@pytest.mark.parametrize(
    ("outcome", "kept"), [(2, DistilAges(0, 0)), (0, DistilAges(1, 0)), (0, DistilAges(0, 1))]
)
def test_an_outcome_that_cannot_be_changes_nothing(outcome: int, kept: DistilAges) -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    for _ in range(4):
        rig.work("alice")
    answer = DistilOutcome(CIRCUIT, 1, outcome, kept, DistilAges(0, 0), 0)
    with pytest.raises(RemoteProtocolError):
        rig.ends["alice"].machine.handle(answer, rig.now)
    rig.settle()
    assert rig.ends["alice"].valid.keys() == {pair_id(2)}


def test_a_peer_cannot_announce_rounds_without_end() -> None:
    rig = bench()
    for number in range(1, 257):
        one, other = (given_pair(2 * number + place) for place in (0, 1))
        rig.step("bob", announcement(number=number, kept=one, spent=other))
    one, other = (given_pair(2 * 257 + place) for place in (0, 1))
    with pytest.raises(RemoteProtocolError, match="256"):
        rig.step("bob", announcement(number=257, kept=one, spent=other))


def test_a_peer_cannot_let_pairs_of_unequal_rounds_meet_in_a_nested_plan() -> None:
    rig = bench(rounds=2)
    deliver_to_both(rig, 3, 4)
    rig.settle()
    deliver(rig, "bob", 1)
    with pytest.raises(RemoteProtocolError, match="do not meet"):
        rig.step("bob", announcement(number=2, kept=given_pair(4), spent=given_pair(1)))


@pytest.mark.parametrize("answer", [True, False])
def test_messages_after_the_end_say_nothing(answer: bool) -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    rig.step("bob", Stop("enough"))
    late = announcement() if answer else DistilVoid(CIRCUIT, (pair_id(1),), "late")
    rig.step("bob", late)
    assert rig.commands["bob"] == []
    assert rig.ends["bob"].slots.held() == {}


def test_a_peer_may_keep_the_fresh_pair_of_a_pumped_plan_and_the_rounds_count_on() -> None:
    ready = []
    for outcome in (0, 1):  # One of them is what alice would have read.
        rig = bench(Method.PUMPED_DEJMPS, rounds=2)
        deliver_to_both(rig, 1, 2)
        rig.settle()
        deliver(rig, "bob", 3)
        two = {"kept": given_pair(3), "spent": given_pair(2)}
        rig.step("bob", announcement(number=2, outcome=outcome, **two))
        for _ in range(4):
            rig.work("bob")
        ready += rig.ends["bob"].all(Purified)
    ((pair, rounds, consumed),) = ((each.pair, each.rounds, each.consumed) for each in ready)
    assert (pair, rounds, consumed) == (pair_id(3), 2, (pair_id(2), pair_id(1)))


def test_our_own_caller_is_told_loudly_what_it_did_wrong() -> None:
    rig = bench()
    alice = rig.ends["alice"]
    qubit, event = alice.delivered(pair_id(1), 0, GOOD)
    rig.step("alice", event)
    foreign = alice.slots.take(Owner("link", 0))
    assert foreign is not None
    for wrong in (
        Deliver(pair_id(1), qubit, 0, GOOD, 0),
        Deliver(pair_id(2), foreign, 0, GOOD, 0),
        Deliver(pair_id(2), Qubit(63, 9), 0, GOOD, 0),
        alice.delivered(pair_id(2), 4, GOOD)[1],
        alice.delivered(pair_id(2), 0, (2.0, 0.0, 0.0, 0.0))[1],
        alice.delivered(pair_id(2), 0, GOOD, -1)[1],
    ):
        with pytest.raises(LocalProtocolError):
            rig.step("alice", wrong)
    with pytest.raises((LocalProtocolError, TypeError)):  # the second of compiled machines
        rig.step("alice", "nonsense")


@pytest.mark.parametrize(
    ("method", "rounds"),
    [
        (Method.NONE, 0),
        (Method.NESTED_DEJMPS, 0),
        (Method.NESTED_BBPSSW, 7),
        (Method.PUMPED_DEJMPS, 17),
    ],
)
def test_no_distillery_is_made_for_what_is_no_plan(method: Method, rounds: int) -> None:
    with pytest.raises(LocalProtocolError):
        End(parameters("alice", method, rounds))


def test_the_terminal_events_of_others_commands_are_ignored() -> None:
    rig = bench()
    deliver_to_both(rig, 1, 2)
    assert rig.ends["alice"].machine.handle(Faulted("alice.memory", 99, "not ours"), 3) == []
    rig.settle()
    assert rig.ends["alice"].valid.keys() == {pair_id(2)}


def test_every_state_has_a_row_and_every_row_leads_to_states_that_exist() -> None:
    for table, states in (
        (TABLE, DistilleryState),
        (HALF_TABLE, HalfState),
        (ROUND_TABLE, RoundState),
    ):
        assert set(table) == set(states)
        for row in table.values():
            assert all(after and after <= set(states) for after in row.values())


def test_the_peer_is_told_of_an_end_once_and_with_its_reason() -> None:
    rig = bench()
    deliver_to_both(rig, 1)
    actions = rig.ends["bob"].machine.handle(Stop("enough"), rig.now)
    assert [each for each in actions if isinstance(each, Send)] == [
        Send("alice", DistilEnd(CIRCUIT, (pair_id(1),), "enough"))
    ]
    assert rig.ends["bob"].machine.handle(Stop("more"), rig.now) == []
    assert not [each for each in actions if isinstance(each, Device)]
    assert rig.ends["bob"].machine.handle(TICK, rig.now) == []

"""Requests of two link ends over a fake wire: OKs, ends, refusals."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from qstack.link.machine import Link, LinkPeerDown, LinkPeerUp
from qstack.link.service import (
    LinkAccepted,
    LinkCreate,
    LinkDone,
    LinkExpired,
    LinkFailed,
    LinkListen,
    LinkOutcomeReady,
    LinkPairReady,
)
from qstack.machine import Down, Send
from qstack.messages.common import BasisPlan, BasisSet, PairKind, RequestId
from qstack.messages.devices import MemoryGate
from qstack.messages.link import LinkEnd, LinkExpire, LinkRemove, LinkRequest
from qstack.physical.service import KeptReady, Rest, Serve
from qstack.physical.slots import Owner
from qstack.units import MILLISECOND
from tests.link.link_rig import CYCLE, DELAY, HORIZON, Rig, request

ENDS = ("alice", "bob")


@pytest.mark.parametrize("origin", ENDS)
@pytest.mark.parametrize("kind", list(PairKind))
def test_both_ends_report_the_same_pairs_in_the_same_order_and_are_done(
    origin: str, kind: PairKind
) -> None:
    rig = Rig()
    wanted = rig.create(request(origin, 7, kind=kind))
    rig.run(20 * MILLISECOND)
    rig.alike(wanted)
    rig.no_leak()
    assert rig.ends[origin].pairs(wanted) == list(range(1, 8))
    for end in rig.ends.values():
        assert len(end.of(LinkDone, wanted)) == 1
        assert end.of(LinkDone, wanted)[0].delivered == 7
        assert len(end.of(LinkAccepted)) == (end.name != origin)


def test_the_infos_of_a_pair_differ_in_nothing_but_whose_it_is() -> None:
    rig = Rig(test_rate=0.3)
    wanted = rig.create(request("bob", 40))
    rig.run(100 * MILLISECOND)
    rig.alike(wanted)
    alice, bob = (rig.ends[n].of(LinkPairReady, wanted) for n in ENDS)
    assert len(alice) == 40
    for one, two in zip(alice, bob, strict=True):
        assert one.info == attrs.evolve(two.info, origin=False)
        assert two.info.origin
        assert one.info.goodness_low <= one.info.goodness
        assert one.info.goodness_low >= 0.6


def test_create_errors_come_once_and_nothing_is_sent() -> None:
    rig = Rig()
    rig.run(MILLISECOND)
    alice = rig.ends["alice"]
    bad_plan = BasisPlan(BasisSet.XZ, 0.9, 0.9, 0.0, 0.0, 0.0)
    for wanted in (
        request("alice", 0),
        request("alice", 1, fidelity_min=1.5),
        request("alice", 1, remaining_ns=-1),
        request("alice", 1, weight=0.0),
        request("alice", 1, final_bell=4),
        request("alice", 1, origin_plan=bad_plan),
        request("carol", 1),
        request("bob", 1),
    ):
        rig.step(alice, LinkCreate(wanted))
        assert [u.code for u in alice.of(LinkFailed, wanted.id)] == [ErrorCode.CREATE]
        assert not any(isinstance(action, Send) for action in alice.log[-1][2])


def _failure(rig: Rig, wanted: LinkRequest) -> tuple[ErrorCode, str]:
    rig.create(wanted)
    rig.run(5 * MILLISECOND)
    (failed,) = rig.ends[wanted.id.origin].terminal(wanted.id)
    assert isinstance(failed, LinkFailed)
    return failed.code, failed.reason


def test_unattainable_fidelity_is_unsupported_and_says_what_could_be_had() -> None:
    code, reason = _failure(Rig(), request("alice", 1, fidelity_min=0.99))
    assert code is ErrorCode.UNSUPPORTED
    assert "0.9900" in reason


def test_kept_pairs_are_unsupported_where_the_link_only_measures() -> None:
    assert _failure(Rig(keep=False), request("bob", 1))[0] is ErrorCode.UNSUPPORTED


def test_a_time_below_the_physical_minimum_is_unsupported() -> None:
    least = 2 * DELAY + CYCLE
    code, _ = _failure(Rig(), request("alice", 1, remaining_ns=least - 1))
    assert code is ErrorCode.UNSUPPORTED


def test_no_time_is_said_when_the_queue_ahead_takes_longer() -> None:
    rig = Rig()
    rig.success = 0.0
    rig.create(request("alice", 10_000))
    rig.run(MILLISECOND)
    code, _ = _failure(rig, request("alice", 1, remaining_ns=10 * MILLISECOND))
    assert code is ErrorCode.NO_TIME


@pytest.mark.parametrize("store", [False, True])
def test_an_atomic_request_beyond_the_memory_has_no_resources(store: bool) -> None:
    wanted = request("alice", 3, atomic=True, store=store)
    assert _failure(Rig(), wanted)[0] is ErrorCode.NO_RESOURCES


@pytest.mark.parametrize("origin", ENDS)
def test_a_purpose_without_a_rule_is_rejected_by_the_peer(origin: str) -> None:
    rig = Rig()
    code, reason = _failure(rig, request(origin, 1, purpose=9))
    assert code is ErrorCode.REJECTED
    assert "purpose 9" in reason
    assert rig.sequence == 0


@pytest.mark.parametrize("origin", ENDS)
def test_a_full_queue_rejects_and_loses_nothing_that_was_accepted(origin: str) -> None:
    rig = Rig(queue_limit=3)
    rig.success = 0.0
    ids = [rig.create(request("alice", 1)) for _ in range(3)]
    rig.run(MILLISECOND)
    assert _failure(rig, request(origin, 1))[0] is ErrorCode.REJECTED
    rig.success = 1.0
    rig.run(5 * MILLISECOND)
    for wanted in ids:
        rig.alike(wanted)
        assert rig.ends["bob"].of(LinkDone, wanted)


def test_a_request_without_a_peer_fails_at_once() -> None:
    rig = Rig()
    rig.generation += 1
    rig.step(rig.ends["alice"], LinkPeerDown("silent"))
    assert _failure(rig, request("alice", 1))[0] is ErrorCode.OTHER


def test_no_longer_listening_lets_running_requests_finish() -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 5))
    rig.run(4 * DELAY)
    rig.step(rig.ends["bob"], LinkListen(1, False))
    rig.run(5 * MILLISECOND)
    rig.alike(wanted)
    assert _failure(rig, request("alice", 1))[0] is ErrorCode.REJECTED


@pytest.mark.parametrize("origin", ENDS)
@pytest.mark.parametrize("stopper", ENDS)
def test_deadline_while_generating_stops_attempts_before_telling_the_peer(
    origin: str, stopper: str
) -> None:
    rig = Rig()
    rig.success = 0.0
    other = "bob" if stopper == "alice" else "alice"
    wanted = rig.create(request(origin, 50, remaining_ns=3 * MILLISECOND))
    rig.run(2 * MILLISECOND)
    # Only this end's clock shall strike: the other hears of it by message.
    rig.ends[other].link._board.requests[wanted].deadline = None
    rig.run(4 * MILLISECOND)
    rig.alike(wanted)
    for _, _, actions in rig.ends[stopper].log:
        told = [a for a in actions if isinstance(a, Send)]
        if any(isinstance(a.message, LinkEnd | LinkRemove) for a in told):
            stops = [
                n
                for n, a in enumerate(actions)
                if isinstance(a, Down) and isinstance(a.request, Rest)
            ]
            tells = [n for n, a in enumerate(actions) if isinstance(a, Send)]
            assert stops
            assert stops[0] < tells[0]
            break
    else:
        pytest.fail("the peer was never told")
    for end in rig.ends.values():
        assert end.of(LinkFailed, wanted)[0].code is ErrorCode.TIMEOUT


@pytest.mark.parametrize("origin", ENDS)
def test_heralds_in_flight_at_the_deadline_are_still_delivered_at_both_ends(origin: str) -> None:
    rig = Rig()
    deadline = 30 * DELAY + 7_000
    wanted = rig.create(request(origin, 100, remaining_ns=deadline))
    rig.run(60 * DELAY)
    rig.alike(wanted)
    rig.no_leak()
    made = [s for s, r, _ in rig.history if r == wanted]
    assert any(at > deadline - DELAY for _, _, at in rig.history)
    assert rig.ends["alice"].pairs(wanted) == made
    assert rig.ends["bob"].of(LinkFailed, wanted)[0].code is ErrorCode.TIMEOUT
    assert rig.ends["bob"].of(LinkFailed, wanted)[0].delivered == len(made)


def test_a_silent_station_delays_the_end_by_no_more_than_the_grace() -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 5, remaining_ns=2 * MILLISECOND))
    rig.success = 0.0
    rig.run(MILLISECOND)
    for end in rig.ends.values():
        end.hears_station = False
    rig.run(15 * MILLISECOND)
    rig.alike(wanted)
    assert rig.ends["bob"].of(LinkFailed, wanted)[0].code is ErrorCode.TIMEOUT


@pytest.mark.parametrize("origin", ENDS)
@pytest.mark.parametrize("who", ENDS)
@settings(max_examples=25, deadline=None)
@given(moment=st.integers(0, 1_500_000), seed=st.integers(0, 99))
def test_cancel_at_either_end_at_any_moment_ends_once_and_alike(
    origin: str, who: str, moment: int, seed: int
) -> None:
    rig = Rig(seed)
    rig.success = 0.3
    wanted = request(origin, 6)
    rig.create(wanted)
    rig.run(moment)
    rig.cancel(who, wanted.id)
    rig.run(30 * MILLISECOND)
    rig.no_leak()
    creator, other = rig.ends[origin], rig.ends["bob" if origin == "alice" else "alice"]
    assert len(creator.terminal(wanted.id)) == 1
    if other.of(LinkAccepted):
        rig.alike(wanted.id)
    else:
        assert other.terminal(wanted.id) == []


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_delays_and_mixtures_end_every_request_once_and_alike(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 10_000))
    rig = Rig(seed, test_rate=0.2, scheduler=data.draw(st.sampled_from(_SCHEDULERS)))
    dice = rig.chance.fork("delays")
    rig.wire_ns = lambda: DELAY // 2 + dice.below(8 * DELAY)
    rig.herald_ns = lambda: DELAY // 2 + dice.below(4 * DELAY)
    rig.success = 0.5
    made = []
    for _ in range(data.draw(st.integers(1, 5))):
        wanted = request(
            data.draw(st.sampled_from(ENDS)),
            data.draw(st.integers(1, 5)),
            kind=data.draw(st.sampled_from(list(PairKind))),
            priority=data.draw(st.integers(0, 2)),
            consecutive=data.draw(st.booleans()),
            store=data.draw(st.booleans()),
            final_bell=data.draw(st.sampled_from([None, 0, 3])),
            remaining_ns=data.draw(st.sampled_from([0, 0, 40 * DELAY])),
        )
        rig.missing["alice"].update(data.draw(st.sets(st.integers(1, 12), max_size=2)))
        rig.missing["bob"].update(data.draw(st.sets(st.integers(1, 12), max_size=2)))
        made.append(rig.create(wanted))
        rig.run(data.draw(st.integers(0, 10 * DELAY)))
        if data.draw(st.integers(0, 4)) == 0:
            rig.cancel(data.draw(st.sampled_from(ENDS)), data.draw(st.sampled_from(made)))
        if data.draw(st.integers(0, 4)) == 0:
            who = data.draw(st.sampled_from(ENDS))
            rig.lose_station(who)
            rig.run(data.draw(st.integers(0, 10 * DELAY)))
            rig.find_station(who)
    rig.run(100 * MILLISECOND)
    rig.run(HORIZON)
    rig.no_leak()
    for identifier in made:
        creator = rig.ends[identifier.origin]
        other = rig.ends["bob" if identifier.origin == "alice" else "alice"]
        assert len(creator.terminal(identifier)) == 1
        if other.terminal(identifier):
            rig.alike(identifier)
        else:
            assert creator.valid(identifier) == []


_SCHEDULERS = ["first-come", "strict-priority", "weighted-fair"]


def test_priority_overtakes_at_the_next_pair_but_never_inside_an_atomic_request() -> None:
    for atomic in (False, True):
        rig = Rig(scheduler="strict-priority")
        slow = rig.create(request("alice", 2, consecutive=atomic))
        while rig.sequence < 1:
            rig.run(CYCLE)
        rig.success = 0.0
        rig.run(4 * DELAY)
        urgent = rig.create(request("bob", 1, priority=5))
        rig.run(10 * DELAY)
        rig.success = 1.0
        rig.run(100 * MILLISECOND)
        rig.alike(slow)
        rig.alike(urgent)
        assert rig.ends["alice"].pairs(urgent) == ([3] if atomic else [2])


def test_an_atomic_request_has_all_its_pairs_in_memory_at_once() -> None:
    rig = Rig()
    rig.hold_ns = 10 * MILLISECOND
    wanted = rig.create(request("alice", 2, atomic=True))
    rig.run(3 * MILLISECOND)
    assert len(rig.ends["bob"].of(LinkPairReady, wanted)) == 2
    for end in rig.ends.values():
        assert len(end.slots.held()) == 2
    rig.run(20 * MILLISECOND)
    rig.alike(wanted)


def test_weighted_fair_shares_are_within_a_tenth_under_saturation() -> None:
    """Deterministic, 400 pairs; no chance is involved in whose turn it is."""
    rig = Rig(scheduler="weighted-fair")
    one = rig.create(request("alice", 10_000, weight=3.0, kind=PairKind.MEASURE))
    two = rig.create(request("bob", 10_000, weight=1.0, kind=PairKind.MEASURE))
    while rig.sequence < 400:
        rig.run(MILLISECOND)
    counts = [len(rig.ends["alice"].pairs(wanted)) for wanted in (one, two)]
    share = counts[0] / sum(counts)
    assert abs(share - 0.75) < 0.075


@pytest.mark.parametrize("target", range(4))
@pytest.mark.parametrize("heralded", range(4))
@pytest.mark.parametrize("origin", ENDS)
def test_exactly_one_party_corrects_and_both_name_the_final_state(
    origin: str, heralded: int, target: int
) -> None:
    rig = Rig()
    rig.force_bell = heralded
    wanted = rig.create(request(origin, 2, final_bell=target))
    rig.run(10 * MILLISECOND)
    rig.alike(wanted)
    gates = {
        end.name: [
            a.command.gate.name
            for _, _, actions in end.log
            for a in actions
            if hasattr(a, "command") and isinstance(a.command, MemoryGate)
        ]
        for end in rig.ends.values()
    }
    expected = {0: [], 1: ["Z"], 2: ["X"], 3: ["Y"]}[heralded ^ target]
    assert gates[origin] == expected * 2
    assert gates["bob" if origin == "alice" else "alice"] == []
    for end in rig.ends.values():
        assert [u.info.bell for u in end.of(LinkPairReady, wanted)] == [target, target]


def test_stored_pairs_end_in_storage_and_free_the_communication_memory() -> None:
    rig = Rig()
    rig.hold_ns = None
    wanted = rig.create(request("alice", 2, store=True))
    rig.run(5 * MILLISECOND)
    rig.alike(wanted)
    for end in rig.ends.values():
        assert [u.qubit.slot for u in end.of(LinkPairReady, wanted)] == [2, 3]
        assert end.slots.free("communication") == 2


def test_a_half_that_waits_for_storage_goes_there_when_a_slot_comes_free() -> None:
    rig = Rig()
    rig.hold_ns = HORIZON // 4
    wanted = rig.create(request("alice", 6, store=True))
    rig.run(2 * HORIZON)
    rig.alike(wanted)
    rig.no_leak()
    for end in rig.ends.values():
        assert end.of(LinkDone, wanted)
        assert {u.qubit.slot for u in end.of(LinkPairReady, wanted)} == {2, 3}


def test_a_request_that_runs_already_is_our_own_callers_error() -> None:
    rig = Rig()
    wanted = request("alice", 1_000)
    rig.create(wanted)
    with pytest.raises(LocalProtocolError):
        rig.create(wanted)
    assert rig.ends["alice"].terminal(wanted.id) == []


def test_a_half_that_finds_no_storage_waits_and_then_ends_the_request_alike() -> None:
    rig = Rig()
    rig.hold_ns = None
    wanted = rig.create(request("alice", 3, store=True))
    rig.run(HORIZON // 4)
    assert len(rig.ends["bob"].pairs(wanted)) == 2
    rig.run(2 * HORIZON)
    rig.alike(wanted)
    failed = rig.ends["bob"].of(LinkFailed, wanted)[0]
    assert failed.code is ErrorCode.NO_RESOURCES
    assert failed.delivered == 2
    for end in rig.ends.values():
        assert end.slots.free("communication") == 2


@pytest.mark.parametrize("who", ENDS)
def test_a_pair_missing_at_one_end_expires_at_the_other_and_is_replaced(who: str) -> None:
    rig = Rig()
    rig.missing[who] = {2, 5}
    wanted = rig.create(request("alice", 5))
    rig.run(10 * MILLISECOND)
    rig.alike(wanted)
    rig.no_leak()
    other = rig.ends["bob" if who == "alice" else "alice"]
    assert rig.ends[who].of(LinkExpired) == []
    assert [u.pair.sequence for u in other.of(LinkExpired)] == [2, 5]
    assert other.valid(wanted) == [1, 3, 4, 6, 7]
    assert other.of(LinkDone, wanted)[0].delivered == 5


def test_a_failing_memory_voids_the_pairs_and_ends_the_request_in_the_end() -> None:
    rig = Rig()
    rig.faulty.add("alice")
    rig.force_bell = 1
    wanted = rig.create(request("alice", 5, final_bell=0))
    rig.run(20 * MILLISECOND)
    rig.alike(wanted)
    rig.no_leak()
    failed = rig.ends["bob"].of(LinkFailed, wanted)[0]
    assert failed.code is ErrorCode.OTHER
    assert "laser unlocked" in failed.reason
    assert failed.delivered == 0
    assert len(rig.ends["bob"].of(LinkExpired, wanted)) >= 3


@pytest.mark.parametrize("who", ENDS)
def test_a_restarted_peer_ends_everything_once_and_the_link_goes_on(who: str) -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 1_000))
    rig.run(20 * DELAY)
    other = rig.ends["bob" if who == "alice" else "alice"]
    done = len(other.pairs(wanted))
    assert done > 3
    rig.restart(who)
    (failed,) = other.terminal(wanted)
    assert failed.code is ErrorCode.OTHER
    assert who in failed.reason
    assert failed.delivered == 0
    assert len(other.of(LinkExpired, wanted)) == done
    rig.run(5 * MILLISECOND)
    again = rig.create(request(other.name, 3))
    rig.run(10 * MILLISECOND)
    rig.alike(again)
    assert rig.ends[who].of(LinkDone, again)
    assert len(other.terminal(wanted)) == 1


def test_pairs_whose_horizon_has_passed_survive_the_peer() -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 3))
    rig.run(HORIZON + 5 * MILLISECOND)
    rig.alike(wanted)
    rig.restart("bob")
    assert rig.ends["alice"].of(LinkExpired) == []


@pytest.mark.parametrize("who", ENDS)
def test_what_one_end_reported_and_the_other_never_saw_expires_when_the_station_is_lost(
    who: str,
) -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 30))
    rig.run(10 * DELAY)
    rig.ends[who].hears_station = False
    rig.run(2 * DELAY)
    rig.lose_station(who)
    rig.run(MILLISECOND)
    other = rig.ends["bob" if who == "alice" else "alice"]
    assert other.of(LinkExpired, wanted)
    assert other.valid(wanted) == rig.ends[who].valid(wanted)
    rig.find_station(who)
    rig.run(30 * MILLISECOND)
    rig.alike(wanted)
    rig.no_leak()
    assert other.of(LinkDone, wanted)


def test_a_restarted_station_costs_pairs_in_flight_and_no_request() -> None:
    rig = Rig()
    wanted = rig.create(request("bob", 30))
    rig.run(10 * DELAY)
    rig.restart_station()
    rig.run(30 * MILLISECOND)
    for end in rig.ends.values():
        assert end.of(LinkDone, wanted)[0].delivered == 30
    rig.no_leak()


def test_a_herald_for_a_request_that_is_over_is_freed_and_expired() -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 1))
    rig.run(5 * MILLISECOND)
    alice = rig.ends["alice"]
    qubit = alice.slots.take(Owner("link", "ab"))
    assert qubit is not None
    rig.step(alice, KeptReady(2, 11, wanted, 2, 1, (), qubit, rig.now))
    assert alice.slots.held() == {}
    sent = [a.message for a in alice.log[-1][2] if isinstance(a, Send)]
    assert [type(m) for m in sent] == [LinkExpire]
    assert alice.pairs(wanted) == [1]


def test_what_a_peer_must_not_send_changes_nothing() -> None:
    rig = Rig()
    rig.success = 0.0
    wanted = rig.create(request("bob", 2))
    rig.run(MILLISECOND)
    bob = rig.ends["bob"].link
    board = bob._board
    before = (board.queue.version, board.queue.items, board.requests[wanted].state)
    nobody = RequestId("alice", 7, 10**6)
    for message in (
        LinkRemove("ab", 9, wanted, ErrorCode.OTHER, "no"),
        LinkEnd("ab", nobody, ErrorCode.OTHER, "no"),
    ):
        with pytest.raises(RemoteProtocolError):
            bob.handle(message, rig.now)
    assert (board.queue.version, board.queue.items, board.requests[wanted].state) == before


def test_a_peer_that_begins_afresh_unnoticed_ends_the_former_requests() -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 1_000))
    rig.run(20 * DELAY)
    alice = rig.ends["alice"]
    rig.step(alice, LinkPeerDown("silent"))
    rig.step(alice, LinkPeerUp(1))
    rig.run(10 * MILLISECOND)
    for end in rig.ends.values():
        assert [type(u) for u in end.terminal(wanted)] == [LinkFailed]
    again = rig.create(request("bob", 3))
    rig.run(10 * MILLISECOND)
    rig.alike(again)


def test_measured_pairs_never_touch_a_memory() -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 20, kind=PairKind.MEASURE, store=True, atomic=True))
    rig.run(10 * MILLISECOND)
    rig.alike(wanted)
    assert len(rig.ends["alice"].of(LinkOutcomeReady, wanted)) == 20
    assert all(end.slots._generation[0] == 0 for end in rig.ends.values())


def test_a_serve_is_not_repeated_while_only_the_count_shrinks() -> None:
    rig = Rig()
    wanted = rig.create(request("alice", 25))
    rig.run(20 * MILLISECOND)
    rig.alike(wanted)
    downs = [a.request for _, _, acts in rig.ends["bob"].log for a in acts if isinstance(a, Down)]
    assert [type(d) for d in downs] == [Serve, Rest]
    assert isinstance(rig.ends["bob"].link, Link)

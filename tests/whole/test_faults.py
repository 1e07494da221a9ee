"""Crashes, broken devices, cancelled and timed-out requests: nothing is leaked or one-sided."""

from __future__ import annotations

import pytest

from qstack.errors import ErrorCode
from qstack.messages.application import Cancel, PairReady
from qstack.messages.common import PLAIN_Z
from qstack.messages.devices import DeviceStatus
from qstack.sim.heap import WORLD, Wire
from qstack.sim.world import Break, Mend
from qstack.testing import check_same_pairs, free_at_once, hold, terms
from qstack.units import MILLISECOND, SECOND
from tests.whole.rig import Lab, Rig

SHORT = 3 * MILLISECOND
LONG = 500 * MILLISECOND


def forget(rig: Rig) -> None:
    """Begin a new chapter: the users forget what they were told, and listen again."""
    for party in (rig.alice, rig.bob):
        for records in (party.pairs, party.done, party.ended, party.expired):
            records.clear()
        party.answers.clear()
        party.accept()
    rig.settle(5 * MILLISECOND)


def check_service(rig: Rig) -> None:
    """Twenty more pairs come, true and the same at both ends, and nothing stays taken."""
    forget(rig)
    truth = rig.truth()
    rig.alice.keep(terms("bob", 20))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished(), 10 * SECOND)
    rig.settle()
    assert [done.delivered for done in rig.alice.done] == [20]
    assert not rig.alice.expired
    check_same_pairs(rig.alice, rig.bob)
    assert min(fidelity for _, fidelity, _ in truth.fidelities) > 0.6
    assert rig.free_slots() == (4, 4)


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("pause_ns", [SHORT, LONG])
@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_a_node_that_crashes_ends_its_requests_once_and_serves_again(
    victim: str, pause_ns: int, loss: float
) -> None:
    """The other end is told once, its young pairs expire, and a new life works at once."""
    for seed in (1, 2):
        rig = Rig(seed=seed)
        rig.heap.set_default(Wire(50_000, 100_000, loss, 0.05))
        rig.truth()
        rig.alice.keep(terms("bob", 200))
        rig.run(lambda rig=rig: len(rig.alice.pairs) > 50)
        rig.net.crash(victim)
        rig.settle(pause_ns)
        rig.net.start(victim)
        survivor, dead = (rig.bob, rig.alice) if victim == "alice" else (rig.alice, rig.bob)
        rig.run(lambda survivor=survivor: survivor.finished(), 10 * SECOND)
        rig.settle()
        assert [ended.code for ended in survivor.ended] == [ErrorCode.OTHER]
        assert victim in survivor.ended[0].reason
        assert not survivor.done
        assert not survivor.pair_ids, "all its pairs are younger than their horizon"
        assert len(survivor.expired) == len(survivor.pairs)
        assert dead.lost, "the dead node's user must be told"
        assert dead.reached, "and reach it again"
        check_service(rig)


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("pause_ns", [SHORT, LONG])
def test_requests_survive_a_station_that_crashes_and_comes_back(pause_ns: int, loss: float) -> None:
    """All 200 pairs come; a pair that only one end had when it died expires there."""
    for seed in (1, 2, 3, 4):
        rig = Rig(seed=seed)
        rig.heap.set_default(Wire(50_000, 100_000, loss, 0.05))
        truth = rig.truth()
        rig.alice.keep(terms("bob", 200))
        rig.run(lambda rig=rig: len(rig.alice.pairs) > 50)
        rig.net.crash("station")
        rig.settle(pause_ns)
        rig.net.start("station")
        rig.run(lambda rig=rig: rig.alice.finished() and rig.bob.finished(), 10 * SECOND)
        rig.settle()
        assert [done.delivered for done in rig.alice.done] == [200]
        assert [done.delivered for done in rig.bob.done] == [200]
        check_same_pairs(rig.alice, rig.bob)
        lives = {pair.station_boot for pair in rig.alice.pair_ids}
        assert len(lives) == 2
        assert min(fidelity for _, fidelity, _ in truth.fidelities) > 0.6
        check_service(rig)


@pytest.mark.parametrize("device", ["alice.emitter", "bob.emitter", "station.analyser"])
def test_a_broken_device_pauses_the_link_and_burns_no_attempts(device: str) -> None:
    rig = Rig(seed=4)
    truth = rig.truth()
    rig.alice.keep(terms("bob", 100))
    rig.run(lambda: len(rig.alice.pairs) > 20)
    rig.heap.post(WORLD, Break(device, DeviceStatus.FAULT, "the laser is out of lock"))
    rig.settle(20 * MILLISECOND)
    delivered, attempted = len(rig.alice.pairs), rig.net.world.attempted("ab")
    rig.settle(200 * MILLISECOND)
    assert len(rig.alice.pairs) == delivered
    assert rig.net.world.attempted("ab") == attempted
    assert not rig.alice.finished()
    rig.heap.post(WORLD, Mend(device))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished(), 10 * SECOND)
    rig.settle()
    assert [done.delivered for done in rig.alice.done] == [100]
    check_same_pairs(rig.alice, rig.bob)
    assert min(fidelity for _, fidelity, _ in truth.fidelities) > 0.6
    check_service(rig)


def test_a_fault_leaves_an_untouched_qubit_of_the_same_node_alone() -> None:
    """Two pairs are held while the station crashes and a second request loses its attempts."""
    rig = Rig(Lab(t2_ns=10**13), seed=6)
    rig.alice.policy = rig.bob.policy = hold
    rig.alice.keep(terms("bob", 2))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()  # past the horizon
    held = [pair for _, pair in rig.alice.pairs]
    theirs = {pair.info.pair: pair for _, pair in rig.bob.pairs}
    rig.alice.policy = rig.bob.policy = free_at_once
    rig.alice.keep(terms("bob", 100))
    rig.run(lambda: len(rig.alice.pairs) > 20)
    rig.net.crash("station")
    rig.settle(LONG)
    rig.net.start("station")
    rig.run(lambda: rig.alice.finished(2) and rig.bob.finished(2), 10 * SECOND)
    rig.settle()
    assert rig.free_slots() == (2, 2)
    for pair in held:
        state = rig.state_of(pair.qubit.slot, theirs[pair.info.pair].qubit.slot, rig.heap.now)
        assert state is not None
        assert abs(state[1, 1] + state[2, 2] - 0.9375) < 1e-3
        rig.alice.release(pair.info.pair)
        rig.bob.release(pair.info.pair)
    rig.settle()
    assert rig.free_slots() == (4, 4)


@pytest.mark.parametrize("canceller", ["alice", "bob"])
def test_a_cancelled_request_ends_once_at_both_ends_with_the_same_pairs(canceller: str) -> None:
    for seed in (1, 2, 3):
        rig = Rig(seed=seed)
        rig.heap.set_default(Wire(50_000, 100_000, 0.1, 0.05))
        truth = rig.truth()
        reference = rig.alice.keep(terms("bob", 500))
        rig.run(lambda rig=rig: len(rig.alice.pairs) > 30)
        request = rig.alice.created[reference]
        party = rig.alice if canceller == "alice" else rig.bob
        party.say(Cancel(party.reference(), request))
        rig.run(lambda rig=rig: rig.alice.finished() and rig.bob.finished(), 10 * SECOND)
        rig.settle()
        for told in (rig.alice, rig.bob):
            assert [ended.code for ended in told.ended] == [ErrorCode.OTHER]
            assert "cancelled" in told.ended[0].reason
            assert told.ended[0].delivered == len(told.pair_ids)
            assert not told.expired
        check_same_pairs(rig.alice, rig.bob)
        assert truth.one_sided == 0
        check_service(rig)


@pytest.mark.parametrize("km", [1.0, 10.0])
def test_a_cancelled_request_for_measured_pairs_expires_none(km: float) -> None:
    """A hundred seeds, nothing lost on the way: outcomes that fly when it ends are reported."""
    for seed in range(1, 101):
        rig = Rig(Lab(km=km), seed)
        reference = rig.alice.measure_directly(terms("bob", 500), PLAIN_Z, PLAIN_Z)
        rig.run(lambda rig=rig, seed=seed: len(rig.alice.pair_ids) > 4 + seed % 7)
        party = rig.alice if seed % 2 else rig.bob
        party.say(Cancel(party.reference(), rig.alice.created[reference]))
        rig.run(lambda rig=rig: rig.alice.finished() and rig.bob.finished(), 10 * SECOND)
        rig.settle(LONG)
        for name, told in (("alice", rig.alice), ("bob", rig.bob)):
            assert [ended.code for ended in told.ended] == [ErrorCode.OTHER]
            assert not told.expired
            # Nor is a pair replaced behind the users' backs.
            assert "missing" not in rig.net.host(name).physical["ab"].counters
        assert rig.alice.pair_ids == rig.bob.pair_ids
        assert rig.alice.ended[0].delivered == len(rig.alice.pair_ids)


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_request_times_out_once_at_both_ends_and_keeps_what_it_had(loss: float) -> None:
    """Far too many pairs for 20 ms of lab time; one lost frame may cost most of that time."""
    kept = []
    for seed in (1, 2, 3):
        rig = Rig(seed=seed)
        rig.heap.set_default(Wire(50_000, 100_000, loss, 0.05))
        rig.truth()
        rig.alice.keep(terms("bob", 400, max_time_ns=20 * MILLISECOND))
        rig.run(lambda rig=rig: rig.alice.finished() and rig.bob.finished(), 10 * SECOND)
        rig.settle()
        for told in (rig.alice, rig.bob):
            assert [ended.code for ended in told.ended] == [ErrorCode.TIMEOUT]
            assert told.ended[0].delivered == len(told.pair_ids)
            assert not told.expired
        check_same_pairs(rig.alice, rig.bob)
        assert len(rig.alice.pair_ids) < 400
        kept.append(len(rig.alice.pair_ids))
        check_service(rig)
    assert max(kept) > 20
    if loss == 0.0:
        assert min(kept) > 20


def test_requests_that_cannot_be_served_are_refused_by_name() -> None:
    rig = Rig(seed=1)
    cases = [
        (terms("carol", 1), ErrorCode.CREATE),
        (terms("alice", 1), ErrorCode.CREATE),
        (terms("bob", 0), ErrorCode.CREATE),
        (terms("bob", 1, fidelity_min=0.99), ErrorCode.UNSUPPORTED),
        (terms("bob", 5, atomic=True), ErrorCode.NO_RESOURCES),
        (terms("bob", 1, purpose=9), ErrorCode.REJECTED),
        (terms("bob", 1000, max_time_ns=1000), ErrorCode.UNSUPPORTED),
    ]
    for wanted, code in cases:
        rig.alice.ended.clear()
        rig.alice.keep(wanted)
        rig.run(lambda: bool(rig.alice.ended), SECOND)
        assert rig.alice.ended[0].code is code, wanted
        assert rig.alice.ended[0].reason
    assert not rig.bob.pairs
    check_service(rig)


def test_atomic_pairs_are_all_alive_at_one_time() -> None:
    rig = Rig(Lab(t2_ns=10**13), seed=8)
    alive: set[int] = set()
    most: list[int] = []

    def keep(pair: PairReady, now: int) -> None:
        alive.add(pair.qubit.slot)
        most.append(len(alive))

    rig.alice.policy, rig.bob.policy = keep, hold
    rig.alice.keep(terms("bob", 4, atomic=True))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished(), SECOND)
    assert max(most) == 4
    for party in (rig.alice, rig.bob):
        for pair in list(party.holding):
            party.release(pair)
    rig.settle()
    assert rig.free_slots() == (4, 4)


def test_a_user_that_vanishes_frees_its_qubits_and_its_request() -> None:
    rig = Rig(seed=9)
    rig.alice.policy = rig.bob.policy = hold
    rig.alice.keep(terms("bob", 50))
    rig.run(lambda: len(rig.alice.pairs) == 4)
    rig.net.crash("user-alice")
    rig.run(rig.bob.finished, 10 * SECOND)
    assert rig.bob.ended[0].code is ErrorCode.OTHER
    for pair in list(rig.bob.holding):
        rig.bob.release(pair)
    rig.settle()
    assert rig.free_slots() == (4, 4)

"""Two nodes, a station, scripted hardware: what is indicated, and what it costs."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.messages.common import PairKind
from qstack.messages.devices import EmitterMeasure
from qstack.messages.physical import ArmReply, Herald, Verdict
from qstack.physical.filling import FOLLOW_AT, MEASURED_AT_ONCE
from qstack.physical.service import KeptReady
from tests.physical.physical_lab import CONFIRM, NAMES, Faults, Lab, job, parameters


def test_kept_pairs_are_indicated_at_both_ends_in_the_same_order() -> None:
    lab = Lab().start(job(1, 10))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 11)]
    assert all(isinstance(event, KeptReady) for event in lab.results("alice"))
    lab.rested()


def test_a_kept_pair_costs_one_arm_and_one_command_per_end_and_one_herald_each() -> None:
    lab = Lab().start(job(1, 4))
    lab.run()
    few = dict(lab.counts)
    lab = Lab().start(job(1, 104))
    lab.run()
    more = {name: lab.counts[name] - few.get(name, 0) for name in lab.counts}
    assert more["Confirm"] == 200
    assert more.get("Arm", 0) == 0
    assert more["EmitterArm"] == 200
    assert more["Herald"] == 200
    assert more.get("ArmReply", 0) == 0
    assert more.get("StationOpen", 0) == 0
    assert more.get("Abort", 0) == 0


@pytest.mark.parametrize("kind", [PairKind.MEASURE, PairKind.PREPARE])
def test_measured_halves_are_indicated_with_their_own_outcome(kind: PairKind) -> None:
    link = parameters(modes=4, memories=4)
    lab = Lab(link=link).start(job(1, 30, kind))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 31)]
    assert not lab.missing("alice")
    commands = -(-30 // MEASURED_AT_ONCE)
    assert lab.counts["EmitterMeasure"] == commands * (2 if kind is PairKind.MEASURE else 1)
    lab.rested()


def test_the_next_command_to_measure_comes_before_the_last_pairs_of_the_one_before() -> None:
    """Else the last pairs of each would leave modes of the link empty."""
    lab = Lab(link=parameters(modes=4, memories=4)).start(job(1, 200, PairKind.MEASURE))
    asked: dict[str, list[int]] = {name: [] for name in NAMES}
    most = 0
    take = lab.hardware.take

    def look(who: str, command: object) -> None:
        nonlocal most
        take(who, command)
        if who in NAMES and isinstance(command, EmitterMeasure):
            running = [entry.left for entry in lab.hardware.armed[who]]
            asked[who].append(command.pairs)
            most = max(most, sum(running))
            assert len(running) <= 2

    lab.hardware.take = look  # type: ignore[method-assign]  # to look on
    lab.run()
    for name in NAMES:
        assert sum(asked[name]) == 200
        assert asked[name][:2] == [MEASURED_AT_ONCE, MEASURED_AT_ONCE - FOLLOW_AT]
    assert most == MEASURED_AT_ONCE
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 201)]
    lab.rested()


def test_several_memories_share_the_modes_and_never_make_more_than_was_asked() -> None:
    lab = Lab(link=parameters(modes=4, memories=6), success=0.5).start(job(1, 23))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 24)]
    assert lab.hardware.tokens == 23
    lab.rested()


def test_without_a_herald_line_every_attempt_ends_by_the_stations_word() -> None:
    lab = Lab(link=parameters(herald_line=False), success=0.2).start(job(1, 8))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 9)]
    assert lab.counts["EmitterArm"] == 2 * lab.hardware.tokens > 16
    lab.rested()


def test_a_lost_void_is_learnt_from_what_the_station_has_decided() -> None:
    lab = Lab(link=parameters(herald_line=False), success=0.3)
    lab.lose = lambda source, target, message: isinstance(message, Herald) and target == "bob"
    lab.start(job(1, 3))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 4)]
    lab.rested()


def test_requests_follow_one_another_and_each_switch_is_settled() -> None:
    lab = Lab(link=parameters(modes=2, memories=2)).start(
        job(1, 3), job(2, 5, PairKind.MEASURE), job(3, 4, setting="t"), job(4, 1)
    )
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 14)]
    for name in NAMES:
        assert [settled.last_sequence for settled in lab.settled(name)] == [0, 3, 8, 12, 13]
        assert not lab.missing(name)
    lab.rested()


def test_a_herald_that_one_end_lost_comes_with_the_next() -> None:
    lab = Lab(link=parameters(modes=2, memories=2))
    lost: list[Herald] = []

    def lose_the_first(source: str, target: str, message: object) -> bool:
        if isinstance(message, Herald) and target == "bob" and not lost:
            lost.append(message)
            return True
        return False

    lab.lose = lose_the_first
    lab.start(job(1, 5))
    lab.run()
    assert len(lost) == 1
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 6)]
    assert not lab.missing("bob")
    lab.rested()


def test_the_last_success_lost_comes_by_a_reply_after_the_confirmation_time() -> None:
    lab = Lab()
    lab.lose = lambda source, target, message: isinstance(message, Herald)
    lab.start(job(1, 1))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, 1)]
    heralded_at = min(t for t, _, _, message in lab.sent if isinstance(message, Herald))
    told = [t for t, _, _, m in lab.sent if isinstance(m, ArmReply) and m.unconfirmed]
    assert heralded_at < told[0] <= heralded_at + CONFIRM + 50_000
    lab.rested()


def test_when_one_end_alone_arms_it_is_told_to_wait() -> None:
    lab = Lab().start()
    lab.jobs = [job(1, 2)]
    lab.done = {name: [0] for name in NAMES}
    lab.serve("alice")
    lab.run(lab.now + 1_000_000)
    verdicts = [m.verdict for _, _, to, m in lab.sent if isinstance(m, ArmReply) and to == "alice"]
    assert verdicts[-1] is Verdict.WAIT
    assert "StationOpen" not in lab.counts
    lab.serve("bob")
    lab.run()
    assert len(lab.results("alice")) == len(lab.results("bob")) == 2
    lab.rested()


def test_ends_that_want_different_things_are_told_who_is_behind() -> None:
    lab = Lab().start()
    first, second = job(1, 2), job(2, 2)
    lab.step("alice", first.serve("alice", 2, 1))
    lab.step("bob", second.serve("bob", 2, 2))
    lab.run(lab.now + 1_000_000)
    last = {to: m for _, _, to, m in lab.sent if isinstance(m, ArmReply)}
    assert last["alice"].verdict is Verdict.BEHIND
    assert last["alice"].other_version == 2
    assert last["bob"].verdict is Verdict.AHEAD
    assert "StationOpen" not in lab.counts
    lab.jobs = [second]
    lab.done = {name: [0] for name in NAMES}
    lab.version = dict.fromkeys(NAMES, 2)
    lab.serve("alice")
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, 1), (100, 2)]
    lab.rested()


def test_a_new_queue_version_lets_the_armed_emitters_be() -> None:
    lab = Lab(success=0.0).start(job(1, 3))
    lab.run(lab.now + 1_000_000)
    before = dict(lab.counts)
    for name in NAMES:
        lab.version[name] = 2
        lab.serve(name)
    lab.run(lab.now + 1_000_000)
    assert lab.counts["EmitterArm"] == before["EmitterArm"]
    arms = [m for _, source, _, m in lab.sent if source == "alice"]
    assert arms[-1].number == arms[-2].number + 1
    assert arms[-1].credits == 1
    lab.hardware.success = 0.2
    lab.run()
    assert len(lab.results("alice")) == len(lab.results("bob")) == 3
    lab.rested()


def test_fewer_pairs_wanted_withdraws_only_what_is_too_much() -> None:
    lab = Lab(success=0.0, link=parameters(modes=3, memories=3)).start(job(1, 3))
    lab.run(lab.now + 1_000_000)
    for name in NAMES:
        lab.jobs[0].pairs = 1
        lab.serve(name)
    lab.run(lab.now + 1_000_000)
    assert [len(lab.hardware.armed[name]) for name in NAMES] == [1, 1]
    lab.hardware.success = 1.0
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, 1)]
    lab.rested()


def test_exhausted_batches_are_renewed_without_new_credit() -> None:
    lab = Lab(success=0.0).start(job(1, 2))
    for instant in range(1, 10):
        lab.at(instant * 100_000, lambda: lab.hardware.exhaust("alice"))
    lab.run(2_000_000)
    arms = [m for _, source, _, m in lab.sent if source == "alice"]
    assert lab.counts["EmitterArm"] == 11
    assert arms[-1].credits == 1
    lab.hardware.success = 0.5
    lab.run()
    assert len(lab.results("alice")) == len(lab.results("bob")) == 2
    lab.rested()


def test_resting_in_the_middle_accounts_for_every_success() -> None:
    for seed in range(10):
        lab = Lab(seed, 0.3, Faults(hop=(500, 9_000), delay=(5_000, 60_000)))
        lab.start(job(1, 50))
        lab.run(400_000 + 7_000 * seed)
        lab.rested()
        assert lab.sequences("alice") == lab.sequences("bob")
        for name in NAMES:
            assert lab.settled(name)[-1].last_sequence == len(lab.results(name))


@attrs.frozen
class Scenario:
    seed: int
    success: float
    faults: Faults
    memories: int
    modes: int
    herald_line: bool
    jobs: list[tuple[int, PairKind]]

    def lab(self) -> Lab:
        link = parameters(modes=self.modes, memories=self.memories, herald_line=self.herald_line)
        return Lab(self.seed, self.success, self.faults, link)

    def start(self, lab: Lab) -> None:
        lab.start(*(job(n, pairs, kind) for n, (pairs, kind) in enumerate(self.jobs)))


FAULTS = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    duplicate=st.sampled_from([0.0, 0.5]),
    delay=st.sampled_from([(20_000, 20_000), (1_000, 90_000)]),
    hop=st.sampled_from([(500, 500), (100, 30_000), (100, 300_000)]),
    hold=st.sampled_from([(1, 1), (10_000, 900_000)]),
)
SCENARIOS = st.builds(
    Scenario,
    seed=st.integers(0, 10_000),
    success=st.sampled_from([0.05, 0.3, 1.0]),
    faults=FAULTS,
    memories=st.integers(1, 3),
    modes=st.integers(1, 3),
    herald_line=st.booleans(),
    jobs=st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(list(PairKind))), min_size=1, max_size=3
    ),
)


@settings(max_examples=120, deadline=None)
@given(SCENARIOS)
def test_whatever_the_wire_does_both_ends_see_the_same_successes_in_order(
    scenario: Scenario,
) -> None:
    lab = scenario.lab()
    scenario.start(lab)
    lab.run()
    total = sum(pairs for pairs, _ in scenario.jobs)
    assert lab.sequences("alice") == lab.sequences("bob")
    assert lab.sequences("alice") == [(100, n) for n in range(1, total + 1)]
    assert "remote_errors" not in lab.counts, lab.notes
    lab.rested()

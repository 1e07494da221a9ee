"""Restarts, lost parties, faulty devices and hostile messages."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import DRAINED, Send, Up
from qstack.messages import devices as dev
from qstack.messages.common import PairKind, RequestId
from qstack.messages.devices import DeviceState, DeviceStatus
from qstack.messages.physical import Arm, ArmReply, Beacon, Herald, Success, Verdict
from qstack.physical.attempts import TABLE as ATTEMPTS
from qstack.physical.attempts import AttemptState
from qstack.physical.events import EndReachable, FromEnd, StationReachable
from qstack.physical.machine import NodePhysical
from qstack.physical.pairing import TABLE as LINKS
from qstack.physical.pairing import LinkState
from qstack.physical.service import (
    DeviceTrouble,
    KeptReady,
    PairMissing,
    Serve,
    StationDown,
    StationUp,
)
from qstack.physical.station import StationPhysical
from tests.physical.physical_lab import NAMES, Faults, Lab, job, parameters


def test_a_restarted_station_voids_what_was_undecided_and_counts_from_one_again() -> None:
    lab = Lab(link=parameters(modes=2, memories=2)).start(job(1, 20))
    lab.run(400_000)
    before = len(lab.results("alice"))
    assert 0 < before < 20
    lab.restart_station()
    lab.run()
    for name in NAMES:
        boots = [boot for boot, _ in lab.sequences(name)]
        assert boots == sorted(boots)
        assert [s for b, s in lab.sequences(name) if b == 101] == list(
            range(1, boots.count(101) + 1)
        )
        downs = [up for up in lab.ups[name] if isinstance(up, StationDown)]
        assert downs == [StationDown(100, "restart")]
        assert lab.ups[name][-1] != downs[0]
    lab.rested()


def test_a_partition_frees_every_slot_and_the_link_goes_on_afterwards() -> None:
    lab = Lab(success=0.02, link=parameters(modes=2, memories=2)).start(job(1, 10))
    lab.run(100_000)
    lab.disconnect()
    lab.run(lab.now + 2_000_000)
    for name in NAMES:
        held = {owner.room for owner in lab.slots[name].held().values()}
        assert "physical" not in held
        assert not lab.hardware.armed[name]
    lab.connect()
    lab.run()
    assert len(lab.results("alice")) >= 10 or len(lab.results("bob")) >= 10
    lab.rested()


def test_one_faulty_slot_leaves_the_pairs_of_the_others_alone() -> None:
    lab = Lab(link=parameters(modes=2, memories=2))

    def fail(who: str, command: Any) -> Any:
        if who == "alice" and isinstance(command, dev.EmitterArm) and command.slot == 0:
            return dev.Faulted("alice-emitter", command.command, "laser")
        return None

    lab.hardware.fail = fail
    lab.start(job(1, 6))
    lab.run(30_000_000)
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, n) for n in range(1, 7)]
    assert not lab.missing("alice")
    assert 1 <= lab.nodes["alice"].counters["faulted"] < 12
    assert not any(isinstance(up, DeviceTrouble) for up in lab.ups["alice"])
    lab.rested()


@pytest.mark.parametrize("kind", [PairKind.KEEP, PairKind.MEASURE])
def test_refused_commands_are_tried_again_ever_more_rarely(kind: PairKind) -> None:
    lab = Lab()
    refused: list[int] = []

    def refuse(who: str, command: Any) -> Any:
        if isinstance(command, (dev.EmitterArm, dev.EmitterMeasure)) and who == "bob":
            refused.append(lab.now)
            return dev.Rejected("bob-emitter", command.command, False, "busy")
        return None

    lab.hardware.fail = refuse
    lab.start(job(1, 2, kind))
    lab.run(10_000_000)
    assert 4 <= len(refused) <= 7
    gaps = [b - a for a, b in pairwise(refused)]
    assert gaps[-1] > 3 * gaps[0]
    lab.hardware.fail = lambda who, command: None
    lab.step("bob", DeviceState("bob-emitter", DeviceStatus.READY, "", 0, 0))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, 1), (100, 2)]
    lab.rested()


def test_a_device_that_is_not_ready_rests_the_arm_and_burns_no_attempts() -> None:
    lab = Lab(success=0.0).start(job(1, 3))
    lab.run(lab.now + 300_000)
    lab.step("alice", DeviceState("alice-emitter", DeviceStatus.CALIBRATING, "drift", 0, 0))
    lab.run(lab.now + 300_000)
    assert lab.ups["alice"][-1] == DeviceTrouble(False, "drift")
    assert not lab.hardware.armed["alice"]
    assert lab.hardware.open is None
    lab.hardware.success = 0.5
    lab.step("alice", DeviceState("alice-emitter", DeviceStatus.READY, "", 0, 0))
    lab.run()
    assert DeviceTrouble(True, "") in lab.ups["alice"]
    assert len(lab.results("alice")) == len(lab.results("bob")) == 3
    lab.rested()


def test_an_emission_that_is_never_reported_is_missing_at_that_end_only() -> None:
    lab = Lab()
    report = lab.hardware.report
    swallowed: list[Any] = []

    def deaf(who: str, event: Any) -> None:
        if who == "bob" and isinstance(event, dev.EmitterHeralded) and not swallowed:
            swallowed.append(event)
            event = dev.Faulted(event.device, event.command, "readout")
        report(who, event)

    lab.hardware.report = deaf  # type: ignore[method-assign]  # the script of a broken device
    lab.start(job(1, 3))
    lab.run()
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, 1), (100, 2), (100, 3)]
    assert [event.sequence for event in lab.missing("bob")] == [1]
    assert not lab.missing("alice")
    lab.rested()


def test_an_analyser_that_comes_back_starts_its_clock_again_and_pairs_go_on() -> None:
    lab = Lab(success=0.05).start(job(1, 6))
    lab.run(200_000)
    assert 0 < len(lab.results("alice")) < 6
    lab.step("station", DeviceState("bsa", DeviceStatus.OFFLINE, "power", 0, 0))
    lab.hardware.open, lab.hardware.clock = None, None
    lab.run(lab.now + 200_000)
    lab.step("station", DeviceState("bsa", DeviceStatus.READY, "", 0, 0))
    lab.run()
    assert lab.counts["StationClock"] == 2
    assert lab.sequences("alice") == lab.sequences("bob")
    assert len(lab.results("alice")) == 6
    lab.rested()


def test_a_herald_of_another_clock_life_is_not_taken_before_the_reply_that_tells_of_it() -> None:
    lab = Lab(success=0.0).start(job(1, 2))
    lab.run(200_000)
    node = lab.nodes["alice"]
    entry = lab.hardware.armed["alice"][0]
    fired = dev.EmitterHeralded("alice-emitter", entry.command, 0, 100, 0, 0)
    node.handle(fired, lab.now)
    told = (success(1),)
    node.handle(Herald("a-b", 200, 1, 99, told, (), 1), lab.now)
    assert node.report()["last_sequence"] == 0
    (asked,) = node.handle(DRAINED, lab.now)
    assert asked.message.query == 1
    number = asked.message.number
    reply: Any = ArmReply("a-b", number, 1, Verdict.ACCEPT, 0, 0, 0, 1, 0, 3, 1, -1, told, "", 1)
    actions = node.handle(reply, lab.now)
    actions += node.handle(DRAINED, lab.now)
    kept = [a.event for a in actions if isinstance(a, Up)]
    assert [(type(event), event.sequence) for event in kept] == [(KeptReady, 1)]
    with pytest.raises(RemoteProtocolError):
        node.handle(attrs.evolve(reply, epoch=0), lab.now)


def test_a_half_made_at_another_setting_is_missing_and_not_handed_over() -> None:
    lab = Lab(success=0.0).start(job(1, 2))
    lab.run(200_000)
    node = lab.nodes["alice"]
    entry = lab.hardware.armed["alice"][0]
    node.handle(dev.EmitterHeralded("alice-emitter", entry.command, 0, 100, 0, 0), lab.now)
    plain: Any = success(1)
    other = attrs.evolve(plain, setting="t")
    actions = node.handle(Herald("a-b", 200, 1, 99, (other,), (), 0), lab.now)
    (missing,) = [a.event for a in actions if isinstance(a, Up)]
    assert isinstance(missing, PairMissing)
    assert "'s'" in missing.reason


def test_arms_made_after_a_restarted_clock_do_not_wait_for_a_cycle_of_the_former_one() -> None:
    lab = Lab(success=0.1).start(job(1, 1))
    lab.run(5_000_000)
    lab.jobs, lab.done = [job(2, 2)], {name: [0] for name in NAMES}
    lab.hardware.success = 0.0
    for name in NAMES:
        lab.serve(name)
    lab.run(lab.now + 200_000)
    assert lab.hardware.armed["alice"]
    lab.step("station", DeviceState("bsa", DeviceStatus.OFFLINE, "power", 0, 0))
    lab.hardware.open, lab.hardware.clock = None, None
    lab.run(lab.now + 200_000)
    lab.step("station", DeviceState("bsa", DeviceStatus.READY, "", 0, 0))
    lab.hardware.success = 0.5
    lab.run(lab.now + 2_000_000)
    assert len(lab.results("alice")) == len(lab.results("bob")) == 3
    assert not lab.missing("alice")
    lab.rested()


def test_a_failing_analyser_is_tried_again_later() -> None:
    lab = Lab()
    failed: list[int] = []

    def fail(who: str, command: Any) -> Any:
        if isinstance(command, dev.StationOpen) and len(failed) < 2:
            failed.append(command.command)
            return dev.Faulted("bsa", command.command, "bias")
        return None

    lab.hardware.fail = fail
    lab.start(job(1, 2))
    lab.run()
    refusals = [m for _, _, _, m in lab.sent if getattr(m, "verdict", None) is Verdict.REFUSED]
    assert refusals[0].reason == "bias"
    assert lab.sequences("alice") == lab.sequences("bob") == [(100, 1), (100, 2)]
    lab.rested()


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    faults=st.builds(
        Faults,
        loss=st.sampled_from([0.0, 0.3]),
        delay=st.sampled_from([(20_000, 20_000), (1_000, 90_000)]),
        hop=st.sampled_from([(500, 500), (100, 200_000)]),
        hold=st.sampled_from([(1, 1), (10_000, 900_000)]),
    ),
    breaks=st.lists(
        st.tuples(st.sampled_from(["restart", "cut", "exhaust", "device"]), st.integers(1, 900)),
        max_size=4,
    ),
    kind=st.sampled_from(list(PairKind)),
)
@example(
    seed=287,
    faults=Faults(hop=(100, 200_000), hold=(1, 1)),
    breaks=[("restart", 285), ("restart", 285), ("restart", 287), ("restart", 287)],
    kind=PairKind.KEEP,
)
def test_whatever_breaks_no_slot_is_leaked_and_order_holds_in_each_life(
    seed: int, faults: Faults, breaks: list[tuple[str, int]], kind: PairKind
) -> None:
    lab = Lab(seed, 0.1, faults, parameters(modes=2, memories=3))
    lab.start(job(1, 8, kind), job(2, 3))
    for what, after in breaks:
        lab.run(lab.now + after * 1_000)
        match what:
            case "restart":
                lab.restart_station()
            case "cut":
                lab.disconnect()
                lab.run(lab.now + 50_000)
                lab.connect()
            case "exhaust":
                lab.hardware.exhaust("bob")
            case _:
                for status in (DeviceStatus.FAULT, DeviceStatus.READY):
                    lab.step("bob", DeviceState("bob-emitter", status, "x", 0, 0))
                    lab.run(lab.now + 40_000)
    lab.run(lab.now + 20_000_000)
    for name in NAMES:
        assert lab.sequences(name) == sorted(set(lab.sequences(name)))
    assert "remote_errors" not in lab.counts, lab.notes
    lab.rested()


# --- what no honest party sends ------------------------------------------------------------

REQUEST = RequestId("alice", 7, 1)


def armed_node() -> NodePhysical:
    lab = Lab(success=0.0).start(job(1, 2))
    lab.run(200_000)
    return lab.nodes["alice"]


def success(sequence: int, cycle: int = 100, mode: int = 0) -> Success:
    return Success(sequence, REQUEST, cycle, mode, 1, 2, (0, 0), "s")


HOSTILE: list[Any] = [
    Herald("x-y", 200, 1, 99, (success(1),), (), 0),
    Herald("a-b", 200, 1, 99, (success(1, cycle=1 << 70),), (), 0),
    Herald("a-b", 200, 1, 99, (success(1, cycle=100_000),), (), 0),
    Herald("a-b", 200, 1, 99, (success(1, mode=5),), (), 0),
    Herald("a-b", 200, 1, 201, (success(1),), (), 0),
    Herald("a-b", 200, 2, 99, (success(1), success(2, 101)), (), 0),
    Herald("a-b", 200, 1_000_000, 99, (success(1_000_000),), (), 0),
    Herald("a-b", 200, 1, 99, (success(0),), (), 0),
    Herald("a-b", 200, 1, 99, (success(1), success(1)), (), 0),
    Beacon("a-b", 200, 1_000, 0, 17, 99),
    ArmReply("a-b", 9, 0, Verdict.ACCEPT, 0, 0, 0, 0, 0, 200, 0, 99, (), "", 0),
    ArmReply("a-b", 2, 9, Verdict.ACCEPT, 0, 0, 0, 0, 0, 200, 0, 99, (), "", 0),
    ArmReply("a-b", 2, 0, Verdict.ACCEPT, 0, 0, 0, 0, 0, 200, 7, 99, (), "", 0),
    ArmReply("a-b", 2, 0, Verdict.ACCEPT, -1, 0, 0, 0, 0, 200, 0, 99, (), "", 0),
]


@pytest.mark.parametrize("message", HOSTILE)
def test_a_senseless_message_of_the_station_changes_nothing_at_the_node(message: Any) -> None:
    node = armed_node()
    before = (node.report(), node.deadline)
    with pytest.raises(RemoteProtocolError):
        node.handle(message, 300_000)
    assert (node.report(), node.deadline) == before
    assert node.handle(DRAINED, 300_000) == []


GOOD: Any = Arm("a-b", 9, 1, REQUEST, PairKind.KEEP, "s", 1, 0, 1, 0, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"link": "x-y"},
        {"number": 0},
        {"number": 1 << 40},
        {"credits": 1 << 40},
        {"credits": -1},
        {"credits": 0},
        {"herald_sequence": 5},
        {"queue_version": -1},
        {"first_cycle": 1 << 70},
        {"setting": "t"},
        {"query": -1},
    ],
)
def test_a_senseless_arm_changes_nothing_at_the_station(changes: dict[str, Any]) -> None:
    station = StationPhysical(parameters(), CommandIds(), 9)
    station.handle(EndReachable("alice"), 0)
    station.handle(FromEnd("alice", GOOD), 10)
    station.handle(DRAINED, 10)
    before = (station.state, station.report(), station.deadline)
    with pytest.raises(RemoteProtocolError):
        station.handle(FromEnd("alice", attrs.evolve(GOOD, **changes)), 20)
    assert (station.state, station.report(), station.deadline) == before
    assert station.handle(DRAINED, 20) == []


def test_an_arm_for_another_life_of_the_station_is_answered_but_not_taken() -> None:
    station = StationPhysical(parameters(), CommandIds(), 9)
    station.handle(EndReachable("alice"), 0)
    station.handle(FromEnd("alice", attrs.evolve(GOOD, station_boot=8)), 10)
    (send,) = station.handle(DRAINED, 10)
    assert isinstance(send, Send)
    assert (send.message.number, send.message.verdict) == (0, Verdict.WAIT)
    assert station.state is LinkState.IDLE


def test_a_late_click_is_void_because_its_cycle_was_called_decided() -> None:
    lab = Lab(success=0.0).start(job(1, 1))
    lab.run(1_000_000)
    assert lab.hardware.open is not None
    command = lab.hardware.open.command
    lab.station.handle(FromEnd("alice", attrs.evolve(_last_arm(lab), query=1)), lab.now)
    replies = [a.message for a in lab.station.handle(DRAINED, lab.now) if isinstance(a, Send)]
    decided = replies[0].decided_cycle
    assert decided > 0
    click = dev.StationClicks("bsa", command, "a-b", decided, 0, 1, (5,), 0)
    lab.station.handle(click, lab.now)
    heralds = [a.message for a in lab.station.handle(DRAINED, lab.now) if isinstance(a, Send)]
    assert [h.voids for h in heralds] == [((decided, 0),)] * 2
    assert lab.station.report()["last_sequence"] == 0


def _last_arm(lab: Lab) -> Any:
    return next(
        m for _, source, _, m in reversed(lab.sent) if isinstance(m, Arm) and source == "alice"
    )


def test_clicks_wait_for_a_late_credit_and_are_void_if_it_never_comes() -> None:
    for comes in (True, False):
        lab = Lab(success=0.0).start(job(1, 2))
        lab.run(1_000_000)
        assert lab.hardware.open is not None
        command, now = lab.hardware.open.command, lab.now
        for cycle in (1_001, 1_002):
            click = dev.StationClicks("bsa", command, "a-b", cycle, 0, 1, (cycle,), 0)
            lab.step("station", click)
        assert lab.station.report()["last_sequence"] == 1
        assert lab.station.report()["pending"] == 1
        heralds = [m for _, _, _, m in lab.sent if isinstance(m, Herald)]
        assert heralds[-1].decided_cycle == 1_000
        if comes:
            for name in NAMES:
                arm = next(m for _, s, _, m in reversed(lab.sent) if s == name)
                lab.step("station", FromEnd(name, attrs.evolve(arm, credits=2)))
            assert lab.station.report()["last_sequence"] == 2
        else:
            lab.run(now + 3_000_000)
            voids = {v for _, _, _, m in lab.sent if isinstance(m, Herald) for v in m.voids}
            assert voids == {(1_002, 0)}


def test_an_order_that_the_link_cannot_serve_is_our_own_mistake() -> None:
    node = armed_node()
    with pytest.raises(LocalProtocolError):
        node.handle(Serve(REQUEST, PairKind.KEEP, "nowhere", 1, None, 1), 0)
    with pytest.raises(LocalProtocolError):
        node.handle(Serve(REQUEST, PairKind.KEEP, "s", -1, None, 1), 0)


def test_a_node_that_comes_new_to_an_old_station_goes_on_from_its_last_success() -> None:
    lab = Lab().start(job(1, 3))
    lab.run()
    fresh = Lab(seed=3)
    node = fresh.nodes["alice"]
    assert node.handle(StationReachable(100), 0)[0].event == StationUp(100)
    lab.nodes["alice"], lab.slots["alice"] = node, fresh.slots["alice"]
    lab.ups["alice"].clear()
    lab.jobs = [job(2, 2)]
    lab.done = {name: [0] for name in NAMES}
    lab.arrived.clear()
    lab.step("station", EndReachable("alice", 55))
    for name in NAMES:
        lab.serve(name)
    lab.run()
    assert lab.sequences("alice") == [(100, 4), (100, 5)]
    assert not any(isinstance(up, PairMissing) for up in lab.ups["alice"])
    lab.rested()


def test_every_state_of_the_tables_can_be_left_but_the_end_of_an_attempt() -> None:
    for state, row in ATTEMPTS.items():
        leads = set().union(*row.values()) - {state}
        assert bool(leads) is (state is not AttemptState.ENDED)
    for link, events in LINKS.items():
        assert set().union(*events.values()) - {link}

"""Work that is for certain cycles alone: what the emitter is told, and what the station counts."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.messages.common import PairKind
from qstack.messages.devices import EmitterArm, EmitterMeasure, Exhausted, Rejected
from qstack.messages.physical import Arm, ArmReply, Herald, Verdict
from qstack.physical.events import FromEnd
from qstack.physical.service import ClockSeen, Serve
from tests.physical.physical_lab import CYCLE, NAMES, Lab, job, parameters

FOREVER = 10**9


def change(record: Any, **fields: Any) -> Any:
    return attrs.evolve(record, **fields)


def started(begin: int, end: int, kind: PairKind = PairKind.KEEP, **link: Any) -> Lab:
    """Both ends work for a long request, in these cycles; the hardware minds no end of a bin."""
    lab = Lab(link=change(parameters(**link), scheduler="time-division"), success=0.5)
    lab.jobs, lab.done = [job(1, 500, kind)], {name: [0] for name in NAMES}
    lab.connect()
    serve(lab, begin, end)
    return lab


def serve(lab: Lab, begin: int, end: int) -> None:
    for name in NAMES:
        left = 500 - lab.done[name][0]
        work: Any = lab.jobs[0].serve(name, left, lab.version[name])
        lab.step(name, change(work, begin=begin, end=end))


def cycles(lab: Lab) -> set[int]:
    heralds = [message for *_, message in lab.sent if isinstance(message, Herald)]
    return {success.cycle for herald in heralds for success in herald.successes}


@pytest.mark.parametrize("herald_line", [True, False])
def test_a_station_counts_no_success_outside_of_the_bin_whatever_the_hardware_does(
    herald_line: bool,
) -> None:
    lab = started(700, 1_900, herald_line=herald_line)
    lab.run(4_000 * CYCLE)
    made = cycles(lab)
    assert made
    assert min(made) >= 700
    assert max(made) < 1_900
    assert max(made) > 1_400


@pytest.mark.parametrize("kind", [PairKind.KEEP, PairKind.MEASURE])
def test_an_emitter_is_told_the_cycles_of_the_bin(kind: PairKind) -> None:
    lab = started(700, 1_900, kind)
    commands: list[Any] = []
    lab.hardware.fail = lambda who, command: commands.append(command)
    lab.run(1_500 * CYCLE)
    arms = [c for c in commands if isinstance(c, EmitterArm | EmitterMeasure)]
    assert arms
    assert all((arm.not_before >= 700, arm.before) == (True, 1_900) for arm in arms)


@pytest.mark.parametrize("late", [False, True])
def test_after_the_emitter_said_that_the_bin_is_over_it_gets_no_more_of_it(late: bool) -> None:
    lab = started(0, 1_900)
    lab.run(500 * CYCLE)
    count = {"EmitterArm": 0}

    def over(who: str, command: Any) -> Any:
        if not isinstance(command, EmitterArm):
            return None
        count["EmitterArm"] += 1
        if late:
            return Rejected(command.device, command.command, True, "its cycles are over")
        return Exhausted(command.device, command.command, 0)

    lab.hardware.fail = over
    lab.run(1_800 * CYCLE)
    assert 0 < count["EmitterArm"] <= 2
    lab.hardware.fail = lambda who, command: None
    before = len(lab.results("alice"))
    serve(lab, 1_900, 3_000)
    lab.run(3_000 * CYCLE)
    assert len(lab.results("alice")) > before


def test_ends_in_different_bins_are_not_paired_and_the_one_in_the_former_bin_is_behind() -> None:
    lab = started(0, 1_000)
    lab.run(100 * CYCLE)
    arm = [m for _, source, _, m in lab.sent if isinstance(m, Arm) and source == "alice"][-1]
    assert (arm.bin, arm.bin_end) == (0, 1_000)
    later = change(arm, number=arm.number + 1, bin=1_000, bin_end=2_000, credits=0)
    before = len(lab.sent)
    lab.step("station", FromEnd("alice", later))
    said = {to: m.verdict for _, _, to, m in lab.sent[before:] if isinstance(m, ArmReply)}
    assert said == {"alice": Verdict.AHEAD, "bob": Verdict.BEHIND}


@pytest.mark.parametrize(("begin", "end"), [(-1, 0), (5, 5), (5, 4)])
def test_cycles_that_cannot_be_are_refused(begin: int, end: int) -> None:
    lab = started(0, 1_000)
    lab.run(100 * CYCLE)
    order: Any = lab.jobs[0].serve("alice", 1, 1)
    assert isinstance(order, Serve)
    with pytest.raises(LocalProtocolError):
        lab.nodes["alice"].handle(change(order, begin=begin, end=end), lab.now)
    arm = [m for _, source, _, m in lab.sent if isinstance(m, Arm) and source == "alice"][-1]
    wrong = change(arm, number=arm.number + 1, bin=begin, bin_end=end)
    with pytest.raises(RemoteProtocolError):
        lab.station.handle(FromEnd("alice", wrong), lab.now)


def test_the_clock_is_told_at_once_and_never_ahead_of_the_hardware() -> None:
    lab = started(0, 0)
    lab.run(2_000 * CYCLE)
    began = lab.hardware.clock
    assert began is not None
    for name in NAMES:
        clocks = [event for event in lab.ups[name] if isinstance(event, ClockSeen)]
        assert clocks
        # Late by the wire's 20 us at most; the station's count is ahead by its command's 0.5 us.
        for clock in clocks:
            assert -500 <= clock.began - began <= 20_500

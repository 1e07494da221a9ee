"""What devices may say at any time, and the machines of a link must bear."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.codec import FRAME_OVERHEAD, encode_body, room_for_frames
from qstack.errors import HardwareFault
from qstack.hal.commands import CommandIds
from qstack.machine import TICK
from qstack.messages.common import PLAIN_Z, Basis, PairKind, RequestId
from qstack.messages.devices import (
    Abort,
    Aborted,
    Completed,
    DeviceState,
    DeviceStatus,
    EmitterOutcome,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.messages.physical import ArmReply, Verdict
from qstack.physical.attempts import Attempts
from qstack.physical.events import EndReachable, FromEnd
from qstack.physical.heralding import MAX_LISTED
from qstack.physical.pairing import LinkState
from qstack.physical.service import Serve
from qstack.physical.sharing import Station
from qstack.physical.slots import Slots
from tests.physical.physical_lab import CYCLE, NAMES, parameters
from tests.physical.test_windows_of_a_link import (
    DAY,
    arm,
    both,
    change,
    commands,
    link,
    replies,
    station_of,
    step,
    window,
)


def test_the_end_of_an_abort_may_come_as_late_as_the_end_of_a_window() -> None:
    """It comes before the Tick that is due: whatever it says, the window is over."""
    station = station_of(link("a-b", DAY))
    span = window(station, "a-b", 1_000)
    assert commands(both(station, arm("a-b", 2_000, span), 2_000_000), StationOpen)
    (abort,) = commands(both(station, arm("a-b", 3_000, span, wants=False), 3_000_000), Abort)
    assert commands(both(station, arm("a-b", 4_000, span), 4_000_000), StationOpen)
    due = station.deadline
    assert due is not None
    actions = step(station, Completed("bsa", abort.command), due)
    assert station.links["a-b"].state is LinkState.DEFERRED
    assert [reply.verdict for reply in replies(actions)] == [Verdict.DEFER] * 2


@pytest.mark.parametrize("wanted", [False, True])
def test_a_clock_that_is_aborted_begins_again_after_a_rest(wanted: bool) -> None:
    station = Station((link("a-b", None),), CommandIds(), 9)
    (clock,) = commands(station.handle(EndReachable("alice"), 0), StationClock)
    for name in NAMES if wanted else ():
        station.handle(FromEnd(name, arm("a-b", 1, (0, 0))), 0)
    actions = station.handle(Aborted("bsa", clock.command, "of itself"), 1_000)
    assert not commands(actions, StationClock)
    assert station.report()["a-b"]["trouble"] == "of itself"
    due = station.deadline
    assert due is not None
    assert len(commands(station.handle(TICK, due), StationClock)) == 1


def test_no_more_outcomes_than_were_asked_for_are_taken() -> None:
    serve = Serve(RequestId("alice", 7, 1), PairKind.MEASURE, "s", 3, PLAIN_Z, 1)
    attempts = Attempts(parameters(), "alice", Slots((0,)), CommandIds())
    measure = attempts.measure(1, serve, 3, 0).command
    made = [
        EmitterOutcome(measure.device, measure.command, cycle, 0, Basis.Z, 0, 0, False)
        for cycle in range(5)
    ]
    assert [attempts.take(each, 1_000) is not None for each in made[:3]] == [True] * 3
    for each in made[3:]:
        with pytest.raises(HardwareFault):
            attempts.take(each, 1_000)
    assert attempts.armed == 0
    # It ends as it likes.
    assert attempts.take(Aborted(measure.device, measure.command, ""), 2_000) is None
    assert (attempts.measuring, attempts.running) == (0, {})


@pytest.mark.parametrize("reason", ["x" * 512, "\N{LINEAR B SYLLABLE B008 A}" * 512])
def test_a_reply_fits_into_a_datagram_whatever_the_analyser_says_of_itself(reason: str) -> None:
    """With as many successes as a reply can list, and a name of 16 letters in each."""
    station = station_of(link("a-b", None))
    request = RequestId("n" * 16, (1 << 64) - 1, 1 << 40)
    wants: Any = change(arm("a-b", 2_000, (0, 0)), request=request, credits=100)
    (opening,) = commands(both(station, wants, 2_000), StationOpen)
    for cycle in range(1, MAX_LISTED + 4):
        seen = StationClicks("bsa", opening.command, "a-b", cycle << 40, 0, 1, (1 << 62,), 0)
        step(station, seen, 3_000 + cycle * CYCLE)
    actions = step(station, DeviceState("bsa", DeviceStatus.FAULT, reason, 0, 0), 900_000)
    told: list[ArmReply] = replies(actions)
    assert [len(reply.unconfirmed) for reply in told] == [MAX_LISTED] * 2
    for reply in told:
        assert reply.verdict is Verdict.REFUSED
        assert len(reply.reason) > 30
        assert reason.startswith(reply.reason)
        size = len(encode_body(reply)) + FRAME_OVERHEAD + len("soft:ArmReply/a-b")
        assert size <= room_for_frames("s" * 16, "n" * 16)

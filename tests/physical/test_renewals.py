"""A link's clock that begins again for drift while successes of its former count are unconfirmed.

A long window is used, the short one after it is what the clock is not good enough for: so it
begins again as soon as the long one is over. Cycles have the same numbers in both counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from qstack.messages.common import PairKind
from qstack.messages.devices import DeviceState, DeviceStatus, StationClicks, StationOpen
from qstack.messages.physical import ArmReply, Herald
from qstack.units import MILLISECOND
from qstack.windows import Windows
from tests.physical.physical_lab import CONFIRM, CYCLE, NAMES, Faults, Lab, job, parameters
from tests.physical.test_windows_of_a_link import (
    arm,
    both,
    change,
    commands,
    link,
    station_of,
    step,
)

PERIOD = 10 * MILLISECOND
UNEQUAL = Windows(PERIOD, ((0, MILLISECOND), (5 * MILLISECOND, MILLISECOND // 10)))
MODES = 16
ASKED = 20 * PERIOD + 6 * MILLISECOND
"""The clock may have drifted by 42 us then: a twentieth of the long windows, half of the short."""
OPENS, CLOSES = 21 * PERIOD, 21 * PERIOD + MILLISECOND

Lose = Callable[[Lab, str, str, Any], bool]


def asked(kind: PairKind, pairs: int, faults: Faults | None = None, seed: int = 1) -> Lab:
    """A link that was idle for long, asked for more than one long window gives."""
    made: Any = parameters(modes=MODES, memories=MODES)
    lab = Lab(seed, 0.04, faults, attrs.evolve(made, windows=UNEQUAL))
    lab.connect()
    lab.run(ASKED)
    lab.jobs = [job(1, pairs, kind)]
    lab.done = {name: [0] for name in NAMES}
    for name in NAMES:
        lab.serve(name)
    return lab


def finish(lab: Lab) -> None:
    """All pairs are there at both ends; which half is whose the laboratory has looked at itself."""
    lab.run(CLOSES + 5 * PERIOD)
    assert lab.counts["StationClock"] == 2
    for name in NAMES:
        assert lab.missing(name) == []
        assert lab.current(name) is None
    assert lab.sequences("alice") == lab.sequences("bob")
    assert "remote_errors" not in lab.counts
    lab.rested()


def at_the_end(lab: Lab) -> bool:
    """For so long that the clock has begun again before anything is heard."""
    return -CONFIRM < lab.now - CLOSES < 3 * CONFIRM


LOSSES: dict[str, Lose] = {
    "nothing": lambda lab, source, target, message: False,
    "heralds to bob": lambda lab, source, target, message: (
        target == "bob" and type(message) is Herald and lab.now < CLOSES + 3 * CONFIRM
    ),
    "all to bob": lambda lab, source, target, message: target == "bob" and at_the_end(lab),
    "all of bob": lambda lab, source, target, message: source == "bob" and at_the_end(lab),
    "all": lambda lab, source, target, message: at_the_end(lab),
}


@pytest.mark.parametrize("losing", LOSSES)
@pytest.mark.parametrize("kind", [PairKind.KEEP, PairKind.MEASURE])
def test_no_success_is_lost_or_mixed_up_where_the_clock_begins_again_before_it_is_confirmed(
    kind: PairKind, losing: str
) -> None:
    lab = asked(kind, 400)
    lab.lose = lambda *message: LOSSES[losing](lab, *message)
    most = 0
    lab.run(OPENS)
    while lab.counts["StationClock"] == 1:
        most = max(lab.station.report()["unconfirmed"].values())
        lab.run(lab.now + CONFIRM // 20)
    assert lab.now > CLOSES - MILLISECOND // 10, "all of the window was used"
    assert most > 8 or "to bob" not in losing, "more than one message lists"
    finish(lab)


@pytest.mark.parametrize("seed", range(1, 7))
def test_the_clock_begins_again_on_a_link_that_loses_doubles_and_reorders(seed: int) -> None:
    kind = PairKind.MEASURE if seed % 2 else PairKind.KEEP
    lab = asked(kind, 120, Faults(0.3, 0.1, (5_000, 60_000)), seed)
    finish(lab)
    assert lab.station.report()["last_sequence"] >= 120


def test_no_success_of_the_new_count_is_told_before_both_ends_have_heard_of_it() -> None:
    """Bob hears of it late, when the first window of the new count is open already."""
    lab = asked(PairKind.KEEP, 300)
    late = OPENS + PERIOD + MILLISECOND // 2
    lab.lose = lambda source, target, message: (
        target == "bob" and type(message) is ArmReply and message.epoch == 1 and lab.now < late
    )
    lab.run(CLOSES + 3 * PERIOD)
    new = [at for at, _, _, m in lab.sent if type(m) is Herald and m.epoch == 1 and m.successes]
    assert min(new) > late
    for name in NAMES:
        assert lab.missing(name) == []
    lab.lose = lambda source, target, message: False
    finish(lab)


@pytest.mark.parametrize("sees", [0, 1])
def test_what_is_void_of_the_former_count_is_not_told_under_the_new_one(sees: int) -> None:
    """A click of cycle 9 waits for credit, or has no pattern, when the analyser is gone: 9 means
    another attempt from then on."""
    station = station_of(link("a-b", None))
    (opening,) = commands(both(station, change(arm("a-b", 1, (0, 0))), 1_000), StationOpen)
    assert isinstance(opening, StationOpen)
    clicks = parameters().settings[0].patterns[0].clicks
    first = StationClicks("bsa", opening.command, "a-b", 8, 0, clicks, (), 0)
    step(station, first, 12 * CYCLE)
    second = StationClicks("bsa", opening.command, "a-b", 9, 0, clicks if sees else 0, (), 0)
    station.handle(second, 13 * CYCLE)
    gone = DeviceState("bsa", DeviceStatus.OFFLINE, "power", 0, 0)
    told = [action.message for action in step(station, gone, 13 * CYCLE)]
    heralds = [message for message in told if isinstance(message, Herald)]
    assert not any(message.voids for message in heralds)
    replies = [message for message in told if isinstance(message, ArmReply)]
    assert [(reply.epoch, reply.last_sequence) for reply in replies] == [(1, 1)] * 2

"""Windows of a link at its station and at its ends: what is paired when, and what is said of it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import DRAINED, TICK, Device, Send
from qstack.messages.common import PairKind, RequestId
from qstack.messages.devices import Abort, Completed, Exhausted, StationClock, StationOpen
from qstack.messages.physical import Arm, ArmReply, Verdict
from qstack.physical.events import EndReachable, FromEnd
from qstack.physical.sharing import Station
from qstack.windows import Windows
from tests.physical.physical_lab import CYCLE, NAMES, Lab, job, parameters

PERIOD = 100_000_000
DRIFTED = PERIOD // 5_000
"""So much earlier than by the count of its beginning the hardware may be after a period."""
DAY = Windows(PERIOD, ((0, 40_000_000),))
NIGHT = Windows(PERIOD, ((50_000_000, 30_000_000),))


def change(record: Any, **fields: Any) -> Any:
    return attrs.evolve(record, **fields)


def link(name: str, windows: Windows | None) -> Any:
    return change(parameters(name=name), windows=windows)


def station_of(*links: Any) -> Station:
    station = Station(links, CommandIds(), 9)
    for name in NAMES:
        step(station, EndReachable(name), 0)
    return station


def step(station: Station, event: Any, now: int) -> list[Any]:
    """Let the station take an event; its clocks start at once, so that cycle 0 begins then."""
    actions = station.handle(event, now)
    for action in list(actions):
        if isinstance(action, Device) and isinstance(action.command, StationClock):
            actions += station.handle(Completed(action.device, action.command.command), now)
    return actions + station.handle(DRAINED, now)


def arm(name: str, number: int, span: tuple[int, int], *, wants: bool = True) -> Arm:
    request = RequestId("alice", 7, 1) if wants else None
    return Arm(
        *(name, 9, number, request, PairKind.KEEP, "s" if wants else "", 1, 0, 1, 0, number), *span
    )


def both(station: Station, message: Arm, now: int) -> list[Any]:
    return [action for name in NAMES for action in step(station, FromEnd(name, message), now)]


def commands(actions: list[Any], kind: type[Any]) -> list[Any]:
    found = [action.command for action in actions if isinstance(action, Device)]
    return [command for command in found if type(command) is kind]


def replies(actions: list[Any]) -> list[ArmReply]:
    sent = [action.message for action in actions if isinstance(action, Send)]
    return [message for message in sent if isinstance(message, ArmReply)]


def window(station: Station, name: str, now: int) -> tuple[int, int]:
    """What a reply says that is asked for now."""
    last = replies(both(station, arm(name, now // 1_000, (1, 2)), now))[-1]
    return last.opens_cycle, last.closes_cycle


def test_the_cycles_of_a_window_lie_in_it_with_the_way_of_their_light() -> None:
    station = station_of(link("a-b", DAY))
    way, drift = 20_000, 39_980_000 // 5_000
    opens, closes = window(station, "a-b", 1_000)
    assert opens == 0
    assert closes * CYCLE + way + drift <= 40_000_000 < (closes + 1) * CYCLE + way + drift
    opens, closes = window(station, "a-b", 45_000_000)
    assert PERIOD + DRIFTED <= opens * CYCLE < PERIOD + DRIFTED + CYCLE


def test_an_arm_in_closed_time_is_deferred_until_the_link_opens_and_paired_then() -> None:
    station = station_of(link("a-b", DAY))
    span = window(station, "a-b", 45_000_000)
    now = 50_000_000
    actions = both(station, arm("a-b", now // 1_000, span), now)
    reply = replies(actions)[-1]
    assert (reply.verdict, reply.until_ns) == (Verdict.DEFER, PERIOD - now)
    assert "closed" in reply.reason
    assert reply.phase_ns == now
    assert not commands(actions, StationOpen)
    assert station.deadline == PERIOD
    (opening,) = commands(step(station, TICK, PERIOD), StationOpen)
    assert opening.first_cycle + opening.cycles == span[1], "the hardware closes by itself"


def test_what_the_analyser_saw_in_the_last_cycles_counts_before_the_next_window_is_told() -> None:
    station = station_of(link("a-b", DAY))
    span = window(station, "a-b", 1_000)
    (opening,) = commands(both(station, arm("a-b", 2_000, span), 2_000), StationOpen)
    patience = parameters().confirm_ns
    assert station.deadline == 40_000_000 + patience
    actions = step(station, Exhausted("bsa", opening.command, 1), 40_010_000)
    told = replies(actions)
    assert {reply.opens_cycle * CYCLE for reply in told} == {PERIOD + DRIFTED}
    assert [reply.verdict for reply in told] == [Verdict.DEFER] * 2
    assert not commands(actions, Abort)


def test_an_analyser_that_does_not_say_that_it_is_through_is_closed_after_a_while() -> None:
    station = station_of(link("a-b", DAY))
    span = window(station, "a-b", 1_000)
    both(station, arm("a-b", 2_000, span), 2_000)
    due = station.deadline
    assert due is not None
    assert commands(step(station, TICK, due), Abort)


def test_cycles_that_no_window_holds_are_never_paired() -> None:
    station = station_of(link("a-b", DAY))
    opens, closes = window(station, "a-b", 1_000)
    for number, span in enumerate(
        [(opens, closes + 1), (closes, closes + 5), (closes + 100, closes + 200)], 10_000
    ):
        actions = both(station, arm("a-b", number, span), number)
        assert replies(actions)[-1].verdict is Verdict.DEFER
        assert not commands(actions, StationOpen)


def test_ends_that_know_of_no_windows_are_refused_with_the_reason() -> None:
    station = station_of(link("a-b", DAY))
    actions = both(station, arm("a-b", 1, (0, 0)), 1_000)
    assert replies(actions)[-1].verdict is Verdict.REFUSED
    assert "windows" in replies(actions)[-1].reason


def test_a_clock_that_took_longer_to_begin_than_a_window_lasts_begins_again() -> None:
    """Nobody knows which of its cycles lie in the open time."""
    station = Station((link("a-b", DAY),), CommandIds(), 9)
    (slow,) = commands(station.handle(EndReachable("alice"), 0), StationClock)
    first = Arm("a-b", 9, 1, None, PairKind.KEEP, "", 1, 0, 0, 0, 0)
    station.handle(FromEnd("alice", first), 0)
    late = 40_000_000
    actions = station.handle(Completed("bsa", slow.command), late) + station.handle(DRAINED, late)
    (reply,) = replies(actions)
    assert reply.verdict is Verdict.REFUSED
    assert "longer to begin than a window" in reply.reason
    assert (reply.opens_cycle, reply.closes_cycle) == (0, 0)
    due = station.deadline
    assert due is not None
    again = station.handle(TICK, due)
    assert len(commands(again, StationClock)) == 1


def test_links_that_share_an_analyser_have_it_in_their_windows_without_turns() -> None:
    station = station_of(link("a-b", DAY), link("b-c", NIGHT))
    spans = {name: window(station, name, 1_000) for name in ("a-b", "b-c")}
    opened = []
    for name, span in spans.items():
        opened += commands(both(station, arm(name, 2_000, span), 2_000), StationOpen)
    assert [command.link for command in opened] == ["a-b"]
    (first,) = opened
    step(station, Exhausted("bsa", first.command, 1), 40_000_000)
    assert station.deadline == 50_000_000
    (second,) = commands(step(station, TICK, 50_000_000), StationOpen)
    assert second.link == "b-c"


@pytest.mark.parametrize(
    ("opens", "closes", "phase"),
    [(5, 5, 0), (9, 3, 0), (-1, 5, 0), (0, 1 << 62, 0), (0, -4, 0), (1, 2, -1), (1, 2, 1 << 62)],
)
def test_an_end_takes_no_senseless_window_and_changes_nothing(
    opens: int, closes: int, phase: int
) -> None:
    lab = Lab(link=link("a-b", DAY), success=0.5)
    lab.start(job(1, 5))
    lab.run(60 * CYCLE)
    node = lab.nodes["alice"]
    last = [message for *_, to, message in lab.sent if to == "alice" and type(message) is ArmReply]
    before = node.report(), node.deadline
    bad = change(last[-1], opens_cycle=opens, closes_cycle=closes, phase_ns=phase)
    with pytest.raises(RemoteProtocolError):
        node.handle(bad, lab.now)
    assert (node.report(), node.deadline) == before


def test_an_end_whose_station_has_no_windows_is_always_open() -> None:
    lab = Lab(link=link("a-b", DAY), success=0.5)
    lab.station._gate = type(lab.station._gate)(None, 0, 0)
    lab.start(job(1, 50))
    lab.run(1_000_000_000)
    assert lab.done["alice"] == lab.done["bob"] == [50]

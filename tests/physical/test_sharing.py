"""Several links, one analyser."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import DRAINED, TICK, Device, Send
from qstack.messages.common import PairKind, RequestId
from qstack.messages.devices import (
    Abort,
    Completed,
    DeviceState,
    DeviceStatus,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.messages.physical import Arm, ArmReply, Verdict
from qstack.physical.events import EndReachable, FromEnd
from qstack.physical.pairing import LinkState
from qstack.physical.sharing import Station
from tests.physical.physical_lab import NAMES, parameters

SECOND: Any = parameters(name="b-c")
LINKS = (parameters(name="a-b"), SECOND)


def arm(link: str, number: int, wants: bool) -> Arm:
    request = RequestId("alice", 7, 1) if wants else None
    return Arm(link, 9, number, request, PairKind.KEEP, "s" if wants else "", 1, 0, 1, 0, 0)


def step(station: Station, event: Any, now: int) -> list[Any]:
    """Let the station take an event; its clocks start at once."""
    actions = station.handle(event, now)
    for action in list(actions):
        if isinstance(action, Device) and isinstance(action.command, StationClock):
            done = Completed(action.device, action.command.command)
            actions += station.handle(done, now)
    return actions + station.handle(DRAINED, now)


def opened(actions: list[Any]) -> list[str]:
    commands = [a.command for a in actions if isinstance(a, Device)]
    return [c.link for c in commands if isinstance(c, StationOpen)]


def verdicts(actions: list[Any]) -> list[tuple[str, Verdict]]:
    sent = [a.message for a in actions if isinstance(a, Send)]
    return [(m.link, m.verdict) for m in sent if isinstance(m, ArmReply)]


def both(station: Station, link: str, wants: bool, number: int, now: int) -> list[Any]:
    actions = []
    for name in NAMES:
        actions += step(station, FromEnd(name, arm(link, number, wants)), now)
    return actions


def test_links_that_share_an_analyser_take_turns() -> None:
    station = Station(LINKS, CommandIds(), 9)
    for name in NAMES:
        step(station, EndReachable(name), 0)
    assert opened(both(station, "b-c", True, 1, 10)) == ["b-c"]
    assert station.deadline is None
    later = both(station, "a-b", True, 1, 20)
    assert opened(later) == []
    assert verdicts(later)[-2:] == [("a-b", Verdict.DEFER)] * 2
    turn = station.deadline
    assert turn is not None
    held = []
    for _ in range(4):
        assert station.deadline is not None
        turn = station.deadline
        actions = station.handle(TICK, turn) + station.handle(DRAINED, turn)
        assert any(isinstance(a.command, Abort) for a in actions if isinstance(a, Device))
        held += opened(actions)
        states = sorted(machine.state.name for machine in station.links.values())
        assert states == ["DEFERRED", "PAIRED"]
    assert held == ["a-b", "b-c", "a-b", "b-c"]


def test_a_link_that_rests_leaves_the_analyser_to_the_next_at_once() -> None:
    station = Station(LINKS, CommandIds(), 9)
    both(station, "b-c", True, 1, 10)
    both(station, "a-b", True, 1, 20)
    actions = both(station, "b-c", False, 2, 30)
    assert opened(actions) == ["a-b"]
    assert station.links["b-c"].state is LinkState.IDLE
    assert station.links["a-b"].state is LinkState.PAIRED


def test_links_with_analysers_of_their_own_do_not_wait() -> None:
    own = (LINKS[0], attrs.evolve(SECOND, analyser="bsa2"))
    station = Station(own, CommandIds(), 9)
    assert opened(both(station, "b-c", True, 1, 10)) == ["b-c"]
    assert opened(both(station, "a-b", True, 1, 20)) == ["a-b"]


def test_every_event_finds_its_links_by_itself() -> None:
    station = Station(LINKS, CommandIds(), 9)
    actions = both(station, "b-c", True, 1, 10)
    (command,) = (
        action.command
        for action in actions
        if isinstance(action, Device) and isinstance(action.command, StationOpen)
    )
    station.handle(StationClicks("bsa", command.command, "b-c", 20, 0, 1, (5,), 0), 20)
    station.handle(StationClicks("bsa", command.command, "x-y", 20, 0, 1, (5,), 0), 20)
    assert {name: one["last_sequence"] for name, one in station.report().items()} == {
        "a-b": 0,
        "b-c": 1,
    }
    with pytest.raises(RemoteProtocolError):
        station.handle(FromEnd("alice", arm("x-y", 1, True)), 30)
    step(station, DeviceState("bsa", DeviceStatus.FAULT, "warm", 0, 0), 40)
    assert [one["trouble"] for one in station.report().values()] == ["warm", "warm"]
    assert station.links["b-c"].state is LinkState.CLOSED

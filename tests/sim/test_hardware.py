"""Devices that answer late or stall: nothing is lost, reordered or younger than it is."""

from __future__ import annotations

from typing import Any

import attrs

from qstack.hal.server import Commanded, OwnerGone, Reported
from qstack.machine import TICK, Up
from qstack.messages.devices import Completed, EmitterHeralded, MemoryInitialise
from qstack.sim.hardware import Linger, Resume, SlowHardware, Stall


@attrs.define
class Bench:
    """Reports each command's end at once, and a herald of each device at every deadline."""

    deadline: int | None = None
    heralds: int = 0

    def handle(self, event: Any, now: int) -> list[Any]:
        if type(event) is Commanded:
            return [Up(Reported(event.owner, Completed(event.body.device, event.body.command)))]
        if event is TICK:
            self.deadline = None
            self.heralds += 1
            return [
                Up(Reported(owner, EmitterHeralded(device, self.heralds, 0, 0, 0, 100)))
                for owner, device in (("alice", "a"), ("bob", "b"))
            ]
        return []


def command(device: str, number: int, owner: str = "alice") -> Commanded:
    return Commanded(owner, MemoryInitialise(device, number, 0))


def bodies(actions: list[Any]) -> list[Any]:
    return [action.event.body for action in actions]


def test_a_late_device_reports_later_and_its_ages_say_so_while_others_are_on_time() -> None:
    bench = Bench()
    slow = SlowHardware(bench)
    assert slow.handle(Linger("a", 40), 0) == []
    bench.deadline = 10
    assert slow.deadline == 10
    assert bodies(slow.handle(TICK, 10)) == [EmitterHeralded("b", 1, 0, 0, 0, 100)]
    assert slow.deadline == 50
    assert bodies(slow.handle(TICK, 50)) == [EmitterHeralded("a", 1, 0, 0, 0, 140)]
    assert slow.deadline is None
    assert slow.delayed == {"a": 1}


def test_what_a_device_says_in_time_does_not_overtake_what_it_said_late() -> None:
    slow = SlowHardware(Bench())
    slow.handle(Linger("a", 40), 0)
    assert slow.handle(command("a", 1), 5) == []
    slow.handle(Linger("a", 0), 6)
    assert slow.handle(command("a", 2), 7) == []
    assert bodies(slow.handle(TICK, 45)) == [Completed("a", 1), Completed("a", 2)]
    assert bodies(slow.handle(command("a", 3), 46)) == [Completed("a", 3)]


def test_a_stalled_device_says_all_that_it_has_to_say_when_it_resumes() -> None:
    bench = Bench()
    slow = SlowHardware(bench)
    slow.handle(Stall("a"), 0)
    assert slow.handle(command("a", 1), 5) == []
    assert bodies(slow.handle(command("b", 1), 6)) == [Completed("b", 1)]
    bench.deadline = 8
    assert bodies(slow.handle(TICK, 8)) == [EmitterHeralded("b", 1, 0, 0, 0, 100)]
    assert slow.deadline is None, "nothing comes of itself"
    assert bodies(slow.handle(Resume("a"), 30)) == [
        Completed("a", 1),
        EmitterHeralded("a", 1, 0, 0, 0, 122),
    ]


def test_a_process_that_is_gone_is_told_nothing_when_its_device_resumes() -> None:
    slow = SlowHardware(Bench())
    slow.handle(Stall("a"), 0)
    slow.handle(command("a", 1, "alice"), 1)
    slow.handle(command("a", 2, "bob"), 2)
    slow.handle(OwnerGone("alice"), 3)
    assert bodies(slow.handle(Resume("a"), 9)) == [Completed("a", 2)]

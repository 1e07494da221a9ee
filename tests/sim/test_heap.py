"""The heap itself, with trivial machines: order, lives, wake-ups, and counts by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import attrs
import pytest

from qstack.hal.server import Commanded, OwnerGone, Reported
from qstack.machine import DRAINED, TICK, Device, FromDevice, Up
from qstack.messages.devices import Completed, StationClock
from qstack.sim.heap import WORLD, EventHeap, Wire
from qstack.units import Chance
from tests.sim.heap_rig import Alarm, Say, Talker, pair_of_talkers


def quiet_heap() -> EventHeap:
    return EventHeap(Chance(1), Wire(100), device_ns=7)


@attrs.define
class Puppet:
    """Does what the table says for each event, and remembers (now, event)."""

    does: Callable[[Any], list[Any]]
    seen: list[tuple[int, Any]] = attrs.field(factory=list)
    deadline: int | None = None

    def handle(self, event: Any, now: int) -> list[Any]:
        self.seen.append((now, event))
        return self.does(event)


def test_what_is_due_at_one_instant_comes_in_order_and_the_inbox_is_drained_once() -> None:
    heap = quiet_heap()
    alice, bob = pair_of_talkers(heap)
    heap.post("alice", "second", 5)
    heap.post("alice", "third", 5)
    heap.post("bob", "fourth", 5)
    heap.post("alice", "fifth", 5)
    heap.post("alice", "first", 4)
    heap.run()
    assert [event for _, event in alice.seen] == [
        "first",
        DRAINED,
        "second",
        "third",
        DRAINED,
        "fifth",
        DRAINED,
    ]
    assert bob.seen == [(5, "fourth"), (5, DRAINED)]
    assert (heap.entries, heap.steps) == (5, 9)


def test_a_message_costs_one_entry_and_two_steps_at_either_end() -> None:
    heap = quiet_heap()
    pair_of_talkers(heap)
    for _ in range(10):
        heap.post("alice", Say("bob", "x"), 1_000)
        heap.run()
    assert (heap.entries, heap.steps) == (20, 40)
    assert heap.frames == {"application:Status": 10}
    assert heap.wires["alice", "bob"].sent == 10


def test_a_deadline_that_moved_is_no_entry_at_its_former_instant() -> None:
    heap = quiet_heap()
    host = Talker("host")
    heap.add("host", host)
    heap.post("host", Alarm(50))
    heap.post("host", Alarm(20), 10)
    heap.run()
    assert [(now, event) for now, event in host.seen if event is TICK] == [(20, TICK)]
    assert heap.now == 50
    assert (heap.entries, heap.steps) == (3, 6)


def test_a_deadline_in_the_past_comes_at_once() -> None:
    heap = quiet_heap()
    host = Talker("host")
    heap.add("host", host)
    heap.post("host", Alarm(3), 10)
    heap.run()
    assert host.seen[-2:] == [(10, TICK), (10, DRAINED)]


def test_a_host_takes_what_its_listener_answers_at_once_and_before_the_inbox_is_drained() -> None:
    heap = quiet_heap()
    host = Puppet(lambda event: [Up(event)] if event in ("ask", DRAINED) else [])
    answers = iter([["one", "two"], ["last"], []])

    def listener(event: Any, now: int) -> Iterable[Any]:
        assert now == 5
        return next(answers)

    heap.add("host", host, listener)
    heap.post("host", "ask", 5)
    heap.run()
    assert [event for _, event in host.seen] == ["ask", "one", "two", DRAINED, "last", DRAINED]
    assert heap.entries == 1


def test_a_host_and_a_listener_that_answer_each_other_for_ever_are_stopped() -> None:
    heap = quiet_heap()
    heap.add("host", Puppet(lambda event: [Up("again")]), lambda event, now: [event])
    heap.post("host", "go")
    with pytest.raises(RuntimeError, match="still running after"):
        heap.run(max_steps=1_000)


def test_commands_and_reports_take_the_time_of_the_hardware_port_and_are_counted() -> None:
    heap = quiet_heap()
    command, report = StationClock("d", 1, "link", 10), Completed("d", 1)
    world = Puppet(lambda event: [Up(Reported("host", report))] if type(event) is Commanded else [])
    host = Puppet(lambda event: [Device("d", command)] if event == "go" else [])
    heap.add(WORLD, world)
    heap.add("host", host)
    heap.post("host", "go")
    heap.run()
    assert world.seen == [(7, Commanded("host", command))], "the world's inbox is never drained"
    assert host.seen[-2:] == [(14, FromDevice(report)), (14, DRAINED)]
    assert heap.frames == {"command:StationClock": 1, "report:Completed": 1}


def test_a_new_life_hears_nothing_that_was_meant_for_the_former_one() -> None:
    """Neither its wake-ups nor the reports on its commands; the world learns that it ended."""
    heap = quiet_heap()
    report = Completed("d", 1)
    world = Puppet(lambda event: [Up(Reported("host", report))] if type(event) is Commanded else [])
    heap.add(WORLD, world)
    first, second = Talker("host"), Talker("host")
    heap.add("host", first)
    heap.post("host", Alarm(20))
    heap.post(WORLD, Commanded("host", StationClock("d", 1, "link", 10)), 5)
    heap.run(10)
    heap.remove("host")
    assert not heap.lives("host")
    with pytest.raises(KeyError):
        heap.host("host")
    heap.add("host", second)
    heap.run()
    assert second.seen == []
    assert (10, OwnerGone("host")) in world.seen


def test_a_host_that_a_watcher_ends_in_the_middle_of_its_step_does_nothing_more() -> None:
    heap = quiet_heap()
    alice, _ = pair_of_talkers(heap)

    def watch(name: str, event: Any, now: int, actions: list[Any]) -> None:
        if event == "die":
            heap.remove("alice")

    heap.watch = watch
    heap.post("alice", "die")
    heap.run()
    assert [event for _, event in alice.seen] == ["die"]


def test_a_script_is_done_at_its_instant_and_is_neither_entry_nor_step() -> None:
    heap = quiet_heap()
    pair_of_talkers(heap)
    done: list[int] = []
    heap.post("alice", "event", 20)
    heap.call(20, lambda: done.append(heap.now))
    heap.call(10, lambda: done.append(heap.now))
    assert heap.next_at == 10
    assert heap.run(15)
    assert done == [10]
    assert heap.now == 15
    assert not heap.run()
    assert done == [10, 20]
    assert heap.next_at is None
    assert (heap.entries, heap.steps) == (1, 2)


def test_what_is_put_on_the_heap_for_the_present_instant_comes_after_what_was_there() -> None:
    """In the order of insertion, also while that instant is being worked off, and at its end."""
    heap, told = EventHeap(Chance(1), Wire(1)), []

    def say(word: str, *after: str) -> Any:
        def action() -> None:
            told.append((word, heap.now))
            for each in after:
                heap.call(heap.now, say(each))

        return action

    heap.call(5, say("first", "third", "fourth"))
    heap.call(5, say("second"))
    heap.call(7, say("last"))
    assert heap.next_at == 5
    heap.turn()
    assert heap.next_at == 5
    heap.run(5)
    heap.call(0, say("also at five"))
    assert heap.next_at == 5
    heap.run(6)
    assert heap.now == 6
    assert heap.next_at == 7
    heap.run()
    assert heap.next_at is None
    words = ["first", "second", "third", "fourth", "also at five"]
    assert told == [*((word, 5) for word in words), ("last", 7)]


class Polite(Talker):
    """Says goodbye to bob."""

    def stop(self, reason: str, now: int) -> list[Any]:
        return self.handle(Say("bob", reason), now)


def test_over_a_wire_without_latency_datagrams_are_handed_over_without_an_entry() -> None:
    """At once, after the sender's own turn; a word to nobody is counted; bytes go by the heap."""
    heap = quiet_heap()
    alice, bob = Polite("alice"), Talker("bob")
    heap.add("alice", alice)
    heap.add("bob", bob)
    heap.set_wire("alice", "bob", Wire(0))
    heap.post("alice", Say("bob", "here"), 5)
    heap.run()
    assert bob.heard == [(5, "here")]
    assert [event for _, event in bob.seen][-1] is DRAINED
    assert (heap.entries, heap.steps) == (1, 4)
    heap.remove("bob")
    heap.post("alice", Say("bob", "gone"), 5)
    heap.run()
    assert bob.heard == [(5, "here")]
    assert dict(heap.wires["alice", "bob"].fates) == {"nobody": 1}
    heap.add("bob", bob)
    heap.cut("bob")
    heap.post("alice", Say("bob", "cut"), 5)
    heap.run()
    heap.cut("bob", False)
    assert bob.heard == [(5, "here")]
    # Said by a script between two turns, it is not left lying either.
    heap.call(40, lambda: heap.stop("alice", "enough"))
    heap.run()
    assert bob.heard == [(5, "here"), (40, "enough")]


def _again(said: list[Any], event: Any) -> list[Any]:
    return [] if event is DRAINED else said


def test_hosts_at_one_place_that_answer_each_other_for_ever_are_stopped() -> None:
    heap = quiet_heap()
    for name, peer in (("alice", "bob"), ("bob", "alice")):
        talker = Talker(name)
        heap.add(name, Puppet(partial(_again, talker.handle(Say(peer, "again"), 0))))
    heap.set_wire("alice", "bob", Wire(0))
    heap.post("alice", "go")
    with pytest.raises(RuntimeError, match="still running after"):
        heap.run(max_steps=1_000)


def test_a_run_that_may_rest_returns_after_the_turn_that_a_listener_waits_for() -> None:
    heap = quiet_heap()
    host = Puppet(lambda event: [] if event is DRAINED else [Up(event)])

    def listener(event: Any, now: int) -> Iterable[Any]:
        if event == "ring":
            heap.rest()
        return ()

    heap.add("host", host, listener)
    for instant, word in enumerate(("one", "ring", "three", "ring", "five")):
        heap.post("host", word, instant)
    assert heap.run(rest_after=1_000)
    assert host.seen[-2:] == [(1, "ring"), (1, DRAINED)]
    # Others who turn the heap are not disturbed, and are not rested for later.
    assert heap.run(3)
    assert heap.now == 3
    assert host.seen[-1] == (3, DRAINED)
    assert heap.run(rest_after=1_000) is False
    assert host.seen[-2:] == [(4, "five"), (4, DRAINED)]


def test_a_run_that_may_rest_returns_after_so_many_steps() -> None:
    heap = quiet_heap()
    heap.add("host", Talker("host"))
    for instant in range(10):
        heap.post("host", "word", instant)
    rests = []
    while heap.run(rest_after=6):
        rests.append(heap.steps)
    assert (rests, heap.steps) == ([6, 12, 18], 20)

"""Trivial machines for the heap: they send on command and remember what comes."""

from __future__ import annotations

from typing import Any

import attrs

from qstack.machine import TICK, Arrived, Transmit, record
from qstack.messages.application import Status
from qstack.messages.wire import KIND_OF, Datagram, Frame, Header
from qstack.sim.heap import EventHeap
from qstack.units import Duration, Instant

STATUS = KIND_OF[Status].number


@record
class Say:
    """Send a status with this text to somebody."""

    to: str
    text: str


@record
class Alarm:
    """Want a TICK at an instant of the own clock."""

    at: Instant


@attrs.define
class Talker:
    """Sends what it is told to, and keeps (own time, event) of all that it takes."""

    name: str
    seen: list[tuple[Instant, Any]] = attrs.field(factory=list)
    deadline: Instant | None = None
    sent: int = 0

    def handle(self, event: Any, now: Instant) -> list[Any]:
        self.seen.append((now, event))
        if event is TICK:
            self.deadline = None
        if type(event) is Alarm:
            self.deadline = event.at
        if type(event) is not Say:
            return []
        self.sent += 1
        header = Header(1, self.name, event.to, 1, 2, self.sent, 0, 0, 0, 0)
        body = Status(self.sent, event.text)
        frame = Frame(STATUS, "application", self.sent, False, body)
        return [Transmit("peer", Datagram(header, (frame,)))]

    @property
    def heard(self) -> list[tuple[Instant, str]]:
        """(own time, text) of what arrived readable."""
        return [
            (now, frame.body.text)
            for now, event in self.seen
            if type(event) is Arrived
            for frame in event.datagram.frames
            if type(frame.body) is Status
        ]


def pair_of_talkers(heap: EventHeap) -> tuple[Talker, Talker]:
    """Put alice and bob on a heap."""
    alice, bob = Talker("alice"), Talker("bob")
    heap.add("alice", alice)
    heap.add("bob", bob)
    return alice, bob


def talk(heap: EventHeap, number: int, every_ns: Duration, text: str = "{}") -> None:
    """Let alice say so many numbered texts to bob, and run until all is quiet."""
    for place in range(number):
        heap.post("alice", Say("bob", text.format(place)), place * every_ns)
    heap.run()

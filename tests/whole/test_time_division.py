"""A link divided in time, whole: no pair of a request is made in a cycle outside of its bins."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qstack.link.service import LinkDivide
from qstack.machine import FromDevice, Transmit
from qstack.messages.common import RequestId
from qstack.messages.devices import EmitterFired, EmitterHeralded, EmitterOutcome
from qstack.messages.physical import Herald
from qstack.messages.schedule import BinRun, Timetable
from qstack.sim.heap import Wire
from qstack.testing import check_same_pairs, terms
from tests.whole.rig import CYCLE_NS, Lab, Rig

BIN = 100
FRAMES = 8
PAIRS = 200
RUNS = (BinRun(0, 1, "alice", 0), BinRun(2, 4, "bob", 0))


@attrs.define
class Seen:
    """Cycles of successes by request, as the station told them, and of emissions by node."""

    successes: dict[RequestId, set[int]] = attrs.field(factory=dict)
    emissions: dict[str, set[int]] = attrs.field(factory=dict)

    def watch(self, target: str, event: Any, _: int, actions: list[Any]) -> None:
        if type(event) is FromDevice:
            body = event.event
            if isinstance(body, EmitterHeralded | EmitterFired | EmitterOutcome):
                self.emissions.setdefault(target, set()).add(body.cycle)
        for action in actions:
            if type(action) is Transmit:
                for frame in action.datagram.frames:
                    if type(frame.body) is Herald:
                        for success in frame.body.successes:
                            of = self.successes.setdefault(success.request, set())
                            of.add(success.cycle)


def divide(rig: Rig, *, spare: bool = False, frames: int = FRAMES) -> Timetable:
    """Divide the link from 200 cycles ahead on; the master is alice."""
    first = rig.heap.now // CYCLE_NS + 200
    boot = rig.net.host("station").boot
    table = Timetable(boot, 0, first, BIN, 5, frames, spare, RUNS)
    host = rig.net.host("alice")

    def now() -> None:
        target = rig.heap._target("alice")
        link = host.strands["ab"]
        rig.heap._carry_out(target, link.to_link(LinkDivide(table), rig.heap.now))
        rig.heap._schedule(target)

    rig.heap.call(rig.heap.now, now)
    return table


def bins(table: Timetable, cycle: int) -> int:
    """The number of the bin of the frame that a cycle is in."""
    return (cycle - table.first_cycle) // table.bin_cycles % table.frame_bins


def within(table: Timetable, cycles: set[int]) -> set[int]:
    after = table.first_cycle + table.bin_cycles * table.frame_bins * table.frames
    return {cycle for cycle in cycles if table.first_cycle <= cycle < after}


def start(
    seed: int, loss: float, pairs: int = PAIRS, **changes: Any
) -> tuple[Rig, Seen, RequestId, RequestId]:
    rig = Rig(Lab(qubits=2, scheduler="time-division", **changes), seed)
    rig.heap.set_default(Wire(50_000, 20_000 if loss else 0, loss, 0.0))
    seen = Seen()
    rig.heap.watch = seen.watch
    one, two = rig.alice.keep(terms("bob", pairs)), rig.bob.keep(terms("alice", pairs))
    rig.run(lambda: one in rig.alice.created and two in rig.bob.created)
    rig.settle(1_000_000)
    return rig, seen, rig.alice.created[one], rig.bob.created[two]


@pytest.mark.parametrize(("loss", "herald_line"), [(0.0, True), (0.05, True), (0.0, False)])
def test_pairs_are_made_in_the_bins_of_their_request_alone(loss: float, herald_line: bool) -> None:
    rig, seen, one, two = start(3, loss, herald_line=herald_line)
    table = divide(rig)
    end = table.first_cycle + BIN * 5 * FRAMES
    rig.settle((end + 50) * CYCLE_NS - rig.heap.now)
    mine, theirs = (within(table, seen.successes[each]) for each in (one, two))
    assert {bins(table, cycle) for cycle in mine} == {0}
    assert {bins(table, cycle) for cycle in theirs} == {2, 3}
    emitted = within(table, set().union(*seen.emissions.values()))
    assert {bins(table, cycle) for cycle in emitted} == {0, 2, 3}
    assert len(theirs) > len(mine) > 10
    rig.run(lambda: rig.alice.finished(2) and rig.bob.finished(2))
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    assert rig.free_slots() == (2, 2)


def test_bins_are_used_to_their_last_cycles_and_from_soon_after_their_first() -> None:
    rig, seen, one, _ = start(4, 0.0, 800)
    table = divide(rig, frames=30)
    rig.settle((table.first_cycle + BIN * 5 * 30) * CYCLE_NS - rig.heap.now)
    cycles = within(table, seen.successes[one])
    offsets = [(cycle - table.first_cycle) % BIN for cycle in cycles]
    # One way of a message to learn the cycle, one to tell the station, and a little for the ports.
    assert min(offsets) <= 3 * 50_000 // CYCLE_NS
    # A pair takes 25 cycles at most in the mean, both memories waiting for the station's word, so
    # that the last five of 30 bins are all empty with probability exp(-6) at most; seed fixed.
    assert len(cycles) > 30 * BIN / 25
    assert max(offsets) >= BIN - 5


def test_bins_of_nobody_serve_whoever_asks_if_the_timetable_lets_them() -> None:
    rig, seen, one, two = start(5, 0.0)
    table = divide(rig, spare=True)
    rig.settle((table.first_cycle + BIN * 5 * FRAMES) * CYCLE_NS - rig.heap.now)
    mine, theirs = (within(table, seen.successes[each]) for each in (one, two))
    assert {bins(table, cycle) for cycle in mine} <= {0, 1, 4}
    assert {bins(table, cycle) for cycle in theirs} <= {1, 2, 3, 4}
    assert {bins(table, cycle) for cycle in mine | theirs} == {0, 1, 2, 3, 4}


def test_when_the_station_is_started_again_the_queue_decides_as_without_a_timetable() -> None:
    rig, seen, *_ = start(6, 0.0, 5)
    table = divide(rig, frames=1_000_000)
    rig.run(lambda: rig.alice.finished(2) and rig.bob.finished(2))
    rig.net.crash("station")
    rig.net.start("station")
    rig.settle(2_000_000_000)
    asked = rig.alice.keep(terms("bob", 40)), rig.bob.keep(terms("alice", 40))
    rig.run(lambda: rig.alice.finished(4) and rig.bob.finished(4))
    for party, number in zip((rig.alice, rig.bob), asked, strict=True):
        cycles = seen.successes[party.created[number]]
        assert {bins(table, cycle) for cycle in cycles} - {0, 2, 3}, "bins of nobody are used"

"""A link that is open at times only, whole: nothing is attempted while it is closed, and all waits.

The truth is the world's: its own clock of the hardware, and its own count of attempts.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from qstack.errors import ErrorCode
from qstack.messages.common import PLAIN_Z
from qstack.messages.physical import ArmReply
from qstack.sim import Network
from qstack.sim.heap import Wire
from qstack.testing import check_same_pairs, terms
from qstack.units import MICROSECOND, MILLISECOND, SECOND
from qstack.windows import Windows
from tests.whole.rig import CYCLE_NS, Lab, Rig
from tests.whole.windows_rig import Hours

WINDOWS = Windows(10 * MILLISECOND, ((0, 3 * MILLISECOND), (6 * MILLISECOND, MILLISECOND)))
WIRE_NS = 50 * MICROSECOND


def rig_with(
    windows: Windows | None, seed: int = 3, loss: float = 0.0, **lab: Any
) -> tuple[Rig, Hours]:
    rig = Rig(Lab(qubits=2, windows=windows, **lab), seed)
    rig.heap.set_default(Wire(WIRE_NS, WIRE_NS // 2 if loss else 0, loss, 0.0))
    hours = Hours(rig.net, {} if windows is None else {"ab": windows})
    rig.heap.watch = hours.watch
    return rig, hours


def finish(rig: Rig, requests: int = 1) -> None:
    rig.run(lambda: rig.alice.finished(requests) and rig.bob.finished(requests))
    rig.settle()
    check_same_pairs(rig.alice, rig.bob)
    assert rig.free_slots() == (2, 2)


@pytest.mark.parametrize(
    ("loss", "herald_line", "km"), [(0.0, True, 0.1), (0.1, True, 20.0), (0.0, False, 0.1)]
)
def test_no_attempt_is_made_while_the_link_is_closed(
    loss: float, herald_line: bool, km: float
) -> None:
    rig, hours = rig_with(WINDOWS, 3, loss, herald_line=herald_line, km=km)
    rig.alice.keep(terms("bob", 150))
    counts: list[tuple[int, int]] = []
    for opens, closes in ((opens, opens + lasts) for opens, lasts in WINDOWS.open_ns):
        period = WINDOWS.period_ns
        for number in range(2, 12):
            counts.append((number * period + closes, -1))
            counts.append((number * period + opens, 1))
    attempts = []
    for at, _ in sorted(counts):
        rig.settle(at - rig.heap.now)
        attempts.append(rig.net.world.counted("ab")[0])
    kinds = [kind for _, kind in sorted(counts)]
    gained = [later - former for former, later in pairwise(attempts)]
    during = [gain for gain, kind in zip(gained, kinds, strict=False) if kind > 0]
    between = [gain for gain, kind in zip(gained, kinds, strict=False) if kind < 0]
    assert set(between) == {0}
    assert max(during) > 10
    finish(rig)
    assert len(hours.made["ab"]) >= 150, "each of which was in a window, as was what was emitted"
    assert [done.delivered for done in rig.alice.done] == [150]


def test_windows_are_used_from_their_first_cycles_to_their_last() -> None:
    """Arms are there ahead, so no way of a message is lost; seed fixed.

    With two qubits that wait for the station's word after each pair there are about 12 pairs in a
    millisecond, so that the first and last 0.2 ms of 40 windows are empty with exp(-96) at most.
    """
    rig, hours = rig_with(WINDOWS, 4)
    rig.alice.keep(terms("bob", 800))
    rig.settle(20 * WINDOWS.period_ns)
    offsets = [at % WINDOWS.period_ns for at in hours.made["ab"]]
    for begins, lasts in WINDOWS.open_ns:
        inside = [at - begins for at in offsets if begins <= at < begins + lasts]
        assert min(inside) < 0.2 * MILLISECOND
        assert max(inside) > lasts - 0.2 * MILLISECOND


def test_in_the_open_time_pairs_come_at_the_full_rate() -> None:
    """Of the pairs of a link without windows come 0.4, its share of the time: seeds fixed.

    Both counts are about Poisson's or steadier, so 5 standard errors are 5 sqrt(1/a + 1/b) of
    the ratio; a false alarm has probability 1e-6 and the seeds do not change.
    """
    made = []
    for windows in (WINDOWS, None):
        rig, hours = rig_with(windows, 5)
        rig.alice.keep(terms("bob", 10_000))
        rig.settle(2 * WINDOWS.period_ns - rig.heap.now)
        before = len(hours.made.get("ab", []))
        rig.settle(10 * WINDOWS.period_ns)
        made.append(len(hours.made["ab"]) - before)
    share = WINDOWS.whole_ns / WINDOWS.period_ns
    error = 5 * math.sqrt(1 / made[0] + 1 / made[1])
    assert abs(made[0] / made[1] / share - 1) < error
    assert error < 0.25


def test_measured_pairs_keep_to_windows_too() -> None:
    rig, hours = rig_with(WINDOWS, 6)
    rig.alice.measure_directly(terms("bob", 200), PLAIN_Z, PLAIN_Z)
    finish(rig)
    assert len(hours.made["ab"]) >= 200


def test_a_request_waits_while_the_link_is_closed_and_its_qubits_are_free() -> None:
    rig, hours = rig_with(WINDOWS)
    rig.settle(9 * MILLISECOND - rig.heap.now % (10 * MILLISECOND))
    rig.alice.keep(terms("bob", 5))
    rig.settle(300 * MICROSECOND)
    assert rig.free_slots() == (2, 2), "they can serve other links meanwhile"
    assert not rig.alice.finished()
    said = rig.net.host("alice").status(rig.heap.now)["links"]["ab"]
    assert 0 < said["closed_ns"] < 800 * MICROSECOND
    finish(rig)
    assert not rig.alice.ended
    assert not rig.alice.expired
    assert min(at % WINDOWS.period_ns for at in hours.made["ab"]) < MILLISECOND


def test_a_request_whose_time_ends_before_the_link_opens_is_refused_and_told_when_it_does() -> None:
    night = Windows(SECOND, ((0, 100 * MILLISECOND),))
    rig, _ = rig_with(night)
    rig.settle(940 * MILLISECOND)
    rig.alice.keep(terms("bob", 1, max_time_ns=50 * MILLISECOND))
    rig.run(rig.alice.finished)
    (ended,) = rig.alice.ended
    assert ended.code is ErrorCode.NO_TIME
    assert "ab is closed for" in ended.reason
    left = (SECOND - rig.heap.now) / 1e6
    assert f"{left:.1f}"[:2] in ended.reason
    assert "50 ms are given" in ended.reason
    rig.alice.keep(terms("bob", 1, max_time_ns=200 * MILLISECOND))
    rig.run(lambda: rig.alice.finished(2))
    assert [done.delivered for done in rig.alice.done] == [1], "this one has time enough"


@pytest.mark.parametrize("victim", ["station", "alice", "bob"])
def test_windows_go_on_when_a_party_is_started_again(victim: str) -> None:
    rig, hours = rig_with(WINDOWS, 7)
    rig.alice.keep(terms("bob", 20))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.net.crash(victim)
    rig.settle(2 * MILLISECOND)
    rig.net.start(victim)
    rig.settle(2 * SECOND)
    for party in (rig.alice, rig.bob):
        party.accept()
    rig.settle(30 * MILLISECOND)
    made, done = len(hours.made["ab"]), len(rig.bob.done)
    rig.bob.keep(terms("alice", 30))
    rig.run(lambda: len(rig.bob.done) > done)
    rig.settle()
    assert len(hours.made["ab"]) - made >= 30
    assert rig.free_slots() == (2, 2)


def test_an_idle_link_sends_nothing_for_its_windows() -> None:
    rig, _ = rig_with(WINDOWS, 8)
    rig.alice.keep(terms("bob", 5))
    finish(rig)
    sent: list[ArmReply] = []

    def watch(_target: str, _event: object, _now: int, actions: list[object]) -> None:
        for action in actions:
            frames = getattr(getattr(action, "datagram", None), "frames", ())
            sent.extend(f.body for f in frames if type(f.body) is ArmReply)

    rig.heap.watch = watch
    rig.settle(50 * WINDOWS.period_ns)
    assert sent == []


def test_a_window_of_few_cycles_is_kept_to_and_used() -> None:
    """Windows of 30 cycles, shorter than it takes to tell of them."""
    short = Windows(MILLISECOND, ((200_000, 30 * CYCLE_NS),))
    rig, hours = rig_with(short, 9)
    rig.alice.keep(terms("bob", 40))
    finish(rig)
    assert len(hours.made["ab"]) >= 40


def test_a_source_in_the_middle_keeps_to_windows_too() -> None:
    windows = Windows(SECOND, ((0, 300 * MILLISECOND), (600 * MILLISECOND, 100 * MILLISECOND)))
    spans = [list(span) for span in windows.open_ns]
    given = {"links.*.windows": {"period_ns": windows.period_ns, "open_ns": spans}}
    net = Network.load("source_in_the_middle", seed=7, changes=given)
    (link,) = (each.name for each in net.file.links)
    hours = Hours(net.virtual, {link: windows})
    net.virtual.heap.watch = hours.watch
    alice, bob = net.nodes
    report = net.pairs(alice, bob, count=60, kind="measure")
    assert report.found.delivered == (60, 60)
    assert len(hours.made[link]) >= 60
    assert max(hours.made[link]) > 600 * MILLISECOND, "two windows were needed"

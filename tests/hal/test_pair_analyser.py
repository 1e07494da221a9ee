"""The software logic of a source in the middle, alone: tags in, outcomes and coincidences out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from qstack.hal.coincidence import Scan
from qstack.hal.commands import ends
from qstack.hal.pair_analyser import Correlation, PairAnalyser
from qstack.hal.receivers import Channel, Cycles, Receiver, axes_of
from qstack.hal.replay import ReplayDetector
from qstack.hal.served import Served
from qstack.hal.server import Commanded
from qstack.machine import TICK
from qstack.messages.common import PLAIN_Z, Basis, BasisPlan, BasisSet
from qstack.messages.devices import (
    Abort,
    Aborted,
    Calibration,
    Completed,
    DeviceState,
    DeviceStatus,
    EmitterMeasure,
    EmitterOutcome,
    Exhausted,
    Rejected,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.units import Chance, Instant

CYCLE_NS = 1_000_000
LONG = 1 << 30
DELAY_PS = 40_000
OWNERS = {"a": "alice", "b": "bob", "s": "station"}
PASSIVE = (
    Channel(0, Basis.Z, 0),
    Channel(1, Basis.Z, 1),
    Channel(2, Basis.X, 0),
    Channel(3, Basis.X, 1),
)
BOTH_AXES = BasisPlan(BasisSet.XZ, 0.5, 0.0, 0.0, 0.0, 0.0)


def stream(count: int = 40, every_ps: int = 7_000_000_000) -> list[tuple[int, int]]:
    """(channel, ps) of `a`: the channels in turn, one pair each 7 ms."""
    return [(place % 4, 5_000_000_000 + place * every_ps) for place in range(count)]


class Bench:
    """Analyser and receivers behind their server, with all that they have said."""

    def __init__(self, a: list[tuple[int, int]], b: list[tuple[int, int]], learn: int = 10) -> None:
        taggers = [
            (f"{name}.tags", ReplayDetector(f"{name}.tags", tuple(tags), 1_000_000))
            for name, tags in (("a", a), ("b", b))
        ]
        correlation = Correlation(learn, 0, Scan(1_000_000_000, 1_000), 10_000)
        self.analyser = PairAnalyser(
            "s", (("a", PASSIVE), ("b", PASSIVE)), (taggers[0], taggers[1]), correlation
        )
        devices = {each.name: each for each in (self.analyser, *self.analyser.receivers)}
        self.server = Served(devices, OWNERS)
        self.now: Instant = 0
        self.seen: list[tuple[Instant, Any]] = []

    def give(self, command: Any) -> None:
        owner = OWNERS[command.device]
        for up in self.server.handle(Commanded(owner, command), self.now):
            self.seen.append((self.now, up.event.body))

    def run(self, until: Instant) -> None:
        while (due := self.server.deadline) is not None and due <= until:
            self.now = max(self.now, due)
            for up in self.server.handle(TICK, self.now):
                self.seen.append((self.now, up.event.body))
        self.now = until

    def open(self, *, modes: int = 1, window_ps: int = 20_000, plan: BasisPlan = BOTH_AXES) -> None:
        self.give(StationClock("s", 1, "l", CYCLE_NS))
        self.give(StationOpen("s", 2, "l", (), 0, LONG, modes, window_ps, False))
        for name in "ab":
            self.give(EmitterMeasure(name, 3, "l", (), plan, 1_000, 0, False, LONG))

    def of(self, kind: type[Any], device: str = "") -> list[Any]:
        return [e for _, e in self.seen if type(e) is kind and device in ("", e.device)]


def far(tags: list[tuple[int, int]], delay: int = DELAY_PS) -> list[tuple[int, int]]:
    """The other end: the same axis, the other outcome, later by the delay."""
    return [(channel ^ 1, time + delay) for channel, time in tags]


def test_each_pair_becomes_one_attempt_by_its_time_with_axis_and_outcome_of_each_detector() -> None:
    a = stream()
    bench = Bench(a, far(a))
    bench.open()
    bench.run(400_000_000)
    cycles = [time // (CYCLE_NS * 1_000) for _, time in a]
    clicks = bench.of(StationClicks)
    assert [(c.cycle, c.mode, c.clicks) for c in clicks] == [(cycle, 0, 3) for cycle in cycles]
    assert clicks[0].tags_ps == (0, DELAY_PS)
    for name, flip in (("a", 0), ("b", 1)):
        outcomes = bench.of(EmitterOutcome, name)
        assert [o.cycle for o in outcomes] == cycles
        wanted = [PASSIVE[channel ^ flip] for channel, _ in a]
        assert [(o.basis, o.outcome) for o in outcomes] == [(w.basis, w.outcome) for w in wanted]
    # Every age leads back to the instant of the click, also of those that had to wait.
    times = [now - c.age_ns for now, c in bench.seen if isinstance(c, StationClicks)]
    assert times == [time // 1_000 for _, time in a]


def test_until_the_delay_is_known_it_is_degraded_and_then_says_what_it_found() -> None:
    a = stream()
    bench = Bench(a, far(a))
    bench.open()
    states = [(s.status, s.reason) for s in bench.of(DeviceState, "s")]
    assert states == [(DeviceStatus.DEGRADED, "it is learning the delay between the ends")]
    bench.run(60_000_000)
    assert bench.of(StationClicks) == []
    bench.run(100_000_000)
    assert bench.of(DeviceState)[-1].status is DeviceStatus.READY
    (said,) = bench.of(Calibration)
    ((name, value, spread),) = said.values
    assert name == "delay_ps"
    assert abs(value - DELAY_PS) <= spread == 1_000
    # What waited comes 10 us apart, in its order.
    at = [now for now, c in bench.seen if isinstance(c, StationClicks)]
    assert [later - one for one, later in pairwise(at[:9])] == [10_000] * 8


def test_when_both_records_are_over_it_is_offline_and_counts_with_accidentals() -> None:
    a = stream()
    bench = Bench(a, far(a))
    bench.open()
    bench.run(400_000_000)
    state = bench.of(DeviceState)[-1]
    assert (state.status, state.reason) == (DeviceStatus.OFFLINE, "a tagger ended in Completed")
    values = {name: value for name, value, _ in bench.of(Calibration)[-1].values}
    # 40 and 40 events over 39 intervals of 7 ms less the delay, a window of 20 ns.
    span = 39 * 7_000_000_000 - DELAY_PS
    assert values == {"coincidences": 40.0, "accidentals": pytest.approx(1_600 * 20_000 / span)}
    bench.give(EmitterMeasure("a", 9, "l", (), BOTH_AXES, 1, 0, False, LONG))
    bench.give(StationOpen("s", 10, "l", (), 0, LONG, 1, 20_000, False))
    assert [type(event) for _, event in bench.seen[-2:]] == [Rejected, Rejected]


def test_streams_without_a_common_delay_turn_it_offline_with_the_reason() -> None:
    # Two independent Poisson streams of 1,000 a second: some 2,000 combinations in the scan's 2 ms
    # a second, and no bin of them stands out by 8 standard deviations of the mean.
    streams = []
    for name in "ab":
        chance, time = Chance(name), 0
        tags = []
        for _ in range(3_000):
            time += 1 + int(chance.exponential(1e9))
            tags.append((0, time))
        streams.append(tags)
    bench = Bench(streams[0], streams[1], learn=4)
    bench.open()
    bench.run(9_000_000_000)
    assert bench.of(StationClicks) == []
    assert bench.of(DeviceState)[-1].reason == "no delay: the two ends have nothing in common"


def test_what_is_not_measured_at_both_ends_is_no_attempt() -> None:
    a = stream()
    bench = Bench(a, far(a))
    bench.open()
    bench.run(150_000_000)
    bench.give(Abort("b", 4, 3))
    assert [type(event) for _, event in bench.seen[-2:]] == [Aborted, Completed]
    before = len(bench.of(StationClicks))
    bench.run(400_000_000)
    assert len(bench.of(StationClicks)) == len(bench.of(EmitterOutcome, "a")) == before
    assert bench.analyser.unwanted == 40 - before


def test_an_abort_reports_what_was_heralded_first_and_takes_back_what_was_not() -> None:
    clock = {"l": Cycles(0, CYCLE_NS)}
    receiver = Receiver("a", PASSIVE, clock, lambda link: 0)
    assert not receiver.handle(EmitterMeasure("a", 1, "l", (), BOTH_AXES, 9, 0, False, LONG), 0)
    now = 5 * CYCLE_NS
    receiver.clicked("l", (4, 0), 1, now - 100, now)
    said = receiver.handle(Abort("a", 2, 1), now)
    assert [type(event) for event in said] == [EmitterOutcome, Aborted, Completed]
    assert not receiver.measures("l", 4, 1), "the station must herald nothing more of it"


def test_two_coincidences_in_one_attempt_are_one_and_modes_tell_them_apart() -> None:
    once = stream(20)
    twice = sorted(once + [(0, time + 300_000_000) for _, time in once], key=lambda e: e[1])
    for modes, heralds, crowded in ((1, 20, 20), (4, 40, 0)):
        bench = Bench(twice, far(twice))
        bench.open(modes=modes)
        bench.run(400_000_000)
        assert len(bench.of(StationClicks)) == heralds
        assert bench.analyser.crowded == crowded
    assert [(c.cycle, c.mode) for c in bench.of(StationClicks)[:2]] == [(5, 0), (5, 1)]


def test_a_command_ends_with_its_last_outcome_and_at_the_end_of_its_cycles() -> None:
    a = stream()
    bench = Bench(a, far(a))
    bench.open()
    bench.run(100_000_000)
    bench.give(Abort("a", 4, 3))
    bench.give(EmitterMeasure("a", 5, "l", (), BOTH_AXES, 2, 0, False, LONG))
    bench.run(200_000_000)
    last = [o for o in bench.of(EmitterOutcome, "a") if o.command == 5]
    assert [ends(o) for o in last] == [False, True]
    bench.give(EmitterMeasure("a", 6, "l", (), BOTH_AXES, 1_000, 210, True, 3))
    bench.run(212_000_000)
    assert not any(e.command == 6 for e in bench.of(Exhausted))
    bench.run(213_000_000)
    assert [e.attempts for e in bench.of(Exhausted) if e.command == 6] == [3]
    bench.give(EmitterMeasure("a", 7, "l", (), BOTH_AXES, 1, 213, True, 3))
    assert bench.of(Rejected, "a")[-1].late


def test_between_two_commands_a_coincidence_waits_but_not_for_ever() -> None:
    a = stream()
    bench = Bench(a, far(a))
    bench.open()
    bench.run(100_000_000)
    before = len(bench.of(StationClicks))
    for name in "ab":
        bench.give(Abort(name, 4, 3))
    # The next one, at 103 ms, is known when its batch ends, and waits: it is still there at 109.
    bench.run(109_000_000)
    assert len(bench.of(StationClicks)) == before
    bench.give(EmitterMeasure("a", 5, "l", (), BOTH_AXES, 1_000, 0, False, LONG))
    assert len(bench.of(StationClicks)) == before
    bench.give(EmitterMeasure("b", 5, "l", (), BOTH_AXES, 1_000, 0, False, LONG))
    bench.run(109_100_000)
    (clicks,) = bench.of(StationClicks)[before:]
    assert (clicks.cycle, clicks.age_ns) == (103, 6_000_000)
    # Now for longer than the 20 ms that it is held: the first is given up, and then the next.
    for name in "ab":
        bench.give(Abort(name, 6, 5))
    assert bench.analyser.unwanted == 0
    bench.run(132_000_000)
    assert bench.analyser.unwanted == 1
    assert len(bench.of(StationClicks)) == before + 1


def test_a_new_clock_ends_what_was_measured_by_the_former_one() -> None:
    a = stream()
    bench = Bench(a, far(a))
    bench.open()
    bench.run(150_000_000)
    bench.give(StationClock("s", 8, "l", CYCLE_NS))
    bench.run(150_000_000)
    ended = [(e.device, e.command, e.reason) for e in bench.of(Aborted)]
    assert sorted(ended) == [(name, number, "clock restarted") for name, number in
                             (("a", 3), ("b", 3), ("s", 2))]  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "axes"),
    [
        (PLAIN_Z, {Basis.Z}),
        (BOTH_AXES, {Basis.X, Basis.Z}),
        (BasisPlan(BasisSet.XZ, 1.0, 0.0, 0.0, 0.0, 0.0), {Basis.X}),
        (BasisPlan(BasisSet.XYZ, 0.2, 0.3, 0.0, 0.0, 0.0), {Basis.X, Basis.Y, Basis.Z}),
        (BasisPlan(BasisSet.CHSH, 0.5, 0.0, 0.0, 0.0, 0.0), {Basis.ZPX, Basis.ZMX}),
        (BasisPlan(BasisSet.NONE, 0.0, 0.0, 0.1, 0.0, 0.0), None),
    ],
)
def test_a_plan_is_taken_only_by_detectors_of_exactly_its_axes(
    plan: BasisPlan, axes: set[Basis] | None
) -> None:
    assert axes_of(plan) == axes
    bench = Bench(stream(), far(stream()))
    bench.open(plan=plan)
    taken = axes == {Basis.X, Basis.Z}
    assert len(bench.of(Rejected)) == (0 if taken else 2)


def test_clicks_of_two_detectors_at_one_time_keep_their_own_outcomes() -> None:
    # Each pair of `a` has a lone click at the very same time: the first of the two is used.
    pairs = stream()
    a = sorted(pairs + [(channel ^ 2, time) for channel, time in pairs], key=lambda e: e[1])
    bench = Bench(a, far(pairs))
    bench.open()
    bench.run(400_000_000)
    outcomes = bench.of(EmitterOutcome, "a")
    assert len(outcomes) == 40
    assert [(o.basis, o.outcome) for o in outcomes] == [
        (PASSIVE[channel].basis, PASSIVE[channel].outcome) for channel, _ in pairs
    ]


def test_a_narrower_window_holds_for_what_comes_after_it_was_asked_for() -> None:
    a = stream()
    wide = [(c, t + (8_000 if place % 2 else 0)) for place, (c, t) in enumerate(far(a))]
    bench = Bench(a, wide, learn=20)
    bench.open(window_ps=40_000)
    bench.run(200_000_000)
    before = len(bench.of(StationClicks))
    assert before == 28
    bench.give(StationOpen("s", 20, "l", (), 0, LONG, 1, 4_000, False))
    bench.run(400_000_000)
    # Of the twelve that follow every second is too far from the delay.
    assert len(bench.of(StationClicks)) == before + 6

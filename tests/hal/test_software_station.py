"""The software station: tags of a bare detector become clicks of attempts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import ConfigError
from qstack.hal.replay import REPLAY, ReplayDetector, ReplayParameters
from qstack.hal.software_station import (
    SOFTWARE,
    SoftwareStation,
    SoftwareStationParameters,
    Sorting,
)
from qstack.machine import Tick
from qstack.messages.devices import (
    Abort,
    Aborted,
    Calibration,
    Completed,
    DetectorOpen,
    DeviceState,
    DeviceStatus,
    Exhausted,
    Faulted,
    Rejected,
    StationClicks,
    StationClock,
    StationOpen,
    Tags,
)
from tests.hal.test_replay import drain

CYCLE_NS = 10_000
CYCLE_PS = 10_000_000
WINDOW_PS = 1_000_000
SORTING = Sorting(offset_ps=500_000, mode_ps=2_000_000, latency_ns=1_500)


LAST = (31, 900 * 10**9 + 500_000)
"""A click long after, so that the tagger has something to wait for."""


def station(*clicks: tuple[int, int], sorting: Sorting = SORTING) -> SoftwareStation:
    """A station whose clock begins at 0; its tagger has batches of 1 us."""
    ordered = sorted((*clicks, LAST), key=lambda click: click[1])
    tagger = ReplayDetector("s.detector", tuple(ordered), 1_000)
    made = SoftwareStation("s", "s.detector", tagger, sorting)
    assert made.handle(StationClock("s", 1, "link", CYCLE_NS), 0) == [Completed("s", 1)]
    return made


def opening(
    number: int = 2, *, first: int = 0, cycles: int = 10, modes: int = 2, failures: bool = False
) -> StationOpen:
    return StationOpen("s", number, "link", (), first, cycles, modes, WINDOW_PS, failures)


def at(cycle: int, mode: int, inside: int) -> int:
    """The tag of a click so many ps after the window's beginning."""
    return cycle * CYCLE_PS + 500_000 + mode * 2_000_000 + inside


def clicks_of(made: SoftwareStation) -> list[StationClicks]:
    return [event for _, event in drain(made) if isinstance(event, StationClicks)]


def test_tags_become_clicks_of_their_cycle_and_mode_with_times_inside_the_window() -> None:
    made = station(
        (0, at(0, 0, 5)),
        (0, at(2, 1, 999_999)),
        (1, at(2, 1, 123)),
        (1, at(3, 0, -1)),
        (1, at(3, 0, WINDOW_PS)),
        (0, at(4, 2, 0)),
        (1, at(30, 0, 0)),
    )
    made.handle(opening(), 0)
    found = clicks_of(made)
    assert [(c.cycle, c.mode, c.clicks, c.tags_ps) for c in found] == [
        (0, 0, 0b01, (5,)),
        (2, 1, 0b11, (999_999, 123)),
    ]


def test_an_attempt_is_reported_once_its_tags_must_be_here_with_an_honest_age() -> None:
    made = station((0, at(1, 0, 400_000)))
    made.handle(opening(), 0)
    # The window ends at 11,500 ns; 1,500 ns later the tagger has told all.
    ((now, clicks),) = [(n, e) for n, e in drain(made) if isinstance(e, StationClicks)]
    assert now == 13_000
    assert clicks.age_ns == 13_000 - 10_900


def test_several_clicks_of_one_detector_count_once_with_the_first_time() -> None:
    made = station((0, at(1, 0, 700)), (0, at(1, 0, 900)), (0, at(1, 0, 70_000)))
    made.handle(opening(), 0)
    (clicks,) = clicks_of(made)
    assert (clicks.clicks, clicks.tags_ps) == (1, (700,))


def test_channels_are_mapped_to_bits_and_others_left_out() -> None:
    sorting = Sorting(500_000, 2_000_000, 1_500, bits=((7, 0), (3, 2)))
    made = station((7, at(1, 0, 5)), (3, at(1, 0, 6)), (0, at(1, 0, 7)), sorting=sorting)
    made.handle(opening(), 0)
    (clicks,) = clicks_of(made)
    assert (clicks.clicks, clicks.tags_ps) == (0b101, (5, 6))


def test_failures_are_reported_for_every_attempt_where_asked_for() -> None:
    made = station((0, at(1, 1, 5)))
    made.handle(opening(cycles=3, failures=True), 0)
    seen = [event for _, event in drain(made)]
    reports = [(e.cycle, e.mode, e.clicks) for e in seen if isinstance(e, StationClicks)]
    assert reports == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 1, 0)]
    assert seen[-1] == Exhausted("s", 2, 6)


def test_the_clock_may_begin_before_and_the_opening_later_than_the_tagger() -> None:
    made = station((0, 500_077), (0, 8_500_077))
    # The tagger counts from its opening, at 42,000 ns, when cycle 4 has begun: its first tag
    # is not looked at, and the second is 77 ps inside the first window of cycle 5.
    made.handle(opening(), 42_000)
    (clicks,) = clicks_of(made)
    assert (clicks.cycle, clicks.mode, clicks.tags_ps) == (5, 0, (77,))


@given(st.integers(0, 100_000), st.lists(st.integers(0, 300_000_000), max_size=30).map(sorted))
def test_every_tag_is_found_in_the_attempt_that_its_instant_says(
    start: int, times: list[int]
) -> None:
    made = station(*((0, time) for time in times))
    made.handle(opening(cycles=50), start)
    expected: dict[tuple[int, int], int] = {}
    for time in times:
        since_clock = start * 1_000 + time
        for mode in (1, 0):
            cycle, inside = divmod(since_clock - 500_000 - mode * 2_000_000, CYCLE_PS)
            first = -(-(start * 1_000 - 500_000 + 1) // CYCLE_PS)
            if inside < WINDOW_PS and first <= cycle < first + 50:
                expected.setdefault((cycle, mode), inside)
    assert {(c.cycle, c.mode): c.tags_ps[0] for c in clicks_of(made)} == expected


def test_a_cycle_that_has_begun_is_not_looked_at_by_halves() -> None:
    made = station((0, at(0, 1, 5)), (0, at(1, 0, 5)))
    made.handle(opening(), 501)
    assert {c.cycle for c in clicks_of(made)} <= {1}


def test_a_replacement_keeps_the_tagger_open_and_ends_the_former_opening() -> None:
    made = station((0, at(1, 0, 5)), (0, at(5, 0, 6)))
    made.handle(opening(2), 0)
    assert made.handle(opening(3, first=5), 30_000) == [
        StationClicks("s", 2, "link", 1, 0, 1, (5,), 30_000 - 10_500),
        Aborted("s", 2, "replaced"),
    ]
    assert [(c.command, c.cycle) for c in clicks_of(made)] == [(3, 5)]


def test_a_new_clock_aborts_what_was_open_and_the_tagger_rests() -> None:
    made = station((0, at(5, 0, 5)))
    made.handle(opening(2), 0)
    assert made.handle(StationClock("s", 3, "link", CYCLE_NS), 2_000) == [
        Aborted("s", 2, "clock restarted"),
        Completed("s", 3),
    ]
    assert made.deadline is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (StationOpen("s", 5, "other", (), 0, 1, 1, 1, False), "the clock of other"),
        (StationOpen("s", 5, "link", (), 0, 0, 1, 1, False), "not positive"),
        (StationOpen("s", 5, "link", (), 0, 1, 2, 3_000_000, False), "a mode every"),
        (StationOpen("s", 5, "link", (), 0, 1, 6, 1_000, False), "do not fit"),
        (StationClock("s", 5, "link", 0), "not positive"),
        (DetectorOpen("s", 5, 0), "does not know DetectorOpen"),
    ],
)
def test_what_the_station_cannot_do_is_rejected_with_a_reason(command: Any, words: str) -> None:
    (answer,) = station().handle(command, 0)
    assert isinstance(answer, Rejected)
    assert words in answer.reason


def test_the_station_serves_one_link_at_a_time() -> None:
    made = station((0, at(5, 0, 5)))
    made.handle(StationClock("s", 8, "other", CYCLE_NS), 0)
    made.handle(opening(2), 0)
    (answer,) = made.handle(StationOpen("s", 9, "other", (), 0, 1, 1, 1, False), 1)
    assert isinstance(answer, Rejected)
    assert "open for link" in answer.reason


def test_the_end_of_the_record_ends_the_opening_in_a_fault_that_says_why() -> None:
    made = station((0, at(3, 1, 5)))
    made.handle(opening(cycles=1 << 32), 0)
    first, last, fault = [event for _, event in drain(made)]
    assert (first.cycle, first.mode) == (3, 1)
    # The last click, and no other, was waiting for its window to be over.
    assert (last.cycle, last.clicks, last.tags_ps) == (90_000, 1 << 31, (0,))
    assert fault == Faulted("s", 2, "the detector ended in Completed")


class Tagger:
    """A tagger that says what a test tells it to say."""

    def __init__(self) -> None:
        self.deadline: int | None = None
        self.say: list[Any] = []
        self.opened: list[int] = []

    def handle(self, event: Any, now: int) -> list[Any]:
        if isinstance(event, Tick):
            said, self.say, self.deadline = self.say, [], None
            return said
        if isinstance(event, DetectorOpen):
            self.opened.append(event.command)
            return []
        return [Completed("t", event.command)]


def scripted() -> tuple[SoftwareStation, Tagger]:
    tagger = Tagger()
    made = SoftwareStation("s", "t", tagger, SORTING)
    made.handle(StationClock("s", 1, "link", CYCLE_NS), 0)
    made.handle(opening(2, cycles=1_000), 0)
    return made, tagger


def tell(made: SoftwareStation, tagger: Tagger, now: int, *said: Any) -> list[Any]:
    tagger.say, tagger.deadline = list(said), now
    return made.handle(Tick(), now)


def test_a_tag_that_comes_after_its_report_is_lost_and_counted() -> None:
    made, tagger = scripted()
    (clicks,) = tell(made, tagger, 60_000, Tags("t", 1, ((0, at(5, 0, 1)),)))
    assert (clicks.cycle, clicks.tags_ps) == (5, (1,))
    assert tell(made, tagger, 60_001, Tags("t", 1, ((0, at(5, 0, 2)), (0, at(2, 0, 3))))) == []
    assert made.late_tags == 2


def test_the_state_of_the_detector_is_that_of_the_station() -> None:
    made, tagger = scripted()
    state = DeviceState("t", DeviceStatus.CALIBRATING, "cooling", 5, 6)
    drift = Calibration("t", "c", 0, 1, (("dark_hz", 5.0, 1.0),))
    assert tell(made, tagger, 10, state, drift) == [
        DeviceState("s", DeviceStatus.CALIBRATING, "cooling", 5, 6),
        Calibration("s", "c", 0, 1, (("dark_hz", 5.0, 1.0),)),
    ]
    for command in (opening(7), StationClock("s", 8, "link", 5)):
        (answer,) = made.handle(command, 20)
        assert isinstance(answer, Rejected)
        assert answer.reason == "its detector is calibrating"
    assert made.handle(Abort("s", 9, 2), 30) == [Aborted("s", 2, "aborted"), Completed("s", 9)]


def test_a_fault_of_the_detector_is_one_of_the_opening_and_it_can_be_opened_again() -> None:
    made, tagger = scripted()
    assert tell(made, tagger, 10, Faulted("t", 1, "saturated")) == [
        Faulted("s", 2, "the detector ended in Faulted: saturated")
    ]
    assert made.handle(opening(3), 20) == []
    assert len(tagger.opened) == 2


def test_the_plugin_builds_a_station_around_a_detector_of_its_node(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", t=np.array([at(2, 0, 9)], dtype=np.int64))
    tags = ReplayParameters(str(tmp_path / "r.npz"), array="t", batch_ns=1_000)
    parameters = SoftwareStationParameters(
        "single-click", "tagger", ((1, 2),), offset_ps=500_000, latency_ns=1_500
    )
    assert not SOFTWARE.sheet(parameters).trigger_lines  # type: ignore[union-attr]  # a station's
    assert SOFTWARE.build is not None
    assert REPLAY.build is not None
    made = SOFTWARE.build("s", parameters, "node.tagger", REPLAY.build("node.tagger", tags))
    made.handle(StationClock("s", 1, "link", CYCLE_NS), 0)
    made.handle(opening(modes=1), 0)
    (clicks,) = [event for _, event in drain(made) if isinstance(event, StationClicks)]
    assert (clicks.cycle, clicks.tags_ps) == (2, (9,))


def test_every_problem_of_the_parameters_is_named_at_once() -> None:
    wrong = SoftwareStationParameters("m", "tagger", visibility=2.0, bits=((0, 99),), mode_ps=-1)
    with pytest.raises(ConfigError) as error:
        SOFTWARE.sheet(wrong)
    assert len(error.value.problems) == 3

"""``replay.detector``: what is read from records, and how it is played."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import ConfigError
from qstack.hal.replay import (
    MAX_TAGS,
    REPLAY,
    ReplayDetector,
    ReplayParameters,
    read_s15,
    sheet,
)
from qstack.machine import TICK
from qstack.messages.devices import Abort, Aborted, Completed, DetectorOpen, Rejected, Tags

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "timetags"
DUMMY = 16


def drain(device: Any, start: int = 0) -> list[tuple[int, Any]]:
    """Turn a device from deadline to deadline; returns (instant, event)."""
    seen: list[tuple[int, Any]] = []
    while (deadline := device.deadline) is not None:
        now = max(start, deadline)
        seen += [(now, event) for event in device.handle(TICK, now)]
    return seen


def words(*clicks: tuple[int, int], swapped: bool = False) -> bytes:
    """(time in 1/256 ns, pattern) as a record; bits 5 to 9 hold what nobody reads."""
    values = [(time & (1 << 54) - 1) << 10 | 0b11000 << 5 | pattern for time, pattern in clicks]
    if swapped:
        values = [(value >> 32) | (value & 0xFFFF_FFFF) << 32 for value in values]
    return struct.pack(f"<{len(values)}Q", *values)


def s15(file: Path, **changes: Any) -> ReplayParameters:
    return ReplayParameters(str(file), format="s15", **changes)


@pytest.mark.parametrize("swapped", [False, True])
def test_words_become_one_click_per_detector_and_dummies_none(
    tmp_path: Path, swapped: bool
) -> None:
    file = tmp_path / "record.ts"
    file.write_bytes(
        words((256, 1), (512, 0b1010), (600, 8 | DUMMY), (1 << 20, 4), swapped=swapped)
    )
    # 256 units are 1 ns; 2^20 of them are 4096 ns.
    expected = ((0, 1_000), (1, 2_000), (3, 2_000), (2, 4_096_000))
    assert read_s15(s15(file, swapped=swapped)) == expected


def test_a_clock_that_wrapped_goes_on_and_small_steps_back_are_sorted(tmp_path: Path) -> None:
    file = tmp_path / "record.ts"
    end = 1 << 54
    file.write_bytes(words((end - 256, 1), (end - 512, 2), (256, 4)))
    times = [(channel, time) for channel, time in read_s15(s15(file))]
    whole = end * 1_000 // 256
    assert times == [(1, whole - 2_000), (0, whole - 1_000), (2, whole + 1_000)]


def test_channels_are_mapped_and_unnamed_detectors_left_out(tmp_path: Path) -> None:
    file = tmp_path / "record.ts"
    file.write_bytes(words((256, 0b0001), (512, 0b0010), (768, 0b0100)))
    assert read_s15(s15(file, channels=((2, 7), (0, 5)))) == ((5, 1_000), (7, 3_000))


def format_7_sources(folder: Path) -> list[tuple[Path, bool, list[int], int]]:
    """(file, swapped, clicks per detector, coincident words) of what is at hand."""
    made = folder / "made.ts"
    patterns = [1, 2, 4, 8, 3, 1, 8 | DUMMY, 12] * 25
    made.write_bytes(words(*((300 * n, pattern) for n, pattern in enumerate(patterns))))
    found = [(made, False, [75, 50, 50, 50], 50)]
    real = RECORDINGS / "timestamp7_c1234.Aa1.ts"
    if real.is_file():
        # Singles 614, 481, 476, 417, and 12 words in which two detectors clicked.
        found.append((real, False, [614 + 7, 481 + 6, 476 + 5, 417 + 5 + 1], 12))
    rolled = RECORDINGS / "timestamp7_c14_rollover.Aa1fX.ts"
    if rolled.is_file():
        found.append((rolled, True, [431, 0, 0, 431], 0))
    return found


def test_records_of_format_7_give_the_clicks_that_are_known_of_them(tmp_path: Path) -> None:
    for file, swapped, known, coincident in format_7_sources(tmp_path):
        clicks = read_s15(s15(file, swapped=swapped))
        counts = [sum(channel == bit for channel, _ in clicks) for bit in range(4)]
        if file.name.startswith("timestamp7_c1234"):
            per_time: dict[int, set[int]] = {}
            for channel, time in clicks:
                per_time.setdefault(time, set()).add(channel)
            alone = [sum(each == {bit} for each in per_time.values()) for bit in range(4)]
            assert alone == [614, 481, 476, 417]
            assert sum(len(each) > 1 for each in per_time.values()) == coincident
        else:
            assert counts == known
        assert [time for _, time in clicks] == sorted(time for _, time in clicks)


def archive(folder: Path, **arrays: Any) -> str:
    file = folder / "record.npz"
    np.savez(file, **arrays)
    return str(file)


def test_an_archive_in_seconds_is_played_from_its_origin_to_its_stop(tmp_path: Path) -> None:
    file = archive(tmp_path, t=np.array([1.0, 1.000_001, 1.5, 2.0]))
    second = 10**12
    parameters = ReplayParameters(file, array="t", channel=3, origin_ps=second, stop_ps=2 * second)
    assert REPLAY.build is not None
    device = REPLAY.build("d", parameters)
    assert device.handle(DetectorOpen("d", 9, 0), 5_000) == []
    seen = drain(device)
    assert [event for _, event in seen] == [
        Tags("d", 9, ((3, 0), (3, 1_000_000))),
        Tags("d", 9, ((3, second // 2),)),
        Completed("d", 9),
    ]
    assert [instant for instant, _ in seen] == [1_005_000, 501_005_000, 501_005_000]


@pytest.mark.parametrize(("rate", "wanted"), [(2.0, 500_000), (0.5, 2_000_000), (1000.0, 1_000)])
def test_the_rate_plays_a_record_faster_or_slower(tmp_path: Path, rate: float, wanted: int) -> None:
    file = archive(tmp_path, t=np.array([1_000_000], dtype=np.int64))
    assert REPLAY.build is not None
    device = REPLAY.build("d", ReplayParameters(file, array="t", rate=rate))
    device.handle(DetectorOpen("d", 1, 0), 0)
    assert drain(device)[0][1].tags == ((0, wanted),)


def test_every_opening_plays_the_record_from_its_origin() -> None:
    device = ReplayDetector("d", ((0, 5_000), (1, 2_000_000)), 1_000)
    device.handle(DetectorOpen("d", 1, 0), 0)
    first = [event.tags for _, event in drain(device) if isinstance(event, Tags)]
    device.handle(DetectorOpen("d", 2, 0), 777_777)
    again = [event.tags for _, event in drain(device) if isinstance(event, Tags)]
    assert first == again == [((0, 5_000),), ((1, 2_000_000),)]


@given(
    st.lists(st.integers(0, 90_000_000), max_size=60).map(sorted),
    st.integers(1, 40_000),
    st.integers(0, 100_000),
)
def test_all_clicks_of_an_opening_come_once_in_order_and_none_early(
    times: list[int], batch_ns: int, duration_ns: int
) -> None:
    device = ReplayDetector("d", tuple((0, time) for time in times), batch_ns)
    device.handle(DetectorOpen("d", 1, duration_ns), 0)
    seen = drain(device)
    assert isinstance(seen[-1][1], Completed)
    got = [(now, time) for now, event in seen[:-1] for _, time in event.tags]
    limit = duration_ns * 1_000 if duration_ns else 1 << 62
    assert [time for _, time in got] == [time for time in times if time < limit]
    assert all(time <= now * 1_000 <= time + batch_ns * 1_000 + 1_000 for now, time in got)


def test_a_burst_is_reported_in_several_messages() -> None:
    clicks = tuple((0, n) for n in range(3 * MAX_TAGS + 1))
    device = ReplayDetector("d", clicks, 1_000)
    device.handle(DetectorOpen("d", 1, 0), 0)
    seen = drain(device)
    assert [len(event.tags) for _, event in seen[:-1]] == [MAX_TAGS] * 3 + [1]


def test_an_abort_reports_the_batches_that_are_over_and_ends_the_opening() -> None:
    device = ReplayDetector("d", tuple((0, 400_000 * n) for n in range(10)), 1_000)
    device.handle(DetectorOpen("d", 1, 0), 0)
    assert device.handle(Abort("d", 2, 1), 1_500) == [
        Tags("d", 1, ((0, 0), (0, 400_000), (0, 800_000))),
        Aborted("d", 1, "aborted"),
        Completed("d", 2),
    ]
    assert device.deadline is None


def test_a_second_opening_is_rejected_while_the_first_stands() -> None:
    device = ReplayDetector("d", ((0, 0),), 1_000)
    device.handle(DetectorOpen("d", 1, 0), 0)
    (answer,) = device.handle(DetectorOpen("d", 2, 0), 0)
    assert isinstance(answer, Rejected)
    assert "open already" in answer.reason
    (answer,) = ReplayDetector("d", (), 1).handle(DetectorOpen("d", 2, -1), 0)
    assert "negative" in answer.reason


@pytest.mark.parametrize(
    ("changes", "words_"),
    [
        ({"format": "csv"}, "format 'csv'"),
        ({"array": ""}, "array is missing"),
        ({"rate": 0.0}, "rate = 0.0"),
        ({"batch_ns": 0}, "batch_ns = 0"),
        ({"origin_ps": 5, "stop_ps": 5}, "stop_ps = 5"),
        ({"channels": ((4, 0),)}, "bit is 0 to 3"),
        ({"array": "u"}, "no array 'u': there are t, x"),
        ({"array": "x"}, "no list of times"),
        ({"record": "nowhere.npz"}, "nowhere.npz"),
        ({"record": "nowhere.ts", "format": "s15"}, "nowhere.ts"),
        ({"format": "s15"}, "whole number of 8-byte words"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_the_configuration(
    tmp_path: Path, changes: dict[str, Any], words_: str
) -> None:
    file = archive(tmp_path, t=np.array([1.0]), x=np.array([["a"]]))
    if changes.get("format") == "s15" and "record" not in changes:
        (tmp_path / "odd.ts").write_bytes(b"1234567")
        file = str(tmp_path / "odd.ts")
    parameters = ReplayParameters(**{"record": file, "array": "t", **changes})
    assert REPLAY.build is not None
    with pytest.raises(ConfigError, match=words_):
        REPLAY.build("d", parameters)


def test_an_archive_with_what_is_no_time_or_no_archive_is_refused(tmp_path: Path) -> None:
    assert REPLAY.build is not None
    file = archive(tmp_path, t=np.array([1.0, np.nan]))
    with pytest.raises(ConfigError, match="no time"):
        REPLAY.build("d", ReplayParameters(file, array="t"))
    Path(file).write_bytes(b"no archive at all")
    with pytest.raises(ConfigError):
        REPLAY.build("d", ReplayParameters(file, array="t"))


def test_the_datasheet_says_that_every_click_of_a_record_is_real() -> None:
    made = sheet(ReplayParameters("r.npz", array="t", jitter_ps=80))
    assert (made.efficiency, made.dark_hz, made.jitter_ps) == (1.0, 0.0, 80)

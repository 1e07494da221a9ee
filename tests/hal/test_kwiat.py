"""A midpoint source with two end detectors, played from a recording: entangled photon pairs.

The recording is that of Christensen et al., PRL 111, 130406 (2013): 1,350 s of two parties'
detections. Where it is at hand, the counts known of it must come out; a synthetic stream of
the same shape, whose answers are known by construction, runs everywhere. No delay is
configured anywhere: a scan finds it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import pytest

from qstack.hal.coincidence import (
    Coincidences,
    Correlator,
    Match,
    Scan,
    accidentals,
    count_pairs,
    scan_delay,
)
from qstack.hal.replay import REPLAY, ReplayParameters
from qstack.machine import TICK, Machine
from qstack.messages.devices import Completed, DetectorOpen, Tags
from qstack.units import Chance

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT.parent / "shared" / "data" / "timetags" / "kwiat2013_normalized_events.npz"
BURST_PS = 135 * 10**12
WINDOW_PS = (-187_000, 13_000)
WIDE_PS = (-3_000_000, 3_000_000)
SCAN = Scan(range_ps=1_000_000_000, resolution_ps=10_000)


@attrs.frozen
class Answers:
    """What must come out of a source, the burst at its end left out but for `all_within_3us`."""

    all_within_3us: int
    events: tuple[int, int]
    within_3us: int
    peak_ns: tuple[int, int]
    every_combination: int
    each_once: int
    accidentals: float
    arrays: tuple[str, str]


@attrs.frozen
class Source:
    """Where the tags are, and what is known of them."""

    name: str
    file: Callable[[Path], Path]
    answers: Answers


KNOWN = Answers(
    11_053, (27_798, 25_836), 6_898, (-90, -60), 5_784, 5_724, 0.12, ("a_t_s", "b_t_s")
)  # fmt: skip

PAIRS, SINGLES, DOUBLES, WIDER, BURST = 1_500, 2_500, 30, 120, 400
SLOT_PS = 10_000_000


def synthetic(folder: Path) -> Path:
    """Write a stream with known answers: one thing in each slot of 10 us, so nothing meets.

    PAIRS slots hold a pair with a delay of -150 to 0 ns, mostly near -75; in DOUBLES of them b
    clicks twice, 5 ns apart, both within the window. WIDER slots hold a pair at +1 us. SINGLES
    slots of each side hold one click alone. Then come 135 s in which BURST pairs are.
    """
    chance = Chance(2013)
    slots = [("pair", n) for n in range(PAIRS)] + [("wide", n) for n in range(WIDER)]
    slots += [("a", n) for n in range(SINGLES)] + [("b", n) for n in range(SINGLES)]
    for place in range(len(slots) - 1, 0, -1):
        other = chance.below(place + 1)
        slots[place], slots[other] = slots[other], slots[place]
    a: list[int] = []
    b: list[int] = []
    for place, (kind, number) in enumerate(slots):
        # Slots are spread over 300 s, so that chance pairs are as rare as in the recording.
        time = (10 + place) * 4_000 * SLOT_PS
        if kind in ("pair", "wide", "a"):
            a.append(time)
        if kind == "pair":
            near = number % 3 > 0
            delay = -75_000 + chance.below(6_000) if near else -145_000 + chance.below(140_000)
            b.append(time + delay)
            if number < DOUBLES:
                b.append(time + delay + 5_000)
        elif kind == "wide":
            b.append(time + 1_000_000)
        elif kind == "b":
            b.append(time)
    end = max(a[-1], b[-1]) + BURST_PS + 1_000_000
    a.append(end)
    for number in range(BURST):
        time = end - 60 * 10**12 + number * 30 * SLOT_PS
        a.append(time)
        b.append(time - 70_000)
    file = folder / "synthetic.npz"
    np.savez(file, a_s=np.array(sorted(a)) * 1e-12, b_ps=np.array(sorted(b), dtype=np.int64))
    return file


MADE = Answers(
    PAIRS + DOUBLES + WIDER + BURST,
    (PAIRS + WIDER + SINGLES, PAIRS + DOUBLES + WIDER + SINGLES),
    PAIRS + DOUBLES + WIDER,
    (-90, -60),
    PAIRS + DOUBLES,
    PAIRS,
    0.013,
    ("a_s", "b_ps"),
)

SOURCES = [Source("synthetic", synthetic, MADE)]
if RECORDING.is_file():
    SOURCES.append(Source("recording", lambda folder: RECORDING, KNOWN))

sources = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@cache
def tags_of(file: Path, array: str) -> tuple[int, ...]:
    """All times of an array in picoseconds, read without our own reader."""
    with np.load(file) as archive:
        times = archive[array]
    scaled = np.rint(times * 1e12) if times.dtype.kind == "f" else times
    return tuple(int(time) for time in scaled)


def both(source: Source, folder: Path, *, burst: bool = False) -> tuple[list[int], list[int]]:
    """The two streams, without the last 135 s unless `burst`."""
    file = source.file(folder)
    a, b = (list(tags_of(file, array)) for array in source.answers.arrays)
    if burst:
        return a, b
    end = max(a[-1], b[-1]) - BURST_PS
    return [t for t in a if t < end], [t for t in b if t < end]


@sources
def test_the_known_counts_come_out_of_the_whole_and_without_its_burst(
    source: Source, tmp_path: Path
) -> None:
    assert count_pairs(*both(source, tmp_path, burst=True), *WIDE_PS) == (
        source.answers.all_within_3us
    )
    a, b = both(source, tmp_path)
    assert (len(a), len(b)) == source.answers.events
    assert count_pairs(a, b, *WIDE_PS) == source.answers.within_3us
    assert count_pairs(a, b, *WINDOW_PS) == source.answers.every_combination


@sources
def test_each_event_is_used_once_with_the_expected_accidentals_beside_the_count(
    source: Source, tmp_path: Path
) -> None:
    a, b = both(source, tmp_path)
    matcher = Coincidences(*WINDOW_PS)
    found = matcher.take(0, a) + matcher.take(1, b)
    assert len(found) == matcher.matched == source.answers.each_once
    assert len({m.a_ps for m in found}) == len({m.b_ps for m in found}) == len(found)
    assert matcher.expected_accidentals == pytest.approx(source.answers.accidentals, abs=0.005)
    span = min(a[-1], b[-1]) - max(a[0], b[0])
    assert accidentals(len(a), len(b), span, 200_000) == matcher.expected_accidentals


@sources
def test_the_delay_is_found_by_a_scan_of_a_million_times_the_window(
    source: Source, tmp_path: Path
) -> None:
    found = scan_delay(*both(source, tmp_path), SCAN)
    assert found is not None
    low, high = source.answers.peak_ns
    assert low * 1_000 <= found.delay_ps <= high * 1_000
    assert found.significance > 50


def detectors(source: Source, folder: Path) -> list[Machine]:
    """One ``replay.detector`` for each end, both with the time base of the recording."""
    file = str(source.file(folder))
    a, b = both(source, folder)
    end = max(both(source, folder, burst=True)[0][-1], both(source, folder, burst=True)[1][-1])
    made: list[Machine] = []
    for name, array in zip(("alice.tagger", "bob.tagger"), source.answers.arrays, strict=True):
        parameters = ReplayParameters(
            file,
            array=array,
            origin_ps=min(a[0], b[0]),
            stop_ps=end - BURST_PS,
            batch_ns=10_000_000,
        )
        assert REPLAY.build is not None
        made.append(REPLAY.build(name, parameters))
    return made


def play(devices: list[Machine], correlator: Correlator) -> tuple[list[Match], list[list[int]]]:
    """A midpoint-source link in virtual time: both ends detect, the software compares.

    Both detectors are opened at 0; returns the coincidences and the tags of each end.
    """
    found: list[Match] = []
    seen: list[list[int]] = [[], []]
    running = {0, 1}
    for side, device in enumerate(devices):
        assert device.handle(DetectorOpen(f"tagger-{side}", 1, 0), 0) == []
    while running:
        due = {side: devices[side].deadline for side in running}
        side = min(running, key=lambda each: (due[each] or 0, each))
        now = due[side]
        assert now is not None
        for event in devices[side].handle(TICK, now):
            if isinstance(event, Tags):
                # Nothing is reported before it happened, or much later than a batch.
                times = [time for _, time in event.tags]
                assert now - 10_000_000 <= times[0] / 1_000 <= times[-1] / 1_000 <= now
                seen[side] += times
                found += correlator.take(side, event)
            elif isinstance(event, Completed):
                running.discard(side)
    return found, seen


@sources
def test_two_replay_detectors_and_the_correlator_find_the_pairs_of_the_link(
    source: Source, tmp_path: Path
) -> None:
    correlator = Correlator(2_000, (-100_000, 100_000), SCAN)
    found, seen = play(detectors(source, tmp_path), correlator)
    assert (len(seen[0]), len(seen[1])) == source.answers.events
    assert correlator.delay is not None
    low, high = source.answers.peak_ns
    assert low * 1_000 <= correlator.delay.delay_ps <= high * 1_000
    # The window that was found differs from the known one by the bins of the scan, so the count
    # by little, and never exceeds what every combination in it gives.
    edges = (correlator.delay.delay_ps - 100_000, correlator.delay.delay_ps + 100_000)
    assert len(found) <= count_pairs(seen[0], seen[1], *edges)
    assert len(found) == pytest.approx(source.answers.each_once, rel=0.05)
    # The same tags in the window of the known answers give exactly these.
    matcher = Coincidences(*WINDOW_PS)
    matcher.take(0, seen[0])
    matcher.take(1, seen[1])
    assert matcher.matched == source.answers.each_once
    assert matcher.expected_accidentals == pytest.approx(source.answers.accidentals, abs=0.005)
    assert count_pairs(seen[0], seen[1], *WINDOW_PS) == source.answers.every_combination

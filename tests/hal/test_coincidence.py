"""Delay scan and coincidence matcher, against streams whose answers are known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import LocalProtocolError
from qstack.hal.coincidence import (
    Coincidences,
    Correlator,
    Match,
    Scan,
    accidentals,
    count_pairs,
    histogram,
    scan_delay,
)
from qstack.messages.devices import Completed, Tags
from qstack.units import Chance

SECOND_PS = 10**12

times = st.lists(st.integers(-400, 400), max_size=40).map(sorted)
window = st.tuples(st.integers(-60, 60), st.integers(0, 80)).map(lambda w: (w[0], w[0] + w[1]))


def poisson(chance: Chance, rate_hz: float, seconds: float) -> list[int]:
    """A Poisson stream, in picoseconds."""
    found, now = [], 0.0
    while (now := now + chance.exponential(1.0 / rate_hz)) < seconds:
        found.append(round(now * 1e12))
    return found


def pair_streams(seed: int, delay_ps: int, pairs_hz: float = 20.0) -> tuple[list[int], list[int]]:
    """Ten seconds of pairs with 200 ps of jitter, in a background of 400 Hz at each side."""
    chance = Chance(seed)
    a, b = poisson(chance, 400.0, 10.0), poisson(chance, 400.0, 10.0)
    for time in poisson(chance, pairs_hz, 10.0):
        a.append(time)
        b.append(time + delay_ps + round(chance.gauss(0.0, 200.0)))
    return sorted(a), sorted(b)


@given(times, times, window)
def test_every_combination_in_the_window_is_counted_once(
    a: list[int], b: list[int], edges: tuple[int, int]
) -> None:
    low, high = edges
    expected = sum(low <= y - x <= high for x in a for y in b)
    assert count_pairs(a, b, low, high) == expected


@given(times, times, st.integers(-50, 50), st.integers(1, 9), st.integers(1, 30))
def test_a_histogram_holds_each_delay_in_its_half_open_bin(
    a: list[int], b: list[int], low: int, width: int, bins: int
) -> None:
    expected = [0] * bins
    for delay in (y - x for x in a for y in b):
        if low <= delay < low + bins * width:
            expected[(delay - low) // width] += 1
    assert histogram(a, b, low, width, bins) == expected


def most_matches(a: list[int], b: list[int], low: int, high: int) -> int:
    """The largest matching, by augmenting paths: an oracle that shares nothing with the code."""
    partner: dict[int, int] = {}

    def place(x: int, seen: set[int]) -> bool:
        for y in range(len(b)):
            if y not in seen and low <= b[y] - a[x] <= high:
                seen.add(y)
                if y not in partner or place(partner[y], seen):
                    partner[y] = x
                    return True
        return False

    return sum(place(x, set()) for x in range(len(a)))


@given(times, times, window)
def test_each_event_is_used_once_and_no_matching_has_more_pairs(
    a: list[int], b: list[int], edges: tuple[int, int]
) -> None:
    matcher = Coincidences(*edges)
    found = matcher.take(0, a) + matcher.take(1, b)
    assert all(edges[0] <= match.b_ps - match.a_ps <= edges[1] for match in found)
    for used, given_ in (([m.a_ps for m in found], a), ([m.b_ps for m in found], b)):
        assert used == sorted(used)
        assert all(used.count(time) <= given_.count(time) for time in used)
    assert len(found) == matcher.matched == most_matches(a, b, *edges)


@given(times, times, window, st.randoms(use_true_random=False))
def test_how_the_streams_are_cut_and_interleaved_changes_nothing(
    a: list[int], b: list[int], edges: tuple[int, int], order: object
) -> None:
    whole = Coincidences(*edges)
    expected = whole.take(0, a) + whole.take(1, b)
    chance = Chance(order.randrange(1 << 30))  # type: ignore[attr-defined]  # Hypothesis' own
    matcher, rest = Coincidences(*edges), (list(a), list(b))
    found: list[Match] = []
    while rest[0] or rest[1]:
        side = chance.below(2)
        size = 1 + chance.below(5)
        found += matcher.take(side, rest[side][:size])
        del rest[side][:size]
    assert found == expected


def test_memory_stays_bounded_while_one_side_is_silent() -> None:
    matcher = Coincidences(-10, 10, limit=100)
    matcher.take(0, range(0, 100_000, 100))
    assert matcher.waiting == (100, 0)
    assert matcher.overrun == 900
    assert matcher.take(1, [99_900]) == [Match(99_900, 99_900)]


def test_a_side_that_says_how_far_it_came_frees_what_waits_for_it() -> None:
    matcher = Coincidences(-10, 10)
    matcher.take(0, range(0, 1_000, 100))
    assert matcher.waiting == (10, 0)
    assert matcher.reached(1, 505) == []
    assert matcher.waiting == (5, 0)
    assert matcher.take(1, [700]) == [Match(700, 700)]


def test_an_event_out_of_order_is_dropped_and_counted() -> None:
    matcher = Coincidences(-10, 10)
    matcher.take(0, [100, 90, 200])
    assert matcher.disordered == 1
    assert matcher.take(1, [90, 200]) == [Match(100, 90), Match(200, 200)]


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        Coincidences(5, 4)


@pytest.mark.parametrize("delay_ps", [0, -87_000, 3_141_592_653, -9_876_543_210])
def test_a_delay_that_nobody_configured_is_found_by_the_scan(delay_ps: int) -> None:
    found = scan_delay(*pair_streams(1, delay_ps), Scan(resolution_ps=1_000))
    assert found is not None
    # Jitter of 200 ps in stretches of 2 ns: the middle is at most one bin off.
    assert abs(found.delay_ps - delay_ps) <= 1_000
    assert found.significance > 10
    assert found.expected < 0.01


def test_streams_without_pairs_have_no_believable_delay() -> None:
    # 400 Hz over 10 s, 2,047 stretches of 20 us, 32 expected in each: the largest excess of that
    # many Poisson counts is above 6 deviations in fewer than one run of 10^4; five seeds.
    for seed in range(5):
        found = scan_delay(*pair_streams(seed, 0, pairs_hz=0.1))
        assert found is not None
        assert found.significance < 6


def test_empty_streams_have_no_delay_at_all() -> None:
    assert scan_delay([], []) is None
    assert scan_delay([5], []) is None
    assert scan_delay([0], [SECOND_PS]) is None


def test_independent_streams_give_as_many_coincidences_as_the_mean_rates_say() -> None:
    # 2,000 Hz at each side, 60 s, a window of 10 us: 2,400 expected, each side's own
    # fluctuation included the count is within 5 standard deviations, 5 * 49 (false alarm 6e-7).
    chance = Chance(7)
    a, b = poisson(chance, 2_000.0, 60.0), poisson(chance, 2_000.0, 60.0)
    low, high = -4_000_000, 6_000_000
    count = count_pairs(a, b, low, high)
    expected = accidentals(len(a), len(b), 60 * SECOND_PS, high - low)
    assert expected == pytest.approx(2_400, rel=0.05)
    assert abs(count - expected) < 245
    matcher = Coincidences(low, high)
    matcher.take(0, a)
    matcher.take(1, b)
    assert matcher.expected_accidentals == pytest.approx(expected, rel=0.001)


def test_no_time_watched_means_no_accidentals_expected() -> None:
    assert accidentals(10, 10, 0, 1_000) == 0.0
    assert Coincidences(0, 1).expected_accidentals == 0.0


def reports(side: int, stream: list[int]) -> list[tuple[int, int, Tags]]:
    """(last time, side, report) in portions of 64 tags."""
    portions = [stream[place : place + 64] for place in range(0, len(stream), 64)]
    return [(p[-1], side, Tags("d", 1, tuple((0, t) for t in p))) for p in portions]


def test_a_correlator_learns_the_delay_and_loses_no_pair_meanwhile() -> None:
    a, b = pair_streams(3, 2_500_000)
    correlator = Correlator(1_000, (-2_000, 2_000), Scan(resolution_ps=1_000))
    found: list[Match] = []
    for _, side, report in sorted(reports(0, a) + reports(1, b), key=lambda r: r[:2]):
        found += correlator.take(side, report)
    delay, matcher = correlator.delay, correlator.coincidences
    assert delay is not None
    assert matcher is not None
    assert abs(delay.delay_ps - 2_500_000) <= 1_000
    offline = Coincidences(delay.delay_ps - 2_000, delay.delay_ps + 2_000)
    assert found == offline.take(0, a) + offline.take(1, b)
    assert len(found) > 150
    assert correlator.take(0, Completed("d", 1)) == []


def test_a_correlator_gives_up_where_there_is_nothing_to_find() -> None:
    chance = Chance(4)
    a, b = poisson(chance, 300.0, 20.0), poisson(chance, 300.0, 20.0)
    correlator = Correlator(500, (-2_000, 2_000), attempts=3)
    for _, side, report in sorted(reports(0, a) + reports(1, b), key=lambda r: r[:2]):
        assert correlator.take(side, report) == []
    assert correlator.failed
    assert correlator.delay is None


@settings(max_examples=20)
@given(st.integers(0, 1 << 30))
def test_a_scan_is_symmetric_under_exchange_of_the_sides(seed: int) -> None:
    a, b = pair_streams(seed, 123_456_789)
    scan = Scan(range_ps=1_000_000_000, resolution_ps=1_000)
    there, back = scan_delay(a, b, scan), scan_delay(b, a, scan)
    assert there is not None
    assert back is not None
    assert abs(there.delay_ps + back.delay_ps) <= 2_000

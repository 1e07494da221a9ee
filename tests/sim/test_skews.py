"""Errors of timing hardware that drift, in steps."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from qstack.sim.world.skews import LIMIT_PS, Skew, Skews


@given(
    st.integers(-2_000, 2_000),
    st.integers(-(10**7), 10**7),
    st.integers(0, 10**7),
    st.sampled_from([10, 12, 25]),
)
def test_a_drifting_error_of_hardware_changes_exactly_when_it_says(
    offset: int, drift: int, now: int, step: int
) -> None:
    """Never further than half a step from the exact error, but for the floor."""
    skew = Skew(7, offset, drift, step)
    error = skew.at(now + 7)
    exact = offset + Fraction(now * drift, 10**9)
    if drift:
        assert abs(error - exact) <= step / 2 + 1
    else:
        assert error == offset
    change = skew.changes(now + 7)
    if change is None:
        assert drift == 0
    else:
        assert skew.at(change) != error == skew.at(change - 1)


def test_an_error_stops_where_no_photon_meets_anything_any_more() -> None:
    for sign in (1, -1):
        skew = Skew(0, 0, sign * 10**11)
        assert skew.at(10**12) == sign * LIMIT_PS
        assert skew.changes(10**12) is None


def test_photons_of_an_end_are_late_by_what_the_station_is_ahead_of_it() -> None:
    skews = Skews(("alice", "bob", "station"), 0)
    assert skews.late_ps(5) == (0, 0)
    assert skews.set("alice", 0, 300, 0)
    assert skews.set("station", 0, 50, 0)
    assert not skews.set("carol", 0, 1, 0)
    assert skews.late_ps(5) == (-250, 50)
    assert skews.changes(5) is None
    assert not skews.drifting


def test_a_link_without_a_window_of_its_own_compares_its_ends_alone() -> None:
    skews = Skews(("alice", "bob", ""), 0)
    skews.set("alice", 0, 300, 0)
    assert not skews.set("station", 0, 50, 0)
    assert skews.late_ps(5) == (-300, 0)


def test_the_first_end_to_change_says_when_the_link_does() -> None:
    """Half a step of 10 ps at 1 and at 2 ppb: 5 ms and 2.5 ms; the slow one runs backwards."""
    skews = Skews(("alice", "bob", "station"), 0)
    skews.set("alice", 0, 0, -1_000)
    skews.set("bob", 0, 0, 2_000)
    assert skews.changes(0) == 2_500_000
    assert skews.late_ps(2_499_999) == (0, 0)
    assert skews.late_ps(2_500_000) == (0, -10)


def test_long_packets_take_longer_steps() -> None:
    skews = Skews(("alice", "bob", "station"), 10_000_000)
    skews.set("alice", 0, 0, 1_000)
    assert skews.late_ps(skews.changes(0) or 0) == (-10_000, 0)

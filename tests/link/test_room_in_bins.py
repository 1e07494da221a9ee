"""Whether there is time for a request, where a link's time is divided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.link.service import LinkDivide, LinkFailed, LinkListen
from qstack.link.timetable import bin_at, open_cycles
from qstack.messages.link import LinkRequest
from qstack.messages.schedule import BinRun, Timetable
from qstack.physical.service import ClockSeen
from tests.link.link_rig import CYCLE, Rig, request
from tests.link.test_timetable import timetables

STATION = 11


@given(timetables(), st.integers(0, 80), st.integers(0, 120), st.integers(0, 3))
def test_the_cycles_that_are_open_are_those_of_bins_that_admit_counted_one_by_one(
    table: Timetable, begin: int, length: int, number: int
) -> None:
    owner = ("alice", number)
    bins = [bin_at(table, cycle) for cycle in range(begin, begin + length)]
    own = sum(here.owner == owner for here in bins)
    free = sum(here.free for here in bins)
    assert open_cycles(table, owner, begin, begin + length) == (own, free)


def divided(*runs: BinRun, frame: int, spare: bool) -> Rig:
    """A link whose bins of 1,000 cycles begin now; nothing succeeds."""
    rig = Rig(scheduler="time-division")
    rig.success = 0.0
    for end in rig.ends.values():
        rig.step(end, LinkListen(2, True))
        rig.step(end, ClockSeen(0, 0))
    rig.run(1_000_000)
    first = rig.now // CYCLE
    rig.step(
        rig.ends["alice"],
        LinkDivide(Timetable(STATION, 0, first, 1_000, frame, 100, spare, runs)),
    )
    rig.run(500_000)
    return rig


def refusal(rig: Rig, wanted: LinkRequest) -> tuple[ErrorCode, str] | None:
    """Why it is refused within a tenth of a bin; None where it is taken."""
    rig.create(wanted)
    rig.run(1_000_000)
    for word in rig.ends["alice"].terminal(wanted.id):
        assert isinstance(word, LinkFailed)
        return word.code, word.reason
    return None


BIN = 1_000 * CYCLE


@pytest.mark.parametrize(
    ("runs", "spare", "bins", "refused"),
    [
        ((BinRun(0, 9, "bob", 2),), True, 5, True),
        ((BinRun(0, 9, "bob", 2),), True, 11, False),
        ((BinRun(0, 9, "bob", 2),), False, 11, True),
        ((BinRun(0, 9, "bob", 2), BinRun(9, 10, "alice", 1)), False, 11, False),
        ((BinRun(0, 9, "bob", 2), BinRun(9, 10, "alice", 7)), False, 11, True),
    ],
)
def test_what_has_no_bin_in_its_time_is_refused_at_once(
    runs: tuple[BinRun, ...], spare: bool, bins: int, refused: bool
) -> None:
    rig = divided(*runs, frame=10, spare=spare)
    found = refusal(rig, request("alice", 1, remaining_ns=bins * BIN))
    assert (found is not None) is refused
    if found is not None:
        assert found[0] is ErrorCode.NO_TIME
        assert "bins or windows leave 0 ns" in found[1]


@pytest.mark.parametrize(
    ("runs", "bins", "refused"),
    [
        ((), 20, True),
        ((BinRun(0, 5, "alice", 1),), 20, False),
        ((BinRun(0, 9, "bob", 2),), 20, True),
        ((BinRun(0, 9, "bob", 2),), 100, False),
    ],
)
def test_what_is_queued_of_others_goes_before_only_where_their_own_bins_do_not_suffice(
    runs: tuple[BinRun, ...], bins: int, refused: bool
) -> None:
    """What bob has queued takes 50 bins; nine tenths of 100 are his, and leave alice the others."""
    rig = divided(*runs, frame=10, spare=True)
    rig.create(request("bob", 5_000, purpose=2))
    rig.run(1_000_000)
    found = refusal(rig, request("alice", 5_000, remaining_ns=bins * BIN))
    assert (found is not None) is refused

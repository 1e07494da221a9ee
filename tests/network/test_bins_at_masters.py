"""Masters of links: plans in the controller's bins become timetables in cycles, by hand."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import RemoteProtocolError
from qstack.link.service import LinkClock
from qstack.link.timetable import bin_at, nonsense
from qstack.messages.circuits import CircuitId
from qstack.messages.schedule import BinRun, BinsClock, BinsPlan, CircuitRun, Timetable
from qstack.network.division.dividing import TOLERANCE, BinsEstimate, Dividing
from tests.network.links import link_between

evolve: Any = attrs.evolve  # mypy does not know records for attrs classes
CYCLE = 7
BIN = 1_000
ONE, TWO = CircuitId("a", 1, 1), CircuitId("b", 1, 2)
OWNERS = {ONE: ("a", 100), TWO: ("b", 200)}


class Master:
    """The end `a` of the link `ab`; `told` is what its link was told."""

    def __init__(self, *, ready: bool = True, scheduler: str = "time-division") -> None:
        link = evolve(link_between("ab", "a", "b"), cycle_ns=CYCLE, scheduler=scheduler)
        self.told: list[Timetable | None] = []
        self.owners: dict[CircuitId, tuple[str, int]] = dict(OWNERS) if ready else {}
        self.machine = Dividing("a", [link], self._divide, self._owner)

    def _divide(self, link: str, table: Timetable | None) -> None:
        assert link == "ab"
        self.told.append(table)

    def _owner(self, circuit: CircuitId, link: str) -> tuple[str, int] | None:
        return self.owners.get(circuit)

    def at(self, now: int) -> Dividing:
        self.machine.now = now
        return self.machine


def plan(now: int, *runs: CircuitRun, boot: int = 5, began: int = 0) -> BinsPlan:
    """As it was said at `now`, bin 0 having begun at `began`."""
    return BinsPlan("ab", boot, BIN, (now - began) // BIN, (now - began) % BIN, runs)


def started(**more: Any) -> Master:
    master = Master(**more)
    master.at(0).seen("ab", True)
    master.at(10).clock("ab", LinkClock(77, 2, 3))
    return master


def test_a_cycle_belongs_to_the_bin_that_it_begins_in() -> None:
    master = started()
    master.at(500).planned(plan(500, CircuitRun(2, 4, ONE), CircuitRun(4, 5, TWO)))
    # Cycle 0 begins at 3, cycle n at 3 + 7 n. The first to begin at 2000 or later is 286 (2005), at
    # 4000 or later 571 (4000), and at 5000 or later 714 (5001).
    assert master.told == [
        Timetable(
            77, 2, 286, 1, 428, 1, True, (BinRun(0, 285, "a", 100), BinRun(285, 428, "b", 200))
        )
    ]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), max_size=5),
    st.integers(0, 3_000),
    st.integers(-2_000, 2_000),
    st.integers(0, 8_000),
)
def test_every_cycle_is_whose_bin_it_begins_in_or_nobodys(
    gaps: list[tuple[int, int, bool]], began: int, zero: int, late: int
) -> None:
    """Against the definition, cycle by cycle, from the cycle under way on."""
    master, runs, last = Master(), [], 0
    for gap, length, first in gaps:
        begin = last + gap
        last = begin + length
        runs.append(CircuitRun(begin, last, ONE if first else TWO))
    now = began + late
    master.at(now).seen("ab", True)
    master.machine.clock("ab", LinkClock(77, 0, zero))
    master.machine.planned(plan(now, *runs, began=began))
    table = master.told[-1] if master.told else None
    assert table is None or nonsense(table) is None
    for cycle in range(max(0, (now - zero) // CYCLE + 1), (began + 25 * BIN - zero) // CYCLE):
        number = (zero + cycle * CYCLE - began) // BIN
        mine = [run.circuit for run in runs if run.begin <= number < run.end]
        here = None if table is None else bin_at(table, cycle).owner
        assert here == (OWNERS[mine[0]] if mine else None)


def test_bins_of_a_circuit_that_is_not_ready_here_are_nobodys_until_it_is_and_afterwards() -> None:
    master = started(ready=False)
    master.at(500).planned(plan(500, CircuitRun(2, 4, ONE)))
    assert master.told == []
    master.owners[ONE] = OWNERS[ONE]
    master.at(600).changed(["ab"])
    assert [run.origin for table in master.told if table for run in table.runs] == ["a"]
    master.at(700).changed(["ab"])
    assert len(master.told) == 1, "nothing is said twice"
    del master.owners[ONE]
    master.at(800).changed(["ab"])
    assert master.told[1:] == [None]


def test_a_link_whose_cycle_is_not_known_is_roused_once_and_divided_when_it_is() -> None:
    master = Master()
    master.at(0).planned(plan(0, CircuitRun(2, 4, ONE)))
    assert master.told == [], "its other end is not there"
    master.at(5).seen("ab", True)
    master.at(6).changed(["ab"])
    assert master.told == [None]
    master.at(10).clock("ab", LinkClock(77, 0, 3))
    assert len(master.told) == 2
    assert master.told[1] is not None


def test_after_a_loss_of_the_other_end_or_the_clock_the_link_is_divided_again() -> None:
    master = started()
    master.at(100).planned(plan(100, CircuitRun(2, 9, ONE)))
    master.at(200).seen("ab", False)
    master.at(300).changed(["ab"])
    assert len(master.told) == 1
    master.at(400).seen("ab", True)
    assert master.told[1:] == master.told[:1]
    master.at(500).clock("ab", LinkClock(78, 0, 400))
    assert master.told[2] is not None
    assert (master.told[2].station_boot, master.told[2].epoch) == (78, 0)


def test_the_least_late_word_of_the_controllers_clock_counts() -> None:
    master = started()
    master.at(500).planned(plan(100, CircuitRun(2, 9, ONE)))  # 400 late: a message was lost
    late = master.told[-1]
    master.at(1_400).told_time(BinsClock(5, 1, 350))  # 50 late
    master.at(2_900).told_time(BinsClock(5, 2, 600))  # 300 late
    assert len(master.told) == 2
    better = master.told[-1]
    assert late is not None
    assert better is not None
    assert late.first_cycle - better.first_cycle == 350 // CYCLE


def test_small_corrections_of_either_clock_change_no_timetable() -> None:
    master = started()
    master.at(500).planned(plan(450, CircuitRun(2, 9, ONE)))
    slack = BIN // TOLERANCE
    master.at(1_000).told_time(BinsClock(5, 0, 950 + slack))
    master.at(1_100).clock("ab", LinkClock(77, 2, 3 + slack))
    assert len(master.told) == 1
    master.at(1_200).clock("ab", LinkClock(77, 2, 3 + slack + 1))
    assert len(master.told) == 2


def test_a_new_life_of_the_controller_begins_a_new_count_however_late_its_word_is() -> None:
    estimate = BinsEstimate()
    estimate.heard(5, 1_000, 1_100)
    assert estimate.began == 100
    estimate.heard(5, 2_000, 2_050)
    assert estimate.began == 50
    estimate.heard(5, 3_000, 3_400)
    assert estimate.began == 50
    estimate.heard(6, 0, 4_000)
    assert estimate.began == 4_000
    # Clocks that drift apart: an earliest word of long ago is worth a little less.
    estimate.heard(6, 8_192_000 - 4_000, 8_192_000 + 9_000)
    assert estimate.began == 4_000 + (8_192_000 + 9_000 - 4_000) // 8_192


GOOD = plan(500, CircuitRun(2, 4, ONE))


@pytest.mark.parametrize(
    "message",
    [
        evolve(GOOD, link="xy"),
        evolve(GOOD, bin_ns=0),
        evolve(GOOD, into_ns=BIN),
        evolve(GOOD, into_ns=-1),
        evolve(GOOD, bin=-1),
        evolve(GOOD, runs=(CircuitRun(2, 2, ONE),)),
        evolve(GOOD, runs=(CircuitRun(3, 5, ONE), CircuitRun(4, 6, TWO))),
        evolve(GOOD, runs=(CircuitRun(0, 1 << 50, ONE),)),
    ],
)
def test_a_plan_that_cannot_be_is_refused_and_changes_nothing(message: BinsPlan) -> None:
    master = started()
    master.at(500).planned(GOOD)
    with pytest.raises(RemoteProtocolError):
        master.at(600).planned(message)
    master.at(700).changed(["ab"])
    assert len(master.told) == 1


def test_only_the_master_of_a_link_that_is_divided_takes_plans() -> None:
    master = Master(scheduler="weighted-fair")
    with pytest.raises(RemoteProtocolError):
        master.at(0).planned(GOOD)
    link = evolve(link_between("ab", "a", "b"), scheduler="time-division")
    other = Dividing("b", [link], master._divide, master._owner)
    with pytest.raises(RemoteProtocolError):
        other.planned(GOOD)

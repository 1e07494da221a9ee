"""Time division at a link: bins to the cycle, and both ends alike by version and bin."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.codec import decode_body, encode_body
from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.link.scheduler import SCHEDULERS, Item
from qstack.link.service import LinkDivide, LinkListen
from qstack.link.timetable import bin_at, nonsense
from qstack.messages.schedule import BinRun, LinkBins, Timetable
from qstack.messages.wire import KIND_OF
from qstack.physical.service import ClockSeen, Rest, Serve
from tests.link.link_rig import CYCLE, Rig, request

STATION = 11
TABLE = Timetable(
    STATION, 0, 1_000, 10, 6, 3, False, (BinRun(0, 1, "alice", 1), BinRun(3, 5, "bob", 2))
)


def change(table: Timetable, **fields: Any) -> Timetable:
    untyped: Any = table
    made: Timetable = attrs.evolve(untyped, **fields)
    return made


@st.composite
def timetables(draw: st.DrawFn) -> Timetable:
    runs, at = [], 0
    for number in range(draw(st.integers(0, 4))):
        begin = at + draw(st.integers(0, 2))
        at = begin + draw(st.integers(1, 3))
        runs.append(BinRun(begin, at, draw(st.sampled_from(["alice", "bob"])), number))
    frame = max(1, at + draw(st.integers(0, 2)))
    sizes = (draw(st.integers(0, 40)), draw(st.integers(1, 5)), frame, draw(st.integers(1, 3)))
    return Timetable(STATION, 0, *sizes, draw(st.booleans()), tuple(runs))


@given(timetables())
def test_every_cycle_is_in_the_one_bin_whose_half_open_span_holds_it(table: Timetable) -> None:
    """Against a list of all cycles, written down one after the other."""
    assert nonsense(table) is None
    owners: list[Any] = ["all"] * table.first_cycle
    for _ in range(table.frames):
        for number in range(table.frame_bins):
            mine: list[Any] = [
                (r.origin, r.purpose) for r in table.runs if r.begin <= number < r.end
            ]
            owners += (mine or ["all" if table.spare else "nobody"]) * table.bin_cycles
    last = len(owners)
    for cycle, owner in enumerate([*owners, "all", "all"]):
        here = bin_at(table, cycle)
        found = here.owner or ("all" if here.free else "nobody")
        assert found == owner
        assert here.begin <= cycle
        assert cycle < here.end or (here.end == 0 and cycle >= last)
        if here.end:  # one bin is nobody else's, and the next cycle after it is in another one
            assert {*owners[here.begin : here.end]} == {owner}
            assert bin_at(table, here.end) != here


@pytest.mark.parametrize(
    "wrong",
    [
        {"bin_cycles": 0},
        {"frames": 0},
        {"first_cycle": -1},
        {"epoch": -1},
        {"frames": 1 << 61},
        {"runs": (BinRun(0, 2, "a", 1), BinRun(1, 3, "b", 1))},
        {"runs": (BinRun(2, 2, "a", 1),)},
        {"runs": (BinRun(5, 7, "a", 1),)},
    ],
    ids="-".join,
)
def test_a_timetable_that_means_nothing_is_refused_by_both_ends(wrong: dict[str, Any]) -> None:
    rig = Rig(scheduler="time-division").run(1_000_000)
    table = change(TABLE, **wrong)
    alice, bob = (rig.ends[name].link for name in ("alice", "bob"))
    version = bob.report()["queue_version"]
    with pytest.raises(LocalProtocolError):
        alice.handle(LinkDivide(table), rig.now)
    with pytest.raises(RemoteProtocolError):
        bob.handle(LinkBins("ab", version + 1, table), rig.now)
    assert bob.report()["queue_version"] == version


def test_only_the_master_divides_and_only_a_link_that_is_divided() -> None:
    rig = Rig(scheduler="time-division").run(1_000_000)
    with pytest.raises(LocalProtocolError):
        rig.ends["bob"].link.handle(LinkDivide(TABLE), rig.now)
    with pytest.raises(RemoteProtocolError):
        rig.ends["alice"].link.handle(LinkBins("ab", 1, TABLE), rig.now)
    rig = Rig(scheduler="weighted-fair").run(1_000_000)
    with pytest.raises(LocalProtocolError):
        rig.ends["alice"].link.handle(LinkDivide(TABLE), rig.now)
    with pytest.raises(RemoteProtocolError):
        rig.ends["bob"].link.handle(LinkBins("ab", 1, TABLE), rig.now)


def test_a_timetable_travels_as_bytes() -> None:
    message = LinkBins("ab", 3, TABLE)
    assert decode_body(KIND_OF[LinkBins].number, encode_body(message)) == message


def divided(table: Timetable = TABLE, **changes: Any) -> tuple[Rig, dict[str, Any]]:
    """Two requests in the queue, no pair, and a timetable; cycle 0 began at instant 0."""
    rig = Rig(scheduler="time-division", **changes)
    rig.success = 0.0
    for end in rig.ends.values():
        rig.step(end, LinkListen(2, True))
        rig.step(end, ClockSeen(0, 0))
    asked = {
        "alice": rig.create(request("alice", 50)),
        "bob": rig.create(request("bob", 50, purpose=2)),
    }
    rig.run(2_000_000)
    rig.step(rig.ends["alice"], LinkDivide(table))
    rig.run(500_000)
    return rig, asked


def test_both_ends_serve_by_the_bin_of_the_cycle_from_its_first_to_its_last() -> None:
    rig, asked = divided()
    expected = []
    for frame in range(3):
        begin = 1_000 + 60 * frame
        expected += [
            (begin, Serve, asked["alice"], begin, begin + 10),
            (begin + 10, Rest, None, 0, 0),
            (begin + 30, Serve, asked["bob"], begin + 30, begin + 50),
            (begin + 50, Rest, None, 0, 0),
        ]
    # Afterwards the queue decides. Bob's was committed first: alice's had to go there and back.
    expected.append((1_180, Serve, asked["bob"], 1_180, 0))
    for end in rig.ends.values():
        assert (end.serve.begin, end.serve.end) == (0, 1_000), "until it begins, for all"
    changes: dict[str, list[Any]] = {name: [] for name in rig.ends}
    for cycle in range(rig.now // CYCLE, 1_200):
        before = {name: end.serve for name, end in rig.ends.items()}
        rig.run((cycle + 1) * CYCLE - 1 - rig.now)
        for name, end in rig.ends.items():
            serve = end.serve
            if serve != before[name]:
                what: tuple[Any, int, int] = (None, 0, 0)
                if isinstance(serve, Serve):
                    what = (serve.request, serve.begin, serve.end)
                changes[name].append((cycle, type(serve), *what))
    assert changes["alice"] == expected
    assert changes["bob"] == expected


def test_the_boundary_itself_belongs_to_the_bin_that_begins_there() -> None:
    rig, asked = divided()
    rig.run(1_000 * CYCLE - 1 - rig.now)
    assert rig.ends["alice"].serve.end == 1_000
    rig.run(1)
    assert rig.now == 1_000 * CYCLE
    assert rig.ends["alice"].serve.request == asked["alice"]
    assert rig.ends["alice"].serve.begin == 1_000


def test_an_atomic_request_that_has_begun_is_interrupted_by_the_end_of_its_bin() -> None:
    scheduler = SCHEDULERS["time-division"]
    begun = Item(request("alice", 3, atomic=True), 1, "fast", 0.0, 1.0)
    other = Item(request("bob", 3, purpose=2), 2, "fast", 0.0, 1.0)
    items, progress = (begun, other), {begun.request.id: 1, other.request.id: 0}
    assert scheduler.choose(bin_at(TABLE, 0).admits(items), progress) is begun
    assert scheduler.choose(bin_at(TABLE, 1_009).admits(items), progress) is begun
    assert scheduler.choose(bin_at(TABLE, 1_029).admits(items), progress) is None
    assert scheduler.choose(bin_at(TABLE, 1_030).admits(items), progress) is other


def test_bins_of_nobody_are_anybodys_where_they_may_be() -> None:
    rig, _ = divided(change(TABLE, spare=True))
    rig.run(1_015 * CYCLE - rig.now)
    serve = rig.ends["bob"].serve
    assert isinstance(serve, Serve)
    assert (serve.begin, serve.end) == (1_010, 1_030)


@pytest.mark.parametrize(("boot", "epoch"), [(STATION + 1, 0), (STATION, 1)])
def test_a_timetable_of_another_clock_counts_for_nothing(boot: int, epoch: int) -> None:
    rig, _ = divided(change(TABLE, station_boot=boot, epoch=epoch))
    rig.run(1_015 * CYCLE - rig.now)
    for end in rig.ends.values():
        assert isinstance(end.serve, Serve)
        assert (end.serve.begin, end.serve.end) == (0, 0)


def test_while_the_cycle_is_not_known_a_divided_link_rests() -> None:
    rig, _ = divided()
    rig.restart_station()
    for end in rig.ends.values():
        assert isinstance(end.serve, Rest)
        rig.step(end, ClockSeen(0, rig.now))
        assert isinstance(end.serve, Serve), "the timetable was of the former station"


def test_an_end_that_was_lost_begins_without_a_timetable() -> None:
    rig, _ = divided()
    rig.restart("bob")
    rig.run(1_000_000)
    asked = rig.create(request("alice", 5))
    rig.run(1_015 * CYCLE - rig.now)
    for end in rig.ends.values():
        rig.step(end, ClockSeen(0, 0))
        assert end.serve.request == asked
        assert (end.serve.begin, end.serve.end) == (0, 0)


def test_a_timetable_can_be_taken_back() -> None:
    rig, _ = divided()
    rig.run(1_015 * CYCLE - rig.now)
    assert isinstance(rig.ends["bob"].serve, Rest)
    rig.step(rig.ends["alice"], LinkDivide(None))
    rig.run(1_000_000)
    for end in rig.ends.values():
        assert isinstance(end.serve, Serve)
    assert rig.refused == []

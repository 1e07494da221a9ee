"""Links divided in time by a controller, whole: whose bins are whose, and what is kept of them."""

from __future__ import annotations

import math

import pytest

from qstack.errors import ErrorCode
from qstack.messages.application import Cancel, RequestEnded
from qstack.testing import terms
from qstack.testing.routes_lab import RouteLab, chain, star
from qstack.units import MILLISECOND, SECOND
from tests.whole.bins_rig import BIN_NS, WIRE_NS, Asked, BinsRig

EFFICIENCY = 0.1


def stars(seed: int, *, controller: str = "n1", loss: float = 0.0) -> BinsRig:
    """Four leaves n2 to n5 around the repeater n1; four qubits for each link at each end."""
    lab = RouteLab(star(4), 4, scheduler="time-division", efficiency=EFFICIENCY)
    return BinsRig(lab, controller, seed, loss=loss)


def three(rig: BinsRig) -> list[Asked]:
    """Three circuits: the first two share a link, and so do the first and the third."""
    return [
        rig.ask("n2", "n3", 40, 80 * MILLISECOND),
        rig.ask("n2", "n4", 40, 60 * MILLISECOND),
        rig.ask("n5", "n3", 25, 80 * MILLISECOND),
    ]


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (3, 0.1)])
def test_circuits_that_share_links_have_the_bins_of_the_schedule_and_their_rates(
    seed: int, loss: float
) -> None:
    """Each success counted at the stations, each against the bin that it was made in."""
    rig = stars(seed, loss=loss)
    asked = three(rig)
    rig.rest(82 * MILLISECOND)
    assert all(each.kept for each in asked)
    assert rig.strangers() == []
    by_circuit = {made.circuit for made in rig.made}
    assert None not in by_circuit
    assert len(by_circuit) == 3
    owned = [made for made in rig.made if rig.whose(made) == {made.circuit}]
    assert len(owned) > 0.8 * len(rig.made), "most are made in bins of their own"
    shared = {who for (link, _), who in rig.schedule.items() if link == "n1-n2"}
    assert len(shared) == 2, "both circuits had bins of the link that they share"
    rig.nothing_is_left()


def bins_for(number: int, rate_hz: float) -> int:
    """By hand: two standard deviations more than the number; of each bin two ways are lost."""
    work_ns = (number + 2 * math.sqrt(number)) / rate_hz * SECOND
    return math.ceil(work_ns / (BIN_NS - 2 * WIRE_NS))


def rate_of_two_links() -> float:
    """Four qubits try at once, two links alike: the later of two exponential times.

    After each pair an end's qubit waits for the track over both links and for its station's word.
    """
    lab = RouteLab(star(4), 4, efficiency=EFFICIENCY)
    alpha, eta = lab.alpha, lab.efficiency
    chance = alpha**2 * (eta**2 + 2 * eta * (1 - eta)) + 2 * alpha * (1 - alpha) * eta
    made_ns = 1.5 * lab.cycle_ns / (4 * chance)
    paused_ns = (2 * WIRE_NS + 2 * WIRE_NS) / 4
    return SECOND / (made_ns + paused_ns)


def test_what_has_no_room_is_refused_at_once_with_the_reason_and_has_it_after_a_release() -> None:
    rig = stars(1)
    first = rig.ask("n2", "n3", 150, 100 * MILLISECOND)
    rig.rest(MILLISECOND)
    refused = rig.ask("n2", "n4", 120, 70 * MILLISECOND)
    rig.rest(MILLISECOND)
    need = bins_for(120, rate_of_two_links())
    granted = rig.grants.report(rig.heap.now)
    assert [each["links"] for each in granted] == [["n1-n2", "n1-n3"]]
    assert bins_for(150, rate_of_two_links()) - granted[0]["bins"] in (0, 1, 2)
    end = refused.end
    assert type(end) is RequestEnded
    assert end.code is ErrorCode.NO_TIME
    # The first has the later deadline, so that the second alone would go before it.
    assert "controller n1" in end.reason
    assert "n1-n2" in end.reason or f"{need}" in end.reason
    assert not refused.pairs

    first.user.say(Cancel(first.user.reference(), first.request))
    rig.rest(MILLISECOND)
    again = rig.ask("n2", "n4", 120, 70 * MILLISECOND)
    rig.rest(MILLISECOND)
    rig.until(lambda: again.is_done, 69 * MILLISECOND)
    rig.nothing_is_left()


def test_requests_without_a_maximum_time_and_of_neighbours_leave_bins_to_their_owners() -> None:
    rig = stars(4)
    rig.of["n2"].keep(terms("n4", 40))
    rig.of["n2"].keep(terms("n1", 40))
    timed = rig.ask("n2", "n3", 50, 60 * MILLISECOND)
    rig.rest(62 * MILLISECOND)
    assert timed.kept
    assert rig.strangers() == []
    rig.until(lambda: len(rig.of["n2"].done) == 3)
    rig.nothing_is_left()


def test_a_neighbour_with_a_maximum_time_has_bins_too() -> None:
    rig = stars(5)
    asked = [rig.ask("n2", "n1", 60, 80 * MILLISECOND), rig.ask("n2", "n3", 40, 80 * MILLISECOND)]
    rig.rest(2 * MILLISECOND)
    assert [each["links"] for each in rig.grants.report(rig.heap.now)] == [
        ["n1-n2"],
        ["n1-n2", "n1-n3"],
    ]
    rig.rest(80 * MILLISECOND)
    assert all(each.kept for each in asked)
    assert rig.strangers() == []
    rig.nothing_is_left()


def test_a_controller_that_is_no_neighbour_is_asked_over_an_adjacency_of_its_own() -> None:
    lab = RouteLab(chain(5), 4, scheduler="time-division", efficiency=EFFICIENCY)
    rig = BinsRig(lab, "n1", 6)
    asked = [rig.ask("n2", "n5", 25, 80 * MILLISECOND), rig.ask("n5", "n3", 25, 80 * MILLISECOND)]
    rig.rest(82 * MILLISECOND)
    assert all(each.kept for each in asked)
    assert rig.strangers() == []
    rig.nothing_is_left()


@pytest.mark.parametrize(("seed", "loss"), [(7, 0.0), (8, 0.1)])
def test_with_the_controller_killed_what_runs_goes_on_and_a_new_life_is_asked_again(
    seed: int, loss: float
) -> None:
    rig = stars(seed, controller="n5", loss=loss)
    asked = [rig.ask("n2", "n3", 50, 110 * MILLISECOND), rig.ask("n2", "n4", 50, 80 * MILLISECOND)]
    rig.rest(4 * MILLISECOND)
    first = rig.grants
    assert len(first.granted) == 2
    rig.net.crash("n5")
    late = [rig.ask("n3", "n4", 20, 90 * MILLISECOND)]
    rig.rest(12 * MILLISECOND)  # lost after eight silent intervals of a millisecond
    assert rig.strangers() == []
    late.append(rig.ask("n4", "n3", 20, 90 * MILLISECOND))
    rig.rest(4 * MILLISECOND)
    for node in ("n3", "n4"):
        (shares,) = (
            circuit
            for circuit in rig.net.host(node).network.report(rig.heap.now)["circuits"]
            if circuit["role"] == "head"
        )
        assert shares["bins"] == "without"
        assert min(shares["share"].values()) > 0
    rig.net.start("n5")
    rig.rest(6 * MILLISECOND)
    assert rig.grants is not first
    missing = [each for each in (*asked, *late) if not each.is_done]
    assert len(rig.grants.granted) == len(missing) >= 2, "all are known to the new life"
    rig.rest(102 * MILLISECOND)
    assert all(each.end is not None for each in (*asked, *late))
    # Where a tenth of all messages is lost pairs come half as often, which no route knows.
    assert loss or all(each.kept for each in (*asked, *late))
    rig.nothing_is_left()


def test_a_head_end_that_dies_gives_its_bins_back_and_so_does_one_in_a_new_life() -> None:
    rig = stars(9, controller="n5")
    rig.ask("n2", "n3", 150, 100 * MILLISECOND)
    rig.rest(2 * MILLISECOND)
    assert len(rig.grants.granted) == 1
    rig.net.crash("n2")
    rig.rest(28 * MILLISECOND)
    assert not rig.grants.granted
    rig.net.start("n2")
    rig.rest(20 * MILLISECOND)
    rig.of["n2"].accept()
    rig.ask("n2", "n3", 150, 100 * MILLISECOND)
    rig.rest(2 * MILLISECOND)
    assert len(rig.grants.granted) == 1
    rig.net.crash("n2")
    rig.net.start("n2")
    rig.rest(6 * MILLISECOND)
    assert not rig.grants.granted
    rig.nothing_is_left()


def test_with_the_hub_killed_that_is_controller_and_master_everything_ends_and_begins_anew() -> (
    None
):
    rig = stars(10)
    asked = three(rig)
    rig.rest(5 * MILLISECOND)
    rig.net.crash("n1")
    rig.rest(15 * MILLISECOND)
    assert all(type(each.end) is RequestEnded for each in asked)
    rig.net.start("n1")
    rig.rest(20 * MILLISECOND)
    again = rig.ask("n2", "n3", 20, 40 * MILLISECOND)
    rig.rest(MILLISECOND)
    assert len(rig.grants.granted) == 1
    rig.until(lambda: again.is_done, 39 * MILLISECOND)
    rig.nothing_is_left()


def test_a_station_in_a_new_life_has_the_bins_again_in_its_new_cycles() -> None:
    rig = stars(11)
    asked = [rig.ask("n2", "n3", 25, 65 * MILLISECOND), rig.ask("n2", "n4", 20, 50 * MILLISECOND)]
    rig.rest(3 * MILLISECOND)
    rig.net.crash("s-n1-n2")
    rig.rest(2 * MILLISECOND)
    rig.net.start("s-n1-n2")
    rig.rest(6 * MILLISECOND)
    began, boot = rig.heap.now, rig.net.host("s-n1-n2").boot
    tables = [each.timetable for _, each in rig.tables if each.link == "n1-n2"]
    assert tables[-1] is not None
    assert tables[-1].station_boot == boot
    rig.made.clear()
    rig.rest(55 * MILLISECOND)
    assert rig.made[0].at >= began
    assert rig.strangers() == []
    assert all(each.kept for each in asked)
    rig.nothing_is_left()

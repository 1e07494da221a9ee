"""Circuits without requests: they give way at once, and carry the next request if they can."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.messages.application import RequestDone, RequestEnded
from qstack.messages.common import RequestId
from qstack.network.routing import Query, route
from qstack.network.service import NetworkDrain
from qstack.units import MILLISECOND, SECOND
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Chances, Lab, chain
from tests.network.test_circuit_life import CALM, RING

STAR = [("n0", "n1"), ("n1", "n2"), ("n1", "n3")]
"""n0 and n3 reach n2 over n1, by one link that both circuits need."""


def until_ended(lab: Lab, *requests: tuple[str, str, RequestId]) -> None:
    """Go on until these requests, (head, tail, id), have ended at both ends."""
    names = [(name, request) for *ends, request in requests for name in ends]
    while not all(lab.users[each].ends for each in names):
        assert lab.turn()


def rests(lab: Lab, name: str) -> list[bool]:
    return [member.rests for member in lab.nodes[name].demand.circuits.members]


@pytest.mark.parametrize(("head", "tail"), [("n0", "n2"), ("n3", "n2"), ("n2", "n0")])
def test_a_circuit_that_rests_gives_its_room_to_another_at_once(head: str, tail: str) -> None:
    """One qubit for each link: at the head-end, in the middle and at the tail-end."""
    lab = Lab(STAR, 1, comm=1, chances=CALM)
    first = lab.create("n0", "n2", 3)
    until_ended(lab, ("n0", "n2", first))
    begun = lab.now
    other = lab.create(head, tail, 3, fidelity_min=0.6)
    until_ended(lab, (head, tail, other))
    assert ended(lab, head, other) == RequestDone(other, 3, 0)
    assert lab.now < begun + 100 * MILLISECOND, "it waited until the first circuit was idle"
    lab.finish()
    audit(lab)


def test_a_circuit_that_carries_a_request_gives_way_to_nobody() -> None:
    lab = Lab(STAR, 1, comm=1, chances=CALM)
    running = lab.create("n0", "n2", 100)
    lab.run(100)
    refused = lab.create("n3", "n2", 1)
    lab.finish()
    audit(lab)
    assert ended(lab, "n0", running) == RequestDone(running, 100, 0)
    end = ended(lab, "n3", refused)
    assert isinstance(end, RequestEnded)
    assert end.code is ErrorCode.NO_RESOURCES
    assert "room for 1 halves, of which circuits need 1" in end.reason


@pytest.mark.parametrize("wait", [0, 5, 20, 60])
def test_a_request_on_a_circuit_that_gave_way_begins_anew_and_hears_who_has_its_room(
    wait: int,
) -> None:
    """The head-end does not know that n1 gave the room of its circuit to another."""
    lab = Lab(STAR, 1, comm=1, chances=CALM)
    first = lab.create("n0", "n2", 1)
    until_ended(lab, ("n0", "n2", first))
    other = lab.create("n3", "n2", 400)
    lab.run(40)
    assert rests(lab, "n1") == [True, False]
    again = lab.create("n0", "n2", 1)
    while not lab.users["n0", again].ends:
        assert lab.turn()
    end = ended(lab, "n0", again)
    assert isinstance(end, RequestEnded)
    assert end.code is ErrorCode.NO_RESOURCES
    assert end.reason.startswith("n1: ")
    until_ended(lab, ("n3", "n2", other))
    served = lab.create("n0", "n2", 2)
    lab.run(wait)
    lab.finish()
    audit(lab)
    assert ended(lab, "n3", other) == RequestDone(other, 400, 0)
    assert ended(lab, "n0", served) == RequestDone(served, 2, 0)


def test_a_circuit_that_gave_way_is_asked_for_nothing_more() -> None:
    lab = Lab(STAR, 1, comm=1, chances=CALM)
    first = lab.create("n0", "n2", 1)
    until_ended(lab, ("n0", "n2", first))
    other = lab.create("n3", "n2", 400)
    lab.run(40)
    forwards = lab.sent["CircuitForward"]
    for _ in range(3):
        again = lab.create("n0", "n2", 1)
        while not lab.users["n0", again].ends:
            assert lab.turn()
    assert lab.sent["CircuitForward"] == forwards + 1
    lab.finish()
    audit(lab)
    assert ended(lab, "n3", other) == RequestDone(other, 400, 0)


def test_a_circuit_wakes_for_the_next_request_without_a_new_install() -> None:
    lab = Lab(chain(3), 1, chances=CALM)
    for number in range(1, 4):
        request = lab.create("n0", "n3", number)
        until_ended(lab, ("n0", "n3", request))
        while rests(lab, "n0") != [True]:
            assert lab.turn()
        assert not any(lab.nodes[name].reservations.circuits("n1-n2") for name in ("n1", "n2"))
    assert lab.sent["CircuitInstall"] == 3
    lab.finish()
    audit(lab)


def test_time_that_was_reserved_is_free_as_soon_as_its_request_is_over() -> None:
    lab = Lab(chain(2), 1, chances=CALM)
    # Nearly all of the route's rate, twice.
    found = route(lab.nodes["n0"].demand.graph, Query("n0", "n2"))
    assert found is not None
    number = int(0.9 * found.rate_hz)
    for _ in range(2):
        request = lab.create("n0", "n2", number, remaining_ns=SECOND)
        lab.run(30)
        assert lab.nodes["n0"].reservations.share("n0-n1") > 0.8
        lab.cancel("n0", request)
        while not lab.users["n0", request].ends:
            assert lab.turn()
        assert lab.nodes["n0"].reservations.share("n0-n1") == 0
        lab.settle()
    lab.finish()
    audit(lab)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(60, 250), st.integers(0, 80), st.sampled_from([1, 2]))
def test_however_requests_race_for_the_room_of_a_resting_circuit_all_end_and_none_is_split(
    seed: int, before: int, between: int, comm: int
) -> None:
    """Three pairs of ends, one shared link; what runs never needs more room than there is."""
    lab = Lab(STAR, seed, comm=comm, chances=Chances(swap_fails=0.05))
    requests = []
    for head, tail, fidelity in (
        *(("n0", "n2", 0.5), ("n3", "n2", 0.5), ("n0", "n2", 0.5), ("n2", "n0", 0.5)),
        *(("n0", "n3", 0.6), ("n3", "n2", 0.5), ("n0", "n2", 0.6)),
    ):
        requests.append((head, lab.create(head, tail, 2, fidelity_min=fidelity)))
        for _ in range(before if len(requests) % 2 else between):
            lab.turn()
            for name, node in lab.nodes.items():
                for link in node.desk.links:
                    assert node.reservations.circuits(link) <= comm, f"{link} at {name}"
    lab.finish()
    assert lab.errors == []
    audit(lab)
    for head, request in requests:
        end = ended(lab, head, request)
        if isinstance(end, RequestEnded) and end.code is not ErrorCode.NO_RESOURCES:
            assert end.reason == "a pair was lost after the last was delivered"


# --- while an operator drains --------------------------------------------------------------------


@pytest.mark.parametrize("link", [None, "n1-n2"])
def test_a_circuit_by_what_drains_carries_no_further_request_though_it_is_there(
    link: str | None,
) -> None:
    lab = Lab(RING, 1, chances=CALM)
    running = lab.create("n0", "n2", 60)
    lab.run(200)
    (member,) = lab.nodes["n0"].demand.circuits.members
    (one, _) = (leg.node for leg in member.place.install.legs)
    assert one == "n1"
    lab.step("n1", NetworkDrain(link, True))
    more = lab.create("n0", "n2", 5)  # before any route tells of it
    lab.finish()
    audit(lab)
    assert ended(lab, "n0", running) == RequestDone(running, 60, 0)
    assert ended(lab, "n0", more) == RequestDone(more, 5, 0)
    assert lab.link("n0", "n3").made >= 5

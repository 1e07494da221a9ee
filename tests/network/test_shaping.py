"""What of a link's time a user's own request to a neighbour weighs, and what it is promised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.link.service import LinkAccepted, LinkCreate
from qstack.messages.application import RequestEnded
from qstack.messages.common import RequestId
from qstack.messages.network import LinkOffer
from qstack.network.machine import OnLink
from qstack.network.routing import Query, route
from qstack.network.shaping import LEAST_WEIGHT, MOST_LIKE, shaped, share_of
from qstack.units import SECOND
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Lab, chain
from tests.network.circuit_links import evolve
from tests.network.test_circuit_hostile import request_of
from tests.network.test_circuit_life import CALM

OFFERS = tuple(
    LinkOffer(name, rate, (good, 0.0, 1 - good, 0.0), good - 0.01)
    for name, rate, good in (("fast", 100.0, 0.8), ("fine", 20.0, 0.95))
)


def wish(**changes: Any) -> Any:
    return evolve(request_of("n0", 1, 1), **changes)


@pytest.mark.parametrize(
    ("number", "seconds", "fidelity", "free", "share"),
    [
        (30, 1, 0.5, 1.0, 0.3),  # 30 of the 100 pairs per second of the fast setting
        (30, 3, 0.9, 1.0, 0.5),  # 10 of the 20 of the fine one
        (30, 1, 0.5, 0.2, 0.2),  # more than what is left is not promised
        (30, 1, 0.99, 0.7, 0.7),  # no setting has that: the link will say so
        (30, 0, 0.5, 1.0, 0.0),
        (30, 1, 0.5, 0.0, 0.0),
    ],
)
def test_a_request_in_time_is_promised_what_it_needs_of_what_is_left(
    number: int, seconds: int, fidelity: float, free: float, share: float
) -> None:
    wanted = wish(number=number, remaining_ns=seconds * SECOND, fidelity_min=fidelity)
    assert share_of(wanted, OFFERS, free) == pytest.approx(share)
    if share:
        assert shaped(wanted, share).weight == share


@given(st.floats(1e-6, 1e6))
def test_a_weight_counts_among_its_like_and_up_to_a_bound(weight: float) -> None:
    assert shaped(wish(weight=weight), 0.0).weight == LEAST_WEIGHT * min(weight, MOST_LIKE)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_makes_no_sense_is_left_for_the_link_to_refuse(weight: float) -> None:
    assert repr(shaped(wish(weight=weight), 0.5).weight) == repr(weight)


def test_what_a_neighbour_was_promised_no_circuit_is_promised_until_it_is_over() -> None:
    """At both ends: the one that asked and the one that heard of it from the link."""
    lab = Lab(chain(2), 1, chances=CALM)
    (rate,) = {c.rate_hz for c in lab.nodes["n0"].demand.graph.choices["n0"]}
    direct = lab.create("n0", "n1", int(0.7 * rate), remaining_ns=SECOND)
    while not lab.users["n1", direct].accepted:
        lab.turn(pairs=False)
    for name in ("n0", "n1"):
        assert lab.nodes[name].reservations.free("n0-n1") == pytest.approx(0.3, abs=0.01)
    found = route(lab.nodes["n0"].demand.graph, Query("n0", "n2"))
    assert found is not None
    asked = {"remaining_ns": 10 * SECOND, "number": int(6 * found.rate_hz)}  # 0.6 of it
    refused = lab.create("n0", "n2", **asked)
    while not lab.users["n0", refused].ends:
        lab.turn(pairs=False)
    end = ended(lab, "n0", refused)
    assert isinstance(end, RequestEnded)
    assert end.code is ErrorCode.NO_TIME
    assert "of its time left" in end.reason
    lab.cancel("n0", direct)
    while not (lab.users["n0", direct].ends and lab.users["n1", direct].ends):
        lab.turn(pairs=False)
    for name in ("n0", "n1"):
        assert lab.nodes[name].reservations.free("n0-n1") == 1.0
    admitted = lab.create("n0", "n2", **asked)
    while not lab.users["n2", admitted].accepted:
        lab.turn(pairs=False)
    lab.cancel("n0", admitted)
    lab.finish()
    audit(lab)


def test_a_neighbours_weight_beyond_what_is_left_is_promised_nothing_more() -> None:
    lab = Lab(chain(1), 1, chances=CALM)
    for number, weight in ((1, 0.8), (2, 5.0)):
        request = wish(id=RequestId("n1", 5, number), weight=weight, remaining_ns=SECOND)
        lab.step("n0", OnLink("n0-n1", LinkAccepted(request)))
    assert lab.nodes["n0"].reservations.free("n0-n1") == 0.0


def test_links_are_asked_with_the_weight_that_was_shaped() -> None:
    lab = Lab(chain(1), 1, chances=CALM)
    asked: list[float] = []
    link = lab.link("n0", "n1")
    before = link.asked

    def look(node: str, body: Any) -> None:
        if isinstance(body, LinkCreate):
            asked.append(body.request.weight)
        before(node, body)

    link.asked = look  # type: ignore[method-assign]  # to see what it is asked
    lab.create("n0", "n1", 1, weight=3.0)
    lab.create("n0", "n1", 1, weight=1_000.0)
    assert asked == [3 * LEAST_WEIGHT, MOST_LIKE * LEAST_WEIGHT]

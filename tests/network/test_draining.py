"""Draining: what runs finishes, what is new goes elsewhere or is refused with the reason."""

from __future__ import annotations

import pytest

from qstack.errors import ErrorCode
from qstack.messages.application import RequestDone, RequestEnded
from qstack.network.service import NetworkDrain
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Lab, chain
from tests.network.test_circuit_life import CALM, RING


@pytest.mark.parametrize("link", [None, "n0-n1"])
@pytest.mark.parametrize("who", ["n0", "n1"])
def test_a_request_for_a_neighbour_goes_around_a_link_that_either_end_drains(
    who: str, link: str | None
) -> None:
    lab = Lab(RING, 1, chances=CALM)
    running = lab.create("n0", "n1", 30)
    lab.run(60)
    lab.step(who, NetworkDrain(link, True))
    lab.settle()
    made = lab.link("n0", "n1").emitted[running]
    assert made < 30
    new = lab.create("n0", "n1", 2)
    lab.finish()
    assert ended(lab, "n0", running) == RequestDone(running, 30, 0)
    end = ended(lab, "n0", new)
    if link is None:  # a node that drains takes nothing new, whichever way it comes
        assert isinstance(end, RequestEnded)
        assert f"draining: node {who}" in end.reason
    else:
        assert end == RequestDone(new, 2, 0)
        assert lab.link("n2", "n3").made >= 2
    assert lab.link("n0", "n1").made == 30
    lab.step(who, NetworkDrain(link, False))
    lab.settle()
    again = lab.create("n0", "n1", 2)
    lab.finish()
    assert ended(lab, "n0", again) == RequestDone(again, 2, 0)
    assert lab.link("n0", "n1").made == 32


def test_a_neighbour_that_has_not_heard_yet_is_refused_by_the_link() -> None:
    lab = Lab(chain(1), 1, chances=CALM)
    lab.step("n1", NetworkDrain("n0-n1", True))
    lab.wires["n1", "n0"].clear()
    request = lab.create("n0", "n1", 1)
    lab.finish()
    end = ended(lab, "n0", request)
    assert isinstance(end, RequestEnded)
    assert end.code is ErrorCode.REJECTED


def test_where_nothing_is_left_but_what_drains_the_refusal_names_it() -> None:
    lab = Lab(chain(3), 1, chances=CALM)
    lab.step("n2", NetworkDrain("n1-n2", True))
    lab.settle()
    request = lab.create("n0", "n3", 1)
    end = ended(lab, "n0", request)
    assert end == RequestEnded(
        request,
        ErrorCode.NO_RESOURCES,
        "no way leads from n0 to n3 now; draining: link n1-n2 at n2",
        0,
    )


def test_routes_and_the_node_itself_tell_what_drains() -> None:
    lab = Lab(chain(2), 1, chances=CALM)
    lab.step("n1", NetworkDrain("n1-n2", True))
    lab.settle()
    told = lab.nodes["n0"].report(lab.now)["routes"]["n1"]
    assert told["draining"] is False
    assert told["links"]["n1-n2"]["draining"]
    assert not told["links"]["n1-n2"]["up"]
    assert not told["links"]["n0-n1"]["draining"]
    assert lab.nodes["n1"].report(lab.now)["draining"] == {"node": False, "links": ["n1-n2"]}


def test_a_node_that_is_started_again_drains_no_more() -> None:
    lab = Lab(chain(2), 1, chances=CALM)
    lab.step("n1", NetworkDrain(None, True))
    lab.settle()
    lab.restart("n1")
    lab.settle()
    request = lab.create("n0", "n2", 2)
    lab.finish()
    audit(lab, broken=True)
    assert ended(lab, "n0", request) == RequestDone(request, 2, 0)


def test_a_purpose_that_is_listened_on_while_a_link_drains_is_taken_there_afterwards() -> None:
    lab = Lab(chain(1), 1, chances=CALM)
    lab.step("n1", NetworkDrain("n0-n1", True))
    assert lab.link("n0", "n1").purposes["n1"] == set()
    from_user = lab.nodes["n1"].demand.circuits.purposes
    assert from_user
    lab.step("n1", NetworkDrain("n0-n1", True))  # twice is once
    lab.step("n1", NetworkDrain("n0-n1", False))
    assert lab.link("n0", "n1").purposes["n1"] == from_user

"""Requests that ask for trust: nodes between the ends have it, or the request is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.messages.application import RequestDone, RequestEnded
from qstack.network.service import NetworkTry, TryAnswer
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Lab, chain
from tests.network.test_circuit_hostile import request_of
from tests.network.test_circuit_life import CALM, RING

DETOUR = [("n0", "n1"), ("n1", "n4"), ("n0", "n2"), ("n2", "n3"), ("n3", "n4")]
"""n0 to n4: over n1, or longer over n2 and n3."""


def test_a_longer_way_around_a_node_that_is_not_trusted_is_taken() -> None:
    lab = Lab(DETOUR, 1, chances=CALM)
    lab.trust(n1=1, n2=2, n3=3)
    plain = lab.create("n0", "n4", 2)
    lab.finish()
    direct = lab.link("n1", "n4").made
    assert direct >= 2
    assert lab.link("n2", "n3").made == 0
    trusting = lab.create("n0", "n4", 2, trust_min=2)
    lab.finish()
    audit(lab)
    assert lab.link("n1", "n4").made == direct
    assert lab.link("n2", "n3").made >= 2
    for request in (plain, trusting):
        assert ended(lab, "n0", request) == RequestDone(request, 2, 0)


def test_a_refusal_names_the_nodes_and_the_best_trust_of_any_way() -> None:
    """Both ways have a node that is not trusted; the longer one has the better worst node."""
    lab = Lab(DETOUR, 1, chances=CALM)
    lab.trust(n1=1, n2=2, n3=5)
    request = lab.create("n0", "n4", 2, trust_min=4)
    lab.finish()
    audit(lab)
    assert ended(lab, "n0", request) == RequestEnded(
        request,
        ErrorCode.UNSUPPORTED,
        "trust 4 is asked for of all nodes on the way; the network stands for 2 at most: n2 has 2",
        0,
    )


def test_a_way_that_is_trusted_and_too_bad_is_refused_with_what_the_better_one_lacks() -> None:
    """One link more costs fidelity: 0.97 a link gives 0.9415 over two and 0.9143 over three."""
    lab = Lab(DETOUR, 1, chances=CALM, methods=())
    lab.trust(n1=0, n2=2, n3=2)
    request = lab.create("n0", "n4", 1, trust_min=2, fidelity_min=0.93)
    served = lab.create("n0", "n4", 1, trust_min=2, fidelity_min=0.91)
    lab.finish()
    audit(lab)
    end = ended(lab, "n0", request)
    assert isinstance(end, RequestEnded)
    assert end.reason.endswith("the network stands for 0 at most: n1 has 0")
    assert ended(lab, "n0", served) == RequestDone(served, 1, 0)


@pytest.mark.parametrize("hops", [1, 2])
def test_the_ends_themselves_and_neighbours_need_no_trust(hops: int) -> None:
    lab = Lab(chain(hops), 1, chances=CALM)
    lab.trust(n1=0 if hops == 1 else 7)
    request = lab.create("n0", f"n{hops}", 2, trust_min=7)
    lab.finish()
    assert ended(lab, "n0", request) == RequestDone(request, 2, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4))
@example(0, 0, 1)
@example(2, 2, 2)
def test_a_ring_serves_exactly_what_the_better_of_both_sides_is_trusted_with(
    one: int, other: int, wanted: int
) -> None:
    lab = Lab(RING, 1, chances=CALM)
    lab.trust(n1=one, n3=other)
    dry = request_of("n0", lab.nodes["n0"].desk.boot, 999)
    lab.step("n0", NetworkTry("n2", dry, wanted))
    lab.settle()
    (found,) = lab.users["n0", dry.id].ends
    assert isinstance(found, TryAnswer)
    request = lab.create("n0", "n2", 1, trust_min=wanted)
    lab.finish()
    end = ended(lab, "n0", request)
    served = max(one, other) >= wanted
    assert isinstance(end, RequestDone) is served
    assert (found.code is None) is served
    if served:
        assert {"n1": one, "n3": other}[found.nodes[1]] >= wanted
    else:
        assert f"stands for {max(one, other)} at most" in found.reason
        assert isinstance(end, RequestEnded)
        assert end.reason == found.reason


def test_requests_of_another_trust_share_no_circuit() -> None:
    lab = Lab(DETOUR, 1, chances=CALM)
    lab.trust(n1=1, n2=2, n3=2)
    for trust in (0, 1, 2):
        lab.create("n0", "n4", 3, trust_min=trust)
    lab.run(60)
    ways = [m.place.install.legs[0].node for m in lab.nodes["n0"].demand.circuits.members]
    assert ways == ["n1", "n1", "n2"]
    lab.finish()
    audit(lab)

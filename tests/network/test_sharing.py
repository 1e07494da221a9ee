"""Requests with a maximum time share a circuit, whose reservation grows and shrinks with them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.messages.application import RequestDone, RequestEnded
from qstack.messages.circuits import CircuitId, CircuitShares
from qstack.messages.common import RequestId
from qstack.network.head_end import Head
from qstack.network.machine import FromPeer
from qstack.network.places import Side
from qstack.units import MILLISECOND, SECOND
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Chances, Lab, chain

FOR = 10 * SECOND
"""Long: what is asked for in it is a small part of a link's time."""


def shares(lab: Lab) -> list[float]:
    """What is reserved of each link, by each of its ends."""
    return [
        lab.nodes[end].reservations.share(link.name)
        for link in lab.links.values()
        for end in link.ends
    ]


def agreed(lab: Lab) -> list[float]:
    """What the circuits of each link would reserve of it if they did not rest, by each end."""
    found = []
    for link in lab.links.values():
        for end in link.ends:
            members = lab.nodes[end].demand.circuits.members
            places = [member.place for member in members]
            sides = [(p, side) for p in places for side in Side if p.has(side)]
            found.append(sum(p.leg(s).share for p, s in sides if p.link(s) == link.name))
    return found


def circuits(lab: Lab, name: str = "n0") -> int:
    return len(lab.nodes[name].demand.circuits.members)


def quiet(lab: Lab, turns: int = 400) -> None:
    """Let messages arrive; no pairs are made."""
    for _ in range(turns):
        found = lab.enabled(pairs=False)
        if not found:
            return
        call, *arguments = lab.random.choice(found)
        call(*arguments)


def ask(lab: Lab, number: int, remaining_ns: int = FOR) -> RequestId:
    return lab.create("n0", "n3", number, remaining_ns=remaining_ns)


def test_a_reservation_grows_with_each_request_that_comes_and_shrinks_with_each_that_goes() -> None:
    lab = Lab(chain(3), 5)
    first = ask(lab, 100)
    quiet(lab)
    one = shares(lab)
    assert min(one) > 0
    second = ask(lab, 200)
    quiet(lab)
    assert circuits(lab) == 1
    assert shares(lab) == pytest.approx([3 * share for share in one])
    for request, left in ((first, 2), (second, None)):
        lab.cancel("n0", request)
        quiet(lab)
        if left is not None:
            assert shares(lab) == pytest.approx([left * share for share in one])
    lab.finish()
    audit(lab)
    assert not any(shares(lab))


def test_a_circuit_that_rests_has_given_its_part_back_and_another_gets_what_is_needed() -> None:
    lab = Lab(chain(3), 6)
    first = ask(lab, 100)
    quiet(lab)
    before = shares(lab)
    lab.cancel("n0", first)
    quiet(lab)
    assert not any(shares(lab))
    ask(lab, 50)
    quiet(lab)
    assert circuits(lab) == 2
    assert shares(lab) == pytest.approx([share / 2 for share in before])


def test_pairs_are_shared_as_the_requests_need_them() -> None:
    lab = Lab(chain(3), 7, comm=3)
    few = ask(lab, 1_000, 1_000 * SECOND)
    quiet(lab)
    many = ask(lab, 3_000, 1_000 * SECOND)
    quiet(lab)
    before = len(lab.users["n0", few].pairs)
    while len(lab.users["n0", many].pairs) < 90:
        assert lab.turn()
    assert circuits(lab) == 1
    assert len(lab.users["n0", few].pairs) - before == pytest.approx(30, abs=6), "3 to 1"


def test_a_request_for_which_a_node_has_no_time_leaves_the_others_as_they_were() -> None:
    """It asks for a circuit of its own then, and hears why there is none."""
    lab = Lab(chain(3), 8)
    first = ask(lab, 100)
    quiet(lab)
    before = shares(lab)
    lab.nodes["n2"].reservations.drain("n2-n3", True)
    second = ask(lab, 100)
    quiet(lab)
    end = ended(lab, "n0", second)
    assert isinstance(end, RequestEnded)
    assert end.code in (ErrorCode.REJECTED, ErrorCode.NO_RESOURCES, ErrorCode.NO_TIME)
    assert shares(lab) == pytest.approx(before)
    assert not any(m.place.former for n in lab.nodes.values() for m in n.demand.circuits.members)
    lab.nodes["n2"].reservations.drain("n2-n3", False)
    lab.finish()
    assert isinstance(ended(lab, "n0", first), RequestDone)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 120), st.integers(0, 200) | st.none()),
        min_size=2,
        max_size=5,
    ),
    st.integers(0, 400) | st.none(),
)
def test_reservations_are_alike_at_both_ends_of_links_and_gone_in_the_end(
    seed: int, plan: list[tuple[int, int, int | None]], cut: int | None
) -> None:
    """Requests come, end and are cancelled while asks fly; a wire may be cut."""
    lab = Lab(chain(3), seed, chances=Chances(swap_fails=0.1))
    cancels = []
    for number, pause, doomed in plan:
        request = ask(lab, number, lab.random.choice([50 * MILLISECOND, FOR]))
        lab.run(pause)
        if doomed is not None:
            cancels.append((doomed, request))
    for turns, request in cancels:
        lab.run(turns)
        lab.cancel(lab.random.choice(["n0", "n3"]), request)
    if cut is not None:
        lab.run(cut)
        lab.cut("n1", "n2")
        lab.run(50)
        lab.join("n1", "n2")
    quiet(lab, 2_000)
    if cut is None:
        found = agreed(lab)
        assert found[::2] == pytest.approx(found[1::2]), "of one mind"
        for member in lab.nodes["n0"].demand.circuits.members:
            assert member.place.former is None
            if isinstance(member.part, Head) and member.part.orders:
                plans = lab.nodes["n0"].demand._plans[member.place.id]
                needs = sum(order.need_hz for order in member.part.orders.values())
                assert plans.need_hz == pytest.approx(needs)
    lab.finish()
    assert lab.errors == []
    audit(lab, broken=cut is not None)
    assert not any(shares(lab))


@pytest.mark.parametrize("wrong", ["too few", "too much", "twice", "an answer to nothing"])
def test_asks_that_make_no_sense_are_the_peers_mistake(wrong: str) -> None:
    lab = Lab(chain(3), 9)
    ask(lab, 100)
    quiet(lab)
    (member,) = lab.nodes["n1"].demand.circuits.members
    circuit: CircuitId = member.place.id
    legs = {"too few": (0.1,), "too much": (0.1, 1.5, 0.1)}.get(wrong, (0.1, 0.1, 0.1))
    peer = "n2" if wrong == "an answer to nothing" else "n0"
    before = shares(lab)
    for _ in range(2 if wrong == "twice" else 1):
        lab.step("n1", FromPeer(peer, CircuitShares(circuit, legs, None, "")))
    assert len(lab.errors) == 1
    if wrong != "twice":
        assert shares(lab) == before

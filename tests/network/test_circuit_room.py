"""Memories that both sides of a repeater share: nothing stands still, nobody is starved."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.messages.application import RequestDone, RequestEnded
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Chances, Lab, chain

CALM = Chances(hurry=0.0)
TWO_CUTOFFS_NS = 42_000_000
"""Of four hops, where they are longest: 20.5 ms each."""


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 4), st.integers(2, 4))
def test_repeaters_with_one_communication_qubit_deliver_without_cutting_anything_off(
    seed: int, hops: int, storage: int
) -> None:
    """Without a limit the halves of one side fill the node until their cutoff."""
    lab = Lab(chain(hops), seed, comm=1, storage=storage, shared=True, chances=CALM)
    request = lab.create("n0", f"n{hops}", 10)
    start = lab.now
    while not lab.users["n0", request].ends:
        found = lab.enabled()
        assert found, f"nothing can happen any more: {lab.state()}"
        call, *arguments = lab.random.choice(found)
        call(*arguments)
    assert lab.now == start  # not by the passing of time
    lab.finish()
    audit(lab)
    assert isinstance(ended(lab, "n0", request), RequestDone)


@pytest.mark.parametrize("comm", [2, 3])
def test_several_communication_qubits_that_both_sides_share_need_no_storage(comm: int) -> None:
    lab = Lab(chain(3), comm, comm=comm, shared=True, chances=CALM)
    request = lab.create("n0", "n3", 20)
    while not lab.users["n0", request].ends:
        call, *arguments = lab.random.choice(lab.enabled())
        call(*arguments)
    lab.finish()
    audit(lab)
    assert ended(lab, "n0", request) == RequestDone(request, 20, 0)


def test_one_qubit_for_both_sides_is_refused_with_the_name_of_the_node() -> None:
    lab = Lab(chain(2), 1, comm=1, storage=1, shared=True)
    request = lab.create("n0", "n2", 1)
    lab.finish()
    audit(lab)
    last = ended(lab, "n0", request)
    assert isinstance(last, RequestEnded)
    assert last.code is ErrorCode.NO_RESOURCES
    assert "n1: link" in last.reason
    assert "no qubit could hold" in last.reason


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([(1, 3), (1, 5), (3, 0)]))
def test_two_circuits_in_the_same_qubits_both_end_in_the_passing_of_no_time(
    seed: int, qubits: tuple[int, int]
) -> None:
    """One holds a half of one side, the other of the other: there is a qubit left for either."""
    comm, storage = qubits
    lab = Lab(chain(2), seed, comm=comm, storage=storage, shared=True, chances=CALM)
    requests = [lab.create("n0", "n2", 12), lab.create("n2", "n0", 12)]
    heads = ["n0", "n2"]
    while not all(lab.users[h, r].ends for h, r in zip(heads, requests, strict=True)):
        found = lab.enabled()
        assert found, f"nothing can happen any more: {lab.state()}"
        call, *arguments = lab.random.choice(found)
        call(*arguments)
    lab.finish()
    audit(lab)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 4), st.integers(2, 5))
def test_circuits_against_each_other_over_the_same_links_wait_for_one_cutoff_at_most(
    seed: int, hops: int, comm: int
) -> None:
    """Without portions each fills the other's last link, until the cutoffs, again and again.

    What was asked for before the second circuit began may still hold a qubit until its cutoff.
    """
    lab = Lab(chain(hops), seed, comm=comm, chances=CALM)
    one, other = "n0", f"n{hops}"
    requests = [lab.create(one, other, 12), lab.create(other, one, 12)]
    start = lab.now
    heads = [(one, requests[0]), (other, requests[1])]
    while not all(lab.users[head].ends for head in heads):
        assert lab.turn(), f"nothing can happen any more: {lab.state()}"
    assert lab.now - start < TWO_CUTOFFS_NS
    lab.finish()
    audit(lab)
    assert {type(ended(lab, *head)) for head in heads} == {RequestDone}


def test_where_each_side_has_qubits_of_its_own_nothing_is_said_of_room() -> None:
    lab = Lab(chain(3), 1, comm=1)
    lab.create("n0", "n3", 30)
    lab.finish()
    audit(lab)
    assert "CircuitRoom" not in lab.sent


def test_where_there_is_room_for_many_there_is_less_than_a_word_for_three_pairs_of_a_link() -> None:
    lab = Lab(chain(2), 1, comm=1, storage=16, shared=True, chances=CALM)
    lab.create("n0", "n2", 100)
    lab.finish()
    audit(lab)
    made = sum(link.made for link in lab.links.values())
    assert 0 < lab.sent["CircuitRoom"] < made / 3


def test_a_circuit_that_holds_the_only_qubit_of_a_link_gives_it_up_at_its_cutoff() -> None:
    """Two circuits over links of one qubit each: each can hold what the other waits for."""
    for seed in range(5):
        lab = Lab(chain(2), seed, comm=2)
        first = lab.create("n0", "n2", 10, fidelity_min=0.5)
        second = lab.create("n0", "n2", 10, fidelity_min=0.6)
        lab.finish()
        audit(lab)
        assert {type(ended(lab, "n0", each)) for each in (first, second)} == {RequestDone}

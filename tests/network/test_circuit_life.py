"""Circuits from install to end: all or nothing, leases, other ways, dry runs, draining."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.machine import TICK
from qstack.messages.application import OutcomeReady, PairReady, RequestDone, RequestEnded
from qstack.messages.common import BasisPlan, BasisSet, PairKind, RequestId
from qstack.network.machine import FromPeer
from qstack.network.passing import MOST_REQUESTS
from qstack.network.service import NetworkDrain, NetworkTry, TryAnswer
from qstack.units import MILLISECOND, SECOND
from tests.network.circuit_audit import audit, ended, nothing_is_left, prepared
from tests.network.circuit_lab import Chances, Lab, chain
from tests.network.test_circuit_hostile import request_of

RING = [("n0", "n1"), ("n1", "n2"), ("n2", "n3"), ("n3", "n0")]
CALM = Chances(hurry=0.0)


def last(lab: Lab, name: str, request: RequestId) -> Any:
    return ended(lab, name, request)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 4), st.sampled_from([None, 0, 1, 2, 3]))
def test_as_many_pairs_come_as_were_asked_for_and_only_the_head_end_corrects(
    seed: int, hops: int, final: int | None
) -> None:
    lab = Lab(chain(hops), seed)
    tail = f"n{hops}"
    request = lab.create("n0", tail, 6, final_bell=final)
    lab.finish()
    audit(lab)
    for name in ("n0", tail):
        assert last(lab, name, request) == RequestDone(request, 6, 0)
        bells = {d.event.info.bell for d in lab.users[name, request].pairs.values()}
        assert final is None or bells == {final}
        assert len(lab.users[name, request].valid) == 6
    turned = [name for name in lab.names if lab.turned.get(name)]
    assert turned == (["n0"] if final is not None else [])


@pytest.mark.parametrize("axis", [(0, 0), (0.5, 0), (1, 0), (1.5, 0), (0, 0.5), (0, 1.5)])
@pytest.mark.parametrize("final", [None, 0, 3])
def test_a_prepared_state_is_what_the_tail_end_is_told_for_all_six_axes(
    axis: tuple[float, float], final: int | None
) -> None:
    pi = 3.141592653589793
    plan = BasisPlan(BasisSet.NONE, 0.0, 0.0, axis[1] * pi, axis[0] * pi, 0.0)
    lab = Lab(chain(2), 5)
    request = lab.create("n0", "n2", 16, kind=PairKind.PREPARE, origin_plan=plan, final_bell=final)
    wanted = lab.asked[request]
    lab.finish()
    audit(lab)
    corrected = prepared(lab, "n2", wanted)
    assert corrected == (0 if final is None else 16)  # a cardinal axis can always be inverted
    kinds = {type(d.event) for d in lab.users["n0", request].pairs.values()}
    assert kinds == {OutcomeReady}
    assert {type(d.event) for d in lab.users["n2", request].pairs.values()} == {PairReady}


def test_no_link_is_asked_for_pairs_once_a_request_is_complete() -> None:
    lab = Lab(chain(3), 2, chances=CALM)
    request = lab.create("n0", "n3", 4)
    while not lab.users["n3", request].ends:
        lab.turn()
    while found := lab.enabled(pairs=False):
        call, *arguments = found[0]
        call(*arguments)
    assert [link.name for link in lab.links.values() if link.queue or link.calls] == []
    assert [n for n, node in lab.nodes.items() if lab.slots[n].held()] == []
    lab.finish()
    audit(lab)


# --- install and refusal -------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
def test_a_refusal_of_any_hop_names_it_and_why_and_leaves_nothing_anywhere(node: str) -> None:
    lab = Lab(chain(3), 1)
    lab.nodes[node].reservations.draining = True  # before routes tell of it
    request = lab.create("n0", "n3")
    while not lab.users["n0", request].ends:
        assert lab.turn()
    nothing_is_left(lab)
    end = last(lab, "n0", request)
    assert end == RequestEnded(request, ErrorCode.REJECTED, end.reason, 0)
    assert end.reason == f"{node}: {node} takes nothing new: it is draining"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 40))
def test_a_release_that_races_an_install_leaves_nothing(seed: int, turns: int) -> None:
    lab = Lab(chain(4), seed)
    request = lab.create("n0", "n4")
    (circuit,) = lab.nodes["n0"].demand._plans
    lab.run(turns)
    lab.cancel("n0", request)
    lab.nodes["n0"].demand.circuits.release(circuit, None, "no longer")
    lab.step("n0", TICK)
    lab.finish()
    assert lab.errors == []
    audit(lab)


def test_an_install_that_is_never_answered_is_given_up_after_its_lease() -> None:
    lab = Lab(chain(3), 1, lease_ns=SECOND)
    request = lab.create("n0", "n3")
    lab.wires["n0", "n1"].clear()
    begun = lab.now
    while not lab.users["n0", request].ends:
        assert lab.turn()
    assert last(lab, "n0", request).code is ErrorCode.TIMEOUT
    assert "n1 did not answer" in last(lab, "n0", request).reason
    assert lab.now < begun + 4 * SECOND
    lab.finish()
    audit(lab)


@pytest.mark.parametrize("silent", range(4))
def test_without_a_refresh_every_node_after_the_silence_forgets_the_circuit(silent: int) -> None:
    """The wire from `silent` on downstream swallows refreshes and releases, but is not lost."""
    lab = Lab(chain(4), silent, lease_ns=100 * MILLISECOND, chances=CALM)
    request = lab.create("n0", "n4", 10_000)
    lab.run(400)
    wire = lab.wires[f"n{silent}", f"n{silent + 1}"]
    while not all(lab.users[name, request].ends for name in ("n0", "n4")):
        wire.clear()
        if not (found := lab.enabled(pairs=False)):
            lab.now = min(d for n in lab.nodes.values() if (d := n.deadline) is not None)
        for call, *arguments in found[:1]:
            call(*arguments)
    assert "lease ended" in last(lab, "n4", request).reason
    lab.finish()
    nothing_is_left(lab)


def test_requests_of_one_promise_share_a_circuit_which_is_taken_down_when_idle() -> None:
    lab = Lab(chain(3), 1, idle_ns=50 * MILLISECOND)
    requests = [lab.create("n0", "n3", 3) for _ in range(5)]
    lab.run(50)
    assert len(lab.nodes["n0"].demand.circuits.members) == 1
    lab.finish()
    audit(lab)
    assert lab.sent["CircuitInstall"] == 3
    assert all(last(lab, "n3", each).delivered == 3 for each in requests)


def test_a_circuit_carries_so_many_requests_and_the_next_begin_another() -> None:
    lab = Lab(chain(2), 1)
    for _ in range(MOST_REQUESTS + 1):
        lab.create("n0", "n2")
    assert len(lab.nodes["n0"].demand._plans) == 2


# --- lives and links -------------------------------------------------------------------------


def test_a_circuit_of_a_former_life_ends_when_routes_tell_of_the_new_one() -> None:
    lab = Lab(chain(3), 1)
    lab.create("n0", "n3", 1_000)
    lab.run(300)
    assert lab.nodes["n2"].demand.circuits.members
    update = lab.nodes["n2"].flood.database["n0"]
    flood = lab.nodes["n2"].flood
    newer = type(update)("n0", update.boot + 1, update.sequence + 1, 0, update.node, update.links)
    lab.step("n2", FromPeer("n1", newer))
    assert flood.database["n0"].boot == update.boot + 1
    assert lab.nodes["n2"].demand.circuits.members == ()


def test_a_request_without_pairs_goes_another_way_when_its_circuit_breaks() -> None:
    lab = Lab(RING, 1, chances=CALM)
    request = lab.create("n0", "n2", 3)
    while not lab.nodes["n0"].demand.circuits.members[0].part:
        lab.turn(pairs=False)
    (member,) = lab.nodes["n0"].demand.circuits.members
    between = member.place.install.legs[0].node
    lab.cut("n0", between)
    lab.finish()
    audit(lab, broken=True)
    assert last(lab, "n0", request) == RequestDone(request, 3, 0)
    assert lab.users["n2", request].accepted == len(lab.users["n2", request].ends)


def test_new_circuits_avoid_a_link_that_a_node_refused_by_name() -> None:
    lab = Lab(RING, 1, chances=CALM)
    for link in ("n1-n2", "n2-n3"):
        lab.nodes["n2"].reservations.drained.add(link)
        request = lab.create("n0", "n2", 2)
        lab.finish()
        end = last(lab, "n0", request)
        if link == "n1-n2":
            assert end == RequestDone(request, 2, 0)
    assert end.code is ErrorCode.REJECTED
    assert "draining" in end.reason
    audit(lab)


# --- dry runs and draining ---------------------------------------------------------------------


def test_a_dry_run_answers_with_the_way_and_leaves_and_emits_nothing() -> None:
    lab = Lab(chain(3), 1)
    wanted = request_of("n0", lab.nodes["n0"].desk.boot, 999)
    lab.step("n0", NetworkTry("n3", wanted))
    lab.settle()
    nothing_is_left(lab)
    (answer,) = lab.users["n0", wanted.id].ends
    assert isinstance(answer, TryAnswer)
    assert (answer.code, answer.nodes) == (None, ("n0", "n1", "n2", "n3"))
    assert answer.links == ("n0-n1", "n1-n2", "n2-n3")
    assert answer.fidelity == pytest.approx(0.25 + 0.75 * ((4 * 0.97 - 1) / 3) ** 3, abs=1e-9)
    assert answer.rate_hz > 0
    assert [link.made for link in lab.links.values()] == [0, 0, 0]
    assert [link.created for link in lab.links.values()] == [0, 0, 0]


def test_a_dry_run_that_would_be_refused_says_by_whom_and_why() -> None:
    lab = Lab(chain(3), 1)
    lab.nodes["n2"].reservations.draining = True
    wanted = request_of("n0", lab.nodes["n0"].desk.boot, 999)
    lab.step("n0", NetworkTry("n3", wanted))
    lab.settle()
    (answer,) = lab.users["n0", wanted.id].ends
    assert (answer.code, answer.nodes) == (ErrorCode.REJECTED, ())
    assert answer.reason.startswith("n2: ")
    nothing_is_left(lab)


@pytest.mark.parametrize("link", [None, "n1-n2"])
def test_what_runs_finishes_while_a_node_or_link_drains_and_new_circuits_are_refused(
    link: str | None,
) -> None:
    lab = Lab(chain(3), 1)
    running = lab.create("n0", "n3", 20)
    lab.run(200)
    lab.step("n1", NetworkDrain(link, True))
    lab.run(200)
    refused = lab.create("n0", "n3", 1, fidelity_min=0.6)  # of another promise: another circuit
    lab.finish()
    audit(lab)
    assert last(lab, "n0", running) == RequestDone(running, 20, 0)
    assert last(lab, "n0", refused).code in (ErrorCode.REJECTED, ErrorCode.NO_RESOURCES)
    lab.step("n1", NetworkDrain(link, False))
    lab.settle()
    again = lab.create("n0", "n3", 1)
    lab.finish()
    assert last(lab, "n0", again) == RequestDone(again, 1, 0)

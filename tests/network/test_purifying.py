"""What plans of circuits that purify are made of, and what their ends refuse."""

from __future__ import annotations

import pytest

from qstack.bell import werner
from qstack.errors import ErrorCode
from qstack.messages.application import RequestDone, RequestEnded
from qstack.messages.circuits import CircuitGive, CircuitId, CircuitInstall, Leg, Method
from qstack.messages.network import DistilEnd
from qstack.network.advertise import joined_at
from qstack.network.budget import Operations, Storage
from qstack.network.machine import FromPeer
from qstack.network.purification import Pace, cheapest, doubt_after, memories_of, plans
from qstack.network.rounds import dejmps
from qstack.units import MILLISECOND, SECOND
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import chain
from tests.network.circuit_links import evolve
from tests.network.links import link_between, memory
from tests.network.purify_lab import PurifyLab


def test_turns_that_fail_mix_both_pairs_before_they_meet() -> None:
    """Four turns of which each keeps 0.99: w of each pair shrinks by 0.99 squared."""
    turning = Operations(1.0, 1.0, 1.0, 0.99)
    weaker = werner((1 + 3 * 0.99**2 * (4 * 0.9 - 1) / 3) / 4)
    found = dejmps(werner(0.9), werner(0.9), (turning, turning))
    expected = dejmps(weaker, weaker)
    assert found.probability == pytest.approx(expected.probability, abs=1e-12)
    assert found.weights == pytest.approx(expected.weights, abs=1e-12)


def test_a_pair_that_waits_for_another_fades_for_as_long_as_that_takes() -> None:
    """Dephasing with T2 at both ends: the mean of exp(-2 t / T2) over an exponential wait."""
    storage = Storage(0, 100 * MILLISECOND, 1.0)
    pace = Pace(1_000.0, 0, (storage, storage))
    _, z, x, y = pace.awaited((1.0, 0.0, 0.0, 0.0), 10.0)
    one = 1 / (1 + 0.01 / 0.1)  # ten milliseconds of a hundred, at each end
    assert z == pytest.approx((1 - one**2) / 2, abs=1e-12)
    assert (x, y) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_plans_that_wait_promise_less_than_those_that_do_not() -> None:
    ends = Operations(0.98, 0.99), Operations(0.98, 0.99)
    fading = Storage(0, 200 * MILLISECOND, 1.0)
    slow = Pace(2_000.0, MILLISECOND, (fading, fading))
    at_once, waiting = (
        cheapest(plans(werner(0.9), ends, 4, (Method.NESTED_DEJMPS,), pace=pace), 0.945)
        for pace in (Pace(), slow)
    )
    assert at_once[0] is not None
    assert waiting[0] is not None
    assert (at_once[0].rounds, waiting[0].rounds) == (2, 3)
    assert waiting[1] < at_once[1]


def test_doubts_of_elementary_pairs_are_carried_through_the_rounds() -> None:
    """One ideal round: 0.9 gives 0.926, 0.89 gives 0.9182, from the formula of BBPSSW."""

    def bbpssw(f: float) -> float:
        x = (1 - f) / 3
        return (f * f + x * x) / (f * f + 2 * f * x + 5 * x * x)

    way = (Method.NESTED_DEJMPS, 1)
    expected = bbpssw(0.9) - bbpssw(0.89)
    assert doubt_after(way, werner(0.9), 0.01) == pytest.approx(expected, abs=1e-12)
    assert doubt_after((Method.NONE, 0), werner(0.9), 0.01) == 0.01
    assert doubt_after(way, werner(0.9), 0.0) == 0.0


def test_nesting_takes_a_qubit_more_than_rounds_and_pumping_two() -> None:
    assert [memories_of(Method.NESTED_DEJMPS, rounds) for rounds in (1, 2, 3)] == [2, 3, 4]
    assert [memories_of(Method.PUMPED_BBPSSW, rounds) for rounds in (1, 9)] == [2, 2]
    assert memories_of(Method.NONE, 0) == 1


def test_qubits_count_as_joined_only_if_every_two_of_them_are() -> None:
    end = link_between("l", "a", "b", slots=((0, 1, 2), (0,)), model=memory(4)).end("a")
    assert joined_at(end) == (3, 0)
    assert joined_at(evolve(end, storage=(3,))) == (3, 1)
    loose = evolve(end.model, coupled=((0, 1), (1, 2)))
    assert joined_at(evolve(end, model=loose)) == (0, 0)


# --- what ends refuse ---------------------------------------------------------------------------


def test_a_second_circuit_that_purifies_is_refused_where_qubits_do_not_suffice_for_both() -> None:
    """Three qubits at each end: one circuit of one round holds two, so another cannot."""
    lab = PurifyLab(chain(1), 3, comm=3)
    first = lab.create("n0", "n1", 50, fidelity_min=0.98)
    lab.run(300)
    second = lab.create("n0", "n1", 1, fidelity_min=0.979)
    lab.finish()
    refused = ended(lab, "n0", second)
    assert isinstance(refused, RequestEnded)
    assert refused.code is ErrorCode.NO_RESOURCES
    assert "room for 3 halves, of which circuits need 2; 2 more are asked for" in refused.reason
    assert isinstance(ended(lab, "n0", first), RequestDone)
    audit(lab)


def test_a_tail_end_whose_operator_does_not_allow_the_method_refuses_the_circuit() -> None:
    lab = PurifyLab(chain(1), 3, comm=4)
    tail = lab.nodes["n1"].desk
    tail.parameters = evolve(tail.parameters, methods=(Method.PUMPED_BBPSSW,))
    request = lab.create("n0", "n1", 1, fidelity_min=0.98)
    lab.finish()
    refused = ended(lab, "n0", request)
    assert isinstance(refused, RequestEnded)
    assert refused.reason == "n1: n1 does not purify by PUMPED_DEJMPS"
    audit(lab)


@pytest.mark.parametrize(
    ("method", "rounds"),
    [(Method.NONE, 1), (Method.NESTED_DEJMPS, 0), (Method.NESTED_DEJMPS, 7), (Method(2), 17)],
)
def test_an_install_with_rounds_that_cannot_be_is_the_peers_mistake(
    method: Method, rounds: int
) -> None:
    lab = PurifyLab(chain(1), 3, comm=4)
    name = CircuitId("n0", lab.nodes["n0"].desk.boot, 99)
    legs = (Leg("n0-n1", "n1", 0.5, 0.0, 0, False),)
    install = CircuitInstall(name, legs, 1_000, SECOND, False, method, rounds)
    lab.step("n1", FromPeer("n0", install))
    assert [node for node, _ in lab.errors] == ["n1"]
    assert lab.nodes["n1"].demand.circuits.member(name) is None


def test_words_of_rounds_on_a_circuit_without_any_are_the_peers_mistake() -> None:
    lab = PurifyLab(chain(2), 3, comm=2)
    request = lab.create("n0", "n2", 40, fidelity_min=0.8)
    lab.run(200)
    circuit = _circuit(lab)
    lab.step("n2", FromPeer("n1", DistilEnd(circuit, (), "enough")))
    assert [node for node, _ in lab.errors] == ["n2"]
    pair = next(iter(lab.users["n0", request].pairs))
    give = CircuitGive(circuit, pair, request, 5, 0.8, 0.9)
    lab.step("n2", FromPeer("n1", give))
    assert [node for node, _ in lab.errors] == ["n2", "n2"]
    lab.finish()
    assert isinstance(ended(lab, "n0", request), RequestDone)
    audit(lab)


def _circuit(lab: PurifyLab) -> CircuitId:
    members = lab.nodes["n0"].demand.circuits.members
    return members[0].place.id

"""A neighbour that says anything: refused or harmless, never another error, nothing grows."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.messages import circuits as words
from qstack.messages.circuits import CircuitId, CircuitInstall, Leg
from qstack.messages.common import PLAIN_Z, Basis, PairId, PairKind, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.circuits import MOST_CIRCUITS
from qstack.network.machine import FromPeer
from qstack.network.passing import MOST_REQUESTS
from qstack.network.places import MOST_FATES, MOST_PARKED
from qstack.units import SECOND
from tests.network.circuit_audit import audit, nothing_is_left
from tests.network.circuit_lab import Lab, chain
from tests.network.circuit_links import evolve


def request_of(origin: str, boot: int, number: int, **changes: Any) -> LinkRequest:
    identity = RequestId(origin, boot, number)
    values: dict[str, Any] = {
        "kind": PairKind.KEEP,
        "number": 3,
        "fidelity_min": 0.5,
        "remaining_ns": 0,
        "purpose": 3,
        "priority": 0,
        "weight": 1.0,
        "atomic": False,
        "consecutive": False,
        "store": False,
        "origin_plan": PLAIN_Z,
        "peer_plan": PLAIN_Z,
        "final_bell": None,
    }
    return LinkRequest(id=identity, **(values | changes))


def messages(lab: Lab) -> st.SearchStrategy[Any]:
    """Every circuit message, with fields that are near enough to the truth to bite."""
    known = [m.place.id for n in lab.nodes.values() for m in n.demand.circuits.members]
    names = st.sampled_from([*lab.names, "nobody"])
    numbers = st.sampled_from([-1, 0, 1, 2, 3, 7, 1 << 32, (1 << 32) + 1, 1 << 62])
    boots = st.sampled_from([node.desk.boot for node in lab.nodes.values()])
    circuit = st.sampled_from([*known, *known, CircuitId("n0", 5, 9)])
    floats = st.floats(-1, 2, allow_nan=False)
    requests = st.builds(RequestId, names, boots, numbers)
    pairs = st.builds(PairId, st.sampled_from([*lab.links, "no"]), st.just(77), st.integers(-1, 12))
    codes = st.sampled_from(ErrorCode)
    wanted = st.builds(
        lambda i, k, f, p, b, w, e: evolve(
            request_of(i.origin, i.boot, i.number, kind=k, fidelity_min=f, purpose=p),
            final_bell=b,
            within_ns=w,
            early=e,
        ),
        requests,
        st.sampled_from(PairKind),
        floats,
        numbers,
        st.sampled_from([None, 0, 3, 4, -1]),
        st.sampled_from([0, 0, 5, -1, 1 << 40]),
        st.sampled_from([False, False, True]),
    )
    legs = st.lists(
        st.builds(
            Leg, st.sampled_from([*lab.links]), names, floats, floats, numbers, st.booleans()
        ),
        max_size=4,
    ).map(tuple)
    some = st.lists(pairs, max_size=3).map(tuple)
    weights = st.one_of(
        st.just((0.97, 0.01, 0.01, 0.01)), st.tuples(floats, floats, floats, floats)
    )
    text, parts = st.just("x"), st.lists(floats, max_size=5).map(tuple)
    return st.one_of(
        st.builds(CircuitInstall, circuit, legs, numbers, numbers, st.booleans(), halves=numbers),
        st.builds(words.CircuitInstalled, circuit, numbers),
        st.builds(words.CircuitRefused, circuit, names, codes, text, st.just("")),
        st.builds(words.CircuitRefresh, circuit),
        st.builds(words.CircuitForward, circuit, wanted),
        st.builds(words.CircuitAnswer, circuit, requests, st.none() | codes, text),
        st.builds(words.CircuitComplete, circuit, requests, st.none() | codes, text),
        st.builds(words.CircuitClosed, circuit, requests, some),
        st.builds(words.CircuitStop, circuit, requests, codes, text),
        st.builds(
            words.CircuitTrack,
            circuit,
            pairs,
            pairs,
            st.integers(-1, 4),
            weights,
            floats,
            numbers,
            st.none() | requests,
            st.booleans(),
        ),
        st.builds(words.CircuitGather, circuit, requests, some),
        st.builds(words.CircuitShares, circuit, parts, st.none() | codes, text),
        st.builds(words.CircuitExpire, circuit, pairs, text),
        st.builds(words.CircuitDelivered, circuit, some),
        st.builds(words.CircuitOutcome, circuit, pairs, st.sampled_from(Basis), numbers),
        st.builds(words.CircuitRoom, circuit, numbers, numbers),
    )


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(st.data(), st.integers(0, 1 << 16))
def test_whatever_a_neighbour_says_the_others_circuit_is_not_harmed(
    data: st.DataObject, seed: int
) -> None:
    """n1 lies to n2. The circuit of n6 to n2 does not go by n1; that of n0 to n4 does."""
    lab = Lab(chain(6), seed, comm=3, lease_ns=SECOND)
    lied_to = lab.create("n0", "n4", 3)
    other = lab.create("n6", "n2", 5)
    lab.run(data.draw(st.integers(0, 200)))
    for message in data.draw(st.lists(messages(lab), min_size=5, max_size=25)):
        lab.step("n2", FromPeer("n1", message))
        lab.run(3)
    lab.run(200)
    lab.cancel("n0", lied_to)
    lab.finish()
    nothing_is_left(lab)
    assert lab.users["n6", other].ends == lab.users["n2", other].ends
    assert len(lab.users["n6", other].valid) == 5
    assert len(lab.users["n0", lied_to].ends) == 1


def one_way(lab: Lab) -> Any:
    lab.create("n0", "n3", 1_000)
    lab.run(200)
    (member,) = lab.nodes["n1"].demand.circuits.members
    return member


def test_answers_to_what_nobody_asked_make_no_link_work_and_are_not_remembered() -> None:
    lab = Lab(chain(3), 1)
    member = one_way(lab)
    circuit = member.place.id
    for number in range(5_000):
        answer = words.CircuitAnswer(circuit, RequestId("n0", 1, number + 10), None, "")
        lab.step("n1", FromPeer("n2", answer))
    assert len(member.passing) == 1
    assert len(lab.errors) == 5_000


def test_a_node_carries_so_many_requests_per_circuit_and_refuses_the_next() -> None:
    lab = Lab(chain(3), 1)
    circuit = one_way(lab).place.id
    for node, before in (("n1", "n0"), ("n3", "n2")):
        for number in range(2, MOST_REQUESTS + 50):
            request = request_of("n0", circuit.boot, 100_000 + number)
            lab.step(node, FromPeer(before, words.CircuitForward(circuit, request)))
        (member,) = lab.nodes[node].demand.circuits.members
        asked = member.passing if node == "n1" else member.part.orders  # type: ignore[union-attr]  # it is an end
        assert len(asked) == MOST_REQUESTS
    assert lab.errors == []


def test_a_node_takes_part_in_so_many_circuits_dry_ones_among_them() -> None:
    lab = Lab(chain(3), 1)
    legs = tuple(Leg(f"n{i}-n{i + 1}", f"n{i + 1}", 0.5, 0.0, 0, False) for i in range(3))
    lab.edges.clear()  # nothing arrives any more
    for number in range(2 * MOST_CIRCUITS):
        install = CircuitInstall(CircuitId("n0", 5, number), legs, 0, SECOND, True)
        lab.nodes["n1"].handle(FromPeer("n0", install), lab.now)
    assert len(lab.nodes["n1"].demand.circuits.members) == MOST_CIRCUITS


def test_tracks_and_expiries_without_end_fill_no_table() -> None:
    lab = Lab(chain(3), 1)
    member = one_way(lab)
    for number in range(2_000):
        pair = PairId("n0-n1", 99, number)
        track = words.CircuitTrack(
            member.place.id, pair, pair, 0, (1.0, 0.0, 0.0, 0.0), 0.0, 0, None
        )
        lab.step("n1", FromPeer("n0", track))
        lab.step("n1", FromPeer("n0", words.CircuitExpire(member.place.id, pair, "x")))
        lab.step("n1", FromPeer("n0", track))
    ledger = member.part._ledger
    assert len(ledger._fates) <= MOST_FATES
    assert ledger.parked <= MOST_PARKED
    lab.cancel("n0", next(iter(lab.nodes["n0"].demand.circuits.members[0].part.orders)))  # type: ignore[union-attr]  # it is an end
    lab.finish()
    audit(lab)


def test_numbers_that_no_track_can_have_are_refused() -> None:
    lab = Lab(chain(3), 1)
    member = one_way(lab)
    pair = PairId("n0-n1", 99, 1)
    good = {"bell": 0, "weights": (1.0, 0.0, 0.0, 0.0), "doubt": 0.0, "age_ns": 0}
    bad: list[dict[str, Any]] = [
        {"bell": 4},
        {"bell": -1},
        {"weights": (0.5, 0.1, 0.1, 0.1)},
        {"weights": (1.5, -0.5, 0.0, 0.0)},
        {"doubt": -0.1},
        {"age_ns": -1},
    ]
    for changes in bad:
        track: Any = words.CircuitTrack
        message = track(
            circuit=member.place.id, origin=pair, at=pair, request=None, **(good | changes)
        )
        before = len(lab.errors)
        lab.step("n1", FromPeer("n0", message))
        assert len(lab.errors) == before + 1
    assert member.part._ledger.parked == 0
    assert issubclass(RemoteProtocolError, Exception)

"""Users who are hard on their node: restarted at once, or giving back what is still in work."""

from __future__ import annotations

from typing import Any

import pytest

from qstack.machine import CAME, Arrived, Hand, Handed, Left
from qstack.messages.application import AskStatus, FreeQubit, MeasureQubit, PairReady
from qstack.messages.common import PLAIN_Z
from qstack.messages.control import Hello
from qstack.messages.link import LinkSync
from qstack.messages.wire import KIND_OF, VERSION, Datagram, Frame, Header
from qstack.sim.network import Surroundings
from qstack.stack.hosting import MAX_USERS
from qstack.testing import hold, terms
from qstack.testing.memory import leftovers
from qstack.units import MILLISECOND, SECOND
from tests.whole.rig import Rig


def serve(rig: Rig, number: int) -> None:
    """Pairs come to both users, and every memory is free afterwards."""
    rig.alice.policy = rig.bob.policy = lambda pair, now: FreeQubit(pair.qubit)
    before = len(rig.alice.done)
    rig.alice.keep(terms("bob", number))
    rig.run(lambda: len(rig.alice.done) > before, SECOND)
    rig.settle()
    assert rig.free_slots() == (4, 4)


def test_a_user_that_restarts_at_once_is_served_by_the_same_life_of_its_node() -> None:
    """Its node has not missed it yet: it hears of the new life before the old one is silent."""
    rig = Rig(seed=3)
    rig.alice.policy = hold
    rig.alice.keep(terms("bob", 2))
    rig.run(lambda: len(rig.alice.pairs) == 2)
    boot = rig.net.host("alice").boot
    rig.net.crash(rig.alice.name)
    rig.settle(MILLISECOND)
    rig.alice.holding.clear()
    rig.net.user(rig.alice.name, ["alice"], rig.alice.listen)
    rig.settle()
    assert rig.net.host("alice").boot == boot
    assert rig.alice.reached
    serve(rig, 5)


def test_a_qubit_given_back_during_its_readout_is_freed_when_that_has_ended() -> None:
    """Measured and freed in one breath: both words reach the node before the memory answers."""
    rig = Rig(seed=4)

    def measure_and_free(pair: PairReady, now: int) -> Any:
        rig.alice.say(MeasureQubit(rig.alice.reference(), pair.qubit, PLAIN_Z))
        rig.alice.say(FreeQubit(pair.qubit))

    rig.alice.policy = measure_and_free
    rig.alice.keep(terms("bob", 6))
    rig.run(lambda: bool(rig.alice.done), SECOND)
    rig.settle()
    assert leftovers(rig.net.host("alice")) == []
    assert len(rig.alice.measured) == 6
    serve(rig, 5)


# --- users in the process of their node ---------------------------------------------------


def local_rig(seed: int) -> Rig:
    """A rig whose users live in the processes of their nodes."""
    return Rig(seed=seed, surroundings=Surroundings(user_ns=0))


def words(rig: Rig) -> list[tuple[str, Any]]:
    """Let all that parties of one process say to each other be written down."""
    said: list[tuple[str, Any]] = []

    def watch(name: str, event: Any, now: int, actions: list[Any]) -> None:
        said.extend((name, action.word) for action in actions if type(action) is Hand)

    rig.heap.watch = watch
    return said


def test_local_users_are_served_without_a_datagram_to_their_nodes() -> None:
    rig = local_rig(5)
    truth = rig.truth()
    rig.alice.keep(terms("bob", 30))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished(), SECOND)
    rig.settle()
    assert rig.alice.pair_ids == rig.bob.pair_ids
    assert len(truth.fidelities) == 30
    assert rig.free_slots() == (4, 4)
    assert not any(name.startswith("user") for path in rig.heap.wires for name in path)
    assert rig.net.host("alice").status(rig.heap.now)["neighbours"]["user-alice"]["up"]


def test_a_local_user_that_dies_leaves_no_qubit_behind_and_may_come_again() -> None:
    rig = local_rig(6)
    rig.alice.policy = rig.bob.policy = hold
    rig.alice.keep(terms("bob", 2))
    rig.run(lambda: len(rig.alice.pairs) == len(rig.bob.pairs) == 2)
    before = rig.net.host("alice").slots.free()
    rig.net.crash(rig.alice.name)
    rig.settle(MILLISECOND)
    assert rig.net.host("alice").slots.free() == before + 2
    assert "user-alice" not in rig.net.host("alice").status(rig.heap.now)["neighbours"]
    rig.net.user(rig.alice.name, ["alice"], rig.alice.listen)
    for pair in list(rig.bob.holding):
        rig.bob.release(pair)
    rig.settle()
    serve(rig, 5)


def test_local_users_learn_at_once_that_their_node_died_and_that_it_lives_again() -> None:
    rig = local_rig(7)
    rig.net.crash("alice")
    rig.settle(1)
    assert (rig.alice.reached, rig.alice.lost) == (False, ["the node died"])
    assert rig.bob.reached
    rig.alice.say(AskStatus(1))
    rig.settle(MILLISECOND)
    assert rig.alice.statuses == [], "what is said to nobody is lost"
    rig.net.start("alice")
    rig.settle(MILLISECOND)
    assert rig.alice.reached
    rig.alice.accept()
    serve(rig, 5)


def test_a_node_that_stops_says_so_to_its_local_user() -> None:
    rig = local_rig(8)
    rig.heap.stop("alice", "maintenance")
    rig.settle(1)
    assert rig.alice.lost == ["maintenance"]


def test_a_local_user_that_stops_is_forgotten_and_what_strangers_say_is_counted() -> None:
    rig = local_rig(9)
    rig.heap.stop("user-alice", "the end")
    rig.settle(1)
    alice = rig.net.host("alice").neighbours
    assert not alice.is_up("user-alice")
    for word in (AskStatus(1), Left("again")):
        rig.heap.post("alice", Handed("user-alice", word))
    rig.heap.post("alice", Handed("bob", CAME))  # a name that a neighbour has
    rig.settle(1)
    assert alice.counters["strangers"] == 3
    assert alice.is_up("bob")


def test_local_users_may_say_only_what_users_may_say_and_are_bounded_in_number() -> None:
    rig = local_rig(10)
    said = words(rig)
    rig.heap.post("alice", Handed("user-alice", LinkSync("alice-bob", b"", (0, 0), ())))
    rig.settle(1)
    assert rig.net.host("alice").neighbours.counters["misplaced"] == 1
    for number in range(MAX_USERS + 5):
        rig.heap.post("alice", Handed(f"another-{number}", CAME))
    rig.settle(1)
    assert len([name for name, word in said if word is CAME]) == MAX_USERS - 1
    assert rig.net.host("alice").neighbours.counters["strangers"] == 6


def test_who_calls_from_outside_by_the_name_of_a_local_user_is_a_stranger() -> None:
    rig = local_rig(12)
    alice = rig.net.host("alice").neighbours
    hello = Frame(KIND_OF[Hello].number, "", 0, False, Hello((VERSION,), (), "user", 5, 0, ()))
    header = Header(VERSION, "user-alice", "alice", 5, 0, 1, 0, 0, 0, 0)
    rig.heap.post("alice", Arrived("user", Datagram(header, (hello,))))
    rig.settle(1)
    assert alice.counters["strangers"] == 1
    assert "user-alice" not in alice.adjacencies()
    assert alice.report()["user-alice"]["up"]
    said = words(rig)
    rig.heap.post("alice", Handed("user-alice", AskStatus(1)))
    rig.settle(1)
    assert [name for name, _ in said] == ["alice"]  # the answer, to the user of this process


@pytest.mark.parametrize("event", [Handed("alice", AskStatus(1)), Handed("alice", Left("gone"))])
def test_a_local_user_does_not_hear_a_node_that_did_not_come(event: Handed) -> None:
    rig = local_rig(11)
    rig.net.crash("alice")
    rig.settle(1)
    lost = list(rig.alice.lost)
    rig.heap.post("user-alice", event)
    rig.settle(1)
    assert (rig.alice.lost, rig.alice.statuses) == (lost, [])

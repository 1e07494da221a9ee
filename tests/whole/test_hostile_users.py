"""A user who says anything to its node: taken, or refused with a reason, and nobody is harmed."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode
from qstack.messages.application import (
    ApplyGate,
    AskStatus,
    Cancel,
    CreateKeep,
    CreateMeasure,
    CreatePrepare,
    Drain,
    FreeQubit,
    Listen,
    MeasureQubit,
    StopListen,
    Terms,
    TryPairs,
)
from qstack.messages.common import BasisPlan, BasisSet, Qubit, RequestId
from qstack.messages.devices import Gate
from qstack.network.service import FIRST_LABEL
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.testing import Party, hold, terms
from qstack.testing.lab import ROW, Lab
from qstack.testing.memory import leftovers
from qstack.testing.routes_lab import RouteLab, chain
from qstack.units import MICROSECOND, MILLISECOND

MOST, LEAST = (1 << 64) - 1, -(1 << 63)
TIMES = (0, 0, 0, 1, -1, MILLISECOND, 50 * MILLISECOND, 1 << 62, MOST, LEAST)
PURPOSES = (0, 0, 0, 1, FIRST_LABEL - 1, FIRST_LABEL, -1, MOST, LEAST)
LONG = "x" * 512


class Eve:
    """What a user of a node may say, and more."""

    def __init__(self, party: Party, net: VirtualNetwork, random: Random) -> None:
        self.party, self.random = party, random
        self.nodes = sorted({end.node for link in net.links for end in link.ends})
        self.links = [link.name for link in net.links]

    def one(self, *values: Any) -> Any:
        return self.random.choice(values)

    def plan(self) -> BasisPlan:
        chances, angles = (0.0, 0.5, 1.0, 2.0, -1.0, 1e308), (0.0, 1.0, -2.0, 1e308)
        drawn = (self.one(*chances), self.one(*chances), *(self.one(*angles) for _ in range(3)))
        return BasisPlan(self.one(*BasisSet), *drawn)

    def terms(self) -> Terms:
        return Terms(
            self.one(*self.nodes, *self.nodes, "nobody", LONG, ""),
            self.one(1, 2, 3, 5, 0, -1, 1 << 40, MOST, LEAST),
            self.one(0.0, 0.5, 0.8, 0.9, 0.95, 1.0, 2.0, -1.0, 1e308),
            self.one(*TIMES),
            self.one(*PURPOSES),
            self.one(0, 1, -1, MOST, LEAST),
            self.one(1.0, 1.0, 0.0, -1.0, 1e308, 5e-324),
            self.one(False, False, True),
            self.one(False, False, True),
            self.one(0, 0, 1, -1, MOST, LEAST),
            self.one(0, 0, 0, *TIMES),
        )

    def qubit(self) -> Qubit:
        held = [*self.party.holding.values(), *self.party.early.values()]
        return self.one(*held, *held, Qubit(0, 1), Qubit(-1, MOST), Qubit(MOST, LEAST))  # type: ignore[no-any-return]  # drawn

    def word(self) -> Any:
        one, truth = self.one, (False, True)
        call = one(self.party.reference(), 0, -1, MOST)
        foreign = RequestId("nobody", 1, 2), RequestId(LONG, MOST, LEAST)
        bell = one(None, None, 0, 3, 4, -1, MOST)
        return one(
            lambda: CreateKeep(call, self.terms(), one(*truth), bell, one(*truth)),
            lambda: CreateKeep(call, self.terms(), False, None),
            lambda: CreateMeasure(call, self.terms(), self.plan(), self.plan()),
            lambda: CreatePrepare(call, self.terms(), one(*truth), self.plan(), one(*truth)),
            lambda: Cancel(call, one(*foreign, *self.party.created.values())),
            lambda: one(Listen, StopListen)(call, one(*PURPOSES)),
            lambda: MeasureQubit(call, self.qubit(), self.plan()),
            lambda: FreeQubit(self.qubit()),
            lambda: ApplyGate(
                call, one(*Gate), self.qubit(), one(None, self.qubit()), one(0.0, 1e308)
            ),
            lambda: AskStatus(call),
            lambda: Drain(call, one(None, *self.links, LONG), one(False, False, True)),
            lambda: TryPairs(call, self.terms()),
        )()


def network(shape: str, seed: int) -> VirtualNetwork:
    """Links alone, with storage and test rounds; or repeaters that swap and purify."""
    lab: Any = Lab(shape=ROW, qubits=3, storage=2, test_rate=0.2, work_ns=20_000)
    if shape == "chain":
        lab = RouteLab(chain(4), qubits=3, work_ns=20_000, joined=True, gates=0.99)
    around = Surroundings(wire_bytes=True, user_ns=1_000 * (seed % 2))
    return VirtualNetwork(lab.links(), lab.world(), seed, around)


def users_of(net: VirtualNetwork, name: str, policy: Any) -> list[Party]:
    """A user of this kind at each node, listening."""
    nodes = sorted({end.node for link in net.links for end in link.ends})
    users = [Party(net.heap, f"{name}-{node}", node, policy) for node in nodes]
    for user in users:
        net.user(user.name, [user.node], user.listen)
    net.heap.run(net.heap.now + 60 * MILLISECOND)
    for user in users:
        user.accept()
    net.heap.run(net.heap.now + 5 * MILLISECOND)
    return users


@pytest.mark.parametrize("shape", ["row", "chain"])
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
@given(
    seed=st.integers(0, 1 << 20),
    pauses=st.lists(st.sampled_from([0, 50, 1_000, 10_000]), min_size=5, max_size=20),
)
def test_whatever_users_say_no_node_ends_and_when_they_are_gone_all_is_as_before(
    shape: str, seed: int, pauses: list[int]
) -> None:
    net, random = network(shape, seed), Random(seed)
    wicked = users_of(net, "eve", hold)
    eves = [Eve(user, net, random) for user in wicked]
    for pause in pauses:
        eve = random.choice(eves)
        for _ in range(random.choice([1, 1, 4])):
            eve.party.say(eve.word())
        net.heap.run(net.heap.now + pause * MICROSECOND)
    for user in wicked:
        user.say(Drain(user.reference(), None, False))
        for link in net.links:
            user.say(Drain(user.reference(), link.name, False))
    net.heap.run(net.heap.now + 10 * MILLISECOND)
    for user in wicked:
        net.crash(user.name)
    net.heap.run(net.heap.now + 300 * MILLISECOND)
    for user in wicked:
        assert leftovers(net.host(user.node)) == []
    honest = users_of(net, "honest", lambda pair, now: FreeQubit(pair.qubit))
    honest[0].keep(terms(honest[-1].node if shape == "chain" else honest[1].node, 3))
    net.heap.run(net.heap.now + 300 * MILLISECOND)
    assert [done.delivered for done in honest[0].done] == [3]


@pytest.mark.parametrize("number", [1_025, 1 << 40, MOST])
def test_a_set_of_more_pairs_than_anybody_holds_is_refused_at_once(number: int) -> None:
    """How long it takes was summed over its pairs: for so many, the node did nothing else again."""
    net = network("chain", 1)
    user = users_of(net, "eve", hold)[0]
    asked = terms("n4", number, within_ns=MILLISECOND, max_time_ns=50 * MILLISECOND)
    user.keep(asked)
    user.say(TryPairs(user.reference(), asked))
    net.heap.run(net.heap.now + MILLISECOND)
    (ended,) = user.ended
    assert ended.code is ErrorCode.CREATE
    assert f"{number} pairs within" in ended.reason

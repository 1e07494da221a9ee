"""Two distilleries in every order of what may happen: both ends end alike, nothing is left over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.messages.circuits import Method
from qstack.messages.devices import Faulted
from qstack.network.distillation.service import (
    DistilleryEnded,
    Expire,
    PeerGone,
    Purified,
    PurifiedExpired,
    Stop,
)
from qstack.network.purification import METHODS
from qstack.units import Chance
from tests.network.distil_lab import NODES, OTHER, bench, deliver, names, pair_id

PAIRS = 8
steps = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 1), st.integers(0, 31)), max_size=120)


class Story:
    """Plays drawn steps on two ends and keeps what was delivered and expired where."""

    def __init__(self, method: Method, rounds: int, bells: list[int]) -> None:
        self.rig = bench(method, rounds, patience_ns=1_000)
        self.bells = bells
        self.left = {node: list(range(PAIRS)) for node in NODES}
        self.expired: dict[str, set[int]] = {node: set() for node in NODES}

    def play(self, kind: int, node: str, which: int) -> None:
        rig = self.rig
        match kind:
            case 0 | 1 | 2:
                if self.left[node]:
                    self.deliver(node, self.left[node][which % len(self.left[node])])
            case 3 | 4 | 5 | 6:
                rig.arrive(node)
            case 7 | 8 | 9 | 10:
                rig.work(node, which)
            case 11:
                self.expired[node].add(which % PAIRS)
                rig.step(node, Expire(pair_id(which % PAIRS), "drawn"))
            case 12:
                rig.tick(node)
            case _:
                if rig.commands[node]:
                    command = rig.commands[node].pop(which % len(rig.commands[node]))
                    rig.step(node, Faulted(command.device, command.command, "drawn"))

    def deliver(self, node: str, number: int) -> None:
        self.left[node].remove(number)
        deliver(self.rig, node, number, self.bells[number])

    def finish(self) -> None:
        """Everything comes in the end, but for what expired before it came."""
        self.rig.settle()
        for node in NODES:
            for number in self.left[node].copy():
                if number not in self.expired[node]:
                    self.deliver(node, number)
        self.rig.settle()

    def assert_nothing_waits_at_one_end_alone(self) -> None:
        """To be asked when nothing is under way."""
        alice, bob = (self.rig.ends[node].machine for node in NODES)
        assert len(alice.held) == len(bob.held)

    def assert_both_ends_alike(self) -> None:
        alice, bob = (self.rig.ends[node] for node in NODES)
        assert alice.valid.keys() == bob.valid.keys()
        for pair, ready in alice.valid.items():
            other = bob.valid[pair]
            assert (ready.bell, ready.consumed, ready.rounds) == (
                other.bell,
                other.consumed,
                other.rounds,
            )
            assert self.rig.world.index(pair) == ready.bell
            void = self.expired["alice"] | self.expired["bob"]
            assert not names(tuple(void)) & {pair, *ready.consumed}
        for node in NODES:
            end = self.rig.ends[node]
            end.assert_all_given_back()
            given_out = names(tuple(set(range(PAIRS)) - set(self.left[node])))
            assert end.fates() == dict.fromkeys(given_out, 1)


@settings(max_examples=150)
@given(
    st.sampled_from(METHODS),
    st.integers(1, 3),
    st.lists(st.integers(0, 3), min_size=PAIRS, max_size=PAIRS),
    steps,
    st.integers(0, 2),
)
def test_both_ends_end_alike_whatever_the_order_the_losses_and_the_faults(
    method: Method, rounds: int, bells: list[int], drawn: list[tuple[int, int, int]], stops: int
) -> None:
    story = Story(method, rounds, bells)
    for kind, place, which in drawn:
        story.play(kind, NODES[place], which)
    if stops != 2:
        story.finish()
        story.assert_nothing_waits_at_one_end_alone()
    for node in NODES if stops else NODES[:1]:
        story.rig.step(node, Stop("enough"))
    story.rig.settle()
    story.assert_both_ends_alike()


def test_six_hundred_long_stories_from_seeds_end_alike_too() -> None:
    """Longer than Hypothesis draws them: most pairs are purified, many expire at some stage."""
    purified = expired = 0
    for seed in range(600):
        chance = Chance(seed)
        bells = [chance.below(4) for _ in range(PAIRS)]
        story = Story(METHODS[chance.below(4)], 1 + chance.below(3), bells)
        faults = chance.below(3)
        for _ in range(chance.below(150)):
            kind = chance.below(44)
            kind = kind // 4 if kind < 41 else 11 + kind % 3 * (faults > 0)
            story.play(kind, NODES[chance.below(2)], chance.below(32))
        if chance.below(3):
            story.finish()
            story.assert_nothing_waits_at_one_end_alone()
        for place in ((0,), (1,), (0, 1))[chance.below(3)]:
            story.rig.step(NODES[place], Stop("enough"))
        story.rig.settle()
        story.assert_both_ends_alike()
        purified += len(story.rig.ends["alice"].all(Purified))
        expired += len(story.rig.ends["alice"].all(PurifiedExpired))
    assert purified > 300
    assert expired > 5


@given(st.sampled_from(METHODS), st.integers(1, 3), steps)
def test_a_lost_adjacency_ends_everything_once_and_gives_every_qubit_back(
    method: Method, rounds: int, drawn: list[tuple[int, int, int]]
) -> None:
    story = Story(method, rounds, [0] * PAIRS)
    rig = story.rig
    for kind, place, which in drawn:
        story.play(kind, NODES[place], which)
    rig.cut = True
    for wire in rig.wires.values():
        wire.clear()
    for node in NODES:
        rig.step(node, PeerGone("silent"))
        rig.step(node, PeerGone("silent"))
    for node in NODES:
        while rig.commands[node]:
            rig.work(node)
        end = rig.ends[node]
        assert end.valid == {}
        assert end.slots.held() == {}
        (ended,) = end.all(DistilleryEnded)
        assert ended.reason == f"{OTHER[node]} is lost: silent"
        assert end.machine.over


@given(st.sampled_from(METHODS), st.integers(0, 3))
def test_without_losses_every_pair_of_enough_goes_through_all_rounds(
    method: Method, bell: int
) -> None:
    rig = bench(method, 2)
    for number in range(12):
        for node in NODES:
            deliver(rig, node, number, bell)
        rig.settle()
    nested = method in (Method.NESTED_DEJMPS, Method.NESTED_BBPSSW)
    for node in NODES:
        ready = rig.ends[node].all(Purified)
        assert [len(each.consumed) for each in ready] == ([3] * 3 if nested else [2] * 4)
        assert {each.rounds for each in ready} == {2}

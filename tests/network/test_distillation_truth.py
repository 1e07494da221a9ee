"""What two distilleries make and claim, against density matrices, published numbers and counts."""

from __future__ import annotations

import math
from itertools import islice, product
from typing import Any

import numpy as np
import pytest

from qstack.bell import BellWeights, permute, werner
from qstack.messages.circuits import Method
from qstack.messages.common import Basis
from qstack.messages.devices import Completed, Gate, MemoryMeasure, MemoryResult
from qstack.messages.network import DistilAges, DistilInput, DistilOutcome, DistilRound, TurnAxis
from qstack.network.budget import ETERNAL, IDEAL, Operations, Storage
from qstack.network.distillation import algebra
from qstack.network.distillation.service import Cause, Discarded, Purified
from qstack.network.purification import METHODS, nested, plan, pumped
from qstack.network.rounds import Ends, bbpssw, dejmps, parity_round
from qstack.units import Chance
from tests.network import registers
from tests.network.circuit_links import evolve
from tests.network.distil_lab import CIRCUIT, NODES, End, Frames, Timed, noisy, pair_id, parameters

LATENCY, READOUT = 1_000, 700
AXES = {Gate.RX: 2, Gate.RY: 3, Gate.RZ: 1}
"""Index of the Pauli of each rotation in the list of the registers."""

# --- one round, exactly ----------------------------------------------------------------------


class Matrix:
    """Two pairs as a density matrix of qubits A1 B1 A2 B2; readouts are forced, not drawn.

    The state is not normalised: its trace is the probability of what was forced.
    """

    def __init__(
        self,
        state: registers.Matrix,
        forced: dict[str, int],
        operations: Ends,
        storage: tuple[Storage, Storage],
    ) -> None:
        self.state = state
        self.places: dict[tuple[str, int], int] = {}
        self._forced = forced
        self._noise = dict(zip(NODES, operations, strict=True))
        self._storage = dict(zip(NODES, storage, strict=True))
        self._born: dict[int, tuple[str, int]] = {}
        self._settled: dict[int, int] = {}

    def put(self, node: str, slot: int, place: int, age: int, now: int) -> None:
        self.places[node, slot] = place
        self._born[place] = (node, now - age)
        self._settled[place] = now

    def settle(self, place: int, now: int) -> None:
        """Decay as a Pauli channel, from the whole ages: X and Y shrink by c, Z by p."""
        node, born = self._born[place]
        model, since = self._storage[node], self._settled[place]
        if model is ETERNAL:
            return
        ages = since - born, now - born
        before, after = ((age / model.t2_ns) ** model.exponent for age in ages)
        c = math.exp(before - after)
        p = math.exp(-(now - since) / model.t1_ns) if model.t1_ns else 1.0
        chances = (1 + 2 * c + p) / 4, (1 - 2 * c + p) / 4, (1 - p) / 4, (1 - p) / 4
        whole = [registers.on(pauli, place, 4) for pauli in registers.PAULIS]
        mixed = [q * (w @ self.state @ w.conj().T) for q, w in zip(chances, whole, strict=True)]
        self.state = np.sum(mixed, axis=0)
        self._settled[place] = now

    def command(self, node: str, command: Any, now: int) -> Any:
        place = self.places[node, command.slot]
        self.settle(place, now)
        if isinstance(command, MemoryMeasure):
            outcome = self._forced[node]
            self.state = registers.reads(self.state, place, outcome, 4, self._noise[node])
            return MemoryResult(command.device, command.command, command.slot, Basis.Z, outcome, 0)
        if command.gate is Gate.CNOT:
            target = self.places[node, command.other]
            self.settle(target, now)
            self.state = registers.noisy_cnot(self.state, (place, target), 4, self._noise[node])
        else:
            half = command.angle / 2
            pauli = registers.PAULIS[AXES[command.gate]]
            turn = registers.on(math.cos(half) * np.eye(2) - 1j * math.sin(half) * pauli, place, 4)
            self.state = turn @ self.state @ turn.conj().T
        return Completed(command.device, command.command)


class Case:
    """One round of two pairs (bell, relative weights); `delivered` and `ages` at (alice, bob)."""

    def __init__(
        self,
        pairs: list[tuple[int, BellWeights]],
        method: Method = Method.NESTED_DEJMPS,
        seed: int = 1,
        operations: Ends = (IDEAL, IDEAL),
        storage: tuple[Storage, Storage] = (ETERNAL, ETERNAL),
    ) -> None:
        self.pairs, self.method, self.seed = pairs, method, seed
        self.operations, self.storage = operations, storage
        self.delivered = [(0, 0), (10, 10)]
        self.ages = [(0, 0), (0, 0)]
        self.tilts = [0.0, 0.0]

    def state(self) -> registers.Matrix:
        """Both pairs as they are at first."""
        both: registers.Matrix = np.kron(
            *(registers.pair(permute(w, bell)) for bell, w in self.pairs)
        )
        return both

    def run(self, forced: dict[str, int]) -> tuple[dict[str, End], Matrix]:
        """Play it with these outcomes; the truth at the instants of the hand-overs is left."""
        world = Matrix(self.state(), forced, self.operations, self.storage)
        ends = {}
        for place, node in enumerate(NODES):
            models, noise = (
                (each[place], each[1 - place]) for each in (self.storage, self.operations)
            )
            given = parameters(
                node, self.method, 1, latency_ns=LATENCY, storage=models, operations=noise
            )
            ends[node] = End(given, self.seed)
        rig = Timed(ends, world.command, LATENCY, READOUT)
        for number, (bell, weights) in enumerate(self.pairs):
            for place, node in enumerate(NODES):
                age, at = self.ages[number][place], self.delivered[number][place]
                qubit, event = ends[node].delivered(pair_id(number), bell, weights, age)
                event = evolve(event, tilt=self.tilts[number])
                world.put(node, qubit.slot, 2 * number + place, age, at)
                rig.at(at, node, event)
        rig.run()
        for place, node in enumerate(NODES):
            for ready in ends[node].all(Purified):
                kept = 2 * ready.pair.sequence + place
                born = self.delivered[ready.pair.sequence][place]
                born -= self.ages[ready.pair.sequence][place]
                world.settle(kept, born + ready.age_ns)
        return ends, world

    def all_outcomes(self) -> tuple[float, BellWeights, list[Purified]]:
        """Return how often the pair is kept, its true relative weights then, and all claims."""
        total, claims = np.zeros(4), []
        for outcomes in product((0, 1), repeat=2):
            ends, world = self.run(dict(zip(NODES, outcomes, strict=True)))
            found = [end.all(Purified) for end in ends.values()]
            assert len(found[0]) == len(found[1])
            if not found[0]:
                assert [end.all(Discarded)[0].cause for end in ends.values()] == [Cause.UNLIKE] * 2
                continue
            (one,), (two,) = found
            assert (one.pair, one.bell, one.consumed) == (two.pair, two.bell, two.consumed)
            spent = 2 * one.consumed[0].sequence
            left = registers.without(world.state, (spent, spent + 1), 4)
            a, b, c, d = registers.bell_weights(left)
            total += permute((a, b, c, d), one.bell)
            claims += [one, two]
        kept = float(sum(total))
        i, z, x, y = (float(each) / kept for each in total)
        return kept, (i, z, x, y), claims


ROUGH: Ends = (Operations(0.98, 0.99), Operations(0.95, 0.97))
FIRST: BellWeights = (0.70, 0.12, 0.08, 0.10)
SECOND: BellWeights = (0.75, 0.05, 0.13, 0.07)
TURNS = list(product((TurnAxis.X, TurnAxis.Y, TurnAxis.Z), repeat=2))
SEED_OF = {
    tuple(TurnAxis(1 + chance.below(3)) for _ in range(2)): seed
    for seed in range(99, -1, -1)
    for chance in (Chance(seed),)
}
"""A seed of the leading end for each two axes of a twirl."""


@pytest.mark.parametrize("method", METHODS)
def test_all_sixteen_frames_give_what_density_matrices_say(method: Method) -> None:
    twirls = method in (Method.NESTED_BBPSSW, Method.PUMPED_BBPSSW)
    for number, bells in enumerate(product(range(4), repeat=2)):
        turns = TURNS[number % 9] if twirls else (TurnAxis.X, TurnAxis.X)
        seed = SEED_OF[turns]
        case = Case(list(zip(bells, (FIRST, SECOND), strict=True)), method, seed, ROUGH)
        probability, truth, claims = case.all_outcomes()
        # Turns are drawn for the pair that waits longer first; either may be the control.
        turned = [algebra.turn(w, a) for w, a in zip((FIRST, SECOND), turns, strict=True)]
        ways = parity_round(turned[0], turned[1], ROUGH), parity_round(turned[1], turned[0], ROUGH)
        expected = ways[claims[0].pair.sequence]
        assert expected.weights[0] == max(way.weights[0] for way in ways)
        assert probability == pytest.approx(expected.probability, abs=1e-12)
        assert truth == pytest.approx(expected.weights, abs=1e-10)
        for claim in claims:
            assert claim.weights == pytest.approx(truth, abs=1e-10)


def test_all_axes_of_a_twirl_can_be_drawn() -> None:
    assert set(SEED_OF) == set(TURNS)


SHORT = Storage(80_000, 30_000, 1.0)
BENT = Storage(0, 25_000, 2.0)


@pytest.mark.parametrize("storage", [(SHORT, SHORT), (BENT, BENT), (SHORT, BENT), (BENT, SHORT)])
@pytest.mark.parametrize(
    ("delivered", "ages"),
    [
        ([(0, 0), (9_000, 9_000)], [(500, 500), (500, 500)]),
        ([(0, 4_000), (9_000, 2_000)], [(100, 700), (2_500, 0)]),
        ([(8_000, 1_000), (0, 12_000)], [(3_000, 3_000), (0, 1_500)]),
    ],
)
def test_pairs_of_unequal_ages_become_what_is_claimed_when_each_half_is_handed_over(
    storage: tuple[Storage, Storage], delivered: list[tuple[int, int]], ages: list[tuple[int, int]]
) -> None:
    case = Case([(0, FIRST), (3, SECOND)], operations=ROUGH, storage=storage)
    case.delivered, case.ages = delivered, ages
    _, truth, claims = case.all_outcomes()
    for claim in claims:
        assert claim.weights == pytest.approx(truth, abs=1e-9)
    fresh = dejmps(SECOND, FIRST, ROUGH).weights[0]
    assert truth[0] < fresh - 0.03


# --- closed forms and the numbers of the dossier ------------------------------------------------


def mean_of_twirls(kept: float, spent: float) -> tuple[float, float]:
    """(probability, fidelity) of a round over all pairs of axes."""
    total = good = 0.0
    ages = DistilAges(0, 0)
    for one, two in TURNS:
        inputs = [
            DistilInput(pair_id(number), 0, weights, axis, ages)
            for number, (weights, axis) in enumerate(
                zip((werner(kept), werner(spent)), (one, two), strict=True)
            )
        ]
        first = DistilRound(CIRCUIT, 1, inputs[0], inputs[1], 0, 0)
        second = DistilOutcome(CIRCUIT, 1, 0, ages, ages, 0)
        found = algebra.result(first, second, (ETERNAL, ETERNAL), (IDEAL, IDEAL))
        probability = parity_round(werner(kept), werner(spent)).probability
        total += probability / 9
        good += probability * found.weights[0] / 9
    return total, good / total


@pytest.mark.parametrize(
    ("kept", "spent", "probability", "fidelity"),
    [(0.7, 0.7, 0.68, 0.735294), (0.9, 0.75, 0.788889, 0.859155)],
)
def test_twirled_rounds_give_the_numbers_of_case_o13(
    kept: float, spent: float, probability: float, fidelity: float
) -> None:
    found = mean_of_twirls(kept, spent)
    assert found == pytest.approx((probability, fidelity), abs=5e-7)


def test_a_round_gives_the_weights_of_case_o14() -> None:
    start = (0.75, 0.12, 0.08, 0.05)
    case = Case([(2, start), (1, start)])
    probability, truth, claims = case.all_outcomes()
    assert probability == pytest.approx(0.68)
    for weights in (truth, *(each.weights for each in claims)):
        assert weights == pytest.approx((0.830882, 0.110294, 0.030588, 0.028235), abs=5e-7)


# --- many pairs, counted --------------------------------------------------------------------

LABORATORY = noisy(0.98, 0.99)


class Count:
    """So many elementary pairs of equal weights, one after the other, through both ends."""

    def __init__(
        self,
        method: Method,
        rounds: int,
        weights: BellWeights,
        operations: Ends = LABORATORY,
        storage: Storage = ETERNAL,
    ) -> None:
        self.world = Frames(11, operations, (storage, storage))
        self.ends = {
            node: End(
                parameters(
                    node,
                    method,
                    rounds,
                    latency_ns=LATENCY,
                    operations=operations,
                    storage=(storage, storage),
                )
            )
            for node in NODES
        }
        self._rig = Timed(self.ends, self.world.command, LATENCY, READOUT)
        self._weights = weights
        self._chance = Chance(23)
        self.spent = 0

    def feed(self, count: int, interval_ns: int) -> None:
        """Pairs in random Bell states, with random errors, at random intervals of this mean."""
        for _ in range(count):
            self.spent += 1
            bell, draw = self._chance.bits(2), self._chance.uniform()
            error = sum(draw > sum(self._weights[: index + 1]) for index in range(3))
            at = self._rig.now + int(self._chance.exponential(interval_ns))
            for node in NODES:
                qubit, event = self.ends[node].delivered(pair_id(self.spent), bell, self._weights)
                state = bell ^ error if node == "bob" else 0
                self.world.put(node, event.pair, qubit.slot, state, (0, at))
                self._rig.at(at, node, event)
            self._rig.run()
            for end in self.ends.values():
                end.free_all()

    def delivered(self) -> list[tuple[Purified, int]]:
        """What alice was given, with the error that it truly has when handed over by both ends."""
        found = []
        bobs = self.ends["bob"].valid
        for pair, ready in self.ends["alice"].valid.items():
            for node, end in ((NODES[0], ready), (NODES[1], bobs[pair])):
                half = self.world.by_pair[node, pair]
                self.world.settle(node, half, half.born + end.age_ns)
            found.append((ready, self.world.index(pair) ^ ready.bell))
        return found


def within(count: int, of: int, probability: float) -> bool:
    """Whether a count is within four standard errors: false alarms 6e-5."""
    return abs(count - of * probability) <= 4 * math.sqrt(of * probability * (1 - probability))


def test_nested_rounds_deliver_the_fidelity_and_cost_the_pairs_that_were_planned() -> None:
    """6,000 elementary pairs, about 1,050 delivered; six counts at 4 sigma: false alarms 4e-4."""
    chosen, _ = plan(werner(0.9), 0.95, LABORATORY, 4)
    assert chosen is not None
    assert (chosen.method, chosen.rounds) == (Method.NESTED_DEJMPS, 2)
    count = Count(chosen.method, chosen.rounds, werner(0.9))
    count.feed(6_000, 10 * LATENCY)
    found = count.delivered()
    number = len(found)
    assert chosen.fidelity == pytest.approx(0.952, abs=5e-4)
    assert within(sum(error == 0 for _, error in found), number, chosen.fidelity)
    for ready, _ in found:
        assert ready.weights == pytest.approx(chosen.weights, abs=1e-12)
        assert len(ready.consumed) == 3
    # Rounds: each elementary pair is in one of the first level, each survivor of it in a second.
    one, two = (each for each, _ in islice(nested(werner(0.9), dejmps, LABORATORY), 2))
    assert one.weights[0] == pytest.approx(0.909, abs=5e-4)
    first = count.spent // 2
    for end in count.ends.values():
        survived = end.machine.counters["kept"] - number
        assert within(survived, first, one.probability)
        assert within(number, survived // 2, two.probability)
        assert end.machine.counters["rounds"] == first + survived // 2
    assert within(number, count.spent // 4, 4 / chosen.pairs)
    assert chosen.kept == pytest.approx(one.probability**2 * two.probability)


@pytest.mark.parametrize("method", [Method.NESTED_DEJMPS, Method.PUMPED_BBPSSW])
def test_one_round_delivers_the_fidelity_of_the_closed_form(method: Method) -> None:
    """3,000 elementary pairs, about 1,300 delivered; two counts each, false alarms 1.2e-4."""
    count = Count(method, 1, werner(0.9))
    count.feed(3_000, 10 * LATENCY)
    expected = dejmps(werner(0.9), werner(0.9), LABORATORY)
    found = count.delivered()
    assert expected.weights[0] == pytest.approx(0.909, abs=5e-4)
    assert within(len(found), 1_500, expected.probability)
    assert within(sum(error == 0 for _, error in found), len(found), expected.weights[0])


def test_pumping_costs_the_pairs_and_claims_the_weights_of_the_closed_form() -> None:
    """4,000 elementary pairs; the mean number per delivered one at 4 sigma of its scatter."""
    start: BellWeights = (0.85, 0.08, 0.04, 0.03)
    count = Count(Method.PUMPED_DEJMPS, 3, start)
    count.feed(4_000, 10 * LATENCY)
    *_, (expected, pairs) = islice(pumped(start, dejmps, LABORATORY), 3)
    found = count.delivered()
    for ready, _ in found:
        assert ready.weights == pytest.approx(expected.weights, abs=1e-12)
    assert within(sum(error == 0 for _, error in found), len(found), expected.weights[0])
    # A renewal count: what one delivery costs scatters less than a geometric law of tries does.
    assert abs(count.spent / len(found) - pairs) <= 4 * pairs / math.sqrt(len(found))


def test_rounds_without_end_would_reach_the_limit_of_the_gates() -> None:
    count = Count(Method.NESTED_DEJMPS, 5, werner(0.9))
    while not count.ends["alice"].valid:
        count.feed(32, 10 * LATENCY)
    (ready, *_) = count.ends["alice"].valid.values()
    assert ready.weights[0] == pytest.approx(0.970, abs=1e-3)


def test_twirled_rounds_keep_as_many_and_deliver_as_good_as_the_closed_form() -> None:
    """3,000 pairs, two nested BBPSSW rounds; claims differ by their draws, their mean does not."""
    count = Count(Method.NESTED_BBPSSW, 2, werner(0.9))
    count.feed(3_000, 10 * LATENCY)
    *_, (expected, pairs) = islice(nested(werner(0.9), bbpssw, LABORATORY), 2)
    found = count.delivered()
    claims = [ready.weights[0] for ready, _ in found]
    assert len({round(each, 9) for each in claims}) > 1
    error = float(np.std(claims)) / math.sqrt(len(claims))
    assert abs(float(np.mean(claims)) - expected.weights[0]) <= 4 * error
    assert within(sum(error == 0 for _, error in found), len(found), expected.weights[0])
    assert within(len(found), count.spent // 4, 4 / pairs)


def test_the_mean_of_the_claims_is_the_true_fidelity_where_pairs_wait_for_each_other() -> None:
    """4,000 pairs that wait about a tenth of T2 for the next; one count at 4 sigma."""
    fading = Storage(0, 1_000 * LATENCY, 1.0)
    count = Count(Method.NESTED_DEJMPS, 2, werner(0.9), storage=fading)
    count.feed(4_000, 100 * LATENCY)
    found = count.delivered()
    claimed = float(np.mean([ready.weights[0] for ready, _ in found]))
    assert within(sum(error == 0 for _, error in found), len(found), claimed)
    ideal, _ = plan(werner(0.9), 0.95, LABORATORY, 4)
    assert ideal is not None
    assert claimed < ideal.fidelity - 0.03
    far = np.mean([ready.weights[0] for ready in count.ends["bob"].valid.values()])
    assert far == pytest.approx(claimed, abs=1e-12)

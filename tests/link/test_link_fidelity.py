"""The estimator against weights that it does not know, and the predictions in closed form."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

from qstack.bell import sign
from qstack.errors import ErrorCode
from qstack.link import fidelity
from qstack.link.decay import (
    age_at_delivery,
    coherence,
    depolarise,
    until_delivery,
    waiting,
)
from qstack.link.fidelity import FidelityUnit, Round, Tallies, Tally, delivered, estimate
from qstack.link.service import LinkDone, LinkFailed, LinkPairReady
from qstack.link.trials import Trials
from qstack.messages.common import PairKind
from qstack.messages.link import LinkEstimate, LinkSetting
from qstack.physical.service import MemoryModel, PatternPrior
from qstack.units import MILLISECOND, SECOND, Chance
from tests.link.link_rig import DELAY, GOOD, Rig, parameters, request, setting


def model(t1: float, t2: float) -> MemoryModel:
    return MemoryModel(round(t1 * SECOND), round(t2 * SECOND), 1.0, 0, 1.0, 0, 1.0, (1.0, 1.0))


def perfect(bell: int) -> PatternPrior:
    weights = [0.0] * 4
    weights[bell] = 1.0
    return PatternPrior(1, bell, 0.1, (weights[0], weights[1], weights[2], weights[3]), 0.0)


def test_the_bound_of_a_relaxed_psi_pair_is_the_closed_form_of_amplitude_damping() -> None:
    """T1 = 2, T2 = 1, t = 0.5 at both ends: (1 - g) / 2 + c c / 2 = 0.573340112121."""
    both = (model(2, 1), round(0.5 * SECOND))
    found = delivered(estimate(perfect(2), fidelity.NO_TALLIES), waiting(both, both))
    assert math.isclose(found.low, 0.573340112121, abs_tol=1e-9)
    assert found.low < found.fidelity < 0.5978


def test_dephasing_alone_has_its_closed_form() -> None:
    """Psi+ for 10 ms at both ends with T2 = 50 ms and no relaxation: (1 + exp(-0.4)) / 2."""
    both = (model(0, 0.05), 10 * MILLISECOND)
    found = delivered(estimate(perfect(2), fidelity.NO_TALLIES), waiting(both, both))
    assert math.isclose(found.fidelity, (1 + math.exp(-0.4)) / 2, abs_tol=1e-12)


def test_a_stretched_exponential_is_taken_over_the_whole_age() -> None:
    cubic = MemoryModel(0, SECOND, 3.0, 0, 1.0, 0, 1.0, (1.0, 1.0))
    assert math.isclose(coherence(cubic, SECOND), math.exp(-1))
    assert math.isclose(coherence(cubic, SECOND // 2) ** 2, math.exp(-0.25))


def test_moves_and_gates_shrink_a_werner_pair_as_depolarising_maps() -> None:
    """A move of average fidelity f turns F into 1/4 + (F - 1/4)(2 f - 1)."""
    shrink = depolarise(waiting((GOOD, 0), (GOOD, 0)), 0.97)
    pattern = setting("s", 0.9, 0.1, 0.0).patterns[0]
    found = delivered(estimate(pattern, fidelity.NO_TALLIES), shrink)
    assert math.isclose(found.fidelity, 0.25 + 0.65 * 0.94, abs_tol=1e-12)


def test_age_and_decay_follow_from_what_the_request_asks_for() -> None:
    link = parameters()
    plain, stored = request("alice", 1), request("alice", 1, store=True, final_bell=0)
    assert age_at_delivery(link, plain) == 2 * DELAY
    assert age_at_delivery(link, stored) == 2 * DELAY + 5_000 + 20_000
    measured = request("alice", 1, kind=PairKind.MEASURE, store=True, final_bell=0)
    assert age_at_delivery(link, measured) == 0
    prepared = request("alice", 1, kind=PairKind.PREPARE)
    assert age_at_delivery(link, prepared) == 4 * DELAY
    assert until_delivery(link, stored).z < until_delivery(link, plain).z
    assert until_delivery(link, prepared).x == math.exp(-4 * DELAY / GOOD.t2_ns)


def test_the_fastest_setting_that_meets_the_request_is_chosen() -> None:
    unit = FidelityUnit(parameters())
    chosen = [unit.choose(request("alice", 1, fidelity_min=f)) for f in (0.5, 0.82, 0.84, 0.96)]
    assert [c.id if c else None for c in chosen] == ["fast", "fast", "fine", None]


def sampled_rounds(truth: tuple[float, ...], count: int, seed: int) -> FidelityUnit:
    """The unit after `count` rounds per axis."""
    unit = FidelityUnit(parameters())
    for tallies in every_look(truth, count, seed):
        unit.measured["fast", 1] = tallies
    return unit


def every_look(truth: tuple[float, ...], count: int, seed: int) -> Iterator[Tallies]:
    """`count` rounds per axis of pattern 1 of "fast", with the rig's readout errors."""
    link = parameters()
    unit, chance = FidelityUnit(link), Chance(seed)
    for number in range(3 * count):
        axis = "XYZ"[number % 3]
        draw, bell = chance.uniform(), 0
        while bell < 3 and draw >= truth[bell]:
            draw -= truth[bell]
            bell += 1
        first = chance.below(2)
        bits = [first, first ^ (sign(bell, axis) < 0)]
        read = [
            b if chance.uniform() < GOOD.readout[b] else 1 - b  # readout errs as the model says
            for b in bits
        ]
        unit.add(Round("fast", 1, 2, axis, (read[0], 0), (read[1], 0)))
        yield unit.measured["fast", 1]


@pytest.mark.parametrize("fidelity_true", [0.70, 0.85, 0.97])
def test_the_interval_holds_the_truth_though_the_datasheet_is_wrong(fidelity_true: float) -> None:
    """40 seeds, 1,000 rounds per axis, datasheet 0.85 +- 0.01 (2 sigma 0.02).

    So many rounds refute a datasheet that is wrong by 0.12 with more than 0.999. The joint
    confidence is 0.95 by the union bound; the sum of three independent axes makes it above 0.99
    in fact. 36 of 40 are asked for: the false alarm is 6e-5 at 0.99.
    """
    rest = (1 - fidelity_true) / 3
    truth = (rest, rest, fidelity_true, rest)
    inside, errors = 0, []
    for seed in range(40):
        unit = sampled_rounds(truth, 1_000, seed)
        axes = estimate(parameters().settings[0].patterns[0], unit.measured["fast", 1])
        found = delivered(axes, waiting((GOOD, 0), (GOOD, 0)))
        inside += found.low <= fidelity_true <= found.high
        errors.append(found.fidelity - fidelity_true)
    assert inside >= 36
    # Standard error of a mean of 40: below 0.02 / sqrt(40) = 0.003; four of them.
    assert abs(sum(errors) / 40) < 0.013


def test_an_honest_datasheet_is_not_refuted_by_looking_often() -> None:
    """20 links of truth 0.85 as stated, looked at after each of 300 rounds: 6,000 looks.

    Looks are strongly correlated; by the law of the iterated logarithm some 30 of them count as
    independent per link: 20 * 30 * 5e-5 = 0.03 refutations expected at most, so that one is
    let pass (false alarm 5e-4).
    """
    pattern, refuted = parameters().settings[0].patterns[0], 0
    truth = (0.05, 0.05, 0.85, 0.05)
    for seed in range(20):
        lows = []
        for tallies in every_look(truth, 100, seed):
            axes = estimate(pattern, tallies)
            lows.append(delivered(axes, waiting((GOOD, 0), (GOOD, 0))).low)
        refuted += min(lows) < 0.829
    assert refuted <= 1


def test_a_few_unlikely_rounds_do_not_refute_a_good_datasheet() -> None:
    """Two wrong of two where 0.97 is right happen once in a thousand; six of six never."""
    pattern = setting("s", 0.955, 0.1, 0.005).patterns[0]
    nothing = Tally(0, 0.0, 0.0, 0.0)
    for wrong, stands in ((2, True), (6, False)):
        tally = Tally(wrong, -float(wrong), 0.0, float(wrong))
        axes = estimate(pattern, (tally, nothing, nothing))
        assert (axes[0].low > 0.9) is stands


def test_readout_errors_are_taken_out_of_the_correlators() -> None:
    """A perfect pair read with 0.99 and 0.98: raw mean of ZZ is 0.9410 + 0.0001, corrected 1."""
    zero, one = GOOD.readout
    gain, offset = (zero + one - 1) ** 2, -((zero - one) ** 2)
    count = 100_000
    tally = Tally(count, count * (offset + gain), count * offset, count * gain)
    pattern = PatternPrior(1, 2, 0.1, (0.0, 0.0, 1.0, 0.0), 1.0)
    for axis in estimate(pattern, (tally, tally, tally)):
        assert math.isclose(axis.mean, 1.0, abs_tol=1e-3)


def test_holding_times_of_test_rounds_are_taken_out_too() -> None:
    """Rounds held for T2 / 2 at both ends show exp(-1) of X: the pair at emission is perfect."""
    link = parameters()
    unit = FidelityUnit(link)
    held = GOOD.t2_ns // 2
    table = unit.measured
    for _ in range(4):
        unit.add(Round("fast", 1, 2, "X", (0, held), (0, held)))
    gain = table["fast", 1][0].gain / 4
    assert math.isclose(gain, 0.97**2 * math.exp(-1), rel_tol=1e-9)


def test_both_ends_choose_the_same_test_rounds_at_the_stated_rate() -> None:
    """20,000 pairs at rate 0.1: 2,000 +- 42.4 (1 sigma); five sigma, false alarm 6e-7."""
    alice, bob, other = Trials(0.1, True), Trials(0.1, False), Trials(0.1, False)
    alice.begin(b"a" * 16, b"b" * 16)
    bob.begin(b"b" * 16, b"a" * 16)
    other.begin(b"b" * 16, b"c" * 16)
    chosen = [alice.axis_of((5, n)) for n in range(20_000)]
    assert chosen == [bob.axis_of((5, n)) for n in range(20_000)]
    assert chosen != [other.axis_of((5, n)) for n in range(20_000)]
    assert abs(sum(c is not None for c in chosen) - 2_000) < 212
    for axis in "XYZ":
        assert abs(chosen.count(axis) - 667) < 5 * math.sqrt(667)


def test_tests_are_not_delivered_and_not_counted() -> None:
    rig = Rig(3, test_rate=0.4)
    wanted = rig.create(request("alice", 20))
    rig.run(50 * MILLISECOND)
    rig.alike(wanted)
    rig.no_leak()
    for end in rig.ends.values():
        report = end.link.report()
        assert json.loads(json.dumps(report)) == report
        fast = [e for e in report["estimates"] if e["setting"] == "fast"]
        assert sum(e["rounds"] for e in fast) == rig.sequence - 20
        assert all(e["low"] <= e["fidelity"] <= e["high"] for e in fast)
    done = [end.of(LinkDone, wanted)[0] for end in rig.ends.values()]
    assert done[0] == done[1]
    assert done[0].delivered == 20
    assert done[0].tested == rig.sequence - 20 > 3


def test_both_ends_state_the_same_goodness_and_it_follows_the_truth() -> None:
    """Datasheet 0.85, truth 0.75; 1,500 rounds give F within 4 sigma = 4 * 0.25 sqrt(3 / 250)."""
    rig = Rig(5, test_rate=0.5)
    rig.truth = (0.0, 0.0, 0.25, 0.75)
    rig.success = 1.0
    wanted = rig.create(request("bob", 1_500, fidelity_min=0.3))
    rig.run(400 * MILLISECOND)
    rig.alike(wanted)
    alice, bob = (rig.ends[n].of(LinkPairReady, wanted) for n in ("alice", "bob"))
    for one, two in zip(alice, bob, strict=True):
        assert (one.info.goodness, one.info.goodness_low) == (
            two.info.goodness,
            two.info.goodness_low,
        )
    last = {u.info.clicks: u.info for u in alice[-50:]}
    first = {u.info.clicks: u.info for u in alice[:20]}
    for clicks, info in last.items():
        assert first[clicks].goodness > 0.83
        assert abs(info.goodness - 0.75) < 0.11
        assert info.goodness_low < 0.75


def test_a_setting_that_tests_refute_is_changed_for_a_better_one() -> None:
    """Truth 0.60 for every setting but the fine one is said to be 0.95: the master moves to it."""
    rig = Rig(6, test_rate=0.5)
    rig.truth = (0.4 / 3, 0.4 / 3, 0.4 / 3, 0.6)
    wanted = rig.create(request("alice", 1_500, fidelity_min=0.8))
    rig.run(60 * MILLISECOND)
    settings = [s for s, _ in _used(rig, wanted)]
    assert settings[0] == "fast"
    assert "fine" in settings
    sent = [
        a.message
        for _, _, actions in rig.ends["alice"].log
        for a in actions
        if hasattr(a, "message")
    ]
    assert any(isinstance(m, LinkEstimate) for m in sent)
    assert any(isinstance(m, LinkSetting) for m in sent)
    assert _used(rig, wanted, "bob") == _used(rig, wanted, "alice")
    # The fine one is as bad in truth: in the end nothing serves the request, and that is said.
    rig.run(300 * MILLISECOND)
    rig.alike(wanted)
    failed = rig.ends["bob"].of(LinkFailed, wanted)[0]
    assert failed.code is ErrorCode.UNSUPPORTED
    refused = rig.create(request("bob", 1, fidelity_min=0.8))
    rig.run(MILLISECOND)
    assert rig.ends["bob"].of(LinkFailed, refused)[0].code is ErrorCode.UNSUPPORTED
    assert rig.ends["alice"].pairs(refused) == []


def _used(rig: Rig, wanted: object, name: str = "alice") -> list[tuple[str, int]]:
    ups = [u for u in rig.ends[name].of(LinkPairReady) if u.request == wanted]
    return [(u.info.setting, u.info.pair.sequence) for u in ups]

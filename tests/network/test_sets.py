"""Pairs that must all be there within a time of each other: the head-end's window, and how long."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.bell import werner
from qstack.errors import ErrorCode
from qstack.messages.application import PairReady, RequestDone, RequestEnded
from qstack.messages.circuits import CircuitComplete, CircuitExpire, CircuitGather, CircuitTrack
from qstack.messages.common import PairId, PairKind
from qstack.network.desk import Half
from qstack.network.manner import rate_for_set, set_ns
from qstack.physical.slots import Owner
from qstack.units import MICROSECOND, MILLISECOND, SECOND
from tests.network.circuit_audit import audit, ended
from tests.network.circuit_lab import Chances, Lab, chain
from tests.network.test_circuit_ends import CIRCUIT, Rig

SLOT = MICROSECOND


class SetRig(Rig):
    """The head-end of a request for `number` pairs within `window` slots of each other."""

    def __init__(self, number: int, window: int, **changes: Any) -> None:
        super().__init__(
            PairKind.KEEP, slots=number + 2, number=number, within_ns=window * SLOT, **changes
        )
        self.made = 0

    def at(self, slot: int) -> None:
        """Time goes on; what is too old by then is discarded when it is."""
        now = slot * SLOT
        while (due := self.head.deadline) is not None and due <= now:
            self.desk.now = due
            self.head.tick()
        self.desk.now = now
        self.collect()

    def arrive(self) -> PairId:
        """A half comes whose track is here: the pair is there now."""
        self.made += 1
        pair = PairId("ab", 7, self.made)
        far = PairId("bc", 8, self.made)
        self.head.tracked(CircuitTrack(CIRCUIT, far, pair, 0, werner(0.97, 0), 0.0, 0, None))
        qubit = self.slots.take(Owner("network", pair))
        assert qubit is not None
        self.head.pair(Half(pair, qubit, 0, werner(0.97, 0), 0.0, 0, self.desk.now))
        self.collect()
        return pair

    @property
    def gathered(self) -> list[PairId]:
        """What users were given."""
        return [event.info.pair for event in self.told if isinstance(event, PairReady)]


def sent(rig: Rig, kind: type[Any]) -> list[Any]:
    return [message for message in rig.sent if isinstance(message, kind)]


def test_a_set_is_handed_over_when_its_last_pair_comes_and_the_tail_end_is_told_before() -> None:
    rig = SetRig(3, 10)
    pairs = []
    for slot in (0, 4, 10):
        rig.at(slot)
        assert not rig.gathered
        pairs.append(rig.arrive())
    assert rig.gathered == pairs
    (gather,) = sent(rig, CircuitGather)
    assert gather.pairs == tuple(pairs)
    words = [type(m) for m in rig.sent if isinstance(m, CircuitGather | CircuitComplete)]
    assert words == [CircuitGather, CircuitComplete]


def test_a_pair_that_was_there_for_longer_is_discarded_and_the_younger_ones_are_kept() -> None:
    rig = SetRig(3, 10)
    first = rig.arrive()
    rig.at(8)
    second = rig.arrive()
    rig.at(11)
    assert [expire.at for expire in sent(rig, CircuitExpire)] == [first]
    assert len(rig.slots.held()) == 1, "its memory is free"
    third, fourth = rig.arrive(), None
    rig.at(18)
    fourth = rig.arrive()
    assert rig.gathered == [second, third, fourth]


def test_a_pair_whose_half_waited_too_long_for_its_turn_is_as_old_as_it_is() -> None:
    """More pairs came than the set has places: one that is given to it later is not young."""
    rig = SetRig(2, 10)
    halves = [PairId("ab", 7, number) for number in (1, 2, 3)]
    for pair in halves:
        rig.half(pair)
    rig.track(halves[2])
    rig.at(12)
    rig.head.expired(halves[0], "void")
    rig.collect()
    assert [expire.at for expire in sent(rig, CircuitExpire)] == [halves[2]]
    assert not rig.gathered


def test_a_pair_is_there_once_the_other_end_tells_of_it_however_long_its_half_had_waited() -> None:
    rig = SetRig(2, 10)
    early = PairId("ab", 7, 5)
    rig.half(early)
    rig.at(8)
    rig.track(early)
    rig.at(15)
    late = rig.arrive()
    assert rig.gathered == [early, late]


def test_a_set_that_is_wanted_in_a_bell_state_is_turned_before_it_is_handed_over() -> None:
    rig = SetRig(2, 10, final_bell=2)
    rig.arrive()
    rig.arrive()
    assert len(rig.commands) == 2
    for command in rig.commands:
        assert not rig.gathered
        rig.end(command)
    assert len(rig.gathered) == 2


# --- how long a set takes ---------------------------------------------------------------------


def drawn(chance: float, number: int, window: int, sets: int) -> tuple[float, float]:
    """Mean and standard error of the slots until `number` successes lie within `window` slots."""
    generator = np.random.default_rng(5)
    found = []
    for _ in range(sets):
        gaps = generator.geometric(chance, 64)
        while True:
            times = np.cumsum(gaps)
            spans = times[number - 1 :] - times[: len(times) - number + 1]
            good = np.flatnonzero(spans <= window)
            if good.size:
                break
            gaps = np.concatenate([gaps, generator.geometric(chance, 64)])
        found.append(times[number - 1 + good[0]])
    return float(np.mean(found)), float(np.std(found) / sets**0.5)


@pytest.mark.parametrize(("number", "window"), [(2, 4), (3, 20)])
def test_sets_take_as_long_as_geometric_arrivals_need_to_fall_into_one_window(
    number: int, window: int
) -> None:
    """At most one pair in each slot, with probability 0.1; 4 standard errors of both (6e-5)."""
    chance, sets = 0.1, 400
    generator = np.random.default_rng(6)
    found = []
    for _ in range(sets):
        rig = SetRig(number, window)
        slot = 0
        while not rig.gathered:
            slot += int(generator.geometric(chance))
            rig.at(slot)
            rig.arrive()
        found.append(slot)
    mean, error = drawn(chance, number, window, 20_000)
    own = float(np.std(found) / sets**0.5)
    assert abs(np.mean(found) - mean) < 4 * math.hypot(error, own)
    wider, _ = drawn(chance, number, 2 * window, 20_000)
    assert abs(np.mean(found) - wider) > 4 * own, "another window would be noticed"


@pytest.mark.parametrize(("number", "window"), [(2, 300), (2, 3_000), (3, 2_000), (4, 4_000)])
def test_the_time_that_is_promised_for_a_set_is_exact_for_two_pairs_and_none_too_short(
    number: int, window: int
) -> None:
    """Slots of a thousandth of the mean gap are as good as pairs at random."""
    mean, error = drawn(1e-3, number, window, 20_000)
    promised = set_ns(SECOND / 1_000, number, window)
    if number == 2:
        assert abs(mean - promised) < 4 * error + 2e-3 * promised
    assert mean < promised + 4 * error < 2.5 * mean


def test_a_rate_for_a_set_in_time_gives_it_in_that_time() -> None:
    assert rate_for_set(4, 0, SECOND) == pytest.approx(4)
    rate = rate_for_set(3, MILLISECOND, SECOND)
    assert set_ns(rate, 3, MILLISECOND) == pytest.approx(SECOND)
    assert rate > 3, "some pairs are too old"
    assert set_ns(0.0, 2, MILLISECOND) == math.inf
    assert set_ns(1e-9, 5, 1) == math.inf


# --- from end to end ----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([100, 1_000, 10_000]),
    st.floats(0, 0.05),
)
def test_sets_are_handed_over_whole_at_both_ends_in_any_order_of_events(
    seed: int, hops: int, number: int, within_us: int, void: float
) -> None:
    """Over one hop too, where no link would do it by itself."""
    lab = Lab(chain(hops), seed, comm=4, chances=Chances(swap_fails=0.05, void=void))
    names = lab.names
    wanted = {"within_ns": within_us * MICROSECOND, "remaining_ns": 100 * MILLISECOND}
    requests = [lab.create(names[0], names[-1], number, **wanted)]
    if seed % 3 == 0:
        lab.run(seed % 400)
        lab.cancel(names[0] if seed % 2 else names[-1], requests[0])
    lab.finish()
    assert lab.errors == []
    audit(lab)
    for request in requests:
        given_ = [len(lab.users[name, request].pairs) for name in (names[0], names[-1])]
        assert set(given_) <= {0, number} or void, f"in pieces: {given_}"


def test_a_set_over_one_hop_and_over_three_is_served() -> None:
    for hops in (1, 3):
        lab = Lab(chain(hops), 11, comm=3)
        request = lab.create("n0", f"n{hops}", 3, within_ns=20 * MILLISECOND)
        lab.finish()
        audit(lab)
        assert isinstance(ended(lab, "n0", request), RequestDone)
        assert isinstance(ended(lab, f"n{hops}", request), RequestDone)


@pytest.mark.parametrize("atomic", [True, False])
def test_more_pairs_at_once_than_a_memory_holds_are_refused_before_any_is_made(
    atomic: bool,
) -> None:
    lab = Lab(chain(2), 3, comm=2)
    wanted = {"atomic": True} if atomic else {"within_ns": MILLISECOND}
    request = lab.create("n0", "n2", 3, **wanted)
    end = ended(lab, "n0", request)
    assert isinstance(end, RequestEnded)
    assert end.code is ErrorCode.NO_RESOURCES
    assert "room for 2 halves" in end.reason
    assert not lab.links["n0-n1"].created


@pytest.mark.parametrize(
    "wanted",
    [
        {"within_ns": -1},
        {"within_ns": 5, "kind": PairKind.MEASURE},
        {"early": True, "kind": PairKind.PREPARE},
        {"early": True, "within_ns": 5},
        {"early": True, "final_bell": 0},
    ],
)
def test_ways_of_handing_over_that_exclude_each_other_are_refused(wanted: dict[str, Any]) -> None:
    lab = Lab(chain(1), 3)
    end = ended(lab, "n0", lab.create("n0", "n1", 1, **wanted))
    assert isinstance(end, RequestEnded)
    assert end.code is ErrorCode.CREATE

"""Halves that a program measures before it knows of what pair they are."""

from __future__ import annotations

import pytest

from qstack.errors import ErrorCode, RequestFailed
from qstack.programs.early import EarlyReport, measure_early
from qstack.programs.tomography import AXES, correlators, fidelity_of
from qstack.sim import Network
from qstack.testing.parties import terms


def early(network: Network, a: str, b: str, count: int, **changes: float) -> EarlyReport:
    wanted = terms(b, count, **changes)

    async def program(one, other) -> EarlyReport:  # type: ignore[no-untyped-def]  # by the network
        return await measure_early(one, other, wanted)

    return network.run(program, a, b)


@pytest.fixture(scope="module")
def found() -> EarlyReport:
    """400 pairs over two links, each half measured when it came, on one of three axes."""
    return early(Network.load("chain3", seed=5), "alice", "bob", 400)


def test_what_was_read_early_fits_to_the_frames_that_are_told_later(found: EarlyReport) -> None:
    """The measured fidelity is no less than what is told of halves that had waited (4 errors)."""
    assert len(found.pairs) == 400
    value, error = found.fidelity or (0.0, 1.0)
    told = sum(each.info.goodness for each in found.pairs) / 400
    assert value > told - 4 * error
    assert value > 0.5 + 4 * error, "it is entangled"
    assert {each.info.bell for each in found.pairs} == {0, 1, 2, 3}


def test_without_the_frames_nothing_is_left_of_the_pairs(found: EarlyReport) -> None:
    blind = correlators((0, each.axes, each.outcomes) for each in found.pairs)
    for axis in AXES:
        assert abs(blind[axis].value) < 4 * blind[axis].error
    mixed = fidelity_of(blind)
    assert mixed is not None
    assert abs(mixed[0] - 0.25) < 4 * mixed[1]


def test_outcomes_are_there_before_the_notices_at_both_ends(found: EarlyReport) -> None:
    for count, discarded in zip(found.in_advance, found.discarded, strict=True):
        assert count > 0.9 * (400 + discarded)


def test_over_one_link_too_halves_come_first_and_the_notices_later() -> None:
    report = early(Network.load("chain3", seed=6), "alice", "r1", 20)
    assert len(report.pairs) == 20
    assert {each.info.hops for each in report.pairs} == {1}


def test_a_run_that_is_refused_says_so() -> None:
    with pytest.raises(RequestFailed) as refusal:
        early(Network.load("chain3", seed=6), "alice", "bob", 2, fidelity_min=0.99)
    assert refusal.value.code is ErrorCode.UNSUPPORTED

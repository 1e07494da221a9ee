"""Halves that a program measures before it knows of what pair they are."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from qstack.errors import ErrorCode, LocalProtocolError, RequestFailed
from qstack.messages.application import HalfConfirmed, HalfReady
from qstack.messages.common import PairId, PairInfo, Qubit, RequestId
from qstack.programs.early import EarlyReport, measure_early
from qstack.programs.halves import Halves
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


def test_the_run_that_measures_pairs_can_do_so_early_and_says_what_came_of_it() -> None:
    """600 pairs in three requests: as of :func:`found`, with four errors of tolerance."""
    network = Network.load("chain3", seed=7)
    report = network.pairs("alice", "bob", count=600, per_request=200, early=True).found
    assert (report.error, report.delivered, report.complete) == ("", (600, 600), 600)
    assert report.fidelity is not None
    assert report.fidelity_error is not None
    assert report.predicted_fidelity is not None
    assert report.fidelity > report.predicted_fidelity - 4 * report.fidelity_error
    assert report.fidelity > 0.5 + 4 * report.fidelity_error, "it is entangled"
    assert {name for name, count in report.bells if count} == {"Phi+", "Phi-", "Psi+", "Psi-"}
    # Axes are drawn at each end by itself: a third agrees, 200 of 600 (sigma 11.5).
    same = sum(each.axes[0] == each.axes[1] for each in report.records)
    assert abs(same - 200) < 4 * 11.5
    assert report.used == same
    assert report.in_advance is not None
    assert report.discarded is not None
    for count, discarded in zip(report.in_advance, report.discarded, strict=True):
        assert 0.9 * (600 + discarded) < count <= 600 + discarded
    plain = network.pairs("alice", "bob", count=20).found
    assert plain.in_advance is plain.discarded is None


def test_halves_are_early_only_where_they_are_kept_and_come_one_by_one() -> None:
    network = Network.load("chain3", seed=7)
    for kind, within_s in (("measure", 0.0), ("prepare", 0.0), ("keep", 1e-3)):
        with pytest.raises(LocalProtocolError, match="early is for kept pairs"):
            network.pairs("alice", "bob", count=2, kind=kind, within_s=within_s, early=True)


def test_a_half_that_cannot_be_read_voids_its_pair_when_that_is_told() -> None:
    """Whether the reading fails before the notice or after it."""

    class Blind:
        async def measure(self, qubit: Any, plan: Any) -> Any:
            raise RequestFailed(ErrorCode.OTHER, "no readout")

    request, pair = RequestId("alice", 1, 1), PairId("l", 2, 3)
    half, qubit = PairId("m", 2, 4), Qubit(0, 1)
    ready = HalfReady(request, "bob", 0, half, qubit)
    info = PairInfo(pair, 3, 1, "a", 0.9, 0.8, 5, 0, True)
    notice = HalfConfirmed(request, "bob", 0, info, half, qubit)
    node: Any = Blind()
    for first in (True, False):
        halves = Halves()
        if first:
            trio.run(halves.measure, node, ready)
        assert halves.settled(half) is None
        halves.confirm(notice, 7)
        if not first:
            assert halves.settled(half) is None
            trio.run(halves.measure, node, ready)
        assert halves.settled(half) == (info, None, 7)
        assert halves.in_advance == first

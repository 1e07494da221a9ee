"""End-to-end pairs over shipped networks of repeaters, in virtual time."""

from __future__ import annotations

import pytest

import qstack.sim
from qstack.errors import ErrorCode, RequestFailed


@pytest.mark.parametrize(("network", "hops"), [("chain3", 2), ("chain5", 4)])
def test_the_ends_of_a_chain_share_the_fidelity_that_they_were_told(
    network: str, hops: int
) -> None:
    """400 pairs, 4 standard errors: a false alarm in 16,000 runs, and the seed is fixed.

    What is measured is without the errors of the readouts: both are of the pair itself.
    """
    report = qstack.sim.Network.load(network, seed=3).pairs("alice", "bob", count=400)
    assert (len(report), report.error) == (400, "")
    told, seen, sigma = report.predicted_fidelity, report.fidelity, report.fidelity_error
    assert told is not None
    assert seen is not None
    assert sigma is not None
    assert 0 < sigma < 0.04
    assert abs(seen - told) < 4 * sigma
    assert {record.info.hops for record in report.records} == {hops}
    assert {record.info.bell for record in report.records} == {0, 1, 2, 3}


def test_what_no_way_can_give_is_refused_with_the_best_that_could_be_had() -> None:
    with pytest.raises(RequestFailed, match=r"0\.9900 at hand-over.* at most") as caught:
        qstack.sim.Network.load("chain5", seed=3).pairs("alice", "bob", count=1, fidelity_min=0.99)
    assert caught.value.code is ErrorCode.UNSUPPORTED

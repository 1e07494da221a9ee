"""Pairs of one click, purified against photon loss in the whole stack, with their true states.

Both ends are bright with 0.3: of the heralded pairs 0.71 are Psi, the rest is \\|11>. The
truth of a round is that of density matrices in plain numpy. Samples are compared at 4
standard errors (false alarm 6e-5 each, fixed seeds); sizes are said with each.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from qstack.errors import ErrorCode
from qstack.messages.circuits import Method
from qstack.network.budget import Operations
from qstack.testing.chain_runs import Chain
from qstack.testing.chains import ONE_PHOTON, ChainLab, Segment
from qstack.units import MILLISECOND
from tests.network.test_photon_loss import Click
from tests.network.test_purification import simulated
from tests.whole.test_purified import KEEP, READOUT, WIRE_NS, assert_at_rest, of_purification
from tests.whole.test_purified_links import swapped

BRIGHT = Segment(kind=ONE_PHOTON, efficiency=0.1, alpha=0.3)
DEJMPS = (Method.NESTED_DEJMPS, Method.PUMPED_DEJMPS)

Errors = tuple[float, float, float, float]


def lab(links: int = 1, **changes: Any) -> ChainLab:
    values: dict[str, Any] = {"keep": KEEP, "readout": READOUT, "qubits": 4, "wire_ns": WIRE_NS}
    return ChainLab([BRIGHT] * links, **(values | changes))


def one_round() -> tuple[float, Errors]:
    """How often a pair is kept, and its errors then, by density matrices."""
    click = Click(2 * BRIGHT.weights[2])
    nodes = Operations(KEEP, READOUT), Operations(KEEP, READOUT)
    total = simulated(np.kron(click.state(2), click.state(2)), nodes, False, (3,))
    i, z, x, y = (total[index] / sum(total) for index in (2, 3, 0, 1))
    return sum(total), (i, z, x, y)


def test_a_heralded_pair_of_bright_ends_is_psi_and_both_bright() -> None:
    """Photons of both ends reach one detector or none of the herald's: alpha^2 of them."""
    eta, alpha = 0.1, 0.3
    one, both = 2 * alpha * (1 - alpha) * eta, alpha**2 * (1 - (1 - eta) ** 2)
    assert BRIGHT.weights[0] == pytest.approx(one / (one + both), abs=1e-12)
    assert BRIGHT.tilt == pytest.approx(-both / (one + both), abs=1e-12)


def test_one_round_against_loss_gives_what_no_rounds_of_dejmps_reach() -> None:
    """150 pairs at 0.95 of pairs of 0.71: kept with 0.24."""
    odds, weights = one_round()
    assert weights[0] > 0.95
    refusal = Chain(lab(methods=DEJMPS), seed=31).refusal(0.95)
    assert refusal.code is ErrorCode.UNSUPPORTED
    chain = Chain(lab(), seed=31)
    pairs = chain.ask(150, 0.95)
    chain.settle(100 * MILLISECOND)
    circuit = of_purification(chain)
    assert (circuit["method"], circuit["rounds"]) == ("nested_loss", 1)
    count = circuit["purified"]
    told = count["kept"] + count["unlike"]
    sigma = math.sqrt(odds * (1 - odds) / told)
    assert abs(count["kept"] / told - odds) < 4 * sigma
    theirs = of_purification(chain, "bob")["purified"]
    for what in ("kept", "unlike", "purified"):
        assert theirs[what] == count[what]
    for pair in pairs:
        assert pair.claimed == pytest.approx((weights[0], weights[0]), abs=1e-9)
    true = np.array([pair.fidelity for pair in pairs])
    sigma = math.sqrt(weights[0] * (1 - weights[0]) / len(pairs))
    assert abs(float(true.mean()) - weights[0]) < 4 * sigma
    assert {pair.bell for pair in pairs} == {2, 3}
    assert_at_rest(chain)


def test_rounds_against_loss_on_both_links_come_before_their_swap() -> None:
    """60 pairs at 0.85 over two links of 0.71, whose swap alone leaves 0.54."""
    _, weights = one_round()
    expected = swapped(weights, weights)[0]
    assert expected > 0.85
    chain = Chain(lab(2), seed=32)
    pairs = chain.ask(60, 0.85)
    circuit = of_purification(chain, "r1")
    assert circuit["method"] == "none"
    assert {hop["method"] for hop in circuit["hops"].values()} == {"nested_loss"}
    for pair in pairs:
        assert pair.claimed == pytest.approx((expected, expected), abs=1e-9)
    true = np.array([pair.fidelity for pair in pairs])
    sigma = math.sqrt(expected * (1 - expected) / len(pairs))
    assert abs(float(true.mean()) - expected) < 4 * sigma
    assert_at_rest(chain)

"""Chains of repeaters against formulas and the slot model, with thousands of pairs.

python -m tests.simulate.chains --pairs 2000      every case on all cores; exit code 1 for a failure

The cases are those of tests/whole/test_chain_fidelity.py and test_chain_waits.py, which compare
fewer pairs. A mean fails that is more than 4 standard errors away from what is expected, by chance
one in 16,000; a wrong Bell index in every second pair would be hundreds away.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence

import numpy as np

from qstack.testing.chain_runs import fidelity_to
from tests.whole.chain_cases import (
    CUT,
    CUT_AFTER,
    DRAWN,
    FADING,
    expected,
    in_rounds,
    mixed,
    with_cutoff_rounds,
    without_decay,
)
from tests.whole.chain_models import off, slots_for_all, with_cutoff

NODES = (2, 3, 5, 9)
MOST = 4.0

Line = tuple[str, float, float, float]
"""What was compared, the mean, what was expected, and how many standard errors lie between."""


def pooled(nodes: int, count: int) -> list[Line]:
    """Without decay: all Bell indices together, and each end's claims; then a wrong composition."""
    pairs = without_decay(nodes, count, diagonal=False)
    formula = expected(mixed(nodes - 1))
    true = np.array([pair.fidelity for pair in pairs])
    wrong = np.array([fidelity_to(pair.state, pair.bell ^ 1) for pair in pairs])
    if abs(wrong.mean() - formula) < 0.5:
        raise AssertionError("a wrong Bell index makes no difference")
    # Pairs are alike but for the last digits where all links are of one kind.
    away = 0.0 if abs(true.mean() - formula) < 1e-12 else off(true, formula)
    claims = np.array([pair.claimed for pair in pairs])
    told = 0.0 if np.abs(claims - formula).max() < 1e-9 else np.inf
    name = f"{nodes} nodes without decay"
    return [
        (f"{name}: fidelity", float(true.mean()), formula, away),
        (f"{name}: claims", float(claims.mean()), formula, told),
    ]


def faded(nodes: int, count: int) -> list[Line]:
    """With decay: fidelity by the slot model, cycles by the exact mean of the largest."""
    rounds = in_rounds(nodes, count)
    model = FADING[nodes].model().fidelity
    true = np.array([each.pair.fidelity for each in rounds])
    cycles = np.array([each.cycles for each in rounds])
    mean, slots = float(model.mean()), slots_for_all(FADING[nodes].physics.success)
    error = float(model.std()) / DRAWN**0.5
    name = f"{nodes} nodes with decay"
    return [
        (f"{name}: fidelity", float(true.mean()), mean, off(true, mean, error)),
        (f"{name}: cycles", float(cycles.mean()), slots, off(cycles, slots)),
    ]


def cut(nodes: int, count: int) -> list[Line]:
    """Two links with a cutoff, by the closed forms."""
    rounds = with_cutoff_rounds(count)
    true = np.array([each.pair.fidelity for each in rounds])
    cycles = np.array([each.cycles for each in rounds])
    mean, (slots, _) = CUT.fidelity(CUT_AFTER), with_cutoff(0.1, CUT_AFTER, 1.0)
    name = f"{nodes} nodes with a cutoff"
    return [
        (f"{name}: fidelity", float(true.mean()), mean, off(true, mean)),
        (f"{name}: cycles", float(cycles.mean()), slots, off(cycles, slots)),
    ]


KINDS = {"pooled": pooled, "faded": faded, "cut": cut}


def _case(case: tuple[str, int, int]) -> list[Line]:
    kind, nodes, count = case
    return KINDS[kind](nodes, count)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all cases; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=2_000, help="pairs of each chain")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    cases = [("faded", nodes, asked.pairs) for nodes in (9, 5, 4, 3)]
    cases += [("cut", 3, asked.pairs)]
    cases += [("pooled", nodes, asked.pairs) for nodes in reversed(NODES)]
    failed = 0
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        for lines in pool.imap_unordered(_case, cases):
            for name, mean, wanted, away in lines:
                verdict = "ok" if away < MOST else "FAILED"
                failed += verdict != "ok"
                print(f"{name}: {mean:.5f}, expected {wanted:.5f}, {away:.2f} off: {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

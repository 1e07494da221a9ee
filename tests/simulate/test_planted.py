"""Bugs that others had, planted into our machines, are found at the seeds that found them first.

``python -m tests.simulate --bugs`` looks for them anew, within 2,000 seeds each.
"""

from __future__ import annotations

import pytest

from qstack.testing.judge import Checker
from qstack.testing.scenario import draw
from qstack.testing.swarm import Run, run
from tests.simulate.planted import BUGS, FOUND, MOST_SEEDS, planted

PITFALLS = (1, 2, 5, 6, 8, 9, 10, 13, 15, 16, 26, 36)
"""Of the notes on protocol sources, section 5."""


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_planted_bug_is_found_and_the_same_seed_is_clean_without_it(name: str) -> None:
    seed, checker = FOUND[name]
    assert seed < MOST_SEEDS
    with planted(name):
        result = run(draw(seed))
    assert (result.checker, bool(result.problem)) == (checker, True)
    assert not run(draw(seed)).checker


def test_every_pitfall_that_this_stack_can_have_is_planted() -> None:
    assert set(FOUND) == set(BUGS)
    for number in PITFALLS:
        assert any(name.startswith(f"pitfall_{number}_") for name in BUGS), number


def test_every_checker_of_a_run_has_a_planted_bug_that_it_finds() -> None:
    """But for those that only keep books for others."""
    books = {"Ledger", "Origins"}
    checkers: tuple[Checker, ...] = Run(draw(0)).checkers
    judging = {type(checker).__name__ for checker in checkers} - books
    assert judging <= {checker for _, checker in FOUND.values()}

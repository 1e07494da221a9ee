"""Bugs of end-to-end pairs, planted into our machines, are found at the seeds that found them."""

from __future__ import annotations

import pytest

from qstack.testing.judge import Checker
from qstack.testing.routes import RouteRun, run
from qstack.testing.routes_scenario import draw
from tests.simulate.routes_planted import BUGS, FOUND, MOST_SEEDS, planted

PITFALLS = (10, 12, 14, 15, 37)
"""Of the notes on protocol sources, section 5. A half-open install (22) is healed unseen."""


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_planted_bug_of_circuits_is_found_and_the_same_seed_is_clean_without_it(
    name: str,
) -> None:
    seed, checker = FOUND[name]
    assert seed < MOST_SEEDS
    with planted(name):
        result = run(draw(seed))
    assert (result.checker, bool(result.problem)) == (checker, True)
    assert not run(draw(seed)).checker


def test_every_pitfall_that_circuits_can_have_is_planted() -> None:
    assert set(FOUND) == set(BUGS)
    for number in PITFALLS:
        assert any(name.startswith(f"pitfall_{number}_") for name in BUGS), number


def test_the_checkers_of_states_lists_ends_and_leftovers_each_find_a_planted_bug() -> None:
    checkers: tuple[Checker, ...] = RouteRun(draw(0)).checkers
    names = {type(checker).__name__ for checker in checkers}
    wanted = {"RouteStates", "RouteSamePairs", "RouteBaseline", "RouteOutcomes"}
    assert wanted <= names
    assert wanted <= {checker for _, checker in FOUND.values()}

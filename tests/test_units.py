"""Chance: copies, forks, and the law of its skip-ahead."""

from __future__ import annotations

import math

from qstack.units import Chance


def test_copies_draw_the_same_numbers_and_do_not_disturb_each_other() -> None:
    chance = Chance(7)
    chance.uniform()
    twin = chance.copy()
    assert [chance.uniform() for _ in range(5)] == [twin.uniform() for _ in range(5)]


def test_forks_depend_on_seed_and_name_alone() -> None:
    used = Chance(7)
    used.bits(64)
    assert used.fork("a").bits(64) == Chance(7).fork("a").bits(64)
    assert Chance(7).fork("a").bits(64) != Chance(7).fork("b").bits(64)
    assert Chance(7).fork("a").bits(64) != Chance(8).fork("a").bits(64)


def test_failures_before_success_follow_the_geometric_law() -> None:
    """N = 40,000 draws at p = 0.2; mean 4 and P(0) = 0.2 within 5 standard errors (6e-7)."""
    chance = Chance(3)
    draws = [chance.failures(0.2) for _ in range(40_000)]
    deviation = math.sqrt(0.8) / 0.2 / math.sqrt(len(draws))
    assert abs(sum(draws) / len(draws) - 4.0) < 5 * deviation
    assert abs(draws.count(0) / len(draws) - 0.2) < 5 * math.sqrt(0.2 * 0.8 / len(draws))


def test_certain_success_has_no_failures_before_it() -> None:
    assert Chance(1).failures(1.0) == 0


def test_boot_ids_are_64_bits_and_never_zero() -> None:
    chance = Chance(5)
    ids = {chance.boot_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(0 < boot < 1 << 64 for boot in ids)

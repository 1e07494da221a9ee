"""Cutoffs of few slots against chains that are played slot by slot, with nothing of ours."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pytest

from qstack.network.budget import ETERNAL, Storage, mean_fading
from qstack.network.meeting import meeting_rate, waiting
from qstack.network.routing import Query, route
from qstack.network.topology import graph_of
from tests.network.test_routing import database, offer

SLOT_NS = 100_000
SLOT_S = SLOT_NS * 1e-9


def played(chances: list[float], kept: int, slots: int, seed: int) -> tuple[int, float, list[int]]:
    """Play a chain; return what was delivered, the standard error of that, and waits in slots.

    Each link attempts in every slot in which both its qubits are free. Neighbouring pairs are
    swapped at once. A half between the ends that waited `kept` slots is discarded at the end of
    the slot, with all that it leads to. What joins all links is delivered. Waits: of the older of
    two that are swapped.
    """
    generator = np.random.default_rng(seed)
    draws = generator.random((slots, len(chances)))
    last = len(chances) - 1
    parts: list[tuple[int, int, int, int]] = []  # first link, last link, age of either end
    times, waits = [], []
    for now in range(slots):
        taken = {part[0] for part in parts}, {part[1] for part in parts}
        for link, chance in enumerate(chances):
            if link not in taken[0] and link not in taken[1] and draws[now, link] < chance:
                parts.append((link, link, now, now))
        parts.sort()
        place = 0
        while place + 1 < len(parts):
            one, other = parts[place], parts[place + 1]
            if one[1] + 1 == other[0]:
                waits.append(now - min(one[3], other[2]))
                parts[place : place + 2] = [(one[0], other[1], one[2], other[3])]
            else:
                place += 1
        if parts and parts[0][:2] == (0, last):
            times.append(now)
            parts = []
        parts = [
            part
            for part in parts
            if (part[0] == 0 or now - part[2] < kept) and (part[1] == last or now - part[3] < kept)
        ]
    gaps = np.diff(times)
    error = float(gaps.std(ddof=1) / gaps.mean() / math.sqrt(len(gaps))) * len(times)
    return len(times), error, waits


@pytest.mark.parametrize(
    ("chances", "kept"), [((0.1, 0.1), 1), ((0.1, 0.3), 2), ((0.5, 0.2), 3), ((0.05, 0.05), 10)]
)
def test_two_links_meet_as_often_as_when_they_are_played(
    chances: tuple[float, float], kept: int
) -> None:
    """4 standard errors, of some thousand pairs: false alarm 6e-5 each (fixed seed)."""
    slots = 40_000
    delivered, error, waits = played(list(chances), kept, slots, seed=3)
    cutoff = kept * SLOT_NS + SLOT_NS // 2
    one, other = (chance / SLOT_S for chance in chances)
    expected = meeting_rate(one, other, cutoff, SLOT_NS) * SLOT_S * slots
    assert abs(delivered - expected) < 4 * error
    # As if time were continuous it is something else by far, but for many slots.
    if kept < 10:
        assert abs(delivered - meeting_rate(one, other, cutoff) * SLOT_S * slots) > 4 * error
    # A wait is a whole slot at least where there is one; those of equal links are alike.
    if chances[0] == chances[1]:
        held = Storage(0, 5 * SLOT_NS)
        faded = np.array([math.exp(-wait / 5) for wait in waits if wait])
        mean = waiting(held, one, cutoff, SLOT_NS)[0]
        assert abs(faded.mean() - mean) < 4 * faded.std() / math.sqrt(len(faded)) + 1e-9


@pytest.mark.parametrize(("links", "chance", "kept"), [(3, 0.3, 2), (4, 0.3, 2), (4, 0.2, 1)])
def test_chains_with_a_cutoff_of_few_slots_deliver_what_is_promised(
    links: int, chance: float, kept: int
) -> None:
    """Labels take parts as made at random, and nothing ahead: 5 % below, and up to 15 above."""
    slots = 30_000
    delivered, error, _ = played([chance] * links, kept, slots, seed=4)
    names = ["alice", *(f"r{k}" for k in range(1, links)), "bob"]
    promised = []
    for slot_ns in (SLOT_NS, 0):
        plain: Any = offer(chance / SLOT_S, 0.99)
        made = attrs.evolve(plain, slot_ns=slot_ns)
        graph = graph_of(database(*((a, b, made) for a, b in pairwise(names))))
        query = Query("alice", "bob", cutoff_ns=kept * SLOT_NS + SLOT_NS // 2)
        found = route(graph, query)
        assert found is not None
        promised.append(found.rate_hz * SLOT_S * slots)
    assert 0.95 * promised[0] - 4 * error < delivered < 1.15 * promised[0] + 4 * error
    assert delivered > 1.25 * promised[1]


def test_a_pair_at_the_very_end_of_a_cutoff_is_late_and_its_qubit_misses_a_slot() -> None:
    rate = 0.25 / SLOT_S
    between, whole = (
        meeting_rate(rate, rate, cutoff, SLOT_NS) for cutoff in (3 * SLOT_NS // 2, 2 * SLOT_NS)
    )
    some, alone = 0.4375, 2 * 0.25 * 0.75 / 0.4375
    kept = 0.0625 / some + alone * 0.25
    assert between == pytest.approx(kept / (1 / some + alone) / SLOT_S)
    assert whole == pytest.approx(kept / (1 / some + alone * (1 + 0.75)) / SLOT_S)
    assert meeting_rate(rate, rate, SLOT_NS, SLOT_NS) == 0


def test_a_cutoff_of_many_slots_is_as_if_time_were_continuous() -> None:
    rate, cutoff = 0.001 / SLOT_S, 2_000 * SLOT_NS
    assert meeting_rate(rate, rate, cutoff, SLOT_NS) == pytest.approx(
        meeting_rate(rate, rate, cutoff), rel=2e-3
    )
    held = Storage(0, 700 * SLOT_NS)
    assert waiting(held, rate, cutoff, SLOT_NS) == mean_fading(held, rate, cutoff)
    assert waiting(ETERNAL, rate, 2 * SLOT_NS, SLOT_NS) == (1.0, 1.0, 1.0)


def test_what_is_discarded_costs_until_its_other_end_has_heard_of_it() -> None:
    rate, cutoff = 0.1 / SLOT_S, 5 * SLOT_NS // 2
    for slot_ns in (SLOT_NS, 0):
        free, slow = (
            1 / meeting_rate(rate, rate, cutoff, slot_ns, (back, back)) for back in (0, 10**6)
        )
        in_time = 1 - 0.9**2 if slot_ns else 1 - math.exp(-0.25)
        first = 2 * 0.1 * 0.9 / 0.19 if slot_ns else 1.0
        kept = 1 - first * (1 - in_time)
        assert slow - free == pytest.approx(first * (1 - in_time) * 1e-3 / kept)

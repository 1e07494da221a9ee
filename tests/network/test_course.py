"""What a course is worth later, and how long pairs may wait on it: by closed forms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import attrs
import pytest

from qstack.errors import ErrorCode
from qstack.messages.network import RouteUpdate
from qstack.network.budget import ETERNAL, Storage
from qstack.network.course import LEAST_PATIENCE, PATIENCE, Course, Promise, choose, patience
from qstack.network.moving import broken_by, stands_for
from qstack.network.topology import graph_of
from qstack.units import MILLISECOND, SECOND
from tests.network.flood_lab import node_metric
from tests.network.test_routing import database, offer

T2_NS = SECOND
RATE = 1e4
NAMES = ["alice", "r1", "r2", "r3", "bob"]


Said = dict[str, RouteUpdate]


def said(latency_ns: int, turn_ns: int = 0, storage: Storage | None = None) -> Said:
    """Four links of perfect pairs; messages take so long."""
    storage = storage or Storage(0, T2_NS)
    updates = database(*((a, b, offer(RATE, 1.0)) for a, b in pairwise(NAMES)))
    memory = {"t1_ns": storage.t1_ns, "t2_ns": storage.t2_ns}
    for name, update in updates.items():
        whole: Any = update
        links = tuple(
            attrs.evolve(link, latency_ns=latency_ns, turn_ns=turn_ns) for link in whole.links
        )
        updates[name] = attrs.evolve(whole, node=node_metric(**memory), links=links)
    return updates


def course_of(made: Said, fidelity_min: float) -> Course:
    found = choose(graph_of(made), "alice", Promise("bob", fidelity_min, False), 0.0)
    assert isinstance(found, Course)
    return found


def aged(course: Course, ages_ns: float) -> float:
    """Perfect links, so that X and Y alone fade: F = (1 + phase) / 2."""
    phase = 2 * course.route.fidelity - 1
    return (1 + phase * math.exp(-ages_ns / T2_NS)) / 2


def test_a_way_stands_for_what_it_did_while_messages_are_no_slower() -> None:
    course = course_of(said(MILLISECOND, MILLISECOND), 0.9)
    for latency_ns, turn_ns in ((MILLISECOND, MILLISECOND), (0, 0)):
        now = said(latency_ns, turn_ns)
        assert stands_for(now, course) == pytest.approx(course.route.fidelity)
        assert broken_by(now, course, Promise("bob", 0.9, False)) is None


def test_slower_messages_age_both_ends_and_what_is_made_ahead_and_slower_turns_all_links() -> None:
    course = course_of(said(MILLISECOND, MILLISECOND), 0.9)
    now = said(21 * MILLISECOND, 4 * MILLISECOND)
    # 20 ms more on each of four links for four halves; 3 ms more for those that are made
    # ahead, and for both halves of each link.
    ages = (4 * 4 * 20 + 2 * 3 + 4 * 2 * 3) * MILLISECOND
    stands = stands_for(now, course)
    assert stands == pytest.approx(aged(course, ages))
    verdict = broken_by(now, course, Promise("bob", 0.9, False))
    assert verdict is not None
    assert verdict.code is ErrorCode.UNSUPPORTED
    assert f"{stands:.4f}" in verdict.reason
    assert broken_by(now, course, Promise("bob", stands, False)) is None


def test_a_way_of_which_a_link_is_gone_is_not_judged_by_its_latency() -> None:
    course = course_of(said(MILLISECOND), 0.9)
    now = said(SECOND)
    down: Any = now["r1"]
    links = tuple(attrs.evolve(link, up=link.peer != "r2") for link in down.links)
    now["r1"] = attrs.evolve(down, links=links)
    assert broken_by(now, course, Promise("bob", 0.9, False)) is None
    assert broken_by(said(SECOND), course, Promise("bob", 0.9, False)) is not None


# --- patience ------------------------------------------------------------------------------


def turn_of(course: Course) -> float:
    return SECOND / course.route.rate_hz + 2 * course.route.latency_ns


def test_where_nothing_fades_pairs_wait_for_many_others() -> None:
    made = said(MILLISECOND, storage=ETERNAL)
    course = course_of(made, 0.9)
    assert patience(graph_of(made), course) == pytest.approx(PATIENCE * turn_of(course), rel=1e-5)


def test_pairs_wait_no_longer_than_the_promise_holds_if_all_of_them_did() -> None:
    made = said(MILLISECOND // 10)
    full = course_of(made, 0.5).route.fidelity
    course = course_of(made, full - 0.04)
    found = patience(graph_of(made), course)
    turn = turn_of(course)
    assert LEAST_PATIENCE * turn < found < PATIENCE * turn
    # Three nodes between: all halves together wait six times a cutoff at most. Half of what the
    # course has to spare is left for links that turn out worse.
    assert aged(course, 6 * found) == pytest.approx(full - 0.02, abs=1e-6)


def test_a_promise_with_nothing_to_spare_still_waits_for_a_few_pairs() -> None:
    made = said(MILLISECOND)
    course = course_of(made, course_of(made, 0.5).route.fidelity - 1e-6)
    assert course.cutoff_ns == 0
    assert patience(graph_of(made), course) == pytest.approx(
        LEAST_PATIENCE * turn_of(course), rel=1e-5
    )

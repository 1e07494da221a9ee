"""While a heap turns Python looks for cyclic garbage less often; afterwards as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from qstack.machine import TICK
from qstack.sim import Network
from qstack.sim.garbage import OBJECTS, SELDOM_COLLECTED
from qstack.sim.heap import EventHeap, Wire
from qstack.units import Chance


@pytest.fixture(autouse=True)
def former() -> Iterator[tuple[int, int, int]]:
    """The thresholds that a program has chosen, which no other test shares."""
    outside = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    yield gc.get_threshold()
    gc.set_threshold(*outside)


class Watcher:
    """Notes the thresholds at its step, and may fail."""

    deadline = None

    def __init__(self, fails: bool) -> None:
        self.seen = (0, 0, 0)
        self._fails = fails

    def handle(self, event: Any, now: int) -> list[Any]:
        self.seen = gc.get_threshold()
        if self._fails:
            raise ValueError("as a bug does")
        return []


@pytest.mark.parametrize("fails", [False, True])
def test_a_turning_heap_is_seldom_searched_and_what_held_before_holds_afterwards(
    fails: bool, former: tuple[int, int, int]
) -> None:
    heap, watcher = EventHeap(Chance(1), Wire(1_000)), Watcher(fails)
    heap.add("watcher", watcher)
    heap.post("watcher", TICK)
    if fails:
        with pytest.raises(ValueError, match="as a bug does"):
            heap.run()
    else:
        heap.run()
    assert watcher.seen == (OBJECTS, 11, 12)
    assert gc.get_threshold() == former


def test_blocks_may_overlap_and_the_last_one_restores(former: tuple[int, int, int]) -> None:
    with SELDOM_COLLECTED:
        with SELDOM_COLLECTED:
            pass
        assert gc.get_threshold()[0] == OBJECTS
    assert gc.get_threshold() == former


@pytest.mark.parametrize("chosen", [0, OBJECTS + 1])
def test_who_collects_more_seldom_or_not_at_all_is_left_alone(chosen: int) -> None:
    gc.set_threshold(chosen, 11, 12)
    with SELDOM_COLLECTED:
        assert gc.get_threshold()[0] == chosen
    assert gc.get_threshold()[0] == chosen


def test_it_holds_for_the_programs_of_a_network_too(former: tuple[int, int, int]) -> None:
    seen = []

    async def program(node: Any) -> None:
        await node.status()
        seen.append(gc.get_threshold()[0])

    Network.load("two_nodes", seed=1).run(program, "alice")
    assert seen == [OBJECTS]
    assert gc.get_threshold() == former

"""Links of a row of nodes that work at once: how long until all of them have a pair.

Physics notes, 1.4 and case O15: with n links of success probability p the number of slots until
the last one has succeeded has the mean ``sum_k C(n, k) (-1)^(k+1) / (1 - (1 - p)^k)``; 14.736842
for two links of p = 0.1, 20.273378 for four of them, 91.246913 for three of p = 0.02. Through the
full stack: repeaters with a memory for each of their links, each pair kept until all are there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from qstack.application.service import Node, Request
from qstack.machine import Up
from qstack.messages.application import PairReady
from qstack.messages.devices import StationClicks
from qstack.sim import Network
from qstack.sim.heap import WORLD
from qstack.testing import terms
from qstack.units import MILLISECOND
from tests.sim.generated import Hardware, chain_text, network_of


def expected_slots(links: int, p: float) -> tuple[float, float]:
    """Mean and standard deviation of the last of so many geometric waits: sums of their tail."""
    slots = np.arange(round(60 / p))
    tail = 1 - (1 - (1 - p) ** slots) ** links
    mean = float(tail.sum())
    return mean, math.sqrt(float(((2 * slots + 1) * tail).sum()) - mean**2)


class Row:
    """A row of nodes, whose links are asked for a pair each, round by round.

    `heralds`: the cycles in which each link succeeded. All clocks began at the same instant.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.heralds: dict[str, list[int]] = defaultdict(list)
        network.virtual.heap.watch = self._watch

    def _watch(self, name: str, event: Any, now: int, actions: list[Any]) -> None:
        if name != WORLD:
            return
        for action in actions:
            body = action.event.body if type(action) is Up else None
            if type(body) is StationClicks:
                self.heralds[body.link].append(body.cycle)

    def play(self, rounds: int) -> None:
        """Let every link make a pair, and free all when all are there, so many times."""
        self.network.run(lambda *nodes: self._program(nodes, rounds), *self.network.nodes)

    async def _program(self, nodes: tuple[Node, ...], rounds: int) -> None:
        incoming = [aiter(await node.listen(0)) for node in nodes[1:]]
        for _ in range(rounds):
            held: list[tuple[Node, Any]] = []

            async def ask(place: int, held: list[tuple[Node, Any]] = held) -> None:
                left, right = nodes[place], nodes[place + 1]
                request: Request = await left.create_keep(terms(right.name, 1))
                async for pair in request:
                    assert isinstance(pair, PairReady)
                    held.append((left, pair.qubit))
                other = await anext(incoming[place])
                assert isinstance(other, PairReady)
                held.append((right, other.qubit))

            async with trio.open_nursery() as nursery:
                for place in range(len(nodes) - 1):
                    nursery.start_soon(ask, place)
            assert len(held) == 2 * (len(nodes) - 1)
            for node, qubit in held:
                await node.free(qubit)


@pytest.mark.parametrize(
    ("links", "p", "mean", "rounds"),
    [(2, 0.1, 14.736842, 400), (4, 0.1, 20.273378, 250), (3, 0.02, 91.246913, 300)],
)
def test_the_last_of_many_links_has_its_pair_after_the_slots_of_the_closed_form(
    links: int, p: float, mean: float, rounds: int, tmp_path: Path
) -> None:
    """Four standard errors of the mean (false alarm 6e-5), and of the share within the mean.

    All that the nodes say between two rounds is said within a cycle: a round begins in the cycle
    after the one in which the round before it ended, so that cycle numbers alone count the slots.
    """
    expected, deviation = expected_slots(links, p)
    assert expected == pytest.approx(mean, abs=1e-6)
    efficiency = math.sqrt(2 * p)
    hardware = Hardware("polarisation", 0.5, (efficiency, efficiency), cycle_ns=MILLISECOND)
    row = Row(network_of(tmp_path, chain_text(links + 1, hardware), seed=links))
    row.play(rounds + 1)
    heralds = np.array([row.heralds[f"l{number}"] for number in range(links)])
    assert heralds.shape == (links, rounds + 1)
    slots = np.diff(heralds.max(axis=0))
    assert (heralds.min(axis=0)[1:] > heralds.max(axis=0)[:-1]).all(), "rounds are apart"
    assert slots.mean() == pytest.approx(expected, abs=4 * deviation / math.sqrt(rounds))
    within = (1 - (1 - p) ** round(mean)) ** links
    error = math.sqrt(within * (1 - within) / rounds)
    assert (slots <= round(mean)).mean() == pytest.approx(within, abs=4 * error)

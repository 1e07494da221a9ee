"""Print the hash of everything that happens in some runs of the swarm; run by test_one_history."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

from qstack.sim.network import VirtualNetwork
from qstack.testing.scenario import draw
from qstack.testing.swarm import run

SEEDS = range(40, 46)


def history(seed: int) -> str:
    """Return the hash over the true instant, the host, its own time, its event and its actions."""
    digest = hashlib.sha256()

    def attach(net: VirtualNetwork) -> None:
        judge = net.heap.watch

        def watch(name: str, event: Any, now: int, actions: list[Any]) -> None:
            digest.update(repr((net.heap.now, name, now, event, actions)).encode())
            if judge is not None:
                judge(name, event, now, actions)

        net.heap.watch = watch

    result = run(draw(seed), attach)
    digest.update(repr((result.checker, result.delivered, result.steps)).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    print(*(history(int(seed)) for seed in sys.argv[1:]))

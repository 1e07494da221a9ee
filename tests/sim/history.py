"""Print the hash of all that happens in a two-node network under faults; run by test_history.

The hash is over the true instant, the host, its own time, and the printed events and actions, so
that nothing escapes it that anybody could see.
"""

from __future__ import annotations

import hashlib
import sys

from qstack.sim.faults import KINDS
from qstack.sim.playing import play
from qstack.sim.schedule import draw
from qstack.testing import terms
from qstack.units import MILLISECOND
from tests.whole.rig import Rig


def history(seed: int) -> tuple[str, int]:
    """Return the hash of a run under faults of every kind, and how many pairs it delivered."""
    rig = Rig(seed=seed)
    digest = hashlib.sha256()
    rig.heap.watch = lambda *step: digest.update(repr((rig.heap.now, *step)).encode())
    play(rig.net, draw(seed, KINDS, rig.net.places, 60 * MILLISECOND))
    for _ in range(4):
        rig.alice.keep(terms("bob", 10))
        rig.bob.keep(terms("alice", 10))
        rig.settle(30 * MILLISECOND)
    counts = (rig.heap.steps, rig.heap.entries, rig.heap.frames, rig.heap.wires)
    digest.update(repr(counts).encode())
    return digest.hexdigest(), len(rig.alice.pairs)


if __name__ == "__main__":
    print(*history(int(sys.argv[1])))

"""A ring of nodes in one process, every neighbouring pair of them busy: memory, cost of a pair.

``python -m tests.benchmarks.ring NODES PAIRS TIMES`` measures in a process of its own, and prints
JSON; with two nodes there is one link between them. The network is what ``qstack topology ring``
writes, with four memories at each end of each link. So many pairs of all links are asked for at the
same instant, that often; before that each link has made a few, so that tables which are made once
are not counted. Two nodes make theirs by requests of as many pairs as those of the ring: a request
costs something too, which many pairs would share.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from qstack_nodes.network_text import Look, network_text
from qstack_nodes.topology import chain, ring

from qstack.config import link_parameters, load
from qstack.machine import record
from qstack.sim.from_file import world_parameters
from qstack.sim.network import VirtualNetwork
from qstack.testing import Party, terms
from qstack.units import MILLISECOND, SECOND
from tests.benchmarks.table import Figure

NODES, PAIRS = 1_000, 30
MEMORY_MB, RATIO = 1_000.0, 1.5
QUBITS = 4
WARM_UP = 10

_LIMIT_NS = 1_000 * SECOND


@record
class Busy:
    """What a network of busy links costs: `start_s` and `pair_us` of processor time.

    Until the start is over every node has heard of every other.
    """

    nodes: int
    start_s: float
    pair_us: float
    entries: float
    peak_mb: float


class _Ring:
    """The network and a scripted user at each node."""

    def __init__(self, nodes: int, folder: Path) -> None:
        shape = chain(2, 2.0) if nodes == 2 else ring(nodes, 2.0)
        path = folder / "ring.toml"
        text = network_text(shape, Look("ring", "A ring", "a benchmark", QUBITS, 2_000))
        path.write_text(text, encoding="utf-8")
        file = load(str(path))
        links = [link_parameters(file, link.name) for link in file.links]
        self.network = VirtualNetwork(links, world_parameters(file), seed=1)
        self.heap = self.network.heap
        self._ends = [tuple(end.node for end in link.ends) for link in links]
        self._users: dict[str, Party] = {}
        for name in sorted({name for ends in self._ends for name in ends}):
            user = self._users[name] = Party(self.heap, f"user-{name}", name)
            self.network.user(user.name, [name], user.listen)
        self.heap.run(50 * MILLISECOND)
        for user in self._users.values():
            user.accept()
        self.heap.run(self.heap.now + 5 * MILLISECOND)
        known = min(len(self.network.host(n).network.flood.database) for n in self._users)
        if known < nodes:
            raise RuntimeError(f"somebody has heard of {known} nodes of {nodes} when all are up")
        self._asked = 0

    @property
    def links(self) -> int:
        """How many links there are."""
        return len(self._ends)

    def pairs(self, number: int) -> None:
        """Let every link make so many pairs, all at once."""
        for one, other in self._ends:
            self._users[one].keep(terms(other, number))
        self._asked += self.links
        self._turns = 0
        self.heap.run(self.heap.now + _LIMIT_NS, stop=self._stop, max_steps=10**9)
        if self._ended() < 2 * self._asked:
            raise RuntimeError(f"{self._ended()} of {2 * self._asked} reports in an hour")

    def _stop(self) -> bool:
        self._turns += 1
        # As seldom as there are nodes to look at: it costs the same in a network of any size.
        return self._turns % len(self._users) == 0 and self._ended() == 2 * self._asked

    def _ended(self) -> int:
        return sum(len(user.done) for user in self._users.values())


def busy(nodes: int, pairs: int, times: int) -> Busy:
    """Measure here and now; the peak is that of the whole process."""
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        network = _Ring(nodes, Path(folder))
    started = time.process_time()
    network.pairs(WARM_UP)
    entries, warm = network.heap.entries, time.process_time()
    for _ in range(times):
        network.pairs(pairs)
    ended, total = time.process_time(), network.links * pairs * times
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Busy(
        nodes,
        started - begun,
        (ended - warm) / total * 1e6,
        (network.heap.entries - entries) / total,
        # Kilobytes on Linux, bytes on macOS.
        peak / (1e6 if sys.platform == "darwin" else 1e3),
    )


def apart(nodes: int, pairs: int, times: int) -> Busy:
    """Measure in a process of its own."""
    command = (sys.executable, "-m", "tests.benchmarks.ring")
    words = (str(nodes), str(pairs), str(times))
    told = subprocess.run((*command, *words), check=True, stdout=subprocess.PIPE, text=True)
    return Busy(**json.loads(told.stdout))


def figures(nodes: int = NODES, pairs: int = PAIRS) -> Iterator[Figure]:
    """Yield memory and cost of a ring, beside two nodes measured before and after it."""
    times = max(1, nodes // 10)
    before, many, after = apart(2, pairs, times), apart(nodes, pairs, 1), apart(2, pairs, times)
    two = (before.pair_us + after.pair_us) / 2
    ring_of = f"ring of {nodes:,} nodes"
    yield Figure(f"{ring_of}: peak memory", many.peak_mb, "MB", MEMORY_MB)
    yield Figure(f"{ring_of}: until all are up", many.start_s, "s")
    yield Figure(f"{ring_of}: per K pair", many.pair_us, "us")
    yield Figure("two nodes of the same kind: per K pair", two, "us")
    yield Figure(f"{ring_of}: a pair against two nodes", many.pair_us / two, "times", RATIO)


def main() -> None:
    """Print what was measured as a line of JSON."""
    nodes, pairs, times = (int(word) for word in sys.argv[1:])
    measured = busy(nodes, pairs, times)
    fields = ("nodes", "start_s", "pair_us", "entries", "peak_mb")
    print(json.dumps({name: getattr(measured, name) for name in fields}))


if __name__ == "__main__":
    main()

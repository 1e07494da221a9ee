"""Live figures: requests on running networks of 1, 4 and 16 qubits, and the processes' memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import networks, relay
from tests.benchmarks.client import REST_S, Asked, Counted, median
from tests.benchmarks.table import Figure

TARGETS = {1: 500.0, 4: 1_500.0, 16: 2_500.0}
"""Pairs per second in one request of 1,000, by communication qubits."""

LATENCY_RATIO = 4.0
NODE_MB = 80.0
SESSION_S = 300.0
"""A network of the benchmark lives no longer than this, in wall seconds."""

RELAY = "of the relay graph"


NOTHING = Counted()
"""What is counted on a network that does not come up, or whose requests fail."""


def session(qubits: int, asked: Asked) -> Counted:
    """Bring up a network of its own, run the benchmark's program on it, and take it down.

    Returns :data:`NOTHING` where that fails; the reason is on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        network = networks.write(Path(folder), qubits)
        options = [
            f"--{name}={value}"
            for name, value in (
                ("pairs", asked.pairs),
                ("singles", asked.singles),
                ("repetitions", asked.repetitions),
            )
        ]
        program = (sys.executable, "-m", "tests.benchmarks.client", *options)
        launcher = (sys.executable, "-m", "qstack_nodes.command", "up", str(network), "--")
        try:
            # Whatever happens to the launcher, its children end with it.
            ended = subprocess.run(
                (*launcher, *program),
                stdout=subprocess.PIPE,
                text=True,
                timeout=SESSION_S,
                check=True,
            )
        except subprocess.SubprocessError as error:
            print(f"two_nodes with {qubits} qubits: {error}", file=sys.stderr)
            return NOTHING
    return Counted(**json.loads(ended.stdout))


def figures(asked: Asked | None = None) -> Iterator[Figure]:
    """Measure everything live; the relay graph before and after, so that drift shows."""
    asked = asked or Asked()
    hurried = median(relay.measure(asked.singles))
    path = median(relay.measure(asked.singles, "path"))
    before = median(relay.measure(asked.singles, rest_s=REST_S))
    counted = {4: session(4, asked)}
    after = median(relay.measure(asked.singles, rest_s=REST_S))
    floor = _mean(before, after)
    yield Figure("relay graph, all messages of a request, p50", before, "us")
    yield Figure("the same, after the requests", after, "us")
    yield Figure("the same, one round at once after the other", hurried, "us")
    yield Figure("the nine hops of its critical path alone, at once", path, "us")
    yield from rates(4, counted[4], floor)
    yield from latency(counted[4], floor)
    yield from latency_in_a_hurry(counted[4], hurried)
    yield from processes(counted[4])
    without_singles = Asked(asked.pairs, 0, asked.repetitions)
    for qubits in (1, 16):
        yield from rates(qubits, session(qubits, without_singles), floor)


def _mean(*values: float | None) -> float:
    there = [value for value in values if value is not None]
    return sum(there) / len(there)


def rates(qubits: int, counted: Counted, floor_us: float) -> Iterator[Figure]:
    """Yield pairs per second, and per round of the relay graph."""
    for kind, rates in (("K", counted.keep_rates), ("M", counted.measure_rates)):
        value = median(rates)
        yield Figure(
            f"1 request, {kind}, {qubits} qubit{'s' if qubits > 1 else ''}",
            value,
            "pairs/s",
            TARGETS[qubits],
            at_most=False,
            ratio=None if value is None else value * floor_us / 1e6,
            ratio_of="a round " + RELAY,
        )


def latency(counted: Counted, floor_us: float) -> Iterator[Figure]:
    """Yield the time from a request for one pair to its OK."""
    value = median(counted.latencies_us)
    yield Figure(
        "request for one pair to OK, p50",
        value,
        "us",
        LATENCY_RATIO * floor_us,
        ratio=None if value is None else value / floor_us,
        ratio_of="times that " + RELAY,
    )


def latency_in_a_hurry(counted: Counted, floor_us: float | None) -> Iterator[Figure]:
    """Yield the same for requests that begin while the one before is being closed elsewhere."""
    value = median(counted.hurried_us)
    yield Figure(
        "the same, each at once after the one before",
        value,
        "us",
        ratio=None if value is None or not floor_us else value / floor_us,
        ratio_of="times that " + RELAY + ", at once",
    )


def processes(counted: Counted) -> Iterator[Figure]:
    """Yield what the processes of the network needed."""
    nodes = [mb for name, mb in counted.peak_mb.items() if name in ("alice", "bob")]
    yield Figure("memory of a node process, peak", max(nodes, default=None), "MB", NODE_MB)
    for name, spent in counted.cpu_us.items():
        yield Figure(f"processor time per K pair, 4 qubits: {name}", spent, "us")
    total = sum(counted.cpu_us.values()) if counted.cpu_us else None
    yield Figure("processor time per K pair, 4 qubits: all", total, "us")

"""A program for ``qstack up NETWORK -- python -m tests.benchmarks.client``: it asks and counts.

It writes one JSON object to standard output. Each kept pair is freed at both ends as soon as it
is delivered; nothing is measured by it, so what counts is the stack and not the program.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import attrs
import trio
from qstack_nodes.running import NETWORK_VARIABLE

from qstack.application.service import Incoming, Node, Request
from qstack.drivers.client import connect
from qstack.messages.application import PairReady, Terms
from qstack.messages.common import BasisPlan, BasisSet

DRAWN = BasisPlan(BasisSet.XYZ, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)
REST_S = 0.01
"""A request that is asked alone comes so long after the one before: closing that takes a while.

The last acknowledgements of the one before leave 5 ms after what they acknowledge: a rest of just
that would have them all leave while the next request is on its way.
"""

REQUEST_S = 60.0
"""No request of a benchmark lasts longer than this, in wall seconds."""

_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.define
class Asked:
    """How much is asked for: pairs in a long request, requests for one pair, repetitions."""

    pairs: int = 1_000
    singles: int = 300
    repetitions: int = 3


@attrs.define
class Counted:
    """What came of it; rates in pairs per wall second, latencies in microseconds.

    `latencies_us` are of requests that come after a rest, `hurried_us` of requests that come as
    soon as the one before is done here, while the others still close it.
    `cpu_us` is the processor time per kept pair of each process, `peak_mb` its largest memory;
    both are empty where the system does not tell.
    """

    keep_rates: list[float] = attrs.field(factory=list)
    measure_rates: list[float] = attrs.field(factory=list)
    latencies_us: list[float] = attrs.field(factory=list)
    hurried_us: list[float] = attrs.field(factory=list)
    cpu_us: dict[str, float] = attrs.field(factory=dict)
    peak_mb: dict[str, float] = attrs.field(factory=dict)


def terms(remote: str, number: int) -> Terms:
    """Return the plainest terms."""
    return Terms(remote, number, 0.0, 0, 0, 0, 1.0, False, False)


async def _free_all(node: Node, incoming: Incoming) -> None:
    async for delivery in incoming:
        if isinstance(delivery, PairReady):
            await node.free(delivery.qubit)


async def _until_done(node: Node, request: Request) -> None:
    async for delivery in request:
        if isinstance(delivery, PairReady):
            await node.free(delivery.qubit)


async def rate(node: Node, remote: str, pairs: int, *, keep: bool) -> float:
    """Ask for pairs once; return pairs per second from the request to RequestDone."""
    begun = time.perf_counter()
    with trio.fail_after(REQUEST_S):
        wanted = terms(remote, pairs)
        if keep:
            request = await node.create_keep(wanted)
        else:
            request = await node.create_measure(wanted, DRAWN, DRAWN)
        await _until_done(node, request)
    return pairs / (time.perf_counter() - begun)


async def latency_us(node: Node, remote: str) -> float:
    """Ask for one pair; return microseconds from the request to its OK."""
    took = 0.0
    with trio.fail_after(REQUEST_S):
        begun = time.perf_counter()
        request = await node.create_keep(terms(remote, 1))
        async for delivery in request:
            took = (time.perf_counter() - begun) * 1e6
            if isinstance(delivery, PairReady):
                await node.free(delivery.qubit)
    return took


async def count(alice: Node, bob: Node, asked: Asked) -> Counted:
    """Ask for everything, `repetitions` times where it is a rate."""
    counted = Counted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_free_all, bob, await bob.listen(0))
        await rate(alice, bob.name, max(1, asked.pairs // 10), keep=True)
        before = _processor_s()
        for _ in range(asked.repetitions):
            counted.keep_rates.append(await rate(alice, bob.name, asked.pairs, keep=True))
        pairs = max(1, asked.pairs * asked.repetitions)
        counted.cpu_us = {
            name: (spent - before.get(name, 0.0)) * 1e6 / pairs
            for name, spent in _processor_s().items()
        }
        for _ in range(asked.repetitions):
            counted.measure_rates.append(await rate(alice, bob.name, asked.pairs, keep=False))
        for _ in range(asked.singles):
            counted.hurried_us.append(await latency_us(alice, bob.name))
        for _ in range(asked.singles):
            await trio.sleep(REST_S)
            counted.latencies_us.append(await latency_us(alice, bob.name))
        nursery.cancel_scope.cancel()
    counted.peak_mb = _peak_mb()
    return counted


# --- the processes around us, where Linux tells -----------------------------------------------


def _processes() -> dict[str, Path]:
    """Return the network's processes by name, and this one: children of the same launcher."""
    launcher = Path("/proc") / str(os.getppid())
    try:
        children = (launcher / "task" / launcher.name / "children").read_text().split()
        lines = {pid: (Path("/proc") / pid / "cmdline").read_bytes() for pid in children}
    except OSError:
        return {}
    found = {}
    for pid, line in lines.items():
        words = line.decode(errors="replace").split("\0")
        if "node" in words:
            found[words[words.index("node") + 2]] = Path("/proc") / pid
        elif "qstack.sim" in words:
            found["world"] = Path("/proc") / pid
        elif pid == str(os.getpid()):
            found["program"] = Path("/proc") / pid
    return found


def _processor_s() -> dict[str, float]:
    """Return the processor time of each process so far, in seconds."""
    found = {}
    for name, place in _processes().items():
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        found[name] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def _peak_mb() -> dict[str, float]:
    """Return the largest resident memory of each process so far, in megabytes."""
    found = {}
    for name, place in _processes().items():
        for line in (place / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                found[name] = int(line.split()[1]) * 1_024 / 1e6
    return found


async def _main(network: str, asked: Asked) -> None:
    async with connect(network, "alice", "bob") as (alice, bob):
        counted = await count(alice, bob, asked)
    print(json.dumps(attrs.asdict(counted)))


def main() -> int:
    """Count on the network that is up around this process."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.client")
    for field in attrs.fields(Asked):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = parser.parse_args()
    trio.run(_main, os.environ[NETWORK_VARIABLE], Asked(**vars(given)))
    return 0


def median(values: list[float]) -> float | None:
    """Return the median, None of nothing."""
    return statistics.median(values) if values else None


if __name__ == "__main__":
    sys.exit(main())

"""Virtual time: what a pair costs in one process, in the world alone and through all layers.

The world alone: two trapped-ion nodes of four qubits under the two-photon scheme, whose success
probability is half the product of the two efficiencies; whatever is heralded is armed again at
once. Through all layers: both nodes, the station and the world on the heap, one request for kept
pairs, each freed on delivery by scripted users at the nodes; with 16 qubits an arm at the station
stands for many pairs. Processor time, not wall time: other work on the machine disturbs
it less.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from qstack.hal.server import Commanded
from qstack.machine import DRAINED, TICK, Transmit
from qstack.messages.application import Status
from qstack.messages.devices import EmitterHeralded, MemoryBell
from qstack.messages.wire import KIND_OF, Datagram, Frame, Header
from qstack.sim.devices import MemoryParameters, TrappedIonParameters
from qstack.sim.heap import EventHeap, Wire
from qstack.sim.network import Surroundings
from qstack.stack import Timing
from qstack.testing import terms
from qstack.units import SECOND, Chance
from tests.benchmarks.table import Figure
from tests.sim.worlds import POLARISATION, Driver, driver_of
from tests.whole.rig import Lab, Rig

WORLD_RATIO = 1.5
LIKELY, UNLIKELY = 0.5, 1e-6
ENTRY_US = 7.0
PAIR_US, STEPS, ENTRIES = 100.0, 34.0, 13.0
STANDING_US, STANDING_STEPS, STANDING_ENTRIES = 70.0, 26.0, 10.0
QUBITS, STANDING_QUBITS = 4, 16
HEAP = "heap operations"

_LIMIT_NS = 1_000_000 * SECOND
_ALPHA = 0.5


@attrs.define
class Cost:
    """What a run of a whole network cost, per pair."""

    cpu_us: float
    steps: float
    entries: float


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector away from what exists already."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def world_us(probability: float, pairs: int, seed: int = 1) -> float:
    """Return microseconds of processor time of the world alone, and its driver, per pair."""
    emitter = TrappedIonParameters(math.sqrt(2 * probability), lifetime_ps=0, prepare_ns=1_000)
    driver = driver_of(seed, emitter=emitter, analyser=POLARISATION)
    driver.open(modes=QUBITS)
    for slot in range(QUBITS):
        driver.arm("a", slot)
        driver.arm("b", slot)
    with undisturbed():
        begun = time.process_time()
        _make(driver, pairs)
        return (time.process_time() - begun) * 1e6 / pairs


def _make(driver: Driver, pairs: int) -> None:
    """Take heralds and arm their slots again until both ends have had this many."""
    heralds = 0
    while heralds < 2 * pairs:
        events = driver.next_events()
        driver.seen.clear()
        for event in events:
            if isinstance(event, EmitterHeralded):
                heralds += 1
                driver.arm(event.device[-1], event.slot)


def swap_us(swaps: int = 2_000, gate_ns: int = 0) -> float:
    """Return microseconds of processor time of a Bell measurement of two pairs in the world.

    From the command to its result, the world alone; qubits of the memory relax where `gate_ns`.
    """
    memory = MemoryParameters(
        2,
        t1_ns=100 * SECOND if gate_ns else 0,
        gate_ns=gate_ns,
        gate_fidelity=0.99,
        two_qubit_fidelity=0.98,
        readout=(0.99, 0.98),
        coupled=((0, 1),),
    )
    emitter = TrappedIonParameters(1.0, lifetime_ps=0, prepare_ns=1_000)
    driver = driver_of(1, emitter=emitter, analyser=POLARISATION, memory=memory)
    driver.open(modes=2)
    total = 0.0
    with undisturbed():
        for number in range(swaps):
            for slot in (0, 1):
                driver.arm("a", slot)
                driver.arm("b", slot)
            driver.wait_for(EmitterHeralded, 4)
            command = Commanded("alice", MemoryBell("memory-a", -1 - number, 0, 1))
            begun = time.process_time()
            found = driver.world.handle(command, driver.now)
            if not found:
                driver.world.handle(TICK, driver.now + 2 * gate_ns)
            total += time.process_time() - begun
            driver.now += 2 * gate_ns
            driver.seen.clear()
    return total * 1e6 / swaps


def network_cost(
    probability: float, pairs: int, *, keepalive: bool, seed: int = 1, qubits: int = QUBITS
) -> Cost:
    """Return what a kept pair costs through all layers; without keepalives where told."""
    lab = Lab(qubits=qubits, alpha=_ALPHA, efficiency=efficiency_of(probability))
    plain = Surroundings(user_ns=0)
    # The type checker does not see that our records are attrs classes.
    around: Surroundings = plain if keepalive else _silent(plain)
    rig = Rig(lab, seed, around)
    steps, entries = rig.heap.steps, rig.heap.entries
    with undisturbed():
        begun = time.process_time()
        rig.alice.keep(terms("bob", pairs))
        until = rig.heap.now + _LIMIT_NS
        rig.heap.run(until, stop=rig.alice.finished, max_steps=100_000_000)
        cpu = time.process_time() - begun
    assert [done.delivered for done in rig.alice.done] == [pairs]
    return Cost(
        cpu * 1e6 / pairs, (rig.heap.steps - steps) / pairs, (rig.heap.entries - entries) / pairs
    )


def efficiency_of(probability: float) -> float:
    """Return the efficiency at which one attempt of the single-click link succeeds so often.

    ``p = 2 a (1-a) e + a^2 (e^2 + 2 e (1-e))`` with a = 1/2: the e that solves
    ``e - e^2 / 4 = p``.
    """
    return 2 - 2 * math.sqrt(1 - probability)


def _silent(surroundings: Surroundings) -> Surroundings:
    old = surroundings.timing
    timing = Timing(
        0, old.retransmit_floor_ns, old.ack_delay_ns, old.hello_interval_ns, old.lab_per_wall
    )
    return Surroundings(surroundings.wire, surroundings.user_ns, surroundings.device_ns, timing)


class _Echo:
    """Answers whatever it hears when its inbox is drained: a host that costs next to nothing."""

    deadline = None

    def __init__(self, name: str, peer: str) -> None:
        header = Header(1, name, peer, 1, 1, 1, 0, 0, 0, 0)
        frame = Frame(KIND_OF[Status].number, "application", 1, False, Status(1, ""))
        self._answer = [Transmit("peer", Datagram(header, (frame,)))]

    def handle(self, event: Any, now: int) -> list[Any]:
        return self._answer if event is DRAINED else []


def heap_us(entries: int = 100_000) -> float:
    """Return microseconds of processor time of the heap alone per entry, each of two steps."""
    heap = EventHeap(Chance(1), Wire(1_000))
    heap.add("alice", _Echo("alice", "bob"))
    heap.add("bob", _Echo("bob", "alice"))
    heap.post("alice", TICK)
    with undisturbed():
        begun = time.process_time()
        heap.run(1_000 * entries)
        return (time.process_time() - begun) * 1e6 / heap.entries


def figures(operation_us: float, pairs: int = 2_000, repetitions: int = 3) -> Iterator[Figure]:
    """Measure the world and the network; medians. `operation_us`: of the calibration."""

    def cost(name: str, value: float) -> Figure:
        return Figure(name, value, "us", ratio=value / operation_us, ratio_of=HEAP)

    tries = range(repetitions)
    alone = statistics.median(heap_us() for _ in tries)
    yield Figure(
        "heap alone, per entry", alone, "us", ENTRY_US, ratio=alone / operation_us, ratio_of=HEAP
    )
    likely, unlikely = (
        statistics.median(world_us(p, pairs, seed + 1) for seed in tries)
        for p in (LIKELY, UNLIKELY)
    )
    yield cost("world alone, per pair at p = 0.5", likely)
    yield cost("world alone, per pair at p = 1e-6", unlikely)
    for label, gate_ns in (("", 0), (" with relaxation in its gates", 300)):
        swap = statistics.median(swap_us(pairs, gate_ns) for _ in tries)
        yield cost(f"world alone, per swap of two pairs{label}", swap)
    yield Figure("world alone, p = 1e-6 against 0.5", unlikely / likely, "times", WORLD_RATIO)
    likely_cost = 0.0
    for label, probability, keepalive, qubits in (
        ("p = 0.5", LIKELY, True, QUBITS),
        ("p = 1e-6, no keepalive", UNLIKELY, False, QUBITS),
        ("p = 0.5, standing arm", LIKELY, True, STANDING_QUBITS),
    ):
        costs = [
            network_cost(probability, pairs, keepalive=keepalive, seed=s + 1, qubits=qubits)
            for s in tries
        ]
        cpu = statistics.median(each.cpu_us for each in costs)
        steps = statistics.median(each.steps for each in costs)
        entries = statistics.median(each.entries for each in costs)
        standing, name = qubits != QUBITS, f"all layers, per K pair at {label}"
        target = None if not keepalive else STANDING_US if standing else PAIR_US
        yield Figure(name, cpu, "us", target, ratio=cpu / operation_us, ratio_of=HEAP)
        yield Figure(
            f"machine steps per K pair at {label}",
            *(steps, "", STANDING_STEPS if standing else STEPS),
        )
        yield Figure(
            f"heap entries per K pair at {label}",
            *(entries, "", STANDING_ENTRIES if standing else ENTRIES),
        )
        yield cost(f"all layers, per heap entry at {label}", cpu / entries)
        if not keepalive:
            ratio = cpu / likely_cost
            yield Figure("all layers, p = 1e-6 against 0.5", ratio, "times", WORLD_RATIO)
        likely_cost = likely_cost or cpu

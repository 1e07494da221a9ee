"""Every device machine of this project on the bench of the plugin kit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import emulated_fpga
from emulated_ends import EmulatedEmitter, EmulatedMemory

from qstack.hal.coincidence import Scan
from qstack.hal.contract import Bench, body_of
from qstack.hal.middleware import FaultPlan, Faults
from qstack.hal.pair_analyser import Correlation, PairAnalyser
from qstack.hal.receivers import Channel
from qstack.hal.replay import ReplayDetector
from qstack.hal.served import Served
from qstack.hal.server import Commanded
from qstack.hal.software_station import SoftwareStation, Sorting
from qstack.machine import TICK, Tick
from qstack.messages.common import PLAIN_Z, Basis
from qstack.messages.devices import (
    DetectorOpen,
    DeviceStatus,
    EmitterArm,
    EmitterMeasure,
    Gate,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    StationClock,
    StationOpen,
)
from qstack.sim.channels import Fibre
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    EmitterParameters,
    MemoryParameters,
    NumberResolvingParameters,
    QuantumDotParameters,
    SpdcParameters,
    TrappedIonParameters,
)
from qstack.sim.world import Break, World, WorldDevice, WorldEnd, WorldLink, WorldParameters
from qstack.units import Chance, Instant

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "emulated_fpga.py"
CYCLE = 10_000
LONG = 1 << 30
WINDOW_PS = 1_000_000


def example_module() -> Any:
    """The example of an out-of-process device, which belongs to no package."""
    return emulated_fpga


class InWorld:
    """One device of a simulated world, stepped as if it stood alone.

    `before`: commands for other devices, given first, so that there is something to herald.
    """

    def __init__(self, world: World, device: str, owner: str, before: tuple[Any, ...]) -> None:
        self._world, self._device, self._owner = world, device, owner
        owners = {"emitter-b": "bob", "analyser": "station"}
        for command in before:
            world.handle(Commanded(owners[command.device], command), 0)

    @property
    def deadline(self) -> Instant | None:
        return self._world.deadline

    def handle(self, event: Any, now: Instant) -> list[Any]:
        wrapped = TICK if type(event) is Tick else Commanded(self._owner, event)
        bodies = [body_of(up) for up in self._world.handle(wrapped, now)]
        return [body for body in bodies if body.device == self._device]

    def broken(self) -> InWorld:
        self._world.handle(Break(self._device, DeviceStatus.CALIBRATING, "being aligned"), 0)
        return self


def world_of(emitter: EmitterParameters, detector: DetectorParameters, station: str) -> World:
    spare = MemoryParameters(
        2, 2, gate_ns=500, move_ns=700, readout_ns=900, coupled=((0, 2), (1, 3))
    )
    devices = (
        ("emitter-a", WorldDevice("alice", emitter)),
        ("emitter-b", WorldDevice("bob", emitter)),
        ("memory-a", WorldDevice("alice", spare)),
        ("memory-b", WorldDevice("bob", spare)),
        ("detector", WorldDevice("station", detector)),
        ("analyser", WorldDevice("station", AnalyserParameters(station, "detector"))),
    )
    ends = (
        WorldEnd("alice", "emitter-a", "memory-a", Fibre(0.5, 0.0)),
        WorldEnd("bob", "emitter-b", "memory-b", Fibre(0.2, 0.0)),
    )
    link = WorldLink("link", "midpoint-bsm", ends, "analyser", 4)
    return World(WorldParameters(devices, (link,)), Chance(5))


CLOCK = StationClock("analyser", 9_001, "link", CYCLE)
OPEN = StationOpen("analyser", 9_002, "link", (), 0, LONG, 4, WINDOW_PS, False)


def arm(device: str, slot: int, *, exact: bool = False, not_before: int = 0) -> EmitterArm:
    return EmitterArm(device, 9_003 + slot, "link", slot, (), not_before, exact, LONG)


def measure(device: str, pairs: int, *, exact: bool = False) -> EmitterMeasure:
    return EmitterMeasure(device, 9_010, "link", (), PLAIN_Z, pairs, 1, exact, LONG)


def in_world(
    emitter: EmitterParameters,
    device: str,
    before: tuple[Any, ...],
    *,
    detector: DetectorParameters = DetectorParameters(1.0),  # noqa: B008  an immutable record
    station: str = "polarisation",
) -> Any:
    """Return how to make the device, as a bench wants it."""
    owner = {"emitter-a": "alice", "memory-a": "alice"}.get(device, "station")
    return lambda: InWorld(world_of(emitter, detector, station), device, owner, before)


HOME = 2 * CYCLE
"""A photon is not called back: what was heralded is reported when its herald is home."""


def keeping(name: str, emitter: EmitterParameters, station: str) -> Bench:
    """A simulated emitter whose qubit can be kept."""
    before = (CLOCK, OPEN, arm("emitter-b", 0), arm("emitter-b", 1))
    make = in_world(emitter, "emitter-a", before, station=station)
    examples = (arm("emitter-a", 0), arm("emitter-a", 1), measure("emitter-a", 3))
    late = arm("emitter-a", 0, exact=True, not_before=3)
    return Bench("emitter-a", make, (), examples, HOME, late=late, unready=lambda: make().broken())


def measuring(emitter: EmitterParameters) -> Bench:
    """A simulated emitter that can only measure at once."""
    before = (CLOCK, OPEN, measure("emitter-b", 1_000))
    make = in_world(emitter, "emitter-a", before)
    examples = (measure("emitter-a", 3), measure("emitter-a", 1_000))
    late = measure("emitter-a", 3, exact=True)
    return Bench("emitter-a", make, (), examples, HOME, late=late, unready=lambda: make().broken())


PERFECT = TrappedIonParameters(1.0, prepare_ns=1_000)


def sim_memory() -> Bench:
    name = "memory-a"
    make = in_world(PERFECT, name, ())
    examples = (
        MemoryInitialise(name, 0, 1),
        MemoryGate(name, 0, Gate.H, 0, None, 0.0),
        MemoryMove(name, 0, 0, 2),
        MemoryBell(name, 0, 0, 2),
        MemoryMeasure(name, 0, 2, PLAIN_Z),
        MemoryMeasure(name, 0, 0, PLAIN_Z),
    )
    setup = (MemoryInitialise(name, 0, 0), MemoryInitialise(name, 0, 2))
    return Bench(name, make, setup, examples, unready=lambda: make().broken(), bell=(0, 2))


def sim_analyser(station: str) -> Bench:
    before = (CLOCK, *(arm(f"emitter-{end}", slot) for end in "b" for slot in (0, 1)))
    make = in_world(PERFECT, "analyser", before[:1], station=station)
    brief = StationOpen("analyser", 0, "link", (), 0, 7, 2, WINDOW_PS, True)
    return Bench(
        "analyser",
        make,
        (StationClock("analyser", 0, "link", CYCLE),),
        (OPEN, brief),
        unready=lambda: make().broken(),
    )


def sim_detector(detector: DetectorParameters) -> Bench:
    """A detector of the world is inside its analyser: alone it takes nothing, and says so."""
    return Bench("detector", in_world(PERFECT, "detector", (), detector=detector), (), ())


CLICKS = tuple((place % 2, 700_000 * place) for place in range(500))


def replay() -> Bench:
    def make() -> ReplayDetector:
        return ReplayDetector("tagger", CLICKS, 20_000)

    examples = (DetectorOpen("tagger", 0, 0), DetectorOpen("tagger", 0, 55_555))
    return Bench("tagger", make, (), examples)


def software() -> Bench:
    def make() -> SoftwareStation:
        sorting = Sorting(offset_ps=300_000, mode_ps=2_000_000, latency_ns=25_000)
        inner = ReplayDetector("analyser.detector", CLICKS, 20_000)
        return SoftwareStation("analyser", "analyser.detector", inner, sorting)

    brief = StationOpen("analyser", 0, "link", (), 3, 7, 2, WINDOW_PS, True)
    return Bench("analyser", make, (StationClock("analyser", 0, "link", CYCLE),), (OPEN, brief))


def fpga(**behaviour: Any) -> Bench:
    module = example_module()

    def make() -> Any:
        return module.EmulatedFpga("analyser", module.Behaviour(**behaviour), Chance(3))

    def unready() -> Any:
        """One that restarts at this moment: its first report sent it down."""
        made = module.EmulatedFpga(
            "analyser", module.Behaviour(1.0, restart_after=1, boot_ns=LONG), Chance(3)
        )
        made.handle(StationClock("analyser", 1, "link", 1), 0)
        made.handle(StationOpen("analyser", 2, "link", (), 0, 9, 1, WINDOW_PS, False), 0)
        made.handle(TICK, 5)
        return made

    brief = StationOpen("analyser", 0, "link", (), 3, 7, 2, WINDOW_PS, False)
    setup = (StationClock("analyser", 0, "link", CYCLE),)
    return Bench("analyser", make, setup, (OPEN, brief), unready=unready)


class OnBench:
    """The emulated bench with both its emitters, of which one is stepped as if it stood alone."""

    def __init__(self, *, clock: bool) -> None:
        module = example_module()
        behaviour = module.Behaviour(0.3, late_ns=5_000, restart_after=4, boot_ns=60_000)
        fpga = module.EmulatedFpga("analyser", behaviour, Chance(3))
        ends = [EmulatedEmitter(f"emitter-{end}", fpga.clocks) for end in "ab"]
        fpga.lines.extend(ends)
        owners = {"analyser": "station", "emitter-a": "alice", "emitter-b": "bob"}
        self._server = Served({each.name: each for each in (fpga, *ends)}, owners)
        for command in (CLOCK, OPEN, arm("emitter-b", 0), arm("emitter-b", 1)) if clock else ():
            self._server.handle(Commanded(owners[command.device], command), 0)

    @property
    def deadline(self) -> Instant | None:
        return self._server.deadline

    def handle(self, event: Any, now: Instant) -> list[Any]:
        wrapped = TICK if type(event) is Tick else Commanded("alice", event)
        bodies = [body_of(up) for up in self._server.handle(wrapped, now)]
        return [body for body in bodies if body.device == "emitter-a"]


def bench_emitter() -> Bench:
    name = "emitter-a"
    brief = EmitterArm(name, 0, "link", 2, (), 0, False, 3)
    examples = (arm(name, 0), arm(name, 1), brief)
    late = arm(name, 0, exact=True, not_before=3)
    return Bench(
        name,
        lambda: OnBench(clock=True),
        (),
        examples,
        late=late,
        unready=lambda: OnBench(clock=False),
    )


def bench_memory() -> Bench:
    examples = (
        MemoryInitialise("memory", 0, 1),
        MemoryGate("memory", 0, Gate.H, 0, None, 0.0),
        MemoryMove("memory", 0, 0, 2),
        MemoryBell("memory", 0, 0, 1),
        MemoryMeasure("memory", 0, 0, PLAIN_Z),
    )
    return Bench("memory", lambda: EmulatedMemory("memory", Chance(2)), (), examples)


class OfPairs:
    """One device of a source in the middle, stepped as if it stood alone."""

    def __init__(self, device: str, before: tuple[Any, ...], *, over: bool = False) -> None:
        a = tuple((place % 2, 300_000 * (place + 1)) for place in range(400))
        b = tuple((channel, time + 7_000) for channel, time in a)
        taggers = [
            (f"tagger-{name}", ReplayDetector(f"tagger-{name}", tags, 20_000))
            for name, tags in (("a", a), ("b", b))
        ]
        axes = (Channel(0, Basis.Z, 0), Channel(1, Basis.Z, 1))
        analyser = PairAnalyser(
            "analyser",
            (("receiver-a", axes), ("receiver-b", axes)),
            (taggers[0], taggers[1]),
            Correlation(50, 0, Scan(100_000, 1_000), 500),
        )
        owners = {"analyser": "station", "receiver-a": "alice", "receiver-b": "bob"}
        self._device, self._owner = device, owners[device]
        made = {each.name: each for each in (analyser, *analyser.receivers)}
        self._server = Served(made, owners)
        for command in before:
            self._server.handle(Commanded(owners[command.device], command), 0)
        while over and (due := self._server.deadline) is not None and due < LONG:
            self._server.handle(TICK, due)

    @property
    def deadline(self) -> Instant | None:
        return self._server.deadline

    def handle(self, event: Any, now: Instant) -> list[Any]:
        wrapped = TICK if type(event) is Tick else Commanded(self._owner, event)
        bodies = [body_of(up) for up in self._server.handle(wrapped, now)]
        return [body for body in bodies if body.device == self._device]


def pair_receiver() -> Bench:
    before = (CLOCK, OPEN, measure("receiver-b", 1_000))
    examples = (measure("receiver-a", 3), measure("receiver-a", 1_000))
    return Bench(
        "receiver-a",
        lambda: OfPairs("receiver-a", before),
        (),
        examples,
        late=measure("receiver-a", 3, exact=True),
        late_ns=50_000,
        unready=lambda: OfPairs("receiver-a", before, over=True),
    )


def pair_analyser() -> Bench:
    before = (CLOCK, measure("receiver-a", 1_000), measure("receiver-b", 1_000))
    brief = StationOpen("analyser", 0, "link", (), 0, 7, 2, WINDOW_PS, False)
    return Bench(
        "analyser",
        lambda: OfPairs("analyser", before),
        (StationClock("analyser", 0, "link", CYCLE),),
        (OPEN, brief),
    )


def faulty(bench: Bench, plan: FaultPlan) -> Bench:
    """The device behind faults, which must leave the contract whole."""

    def make() -> Faults:
        return Faults(bench.make(), plan, Chance(9))

    abort_ns = bench.abort_ns + plan.late_ns
    return Bench(bench.device, make, (), bench.examples, abort_ns, bench.watch_ns)


DEVICES = {
    "sim.colour-centre": keeping("cc", ColourCentreParameters(0.5), "single-click"),
    "sim.trapped-ion": keeping("ion", PERFECT, "polarisation"),
    "sim.quantum-dot": measuring(QuantumDotParameters(0.5)),
    "sim.spdc": measuring(SpdcParameters(0.1, 0.5)),
    "sim.threshold": sim_detector(DetectorParameters(0.9)),
    "sim.number-resolving": sim_detector(NumberResolvingParameters(0.9)),
    "sim.memory": sim_memory(),
    "sim.analyser": sim_analyser("polarisation"),
    "replay.detector": replay(),
    "software.station": software(),
    "receiver of pairs": pair_receiver(),
    "analyser of pairs": pair_analyser(),
    "emulated FPGA": fpga(),
    "emulated FPGA, late": fpga(late_ns=45_000),
    "emulated FPGA, lossy": fpga(drop_every=2),
    "emulated FPGA, restarting": fpga(restart_after=2, boot_ns=60_000),
    "emulated emitter": bench_emitter(),
    "emulated memory": bench_memory(),
    "replay.detector behind faults": faulty(replay(), FaultPlan(0.3, 9_000, 0.3, 0.3)),
}
"""Every device by the name that a report shows."""

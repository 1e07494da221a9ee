"""A world of two ends and a station, with a driver that plays all owners and collects events."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from qstack.hal.server import Commanded
from qstack.machine import TICK
from qstack.messages.common import PLAIN_Z, Basis, BasisPlan, BasisSet
from qstack.messages.devices import (
    EmitterArm,
    EmitterHeralded,
    EmitterMeasure,
    MemoryMeasure,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.sim.channels import Fibre, LossProcess
from qstack.sim.devices import (
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    EmitterParameters,
    MemoryParameters,
    TrappedIonParameters,
)
from qstack.sim.world import World, WorldDevice, WorldEnd, WorldLink, WorldParameters
from qstack.units import Chance, Duration, Instant

LONG = 1 << 40
WINDOW_PS = 1_000_000
CYCLE = 10_000
XY_PLAN = {
    Basis.X: BasisPlan(BasisSet.XZ, 1.0, 0.0, 0.0, 0.0, 0.0),
    Basis.Y: BasisPlan(BasisSet.XYZ, 0.0, 1.0, 0.0, 0.0, 0.0),
    Basis.Z: PLAIN_Z,
}
RANDOM_XYZ = BasisPlan(BasisSet.XYZ, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)

E = TypeVar("E")

PERFECT = TrappedIonParameters(1.0, lifetime_ps=0, prepare_ns=1_000)
POLARISATION = AnalyserParameters("polarisation", "detector")
A, B = ("memory-a", 0), ("memory-b", 0)


@attrs.define
class Layout:
    """What the network of a test is made of."""

    emitter: EmitterParameters = attrs.field(
        factory=lambda: ColourCentreParameters(0.5, prepare_ns=1_000)
    )
    other: EmitterParameters | None = None
    detector: DetectorParameters = attrs.field(factory=lambda: DetectorParameters(1.0))
    memory: MemoryParameters = attrs.field(factory=lambda: MemoryParameters(16))
    analyser: AnalyserParameters = attrs.field(
        factory=lambda: AnalyserParameters("single-click", "detector")
    )
    fibres: tuple[Fibre, Fibre] = (Fibre(0.5, 0.0), Fibre(0.2, 0.0))
    wander: LossProcess | None = None
    max_modes: int = 64

    def parameters(self) -> WorldParameters:
        """The records of this world; process names are those of the ends."""
        other = self.emitter if self.other is None else self.other
        devices = (
            ("emitter-a", WorldDevice("alice", self.emitter)),
            ("emitter-b", WorldDevice("bob", other)),
            ("memory-a", WorldDevice("alice", self.memory)),
            ("memory-b", WorldDevice("bob", self.memory)),
            ("detector", WorldDevice("station", self.detector)),
            ("analyser", WorldDevice("station", self.analyser)),
        )
        ends = (
            WorldEnd("alice", "emitter-a", "memory-a", self.fibres[0], self.wander),
            WorldEnd("bob", "emitter-b", "memory-b", self.fibres[1]),
        )
        link = WorldLink("link", "midpoint-bsm", ends, "analyser", self.max_modes)
        return WorldParameters(devices, (link,))


class Driver:
    """Plays every owner. Events are kept in `seen` as (instant, owner, body)."""

    def __init__(self, parameters: WorldParameters, seed: int = 1) -> None:
        self.world = World(parameters, Chance(seed))
        self.now: Instant = 0
        self.seen: list[tuple[Instant, str, Any]] = []
        self._commands = 0
        self.owners = {name: device.owner for name, device in parameters.devices}

    def event(self, event: Any) -> list[Any]:
        """Let the world take an event now; returns the bodies of what came out."""
        ups = self.world.handle(event, self.now)
        fresh = [(self.now, up.event.owner, up.event.body) for up in ups]
        self.seen += fresh
        return [body for _, _, body in fresh]

    def send(self, make: Any, device: str, *rest: Any, owner: str | None = None) -> int:
        """Send a command and return its id."""
        self._commands += 1
        body = make(device, self._commands, *rest)
        self.event(Commanded(self.owners.get(device, "alice") if owner is None else owner, body))
        return self._commands

    def run_until(self, instant: Instant) -> None:
        """Turn to every deadline up to `instant`."""
        while (deadline := self.world.deadline) is not None and deadline <= instant:
            self.now = max(self.now, deadline)
            self.event(TICK)
        self.now = max(self.now, instant)

    def next_events(self) -> list[Any]:
        """Turn to the next deadline and return what came out."""
        deadline = self.world.deadline
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.event(TICK)

    def wait_for(self, kind: type[E], count: int = 1) -> list[E]:
        """Turn until `count` further events of a kind were seen; returns them."""
        found: list[E] = []
        while len(found) < count:
            found += [body for body in self.next_events() if isinstance(body, kind)]
        return found

    def of(self, kind: type[E], command: int | None = None) -> list[E]:
        """All events of a kind so far (of one command)."""
        return [
            body
            for _, _, body in self.seen
            if isinstance(body, kind) and command in (None, getattr(body, "command", None))
        ]

    # --- short forms ---------------------------------------------------------------------

    def open(
        self,
        modes: int = 1,
        cycle_ns: Duration = CYCLE,
        cycles: int = LONG,
        report_failures: bool = False,
    ) -> int:
        """Start the clock and open the analyser."""
        self.send(StationClock, "analyser", "link", cycle_ns)
        return self.reopen(modes, cycles, report_failures)

    def reopen(self, modes: int = 1, cycles: int = LONG, report_failures: bool = False) -> int:
        """Open the analyser on the running clock."""
        window = (0, cycles, modes, WINDOW_PS, report_failures)
        return self.send(StationOpen, "analyser", "link", (), *window)

    def arm(
        self,
        end: str,
        slot: int = 0,
        values: tuple[tuple[str, float], ...] = (),
        *,
        not_before: int = 0,
        exact: bool = False,
        cycles: int = LONG,
    ) -> int:
        """Arm a slot of end "a" or "b"."""
        rest = ("link", slot, values, not_before, exact, cycles)
        return self.send(EmitterArm, f"emitter-{end}", *rest)

    def measure_at_once(
        self,
        end: str,
        plan: BasisPlan,
        pairs: int,
        values: tuple[tuple[str, float], ...] = (),
        cycles: int = LONG,
    ) -> int:
        """Attempt and measure at end "a" or "b"."""
        rest = ("link", values, plan, pairs, 0, False, cycles)
        return self.send(EmitterMeasure, f"emitter-{end}", *rest)

    def measure(self, end: str, slot: int = 0, plan: BasisPlan = PLAIN_Z) -> int:
        """Read out a slot of end "a" or "b"."""
        return self.send(MemoryMeasure, f"memory-{end}", slot, plan)


def driver_of(seed: int = 1, **changes: object) -> Driver:
    return Driver(Layout(**changes).parameters(), seed)  # type: ignore[arg-type]  # fields of Layout


def perfect(seed: int = 1, **changes: object) -> Driver:
    """Two-photon link without losses: a perfect Psi+ or Psi- every second attempt."""
    driver = driver_of(seed, emitter=PERFECT, analyser=POLARISATION, **changes)
    driver.open(modes=8)
    return driver


def make_pair(driver: Driver, slot: int = 0) -> int:
    """Arm both ends and wait for the pair; returns its Bell index."""
    for end in "ab":
        driver.arm(end, slot)
    driver.wait_for(EmitterHeralded, 2)
    return dict(POLARISATION.heralding())[driver.of(StationClicks)[-1].clicks]


def pair_of(driver: Driver, bell: int) -> int:
    """Make pairs until one of this Bell index comes."""
    while make_pair(driver) != bell:
        pass
    return bell

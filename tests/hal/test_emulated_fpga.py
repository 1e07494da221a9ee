"""An out-of-process analyser that misbehaves on demand, before the station's own machine.

The station is a whole StationNode, its analyser lives in another process behind the hardware
port, and two scripted ends offer memories and confirm what they are told: all in virtual time.
"""

from __future__ import annotations

from typing import Any

import pytest

from qstack.adjacency import PeerLost, PeerUp
from qstack.hal.served import Served
from qstack.machine import TICK, Arrived, Drained, Tick
from qstack.messages.common import PairKind, RequestId
from qstack.messages.devices import (
    DeviceState,
    DeviceStatus,
    Exhausted,
    Faulted,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.messages.physical import Arm, ArmReply, Herald, Success
from qstack.sim.heap import EventHeap, Wire
from qstack.stack import DeviceHost, Identity, Neighbours, StationNode, StationParameters, Timing
from qstack.units import MILLISECOND, SECOND, Chance, Instant, NodeName
from tests.hal.benches import WINDOW_PS, example_module
from tests.hal.test_replay import drain
from tests.physical.physical_lab import NAMES, parameters

FPGA = "fpga"
CREDITS = 8
TIMING = Timing(20 * MILLISECOND, 2 * MILLISECOND, MILLISECOND, 20 * MILLISECOND, 1.0)


def identity(name: NodeName, role: str, life: int = 1) -> Identity:
    return Identity(name, role, Chance(f"{name}/{life}").boot_id(), TIMING, False)


def live(name: NodeName, role: str) -> Identity:
    """Who somebody is on real wires."""
    boot = Chance(f"{name}/live").boot_id()
    return Identity(name, role, boot, example_module().WALL, True)


class ScriptedEnd:
    """A node that wants pairs for ever: offers memories, notes each success, confirms it."""

    def __init__(self, who: Identity) -> None:
        self.name = who.name
        self.boot = who.boot
        self.neighbours = Neighbours(who, self._deliver, self._changed)
        self.got: list[Success] = []
        self.at: list[Instant] = []
        self._number = self._used = self._boot = 0

    @property
    def deadline(self) -> Instant | None:
        return self.neighbours.deadline

    def start(self, now: Instant) -> list[Any]:
        return self.neighbours.open("station", "station", "peer", initiate=False, now=now)

    def handle(self, event: Any, now: Instant) -> list[Any]:
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case Drained():
                return self.neighbours.drain(now)
            case Tick():
                return self.neighbours.tick(now)
        raise TypeError(type(event).__name__)

    def _changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        if not isinstance(event, PeerUp):
            return []
        self._boot = event.boot
        self._number += 1
        self._used = 0
        return self._arm(now)

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        news: tuple[Success, ...] = ()
        if isinstance(message, Herald):
            news = message.successes
        elif isinstance(message, ArmReply):
            news = message.unconfirmed
        fresh = [s for s in sorted(news, key=lambda s: s.sequence) if s.sequence > len(self.got)]
        for success in fresh:
            if success.sequence == len(self.got) + 1:
                self.got.append(success)
                self.at.append(now)
                self._used += 1
        return self._arm(now) if fresh else []

    def _arm(self, now: Instant) -> list[Any]:
        request, credits_ = RequestId("alice", 7, 1), CREDITS + self._used
        arm = Arm("a-b", self._boot, self._number, request, PairKind.KEEP, "s", 1,
                  len(self.got), credits_, 0, 0)  # fmt: skip
        return self.neighbours.post("station", arm, now)


class Floor:
    """Station, its analyser's process, and two ends, on one heap."""

    def __init__(self, *, wire: Wire = Wire(20_000), **behaviour: Any) -> None:  # noqa: B008  a record
        self.module = example_module()
        self.heap = EventHeap(Chance(11), wire)
        self.clicks: list[Instant] = []
        self.lives = 0
        self.boot_fpga(**behaviour)
        hosts = (("bsa", FPGA),)
        station = StationParameters(identity("station", "station"), (parameters(),), hosts)
        self.station = StationNode(station)
        self.heap.add("station", self.station)
        self.ends = [ScriptedEnd(identity(name, "node")) for name in NAMES]
        for end in self.ends:
            self.heap.add(end.name, end)

    def boot_fpga(self, **behaviour: Any) -> None:
        """Start the analyser's process, or a new life of it."""
        self.lives += 1
        made = self.behaviour(**behaviour)
        self.fpga = self.module.EmulatedFpga("bsa", made, Chance(5).fork(str(self.lives)))
        server = Served({"bsa": self.fpga}, {"bsa": "station"})
        host = DeviceHost(identity(FPGA, "world", self.lives), (("station", "station"),), server)
        self.heap.add(FPGA, host)

    def behaviour(self, **changes: Any) -> Any:
        return self.module.Behaviour(**{"success": 0.005, "boot_ns": 5 * MILLISECOND, **changes})

    def run(self, duration: int) -> int:
        """Let time pass and return how many pairs came for both ends meanwhile."""
        before = self.pairs
        self.heap.run(self.heap.now + duration)
        return self.pairs - before

    @property
    def pairs(self) -> int:
        """Pairs that both ends know, each of them the same at both."""
        one, two = (end.got for end in self.ends)
        both = min(len(one), len(two))
        assert one[:both] == two[:both]
        assert [s.sequence for s in one] == list(range(1, len(one) + 1))
        return both

    def report(self, what: str) -> Any:
        return self.station.physical.links["a-b"].report().get(what, 0)


def test_pairs_flow_over_an_analyser_in_another_process() -> None:
    floor = Floor()
    # A click each 200 us on average: 100 ms give 500 with a deviation of 22; the start, about
    # 1 ms, included, 400 are missed by chance less than once in 10^5 runs.
    assert floor.run(100 * MILLISECOND) > 400
    assert floor.report("state") == "paired"


def test_an_fpga_that_becomes_late_costs_pairs_and_they_resume_when_it_is_punctual() -> None:
    floor = Floor()
    floor.run(20 * MILLISECOND)
    # Later than the margin of the station, 441 us, after which a cycle may be called decided.
    floor.fpga.behaviour = floor.behaviour(late_ns=3 * MILLISECOND)
    floor.run(50 * MILLISECOND)
    floor.fpga.behaviour = floor.behaviour()
    floor.run(5 * MILLISECOND)
    assert floor.run(50 * MILLISECOND) > 150
    assert floor.report("state") == "paired"


def test_an_fpga_that_is_late_within_the_margin_costs_no_pair() -> None:
    floor = Floor(late_ns=200_000)
    assert floor.run(100 * MILLISECOND) > 400
    assert floor.report("late") == 0


def test_reports_that_the_fpga_drops_are_missed_and_nothing_waits_for_them() -> None:
    floor = Floor(drop_every=2)
    got = floor.run(100 * MILLISECOND)
    assert floor.fpga.dropped > 150
    # All that was reported came out, but for what is still on its way.
    assert floor.fpga.reports - floor.fpga.dropped - CREDITS <= got > 150
    assert floor.run(50 * MILLISECOND) > 75


def test_pairs_resume_after_each_restart_of_the_fpga() -> None:
    floor = Floor(restart_after=50)
    floor.run(200 * MILLISECOND)
    assert floor.fpga.restarts >= 5
    assert floor.pairs > 40 * floor.fpga.restarts
    last = floor.ends[0].at[-1]
    # Booting takes 5 ms, a click comes after 0.2 ms on average, a restart after 10 ms of them.
    assert last > 180 * MILLISECOND


def test_while_the_fpga_restarts_the_link_says_so_and_asks_nothing_of_it() -> None:
    floor = Floor(restart_after=20, boot_ns=SECOND)
    floor.run(100 * MILLISECOND)
    assert floor.fpga.restarts == 1
    assert floor.report("state") == "closed"
    assert floor.report("trouble") == "the FPGA restarts"
    commands = dict(floor.heap.frames)
    floor.run(500 * MILLISECOND)
    opened = "device:StationOpen"
    assert floor.heap.frames[opened] == commands[opened]
    floor.fpga.behaviour = floor.behaviour()
    floor.run(600 * MILLISECOND)
    assert floor.run(100 * MILLISECOND) > 400


def test_a_process_that_is_killed_and_started_again_serves_on() -> None:
    floor = Floor()
    floor.run(20 * MILLISECOND)
    floor.heap.remove(FPGA)
    floor.run(SECOND)
    assert floor.report("state") == "closed"
    floor.boot_fpga()
    floor.run(100 * MILLISECOND)
    assert floor.run(100 * MILLISECOND) > 400


@pytest.mark.parametrize("loss", [0.02, 0.2])
def test_all_misbehaviour_at_once_over_a_lossy_wire_wedges_nothing(loss: float) -> None:
    wire = Wire(20_000, jitter_ns=30_000, loss=loss, duplicate=0.05)
    floor = Floor(wire=wire, late_ns=MILLISECOND, drop_every=3, restart_after=70)
    floor.run(500 * MILLISECOND)
    assert floor.fpga.restarts >= 3
    floor.heap.set_default(Wire(20_000))
    floor.fpga.behaviour = floor.behaviour()
    floor.run(50 * MILLISECOND)
    assert floor.run(100 * MILLISECOND) > 400


# --- the machine alone ---------------------------------------------------------------------


def alone(cycles: int = 20, **behaviour: Any) -> Any:
    module = example_module()
    made = module.EmulatedFpga("f", module.Behaviour(1.0, **behaviour), Chance(1))
    made.handle(StationClock("f", 1, "link", 1_000), 0)
    made.handle(StationOpen("f", 2, "link", (), 0, cycles, 1, WINDOW_PS, False), 0)
    return made


def test_reports_come_at_the_end_of_their_cycle_or_late_with_an_honest_age() -> None:
    for late in (0, 2_500):
        seen = drain(alone(cycles=5, late_ns=late))
        clicks = [(now, e.cycle, e.age_ns) for now, e in seen if isinstance(e, StationClicks)]
        assert clicks[:2] == [(2_000 + late, 1, late), (3_000 + late, 2, late)]
        # The opening ends with its last cycle; what is late then comes before its end.
        assert [cycle for _, cycle, _ in clicks] == [1, 2, 3, 4, 5]
        assert seen[-1] == (6_000, Exhausted("f", 2, 5))


def test_every_third_report_is_lost_on_demand() -> None:
    seen = [e for _, e in drain(alone(cycles=9, drop_every=3)) if isinstance(e, StationClicks)]
    assert [clicks.cycle for clicks in seen] == [1, 2, 4, 5, 7, 8]


def test_a_restart_ends_the_opening_forgets_the_clock_and_says_both() -> None:
    made = alone(restart_after=3, boot_ns=7_000)
    seen = [(now, event) for now, event in drain(made) if not isinstance(event, StationClicks)]
    assert seen == [
        (4_000, Faulted("f", 2, "the FPGA restarts")),
        (4_000, DeviceState("f", DeviceStatus.OFFLINE, "the FPGA restarts", 7_000, 0)),
        (11_000, DeviceState("f", DeviceStatus.READY, "restarted", 0, 0)),
    ]
    (answer,) = made.handle(StationOpen("f", 3, "link", (), 0, 1, 1, WINDOW_PS, False), 12_000)
    assert answer.reason == "the clock of link was not started"
    assert made.handle(TICK, 20_000) == []

"""An optical bench in another process, that is late, loses reports and restarts on demand.

The emulated FPGA speaks the hardware port, as a laboratory's controller would: name in
`--late-ms`, `--drop-every` and `--restart-after` what shall go wrong. Under a network file that
leaves devices to it (``plugin = "remote"``) it serves these:

    python emulated_fpga.py --network emulated_bench.toml --name bench --drop-every 3

Without one it is an analyser beside a station, on a port that it draws:

    python emulated_fpga.py --owner station --device station.analyser --drop-every 3

It writes ``ready NAME peer=HOST:PORT`` and serves until SIGTERM, or with ``--watched`` until
its standard input closes. The machines themselves are pure, so tests step them in virtual time:
:class:`EmulatedFpga` is the analyser, and where the bench has emitters too, fires them and
tells them of heralds; :class:`EmulatedEmitter` and :class:`EmulatedMemory` are an end's. Nothing
is entangled here: what is emulated is how hardware behaves, not what photons do.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from typing import Any

from emulated_ends import EmulatedEmitter, EmulatedMemory

from qstack import __version__
from qstack.config import NetworkFile, load
from qstack.drivers.laboratory import Laboratory, host_process, wanted_of
from qstack.drivers.places import Process, network_text
from qstack.drivers.pump import Port
from qstack.drivers.serving import USAGE, Serving, run
from qstack.drivers.trace import TraceHeader
from qstack.drivers.udp import UdpSocket, parse_address
from qstack.errors import ConfigError
from qstack.hal.served import Served
from qstack.machine import Machine, Tick, record
from qstack.messages.devices import (
    Abort,
    Aborted,
    Completed,
    DeviceState,
    DeviceStatus,
    Exhausted,
    Faulted,
    Rejected,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.stack import DeviceHost, Identity, Timing
from qstack.units import Chance, Duration, Instant, LinkName, earliest

WALL = Timing(
    keepalive_ns=200_000_000,
    retransmit_floor_ns=2_000_000,
    ack_delay_ns=1_000_000,
    hello_interval_ns=100_000_000,
    lab_per_wall=1.0,
)


@record
class Behaviour:
    """What the emulation does, and what of that is wrong.

    `success`: probability, above 0, that an attempt, (cycle, mode), ends with one click, in
    detector 0 or 1. `late_ns`: every report comes that much later, with an honest age.
    `drop_every`: each n-th report is lost; 0 for none. `restart_after`: after that many reports
    it restarts, every time; 0 for never. `boot_ns`: how long a restart takes. With its defaults
    it is a good FPGA.
    """

    success: float = 0.1
    late_ns: Duration = 0
    drop_every: int = 0
    restart_after: int = 0
    boot_ns: Duration = 50_000_000


class EmulatedFpga:
    """The device machine of an analyser with its own clock, gates and counters.

    Clocks are kept per link; one link is served at a time. A restart ends what runs in Faulted,
    turns the device OFFLINE, forgets all clocks, and ends in READY. `behaviour` may be exchanged
    at any time. `lines` are the emitters that it fires: an attempt for which not all of them have
    a qubit armed comes to nothing. Without any, every attempt counts.
    """

    def __init__(self, name: str, behaviour: Behaviour, chance: Chance) -> None:
        self.name = name
        self.reports = self.restarts = self.dropped = 0
        self.behaviour, self._chance = behaviour, chance
        self.lines: list[EmulatedEmitter] = []
        self.clocks: dict[LinkName, tuple[Instant, Duration]] = {}
        self._open: StationOpen | None = None
        self._stop = 0
        self._hit: tuple[int, int] = (0, 0)
        self._queue: deque[tuple[Instant, Instant, StationClicks]] = deque()
        self._up_at: Instant | None = None

    @property
    def deadline(self) -> Instant | None:
        """The next click, the next report that is due, the opening's end, or the end of a boot."""
        queued = self._queue[0][0] if self._queue else None
        return earliest(self._up_at, queued, self._next_at())

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Take StationClock, StationOpen, Abort or TICK; anything else is Rejected."""
        out = self._advance(now)
        match event:
            case Tick():
                pass
            case Abort():
                if self._open is not None and self._open.command == event.target:
                    out.append(self._close(Aborted(self.name, event.target, "aborted")))
                out.append(Completed(self.name, event.command))
            case StationClock() | StationOpen() if self._up_at is not None:
                out.append(Rejected(self.name, event.command, False, "it restarts"))
            case StationClock():
                if event.cycle_ns < 1:
                    out.append(Rejected(self.name, event.command, False, "no cycle"))
                else:
                    if self._open is not None and self._open.link == event.link:
                        former = self._open.command
                        out.append(self._close(Aborted(self.name, former, "clock restarted")))
                    for line in self.lines:
                        line.clock_ended(event.link, now)
                    self.clocks[event.link] = (now, event.cycle_ns)
                    out.append(Completed(self.name, event.command))
            case StationOpen():
                out += self._start(event, now)
            case _:
                reason = f"an analyser does not know {type(event).__name__}"
                out.append(Rejected(self.name, event.command, False, reason))
        return out

    def _start(self, command: StationOpen, now: Instant) -> list[Any]:
        reason = ""
        if command.link not in self.clocks:
            reason = f"the clock of {command.link} was not started"
        elif min(command.cycles, command.modes) < 1:
            reason = "nothing to do"
        elif self._open is not None and self._open.link != command.link:
            reason = f"it is open for {self._open.link}"
        if reason:
            return [Rejected(self.name, command.command, False, reason)]
        out: list[Any] = []
        if self._open is not None:
            out.append(self._close(Aborted(self.name, self._open.command, "replaced")))
        began, cycle_ns = self.clocks[command.link]
        first = max(command.first_cycle, (now - began) // cycle_ns + 1)
        self._open, self._stop = command, first + command.cycles
        self._hit = self._after(command, first * command.modes - 1)
        return out

    def _close(self, terminal: Any) -> Any:
        """End the opening; what is late of it will never come."""
        self._open = None
        self._queue.clear()
        return terminal

    def _after(self, command: StationOpen, place: int) -> tuple[int, int]:
        """The next attempt with a click after this one, counted in modes from cycle 0."""
        return divmod(place + 1 + self._chance.failures(self.behaviour.success), command.modes)

    def _next_at(self) -> Instant | None:
        """When the next cycle with a click, or the opening, is over."""
        if self._open is None:
            return None
        began, cycle_ns = self.clocks[self._open.link]
        return began + min(self._hit[0] + 1, self._stop) * cycle_ns

    def _advance(self, now: Instant) -> list[Any]:
        """Do all that was due until now, in its order."""
        out: list[Any] = []
        while (due := self.deadline) is not None and due <= now:
            if self._up_at is not None:
                self._up_at = None
                out.append(DeviceState(self.name, DeviceStatus.READY, "restarted", 0, 0))
            elif self._queue and self._queue[0][0] <= due:
                _, since, clicks = self._queue.popleft()
                out += self._report(clicks, since, now)
            else:
                out += self._click(due)
        return out

    def _click(self, at: Instant) -> list[Any]:
        """The click, or the end of the opening, that is due."""
        opened = self._open
        if opened is None:
            return []
        cycle, mode = self._hit
        if cycle >= self._stop:
            # Reports on their way would come after the end: the end waits for them.
            late = [self._aged(clicks, since, at) for _, since, clicks in self._queue]
            attempts = opened.cycles * opened.modes
            return [*late, self._close(Exhausted(self.name, opened.command, attempts))]
        self._hit = self._after(opened, cycle * opened.modes + mode)
        fired = []
        for line in self.lines:
            armed = line.fired(opened.link, cycle, mode)
            if armed is None:
                return []
            fired.append((line, armed))
        for line, armed in fired:
            line.herald(armed, cycle, mode, at)
        mask = 1 << self._chance.below(2)
        clicks = StationClicks(self.name, opened.command, opened.link, cycle, mode, mask, (0,), 0)
        self._queue.append((at + self.behaviour.late_ns, at, clicks))
        return []

    def _aged(self, clicks: StationClicks, since: Instant, now: Instant) -> StationClicks:
        c = clicks
        age = now - since
        return StationClicks(c.device, c.command, c.link, c.cycle, c.mode, c.clicks, c.tags_ps, age)

    def _report(self, clicks: StationClicks, since: Instant, now: Instant) -> list[Any]:
        self.reports += 1
        every, after = self.behaviour.drop_every, self.behaviour.restart_after
        if after and self.reports % after == 0:
            return self._restart(now)
        if every and self.reports % every == 0:
            self.dropped += 1
            return []
        return [self._aged(clicks, since, now)]

    def _restart(self, now: Instant) -> list[Any]:
        self.restarts += 1
        out: list[Any] = []
        if self._open is not None:
            number = self._open.command
            out.append(self._close(Faulted(self.name, number, "the FPGA restarts")))
        for link in self.clocks:
            for line in self.lines:
                line.clock_ended(link, now)
        self.clocks.clear()
        boot_ns = self.behaviour.boot_ns
        self._up_at = now + boot_ns
        state = DeviceState(self.name, DeviceStatus.OFFLINE, "the FPGA restarts", boot_ns, 0)
        return [*out, state]


def behaviour_of(given: argparse.Namespace) -> Behaviour:
    """Return what the command line asks for."""
    return Behaviour(
        success=given.success,
        late_ns=round(given.late_ms * 1e6),
        drop_every=given.drop_every,
        restart_after=given.restart_after,
    )


def bench_of(network: NetworkFile, name: str, behaviour: Behaviour, chance: Chance) -> Laboratory:
    """Return the devices that a network file leaves to the host `name`: one FPGA's."""
    wanted = wanted_of(network, name)
    (analyser,) = (each for each in wanted if each.role == "analyser")
    fpga = EmulatedFpga(analyser.device, behaviour, chance.fork("clicks"))
    devices: dict[str, Machine] = {fpga.name: fpga}
    for each in wanted:
        if each.role == "emitter":
            emitter = EmulatedEmitter(each.device, fpga.clocks)
            fpga.lines.append(emitter)
            devices[each.device] = emitter
        elif each.role == "memory":
            devices[each.device] = EmulatedMemory(each.device, chance.fork(each.device))
    # A laboratory that knows its devices says so itself; this one is whatever the file says.
    return Laboratory(devices, {each.device: each.sheet for each in wanted})


def host_of(given: argparse.Namespace, seed: int) -> DeviceHost:
    """Return the machine of the whole process, where there is no network file."""
    chance = Chance(seed)
    identity = Identity(given.name, "world", chance.fork("boot").boot_id(), WALL, True)
    device = EmulatedFpga(given.device, behaviour_of(given), chance.fork("clicks"))
    server = Served({given.device: device}, {given.device: given.owner})
    return DeviceHost(identity, ((given.owner, "station"),), server)


def arguments() -> argparse.ArgumentParser:
    """Return the command line of this example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="fpga", help="of this process")
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 draws one")
    parser.add_argument("--network", help="the network file that says what to serve, and where")
    parser.add_argument("--owner", help="without a file: the station that may command it")
    parser.add_argument("--device", help="without a file: network-wide name of the analyser")
    parser.add_argument("--success", type=float, default=0.1, help="clicks per attempt")
    parser.add_argument("--late-ms", type=float, default=0.0, help="how late each report is")
    parser.add_argument("--drop-every", type=int, default=0, help="lose each n-th report")
    parser.add_argument("--restart-after", type=int, default=0, help="restart after n reports")
    parser.add_argument("--seed", type=int, help="of the clicks")
    parser.add_argument("--watched", action="store_true", help="end when standard input closes")
    return parser


def main() -> int:
    """Serve until told to stop; return the exit code."""
    parser = arguments()
    given = parser.parse_args()
    serving = Serving(watched=given.watched, seed=given.seed)
    if given.network:
        try:
            network = load(given.network)
        except ConfigError as error:
            print("\n".join(error.problems), file=sys.stderr)
            return USAGE
        text = network_text(given.network)

        def serve(seed: int) -> Process:
            bench = bench_of(network, given.name, behaviour_of(given), Chance(seed))
            return host_process(network, given.name, bench, seed, text)

        return run(serve, serving)
    if not given.owner or not given.device:
        parser.error("without --network, --owner and --device are needed")

    def make(seed: int) -> Process:
        host = host_of(given, seed)
        socket = UdpSocket(parse_address(given.listen), owner=given.name, port_name="peer")
        # The owner's address is learned from its first hello; loopback only, unless told.
        port = Port("peer", socket, {}, learns=True)
        header = TraceHeader(__version__, host.name, host.boot, seed, "")
        return Process(host, (port,), 1.0, None, header, frozenset({given.owner}), None)

    return run(make, serving)


if __name__ == "__main__":
    sys.exit(main())

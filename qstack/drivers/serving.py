"""A process from its first breath to its orderly end.

On standard output a process writes ``ready NAME ...`` when its ports are open, ``linked NAME``
when all the peers that it needs have answered, and ``lost NAME PEER: reason`` when one is gone:
this is the launcher's handshake. It ends on SIGTERM, on SIGINT, and, where a launcher holds its
standard input, when that closes: so no process outlives its launcher, however that ends.
"""

from __future__ import annotations

import ctypes
import gc
import os
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from qstack.drivers.loop import POSSIBLE, Loop
from qstack.drivers.places import Process
from qstack.drivers.pump import LabClock, Outside, Pump
from qstack.drivers.trace import TraceWriter
from qstack.drivers.udp import PortUnavailable, format_address
from qstack.errors import ConfigError
from qstack.machine import Note, record
from qstack.units import Instant, NodeName

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
"""The exit codes of every command (DESIGN section 12)."""

_PR_SET_PDEATHSIG = 1

QUIET_NOTES = frozenset({"peer-up", "peer-lost"})
"""Notes that the handshake reports already."""


@record
class Serving:
    """How a process is run. `watched`: standard input is a launcher's pipe.

    `traces` is a folder for traces, which overrides the network file's. `seed` None draws one.
    """

    watched: bool = False
    traces: str | None = None
    seed: int | None = None
    verbose: bool = False


class Readiness:
    """Turns the notes of a host into the lines of the handshake."""

    def __init__(
        self, name: NodeName, peers: frozenset[NodeName], say: Callable[[str], None]
    ) -> None:
        self._name = name
        self._missing = set(peers)
        self._peers = peers
        self._say = say

    def ready(self, where: str) -> None:
        """The ports are open."""
        self._say(f"ready {self._name} {where}")
        if not self._missing:
            self._say(f"linked {self._name}")

    def note(self, note: Note) -> None:
        """Take a note of the host."""
        if note.name not in QUIET_NOTES:
            return
        fields = dict(note.fields)
        peer = fields.get("peer", "")
        if peer not in self._peers:
            return
        if note.name == "peer-lost":
            self._missing.add(peer)
            self._say(f"lost {self._name} {peer}: {fields.get('reason', '')}")
        elif peer in self._missing:
            self._missing.discard(peer)
            if not self._missing:
                self._say(f"linked {self._name}")


def say(line: str) -> None:
    """Write a line of the handshake; nobody may be listening any more."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # The launcher is gone; its closed pipe on standard input ends this process.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  kept open for the process's life


def complain(note: Note, now: Instant) -> None:
    """Write a note of the host to standard error, for people."""
    fields = " ".join(f"{key}={value}" for key, value in note.fields)
    print(f"{now / 1e9:.6f} {note.name} {fields}", file=sys.stderr, flush=True)


def run(make: Callable[[int], Process], serving: Serving) -> int:
    """Make a process from a seed, serve it until told to stop, and return its exit code.

    Errors of configuration and of ports become one line each on standard error. A bug of our
    own propagates with its traceback, after the trace was written.
    """
    seed = secrets.randbits(63) if serving.seed is None else serving.seed
    try:
        process = make(seed)
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return USAGE
    except PortUnavailable as error:
        print(error, file=sys.stderr)
        return UNREACHABLE
    try:
        if POSSIBLE:
            loop = Loop()
            loop.run(serve, process, serving, loop)
        else:
            trio.run(serve, process, serving)
    finally:
        process.close()
    return DONE


async def serve(process: Process, serving: Serving, loop: Loop | None = None) -> None:
    """Drive a process until a signal, or the end of a watched standard input.

    With the `loop` that runs this, it is the loop that waits for the process's sockets.
    """
    name = process.host.name
    readiness = Readiness(name, process.peers, say)

    def on_note(note: Note, now: Instant) -> None:
        readiness.note(note)
        if serving.verbose and note.name not in QUIET_NOTES:
            complain(note, now)

    if serving.watched:
        _die_with_parent()
    trace = open_trace(process, serving.traces or process.traces)
    outside = Outside(process.devices, trace, None, on_note, loop)
    pump = Pump(process.host, process.ports, LabClock(process.time_scale), outside)
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                where = " ".join(
                    f"{port.name}={format_address(port.socket.address)}" for port in process.ports
                )
                readiness.ready(where)
                # What lives as long as the process need not be looked at again and again.
                gc.collect()
                gc.freeze()
                nursery.start_soon(pump.run)
                if serving.watched:
                    nursery.start_soon(_until_closed, nursery.cancel_scope)
                async for _ in signals:
                    break
                nursery.cancel_scope.cancel()
        pump.farewell(f"{name} stops")
    finally:
        if trace is not None:
            trace.close()


def open_trace(process: Process, folder: str | None) -> TraceWriter | None:
    """Begin the trace of this life of a process in `folder`; None for none."""
    if folder is None:
        return None
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    header = process.header
    return TraceWriter(place / f"{header.name}-{header.boot:016x}.qtrace", header)


def _die_with_parent() -> None:
    """Have Linux kill this process when its launcher dies, should it be too busy to notice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


async def _until_closed(scope: trio.CancelScope) -> None:
    """Cancel `scope` when the launcher's end of standard input is closed."""
    while True:
        await trio.lowlevel.wait_readable(0)
        if not os.read(0, 4_096):
            scope.cancel()
            return

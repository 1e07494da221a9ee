"""The example of an out-of-process device as its readers run it: a process, over loopback UDP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from qstack.drivers.pump import LabClock, Port, Pump
from qstack.drivers.udp import Address, UdpSocket, parse_address
from qstack.stack import StationNode, StationParameters
from qstack.units import MILLISECOND, Instant, NodeName
from tests.hal.benches import EXAMPLE
from tests.hal.test_emulated_fpga import FPGA, ScriptedEnd, live
from tests.physical.physical_lab import NAMES, parameters

ENOUGH = 60
RESTART_AFTER = 20


class LiveEnd(ScriptedEnd):
    """An end that says when it has been told of enough pairs."""

    def __init__(self, name: NodeName) -> None:
        super().__init__(live(name, "node"))
        self.enough = trio.Event()

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        actions = super()._deliver(peer, role, message, now)
        if len(self.got) >= ENOUGH:
            self.enough.set()
        return actions


@asynccontextmanager
async def fpga_process(*options: str) -> AsyncIterator[Address]:
    """The emulated FPGA, until the end of the block; yields where it listens."""
    command = [sys.executable, str(EXAMPLE), "--watched", "--owner", "station", *options]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = b""
        while b"\n" not in said:
            said += await process.stdout.receive_some()
        ready, name, where = said.split(b"\n")[0].decode().split()
        assert (ready, name) == ("ready", FPGA)
        yield parse_address(where.removeprefix("peer="))
    finally:
        with trio.CancelScope(shield=True):
            # It is watched: the end of its standard input ends it.
            await process.stdin.aclose()
            await process.wait()
            await process.stdout.aclose()
    assert process.returncode == 0


async def test_pairs_resume_although_the_process_is_late_drops_and_restarts() -> None:
    options = ["--device", "bsa", "--success", "0.0005", "--seed", "3", "--late-ms", "1"]
    options += ["--drop-every", "5", "--restart-after", str(RESTART_AFTER)]
    link = attrs.evolve(parameters(), confirm_ns=100 * MILLISECOND)  # type: ignore[misc]  # a record
    sockets = {
        name: UdpSocket(("127.0.0.1", 0), owner=name, port_name="peer")
        for name in ("station", *NAMES)
    }
    try:
        with trio.fail_after(30):
            async with fpga_process(*options) as fpga, trio.open_nursery() as nursery:
                station = StationNode(
                    StationParameters(live("station", "station"), (link,), (("bsa", FPGA),))
                )
                ends = [LiveEnd(name) for name in NAMES]
                known = {FPGA: fpga, **{name: sockets[name].address for name in NAMES}}
                start: list[tuple[Any, dict[NodeName, Address]]] = [(station, known)]
                start += [(end, {"station": sockets["station"].address}) for end in ends]
                for host, peers in start:
                    port = Port("peer", sockets[host.name], peers)
                    nursery.start_soon(Pump(host, [port], LabClock()).run)
                for end in ends:
                    await end.enough.wait()
                nursery.cancel_scope.cancel()
    finally:
        for socket in sockets.values():
            socket.close()
    one, two = (end.got for end in ends)
    # More pairs than reports between two restarts: it came back, at least twice.
    assert one[:ENOUGH] == two[:ENOUGH]
    assert [success.sequence for success in one] == list(range(1, len(one) + 1))
    assert station.physical.links["a-b"].report()["faults"] >= ENOUGH // RESTART_AFTER

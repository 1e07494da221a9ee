"""What a host finds due at once is stepped behind its bundle, without waiting for the timer."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from qstack.drivers.pump import LabClock, Outside, Port, Pump
from qstack.drivers.udp import UdpSocket
from qstack.machine import Arrived, Drained, Tick
from qstack.units import Instant
from tests.drivers.hosts import EchoHost, data, open_port

LIMIT_S = 20


@attrs.define(eq=False)
class LeavingHost(EchoHost):
    """Each datagram leaves `ticks` pieces of work that are due at once, one to a TICK."""

    ticks: int = 0
    left: int = 0

    def handle(self, event: Any, now: Instant) -> list[Any]:
        actions = super().handle(event, now)
        if isinstance(event, Arrived):
            self.left = self.ticks
        elif isinstance(event, Tick):
            self.left -= 1
        self.deadline = 0 if self.left > 0 else None
        return actions


async def answered(host: EchoHost, datagrams: int) -> list[type[Any]]:
    """Have a pump answer so many datagrams, one after the other; return what its host saw."""
    port: Port = open_port()
    far: UdpSocket = open_port().socket
    port.peers["far"] = far.address
    pump = Pump(host, (port,), LabClock(), Outside())
    try:
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(pump.run)
                for number in range(1, datagrams + 1):
                    assert far.send(data("far", host.name, number), port.socket.address)
                    await far.readable()
                    assert list(far.receive())
                nursery.cancel_scope.cancel()
    finally:
        far.close()
        port.socket.close()
    return [type(event) for event in host.seen[1:]]


async def test_what_is_due_at_once_is_stepped_behind_the_bundle_and_leaves_in_one_more() -> None:
    kinds = await answered(LeavingHost(ticks=5), 1)
    assert kinds == [Drained, Arrived, Drained, *[Tick] * 5, Drained]


async def test_a_host_that_is_always_due_keeps_no_datagram_waiting() -> None:
    kinds = await answered(LeavingHost(ticks=1 << 40), 3)
    assert kinds.count(Arrived) == 3
    assert kinds.count(Tick) > 3

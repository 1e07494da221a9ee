"""The pump around a small pure host, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from qstack.codec import decode_body, decode_datagram
from qstack.drivers.client import connect
from qstack.drivers.devices import LocalDevices
from qstack.drivers.loop import Loop
from qstack.drivers.pump import MAX_LEARNED, LabClock, Outside, Port, Pump
from qstack.drivers.timer import KernelTimer, ScopeTimer, Timer
from qstack.drivers.udp import UdpSocket
from qstack.machine import Arrived, Drained, FromDevice, Note, Tick
from qstack.messages.control import Bye, KeepAlive
from qstack.stack import FromNode, ToNode
from tests.drivers.fake_node import running
from tests.drivers.hosts import EchoHost, PureMemory, data, open_port

LIMIT_S = 20


@attrs.define
class Bench:
    host: EchoHost
    pump: Pump
    far: UdpSocket
    notes: list[Note]
    ups: list[Any]

    def send(self, number: int, text: str = "", source: str = "far") -> None:
        assert self.far.send(
            data(source, "echo", number, text), self.pump.ports["peer"].socket.address
        )

    async def answer(self) -> str:
        await self.far.readable()
        ((raw, _),) = self.far.receive()
        (frame,) = decode_datagram(raw).frames
        body = decode_body(frame.kind, frame.body)
        assert isinstance(body, Bye)
        return body.reason


@asynccontextmanager
async def bench(
    host: EchoHost | None = None,
    devices: LocalDevices | None = None,
    before: tuple[str, ...] = (),
    loop: Loop | None = None,
) -> AsyncIterator[Bench]:
    """A running pump whose host knows one peer, "far"; `before` is sent before it runs."""
    host = host or EchoHost()
    port, far = open_port(), open_port().socket
    port.peers["far"] = far.address
    notes: list[Note] = []
    ups: list[Any] = []
    outside = Outside(
        devices,
        None,
        lambda event, now: ups.append(event),
        lambda note, now: notes.append(note),
        loop,
    )
    pump = Pump(host, (port,), LabClock(), outside)
    made = Bench(host, pump, far, notes, ups)
    for number, text in enumerate(before, 1):
        made.send(number, text)
    try:
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(pump.run)
                yield made
                nursery.cancel_scope.cancel()
    finally:
        far.close()
        port.socket.close()


async def test_a_batch_of_datagrams_is_answered_by_one_bundle() -> None:
    async with bench(before=("", "", "", "", "")) as made:
        assert await made.answer() == "5 came"
        kinds = [type(event) for event in made.host.seen[1:]]
        # Start is followed by its own end of the inbox.
        assert kinds == [Drained, *[Arrived] * 5, Drained]


async def test_a_tick_comes_when_the_deadline_has() -> None:
    host = EchoHost(deadline=2_000_000)
    async with bench(host) as made:
        await host.until(Tick)
        assert made.pump.clock.now() >= 2_000_000


async def test_a_nearer_deadline_moves_the_wake_up() -> None:
    host = EchoHost(deadline=3_600_000_000_000)
    async with bench(host) as made:
        host.deadline = 1
        made.send(1)
        await host.until(Tick)
        assert host.deadline is None


async def test_a_deadline_that_went_away_ticks_nobody() -> None:
    host = EchoHost(deadline=5_000_000)
    async with bench(host) as made:
        host.deadline = None
        # A later deadline fires after the abandoned one would have.
        made.send(1)
        await host.until(Arrived)
        host.deadline = 20_000_000
        made.send(2)
        # The host itself objects to a tick that comes without a deadline, or before it.
        await host.until(Tick)
        assert made.pump.clock.now() >= 20_000_000


async def test_a_known_name_from_another_address_is_dropped_and_counted() -> None:
    stranger = open_port().socket
    async with bench() as made:
        where = made.pump.ports["peer"].socket.address
        stranger.send(data("far", "echo", 1), where)
        stranger.send(data("nobody", "echo", 1), where)
        made.send(1)
        assert await made.answer() == "1 came"
        assert made.pump.counters.strangers == 2
        assert [note.name for note in made.notes].count("stranger") == 1
    stranger.close()


async def test_bytes_that_are_no_datagram_are_counted_and_noted_rarely() -> None:
    async with bench() as made:
        for junk in (b"", b"\xc1", b"junk" * 400, data("far", "echo", 1)[:-3]):
            made.far.send(junk, made.pump.ports["peer"].socket.address)
        made.send(1)
        assert await made.answer() == "1 came"
        assert made.pump.counters.malformed == 4
        assert [note.name for note in made.notes].count("malformed") == 1


async def test_an_error_of_the_peer_is_counted_and_survived() -> None:
    async with bench(before=("wrong", "")) as made:
        assert await made.answer() == "1 came"
        assert made.pump.counters.remote_errors == 1
        assert Note("remote-error", (("reason", "the peer is wrong"),)) in made.notes


async def test_a_bug_of_the_host_ends_the_pump_loudly() -> None:
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with bench(before=("bug",)):
            await trio.sleep_forever()


async def test_events_that_are_posted_together_leave_in_one_bundle() -> None:
    async with bench() as made:
        for _ in range(3):
            made.pump.post(ToNode("far", KeepAlive()))
        assert await made.answer() == "3 came"
        assert made.ups == [FromNode("far", KeepAlive())] * 3


async def test_a_device_answers_before_the_bundle_leaves() -> None:
    devices = LocalDevices({"memory": PureMemory()})
    async with bench(devices=devices, before=("device",)) as made:
        assert await made.answer() == "1 came"
        kinds = [type(event) for event in made.host.seen[2:]]
        assert kinds[:3] == [Arrived, FromDevice, Drained]
        assert Note("completed", (("command", 5),)) in made.notes


async def test_the_deadline_of_a_device_is_kept_too() -> None:
    devices = LocalDevices({"memory": PureMemory(delay_ns=1_000_000)})
    async with bench(devices=devices, before=("device",)) as made:
        await made.host.until(FromDevice)
        assert not any(isinstance(event, Tick) for event in made.host.seen)


async def test_what_has_no_address_is_counted_and_not_sent() -> None:
    async with bench() as made:
        made.pump.post(ToNode("nobody", KeepAlive()))
        await made.host.until(ToNode)
        await made.host.until(Drained, 2)
        assert made.pump.counters.unaddressed == 1
        assert made.pump.report()["ports"]["peer"]["sent"] == 0


def test_a_learning_port_takes_loopback_clients_and_forgets_the_oldest() -> None:
    port = open_port("user", learns=True)
    for number in range(MAX_LEARNED + 1):
        assert port.admits(f"user-{number}", ("127.0.0.1", 1_000 + number))
    assert port.address_of("user-0") is None
    assert port.address_of("user-1") == ("127.0.0.1", 1_001)
    assert len(port.learned) == MAX_LEARNED
    assert not port.admits("far", ("192.0.2.1", 1))
    port.socket.close()


def test_a_client_that_comes_back_from_another_port_is_answered_there() -> None:
    port = open_port("user", learns=True)
    assert port.admits("user", ("127.0.0.1", 1))
    assert port.admits("user", ("127.0.0.1", 2))
    assert port.address_of("user") == ("127.0.0.1", 2)
    port.socket.close()


def test_a_flood_of_strangers_never_takes_the_address_of_who_has_an_adjacency() -> None:
    port = open_port("user", learns=True)
    live = {"user-a": ("127.0.0.1", 1), "user-b": ("127.0.0.1", 2)}
    for name, address in live.items():
        assert port.admits(name, address)
    port.holds = live.__contains__
    # The live ones stay silent all the while.
    for number in range(3 * MAX_LEARNED):
        assert port.admits(f"stranger-{number}", ("127.0.0.1", 1_000 + number))
        assert not port.admits("user-a", ("127.0.0.1", 10_000 + number))
    assert {name: port.address_of(name) for name in live} == live
    assert len(port.learned) == MAX_LEARNED
    # Of one whose adjacency has ended, the latest address counts again.
    port.holds = {"user-b"}.__contains__
    assert port.admits("user-a", ("127.0.0.1", 3))
    # Where everybody has one, nobody new is taken.
    port.holds = lambda name: True
    assert not port.admits("late", ("127.0.0.1", 4))
    assert len(port.learned) == MAX_LEARNED
    port.socket.close()


async def test_a_live_program_keeps_its_address_under_a_flood_of_strangers_names() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, node, _), connect(network, "alice") as (alice,):
            await alice.status()
            (client,) = node.port.learned
            for number in range(2 * MAX_LEARNED):
                # Stepped at once, so that the program cannot speak up between two of them.
                source = ("127.0.0.1", 1_000 + number)
                assert node.port.admits(f"far-{number}", source)
            assert client in node.port.learned


def test_a_port_that_does_not_learn_takes_nobody_new() -> None:
    port: Port = open_port()
    assert not port.admits("user", ("127.0.0.1", 1))
    port.socket.close()


@pytest.mark.parametrize(("scale", "lab"), [(1.0, 10**18), (0.001, 10**15), (2.5, 25 * 10**17)])
def test_lab_time_is_exact_at_any_age(scale: float, lab: int) -> None:
    wall = 5
    clock = LabClock(scale, lambda: wall)
    wall += 10**18
    assert clock.now() == lab
    assert clock.wall_seconds(lab) == pytest.approx(1e9, abs=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_clock_that_cannot_go_forward_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        LabClock(scale)


@pytest.mark.parametrize("make", [KernelTimer, ScopeTimer])
async def test_a_timer_fires_once_for_each_time_it_is_set(make: type[Timer]) -> None:
    timer = make()
    fired = 0
    with trio.fail_after(LIMIT_S):
        for seconds in (0.001, 0.0, -1.0):
            timer.set(seconds)
            await timer.fired()
            fired += 1
        # The later word counts.
        timer.set(3_600.0)
        timer.set(0.0)
        await timer.fired()
    assert fired == 3
    with trio.move_on_after(0.0) as waiting:
        await timer.fired()
    assert waiting.cancelled_caught
    timer.close()

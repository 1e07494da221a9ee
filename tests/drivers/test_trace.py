"""Traces: written by a pump, read back, shown, and replayed to the last byte."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import trio

from qstack.codec import encode_datagram
from qstack.drivers.devices import LocalDevices
from qstack.drivers.pump import LabClock, Outside, Pump
from qstack.drivers.replay import replay
from qstack.drivers.trace import (
    START,
    Kind,
    Stop,
    TraceError,
    TraceHeader,
    TraceRecord,
    TraceWriter,
    action_record,
    describe,
    event_of,
    event_record,
    read_trace,
)
from qstack.errors import LocalProtocolError
from qstack.machine import (
    CAME,
    DRAINED,
    TICK,
    Arrived,
    Device,
    Drained,
    FromDevice,
    Hand,
    Handed,
    Left,
    Note,
    Transmit,
    Up,
)
from qstack.messages.control import KeepAlive
from qstack.messages.devices import Completed, MemoryInitialise
from qstack.messages.wire import Datagram
from qstack.stack import FromNode, NodeReached, ToNode
from tests.drivers.hosts import EchoHost, PureMemory, data, datagram, open_port

LIMIT_S = 20
HEADER = TraceHeader("0.1.0", "echo", 7, 1, "name = 'lab'\n")
EVENTS = (
    START,
    Arrived("peer", datagram("far", "echo", 1, "hello")),
    FromDevice(Completed("memory", 5)),
    ToNode("alice", KeepAlive()),
    Handed("user", KeepAlive()),
    Handed("user", CAME),
    Handed("user", Left("the program ended")),
    TICK,
    DRAINED,
    Stop("the end"),
)
ACTIONS = (
    Transmit("peer", datagram("echo", "far", 1, "hello")),
    Device("memory", MemoryInitialise("memory", 5, 0)),
    Note("noted", (("peer", "far"), ("count", 3))),
    Up(FromNode("alice", KeepAlive())),
    Up(NodeReached("alice")),
    Hand("user", KeepAlive()),
    Hand("user", Left("the end")),
)


def fresh(seed: int = 1) -> EchoHost:
    """A host as it was before its recorded life."""
    return EchoHost(seed=seed, deadline=1_000_000)


async def recorded(path: Path) -> EchoHost:
    """Record a short life of a host: datagrams good and bad, a device, a tick, its end."""
    host = fresh()
    port, far = open_port(), open_port().socket
    port.peers["far"] = far.address
    writer = TraceWriter(path, HEADER)
    devices = LocalDevices({"memory": PureMemory(delay_ns=1_000)})
    pump = Pump(host, (port,), LabClock(), Outside(devices, writer))
    for number, text in enumerate(("one", "device", "wrong", "two"), 1):
        far.send(data("far", "echo", number, text), port.socket.address)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(pump.run)
            await host.until(FromDevice)
            pump.post(ToNode("far", KeepAlive()))
            await host.until(ToNode)
            while host.deadline is not None:
                await host.until(Drained, sum(isinstance(e, Drained) for e in host.seen) + 1)
            nursery.cancel_scope.cancel()
    pump.farewell("the end")
    writer.close()
    far.close()
    port.socket.close()
    return host


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_survives_the_way_through_a_record(event: object) -> None:
    item = event_record(event, 12)
    assert item.is_event
    assert event_of(item) == event
    assert describe(item)


def test_a_bundle_that_no_wire_would_carry_survives_it_too() -> None:
    """Where datagrams hold messages, what goes into one is reckoned by a guess of their size."""
    small = datagram("far", "echo", 1, "hello")
    frame = small.frames[0]
    bundle = Datagram(small.header, 400 * (frame,))
    with pytest.raises(LocalProtocolError, match="too long"):
        encode_datagram(bundle)
    assert event_of(event_record(Arrived("peer", bundle), 12)) == Arrived("peer", bundle)
    with pytest.raises(LocalProtocolError, match="too long"):
        event_record(Arrived("peer", Datagram(small.header, 20_000 * (frame,))), 12)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_every_action_has_a_record_that_people_can_read(action: object) -> None:
    item = action_record(action, 12)
    assert not item.is_event
    assert any(describe(item))


def test_what_is_written_is_read_back_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    writer = TraceWriter(path, HEADER)
    for now, event in enumerate(EVENTS):
        writer.event(event, now)
    for now, action in enumerate(ACTIONS):
        writer.action(action, now)
    writer.close()
    header, records = read_trace(path)
    assert header == HEADER
    expected = [event_record(event, now) for now, event in enumerate(EVENTS)]
    expected += [action_record(action, now) for now, action in enumerate(ACTIONS)]
    assert list(records) == expected


def test_a_trace_that_was_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    writer = TraceWriter(path, HEADER)
    bare = path.stat().st_size
    for now in range(3):
        writer.event(EVENTS[1], now)
    writer.close()
    whole = path.read_bytes()
    lengths = []
    for end in range(bare, len(whole) + 1):
        path.write_bytes(whole[:end])
        lengths.append(len(list(read_trace(path)[1])))
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (0, 3)


def test_a_trace_ends_itself_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    writer = TraceWriter(path, HEADER, limit_bytes=200)
    for now in range(1_000):
        writer.event(EVENTS[1], now)
    writer.close()
    *before, last = read_trace(path)[1]
    assert last.kind is Kind.CUT
    assert 0 < len(before) < 10
    assert path.stat().st_size < 1_000


@pytest.mark.parametrize("text", [b"", b"QSTACKTR", b"PNG" * 20, b"QSTACKTR\x01\x05\0\0\0{}}}}"])
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "t.qtrace"
    path.write_bytes(text)
    with pytest.raises(TraceError):
        read_trace(path)


async def test_a_replay_does_the_same_to_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    await recorded(path)
    header, records = read_trace(path)
    result = replay(fresh(header.seed), records)
    assert result.difference == ()
    assert result.complete
    assert result.events >= 8
    assert result.actions >= 5


async def test_a_replay_of_another_seed_names_the_first_difference(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    await recorded(path)
    result = replay(fresh(2), read_trace(path)[1])
    assert len(result.difference) == 3
    where, was, now = result.difference
    assert "START" in where
    assert "started draw=" in was
    assert "started draw=" in now
    assert was.partition("draw=")[2] != now.partition("draw=")[2]


async def test_a_replay_notices_every_action_that_is_missing_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    await recorded(path)
    records = list(read_trace(path)[1])
    for place, item in enumerate(records):
        if item.is_event:
            continue
        without = records[:place] + records[place + 1 :]
        changed = TraceRecord(Kind.NOTE, item.now, b'["another thing", {}]')
        altered = [*records[:place], changed, *records[place + 1 :]]
        assert replay(fresh(), altered).difference
        # Actions that are missing at the very end were cut off, not left out.
        if any(later.is_event for later in records[place:]):
            assert replay(fresh(), without).difference


async def test_a_replay_of_any_beginning_of_a_trace_finds_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    await recorded(path)
    records = list(read_trace(path)[1])
    for end in range(len(records)):
        assert replay(fresh(), itertools.islice(records, end)).difference == ()


async def test_a_crash_leaves_its_cause_in_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.qtrace"
    host = EchoHost()
    port, far = open_port(), open_port().socket
    port.peers["far"] = far.address
    writer = TraceWriter(path, HEADER)
    pump = Pump(host, (port,), LabClock(), Outside(trace=writer))
    far.send(data("far", "echo", 1, "bug"), port.socket.address)
    with trio.fail_after(LIMIT_S), pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await pump.run()
    # Not closed: the pump itself hands all to the system.
    last = list(read_trace(path)[1])[-1]
    assert last.kind is Kind.ARRIVED
    assert "bug" in "".join(describe(last))
    writer.close()
    far.close()
    port.socket.close()

"""Live and virtual are two drivers of the same machines: what they make them say is the same.

The same four processes and two users run on sockets and on the heap, in a world that heralds by
script. (``tests/nodes/test_live_network.py`` replays the traces of real processes too.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from qstack.codec import decode_body
from qstack.drivers.replay import replay
from qstack.drivers.trace import read_trace
from qstack.messages.application import PairReady, RequestDone
from qstack.messages.link import LinkAdd, LinkClose, LinkCommit, LinkOutcome, LinkSync
from qstack.messages.network import RouteUpdate
from qstack.messages.wire import KIND_OF
from tests.simulate.scripted import Sent, fresh_hosts, live, virtually


def kinds_of(sent: Sent) -> set[int]:
    return {kind for channel in sent.values() for kind, _ in channel.values()}


def said_of_links(frames: dict[int, tuple[int, bytes]]) -> set[object]:
    """What a channel of the network layer told, without what is measured: latencies and how pairs
    age meanwhile differ, and how often they are told anew."""
    return {_plain(kind, body) for kind, body in frames.values()}


def _plain(kind: int, body: bytes) -> object:
    message = decode_body(kind, body)
    if not isinstance(message, RouteUpdate):
        return type(message)
    links = tuple(map(_unmeasured, message.links))
    return (message.origin, message.boot, message.node, links)


def _unmeasured(link: Any) -> Any:
    offers = tuple((offer.setting, offer.rate_hz, offer.slot_ns) for offer in link.offers)
    return attrs.evolve(link, latency_ns=0, turn_ns=0, offers=offers)


async def test_reliable_frames_at_first_transmission_are_equal_live_and_virtual(
    tmp_path: Path,
) -> None:
    """Scripted heralds, one request at a time: per direction and channel, byte for byte."""
    virtual, real = virtually(), await live(tmp_path)
    assert set(real) == set(virtual)
    for channel, frames in virtual.items():
        assert list(frames) == list(range(1, len(frames) + 1)), channel
        if channel[-1] == "network":
            assert said_of_links(real[channel]) == said_of_links(frames), channel
        else:
            assert real[channel] == frames, channel
    # What was compared is worth comparing: every kind of request, from queue to delivery.
    told = (LinkSync, LinkAdd, LinkCommit, LinkOutcome, LinkClose, PairReady, RequestDone)
    assert {KIND_OF[kind].number for kind in told} <= kinds_of(virtual)
    assert sum(len(frames) for frames in virtual.values()) > 60


async def test_every_live_trace_stepped_through_the_machines_gives_the_same_actions(
    tmp_path: Path,
) -> None:
    """Six hosts, each from its own trace alone, with its recorded instants, to the last byte."""
    await live(tmp_path)
    for name, host in fresh_hosts().items():
        header, records = read_trace(tmp_path / f"{name}.trace")
        assert header.boot == host.boot
        replayed = replay(host, records)
        assert replayed.difference == (), name
        assert replayed.complete
        assert replayed.actions > 10, name

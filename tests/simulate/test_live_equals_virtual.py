"""Live and virtual are two drivers of the same machines: what they make them say is the same.

That every live trace, stepped through the machines with its recorded instants, gives the same
actions byte for byte is tested where live networks are: ``tests/nodes/test_live_network.py``
replays the traces of all four processes, and ``tests/nodes/test_live_faults.py`` kills them.
"""

from __future__ import annotations

from qstack.messages.application import PairReady, RequestDone
from qstack.messages.link import LinkAdd, LinkClose, LinkCommit, LinkOutcome, LinkSync
from qstack.messages.wire import KIND_OF
from tests.simulate.scripted import Sent, live, virtually


def kinds_of(sent: Sent) -> set[int]:
    return {kind for channel in sent.values() for kind, _ in channel.values()}


async def test_reliable_frames_at_first_transmission_are_equal_live_and_virtual() -> None:
    """Scripted heralds, one request at a time: per direction and channel, byte for byte."""
    virtual, real = virtually(), await live()
    assert set(real) == set(virtual)
    for channel, frames in virtual.items():
        assert list(frames) == list(range(1, len(frames) + 1)), channel
        assert real[channel] == frames, channel
    # What was compared is worth comparing: every kind of request, from queue to delivery.
    told = (LinkSync, LinkAdd, LinkCommit, LinkOutcome, LinkClose, PairReady, RequestDone)
    assert {KIND_OF[kind].number for kind in told} <= kinds_of(virtual)
    assert sum(len(frames) for frames in virtual.values()) > 60

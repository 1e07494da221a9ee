"""One neighbour: hello, lives, channels, reliable delivery, keepalive, round-trip time.

Theory of operation. Reliability exists here and nowhere above (DESIGN section 5). A neighbour is
one pure machine, :class:`Adjacency`. Messages are posted at any time and leave bundled at the
next DRAINED (or TICK); what arrives is indicated as `Delivered`, with `PeerUp` before the first
message of a life of the peer and `PeerLost` after the last.

*Lives.* The header's boot ids name lives of the adjacency. The first is the process's boot id;
after a loss that the peer may not have noticed this end starts another, derived from it, so that
both ends always drop what they shared together. A life of the peer counts after a Hello that
echoes mine. ``Hello.boot`` and ``PeerUp.boot`` stay the boot id of the process.

*Numbers.* Every datagram has a number that is never used again towards this peer. Frames that
must arrive are remembered with the number that carries them. A number that is acknowledged frees
them; one that was overtaken by three acknowledged later ones and had the time of a round trip, or
that outlives the retransmission time, hands them back, and they leave in a new datagram. (Loss
detection after RFC 9002 section 6 and RFC 8985; retransmission time from RFC 6298.) Timed frames
are not remembered and ask for no acknowledgement.

*Streams.* A soft stream keeps its newest state until the datagram that carried it is
acknowledged. A reliable channel is a sequence of frames with a reorder buffer at the receiver;
the sender keeps within the receiver's credit, counted as body bytes plus `FRAME_COST` per frame,
which starts at `INITIAL_CREDIT` and grows by the soft message Credit. At most `MAX_IN_FLIGHT`
datagrams wait for an acknowledgement, so that all of them fit into the acknowledgement bitmap.

`service` is what it offers, `states` the table, `machine` the clockwork, `greeting` hellos and
lives, `flight` numbers and times, `outbox` what waits to leave, `inbox` what came in.
"""

from __future__ import annotations

from qstack.adjacency.flight import MAX_IN_FLIGHT
from qstack.adjacency.inbox import MAX_STREAMS
from qstack.adjacency.machine import Adjacency
from qstack.adjacency.outbox import FRAME_COST, INITIAL_CREDIT
from qstack.adjacency.service import (
    COUNTERS,
    AdjacencyParameters,
    Delivered,
    Dormant,
    Open,
    PeerLost,
    PeerUp,
    Post,
    Shut,
)
from qstack.adjacency.states import TABLE, State

__all__ = [
    "COUNTERS",
    "FRAME_COST",
    "INITIAL_CREDIT",
    "MAX_IN_FLIGHT",
    "MAX_STREAMS",
    "TABLE",
    "Adjacency",
    "AdjacencyParameters",
    "Delivered",
    "Dormant",
    "Open",
    "PeerLost",
    "PeerUp",
    "Post",
    "Shut",
    "State",
]

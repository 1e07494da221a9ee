"""Wires between hosts: latency, bandwidth, and everything that goes wrong on the way.

A :class:`Wire` says how datagrams travel; a :class:`Path` is one direction between two hosts and
carries them. Each fault of each path draws from a generator of its own, forked by the names of
the hosts and of the fault, and draws once for every datagram while it is on, whatever the
others decide: so the n-th datagram of a path meets the same fate of each fault, whichever other
faults are on.

On the way a datagram is first cut off, then queued, then lost, corrupted, held back or doubled.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from qstack.codec import (
    FRAME_OVERHEAD,
    Forged,
    Keys,
    decode_body,
    decode_datagram,
    encode_body,
    encode_datagram,
)
from qstack.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from qstack.machine import record
from qstack.messages.wire import KINDS, Datagram, Frame
from qstack.units import SECOND, Chance, Duration, Instant, NodeName

CUT, QUEUE, LOST, CHECKSUM, REJECTED, FORGED, NOBODY = (
    "cut",
    "queue",
    "lost",
    "checksum",
    "rejected",
    "forged",
    "nobody",
)
"""Why a datagram was dropped: the path is cut, the queue before the wire is full, it was lost, a
checksum or the codec found it corrupted, it was not sealed as the destination's keys demand, or
the destination does not live when it comes."""

DUPLICATED, HELD, CORRUPTED = "duplicated", "held", "corrupted"
"""What else befell datagrams: a copy more, held back, or delivered other than it was sent."""

MAX_FLIPS = 8


@record
class Wire:
    """How datagrams travel between two hosts, one way; probabilities are per datagram.

    A datagram takes `latency_ns` plus a uniform share of `jitter_ns`, so jitter reorders.
    `loss`: the share that is lost, in runs of `burst` on average (1: independently of each
    other; Gilbert's two states). `duplicate`: a copy comes too, with a jitter of its own.
    `reorder`: held back by a uniform share of `reorder_ns`. `corrupt`: one to MAX_FLIPS bits
    are flipped; with `checksum` what the Internet checksum of the datagram finds is dropped.
    `bits_per_s`: 0 for no limit; what has to wait for its turn waits in a queue of
    `queue_bytes`, and what does not fit any more is dropped.
    """

    latency_ns: Duration
    jitter_ns: Duration = 0
    loss: float = 0.0
    duplicate: float = 0.0
    burst: float = 1.0
    reorder: float = 0.0
    reorder_ns: Duration = 0
    corrupt: float = 0.0
    checksum: bool = False
    bits_per_s: int = 0
    queue_bytes: int = 65_536

    @property
    def plain(self) -> bool:
        """Whether it does nothing but take its time, the same for all datagrams."""
        wrong = self.loss or self.duplicate or self.reorder or self.corrupt
        return not (wrong or self.jitter_ns or self.bits_per_s)


def check_wire(wire: Wire) -> None:
    """Raise ConfigError with everything that a wire cannot be."""
    problems = [
        f"{name} = {value} is not in [0, 1]"
        for name, value in (
            ("loss", wire.loss),
            ("duplicate", wire.duplicate),
            ("reorder", wire.reorder),
            ("corrupt", wire.corrupt),
        )
        if not 0 <= value <= 1
    ]
    spans = (wire.latency_ns, wire.jitter_ns, wire.reorder_ns, wire.bits_per_s, wire.queue_bytes)
    if min(spans) < 0:
        problems.append(f"a wire has no negative times, rates and queues: {wire}")
    if wire.burst < 1:
        problems.append(f"burst = {wire.burst}: what is lost is at least one datagram")
    elif wire.burst > 1 and wire.burst * (1 - wire.loss) < wire.loss < 1:
        problems.append(f"loss = {wire.loss} needs longer runs than burst = {wire.burst}")
    if problems:
        raise ConfigError(problems)


class Path:
    """One direction between two hosts: its wire as it is now, and what became of datagrams.

    `number` is negative and names the path in the heap; `target` takes what arrives. `plain_ns`
    is the latency of a plain wire, and -1 where :meth:`carry` must be asked. `counts`: by
    the names above; `sent` counts all.
    """

    def __init__(
        self,
        ends: tuple[NodeName, NodeName],
        target: Any,
        number: int,
        chance: Chance,
        *,
        as_bytes: bool,
        keys: dict[NodeName, Keys] | None = None,
    ) -> None:
        self.source, self.destination = ends
        self.target = target
        self.number = number
        self.chance = chance
        self.as_bytes = as_bytes
        self.keys: dict[NodeName, Keys] = {} if keys is None else keys
        self.wire = Wire(0)
        self.plain_ns: Duration = -1
        self.sent = 0
        self.counts: Counter[str] = Counter()
        self.cut = False
        self._streams: dict[str, Chance] = {}
        self._losing = False
        self._free_at: Instant = 0

    def set(self, wire: Wire, cut: bool) -> None:
        """Be such a wire from now on."""
        self.wire, self.cut = wire, cut
        self.plain_ns = wire.latency_ns if wire.plain and not cut and not self.as_bytes else -1
        if not wire.loss:
            self._losing = False

    def carry(self, datagram: Datagram, now: Instant) -> list[tuple[Instant, Datagram]]:
        """Return what arrives of a datagram that is sent now, and when."""
        wire = self.wire
        # All draw, also for what another fault has dropped by then: see the module.
        lost = wire.loss > 0 and self._loses(wire)
        twice = wire.duplicate > 0 and self._draw("duplicate") < wire.duplicate
        delay = wire.latency_ns
        if wire.jitter_ns:
            delay += int(self._draw("jitter") * wire.jitter_ns)
        held = self._held(wire) if wire.reorder > 0 else 0
        corrupt = wire.corrupt > 0 and self._draw("corrupt") < wire.corrupt
        if self.cut:
            return self._dropped(CUT)
        if wire.bits_per_s:
            left = self._queued(datagram, wire, now)
            if left is None:
                return self._dropped(QUEUE)
            delay += left - now
        if lost:
            return self._dropped(LOST)
        carried = datagram
        if corrupt:
            read = self._corrupted(datagram, wire)
            if read is None:
                return []
            carried = read
        elif self.as_bytes:
            try:
                data = encode_datagram(datagram, self.keys.get(self.source))
                carried = decode_datagram(data, self.keys.get(self.destination))
            except Forged:
                return self._dropped(FORGED)
        arrivals = [(now + delay + held, carried)]
        if held:
            self.counts[HELD] += 1
        if twice:
            self.counts[DUPLICATED] += 1
            late = int(self._draw("copy") * wire.jitter_ns) if wire.jitter_ns else 0
            arrivals.append((now + wire.latency_ns + late, carried))
        return arrivals

    def _dropped(self, reason: str) -> list[tuple[Instant, Datagram]]:
        self.counts[reason] += 1
        return []

    def _stream(self, fault: str) -> Chance:
        stream = self._streams.get(fault)
        if stream is None:
            name = f"{self.source}>{self.destination}/{fault}"
            stream = self._streams[fault] = self.chance.fork(name)
        return stream

    def _draw(self, fault: str) -> float:
        return self._stream(fault).uniform()

    def _loses(self, wire: Wire) -> bool:
        """Whether this datagram is lost.

        Two states, of which one loses all: left with probability 1/burst per datagram, and entered
        so often that the share of datagrams in it is `loss` (Gilbert 1960).
        """
        u = self._draw("loss")
        if wire.burst == 1.0 or wire.loss == 1.0:
            return u < wire.loss
        if self._losing:
            self._losing = u >= 1 / wire.burst
        else:
            self._losing = u < wire.loss / (wire.burst * (1 - wire.loss))
        return self._losing

    def _held(self, wire: Wire) -> Duration:
        held, share = self._draw("reorder") < wire.reorder, self._draw("reorder")
        return int(share * wire.reorder_ns) if held else 0

    def _queued(self, datagram: Datagram, wire: Wire, now: Instant) -> Instant | None:
        """Return when the last bit is on the wire, None where the queue has no room."""
        size = datagram_size(datagram)
        starts = max(now, self._free_at)
        waiting = (starts - now) * wire.bits_per_s
        if waiting and waiting > (wire.queue_bytes - size) * 8 * SECOND:
            return None
        self._free_at = starts + -(-size * 8 * SECOND // wire.bits_per_s)
        return self._free_at

    def _corrupted(self, datagram: Datagram, wire: Wire) -> Datagram | None:
        """Flip bits; return what the codec reads then, None where the datagram is dropped."""
        objects = any(type(frame.body) is not bytes for frame in datagram.frames)
        try:
            plain = _with_bytes(datagram) if objects else datagram
            sent = encode_datagram(plain, self.keys.get(self.source))
        except LocalProtocolError:
            # As objects datagrams may be longer than a wire takes; no real one ever is.
            self.counts[REJECTED] += 1
            return None
        stream = self._stream("flips")
        bits = int.from_bytes(sent, "big")
        for _ in range(1 + stream.below(MAX_FLIPS)):
            bits ^= 1 << stream.below(8 * len(sent))
        data = bits.to_bytes(len(sent), "big")
        if data == sent:
            # Flipped there and back.
            return datagram
        if wire.checksum and checksum(data) != checksum(sent):
            self.counts[CHECKSUM] += 1
            return None
        try:
            read = decode_datagram(data, self.keys.get(self.destination))
        except RemoteProtocolError:
            self.counts[REJECTED] += 1
            return None
        self.counts[CORRUPTED] += 1
        return _with_objects(read) if objects else read


def datagram_size(datagram: Datagram) -> int:
    """Return how many bytes a datagram has on a wire; of objects, what their bytes would be."""
    objects = any(type(frame.body) is not bytes for frame in datagram.frames)
    if not objects:
        return len(encode_datagram(datagram))
    head = len(encode_datagram(Datagram(datagram.header, ())))
    return head + sum(
        FRAME_OVERHEAD + len(frame.stream) + len(encode_body(frame.body))
        for frame in datagram.frames
    )


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of a datagram's bytes."""
    if len(data) % 2:
        data += b"\0"
    # Folding carries until 16 bits are left is reduction modulo 2**16 - 1.
    return ~(int.from_bytes(data, "big") % 0xFFFF) & 0xFFFF


def _with_bytes(datagram: Datagram) -> Datagram:
    frames = [
        Frame(f.kind, f.stream, f.sequence, f.more, encode_body(f.body)) for f in datagram.frames
    ]
    return Datagram(datagram.header, tuple(frames))


def _with_objects(datagram: Datagram) -> Datagram:
    """Bodies read back; one that cannot be read stays bytes, which its receiver refuses."""
    frames = []
    for frame in datagram.frames:
        body: Any = frame.body
        if frame.kind in KINDS:
            try:
                body = decode_body(frame.kind, body)
            except RemoteProtocolError:
                body = frame.body
        frames.append(Frame(frame.kind, frame.stream, frame.sequence, frame.more, body))
    return Datagram(datagram.header, tuple(frames))

"""What came in from one life of the peer: order restored, duplicates gone, memory bounded."""

from __future__ import annotations

from typing import Any

from qstack.adjacency.kinds import REASON_LENGTH, REFUSAL
from qstack.adjacency.outbox import INITIAL_CREDIT, cost_of
from qstack.codec import decode_body
from qstack.errors import RemoteProtocolError
from qstack.messages.control import Credit, Refusal
from qstack.messages.wire import KINDS, MAX_MESSAGE, Delivery, Frame

MAX_STREAMS = 512
"""How many soft streams, and how many channels, a peer may have."""

MAX_HELD = 4 * MAX_MESSAGE
"""Bytes of unfinished messages, over all channels."""


class ChannelIn:
    """A reliable channel of the peer: what is expected, what came early, what is unfinished."""

    __slots__ = ("consumed", "early", "expected", "granted", "kind", "part", "received", "skipping")

    def __init__(self) -> None:
        self.expected = 1
        # None while there is nothing, as nearly always.
        self.early: dict[int, Frame] | None = None
        # One buffer and not the frames: a million pieces of one byte must stay a megabyte.
        self.part: bytearray | None = None
        self.kind = 0
        self.skipping = False
        self.received = 0
        self.consumed = 0
        self.granted = INITIAL_CREDIT


class Inbox:
    """Turns the frames of one life of the peer into messages.

    `grants` collects the Credit to send; `problems` what was wrong with frames, as (kind,
    reason). Whoever steps the inbox empties both.
    """

    __slots__ = (
        "_channels",
        "_held",
        "_soft",
        "_window",
        "_wire",
        "duplicates",
        "grants",
        "problems",
    )

    def __init__(self, wire: bool, window: int) -> None:
        self._wire = wire
        self._window = window
        self._soft: dict[str, int] = {}
        self._channels: dict[str, ChannelIn] = {}
        self._held = 0
        self.duplicates = 0
        self.grants: list[Credit] = []
        self.problems: list[tuple[int, str]] = []

    def take(self, frame: Frame) -> list[Any]:
        """Return the messages that this frame completes; never raises for what a peer sent."""
        kind = KINDS.get(frame.kind)
        delivery = _guess(frame) if kind is None else kind.delivery
        if delivery is Delivery.RELIABLE:
            return self._reliable(frame)
        if frame.more:
            return self._refuse(frame, "only reliable messages go on in another frame")
        if delivery is Delivery.TIMED:
            return self._read(frame, frame.body)
        return self._newest(frame)

    def answer(self) -> Refusal | None:
        """Return what is said of the problems, at most of one, and of no refusal; drop them all."""
        kind, reason = self.problems[0]
        self.problems.clear()
        return None if kind == REFUSAL else Refusal(kind, reason[:REASON_LENGTH])

    def _newest(self, frame: Frame) -> list[Any]:
        last = self._soft.get(frame.stream)
        if last is None:
            if len(self._soft) >= MAX_STREAMS:
                return self._refuse(frame, "too many soft streams")
            last = 0
        if frame.sequence <= last:
            self.duplicates += 1
            return []
        messages = self._read(frame, frame.body)
        if messages:
            self._soft[frame.stream] = frame.sequence
        return messages

    def _reliable(self, frame: Frame) -> list[Any]:
        channel = self._channels.get(frame.stream)
        if channel is None:
            if len(self._channels) >= MAX_STREAMS:
                return self._refuse(frame, "too many channels")
            channel = self._channels[frame.stream] = ChannelIn()
        sequence = frame.sequence
        if sequence < channel.expected or (channel.early and sequence in channel.early):
            self.duplicates += 1
            return []
        cost = cost_of(frame.body)
        if channel.received + cost > channel.granted:
            return self._refuse(frame, "beyond the credit of its channel")
        channel.received += cost
        if sequence != channel.expected:
            if channel.early is None:
                channel.early = {}
            channel.early[sequence] = frame
            return []
        messages = self._consume(channel, frame, cost)
        while channel.early is not None:
            following = channel.early.pop(channel.expected, None)
            if following is None:
                break
            if not channel.early:
                channel.early = None
            messages += self._consume(channel, following, cost_of(following.body))
        if channel.consumed + self._window - channel.granted >= self._window // 2:
            channel.granted = channel.consumed + self._window
            self.grants.append(Credit(frame.stream, channel.granted))
        return messages

    def _consume(self, channel: ChannelIn, frame: Frame, cost: int) -> list[Any]:
        """Take the next frame of a channel in its order."""
        channel.expected += 1
        channel.consumed += cost
        if not frame.more and channel.part is None and not channel.skipping:
            return self._read(frame, frame.body)
        return self._assemble(channel, frame)

    def _assemble(self, channel: ChannelIn, frame: Frame) -> list[Any]:
        """Add a piece to an unfinished message, or drop all of one that cannot be right."""
        if channel.skipping:
            channel.skipping = frame.more
            return []
        if type(frame.body) is not bytes:
            return self._refuse(frame, "a message that is no bytes cannot be cut")
        size = len(frame.body)
        reason = ""
        part = bytearray() if channel.part is None else channel.part
        if part and channel.kind != frame.kind:
            reason = f"a message of kind {channel.kind:#x} goes on with another kind"
        elif not size:
            reason = "an empty piece of a message"
        elif len(part) + size > MAX_MESSAGE or self._held + size > MAX_HELD:
            reason = "a message, or all unfinished ones together, are too long"
        if reason:
            self._forget(channel)
            channel.skipping = frame.more
            return self._refuse(frame, reason)
        part += frame.body
        channel.part = part
        channel.kind = frame.kind
        self._held += size
        if frame.more:
            return []
        body = bytes(part)
        self._forget(channel)
        return self._read(frame, body)

    def _forget(self, channel: ChannelIn) -> None:
        """Drop the unfinished message of a channel."""
        self._held -= 0 if channel.part is None else len(channel.part)
        channel.part = None

    def _read(self, frame: Frame, body: Any) -> list[Any]:
        """Return the message of a complete body, in a list; an empty one where it is none."""
        if self._wire:
            if type(body) is not bytes:
                return self._refuse(frame, "a body on a wire is bytes")
            try:
                return [decode_body(frame.kind, body)]
            except RemoteProtocolError as error:
                return self._refuse(frame, str(error))
        kind = KINDS.get(frame.kind)
        if kind is None or type(body) is not kind.cls:
            return self._refuse(frame, "the body is not of the frame's kind")
        return [body]

    def _refuse(self, frame: Frame, reason: str) -> list[Any]:
        self.problems.append((frame.kind, reason))
        return []


def _guess(frame: Frame) -> Delivery:
    """Tell by its stream's name how an unknown kind is delivered, so that its channel goes on."""
    if not frame.stream:
        return Delivery.TIMED
    return Delivery.SOFT if frame.stream.endswith(f"#{frame.kind:x}") else Delivery.RELIABLE

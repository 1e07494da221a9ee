"""Datagram numbers: which arrived here, which of ours did, and how long a round trip takes."""

from __future__ import annotations

from typing import Any, TypeAlias

from qstack.units import Duration, Instant

MAX_IN_FLIGHT = 48
"""Datagrams with frames that must arrive, sent and not acknowledged; below the bitmap's 64 with
room for the datagrams between them that ask for nothing."""

ACK_EVERY = 16
"""Datagrams that ask for an acknowledgement, after which it no longer waits for its delay."""

REORDER_THRESHOLD = 3
"""Acknowledged later datagrams after which a number counts as lost (RFC 9002, section 6.1.1)."""

MAX_BACKOFF = 10
"""The retransmission time is doubled at most this often."""

BITMAP = (1 << 64) - 1
_RECENT = (1 << REORDER_THRESHOLD) - 1

Cargo: TypeAlias = list[tuple[Any, Any]]
"""(stream, frame) pairs that a datagram carries and that must arrive."""


class Received:
    """The numbers that arrived from one life of the peer: the largest and the 64 before it.

    `ack_at` is when the peer must be told of them, None where it asked for nothing new; `heard`,
    when the peer said anything.
    """

    __slots__ = ("_first", "_owed", "ack_at", "bitmap", "heard", "largest", "largest_at")

    def __init__(self, now: Instant) -> None:
        self._first = 0
        self._owed = 0
        self.ack_at: Instant | None = None
        self.largest = 0
        self.bitmap = 0
        self.largest_at: Instant = 0
        self.heard = now

    @property
    def has_hole(self) -> bool:
        """Whether one of the numbers just before the largest is missing.

        The peer gives a number up after REORDER_THRESHOLD later ones, and is told of each of
        them at once, but no longer than that.
        """
        if self.bitmap & _RECENT == _RECENT:
            return False
        mask = (1 << min(REORDER_THRESHOLD, self.largest - self._first)) - 1
        return self.bitmap & mask != mask

    def add(self, number: int, now: Instant) -> bool:
        """Record a number; False where it arrived before or is too old to tell."""
        self.heard = max(self.heard, now)
        ahead = number - self.largest
        if ahead > 0:
            if not self.largest:
                self._first = number
            elif ahead > 64:
                self.bitmap = 0
            else:
                self.bitmap = ((self.bitmap << ahead) | (1 << (ahead - 1))) & BITMAP
            self.largest = number
            self.largest_at = now
            return True
        bit = -ahead - 1
        if bit < 0 or bit > 63 or self.bitmap >> bit & 1:
            return False
        self.bitmap |= 1 << bit
        return True

    def owe(self, fresh: bool, now: Instant, delay: Duration) -> None:
        """A datagram that asks for an acknowledgement came in, `fresh` if for the first time."""
        if self.ack_at is None:
            self.ack_at = now + delay
        self._owed += fresh
        if self._owed >= ACK_EVERY or self.has_hole:
            # At once, so that the peer notices its loss, or never fills the bitmap.
            self.ack_at = now

    def told(self, now: Instant, us_ns: float) -> int:
        """A datagram leaves, and with it the word of all that arrived; return its delay in us."""
        self.ack_at = None
        self._owed = 0
        return int((now - self.largest_at) / us_ns) if self.largest else 0


class RoundTrip:
    """The smoothed round-trip time and the retransmission time that follows (RFC 6298)."""

    __slots__ = (
        *("_floor", "_patience", "_variation", "backoff", "latest", "plain", "smoothed", "timeout"),
    )

    def __init__(self, floor: Duration, patience: Duration, first_guess: Duration) -> None:
        self._floor = floor
        # The peer may hold an acknowledgement back for its delay, which is taken to be ours.
        self._patience = patience
        self.smoothed: Duration | None = None
        self.latest: Duration = 0
        self._variation: Duration = 0
        self.timeout: Duration = max(floor, first_guess) + patience
        # What an acknowledgement takes that nobody holds back: the measured time alone.
        self.plain: Duration = self.timeout
        self.backoff = 0

    @property
    def recent(self) -> Duration | None:
        """The smoothed time, or the latest one if that was shorter."""
        return None if self.smoothed is None else min(self.smoothed, self.latest)

    def sample(self, elapsed: Duration, held: Duration) -> None:
        """Take a measured round trip, of which the peer held the acknowledgement for `held`."""
        # An honest peer never claims more than passed; a liar gains nothing but our impatience.
        rtt = max(elapsed - held, 1) if held < elapsed else elapsed
        self.latest = rtt
        if self.smoothed is None:
            self.smoothed = rtt
            self._variation = rtt // 2
        else:
            self._variation = (3 * self._variation + abs(self.smoothed - rtt)) // 4
            self.smoothed = (7 * self.smoothed + rtt) // 8
        self.plain = self.smoothed + 4 * self._variation
        self.timeout = max(self.plain, self._floor) + self._patience

    def waiting(self) -> Duration:
        """How long to wait for an acknowledgement now, doubled as often as nothing came."""
        return self.timeout << self.backoff


class Flight:
    """Our datagrams that carry something which must arrive, until they did or are lost.

    `on_way`: when each of them was sent and what it carries, by number, the oldest first.
    `probe`: number and instant of one that carries nothing such, but is answered at once. Both
    are changed here alone; where there are neither, an acknowledgement says nothing.
    """

    __slots__ = ("_acked", "_acked_bitmap", "_overtaken_at", "on_way", "probe", "round_trip")

    def __init__(self, round_trip: RoundTrip) -> None:
        self.on_way: dict[int, tuple[Instant, Cargo]] = {}
        self._acked = self._acked_bitmap = 0
        self._overtaken_at: Instant | None = None
        self.probe: tuple[int, Instant] | None = None
        self.round_trip = round_trip

    def __len__(self) -> int:
        return len(self.on_way)

    @property
    def has_room(self) -> bool:
        """Whether another datagram may ask for an acknowledgement of reliable frames."""
        return len(self.on_way) < MAX_IN_FLIGHT

    def sent(self, number: int, cargo: Cargo, now: Instant) -> None:
        """Remember what this datagram carries."""
        self.on_way[number] = (now, cargo)

    def asked(self, number: int, now: Instant) -> None:
        """A datagram left that carries nothing such, but is answered at once."""
        self.probe = (number, now)

    @property
    def deadline(self) -> Instant | None:
        """When the oldest datagram, or one that was overtaken, has waited long enough."""
        for sent_at, _ in self.on_way.values():
            trip = self.round_trip
            oldest = sent_at + (trip.timeout << trip.backoff)
            return oldest if self._overtaken_at is None else min(oldest, self._overtaken_at)
        return None

    def acknowledged(
        self, largest: int, bitmap: int, held: Duration, now: Instant
    ) -> tuple[Cargo, Cargo]:
        """Take an acknowledgement; return what arrived, and what was overtaken and is lost."""
        if self.probe is not None and largest >= self.probe[0]:
            number, asked_at = self.probe
            self.probe = None
            if largest == number:
                self.round_trip.sample(now - asked_at, held)
        arrived: Cargo = []
        for number in tuple(self.on_way):
            if number > largest:
                break
            behind = largest - number
            if behind == 0 or (behind <= 64 and bitmap >> (behind - 1) & 1):
                sent_at, cargo = self.on_way.pop(number)
                arrived += cargo
                if behind == 0:
                    self.round_trip.sample(now - sent_at, held)
                self.round_trip.backoff = 0
        if largest > self._acked or (largest == self._acked and bitmap > self._acked_bitmap):
            self._acked, self._acked_bitmap = largest, bitmap
        # Where nothing is on its way nothing is overtaken either.
        if self.on_way:
            return arrived, self._overtaken(now)
        self._overtaken_at = None
        return arrived, []

    def _overtaken(self, now: Instant) -> Cargo:
        """Give up what later datagrams overtook, once it had the time of a round trip.

        The time separates a loss from a mere reordering (as RACK does, RFC 8985).
        """
        lost: Cargo = []
        self._overtaken_at = None
        if not self.on_way or next(iter(self.on_way)) > self._acked:
            return lost
        wait = self.round_trip.plain
        for number, (sent_at, cargo) in list(self.on_way.items()):
            if not _is_overtaken(number, self._acked, self._acked_bitmap):
                break
            if sent_at + wait > now:
                self._overtaken_at = sent_at + wait
                break
            del self.on_way[number]
            lost += cargo
        return lost

    def expired(self, now: Instant) -> Cargo:
        """Return what has waited too long, to be sent again.

        Where nothing was acknowledged meanwhile the next wait is twice as long.
        """
        lost = self._overtaken(now)
        late = False
        waiting = self.round_trip.waiting()
        for number, (sent_at, cargo) in list(self.on_way.items()):
            if sent_at + waiting > now:
                break
            del self.on_way[number]
            lost += cargo
            late = True
        if late and self.round_trip.backoff < MAX_BACKOFF:
            self.round_trip.backoff += 1
        return lost


def _is_overtaken(number: int, largest: int, bitmap: int) -> bool:
    """Whether enough later datagrams arrived that this one can be given up."""
    behind = largest - number
    if behind <= 0 or behind > 64:
        return behind > 0
    later = 1 + (bitmap & ((1 << (behind - 1)) - 1)).bit_count()
    return later >= REORDER_THRESHOLD

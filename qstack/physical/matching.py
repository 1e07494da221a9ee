"""Which success of the station belongs to which emission of this node.

The station speaks of successes, the emitter of emissions; both name the attempt by (cycle,
mode), and either may be heard of first. Results leave in the order of the station's
sequence. An emission is void as soon as the station has decided its cycle and every success
up to that statement is known here; a success without an emission waits for `patience_ns`,
because the device's event may be late, and is missing after that.

Where the link's clock begins again cycles are named anew, and what is left of the former count
stays apart, with the successes up to the one that the station had made when it said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from qstack.errors import RemoteProtocolError
from qstack.machine import record
from qstack.messages.physical import ArmReply, Beacon, Herald, Success
from qstack.physical.attempts import Emission
from qstack.physical.service import KeptReady, MeasuredReady, PairMissing
from qstack.units import BootId, Duration, Instant

MAX_LISTED = 64
"""More successes than this are in no honest message: the station keeps no more unconfirmed."""

MAX_CYCLE = 1 << 62

Statement: TypeAlias = ArmReply | Herald | Beacon
"""Every message of the station says how far the link is, and is decided."""

Successes: TypeAlias = Sequence[Success]

Attempt: TypeAlias = tuple[int, ...]
"""An attempt by (cycle, mode); one of a former count of cycles by what :func:`_left` returns."""


@record
class Resolved:
    """The next success of the sequence, with the emission that it belongs to.

    `reason` is empty if the two make a pair, and says otherwise why they do not.
    """

    success: Success
    emission: Emission | None
    reason: str


@attrs.define
class _Former:
    """What is left of a former count of cycles, to which the successes up to `upto` belong."""

    upto: int
    emissions: dict[Attempt, Emission]
    heralded: dict[Attempt, int]


def _left(attempt: Attempt, upto: int) -> Attempt:
    """Return what an attempt of a former count goes by: of no cycle that is ever decided."""
    return (MAX_CYCLE + attempt[0], attempt[1], upto)


class Matching:
    """The successes that were told and the emissions that were made, until they meet."""

    __slots__ = (
        *("_claim", "_decided", "_emissions", "_former", "_freed", "_heralded", "_highest"),
        *("_lost_to", "_modes", "_patience_ns", "_told", "_waiting", "known", "opened", "seen"),
        "skipped",
    )

    def __init__(self, modes: int, patience_ns: Duration) -> None:
        self._modes = modes
        self._patience_ns = patience_ns
        self.seen = 0
        self.skipped = 0
        self.known = 0
        """The highest sequence up to which every success is known here, or lost for good. Told
        successes raise it, and what is :meth:`lost <lose>`; to resolve them changes nothing, so
        that there is nothing to resolve where it is `seen`."""
        self._told: dict[int, tuple[Success, Instant]] = {}
        self._heralded: dict[Attempt, int] = {}
        self._emissions: dict[Attempt, Emission] = {}
        self.opened: dict[Attempt, Instant] = {}
        """When the emissions without a success became known, in that order. None of them is of a
        decided cycle, but the one that came last until :meth:`redecide` looked at it. Those of
        former counts of cycles go by another name (:func:`_left`)."""
        self._former: list[_Former] = []
        self._freed: list[Emission] = []
        self._waiting: dict[int, int] = {}
        self._decided = -1
        self._claim = (0, -1)
        self._lost_to = 0
        self._highest = 0

    # --- what is known -----------------------------------------------------------------

    def waiting(self, work: int) -> int:
        """Return how many emissions for this piece of work wait for the station's word."""
        return self._waiting.get(work, 0)

    def patience_ends(self) -> Instant | None:
        """Return when the next success in sequence counts as missing."""
        if self.known == self.seen:
            return None
        entry = self._told.get(self.seen + 1)
        return None if entry is None else entry[1] + self._patience_ns

    def check(self, message: Statement, successes: Successes, horizon: int, limit: int) -> None:
        """Raise RemoteProtocolError for what no honest station says; change nothing.

        `successes` are those of the message, `horizon` the latest cycle that one of them may be
        of, as far as it tells, and `limit` the highest sequence that the credits offered so far
        allow.
        """
        last = message.last_sequence
        if not -1 <= message.decided_cycle <= message.cycle < MAX_CYCLE:
            raise RemoteProtocolError(f"cycles make no sense: {message}")
        if not 0 <= last <= limit:
            raise RemoteProtocolError(
                f"success {last} cannot be: no more than {limit} were offered"
            )
        if not successes:
            return
        if len(successes) > MAX_LISTED:
            raise RemoteProtocolError(f"{len(successes)} successes in one message")
        sequence = first = successes[0].sequence
        if first < 1 or first + len(successes) - 1 > last:
            raise RemoteProtocolError(f"success {first} is out of order")
        horizon, seen = max(horizon, self._highest), self.seen
        attempts: set[Attempt] = set()
        for success in successes:
            if success.sequence != sequence:
                raise RemoteProtocolError(f"success {success.sequence} is out of order")
            # Most of what is repeated until it is confirmed is known here already.
            if sequence > seen:
                attempt = self._check_success(success, horizon)
                if attempt in attempts:
                    raise RemoteProtocolError("two successes of one attempt")
                attempts.add(attempt)
            sequence += 1

    def _check_success(self, success: Success, horizon: int) -> Attempt:
        """Return the attempt that a success names, if it can be one of this link."""
        sequence = success.sequence
        attempt = cycle, mode = success.cycle, success.mode
        if cycle < 0 or cycle > horizon or mode < 0 or mode >= self._modes:
            raise RemoteProtocolError(f"no attempt {cycle}.{mode} on this link")
        if success.bell < 0 or success.bell > 3:
            raise RemoteProtocolError(f"no Bell state {success.bell}")
        former = self._of(sequence) if self._former else None
        if self._told:
            told = self._told.get(sequence)
            if told is not None and told[0] != success:
                raise RemoteProtocolError(f"success {sequence} was told otherwise before")
            heralded = self._heralded if former is None else former.heralded
            other = heralded.get(attempt, sequence)
            if other != sequence:
                raise RemoteProtocolError(f"successes {other} and {sequence} are of one attempt")
        return attempt if former is None else _left(attempt, former.upto)

    # --- what happens ------------------------------------------------------------------

    def begin(self, seen: int) -> list[Emission]:
        """Forget all but the sequence to go on from; return the emissions that are void now."""
        void = list(self._emissions.values())
        if self._former:
            left = [former.emissions for former in self._former]
            void = [each for some in left for each in some.values()] + void + self._freed
            self._former.clear()
            self._freed.clear()
        self.seen = self._lost_to = self.known = seen
        self._told.clear()
        self._heralded.clear()
        self._emissions.clear()
        self.opened.clear()
        self._waiting.clear()
        self._decided = -1
        self._claim = (0, -1)
        return void

    def base(self, seen: int) -> None:
        """Take the sequence to go on from; what was emitted meanwhile may belong to it."""
        self.seen = self._lost_to = seen
        self._know(seen)

    def rewind(self, last_sequence: int) -> None:
        """The cycles begin again from 0: what was decided of the former ones holds no more.

        No success after `last_sequence` is of the former count, and none up to it of the new one,
        in which this node has emitted nothing yet. What is void of the former count is
        :meth:`freed`.
        """
        self._decided = -1
        self._claim = (0, -1)
        self._former.append(_Former(last_sequence, self._emissions, self._heralded))
        names = ((at if len(at) > 2 else _left(at, last_sequence)) for at in self.opened)
        self.opened = dict(zip(names, self.opened.values(), strict=True))
        self._emissions, self._heralded = {}, {}
        self._clear()

    def freed(self) -> list[Emission]:
        """Return the emissions of former counts of cycles that became void; each once.

        These are the ones without a success, once every success of their count is known.
        """
        freed, self._freed = self._freed, []
        return freed

    def _of(self, sequence: int) -> _Former | None:
        """What a success is of; None for the present count of cycles."""
        return next((former for former in self._former if sequence <= former.upto), None)

    def _clear(self) -> None:
        """Let go of what is of a former count, as far as all of its successes are known."""
        for former in self._former:
            if former.upto <= self.known:
                for attempt in [each for each in former.emissions if each not in former.heralded]:
                    emission = former.emissions.pop(attempt)
                    del self.opened[_left(attempt, former.upto)]
                    self._settled(emission.work)
                    self._freed.append(emission)
        self._former = [each for each in self._former if each.upto > self.seen or each.emissions]

    def hear(self, cycle: int) -> None:
        """Note the station's cycle: no success is of a later one than the highest heard."""
        self._highest = max(self._highest, cycle)

    def tell(self, successes: Successes, now: Instant) -> None:
        """Take successes that passed :meth:`check`; those known already are ignored."""
        seen, told = self.seen, self._told
        for success in successes:
            sequence = success.sequence
            if sequence > seen and sequence not in told:
                attempt: Attempt = (success.cycle, success.mode)
                told[sequence] = (success, now)
                former = self._of(sequence) if self._former else None
                if former is None:
                    self._heralded[attempt] = sequence
                else:
                    former.heralded[attempt] = sequence
                    attempt = _left(attempt, former.upto)
                self.opened.pop(attempt, None)
        if self.known + 1 in told:
            self._know(self.known)

    def lose(self, sequence: int) -> None:
        """The station has nothing to tell up to `sequence` beyond what it has told."""
        self._lost_to = max(self._lost_to, sequence)
        self._know(max(self.known, sequence))

    def _know(self, sequence: int) -> None:
        """Every success up to `sequence` is known here, and so are those that follow on it."""
        while sequence + 1 in self._told:
            sequence += 1
        self.known = sequence

    def emit(self, emission: Emission) -> bool:
        """Take an emission; False, and not taken, where its attempt is spoken for already."""
        attempt = (emission.cycle, emission.mode)
        if attempt in self._emissions:
            return False
        self._emissions[attempt] = emission
        if attempt not in self._heralded:
            self.opened[attempt] = emission.since
        self._waiting[emission.work] = self._waiting.get(emission.work, 0) + 1
        return True

    def ready(self) -> bool:
        """Return whether :meth:`resolve` has something to give, whatever the time."""
        if self.known == self.seen:
            return False
        entry = self._told.get(self.seen + 1)
        if entry is None:
            return True
        former = self._of(self.seen + 1) if self._former else None
        emissions = self._emissions if former is None else former.emissions
        return (entry[0].cycle, entry[0].mode) in emissions

    def resolve(self, now: Instant) -> Resolved | None:
        """Return the next success of the sequence if it is settled; each once."""
        if self._lost_to > self.seen:
            self._skip()
        entry = self._told.get(self.seen + 1)
        if entry is None:
            return None
        success, told_at = entry
        attempt = (success.cycle, success.mode)
        former = self._of(success.sequence) if self._former else None
        emissions = self._emissions if former is None else former.emissions
        emission = emissions.pop(attempt, None)
        if emission is None:
            if now < told_at + self._patience_ns:
                return None
            reason = "no emission of this attempt was reported here"
        else:
            self._settled(emission.work)
            reason = ""
            if emission.request is not success.request and emission.request != success.request:
                reason = f"the attempt was made for request {emission.request}"
            elif emission.setting != success.setting:
                reason = f"the attempt was made with setting {emission.setting!r}"
        self.seen = success.sequence
        del self._told[self.seen]
        del (self._heralded if former is None else former.heralded)[attempt]
        return Resolved(success, emission, reason)

    def _skip(self) -> None:
        """Pass over what the station cannot tell any more."""
        if self.seen + 1 not in self._told:
            ahead = min(self._lost_to, min(self._told, default=self._lost_to + 1) - 1)
            self.skipped += ahead - self.seen
            self.seen = ahead

    def void(self, attempts: Sequence[tuple[int, int]]) -> list[Emission]:
        """Return the emissions of these attempts, which the station threw away."""
        return [self._void(attempt) for attempt in attempts if attempt in self.opened]

    def decide(self, last_sequence: int, decided_cycle: int) -> list[Emission]:
        """Take how far the station has decided; return the emissions that are void by it.

        While a success up to `last_sequence` is unknown here, it may be that of any emission:
        the statement then waits until it is known.
        """
        if decided_cycle > self._claim[1]:
            self._claim = (last_sequence, decided_cycle)
        known, former = self.known, self._decided
        if known >= last_sequence and decided_cycle > former:
            self._decided = decided_cycle
        if known >= self._claim[0] and self._claim[1] > self._decided:
            self._decided = self._claim[1]
        if self._former:
            self._clear()
        return self._decide() if self._decided > former else []

    def _decide(self) -> list[Emission]:
        if not self.opened:
            return []
        decided = self._decided
        void = [attempt for attempt in self.opened if attempt[0] <= decided]
        return [self._void(attempt) for attempt in void]

    def redecide(self) -> list[Emission]:
        """Return the emission that is void by what was decided before it was known."""
        if not self.opened or next(reversed(self.opened))[0] > self._decided:
            return []
        return self._decide()

    def _void(self, attempt: Attempt) -> Emission:
        """Forget an emission that no success can be of any more, and return it."""
        del self.opened[attempt]
        emission = self._emissions.pop(attempt)
        self._settled(emission.work)
        return emission

    def _settled(self, work: int) -> None:
        """One emission fewer for this piece of work waits."""
        waiting = self._waiting[work] - 1
        if waiting:
            self._waiting[work] = waiting
        else:
            del self._waiting[work]


def indication(resolved: Resolved, boot: BootId) -> KeptReady | MeasuredReady | PairMissing:
    """Return what the link layer is told of a success, of this life of the station."""
    success, emission = resolved.success, resolved.emission
    if emission is None or resolved.reason:
        return PairMissing(success.sequence, boot, success.request, resolved.reason)
    if emission.qubit is None:
        return MeasuredReady(
            success.sequence,
            boot,
            success.request,
            success.bell,
            success.clicks,
            success.tags_ps,
            emission.basis,
            emission.outcome,
            emission.emitted_at,
            success.setting,
        )
    return KeptReady(
        success.sequence,
        boot,
        success.request,
        success.bell,
        success.clicks,
        success.tags_ps,
        emission.qubit,
        emission.emitted_at,
        success.setting,
    )

"""What a station knows of one end of a link: its arm, its credits, what it has not confirmed."""

from __future__ import annotations

from typing import TypeAlias

from qstack.errors import RemoteProtocolError
from qstack.machine import record
from qstack.messages.common import PairKind, RequestId
from qstack.messages.physical import Arm, ArmReply, Confirm, Herald, Success, Verdict
from qstack.physical.firsts import Firsts
from qstack.physical.pairing import LinkState
from qstack.units import BootId, Duration, Instant, LinkName, NodeName

MAX_UNCONFIRMED = 64
"""So many unconfirmed successes at an end, and the analyser closes until some are confirmed."""

MAX_LISTED = 8
"""So many successes travel in one message, which keeps it inside one datagram."""

REPEATED = 2
"""So many older successes that are not confirmed travel beside the new ones of a herald."""

MAX_VOIDS = 32
"""So many void attempts are named in one herald."""

MAX_REASON = 160
"""Bytes of a reply's reason, which must fit into one datagram with MAX_LISTED successes."""

HOLD = 4
"""A reply that may wait leaves after this part of `confirm_ns`."""

MAX_JUMP = 1 << 20
"""Numbers, queries and credits that are further away than this are no honest ones."""

HARMLESS = frozenset({Verdict.ACCEPT, Verdict.WAIT, Verdict.AHEAD})
"""Between these an end with a herald line does nothing else: it is told with its next arm."""

Wanted: TypeAlias = tuple[RequestId | None, PairKind, str, int, int, int]
"""What must agree at both ends: request, kind, setting, queue version, the bin's cycles."""


def wanted(arm: Arm) -> Wanted:
    """Return what an arm wants."""
    return (arm.request, arm.kind, arm.setting, arm.queue_version, arm.bin, arm.bin_end)


def _cut(reason: str) -> str:
    """Return as much of a reason as a reply has room for."""
    return reason.encode()[:MAX_REASON].decode(errors="ignore")


@record
class Word:
    """What the station's messages of one instant have in common; fields as in ArmReply."""

    link: LinkName
    cycle: int
    last_sequence: int
    decided_cycle: int
    first_cycle: int
    until_ns: Duration
    epoch: int
    window: tuple[int, int] = (0, 0)
    phase_ns: Duration = 0


class StationEnd:
    """One end of a link, as its station sees it."""

    __slots__ = (
        *("_confirm_ns", "_firsts", "_herald_line", "arm", "asks", "boot", "confirmed", "credit"),
        *("credits", "curious", "fresh", "full", "herald_due", "hold_until", "node", "reachable"),
        *("remind_at", "reply_due", "said", "seen", "unconfirmed", "voids", "wanted"),
    )

    def __init__(self, node: NodeName, confirm_ns: Duration, *, herald_line: bool = True) -> None:
        self.node = node
        self.reachable = False
        self.boot: BootId = 0
        self.arm: Arm | None = None
        self.wanted: Wanted | None = None
        """What `arm` wants; None where there is no arm."""
        self.asks: Wanted | None = None
        """The same where this end is there and does not rest; changes with `arm.number` alone."""
        self.credits = 0
        """How many it has offered memory for under the number of `arm`, as far as is known."""
        self.seen = 0
        """The latest success that it has seen, as far as it said so since it has an arm here."""
        self.credit = 0
        """How many more successes this end has offered memory for; 0 where there is no arm."""
        self.confirmed = 0
        self.unconfirmed: list[Success] = []
        self.full = False
        """Whether it has too much unconfirmed to be told more; set wherever that changes."""
        self.fresh = 0
        """How many of the unconfirmed, the latest ones, no herald has told."""
        self.voids: list[tuple[int, int]] = []
        self.herald_due = False
        self.reply_due = False
        self.hold_until: Instant | None = None
        """When a reply leaves that may wait; None where none does."""
        self.remind_at: Instant | None = None
        self.said: tuple[Verdict, int, str] | None = None
        self.curious = False
        """Whether it asked for something since it was told of a window; see :meth:`tell_window`."""
        self._confirm_ns = confirm_ns
        self._herald_line = herald_line
        self._firsts = Firsts()

    def check(self, arm: Arm, last_sequence: int) -> None:
        """Raise RemoteProtocolError for what no honest node sends; change nothing."""
        if not self._offers_more(arm, last_sequence):
            self._check(arm, last_sequence)

    def _offers_more(self, arm: Arm, last_sequence: int) -> bool:
        """Return whether it only adds to the former arm, as most do, in what :meth:`_check` allows.

        What it wants was then checked before.
        """
        former = self.arm
        return (
            former is not None
            and arm.number == former.number
            and former.credits <= arm.credits <= self.credits + MAX_JUMP
            and 0 <= arm.query - former.query <= MAX_JUMP
            and 0 <= arm.herald_sequence <= last_sequence
            and 0 <= arm.first_cycle < 1 << 62
            and wanted(arm) == self.wanted
        )

    def _check(self, arm: Arm, last_sequence: int) -> None:
        former = self.arm
        # The first arm of a life may have any number: this end counted before it came here.
        base = arm.number if former is None else former.number
        same = former is not None and arm.number == former.number
        offered = self.credits if same else 0
        asked = arm.query if former is None else former.query
        if not 0 < arm.number <= base + MAX_JUMP or arm.number >= 1 << 62:
            raise RemoteProtocolError(f"arm {arm.number} after arm {base}")
        if not 0 <= arm.credits <= offered + MAX_JUMP or not 0 <= arm.query <= asked + MAX_JUMP:
            raise RemoteProtocolError(f"{arm.credits} credits, query {arm.query}")
        if not 0 <= arm.herald_sequence <= last_sequence:
            raise RemoteProtocolError(
                f"success {arm.herald_sequence} was never told: the last is {last_sequence}"
            )
        if arm.queue_version < 0 or not 0 <= arm.first_cycle < 1 << 62:
            raise RemoteProtocolError(f"version {arm.queue_version}, cycle {arm.first_cycle}")
        if not 0 <= arm.bin < 1 << 62 or not (arm.bin_end == 0 or arm.bin < arm.bin_end < 1 << 62):
            raise RemoteProtocolError(f"a bin of the cycles {arm.bin} to {arm.bin_end}")
        if same and former is not None:
            if wanted(arm) != self.wanted:
                raise RemoteProtocolError(f"arm {arm.number} wanted something else before")
            if arm.credits < former.credits or arm.query < former.query:
                raise RemoteProtocolError(f"arm {arm.number} takes back what it offered")

    def take(self, arm: Arm, now: Instant) -> bool:
        """Take an arm that passed :meth:`check`; an older one than the last is ignored.

        Return whether it is a new number: another one than the last was.
        """
        former = self.arm
        anew = former is None or arm.number != former.number
        if former is None or anew:
            if former is not None and arm.number < former.number:
                return False
            self.credit = self.credits = arm.credits
            self.wanted = wanted(arm)
            self.asks = None if arm.request is None else self.wanted
            self._owe(arm, now)
            self.curious = True
            if self.unconfirmed and self.remind_at is None:
                self.remind_at = now + self._confirm_ns
        else:
            self._offer(arm.credits)
            if arm.query != former.query:
                self.reply_due = self.curious = True
        self.arm = arm
        self.reachable = True
        self.seen = arm.herald_sequence if anew else max(self.seen, arm.herald_sequence)
        if arm.herald_sequence > self.confirmed:
            self._confirm(arm.herald_sequence, now)
        return anew

    def take_more(self, more: Confirm, last_sequence: int, now: Instant) -> None:
        """Take what an end adds to its arm, if it is to this one.

        RemoteProtocolError for what no honest node sends.
        """
        sequence, arm = more.herald_sequence, self.arm
        if not 0 <= sequence <= last_sequence:
            raise RemoteProtocolError(
                f"success {sequence} was never told: the last is {last_sequence}"
            )
        if arm is None or more.number != arm.number:
            # What it confirms is told again, which the whole arm then answers.
            return
        if not 0 <= more.credits <= self.credits + MAX_JUMP:
            raise RemoteProtocolError(f"{more.credits} credits after {self.credits}")
        self._offer(more.credits)
        self.seen = max(self.seen, sequence)
        if sequence > self.confirmed:
            self._confirm(sequence, now)

    def _offer(self, credits_: int) -> None:
        """So many were offered under this number; an older word than the last changes nothing."""
        if credits_ > self.credits:
            self.credit += credits_ - self.credits
            self.credits = credits_

    def _confirm(self, sequence: int, now: Instant) -> None:
        """All successes up to `sequence` are known at the end."""
        self.confirmed = sequence
        unconfirmed = self.unconfirmed
        if unconfirmed:  # their sequences follow on each other
            del unconfirmed[: max(0, sequence + 1 - unconfirmed[0].sequence)]
        self.fresh = min(self.fresh, len(unconfirmed))
        self.full = len(unconfirmed) >= MAX_UNCONFIRMED
        self.remind_at = now + self._confirm_ns if unconfirmed else None

    def _owe(self, arm: Arm, now: Instant) -> None:
        """Owe a reply to a new number: a while later, where a herald says the same before.

        A success of a request that was never asked for before is made under this number. An end
        that offers credit has armed its emitter, and waits for no reply to begin.
        """
        first = self._firsts.ask(arm.request) and arm.credits > 0
        known = self.said is not None and self.said[0] in HARMLESS
        if first and known and self._herald_line and not self.reply_due:
            self.hold_until = now + self._confirm_ns // HOLD
        else:
            self.reply_due = True

    def succeed(self, success: Success, now: Instant) -> None:
        """Note a success, to be told at once and until it is confirmed."""
        self.credit -= 1
        self.fresh += 1
        self.unconfirmed.append(success)
        self.full = len(self.unconfirmed) >= MAX_UNCONFIRMED
        self.herald_due = True
        if self.remind_at is None:
            self.remind_at = now + self._confirm_ns

    def remind(self, now: Instant) -> None:
        """Let what is unconfirmed for too long be told by a reply, which is repeated."""
        if self.remind_at is not None and self.remind_at <= now:
            self.reply_due = True
            self.remind_at = now + 4 * self._confirm_ns

    def let_go(self, now: Instant) -> None:
        """Let a reply leave that has waited long enough."""
        if self.hold_until is not None and self.hold_until <= now:
            self.reply_due, self.hold_until = True, None

    def tell_window(self) -> None:
        """Another window counts: tell an end that wants something, or did in the former one."""
        if self.arm is not None and self.curious:
            self.reply_due = True
            self.curious = self.asks is not None

    def begin(self, boot: BootId, last_sequence: int) -> None:
        """The end is there. A new life of it has seen nothing, and is told nothing old."""
        if boot == 0 or boot != self.boot:
            self.unconfirmed.clear()
            self.full = False
            self.fresh = 0
            self.confirmed = last_sequence
            self.remind_at = None
            self._firsts = Firsts()
        self.boot = boot
        self.reachable = True
        self.drop_arm()

    def lose(self) -> None:
        """The end is out of reach."""
        self.reachable = False
        self.remind_at = None
        self.drop_arm()

    def drop_arm(self) -> None:
        """Forget what it wanted; what it has not confirmed stays."""
        self.arm = self.wanted = self.asks = None
        self.credit = self.credits = self.seen = 0
        self.said = None
        self.reply_due = self.herald_due = False
        self.hold_until = None
        self.voids.clear()

    def verdict(self, other: StationEnd, state: LinkState, reason: str) -> tuple[Verdict, str]:
        """Return what this end is told about its arm, and why."""
        if state is LinkState.CLOSED:
            return Verdict.REFUSED, reason
        if self.arm is None or self.arm.request is None:
            return Verdict.WAIT, "idle"
        match state:
            case LinkState.PAIRED:
                return Verdict.ACCEPT, ""
            case LinkState.DEFERRED:
                return Verdict.DEFER, reason or "the analyser serves another link"
            case LinkState.APART if other.arm is not None:
                arm, their = self.arm, other.arm
                mine = (arm.queue_version, arm.bin, self.seen)
                theirs = (their.queue_version, their.bin, other.seen)
                if mine == theirs:
                    return Verdict.REFUSED, "the ends want different things on the same basis"
                return (Verdict.BEHIND if mine < theirs else Verdict.AHEAD), ""
            case _:
                return Verdict.WAIT, "the other end is idle or away"

    def heralds(self, word: Word) -> list[Herald]:
        """Return what this end is told at once: all new successes and all voids.

        More of either than one message holds travel in several. None but the last says how
        far the link is decided, for that is true of all successes together.
        """
        self.herald_due = False
        told = tuple(self.unconfirmed[-(self.fresh + REPEATED) :])
        self.fresh = 0
        heralds: list[Herald] = []
        while len(told) > MAX_LISTED:
            first, told = told[:MAX_LISTED], told[MAX_LISTED:]
            last = first[-1].sequence
            heralds.append(Herald(word.link, word.cycle, last, -1, first, (), word.epoch))
        voids = tuple(self.voids)
        while len(voids) > MAX_VOIDS:
            some, voids = voids[:MAX_VOIDS], voids[MAX_VOIDS:]
            heralds.append(Herald(word.link, word.cycle, 0, -1, (), some, word.epoch))
        last, decided = word.last_sequence, word.decided_cycle
        heralds.append(Herald(word.link, word.cycle, last, decided, told, voids, word.epoch))
        return heralds

    def reply(self, other: StationEnd, word: Word) -> ArmReply:
        """Return the answer to this end's arm, with its oldest unconfirmed successes."""
        self.reply_due, self.hold_until = False, None
        verdict, _, reason = self.said or (Verdict.WAIT, 0, "no arm is known")
        arm, theirs = self.arm, other.arm
        return ArmReply(
            word.link,
            0 if arm is None else arm.number,
            0 if arm is None else arm.query,
            verdict,
            word.first_cycle,
            0,
            word.until_ns,
            0 if theirs is None else theirs.queue_version,
            other.seen,
            word.cycle,
            word.last_sequence,
            word.decided_cycle,
            tuple(self.unconfirmed[:MAX_LISTED]),
            reason if 4 * len(reason) <= MAX_REASON else _cut(reason),
            word.epoch,
            *word.window,
            word.phase_ns,
        )

"""The arm of one node: what the station was told to want, and what it said to that.

An arm is soft state: the newest message replaces the former. `number` grows with what is
asked, `credits` with what is offered for it, `query` where only an answer is wanted. Where
nothing changed but what was seen and is offered, the short Confirm says so: it is sent once, for
the station tells again what is not confirmed, and is then answered with the whole arm.

The station answers a number with a reply. A success of a request that no earlier number asked
for is an answer too, for only the present number can have brought it; the reply may then be late.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any, TypeAlias, assert_never

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.machine import record
from qstack.messages.common import PairKind, RequestId
from qstack.messages.physical import Arm, ArmReply, Confirm, Success, Verdict
from qstack.physical.events import StationReachable, StationUnreachable
from qstack.physical.firsts import Firsts
from qstack.physical.service import LinkParameters, Rest, Serve
from qstack.units import BootId, Duration, Instant, LinkName

CONFIRM_AT = 4
"""So many unconfirmed successes are confirmed at once, without waiting for a credit."""


class ArmState(IntEnum):
    """The life of a node's arm."""

    SILENT = auto()
    """The station is out of reach."""
    ASKED = auto()
    """The present number has not been answered."""
    STANDING = auto()
    """The station has taken the present number."""


@record
class Wish:
    """What an arm asks for; `request` None to rest. A different wish is a new number."""

    request: RequestId | None
    kind: PairKind
    setting: str
    queue_version: int
    begin: int = 0
    end: int = 0


ArmEvent: TypeAlias = StationReachable | StationUnreachable | Wish | ArmReply | Success

_ASKED = frozenset({ArmState.ASKED})
_SILENT = frozenset({ArmState.SILENT})

TABLE: dict[ArmState, dict[type[Any], frozenset[ArmState]]] = {
    ArmState.SILENT: {StationReachable: _ASKED},
    ArmState.ASKED: {
        StationReachable: _ASKED,
        StationUnreachable: _SILENT,
        Wish: _ASKED,
        ArmReply: frozenset({ArmState.ASKED, ArmState.STANDING}),
        Success: frozenset({ArmState.ASKED, ArmState.STANDING}),
    },
    ArmState.STANDING: {
        StationReachable: _ASKED,
        StationUnreachable: _SILENT,
        Wish: _ASKED,
        ArmReply: frozenset({ArmState.STANDING}),
        Success: frozenset({ArmState.STANDING}),
    },
}

IDLE = Wish(None, PairKind.KEEP, "", 0)


def wish_for(target: Serve | None, version: int) -> Wish:
    """Return what to ask for in order to work for `target`; None: to rest."""
    if target is None:
        return Wish(None, IDLE.kind, "", version)
    return Wish(*(target.request, target.kind, target.setting, version), target.begin, target.end)


def check_order(order: Serve | Rest, parameters: LinkParameters) -> None:
    """Raise LocalProtocolError for an order that the link cannot follow."""
    if isinstance(order, Serve):
        if order.setting not in (setting.id for setting in parameters.settings):
            raise LocalProtocolError(f"link {parameters.name} has no {order.setting!r}")
        if order.pairs < 0:
            raise LocalProtocolError(f"{order.pairs} pairs cannot be wanted")
        if order.begin < 0 or 0 < order.end <= order.begin:
            raise LocalProtocolError(f"cycles {order.begin} to {order.end} are none")


def same_work(one: Serve, other: Serve) -> bool:
    """Return whether what is emitted for one may serve the other."""
    first = (one.request, one.kind, one.setting, one.plan, one.begin, one.end)
    return first == (
        *(other.request, other.kind, other.setting, other.plan),
        *(other.begin, other.end),
    )


class Arming:
    """One node's arm; `boot` is the station's life that it is meant for, 0 while silent."""

    __slots__ = (
        *("_answered_query", "_assured", "_first", "_firsts", "_limit_base", "_link", "_whole"),
        *("accepted", "awaited", "based", "boot", "confirm_at", "confirmed", "credits"),
        *("first_cycle", "number", "query", "seen_from", "settled_at", "silent", "standing"),
        *("state", "trusted", "urgent", "wish"),
    )

    def __init__(self, link: LinkName) -> None:
        self._link = link
        self.state = ArmState.SILENT
        self.silent = True
        """Whether the station is out of reach; of `state`, which :meth:`handle` alone sets."""
        self.standing = False
        """Whether the station has taken the present number; of `state`, as before."""
        self.boot: BootId = 0
        self.wish = IDLE
        self.number = 0
        self.credits = 0
        self.seen_from = 0
        self.query = 0
        self.first_cycle = 0
        self.settled_at = 0
        self.based = False
        self.accepted = False
        """Whether the station's latest word on the present number is that it is paired."""
        self.trusted = False
        """Whether the link's clock is known to run, in the station's present life and epoch."""
        self._answered_query = 0
        self._limit_base = 0
        self.confirmed = 0
        """The sequence up to which the station has been told that its successes are seen."""
        self._assured = 0
        """The sequence up to which an Arm has said so."""
        self.confirm_at: Instant | None = None
        """When the confirmation leaves that waits for a credit; None where none waits."""
        self.urgent = True
        """Whether anything but the confirmation differs from what was sent last, if anything was:
        a number, credits or a query. Whatever changes one of them says so here."""
        self._whole = True
        """Whether the next message is an Arm: a number or a query differs, or one was lost."""
        self.awaited = False
        """Whether the station waits for a confirmation that no message has brought yet, and so
        notices where the next one is lost: a success that it told is resolved."""
        self._firsts = Firsts()
        self._first = False

    @property
    def limit(self) -> int:
        """The highest sequence that there can be, by the credits that were offered."""
        return self._limit_base + self.credits

    def report(self) -> dict[str, Any]:
        """What the arm asks for, for people."""
        request = self.wish.request
        return {
            "state": self.state.name.lower(),
            "request": None if request is None else str(request),
            "arm": [self.number, self.credits],
        }

    def handle(self, event: ArmEvent) -> None:
        """Take an event that the table allows; nothing changes where it does not."""
        allowed = TABLE[self.state].get(type(event))
        if allowed is None:
            if isinstance(event, ArmReply):
                raise RemoteProtocolError("a reply, but there is no station now")
            raise LocalProtocolError(f"arm is {self.state.name}: no {type(event).__name__} now")
        match event:
            case StationReachable():
                state = self._reachable(event.boot)
            case StationUnreachable():
                self.confirm_at = None
                state = ArmState.SILENT
            case Wish():
                self._renew(event)
                state = ArmState.ASKED
            case ArmReply():
                state = self._answered(event)
            case Success():
                state = self._heralded(event)
            case _:
                assert_never(event)
        if state not in allowed:
            raise LocalProtocolError(f"{type(event).__name__} may not lead to {state.name}")
        self.state = state
        self.silent = state is ArmState.SILENT
        self.standing = state is ArmState.STANDING

    def check(self, reply: ArmReply) -> None:
        """Raise RemoteProtocolError for an answer to what was never asked."""
        if not (0 <= reply.number <= self.number and 0 <= reply.query <= self.query):
            raise RemoteProtocolError(
                f"an answer to arm {reply.number}/{reply.query}, "
                f"but the last is {self.number}/{self.query}"
            )
        if not 0 <= reply.first_cycle < 1 << 62:
            raise RemoteProtocolError(f"no first cycle: {reply.first_cycle}")

    def offer(self, outstanding: int, seen: int) -> None:
        """Raise the credits to what this number's successes used and what is outstanding.

        Every success seen since the number began is counted as its own. That may be too many,
        by those that crossed the arm, and never too few: the station's count is not exceeded,
        and no more halves exist than were armed.
        """
        credits = seen - self.seen_from + outstanding
        if credits > self.credits:
            self.credits = credits
            self.urgent = True

    def ask(self) -> bool:
        """Ask for an answer, unless one is on its way; return whether it is asked now."""
        if self.silent or not self.standing or self.query > self._answered_query:
            return False
        self.query += 1
        self.urgent = self._whole = True
        return True

    def told_again(self, sequence: int) -> None:
        """The station tells this success: what confirmed it is on its way, or was lost.

        An arm is not lost for good, so that there is nothing to do where one confirmed it.
        """
        if self._assured < sequence <= self.confirmed:
            self.urgent = self._whole = True

    def leaves(self, seen: int, now: Instant, confirm_ns: Duration) -> bool:
        """Return whether the arm is to be sent now; what it would but confirm waits for a while."""
        unconfirmed = seen - self.confirmed
        if self.urgent or unconfirmed >= CONFIRM_AT:
            return True
        if unconfirmed > 0 and self.confirm_at is None:
            self.confirm_at = now + confirm_ns // 2
        return False

    def confirms(self, now: Instant) -> bool:
        """Return whether a confirmation has waited long enough; it does so no more."""
        if self.confirm_at is None or self.confirm_at > now:
            return False
        self.confirm_at = None
        return True

    def may_settle(self, seen: int) -> bool:
        """Whether all successes from before the station answered were seen."""
        return self.standing and seen >= self.settled_at

    def message(self, seen: int) -> Arm | Confirm:
        """Return the arm as it stands, or what is new in it, and take it as sent."""
        wish, whole = self.wish, self._whole or not self.awaited
        self.confirmed, self.confirm_at = seen, None
        self.urgent = self._whole = self.awaited = False
        if not whole:
            return Confirm(self._link, self.boot, self.number, seen, self.credits)
        self._assured = seen
        return Arm(
            self._link,
            self.boot,
            self.number,
            wish.request,
            wish.kind,
            wish.setting,
            wish.queue_version,
            seen,
            self.credits,
            self.first_cycle,
            self.query,
            wish.begin,
            wish.end,
        )

    def _reachable(self, boot: BootId) -> ArmState:
        if boot != self.boot:
            self.boot = boot
            self.number = self.query = self._answered_query = 0
            self.credits = self._limit_base = 0
            self.based = self.trusted = False
            self._firsts = Firsts()
        self.first_cycle = 0
        self.confirmed = self._assured = 0
        self._renew(self.wish)
        return ArmState.ASKED

    def _renew(self, wish: Wish) -> None:
        self._limit_base += self.credits
        self.wish = wish
        self.number += 1
        self.urgent = self._whole = True
        self.credits = 0
        self.accepted = False
        self._answered_query = self.query
        self._first = self._firsts.ask(wish.request)

    def _answered(self, reply: ArmReply) -> ArmState:
        if not self.based:
            # The first word of this life of the station: its successes count from here.
            self.based = True
            self._limit_base += reply.last_sequence
        if reply.number != self.number:
            return self.state
        self.accepted = reply.verdict is Verdict.ACCEPT
        self.trusted = self.trusted or reply.verdict is not Verdict.REFUSED
        self._answered_query = max(self._answered_query, reply.query)
        if self.state is ArmState.ASKED:
            self.settled_at = reply.last_sequence
            self._limit_base = min(self._limit_base, reply.last_sequence)
        return ArmState.STANDING

    def _heralded(self, success: Success) -> ArmState:
        """Take a success as the answer where only the present number can have brought it."""
        if self.state is ArmState.STANDING or not self._first:
            return self.state
        if success.request != self.wish.request:
            return self.state
        self.accepted = self.trusted = True
        self.settled_at = success.sequence - 1
        self._limit_base = min(self._limit_base, self.settled_at)
        return ArmState.STANDING

"""The life of one request at one end of a link, from its proposal to its one terminal event.

A request ends as DONE or FAILED at both ends, once each, and the ends agree on which. For that
each end says when it is through (``LinkClose``): not final, when the number was reached; final,
when the request is out of the queue and the station confirmed that no success of it can follow.
Two closes that name the same last pair mean done; two final ones mean that both ends hold the
same valid pairs, and these decide. Where words take longer than the grace, an end decides alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, assert_never

from qstack.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from qstack.link.lives import is_above
from qstack.link.trials import Key
from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.messages.link import LinkRequest
from qstack.units import BootId, Instant


class State(StrEnum):
    """Where a request stands at this end."""

    PROPOSED = "proposed"
    """Ours; the peer has not answered."""
    WITHDRAWN = "withdrawn"
    """Ours, and we ended it before the master answered: its commit may be on the way."""
    QUEUED = "queued"
    """In the queue at both ends, and wants pairs."""
    COMPLETE = "complete"
    """Every pair was reported here; the peer has not said the same."""
    ENDING = "ending"
    """Not served any more: waits for the master's word, the station's, and pairs in hand."""
    CLOSED = "closed"
    """All over here; the peer has not said the same."""
    DONE = "done"
    """Terminal: LinkDone was indicated."""
    FAILED = "failed"
    """Terminal: LinkFailed was indicated."""


@record
class Committed:
    """It is in the queue of this end."""


@record
class Refused:
    """The peer, or the master, does not take it."""

    code: ErrorCode
    reason: str


@record
class Stopped:
    """Somebody wants it to end: a deadline, a user, the peer, the master, a fault."""

    code: ErrorCode
    reason: str


@record
class Dropped:
    """It ends at once without a word from the peer: nothing was committed, or the peer is lost."""

    code: ErrorCode
    reason: str


@record
class Removed:
    """The master took it out of the queue at this version."""

    version: int
    code: ErrorCode
    reason: str


@record
class Counted:
    """A herald brought a pair that is to be reported."""


@record
class Reported:
    """A counted pair was indicated."""

    key: Key


@record
class Delivered:
    """A herald brought a pair that was indicated at once: counted and reported in one."""

    key: Key


@record
class Voided:
    """A counted pair is void; `reported` where it had been indicated already."""

    reported: bool


@record
class Closed:
    """The peer is through: `last` is the last pair it reported."""

    last: Key
    final: bool


@record
class Quiet:
    """Removed, settled and no pair in hand: nothing more will come here."""


@record
class Overdue:
    """The grace in which to end is over, and the station's or the peer's word has not come."""


RequestEvent: TypeAlias = (
    Committed
    | Refused
    | Stopped
    | Dropped
    | Removed
    | Counted
    | Reported
    | Delivered
    | Voided
    | Closed
    | Quiet
    | Overdue
)

_S = State
TABLE: dict[State, dict[type, frozenset[State]]] = {
    _S.PROPOSED: {
        Committed: frozenset({_S.QUEUED}),
        Refused: frozenset({_S.FAILED}),
        Stopped: frozenset({_S.WITHDRAWN}),
        Dropped: frozenset({_S.FAILED}),
    },
    _S.WITHDRAWN: {
        Committed: frozenset({_S.ENDING}),
        Refused: frozenset({_S.FAILED}),
        Stopped: frozenset({_S.WITHDRAWN}),
        Dropped: frozenset({_S.FAILED}),
    },
    _S.QUEUED: {
        Stopped: frozenset({_S.ENDING}),
        Removed: frozenset({_S.ENDING}),
        Dropped: frozenset({_S.FAILED}),
        Counted: frozenset({_S.QUEUED}),
        Reported: frozenset({_S.QUEUED, _S.COMPLETE, _S.DONE}),
        Delivered: frozenset({_S.QUEUED, _S.COMPLETE, _S.DONE}),
        Voided: frozenset({_S.QUEUED}),
        Closed: frozenset({_S.QUEUED}),
    },
    _S.COMPLETE: {
        Stopped: frozenset({_S.ENDING}),
        Removed: frozenset({_S.ENDING}),
        Dropped: frozenset({_S.FAILED}),
        Voided: frozenset({_S.QUEUED}),
        Closed: frozenset({_S.COMPLETE, _S.DONE}),
    },
    _S.ENDING: {
        Stopped: frozenset({_S.ENDING}),
        Removed: frozenset({_S.ENDING}),
        Dropped: frozenset({_S.FAILED}),
        Counted: frozenset({_S.ENDING}),
        Reported: frozenset({_S.ENDING, _S.DONE}),
        Delivered: frozenset({_S.ENDING, _S.DONE}),
        Voided: frozenset({_S.ENDING}),
        Closed: frozenset({_S.ENDING, _S.DONE}),
        Quiet: frozenset({_S.CLOSED, _S.DONE, _S.FAILED}),
        Overdue: frozenset({_S.DONE, _S.FAILED}),
    },
    _S.CLOSED: {
        Stopped: frozenset({_S.CLOSED}),
        Dropped: frozenset({_S.FAILED}),
        Voided: frozenset({_S.CLOSED}),
        Closed: frozenset({_S.CLOSED, _S.DONE, _S.FAILED}),
        Overdue: frozenset({_S.DONE, _S.FAILED}),
    },
    _S.DONE: {},
    _S.FAILED: {},
}
"""The allowed successors. An event that a state does not list is illegal there."""

_OF_THE_PEER = (Committed, Refused, Removed, Closed)
TERMINAL = frozenset({State.DONE, State.FAILED})
SERVABLE = frozenset({State.QUEUED, State.COMPLETE})
ENDING = frozenset({State.ENDING, State.CLOSED})


class Request:
    """One request at one end: its state, its counts, its deadlines.

    `counted` are the valid pairs (in hand or reported), `reported` those of them that were
    indicated, `tested` the test rounds. `setting` is the working point of pairs heralded now.
    `deadline` is that of the maximum time, later that of the grace in which to end. `plain`: both
    halves are kept where and as they were made, so that no device works on them.
    """

    __slots__ = (
        *("_peer", "code", "counted", "deadline", "faults", "last", "plain", "reason"),
        *("removed_at", "reported", "setting", "state", "tested", "wanted"),
    )

    def __init__(self, wanted: LinkRequest, state: State, deadline: Instant | None) -> None:
        self.wanted = wanted
        plain = not wanted.store and wanted.final_bell is None
        self.plain = plain and wanted.kind is PairKind.KEEP
        self.state = state
        self.deadline = deadline
        self.setting = ""
        self.counted = 0
        self.reported = 0
        self.tested = 0
        self.faults = 0
        self.code = ErrorCode.OTHER
        self.reason = ""
        self.removed_at: int | None = None
        self.last: Key = (0, 0)
        self._peer: Closed | None = None

    @property
    def over(self) -> bool:
        """Whether the terminal indication was made."""
        return self.state in TERMINAL

    @property
    def missing(self) -> int:
        """How many more successes it wants."""
        return self.wanted.number - self.counted

    @property
    def closed(self) -> bool:
        """Whether the peer was told that this end is through, and it still is."""
        complete = self.reported == self.wanted.number
        return self.state is State.CLOSED or (
            complete and self.state in (State.COMPLETE, State.ENDING)
        )

    def forget_close_above(self, boot: BootId, highest: int) -> None:
        """The peer's close no longer counts if its last pair is above: it will void that one."""
        if self._peer is not None and is_above(self._peer.last, boot, highest):
            self._peer = None

    def legal(self, kind: type) -> bool:
        """Return whether this kind of event is allowed now."""
        return kind in TABLE[self.state]

    def handle(self, event: RequestEvent) -> None:
        """Take one event; afterwards `state` says what has become of the request."""
        allowed = TABLE[self.state].get(type(event))
        if allowed is None:
            complaint = f"{type(event).__name__} for {self.wanted.id} which is {self.state.value}"
            if isinstance(event, _OF_THE_PEER):
                raise RemoteProtocolError(complaint)
            raise LocalProtocolError(complaint)
        following = self._follow(event)
        if following not in allowed:
            raise LocalProtocolError(
                f"{type(event).__name__} leads {self.wanted.id} from {self.state.value} "
                f"to {following.value}"
            )
        self.state = following

    def _follow(self, event: RequestEvent) -> State:
        match event:
            case Delivered():
                self.counted += 1
                self.reported += 1
                self.last = event.key
                return self._verdict()
            case Counted():
                self.counted += 1
                return self.state
            case Reported():
                self.reported += 1
                self.last = event.key
                return self._verdict()
            case Committed():
                return State.ENDING if self.state is State.WITHDRAWN else State.QUEUED
            case Refused(code, reason):
                if self.state is State.PROPOSED:
                    self.code, self.reason = code, reason
                return State.FAILED
            case Stopped(code, reason):
                return self._stop(code, reason)
            case Removed(version, code, reason):
                self.removed_at = version
                self._stop(code, reason)
                return State.ENDING
            case Dropped(code, reason):
                self._stop(code, reason)
                return State.FAILED
            case Voided(reported):
                self.counted -= 1
                self.reported -= reported
                return State.QUEUED if self.state is State.COMPLETE else self.state
            case Closed():
                self._peer = event
                return self._verdict()
            case Quiet():
                return self._verdict_of_closed()
            case Overdue():
                return self._verdict_alone()
            case _:
                assert_never(event)

    def _stop(self, code: ErrorCode, reason: str) -> State:
        """Take the first reason to end for the one to report."""
        if self.state in (State.PROPOSED, State.QUEUED, State.COMPLETE):
            self.code, self.reason = code, reason
        if self.state is State.PROPOSED:
            return State.WITHDRAWN
        return State.ENDING if self.state in SERVABLE else self.state

    def _verdict(self) -> State:
        """Where the request stands after a report or after a close of the peer."""
        if self.state is State.CLOSED:
            return self._verdict_of_closed()
        complete = self.reported == self.wanted.number
        if complete and self._both_complete():
            return State.DONE
        if self.state is State.ENDING:
            return State.ENDING
        return State.COMPLETE if complete else State.QUEUED

    def _both_complete(self) -> bool:
        """Whether both ends reported the whole number, up to the same last pair."""
        complete = self.reported == self.wanted.number
        return complete and self._peer is not None and self._peer.last == self.last

    def _verdict_of_closed(self) -> State:
        if self._both_complete():
            return State.DONE
        if self._peer is None or not self._peer.final:
            return State.CLOSED
        return self._verdict_alone()

    def _verdict_alone(self) -> State:
        """What this end's own pairs say: the peer, which was told of them, judges alike."""
        return State.DONE if self.reported == self.wanted.number else State.FAILED

"""How both ends agree on the queue: proposals, the master's changes, and how requests end."""

from __future__ import annotations

import math
from typing import Any, cast

import attrs

from qstack.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from qstack.link.admission import Refusal, nonsense, shut, too_big, too_long, unsupported
from qstack.link.board import Board
from qstack.link.fidelity import Tally
from qstack.link.request import (
    ENDING,
    SERVABLE,
    Closed,
    Committed,
    Dropped,
    Overdue,
    Quiet,
    Refused,
    Removed,
    Request,
    State,
    Stopped,
)
from qstack.link.service import LinkAccepted
from qstack.link.timetable import nonsense as nonsense_of
from qstack.messages.common import RequestId
from qstack.messages.link import (
    LinkAdd,
    LinkAnswer,
    LinkClose,
    LinkCommit,
    LinkEnd,
    LinkEstimate,
    LinkRemove,
    LinkRequest,
    LinkSetting,
)
from qstack.messages.schedule import LinkBins, Timetable
from qstack.units import Instant


def _with_remaining(wanted: LinkRequest, deadline: Instant | None, now: Instant) -> LinkRequest:
    """Return the request with what is left of its maximum time; 1 ns stands for none."""
    left = 0 if deadline is None else max(1, deadline - now)
    evolved: LinkRequest = attrs.evolve(cast(Any, wanted), remaining_ns=left)
    return evolved


def _deadline(wanted: LinkRequest, now: Instant) -> Instant | None:
    return now + wanted.remaining_ns if wanted.remaining_ns else None


class Agreement:
    """The queue protocol at one end, as master or as slave."""

    __slots__ = ("_board", "_name", "memories", "peer_memories", "purposes")

    def __init__(self, board: Board, memories: tuple[int, int]) -> None:
        self._board = board
        self._name = board.parameters.name
        self.memories = memories
        self.peer_memories: tuple[int, int] | None = None
        self.purposes: set[int] = set()

    # --- from above ------------------------------------------------------------------

    def create(self, wanted: LinkRequest, now: Instant) -> None:
        """Take a request of our own node: refuse it here, or propose it to the peer."""
        board = self._board
        if wanted.id in board.requests:
            raise LocalProtocolError(f"request {wanted.id} runs already")
        refusal = self._refusal_of_own(wanted)
        if refusal is not None:
            board.fail(wanted, *refusal)
            return
        request = Request(wanted, State.PROPOSED, _deadline(wanted, now))
        board.hold(request)
        board.send(LinkAdd(self._name, _with_remaining(wanted, request.deadline, now)))

    def _refusal_of_own(self, wanted: LinkRequest) -> Refusal | None:
        board = self._board
        refusal = nonsense(wanted, board.parameters)
        if refusal is not None:
            return refusal
        if wanted.id.origin != board.node:
            return ErrorCode.CREATE, f"{wanted.id.origin} is not this node, {board.node}"
        if not board.peer_up:
            return ErrorCode.OTHER, f"{board.peer} is not there"
        refusal = self._infeasible(wanted)
        if refusal is None and len(board.requests) >= board.parameters.queue_limit:
            return ErrorCode.REJECTED, f"the queue of link {self._name} is full"
        return refusal

    def _infeasible(self, wanted: LinkRequest) -> Refusal | None:
        board = self._board
        stated = self.peer_memories
        refusal = unsupported(wanted, board.parameters, board.unit)
        if refusal is None and wanted.remaining_ns:
            refusal = shut(wanted, self._name, board.closed_ns(board.now)) or too_long(
                *(wanted, board.queue, board.progress, board.scheduler, board.unit),
                room_ns=board.room_ns,
            )
        return refusal or too_big(
            wanted, board.parameters, None if stated is None else (board.peer, stated)
        )

    def cancel(self, identifier: RequestId, reason: str, now: Instant) -> None:
        """End a request that a user of this end no longer wants; unknown ones are over already."""
        request = self._board.requests.get(identifier)
        if request is not None:
            self.stop(request, ErrorCode.OTHER, f"cancelled by {self._board.node}: {reason}", now)

    # --- ending ----------------------------------------------------------------------

    def stop(self, request: Request, code: ErrorCode, reason: str, now: Instant) -> None:
        """End a request early: attempts stop first, then the peer is told."""
        board = self._board
        if request.over or request.state in ENDING or request.state is State.WITHDRAWN:
            return
        identifier = request.wanted.id
        if board.is_master and request.state is State.PROPOSED:
            board.apply(request, Dropped(code, reason), now)
        elif board.is_master:
            self._remove(request, code, reason, now)
        else:
            board.apply(request, Stopped(code, reason), now)
            board.steer()
            board.send(LinkEnd(self._name, identifier, code, reason))

    def _remove(self, request: Request, code: ErrorCode, reason: str, now: Instant) -> None:
        board = self._board
        version = board.queue.next_version()
        board.queue.drop(request.wanted.id)
        board.apply(request, Removed(version, code, reason), now)
        board.steer()
        board.send(LinkRemove(self._name, version, request.wanted.id, code, reason))

    def tick(self, now: Instant) -> list[Request]:
        """Act on what is due; return requests whose grace is over, to be dropped by force."""
        board = self._board
        forced = []
        requests = board.requests.values()
        for request in [r for r in requests if r.deadline is not None and r.deadline <= now]:
            if request.state in ENDING:
                forced.append(request)
            else:
                request.deadline = None
                self.stop(request, ErrorCode.TIMEOUT, "the maximum time is over", now)
        board.find_due()
        return forced

    def force(self, request: Request, now: Instant) -> None:
        """End a request whose station or peer did not answer within the grace."""
        if request.state is State.ENDING:
            self._board.close(request, final=True)
        self._board.note("link-grace-over", request=str(request.wanted.id))
        self._board.apply(request, Overdue(), now)

    def close_the_quiet(self, now: Instant) -> None:
        """Close each request that is removed, settled, and has no pair in hand."""
        board = self._board
        ending = [r for r in board.requests.values() if r.state is State.ENDING]
        for request in ending:
            if board.is_quiet(request):
                board.apply(request, Quiet(), now)

    def drop_all(self, reason: str, now: Instant) -> None:
        """The peer is lost: every request ends."""
        for request in tuple(self._board.requests.values()):
            self._board.apply(request, Dropped(ErrorCode.OTHER, reason), now)

    # --- from the peer ---------------------------------------------------------------

    def asked(self, message: LinkAdd, now: Instant) -> None:
        """The peer proposes a request: refuse it, commit it as master, accept it as slave."""
        board, wanted = self._board, message.request
        refusal = self._refusal_of_foreign(wanted)
        if refusal is not None:
            board.send(LinkAnswer(self._name, wanted.id, *refusal))
        elif board.is_master:
            request = Request(wanted, State.QUEUED, _deadline(wanted, now))
            board.hold(request)
            board.up(LinkAccepted(wanted))
            self._commit(request, now)
        else:
            board.send(LinkAnswer(self._name, wanted.id, None, ""))

    def _refusal_of_foreign(self, wanted: LinkRequest) -> Refusal | None:
        board = self._board
        if wanted.id.origin != board.peer:
            return ErrorCode.CREATE, f"{wanted.id.origin} is not {board.peer}"
        if wanted.id in board.requests:
            return ErrorCode.CREATE, f"request {wanted.id} is not over yet at {board.node}"
        refusal = nonsense(wanted, board.parameters)
        if refusal is not None:
            return refusal
        if wanted.purpose not in self.purposes:
            return ErrorCode.REJECTED, f"{board.node} does not listen on purpose {wanted.purpose}"
        if len(board.requests) >= board.parameters.queue_limit:
            return ErrorCode.REJECTED, f"the queue of {board.node} is full"
        return self._infeasible(wanted)

    def _commit(self, request: Request, now: Instant) -> None:
        """As master, put a request that both ends accept into the queue."""
        board, wanted = self._board, request.wanted
        setting = board.unit.choose(wanted)
        if setting is None:
            raise RemoteProtocolError(f"no setting serves {wanted.id}, which was accepted")
        cycles = board.unit.pair_ns(wanted, setting) / board.parameters.cycle_ns
        version = board.queue.next_version()
        request.setting = setting.id
        item = board.queue.append(wanted, setting.id, cycles, board.progress)
        board.send(
            LinkCommit(
                self._name,
                version,
                item.position,
                _with_remaining(wanted, request.deadline, now),
                item.setting,
                item.virtual_start,
                item.cycles_per_pair,
            )
        )

    def answered(self, message: LinkAnswer, now: Instant) -> None:
        """The peer takes our proposal, or does not; late answers to ended requests are nothing."""
        board = self._board
        request = board.requests.get(message.request)
        if request is None:
            return
        if message.code is not None:
            board.apply(request, Refused(message.code, message.reason), now)
        elif not board.is_master:
            raise RemoteProtocolError(f"the master accepts {message.request} without a commit")
        elif board.unit.choose(request.wanted) is None:
            reason = "test rounds have shown meanwhile that no setting is good enough"
            board.apply(request, Refused(ErrorCode.UNSUPPORTED, reason), now)
        else:
            board.apply(request, Committed(), now)
            self._commit(request, now)

    def committed(self, message: LinkCommit, now: Instant) -> None:
        """As slave: the master put a request into the queue."""
        board, wanted = self._board, message.request
        self._as_slave("commit")
        request = board.requests.get(wanted.id)
        own = wanted.id.origin == board.node
        if own and (request is None or not request.legal(Committed)):
            raise RemoteProtocolError(f"{wanted.id} is committed, but is not proposed")
        self._check_setting(message.setting)
        refusal = nonsense(wanted, board.parameters)
        figures = (message.virtual_start, message.cycles_per_pair)
        if refusal is not None or not all(math.isfinite(figure) for figure in figures):
            raise RemoteProtocolError(f"the commit of {wanted.id} makes no sense")
        board.queue.follow(message)
        if request is not None:
            board.apply(request, Committed(), now)
        else:
            request = Request(wanted, State.QUEUED, _deadline(wanted, now))
            board.hold(request)
            board.up(LinkAccepted(wanted))
        request.setting = message.setting

    def removed(self, message: LinkRemove, now: Instant) -> None:
        """As slave: the master took a request out of the queue."""
        board = self._board
        self._as_slave("remove")
        request = board.requests.get(message.request)
        if request is not None and not request.legal(Removed):
            raise RemoteProtocolError(f"{message.request} cannot be removed now")
        board.queue.follow(message)
        if request is not None:
            event = Removed(message.version, message.code, message.reason)
            board.apply(request, event, now)

    def ended(self, message: LinkEnd, now: Instant) -> None:
        """As master: the slave wants a request to end."""
        if not self._board.is_master:
            raise RemoteProtocolError("an end was asked of the slave; the master removes")
        request = self._board.requests.get(message.request)
        if request is not None:
            self.stop(request, message.code, message.reason, now)

    def closed(self, message: LinkClose, now: Instant) -> None:
        """The peer is through with a request, unless a loss of ours crossed its word."""
        last = (message.station_boot, message.sequence)
        request = self._board.requests.get(message.request)
        if self._board.losses.stand(last, message.losses) and request is not None:
            self._board.apply(request, Closed(last, message.final), now)

    # --- settings and estimates ------------------------------------------------------

    def announce(self, setting: str, clicks: int, now: Instant) -> None:
        """As master: share what test rounds showed, and draw the consequences."""
        board = self._board
        if not board.is_master or not board.unit.due(setting, clicks):
            return
        tallies = board.unit.measured[setting, clicks]
        shipped = tuple((t.count, t.total, t.offset, t.gain) for t in tallies)
        version = board.queue.next_version()
        message = LinkEstimate(self._name, version, setting, clicks, shipped)
        board.unit.announce(setting, clicks, tallies)
        board.pending.append(message)
        board.steer()
        board.send(message)
        self._review(now)

    def _review(self, now: Instant) -> None:
        """Give each request that its setting no longer serves another, or end it."""
        board = self._board
        for item in board.queue.items:
            request = board.requests.get(item.request.id)
            if request is None or request.state not in SERVABLE:
                continue
            if board.unit.meets(item.request, item.setting):
                continue
            better = board.unit.choose(item.request)
            if better is None:
                reason = (
                    f"test rounds show that fidelity {item.request.fidelity_min:.4f} cannot be "
                    f"stood for; {board.unit.best_bound(item.request):.4f} at most"
                )
                self.stop(request, ErrorCode.UNSUPPORTED, reason, now)
                continue
            version = board.queue.next_version()
            board.queue.retune(item.request.id, better.id)
            message = LinkSetting(self._name, version, item.request.id, better.id)
            board.pending.append(message)
            board.steer()
            board.send(message)

    def retuned(self, message: LinkSetting) -> None:
        """As slave: the master serves a request with another setting."""
        self._as_slave("setting")
        self._check_setting(message.setting)
        self._board.queue.follow(message)
        self._board.pending.append(message)

    def estimated(self, message: LinkEstimate) -> None:
        """As slave: the master announces what test rounds showed."""
        self._as_slave("estimate")
        self._check_setting(message.setting)
        if len(message.tallies) != 3:
            raise RemoteProtocolError("an estimate has three tallies, for X, Y and Z")
        one, two, three = (Tally(*tally) for tally in message.tallies)
        for tally in (one, two, three):
            sums = (tally.total, tally.offset, tally.gain)
            if not all(abs(value) <= tally.count * (1 + 1e-9) for value in sums):
                raise RemoteProtocolError("the sums of a tally exceed its number of rounds")
        self._board.queue.follow(message)
        self._board.unit.announce(message.setting, message.clicks, (one, two, three))
        self._board.pending.append(message)

    # --- time division ---------------------------------------------------------------

    def divide(self, timetable: Timetable | None) -> None:
        """As master: from the next version on this timetable holds, if there is a peer."""
        board = self._board
        if not board.is_master or not board.scheduler.bins:
            raise LocalProtocolError(f"link {self._name} is not divided by {board.node}")
        reason = None if timetable is None else nonsense_of(timetable)
        if reason is not None:
            raise LocalProtocolError(f"a timetable for link {self._name}: {reason}")
        if not board.peer_up:
            board.note("link-not-divided", reason=f"{board.peer} is not there")
            return
        version = board.queue.next_version()
        board.queue.timetable = timetable
        board.steer()
        board.send(LinkBins(self._name, version, timetable))

    def divided(self, message: LinkBins) -> None:
        """As slave: the master divides the link's time."""
        self._as_slave("timetable")
        reason = None if message.timetable is None else nonsense_of(message.timetable)
        if reason is not None or not self._board.scheduler.bins:
            raise RemoteProtocolError(reason or f"link {self._name} is not divided")
        self._board.queue.follow(message)

    def _as_slave(self, what: str) -> None:
        if self._board.is_master:
            raise RemoteProtocolError(f"the slave sent a queue change: {what}")

    def _check_setting(self, identifier: str) -> None:
        if all(setting.id != identifier for setting in self._board.parameters.settings):
            raise RemoteProtocolError(f"there is no setting {identifier!r} on link {self._name}")

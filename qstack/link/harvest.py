"""What comes of heralds at this end: pairs to report, test rounds, and pairs that are void."""

from __future__ import annotations

from typing import TypeAlias

from qstack.bell import BellIndex
from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.agreement import Agreement
from qstack.link.board import Board
from qstack.link.lives import Lives, remember
from qstack.link.pairs import GATES, Half, Pairs, Reports, Stage, Work
from qstack.link.prepare import remedy
from qstack.link.request import Counted, Delivered, Reported, Request, Voided
from qstack.link.service import LinkExpired, LinkOutcomeReady, LinkPairReady
from qstack.link.trials import Key, Trial, Trials
from qstack.messages.common import Basis, PairId, PairInfo, PairKind
from qstack.messages.devices import (
    Aborted,
    Completed,
    Faulted,
    MemoryResult,
    Rejected,
)
from qstack.messages.link import LinkExpire, LinkOutcome, LinkStation, LinkTest
from qstack.physical.service import KeptReady, MeasuredReady, PairMissing
from qstack.physical.slots import Owner, Slots
from qstack.units import BootId, Duration, Instant

Ready: TypeAlias = KeptReady | MeasuredReady

FAULTS_LIMIT = 3
"""A request whose halves were lost to device faults this often ends."""
EXPIRE_LIMIT = 1 << 16
"""No honest peer voids more pairs in one message."""
FEEDINGS = 32
"""How often it is looked for storage while a half waits; nobody tells when a slot comes free."""


class Harvest:
    """The heralded pairs of one end."""

    def __init__(self, board: Board, agreement: Agreement, slots: Slots, ids: CommandIds) -> None:
        parameters = board.parameters
        self._board = board
        self._agreement = agreement
        self._slots = slots
        self._here = parameters.end(board.node)
        self._pairs = Pairs(self._here, slots, ids)
        self.starved = self._pairs.starved
        """The halves that wait for storage: while there are some, each step feeds them."""
        self._reports = Reports(parameters.horizon_ns)
        first = parameters.ends[0].node == board.node
        self.trials = Trials(parameters.test_rate, first)
        self._lives = Lives()
        self._voids: dict[Key, str] = {}
        self._outcomes: dict[Key, tuple[Basis, int]] = {}
        self._fed_at: Instant = 0

    # --- heralds ---------------------------------------------------------------------

    def success(self, event: Ready, now: Instant) -> None:
        """Take one herald: a pair to report, a test round, or something void."""
        board = self._board
        key = (event.station_boot, event.sequence)
        board.used_up(event.request)
        self._lives.indicated(key)
        request = board.requests.get(event.request)
        known_void = self._voids and self._voids.pop(key, None) is not None
        reason = "" if known_void else self._why_void(key, request)
        if request is None or known_void or reason:
            if isinstance(event, KeptReady):
                self._slots.release(event.qubit, "link")
            if not known_void:
                self._tell_void(key, reason)
            return
        axis = None
        if type(event) is KeptReady and request.wanted.kind is PairKind.KEEP:
            axis = self.trials.axis_of(key)
        if axis is not None and isinstance(event, KeptReady):
            self._test(event, request, axis, now)
        else:
            self._begin(event, key, request, now)

    def _why_void(self, key: Key, request: Request | None) -> str:
        if request is None:
            return "the request is over at this end"
        if self._lives.is_above(key):
            return f"{self._board.peer} has lost the station"
        if request.wanted.number <= request.counted or not request.legal(Counted):
            return "the request wants no more pairs"
        return ""

    def _begin(self, event: Ready, key: Key, request: Request, now: Instant) -> None:
        board, wanted = self._board, request.wanted
        if isinstance(event, KeptReady) and request.plain and not self._pairs.any_of(request):
            self._hand_up(event, key, request, now)
            return
        board.apply(request, Counted(), now)
        qubit = event.qubit if isinstance(event, KeptReady) else None
        half = Half(key, request, self._info(event, request), qubit)
        half.heralded = event.bell
        self._pairs.take(half, report=True)
        mine = wanted.id.origin == board.node
        if isinstance(event, MeasuredReady):
            half.basis, half.outcome = event.basis, event.outcome
            if wanted.kind is PairKind.PREPARE:
                board.send(LinkOutcome(board.parameters.name, *key, event.basis, event.outcome))
        elif wanted.kind is PairKind.KEEP:
            want = wanted.final_bell
            self._plan(half, event.bell ^ want if mine and want is not None else 0)
        else:
            half.stage = Stage.AWAITING
            known = self._outcomes.pop(key, None)
            if known is not None:
                self._prepare(half, *known)
        self._advance(half, now)

    def _hand_up(self, event: KeptReady, key: Key, request: Request, now: Instant) -> None:
        """Report a pair on which no device works, and before which none waits for its turn."""
        board, wanted, qubit = self._board, request.wanted, event.qubit
        info = self._info(event, request)
        self._slots.give(qubit, "link", Owner("network", wanted.id))
        who = (wanted.id, board.peer, wanted.purpose)
        board.up(LinkPairReady(*who, info, qubit, None, None, False))
        self._reported(Delivered(key), request, now)

    def _plan(self, half: Half, pauli: BellIndex) -> None:
        """Plan the device work: one correcting gate, then the move to storage."""
        if pauli:
            half.work.append(GATES[pauli])
        if half.request.wanted.store:
            half.work.extend((Work.INITIALISE, Work.MOVE))
        half.stage = Stage.BUSY

    def _test(self, event: KeptReady, request: Request, axis: str, now: Instant) -> None:
        key = (event.station_boot, event.sequence)
        request.tested += 1
        self.trials.chosen(key, Trial(axis, request.setting, event.clicks, event.bell))
        half = Half(key, request, self._info(event, request), event.qubit)
        half.axis = axis
        half.work.append(Work.MEASURE)
        self._pairs.take(half, report=False)
        self._advance(half, now)

    def _info(self, event: Ready, request: Request) -> PairInfo:
        board, wanted = self._board, request.wanted
        parameters = board.parameters
        goodness, age_ns = board.unit.of_pair(wanted, request.setting, event.clicks)
        bell = event.bell
        if wanted.final_bell is not None and wanted.kind is not PairKind.MEASURE:
            bell = wanted.final_bell
        return PairInfo(
            PairId(parameters.name, event.station_boot, event.sequence),
            bell,
            event.clicks,
            request.setting,
            goodness.fidelity,
            goodness.low,
            age_ns,
            parameters.horizon_ns,
            wanted.id.origin == board.node,
        )

    # --- device work and reports -----------------------------------------------------

    def _advance(self, half: Half, now: Instant) -> None:
        if half.stage is not Stage.AWAITING:
            action = self._pairs.advance(half, now)
            if action is not None:
                self._board.device(action)
            else:
                self._report(half.request, now)

    def _report(self, request: Request, now: Instant) -> None:
        """Indicate what is ready, in the order of the heralds."""
        board, wanted = self._board, request.wanted
        while (half := self._pairs.next_ready(request)) is not None:
            who = (wanted.id, board.peer, wanted.purpose, half.info)
            if half.qubit is not None:
                self._slots.give(half.qubit, "link", Owner("network", wanted.id))
                details = (half.qubit, half.outcome, half.basis, half.corrected)
                board.up(LinkPairReady(*who, *details))
            elif half.basis is not None and half.outcome is not None:
                board.up(LinkOutcomeReady(*who, half.basis, half.outcome))
            self._reported(Reported(half.key), request, now)

    def _reported(self, event: Reported | Delivered, request: Request, now: Instant) -> None:
        """A pair was indicated: it counts as delivered, until it expires."""
        request.faults = 0
        self._reports.add(event.key, request, now)
        self._board.apply(request, event, now)

    def device_done(self, event: Completed | MemoryResult, now: Instant) -> None:
        """A command of this end has ended well."""
        half = self._pairs.finished(event)
        if half is None:
            return
        if half.axis is None or not isinstance(event, MemoryResult):
            self._advance(half, now)
            return
        self._pairs.void(half)  # the qubit is measured away: its memory is free
        key = half.key
        self._board.send(LinkTest(self._board.parameters.name, *key, event.outcome, event.held_ns))
        self._learn(key, now, mine=(event.outcome, event.held_ns))

    def device_failed(self, event: Rejected | Faulted | Aborted, now: Instant) -> None:
        """A command of this end has ended badly: its pair is void."""
        half = self._pairs.broken(event.command)
        if half is None:
            return
        self._lose(half, f"{event.device}: {event.reason}", now)
        half.request.faults += 1
        if half.request.faults >= FAULTS_LIMIT:
            reason = f"{event.device} failed {FAULTS_LIMIT} times in a row: {event.reason}"
            self._agreement.stop(half.request, ErrorCode.OTHER, reason, now)

    def _learn(
        self,
        key: Key,
        now: Instant,
        mine: tuple[int, Duration] | None = None,
        theirs: tuple[int, Duration] | None = None,
    ) -> None:
        done = None
        if mine is not None:
            done = self.trials.mine(key, *mine)
        elif theirs is not None:
            done = self.trials.theirs(key, *theirs)
        if done is not None:
            self._board.unit.add(done)
            self._board.note("link-test-round", setting=done.setting, axis=done.axis)
            self._agreement.announce(done.setting, done.clicks, now)

    def tested_by_peer(self, message: LinkTest, now: Instant) -> None:
        """The peer measured its half of a test round."""
        if message.outcome not in (0, 1) or message.held_ns < 0:
            raise RemoteProtocolError("a test outcome is 0 or 1, held for no negative time")
        key = (message.station_boot, message.sequence)
        self._learn(key, now, theirs=(message.outcome, message.held_ns))

    # --- preparing the far half ------------------------------------------------------

    def _prepare(self, half: Half, basis: Basis, outcome: int) -> None:
        wanted = half.request.wanted
        half.basis, half.outcome = basis, outcome
        pauli = 0
        if wanted.final_bell is not None:
            cure = remedy(wanted.origin_plan, basis, outcome, half.heralded, wanted.final_bell)
            pauli, half.corrected = cure.pauli, cure.corrected
        self._plan(half, pauli)

    def outcome(self, message: LinkOutcome, now: Instant) -> None:
        """The creator says what it measured of a pair whose other half is prepared here."""
        if message.outcome not in (0, 1):
            raise RemoteProtocolError(f"outcome {message.outcome} is neither 0 nor 1")
        key = (message.station_boot, message.sequence)
        half = self._pairs.get(key)
        if half is not None and half.stage is Stage.AWAITING:
            self._prepare(half, message.basis, message.outcome)
            self._advance(half, now)
        elif half is None and key[1] > self._lives.highest(key[0]):
            remember(self._outcomes, key, (message.basis, message.outcome))

    # --- void pairs ------------------------------------------------------------------

    def missing(self, event: PairMissing) -> None:
        """The station heralded a pair of which there is no half here."""
        key = (event.station_boot, event.sequence)
        self._board.used_up(event.request)
        self._lives.indicated(key)
        if self._voids.pop(key, None) is None:
            self._tell_void(key, event.reason)

    def expired(self, message: LinkExpire, now: Instant) -> None:
        """The peer says that pairs are void."""
        boot, low, high = message.station_boot, message.low, message.high
        if low > high or high - low >= EXPIRE_LIMIT:
            raise RemoteProtocolError(f"expire of pairs {low} to {high}")
        seen = self._lives.highest(boot)
        for sequence in range(low, min(high, seen) + 1):
            self._void((boot, sequence), message.reason, now)
        for sequence in range(max(low, seen + 1), high + 1):
            remember(self._voids, (boot, sequence), message.reason)

    def _lose(self, half: Half, reason: str, now: Instant) -> None:
        self._void(half.key, reason, now)
        self._tell_void(half.key, reason)

    def _tell_void(self, key: Key, reason: str) -> None:
        boot, sequence = key
        name = self._board.parameters.name
        self._board.send(LinkExpire(name, boot, sequence, sequence, reason))
        self._board.note("link-pair-void", sequence=sequence, reason=reason)

    def _void(self, key: Key, reason: str, now: Instant) -> None:
        """Take a pair back, wherever it stands; what is not known any more is left alone."""
        board = self._board
        half = self._pairs.get(key)
        if half is not None:
            self._pairs.void(half)
            self.trials.void(key)
            if half.axis is not None:
                half.request.tested -= 1
            else:
                self._uncount(half.request, now, reported=False)
                self._report(half.request, now)  # those behind it are waiting for their turn
            return
        entry = self._reports.pop(key, now)
        if entry is None:
            self.trials.void(key)
            return
        request, fresh = entry
        if fresh:
            pair = PairId(board.parameters.name, *key)
            board.up(LinkExpired(request.wanted.id, pair, reason))
        else:
            board.note("link-expire-late", request=str(request.wanted.id), sequence=key[1])
        self._uncount(request, now, reported=True)

    def _uncount(self, request: Request, now: Instant, *, reported: bool) -> None:
        if not request.over:
            self._board.apply(request, Voided(reported), now)

    # --- the station's and the peer's lives ------------------------------------------

    def station_up(self, boot: BootId) -> None:
        """The station answers: go on where the request stood."""
        self._board.station = boot
        self._board.serve_again()
        if self._lives.found(boot):
            name, highest = self._board.parameters.name, self._lives.highest(boot)
            self._board.send(LinkStation(name, boot, highest, True))

    def station_down(self, boot: BootId) -> None:
        """The station is lost: nothing above what was indicated will be, and the peer is told."""
        self._board.station = None
        self._board.settle(self._board.queue.version)
        self._lives.lost(boot)
        self._board.tell_loss(boot, self._lives.highest(boot))

    def peer_station(self, message: LinkStation, now: Instant) -> None:
        """The peer lost the station, or sees it again: what it never indicated is void."""
        boot, ceiling = message.station_boot, message.sequence
        if message.up:
            self._lives.peer_found(boot)
            return
        self._lives.peer_lost(boot, ceiling)
        in_hand = [half.key for half in self._pairs.held()]
        above = [key for key in in_hand if key[0] == boot and key[1] > ceiling]
        reason = f"{self._board.peer} has lost the station"
        for key in sorted({*above, *self._reports.keys(boot, ceiling)}):
            self._void(key, reason, now)
            self._tell_void(key, reason)  # should the peer see it after all
        self._board.hear_loss()

    def peer_down(self, reason: str, now: Instant) -> None:
        """The peer's life ended: pairs that it may not have are void, and all halves in hand."""
        for half in self._pairs.held():
            self._void(half.key, reason, now)
        for key in self._reports.doubtful(now):
            self._void(key, reason, now)
        self._reports = Reports(self._board.parameters.horizon_ns)
        self.trials.end()
        self._lives.forget_the_peer()
        self._voids.clear()
        self._outcomes.clear()

    # --- time ------------------------------------------------------------------------

    def abandon(self, request: Request, reason: str, now: Instant) -> None:
        """Void whatever is in hand of a request that ends by force."""
        for half in self._pairs.of(request):
            self._lose(half, reason, now)

    def feed(self, now: Instant) -> None:
        """Give storage slots that have come free to the halves that wait for one, in order.

        A half waits for half a horizon, so that its expiry still reaches a peer that
        reported its half; then it is void, and the request ends with NO_RESOURCES.
        """
        self._fed_at = now
        patience = self._board.parameters.horizon_ns // 2
        for half in tuple(self.starved):
            if self._slots.free("storage"):
                self._advance(half, now)
            if half.stage is Stage.STARVED and now - half.starved_at >= patience:
                reason = f"no storage slot of {self._board.node} came free"
                self._lose(half, reason, now)
                self._agreement.stop(half.request, ErrorCode.NO_RESOURCES, reason, now)

    @property
    def deadline(self) -> Instant | None:
        """When to look again for halves that wait for storage, or to give the first one up."""
        if not self.starved:
            return None
        patience = self._board.parameters.horizon_ns // 2
        first = min(half.starved_at for half in self.starved)
        return min(first + patience, self._fed_at + max(1, patience // FEEDINGS))

"""One end of a link: events from above, below, the peer and the memory, to whom they concern."""

from __future__ import annotations

from typing import Any, TypeAlias, assert_never

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.agreement import Agreement
from qstack.link.board import Board
from qstack.link.harvest import Harvest
from qstack.link.service import LinkCancel, LinkCreate, LinkDivide, LinkListen
from qstack.link.trials import KEY_BYTES
from qstack.machine import Action, Drained, Tick, record
from qstack.messages.devices import Aborted, Completed, Faulted, MemoryResult, Rejected
from qstack.messages.link import (
    LinkAdd,
    LinkAnswer,
    LinkClose,
    LinkCommit,
    LinkEnd,
    LinkEstimate,
    LinkExpire,
    LinkOutcome,
    LinkRemove,
    LinkSetting,
    LinkStation,
    LinkSync,
    LinkTest,
)
from qstack.messages.schedule import LinkBins
from qstack.physical.service import (
    ClockSeen,
    DeviceTrouble,
    KeptReady,
    LinkParameters,
    MeasuredReady,
    PairMissing,
    PhysicalIndication,
    Settled,
    StationDown,
    StationUp,
    WindowSeen,
)
from qstack.physical.slots import Slots
from qstack.units import BootId, Chance, Duration, Instant, NodeName, earliest


@record
class LinkPeerUp:
    """The adjacency with the other end is there, in this life of it."""

    boot: BootId


@record
class LinkPeerDown:
    """The other end is lost, or its life is over; `reason` is for people."""

    reason: str


FromAbove: TypeAlias = LinkCreate | LinkCancel | LinkListen | LinkDivide
FromPeer: TypeAlias = (
    LinkSync
    | LinkAdd
    | LinkAnswer
    | LinkCommit
    | LinkSetting
    | LinkEnd
    | LinkRemove
    | LinkExpire
    | LinkTest
    | LinkOutcome
    | LinkClose
    | LinkStation
    | LinkEstimate
    | LinkBins
)
FromMemory: TypeAlias = Completed | MemoryResult | Rejected | Faulted | Aborted
Adjacency: TypeAlias = LinkPeerUp | LinkPeerDown
LinkEvent: TypeAlias = (
    FromAbove | PhysicalIndication | FromPeer | FromMemory | Adjacency | Tick | Drained
)


class Link:
    """The Entanglement Generation Protocol at one end of one link; see the package's text.

    Raises RemoteProtocolError, with its state unchanged, for what the peer must not send now,
    and LocalProtocolError for what our own layers must not.
    """

    __slots__ = ("_agreement", "_board", "_chance", "_harvest", "_synced", "_test_key", "name")

    def __init__(
        self,
        parameters: LinkParameters,
        node: NodeName,
        slots: Slots,
        commands: CommandIds,
        chance: Chance,
    ) -> None:
        self.name = parameters.name
        self._chance = chance
        self._board = Board(parameters, node)
        memories = (slots.total("communication"), slots.total("storage"))
        self._agreement = Agreement(self._board, memories)
        self._harvest = Harvest(self._board, self._agreement, slots, commands)
        self._test_key = b""
        self._synced = False

    @property
    def deadline(self) -> Instant | None:
        """The next deadline of a request, or of a half that waits for storage."""
        board, hungry = self._board, self._harvest.deadline
        if hungry is None and board.bin_ends_at is None:
            return board.due
        return earliest(hungry, board.bin_ends_at, board.due)

    def handle(self, event: LinkEvent, now: Instant) -> list[Action]:
        """Take one event and return what is to be done about it."""
        board = self._board
        board.now = now
        match event:
            case KeptReady() | MeasuredReady():
                self._harvest.success(event, now)
            case LinkAdd() | LinkAnswer() | LinkCommit() | LinkClose():
                self._from_peer(event, now)
            case Settled():
                self._board.settle(event.queue_version)
            case LinkCreate() | LinkCancel() | LinkListen() | LinkDivide():
                self._from_above(event, now)
            case PairMissing():
                self._harvest.missing(event)
            case StationUp():
                self._harvest.station_up(event.station_boot)
            case StationDown():
                self._harvest.station_down(event.station_boot)
            case ClockSeen():
                self._board.hear_clock(event)
            case WindowSeen():
                self._board.see_windows(event)
            case DeviceTrouble():
                self._board.note("link-device", ready=event.ready, reason=event.reason)
            case Completed() | MemoryResult():
                self._harvest.device_done(event, now)
            case Rejected() | Faulted() | Aborted():
                self._harvest.device_failed(event, now)
            case LinkPeerUp():
                self._peer_up(event.boot, now)
            case LinkPeerDown():
                self._peer_down(event.reason, now)
            case Tick() | Drained():
                pass
            case _:
                self._from_peer(event, now)
        self._conclude(now)
        return board.take_actions()

    def report(self) -> dict[str, Any]:
        """What is going on and what tests have shown, for people, in JSON's types.

        `estimates`: per setting and click pattern the fidelity at emission with its bounds,
        and the number of test rounds that it rests on besides the datasheet.
        """
        board = self._board
        unit = board.unit
        return {
            "peer": board.peer,
            "peer_up": board.peer_up,
            "master": board.is_master,
            "queue_version": board.queue.version,
            "settled_version": board.settled_version,
            "station_up": board.station is not None,
            "purposes": sorted(self._agreement.purposes),
            "requests": [
                {
                    "request": str(request.wanted.id),
                    "kind": request.wanted.kind.name.lower(),
                    "state": request.state.value,
                    "wanted": request.wanted.number,
                    "reported": request.reported,
                    "tested": request.tested,
                    "setting": request.setting,
                }
                for request in board.requests.values()
            ],
            "estimates": [
                {
                    "setting": setting.id,
                    "clicks": pattern.clicks,
                    "fidelity": found.fidelity,
                    "low": found.low,
                    "high": found.high,
                    "rounds": unit.rounds(setting.id, pattern.clicks),
                }
                for setting in unit.parameters.settings
                for pattern in setting.patterns
                for found in (unit.at_emission(setting.id, pattern.clicks),)
            ],
        }

    def closed_ns(self, now: Instant) -> Duration:
        """Return how long it takes until the link opens by its windows; 0 where it is open."""
        return self._board.closed_ns(now)

    def _conclude(self, now: Instant) -> None:
        """What may follow from any event: time, memory, ends, and the choice of what to serve."""
        board, harvest = self._board, self._harvest
        if harvest.starved:
            harvest.feed(now)
        if board.due is not None and board.due <= now:
            for request in self._agreement.tick(now):
                harvest.abandon(request, request.reason, now)
                self._agreement.force(request, now)
        board.steer()
        if board.ending:
            self._agreement.close_the_quiet(now)

    def _from_above(self, event: FromAbove, now: Instant) -> None:
        match event:
            case LinkCreate(request):
                self._agreement.create(request, now)
            case LinkCancel(request, reason):
                self._agreement.cancel(request, reason, now)
            case LinkListen(purpose, accept):
                if accept:
                    self._agreement.purposes.add(purpose)
                else:
                    self._agreement.purposes.discard(purpose)
            case LinkDivide():
                self._agreement.divide(event.timetable)
            case _:
                assert_never(event)

    def _from_peer(self, event: FromPeer, now: Instant) -> None:
        if not self._board.peer_up:
            raise RemoteProtocolError(f"{type(event).__name__} of a peer that is not there")
        if event.link != self.name:
            raise LocalProtocolError(f"{type(event).__name__} of link {event.link} at {self.name}")
        if not self._synced and not isinstance(event, LinkSync):
            raise RemoteProtocolError(f"{type(event).__name__} before LinkSync")
        match event:
            case LinkAdd():
                self._agreement.asked(event, now)
            case LinkAnswer():
                self._agreement.answered(event, now)
            case LinkCommit():
                self._agreement.committed(event, now)
            case LinkClose():
                self._agreement.closed(event, now)
            case LinkSync():
                self._sync(event, now)
            case LinkSetting():
                self._agreement.retuned(event)
            case LinkEnd():
                self._agreement.ended(event, now)
            case LinkRemove():
                self._agreement.removed(event, now)
            case LinkEstimate():
                self._agreement.estimated(event)
            case LinkBins():
                self._agreement.divided(event)
            case LinkExpire():
                self._harvest.expired(event, now)
            case LinkTest():
                self._harvest.tested_by_peer(event, now)
            case LinkOutcome():
                self._harvest.outcome(event, now)
            case LinkStation():
                self._harvest.peer_station(event, now)
            case _:
                assert_never(event)

    # --- the peer's lives ------------------------------------------------------------

    def _peer_up(self, boot: BootId, now: Instant) -> None:
        """A life of the peer begins: whatever was shared with a former one is over."""
        board = self._board
        if board.peer_up:
            self._peer_down(f"{board.peer} restarted", now)
        board.peer_up, board.peer_boot = True, boot
        self._test_key = self._chance.bits(8 * KEY_BYTES).to_bytes(KEY_BYTES, "big")
        agreement = self._agreement
        purposes = tuple(sorted(agreement.purposes))
        board.send(LinkSync(self.name, self._test_key, agreement.memories, purposes))

    def _sync(self, message: LinkSync, now: Instant) -> None:
        """The peer begins with an empty queue. A second time: it had lost us, we not it."""
        if len(message.test_key) != KEY_BYTES:
            raise RemoteProtocolError(f"a test key has {KEY_BYTES} bytes")
        if self._synced:
            self._peer_down(f"{self._board.peer} began afresh", now)
            self._peer_up(self._board.peer_boot, now)
        self._synced = True
        self._agreement.peer_memories = message.memories
        self._harvest.trials.begin(self._test_key, message.test_key)

    def _peer_down(self, reason: str, now: Instant) -> None:
        board = self._board
        if not board.peer_up:
            return
        board.peer_up = self._synced = False
        why = f"{board.peer} is lost: {reason}"
        self._harvest.peer_down(why, now)
        self._agreement.drop_all(why, now)
        self._agreement.peer_memories = None
        board.start_afresh()

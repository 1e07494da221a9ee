"""What the parts of one end of a link share: the queue, the requests, what is being served.

Every change of a request goes through :meth:`Board.apply`, which draws the consequences of its
new state; every choice of what to serve through :meth:`Board.steer`.
"""

from __future__ import annotations

from typing import Any

from qstack.errors import ErrorCode
from qstack.link.fidelity import FidelityUnit, Tally
from qstack.link.lives import Losses
from qstack.link.queue import Queue
from qstack.link.request import (
    ENDING,
    SERVABLE,
    TERMINAL,
    Counted,
    Delivered,
    Quiet,
    Reported,
    Request,
    RequestEvent,
    State,
)
from qstack.link.scheduler import SCHEDULERS, Item
from qstack.link.service import LinkClock, LinkDone, LinkFailed, LinkIndication, LinkWindows
from qstack.link.timetable import ALWAYS, NEVER, Bin, Owner, bin_at, open_cycles
from qstack.machine import Action, Device, Down, Note, Send, Up
from qstack.messages.common import PairKind, RequestId
from qstack.messages.link import LinkClose, LinkEstimate, LinkRequest, LinkSetting, LinkStation
from qstack.physical.service import ClockSeen, LinkParameters, Rest, Serve, WindowSeen
from qstack.units import BootId, Duration, Instant, NodeName
from qstack.windows import closed_ns, open_ns_within

GRACE_CONFIRMS = 8
"""A request that ends waits for the station and the peer at most this many `confirm_ns`."""


class Board:
    """The shared state of one end, and the actions of the present step."""

    __slots__ = (
        *("_actions", "_clock", "_counted", "_expected", "_items", "_listed", "_period", "_served"),
        *("_serving", "_stirred", "bin_ends_at", "due", "ending", "is_master", "losses", "node"),
        *("now", "parameters", "peer", "peer_boot", "peer_up", "pending", "queue", "requests"),
        *("scheduler", "settled_version", "station", "unit"),
    )

    def __init__(self, parameters: LinkParameters, node: NodeName) -> None:
        self.parameters = parameters
        self.node = node
        self.peer = parameters.other(node).node
        self.is_master = parameters.master == node
        self.scheduler = SCHEDULERS[parameters.scheduler]
        self.unit = FidelityUnit(parameters)
        self.queue = Queue()
        self.requests: dict[RequestId, Request] = {}
        self.peer_up = False
        self.peer_boot: BootId = 0
        self.station: BootId | None = None
        self.now: Instant = 0
        self.bin_ends_at: Instant | None = None
        """When, by this end's estimate, another bin of the timetable begins."""
        self.due: Instant | None = None
        """The first deadline of a request: :meth:`find_due` is called wherever one changes."""
        self.ending = 0
        """How many requests are in the state ENDING."""
        self._clock: tuple[BootId, ClockSeen] | None = None
        self._period: Instant | None = None
        self.settled_version = -1
        self.pending: list[LinkSetting | LinkEstimate] = []
        self.losses = Losses()
        self._served: Serve | Rest | None = None
        self._serving: Request | None = None
        self._expected = 0
        self._stirred = True
        """Whether something happened, besides the counting of a pair, that a choice rests on."""
        self._counted = False
        """Whether a pair was counted since the last choice, if the scheduler looks at that."""
        self._items: list[Item] = []
        """What may be served, as long as nothing stirs and the queue is of `_listed` version."""
        self._listed = -1
        self._actions: list[Action] = []

    @property
    def grace_ns(self) -> Duration:
        """The longest that an ending request waits for the station's and the peer's word."""
        return GRACE_CONFIRMS * self.parameters.confirm_ns

    # --- actions ---------------------------------------------------------------------

    def take_actions(self) -> list[Action]:
        """Return what this step has to do, and begin the next."""
        actions, self._actions = self._actions, []
        return actions

    def send(self, message: Any) -> None:
        """Send to the peer, if it is there."""
        if self.peer_up:
            self._actions.append(Send(self.peer, message))

    def up(self, indication: LinkIndication) -> None:
        """Indicate something to the network layer."""
        self._actions.append(Up(indication))

    def device(self, action: Device) -> None:
        """Command a device."""
        self._actions.append(action)

    def note(self, name: str, **fields: Any) -> None:
        """Record something under one of the fixed names."""
        self._actions.append(Note(name, (("link", self.parameters.name), *fields.items())))

    # --- requests --------------------------------------------------------------------

    @property
    def progress(self) -> dict[RequestId, int]:
        """How many valid pairs were counted of each request."""
        return {identifier: request.counted for identifier, request in self.requests.items()}

    def hold(self, request: Request) -> None:
        """A request begins its life at this end."""
        self.requests[request.wanted.id] = request
        self.find_due()

    def find_due(self) -> None:
        """Look for the first deadline of a request: some request began, moved, or lost its own."""
        deadlines = [r.deadline for r in self.requests.values() if r.deadline is not None]
        self.due = min(deadlines, default=None)

    def apply(self, request: Request, event: RequestEvent, now: Instant) -> None:
        """Let a request take an event, and do what its new state asks for."""
        before = request.state
        request.handle(event)
        after, kind = request.state, type(event)
        if kind is Delivered or kind is Counted:
            self._counted = self.scheduler.counts
            if request is not self._serving:
                # It is served no more; its heralds may make it one that nothing may interrupt.
                self._stirred = True
        if kind is Counted:
            return
        if kind is Delivered or kind is Reported:
            if request.reported == request.wanted.number:
                self.close(request, final=False)
            if after is before:
                return
        self._stirred = True
        if after in ENDING and before not in ENDING:
            request.deadline = now + self.grace_ns
        if kind is Quiet:
            self.close(request, final=True)
        if after is not before:
            self.ending += (after is State.ENDING) - (before is State.ENDING)
            if after in TERMINAL:
                self._finish(request)
            self.find_due()

    def close(self, request: Request, *, final: bool) -> None:
        """Tell the peer that this end is through with a request."""
        name, (boot, sequence) = self.parameters.name, request.last
        heard = self.losses.heard
        self.send(LinkClose(name, request.wanted.id, boot, sequence, final, heard))

    def tell_loss(self, boot: BootId, highest: int) -> None:
        """Tell the peer that the station is lost here: it voids what is above, and closes anew."""
        if self.peer_up:
            self.losses.told(boot, highest)
            self.send(LinkStation(self.parameters.name, boot, highest, False))
            for request in self.requests.values():
                request.forget_close_above(boot, highest)

    def hear_loss(self) -> None:
        """The peer's loss was dealt with: say again what is closed here, in the light of it."""
        self.losses.heard += 1
        for request in self.requests.values():
            if request.closed:
                self.close(request, final=request.state is State.CLOSED)

    def fail(self, wanted: LinkRequest, code: ErrorCode, reason: str) -> None:
        """Indicate the failure of a request that never became one."""
        self.up(LinkFailed(wanted.id, code, reason, 0))

    def _finish(self, request: Request) -> None:
        identifier = request.wanted.id
        self.queue.drop(identifier)
        self.requests.pop(identifier, None)
        if request.state is State.DONE:
            self.up(LinkDone(identifier, request.reported, request.tested))
        else:
            self.up(LinkFailed(identifier, request.code, request.reason, request.reported))
        self.note(
            "link-request-over",
            request=str(identifier),
            state=request.state.value,
            delivered=request.reported,
            tested=request.tested,
        )

    # --- what is served --------------------------------------------------------------

    def steer(self) -> None:
        """Choose what to serve; tell physical where that differs from what it does already."""
        version = self.queue.version
        served, serving = self._served, self._serving
        if (
            not self._stirred
            and serving is not None
            and type(served) is Serve
            and served.queue_version == version
            and 0 < serving.wanted.number - serving.counted == self._expected
            and not self._counted
            and not self.scheduler.bins
        ):
            return
        here, item = self._bin(), None
        items = self._servable(version)
        self._stirred = self._counted = False
        if items and self.peer_up:
            item = self.scheduler.choose(here.admits(items), self.progress)
        if item is None:
            self._serving = None
            if served is None and not self.queue.version:
                return
            rest = Rest(version)
            if served != rest:
                self._served = rest
                self._actions.append(Down(rest))
            return
        wanted = item.request
        self._serving = request = self.requests[wanted.id]
        pairs = wanted.number - request.counted
        same = (
            isinstance(served, Serve)
            and served.request == wanted.id
            and served.setting == item.setting
            and served.queue_version == version
            and self._expected == pairs
            and (served.begin, served.end) == (here.begin, here.end)
        )
        if not same:
            plan = None
            if wanted.kind is PairKind.MEASURE:
                plan = wanted.origin_plan if wanted.id.origin == self.node else wanted.peer_plan
            elif wanted.kind is PairKind.PREPARE and wanted.id.origin == self.node:
                plan = wanted.origin_plan
            self._served = serve = Serve(
                *(wanted.id, wanted.kind, item.setting, pairs, plan, version), here.begin, here.end
            )
            self._expected = pairs
            self._actions.append(Down(serve))

    def _servable(self, version: int) -> list[Item]:
        """Return the items of the queue that may be served; `version` is the queue's."""
        if self._stirred or version != self._listed:
            self._listed = version
            self._items = [
                item
                for item in self.queue.items
                if (request := self.requests.get(item.request.id)) is not None
                and request.state in SERVABLE
            ]
        return self._items

    def hear_clock(self, clock: ClockSeen) -> None:
        """The station's present clock, as far as this end can tell."""
        self._clock = None if self.station is None else (self.station, clock)
        if self.station is not None and self.is_master:
            self.up(LinkClock(self.station, clock.epoch, clock.began))

    def _bin(self) -> Bin:
        """Return the bin of the present cycle; a timetable of another clock counts for nothing."""
        self.bin_ends_at = None
        table = self.queue.timetable
        if table is None or not self.scheduler.bins:
            return ALWAYS
        if self._clock is None or self._clock[0] != self.station:
            return NEVER
        boot, clock = self._clock
        if (boot, clock.epoch) != (table.station_boot, table.epoch):
            return ALWAYS
        cycle_ns = self.parameters.cycle_ns
        here = bin_at(table, max(0, (self.now - clock.began) // cycle_ns))
        if here.end:
            self.bin_ends_at = clock.began + here.end * cycle_ns
        return here

    def see_windows(self, seen: WindowSeen) -> None:
        """When a period of the link's windows began."""
        self._period = seen.began
        self.up(LinkWindows(seen.began))

    def closed_ns(self, now: Instant) -> Duration:
        """Return how long it takes until the link opens; 0 where it is open, or not known."""
        windows, began = self.parameters.windows, self._period
        return 0 if windows is None or began is None else closed_ns(windows, now - began)

    def room_ns(self, owner: Owner, within_ns: Duration) -> tuple[Duration, Duration]:
        """Return how much of the time from now on is this owner's alone, and how much is anybody's.

        By the timetable, if the queue has one that counts and this end knows the cycle. Of what it
        leaves, the time in which the link is closed counts as anybody's first.
        """
        own, free = self._room_in_bins(owner, within_ns)
        windows, began = self.parameters.windows, self._period
        if windows is None or began is None:
            return own, free
        closed = within_ns - open_ns_within(windows, self.now - began, within_ns)
        return max(0, own - max(0, closed - free)), max(0, free - closed)

    def _room_in_bins(self, owner: Owner, within_ns: Duration) -> tuple[Duration, Duration]:
        table, clock = self.queue.timetable, self._clock
        if table is None or not self.scheduler.bins or clock is None or clock[0] != self.station:
            return 0, within_ns
        boot, seen = clock
        if (boot, seen.epoch) != (table.station_boot, table.epoch):
            return 0, within_ns
        cycle_ns = self.parameters.cycle_ns
        cycles = (max(0, (at - seen.began) // cycle_ns) for at in (self.now, self.now + within_ns))
        own, free = open_cycles(table, owner, *cycles)
        return own * cycle_ns, free * cycle_ns

    def used_up(self, request: RequestId) -> None:
        """A success of this request was indicated: physical has counted it by itself."""
        served = self._served
        if type(served) is Serve and (served.request is request or served.request == request):
            self._expected -= 1

    def serve_again(self) -> None:
        """Physical may have lost what it was told: say it again at the next choice."""
        self._served = None
        self._stirred = True

    def start_afresh(self) -> None:
        """The peer is lost: rest, and begin with an empty queue of version 0 for its next life."""
        if isinstance(self._served, Serve):
            self._actions.append(Down(Rest(self.queue.version)))
        self._served = self._serving = None
        self._stirred = True
        self.queue = Queue()
        self.settled_version = -1
        self.pending.clear()
        self.losses = Losses()
        self.unit.reset()

    def settle(self, version: int) -> None:
        """No success from before this version can follow: what it brought holds from now on."""
        if version > self.queue.version:
            return
        self.settled_version = max(self.settled_version, version)
        while self.pending and self.pending[0].version <= self.settled_version:
            self._bring_in(self.pending.pop(0))

    def _bring_in(self, change: LinkSetting | LinkEstimate) -> None:
        match change:
            case LinkSetting():
                request = self.requests.get(change.request)
                if request is not None:
                    request.setting = change.setting
            case LinkEstimate():
                one, two, three = (Tally(*tally) for tally in change.tallies)
                self.unit.agree(change.setting, change.clicks, (one, two, three))

    def is_quiet(self, request: Request) -> bool:
        """Return whether nothing more can come of a request that is out of the queue."""
        if request.state is not State.ENDING or request.removed_at is None:
            return False
        settled = self.station is None or self.settled_version >= request.removed_at
        return settled and request.counted == request.reported

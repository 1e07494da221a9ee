"""The node side of the physical layer, for one link: arms, emitters, and what they yield.

See the package's docstring for the theory of operation. One call of :meth:`NodePhysical.handle`
indicates at most one result, so that the link layer may answer each with a new Serve; what is
left over is indicated at DRAINED, or at a deadline that is due at once.
"""

from __future__ import annotations

from typing import Any, assert_never

from qstack.errors import HardwareFault
from qstack.hal.commands import CommandIds
from qstack.machine import Drained, Note, Send, Tick, Up
from qstack.messages.devices import (
    Aborted,
    Calibration,
    Completed,
    DeviceState,
    DeviceStatus,
    EmitterFired,
    EmitterHeralded,
    EmitterOutcome,
    Exhausted,
    Faulted,
    Rejected,
)
from qstack.messages.physical import ArmReply, Beacon, Herald, Verdict
from qstack.physical.arming import check_order
from qstack.physical.attempts import ROOM, Emission
from qstack.physical.conversation import Conversation
from qstack.physical.events import (
    EmitterEvent,
    NodeEvent,
    SlotsChanged,
    StationReachable,
    StationUnreachable,
)
from qstack.physical.filling import Filling
from qstack.physical.matching import Resolved, indication
from qstack.physical.opening import Opening
from qstack.physical.service import (
    DeviceTrouble,
    LinkParameters,
    Rest,
    Serve,
    Settled,
    StationDown,
    StationUp,
)
from qstack.physical.slots import Owner, Slots
from qstack.physical.task import Task
from qstack.units import Instant, NodeName, earliest

__all__ = ["NodePhysical", "StationReachable", "StationUnreachable"]


class NodePhysical:
    """One end of one link. Machine; events and actions as in the package's docstring."""

    __slots__ = (
        *("_arming", "_attempts", "_conversation", "_dirty", "_due", "_due_known", "_end"),
        *("_filling", "_heir", "_matching", "_opening", "_parameters", "_slots", "_task"),
        *("_unsaid", "_unsettled", "counters"),
    )

    def __init__(
        self, parameters: LinkParameters, node: NodeName, slots: Slots, commands: CommandIds
    ) -> None:
        self._parameters = parameters
        self._end = parameters.end(node)
        self._slots = slots
        self._heir = Owner("link", parameters.name)
        self._filling = Filling(parameters, node, slots, commands)
        self._attempts = self._filling.attempts
        self._conversation = Conversation(parameters)
        self._matching = self._conversation.matching
        self._arming = self._conversation.arming
        windows = parameters.windows
        self._opening = None if windows is None else Opening(parameters, windows)
        self._task = Task(self._opening)
        self._unsettled = False
        self._dirty = False
        """Whether other attempts may be wanted than there are, or more credits than are offered."""
        self._unsaid = False
        """Whether there may be something to confirm or to ask that was not at the last DRAINED."""
        self._due: Instant | None = None
        self._due_known = False
        self.counters: dict[str, int] = {}

    # --- the machine's contract ----------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """When this machine wants a TICK; 0, which is due at once, where results are left."""
        if not self._due_known:  # asked for far more often than anything changes
            self._due_known = True
            self._due = self._find_due()
        return self._due

    def _find_due(self) -> Instant | None:
        due, matching = self._attempts.wakes_at, self._matching
        if self._arming.silent:
            return due
        if self._unsettled or matching.known > matching.seen:
            if self._left():
                return 0
            due = earliest(due, matching.patience_ends())
        if self._opening is not None and type(self._task.order) is Serve:
            due = earliest(due, self._opening.due)
        at = self._arming.confirm_at
        if at is not None and (due is None or at < due):
            due = at
        at = self._conversation.ask_at() if matching.opened else None
        return due if at is None or (due is not None and due < at) else at

    def handle(self, event: NodeEvent, now: Instant) -> list[Any]:
        """Take one event.

        Raises RemoteProtocolError, with nothing changed, for a message that no honest station
        sends, and LocalProtocolError for a Serve that the parameters do not allow.
        """
        kind, matching = type(event), self._matching
        if kind is Drained:
            more = self._unsettled or matching.known > matching.seen
            if not (self._dirty or self._unsaid or (more and self._left())):
                return []
            self._due_known = False
            return self._advance(now) + self._flush(now) if more else self._flush(now)
        if kind is SlotsChanged:
            self._dirty = True
            return []
        # One half more moves no deadline where an older one waits, and nothing waits for it.
        quiet = kind is EmitterHeralded and not self._unsettled and matching.known == matching.seen
        if not (quiet and matching.opened):
            self._due_known = False
        match event:
            case EmitterHeralded():
                actions = self._device(event, now)
            case Herald() | Beacon():
                actions = self._word(event, now)
            case Tick():
                actions = self._tick(now)
            case EmitterFired() | EmitterOutcome() | Exhausted():
                actions = self._device(event, now)
            case Rejected() | Aborted() | Faulted():
                actions = self._device(event, now)
            case ArmReply():
                actions = self._reply(event, now)
            case Serve() | Rest():
                actions = self._ordered(event, now)
            case StationReachable():
                actions = self._reachable(event)
            case StationUnreachable():
                actions = self._unreachable(event)
            case DeviceState():
                actions = self._device_state(event)
            case Completed() | Calibration() | Drained() | SlotsChanged():
                return []
            case _:
                assert_never(event)
        if actions or not (self._unsettled or matching.known > matching.seen):
            return actions
        return self._advance(now)

    def report(self) -> dict[str, Any]:
        """What is going on and what was counted, for people."""
        return {
            **self._conversation.report(),
            "remaining": self._task.remaining,
            "armed": self._attempts.armed,
            "troubles": dict(self._task.troubles),
            **self.counters,
        }

    # --- orders of the link ---------------------------------------------------------------

    def _ordered(self, order: Serve | Rest, now: Instant) -> list[Any]:
        check_order(order, self._parameters)
        self._task.take(order)
        self._unsettled = True
        self._pass(now)
        return self._follow()

    def _pass(self, now: Instant) -> bool:
        """Let the link's windows pass; return whether it opened or closed for this end."""
        if self._opening is None:
            return False
        changed = self._opening.look(now)
        if self._opening.lost and type(self._task.order) is Serve:
            self._conversation.ask(now)
        return changed

    def _follow(self) -> list[Any]:
        """Make arm and attempts follow the order, the link's windows and the devices' state."""
        self._dirty = True
        wish, replan = self._task.turn()
        waiting = self._matching.waiting(self._task.number)
        aborts = self._attempts.withdraw(max(0, self._task.remaining - waiting), self._task.number)
        if not self._arming.silent and (wish != self._arming.wish or aborts or replan):
            self._arming.handle(wish)
            self._arming.seen_from = self._matching.seen
        elif self._arming.silent:
            self._arming.wish = wish
        return list(aborts)

    # --- the station ----------------------------------------------------------------------

    def _reachable(self, event: StationReachable) -> list[Any]:
        actions: list[Any] = []
        if not self._arming.silent and event.boot != self._arming.boot:
            actions += self._unreachable(StationUnreachable("it was started again"))
        fresh = event.boot != self._arming.boot
        self._arming.handle(event)
        if fresh:
            self._filling.begin()
            if self._opening is not None:
                self._opening.forget()
            self._void(self._conversation.begin())
        self._arming.seen_from = self._matching.seen
        self._dirty = True
        return [*actions, Up(StationUp(event.boot))]

    def _unreachable(self, event: StationUnreachable) -> list[Any]:
        if self._arming.silent:
            return []
        self._arming.handle(event)
        aborts = self._attempts.withdraw(0, self._task.number)
        self._attempts.new_epoch()
        self._void(self._conversation.end())
        self._dirty = True
        return [*aborts, Up(StationDown(self._arming.boot, event.reason))]

    def _reply(self, reply: ArmReply, now: Instant) -> list[Any]:
        epoch, based = self._conversation.epoch, self._arming.based
        void = self._conversation.reply(reply, now)
        rewound = based and reply.epoch != epoch
        actions: list[Any] = [*self._filling.heard(reply, rewound, self._task.number, now)]
        if void and not rewound:
            self._filling.voided(void, now)
        self._void(void)
        self._dirty = True
        if self._opening is not None:
            answers = reply.number == self._arming.number
            seen = self._opening.told(reply, answers=answers, now=now)
            self._pass(now)
            actions += [*self._follow(), *([] if seen is None else [Up(seen)])]
        if reply.verdict is not Verdict.REFUSED:
            return actions
        self._count("refused")
        return [*actions, Note("arm-refused", (("reason", reply.reason),))]

    def _word(self, message: Herald | Beacon, now: Instant) -> list[Any]:
        standing = self._arming.standing
        if void := self._conversation.word(message, now):
            self._filling.voided(void, now)
            self._void(void)
        if standing is not self._arming.standing:
            self._dirty = True
        self._unsaid = True  # a query may have to leave
        return []

    # --- the devices ----------------------------------------------------------------------

    def _device(self, event: EmitterEvent, now: Instant) -> list[Any]:
        attempt = self._attempts.running.get(event.command)
        if attempt is None:
            return []
        try:
            emission = self._attempts.take(event, now)
        except HardwareFault as error:
            self._count("device_errors")
            return [Note("device-error", (("reason", str(error)),))]
        if emission is None or not self._attempts.starved:
            self._dirty = True
        if self._filling.learn(attempt, event, emission, now):
            self._count("late")
            if self._filling.lost:
                self._conversation.ask(now)
            return []
        if emission is not None:
            if self._matching.emit(emission):
                if void := self._matching.redecide():
                    self._void(void)
                return []
            self._void([emission])
            return [Note("device-error", (("reason", "two emissions of one attempt"),))]
        if isinstance(event, (Rejected, Faulted)):
            return self._failed(event, attempt.slot, now)
        return []

    def _failed(self, event: Rejected | Faulted, slot: int, now: Instant) -> list[Any]:
        self._count("rejected" if isinstance(event, Rejected) else "faulted")
        note = Note("attempt-failed", (("device", event.device), ("reason", event.reason)))
        rests = self._attempts.rest(slot, now, self._parameters.confirm_ns)
        return [note, *self._trouble("attempts", event.reason)] if rests else [note]

    def _device_state(self, event: DeviceState) -> list[Any]:
        if event.device not in (self._end.emitter, self._end.memory):
            return []
        if event.status in (DeviceStatus.READY, DeviceStatus.DEGRADED):
            self._attempts.wake(None)
            self._dirty = True
            return [*self._recovered("attempts"), *self._recovered(event.device)]
        if event.status is DeviceStatus.OFFLINE and event.device == self._end.emitter:
            self._attempts.abandon()
        return self._trouble(event.device, event.reason or event.status.name.lower())

    def _trouble(self, what: str, reason: str) -> list[Any]:
        first, self._task.troubles[what] = not self._task.troubles, reason
        return self._follow() + ([Up(DeviceTrouble(False, reason))] if first else [])

    def _recovered(self, what: str) -> list[Any]:
        if self._task.troubles.pop(what, None) is None or self._task.troubles:
            return []
        return [*self._follow(), Up(DeviceTrouble(True, ""))]

    # --- results --------------------------------------------------------------------------

    @property
    def left(self) -> bool:
        """Whether a Tick would indicate another result now."""
        return not self._arming.silent and self._left()

    def _left(self) -> bool:
        matching = self._matching
        settles = self._unsettled and self._arming.may_settle(matching.seen)
        return settles or (matching.known > matching.seen and matching.ready())

    def _advance(self, now: Instant) -> list[Any]:
        """Indicate the next result, if there is one: what was settled before what came of it."""
        if self._unsettled and self._arming.may_settle(self._matching.seen):
            self._unsettled = False
            return [Up(Settled(self._arming.wish.queue_version, self._arming.settled_at))]
        resolved = self._conversation.resolve(now)
        return [] if resolved is None else self._indicate(resolved)

    def _indicate(self, resolved: Resolved) -> list[Any]:
        success, emission = resolved.success, resolved.emission
        counted = self._task.count(success.request, self._arming.wish.request)
        self._unsaid = True
        if emission is None or resolved.reason:
            self._dirty = True
            self._count("missing")
            if emission is not None:
                self._void([emission])
        else:
            self._count("pairs")
            if emission.qubit is not None:
                self._slots.give(emission.qubit, ROOM, self._heir)
            # Where one fewer is wanted and one fewer waits, what is armed stays right.
            if not counted or emission.work != self._task.number:
                self._dirty = True
        return [Up(indication(resolved, self._arming.boot))]

    def _void(self, emissions: list[Emission]) -> None:
        """Free what the station threw away; the slots are armed again at DRAINED."""
        for emission in emissions + self._matching.freed():
            if emission.qubit is not None:
                self._slots.release(emission.qubit, ROOM)
            self._count("voids")
            self._dirty = True

    # --- what leaves at DRAINED -----------------------------------------------------------

    def _flush(self, now: Instant) -> list[Any]:
        arming, seen = self._arming, self._matching.seen
        dirty, unsaid = self._dirty, self._unsaid
        self._dirty = self._unsaid = False
        if arming.silent or not (dirty or unsaid):
            return []
        commands: list[Any] = []
        # What is resolved changes nothing in what is wanted, but where memory was left for it.
        if dirty or self._task.measures or not self._attempts.starved:
            commands += self._filling.follow(self._task, self._conversation, now)
        if arming.leaves(seen, now, self._parameters.confirm_ns):
            # The arm first: it has the longer way.
            return [Send(self._parameters.station, arming.message(seen)), *commands]
        return commands

    def _tick(self, now: Instant) -> list[Any]:
        arming, seen = self._arming, self._matching.seen
        if arming.confirms(now):
            self._dirty = True
            if seen > arming.confirmed and not arming.silent:
                return [Send(self._parameters.station, arming.message(seen))]
        if self._pass(now):
            return self._follow()
        ask_at = self._conversation.ask_at()
        if ask_at is not None and ask_at <= now and self._conversation.ask(now):
            self._dirty = True
        wakes_at = self._attempts.wakes_at
        if wakes_at is not None and wakes_at <= now:
            self._attempts.wake(now)
            self._dirty = True
            return self._recovered("attempts")
        return []

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

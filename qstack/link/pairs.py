"""What happens to one half of a pair at this end, from the herald until it is handed up.

Device work is done one command after the other: a correction, then the move to storage, or a
measurement for a test round. A half that becomes void while a command runs on its memory is
*condemned*: it is freed when the command has ended, so that no late gate can touch what
the slot holds next. Pairs are reported in the order of their heralds, per request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum, IntEnum

from qstack.bell import BellIndex
from qstack.errors import LocalProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.request import Request, State
from qstack.link.trials import PLANS, Key
from qstack.machine import Device
from qstack.messages.common import Basis, PairInfo, Qubit, RequestId
from qstack.messages.devices import (
    Completed,
    Gate,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    MemoryResult,
)
from qstack.physical.service import EndParameters
from qstack.physical.slots import Owner, Slots
from qstack.units import Instant

GATES: dict[BellIndex, Gate] = {1: Gate.Z, 2: Gate.X, 3: Gate.Y}
"""The one gate that moves the Bell index by this much (Y is XZ up to a phase)."""


class Work(IntEnum):
    """Device work besides gates; numbers beyond those of the gates."""

    INITIALISE = 100
    MOVE = 101
    MEASURE = 102


class Stage(Enum):
    """Where a half stands."""

    AWAITING = "awaiting the creator's outcome"
    BUSY = "a device works on it"
    STARVED = "no storage slot is free"
    READY = "waits for its turn to be reported"
    CONDEMNED = "void, but a device still works on it"
    GONE = "reported, or freed"


class Half:
    """One half in hand. `qubit` is None where it was measured at once."""

    __slots__ = (
        *("axis", "basis", "corrected", "heralded", "info", "key", "now_doing", "outcome", "qubit"),
        *("request", "stage", "starved_at", "target", "work"),
    )

    def __init__(self, key: Key, request: Request, info: PairInfo, qubit: Qubit | None) -> None:
        self.key = key
        self.request = request
        self.info = info
        self.qubit = qubit
        self.heralded: BellIndex = info.bell
        self.target: Qubit | None = None
        self.stage = Stage.READY
        self.work: deque[Gate | Work] = deque()
        self.now_doing: Gate | Work | None = None
        self.axis: str | None = None
        self.basis: Basis | None = None
        self.outcome: int | None = None
        self.corrected = False
        self.starved_at: Instant = 0


class Pairs:
    """All halves in hand at this end, and the device commands that run on them."""

    __slots__ = ("_commands", "_halves", "_here", "_order", "_running", "_slots", "starved")

    def __init__(self, here: EndParameters, slots: Slots, commands: CommandIds) -> None:
        self._here = here
        self._slots = slots
        self._commands = commands
        self._halves: dict[Key, Half] = {}
        self._running: dict[int, Half] = {}
        self._order: dict[RequestId, deque[Half]] = {}
        self.starved: list[Half] = []
        """The halves that wait for a storage slot, in the order in which they began to."""

    def get(self, key: Key) -> Half | None:
        """The half of this pair, while it is in hand."""
        return self._halves.get(key)

    def held(self) -> tuple[Half, ...]:
        """All halves in hand, test rounds among them."""
        return tuple(self._halves.values())

    def of(self, request: Request) -> tuple[Half, ...]:
        """The halves of this request that are to be reported, in the order of their heralds."""
        return tuple(self._order.get(request.wanted.id, ()))

    def any_of(self, request: Request) -> bool:
        """Whether any half of this request is in hand that is to be reported."""
        return bool(self._order) and request.wanted.id in self._order

    def take(self, half: Half, *, report: bool) -> None:
        """Hold a half; if `report`, it is to be reported after those of its request before it."""
        self._halves[half.key] = half
        if report:
            self._order.setdefault(half.request.wanted.id, deque()).append(half)

    def advance(self, half: Half, now: Instant) -> Device | None:
        """Begin the next piece of device work; None where there is none, or it must wait."""
        if not half.work:
            half.stage = Stage.READY
            return None
        work = half.work[0]
        if work is Work.INITIALISE:
            owner = Owner("link", half.request.wanted.id)
            half.target = self._slots.take(owner, "storage", self._here.storage)
            if half.target is None:
                if half.stage is not Stage.STARVED:
                    half.stage, half.starved_at = Stage.STARVED, now
                    self.starved.append(half)
                return None
        if half.stage is Stage.STARVED:
            self.starved.remove(half)
        half.work.popleft()
        half.stage, half.now_doing = Stage.BUSY, work
        command = self._commands.next()
        self._running[command] = half
        return Device(self._here.memory, self._command(half, work, command))

    def _command(
        self, half: Half, work: Gate | Work, command: int
    ) -> MemoryGate | MemoryInitialise | MemoryMove | MemoryMeasure:
        device, qubit, target = self._here.memory, half.qubit, half.target
        if qubit is None:
            raise LocalProtocolError(f"pair {half.info.pair} has no qubit to work on")
        if isinstance(work, Gate):
            return MemoryGate(device, command, work, qubit.slot, None, 0.0)
        if work is Work.MEASURE:
            return MemoryMeasure(device, command, qubit.slot, PLANS[half.axis or "Z"])
        if target is None:
            raise LocalProtocolError(f"pair {half.info.pair} has no storage slot to go to")
        if work is Work.INITIALISE:
            return MemoryInitialise(device, command, target.slot)
        return MemoryMove(device, command, qubit.slot, target.slot)

    def finished(self, event: Completed | MemoryResult) -> Half | None:
        """Take a good end of a command; return its half, or None where nobody waits for it."""
        half = self._running.pop(event.command, None)
        if half is None:
            return None
        work, half.now_doing = half.now_doing, None
        if work is Work.MOVE and half.qubit is not None:
            self._slots.release(half.qubit, "link")
            half.qubit, half.target = half.target, None
        if half.stage is Stage.CONDEMNED:
            self._free(half)
            return None
        return half

    def broken(self, command: int) -> Half | None:
        """Take a bad end of a command; return its half, still in hand, to be voided."""
        half = self._running.pop(command, None)
        if half is None:
            return None
        half.now_doing = None
        if half.stage is Stage.CONDEMNED:
            self._free(half)
            return None
        return half

    def next_ready(self, request: Request) -> Half | None:
        """Take the next half of this request whose turn it is, out of this end's hands."""
        order = self._order.get(request.wanted.id)
        if not order or order[0].stage is not Stage.READY:
            return None
        half = order.popleft()
        if not order:
            del self._order[request.wanted.id]
        self._halves.pop(half.key, None)
        half.stage = Stage.GONE
        return half

    def void(self, half: Half) -> None:
        """Give a half up: free it now, or when the running command has ended."""
        self._halves.pop(half.key, None)
        order = self._order.get(half.request.wanted.id)
        if order is not None and half in order:
            order.remove(half)
            if not order:
                del self._order[half.request.wanted.id]
        if half.stage is Stage.STARVED:
            self.starved.remove(half)
        if half.now_doing is not None:
            half.stage = Stage.CONDEMNED
        else:
            self._free(half)

    def _free(self, half: Half) -> None:
        half.stage = Stage.GONE
        for qubit in (half.qubit, half.target):
            if qubit is not None:
                self._slots.release(qubit, "link")
        half.qubit = half.target = None


class Reports:
    """Which pairs were indicated, for as long as an EXPIRE can reach them.

    An entry is forgotten when its horizon has passed and its request is over, or after 64
    horizons in any case, so that a request without end does not fill the memory.
    """

    __slots__ = ("_entries", "_horizon_ns")

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._entries: dict[Key, tuple[Request, Instant]] = {}

    def add(self, key: Key, request: Request, now: Instant) -> None:
        """Remember that this pair was indicated now."""
        self._entries[key] = (request, now)
        while self._entries:
            oldest, (its, at) = next(iter(self._entries.items()))
            age = now - at
            if age <= self._horizon_ns or (not its.over and age <= 64 * self._horizon_ns):
                break
            del self._entries[oldest]

    def pop(self, key: Key, now: Instant) -> tuple[Request, bool] | None:
        """Forget one report; return its request and whether an EXPIRE may still be indicated."""
        entry = self._entries.pop(key, None)
        return None if entry is None else (entry[0], now - entry[1] <= self._horizon_ns)

    def keys(self, boot: int, above: int) -> list[Key]:
        """Return the indicated pairs of this station's life above a sequence, in order."""
        return sorted(key for key in self._entries if key[0] == boot and key[1] > above)

    def doubtful(self, now: Instant) -> Iterator[Key]:
        """Return the pairs that can still expire and of which the peer may not have its half.

        Where a request is done, the peer has said that it reported every pair of it.
        """
        return iter(
            [
                key
                for key, (request, at) in self._entries.items()
                if now - at <= self._horizon_ns and request.state is not State.DONE
            ]
        )

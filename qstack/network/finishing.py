"""The last step of an end-to-end pair at an end: correct, measure, or wait for the other's word.

KEEP: the head-end turns the pair into the Bell state that was asked for, if any. MEASURE: both
measure, as the request plans for them: at once, when a half has come, where pairs are not
purified; what was read is withheld until the other end's track says that there is a pair.
PREPARE: the head-end measures and tells, the tail-end turns what it holds as far as a Pauli can.

A half that is wanted early goes to its user when it comes, and is its user's from then on. What
follows are notices.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import attrs

from qstack.bell import BellIndex
from qstack.link.service import remedy
from qstack.machine import record
from qstack.messages.application import (
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    OutcomeReady,
    PairReady,
)
from qstack.messages.circuits import CircuitGive, CircuitOutcome, CircuitTrack
from qstack.messages.common import Basis, PairInfo, PairKind
from qstack.messages.devices import Completed, Gate, MemoryGate, MemoryMeasure, MemoryResult
from qstack.messages.link import LinkRequest
from qstack.network.desk import Desk, Half
from qstack.network.places import Place, Side
from qstack.units import Duration, Instant

GATES: dict[BellIndex, Gate] = {1: Gate.Z, 2: Gate.X, 3: Gate.Y}
"""The Pauli that moves a Bell index by this."""


@record
class Read:
    """What was measured of a half, and how old it was then."""

    basis: Basis
    outcome: int
    age_ns: Duration


@attrs.define(eq=False)
class Local:
    """A half at an end of a circuit. `track` is what the other end sent for it; it came `told_at`.

    `busy`: a device works on it. `void`: why nothing will come of it, if so. `prepared`: basis and
    outcome of the head-end, for PREPARE. `info` once it is to be delivered. `tracked`: the other
    end was told of it. `confirmed`: it says that it delivered the pair.
    `polished`: it went through all rounds of purification; `given`: whom the head-end gives it to.
    `read`: it was measured, and its qubit is free. `early`: its user has it. `of_set`: it waits
    for the others of a set, once it is `turned`. `recalled`: until then it is not asked back
    again.
    """

    half: Half
    wanted: LinkRequest | None = None
    track: CircuitTrack | None = None
    told_at: Instant = 0
    info: PairInfo | None = None
    busy: bool = False
    void: str = ""
    prepared: tuple[Basis, int] | None = None
    tracked: bool = False
    confirmed: bool = False
    polished: bool = False
    given: CircuitGive | None = None
    read: Read | None = None
    early: bool = False
    of_set: bool = False
    turned: bool = False
    recalled: Instant = 0

    @property
    def there_at(self) -> Instant:
        """Since when this end knows that both halves are there; of use once the track came."""
        return max(self.half.ready_at, self.told_at)


class Keeper(Protocol):
    """Whose halves they are: it hears what became of each."""

    def through(self, local: Local, done: bool) -> None:
        """The last step ended. If `done`, the half is not the network layer's any more."""

    def measured(self, local: Local) -> None:
        """A half was read before the other end's word of it was known."""

    def rests(self, local: Local) -> None:
        """A half of a set was turned, and waits for the others."""


class Finisher:
    """Brings pairs to their users at one end."""

    __slots__ = ("_desk", "_keeper", "_place")

    def __init__(self, desk: Desk, place: Place, keeper: Keeper) -> None:
        self._desk = desk
        self._place = place
        self._keeper = keeper

    def begin(self, local: Local) -> None:
        """Start on a half whose request, track and info are known."""
        wanted, info = local.wanted, local.info
        if wanted is None or info is None or local.track is None:
            raise ValueError("a half without request and track cannot be finished")
        head = self._place.is_head
        match wanted.kind:
            case PairKind.KEEP if local.early:
                self._confirm(local, wanted, info)
            case PairKind.KEEP if local.turned:
                self._deliver(local, None)
            case PairKind.KEEP:
                turn = local.track.bell ^ info.bell if head else 0
                self._turn(local, turn, None)
            case PairKind.MEASURE if local.read is not None:
                self._tell(local, local.read)
            case PairKind.MEASURE:
                self.measure(local, wanted)
            case PairKind.PREPARE:
                if head:
                    self.measure(local, wanted)
                elif local.prepared is not None:
                    self.prepared(local)

    def prepared(self, local: Local) -> None:
        """The head-end's outcome came for a half that is to be delivered here."""
        wanted, track, told = local.wanted, local.track, local.prepared
        if wanted is None or track is None or told is None:
            raise ValueError("nothing is prepared by a half without request, track and outcome")
        if wanted.final_bell is None:
            self._turn(local, 0, False)
            return
        cure = remedy(wanted.origin_plan, *told, track.bell, wanted.final_bell)
        self._turn(local, cure.pauli, cure.corrected)

    def hand_over(self, local: Local, wanted: LinkRequest) -> None:
        """Give a half to its user before anything is known of its other end."""
        local.wanted, local.early = wanted, True
        self._desk.hand_up(local.half.qubit, wanted.id)
        self._desk.up(HalfReady(*self._whom(wanted), local.half.pair, local.half.qubit))

    def give_back(self, local: Local, reason: str) -> None:
        """Free the qubit of a half of which nothing comes, or tell its user to do so."""
        if local.early and local.wanted is not None:
            request, half = local.wanted.id, local.half
            self._desk.up(HalfDiscarded(request, half.pair, half.qubit, reason))
        elif local.read is None:
            self._desk.free(local.half.qubit)

    def _whom(self, wanted: LinkRequest) -> tuple[Any, str, int]:
        place = self._place
        return wanted.id, place.tail if place.is_head else place.id.origin, wanted.purpose

    # --- device work -----------------------------------------------------------------------

    def _turn(self, local: Local, pauli: BellIndex, corrected: bool | None) -> None:
        if not pauli:
            self._through_gates(local, corrected)
            return
        desk = self._desk
        local.busy = True
        slot = local.half.qubit.slot
        memory = desk.parameters.memory
        gate = MemoryGate(memory, desk.command(), GATES[pauli], slot, None, 0.0)
        desk.device(gate, partial(self._turned, local, corrected))

    def _turned(self, local: Local, corrected: bool | None, event: Any) -> None:
        local.busy = False
        if local.void or not isinstance(event, Completed):
            self._failed(local, event)
            return
        self._through_gates(local, corrected)

    def _through_gates(self, local: Local, corrected: bool | None) -> None:
        if local.of_set:
            local.turned = True
            self._keeper.rests(local)
        else:
            self._deliver(local, corrected)

    def measure(self, local: Local, wanted: LinkRequest) -> None:
        """Measure a half as a request plans for this end, whether a track has come or not."""
        desk = self._desk
        local.busy = True
        plan = wanted.origin_plan if self._place.is_head else wanted.peer_plan
        memory, slot = desk.parameters.memory, local.half.qubit.slot
        measure = MemoryMeasure(memory, desk.command(), slot, plan)
        desk.device(measure, partial(self._measured, local))

    def _measured(self, local: Local, event: Any) -> None:
        local.busy = False
        if local.void or not isinstance(event, MemoryResult):
            self._failed(local, event)
            return
        desk = self._desk
        desk.free(local.half.qubit)
        age = max(local.half.age_ns, event.held_ns)
        local.read = Read(event.basis, event.outcome, age)
        if local.info is None:
            self._keeper.measured(local)
        else:
            self._tell(local, local.read)

    def _tell(self, local: Local, read: Read) -> None:
        """Tell the user, and for PREPARE the tail-end, what was read."""
        wanted, info = local.wanted, local.info
        if wanted is None or info is None:
            raise ValueError("a half that nobody asked for was measured")
        desk, place = self._desk, self._place
        if wanted.kind is PairKind.PREPARE:
            said = CircuitOutcome(place.id, local.half.pair, read.basis, read.outcome)
            desk.send(place.neighbour(Side.DOWN), said)
        desk.up(OutcomeReady(*self._whom(wanted), info, read.basis, read.outcome))
        self._keeper.through(local, True)

    # --- deliveries --------------------------------------------------------------------------

    def _deliver(self, local: Local, corrected: bool | None) -> None:
        wanted, info = local.wanted, local.info
        if wanted is None or info is None:
            raise ValueError("a half that nobody asked for is to be delivered")
        self._desk.hand_up(local.half.qubit, wanted.id)
        basis, outcome = local.prepared if local.prepared is not None else (None, None)
        qubit = local.half.qubit
        ready = PairReady(*self._whom(wanted), info, qubit, outcome, basis, bool(corrected))
        self._desk.up(ready)
        self._keeper.through(local, True)

    def _confirm(self, local: Local, wanted: LinkRequest, info: PairInfo) -> None:
        half = local.half
        self._desk.up(HalfConfirmed(*self._whom(wanted), info, half.pair, half.qubit))
        self._keeper.through(local, True)

    def _failed(self, local: Local, event: Any) -> None:
        local.void = local.void or str(getattr(event, "reason", "the device failed"))
        self._desk.free(local.half.qubit)
        self._keeper.through(local, False)

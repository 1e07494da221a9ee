"""The last step of an end-to-end pair at an end: correct, measure, or wait for the other's word.

KEEP: the head-end turns the pair into the Bell state that was asked for, if any. MEASURE: both
measure, as the request plans for them. PREPARE: the head-end measures and tells, the tail-end
turns what it holds as far as a Pauli can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import attrs

from qstack.bell import BellIndex
from qstack.link.service import remedy
from qstack.messages.application import OutcomeReady, PairReady
from qstack.messages.circuits import CircuitGive, CircuitOutcome, CircuitTrack
from qstack.messages.common import Basis, PairInfo, PairKind
from qstack.messages.devices import Completed, Gate, MemoryGate, MemoryMeasure, MemoryResult
from qstack.messages.link import LinkRequest
from qstack.network.desk import Desk, Half
from qstack.network.places import Place, Side
from qstack.units import Instant

GATES: dict[BellIndex, Gate] = {1: Gate.Z, 2: Gate.X, 3: Gate.Y}
"""The Pauli that moves a Bell index by this."""


@attrs.define(eq=False)
class Local:
    """A half at an end of a circuit. `track` is what the other end sent for it; it came `told_at`.

    `busy`: a device works on it. `void`: why nothing will come of it, if so. `prepared`: basis and
    outcome of the head-end, for PREPARE. `info` once it is to be delivered. `tracked`: the other
    end was told of it. `confirmed`: it says that it delivered the pair.
    `polished`: it went through all rounds of purification; `given`: whom the head-end gives it to.
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


Through: TypeAlias = Callable[[Local, bool], None]


class Finisher:
    """Brings pairs to their users at one end; `through(local, done)` hears when one is.

    When it does, a half of which something became is not the network layer's any more.
    """

    def __init__(self, desk: Desk, place: Place, through: Through) -> None:
        self._desk = desk
        self._place = place
        self._through = through

    def begin(self, local: Local) -> None:
        """Start on a half whose request, track and info are known."""
        wanted, info = local.wanted, local.info
        if wanted is None or info is None or local.track is None:
            raise ValueError("a half without request and track cannot be finished")
        head = self._place.is_head
        match wanted.kind:
            case PairKind.KEEP:
                turn = local.track.bell ^ info.bell if head else 0
                self._turn(local, turn, None)
            case PairKind.MEASURE:
                plan = wanted.origin_plan if head else wanted.peer_plan
                self._measure(local, plan)
            case PairKind.PREPARE:
                if head:
                    self._measure(local, wanted.origin_plan)
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

    # --- device work -----------------------------------------------------------------------

    def _turn(self, local: Local, pauli: BellIndex, corrected: bool | None) -> None:
        if not pauli:
            self._deliver(local, corrected)
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
        self._deliver(local, corrected)

    def _measure(self, local: Local, plan: Any) -> None:
        desk = self._desk
        local.busy = True
        memory, slot = desk.parameters.memory, local.half.qubit.slot
        measure = MemoryMeasure(memory, desk.command(), slot, plan)
        desk.device(measure, partial(self._measured, local))

    def _measured(self, local: Local, event: Any) -> None:
        local.busy = False
        if local.void or not isinstance(event, MemoryResult):
            self._failed(local, event)
            return
        wanted, info = local.wanted, local.info
        if wanted is None or info is None:
            raise ValueError("a half that nobody asked for was measured")
        desk, place = self._desk, self._place
        desk.free(local.half.qubit)
        if wanted.kind is PairKind.PREPARE:
            said = CircuitOutcome(place.id, local.half.pair, event.basis, event.outcome)
            desk.send(place.neighbour(Side.DOWN), said)
        remote = place.tail if place.is_head else place.id.origin
        ready = OutcomeReady(wanted.id, remote, wanted.purpose, info, event.basis, event.outcome)
        desk.up(ready)
        self._through(local, True)

    def _deliver(self, local: Local, corrected: bool | None) -> None:
        wanted, info = local.wanted, local.info
        if wanted is None or info is None:
            raise ValueError("a half that nobody asked for is to be delivered")
        place = self._place
        self._desk.hand_up(local.half.qubit, wanted.id)
        remote = place.tail if place.is_head else place.id.origin
        basis, outcome = local.prepared if local.prepared is not None else (None, None)
        qubit = local.half.qubit
        ready = PairReady(
            wanted.id, remote, wanted.purpose, info, qubit, outcome, basis, bool(corrected)
        )
        self._desk.up(ready)
        self._through(local, True)

    def _failed(self, local: Local, event: Any) -> None:
        local.void = local.void or str(getattr(event, "reason", "the device failed"))
        self._desk.free(local.half.qubit)
        self._through(local, False)

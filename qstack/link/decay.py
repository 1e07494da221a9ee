"""What waiting, moving and correcting do to a pair between its emission and its delivery.

Everything is said in correlators of the pair along X, Y and Z, taken relative to the heralded
Bell state, so that a perfect pair has (1, 1, 1) and its fidelity is ``(1 + x + y + z) / 4``.
All maps here shrink them axis by axis:

- coherence of one half after t: ``exp(-(t / T2) ** n)`` for X and Y, but never more than
  relaxation leaves, ``exp(-t / (2 T1))``;
- populations of one half after t: ``exp(-t / T1)`` for Z;
- a gate or a move of average fidelity f, taken as depolarising: ``2 f - 1`` for all.

Populations relax towards an equilibrium that the models do not state. With none preferred the
Z correlator shrinks as said; towards a pole it may differ by the product of both ends'
relaxed fractions, ``gA gB`` (it is ``1 - 2 g`` for Psi and ``1 - 2 g + 2 g g`` for Phi, where
this model says ``1 - 2 g + g g``). The estimate leaves that out, the lower bound subtracts it.
"""

from __future__ import annotations

import math

from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.messages.link import LinkRequest
from qstack.physical.service import EndParameters, LinkParameters, MemoryModel
from qstack.units import Duration


@record
class Shrink:
    """Factors of the correlators along X, Y, Z, and what the bound of Z loses besides."""

    x: float
    y: float
    z: float
    doubt: float


NO_SHRINK = Shrink(1.0, 1.0, 1.0, 0.0)


def coherence(model: MemoryModel, age_ns: Duration) -> float:
    """Return the factor of one half's X and Y after this age, in [0, 1]."""
    if age_ns <= 0:
        return 1.0
    loss = age_ns / (2 * model.t1_ns) if model.t1_ns > 0 else 0.0
    if model.t2_ns > 0:
        loss = max(loss, (age_ns / model.t2_ns) ** model.exponent)
    return math.exp(-loss)


def population(model: MemoryModel, age_ns: Duration) -> float:
    """Return the factor of one half's Z after this age, in [0, 1]."""
    if model.t1_ns <= 0 or age_ns <= 0:
        return 1.0
    return math.exp(-age_ns / model.t1_ns)


def waiting(first: tuple[MemoryModel, Duration], second: tuple[MemoryModel, Duration]) -> Shrink:
    """Return what both halves' waits do, each given as (model, age in ns)."""
    phase = coherence(*first) * coherence(*second)
    one, two = population(*first), population(*second)
    return Shrink(phase, phase, one * two, (1 - one) * (1 - two))


def depolarise(shrink: Shrink, average_fidelity: float) -> Shrink:
    """Return `shrink` after one more imperfect operation on either half."""
    factor = max(0.0, 2 * average_fidelity - 1)
    return Shrink(shrink.x * factor, shrink.y * factor, shrink.z * factor, shrink.doubt)


def holders(parameters: LinkParameters, request: LinkRequest) -> tuple[EndParameters, ...]:
    """Return the ends that keep their halves of this request's pairs."""
    match request.kind:
        case PairKind.KEEP:
            return parameters.ends
        case PairKind.PREPARE:
            return (parameters.other(request.id.origin),)
        case PairKind.MEASURE:
            return ()


def corrector(parameters: LinkParameters, request: LinkRequest) -> EndParameters | None:
    """Return the one end that applies a correction: none where no final state is asked for."""
    if request.final_bell is None or request.kind is PairKind.MEASURE:
        return None
    if request.kind is PairKind.KEEP:
        return parameters.end(request.id.origin)
    return parameters.other(request.id.origin)


def age_at_delivery(parameters: LinkParameters, request: LinkRequest) -> Duration:
    """Return the age, in ns since emission, for which both ends state the goodness.

    That of the later end, from nominal figures that both ends share: photon to the station,
    herald back, the outcome's way for PREPARE, correction, move. 0 where nothing is kept.
    """
    ages = [0]
    fixer = corrector(parameters, request)
    for end in holders(parameters, request):
        age = 2 * end.delay_ns
        if request.kind is PairKind.PREPARE:
            age += 2 * parameters.other(end.node).delay_ns
        if end is fixer:
            age += end.model.gate_ns
        if request.store:
            age += end.model.move_ns
        ages.append(age)
    return max(ages)


def until_delivery(parameters: LinkParameters, request: LinkRequest) -> Shrink:
    """Return what happens to a pair of this request until both halves are delivered."""
    keepers = holders(parameters, request)
    if not keepers:
        return NO_SHRINK
    age = age_at_delivery(parameters, request)
    kept = [(end.model, age if end in keepers else 0) for end in parameters.ends]
    shrink = waiting(kept[0], kept[1])
    fixer = corrector(parameters, request)
    if fixer is not None:
        shrink = depolarise(shrink, fixer.model.gate_fidelity)
    if request.store:
        for end in keepers:
            shrink = depolarise(shrink, end.model.move_fidelity)
    return shrink

"""What a node says of its links: from what the stack believes of them to a link-state metric.

Rates and weights are those of the datasheets' predictions, for one link alone and without
requests of others. Test rounds and what has been measured since change them: whoever has
better numbers advertises those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from qstack.bell import BellWeights
from qstack.link.service import PRIOR_SIGMAS
from qstack.machine import record
from qstack.messages.network import LinkMetric, LinkOffer, NodeMetric
from qstack.network.budget import (
    Operations,
    Storage,
    correlators,
    fading,
    relative,
    together,
    weights_of,
)
from qstack.network.hours import said_windows
from qstack.physical.service import EndParameters, LinkParameters, MemoryModel, Setting
from qstack.units import SECOND, Duration, NodeName


def offers(parameters: LinkParameters, turn_ns: Duration = 0) -> tuple[LinkOffer, ...]:
    """Return every working point that keeps pairs, with rate and weights at delivery.

    All modes attempt in every cycle; an end without a herald line makes one attempt a round
    trip instead. Weights are the mean over click patterns, each relative to what it heralds,
    faded at both ends for the photon's way there and the herald's back.

    `turn_ns`: the measured round trip of control messages between an end and the station. A pair
    that is made as soon as a qubit is free waits so long: the station must hear of the qubit, and
    then the ends of the herald. Rates are those without it.
    """
    if not parameters.keep:
        return ()
    found = []
    for setting in parameters.settings:
        share = setting.success_probability
        if share > 0:
            weights = _at_delivery(parameters, setting, turn_ns)
            doubt = PRIOR_SIGMAS * max(p.spread for p in setting.patterns)
            low = max(0.0, weights[0] - doubt)
            slot_ns, tilt = slot_of(parameters), _tilt(parameters, setting)
            rate_hz = share * _qubits(parameters) * SECOND / slot_ns
            found.append(LinkOffer(setting.id, rate_hz, weights, low, slot_ns, tilt))
    return tuple(found)


def slot_of(parameters: LinkParameters) -> Duration:
    """Return the time between two attempts with the same qubit."""
    period = parameters.cycle_ns
    if not all(end.herald_line for end in parameters.ends):
        trip = 2 * max(end.delay_ns for end in parameters.ends)
        period *= max(1, -(-trip // parameters.cycle_ns))
    return period


def _qubits(parameters: LinkParameters) -> int:
    """How many qubits of an end attempt at a time."""
    return min(parameters.modes, *(len(end.communication) for end in parameters.ends))


def _at_delivery(parameters: LinkParameters, setting: Setting, turn_ns: Duration) -> BellWeights:
    share = setting.success_probability
    total = [0.0] * 4
    for pattern in setting.patterns:
        for index, weight in enumerate(relative(pattern.weights, pattern.bell)):
            total[index] += weight * pattern.share / share
    way = max(end.delay_ns for end in parameters.ends)
    age = way + max(way, turn_ns)
    waits = (fading(storage_of(end.model), age) for end in parameters.ends)
    mean = total[0], total[1], total[2], total[3]
    i, z, x, y = weights_of(together(correlators(mean), *waits))
    # A rounding error below zero, or above one, would be no probability.
    i, z, x, y = (min(1.0, max(0.0, each)) for each in (i, z, x, y))
    return i, z, x, y


def _tilt(parameters: LinkParameters, setting: Setting) -> float:
    """What is left at delivery of the mean over patterns; 0 where some herald Phi."""
    if not all(pattern.bell & 2 for pattern in setting.patterns):
        return 0.0
    share, age = setting.success_probability, 2 * max(end.delay_ns for end in parameters.ends)
    mean = sum(pattern.tilt * pattern.share / share for pattern in setting.patterns)
    return mean * sum(fading(storage_of(end.model), age)[2] for end in parameters.ends) / 2


def storage_of(model: MemoryModel) -> Storage:
    """Return how a qubit of this memory fades."""
    return Storage(model.t1_ns, model.t2_ns, model.exponent)


@record
class View:
    """What an end of a link sees of it.

    `up`: neither the station nor the other end is missed. `latency_ns`: of a message to the other
    end, one way. `turn_ns`: to the station and back. `drained`: it takes nothing new.
    `night`: it is closed for long.
    """

    up: bool
    latency_ns: Duration = 0
    turn_ns: Duration = 0
    drained: bool = False
    night: bool = False


def link_metric(
    parameters: LinkParameters,
    node: NodeName,
    view: View,
    reserved: float = 0.0,
    *,
    phase_ns: Duration = 0,
) -> LinkMetric:
    """Return what `node`, an end of the link, says of it: what drains is not up for others.

    Nor is what is closed for long, and what runs there waits. `phase_ns`: how far into a period of
    its windows it is. Of the windows of a link that is missed nothing is said: who has the word of
    them is not there, and nobody shall take for closed what nobody would open.
    """
    works = view.up and not view.night
    peer, up = parameters.other(node).node, works and not view.drained
    windows, repeats_ns = said_windows(parameters.windows if view.up else None, phase_ns)
    return LinkMetric(
        link=parameters.name,
        peer=peer,
        up=up,
        latency_ns=view.latency_ns,
        reserved=reserved,
        windows=windows,
        offers=offers(parameters, view.turn_ns),
        joined=joined_at(parameters.end(node)),
        halves=_qubits(parameters),
        turn_ns=view.turn_ns,
        waits=not works,
        draining=view.drained,
        repeats_ns=repeats_ns,
    )


def memories_of(ends: Iterable[EndParameters]) -> tuple[int, int]:
    """Return how many (communication, storage) qubits a node has at these ends of links."""
    mine = list(ends)
    communication = {slot for end in mine for slot in end.communication}
    return len(communication), len({slot for end in mine for slot in end.storage})


def joined_at(end: EndParameters) -> tuple[int, int]:
    """Return how many (communication, storage) qubits of an end there are, all joined to all.

    0 where some two cannot meet in a gate: no round may wait for a pair whose half lies wrong.
    """
    coupled = {frozenset(pair) for pair in end.model.coupled}
    counts = [
        len(slots) if all(frozenset(two) in coupled for two in combinations(slots, 2)) else 0
        for slots in (end.communication, end.storage)
    ]
    return counts[0], counts[1]


def node_metric(
    models: Sequence[MemoryModel],
    memories: tuple[int, int],
    operations: Operations,
    *,
    swaps: bool,
    trust: int = 0,
    draining: bool = False,
) -> NodeMetric:
    """Return what a node says of itself: of several memories the worst of each.

    `models` of its ends of links; `memories`: (communication, storage) qubits. It swaps if it has
    two links, and its memory can.
    """
    exponents = [model.exponent for model in models]
    return NodeMetric(
        swaps=swaps,
        trust=trust,
        draining=draining,
        memories=memories,
        t1_ns=_shortest(model.t1_ns for model in models),
        t2_ns=_shortest(model.t2_ns for model in models),
        exponent=min(exponents, default=1.0),
        keep=operations.keep,
        readout=operations.readout,
        success=operations.success,
        turn=operations.turn,
    )


def _shortest(times: Iterable[Duration]) -> Duration:
    """The shortest of times of which 0 means never."""
    return min((time for time in times if time > 0), default=0)

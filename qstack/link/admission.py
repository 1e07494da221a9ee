"""What is refused before anything is tried, in a fixed order (QLinkLayer's, with one addition).

CREATE for what makes no sense, UNSUPPORTED for what even an idle link cannot give, NO_TIME for
what cannot be had in time because of what is queued, NO_RESOURCES for what the memories of
either end cannot hold. REJECTED is the peer's own word.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from qstack.errors import ErrorCode
from qstack.link.decay import holders
from qstack.link.fidelity import FidelityUnit
from qstack.link.queue import Queue
from qstack.link.scheduler import Progress, Scheduler, wanted
from qstack.link.service import senseless
from qstack.link.timetable import Owner
from qstack.messages.common import BasisPlan, PairKind
from qstack.messages.link import LinkRequest
from qstack.physical.service import LinkParameters
from qstack.units import Duration, LinkName, NodeName
from qstack.windows import in_words

Refusal: TypeAlias = tuple[ErrorCode, str]


def _bad_plan(plan: BasisPlan) -> bool:
    numbers = (plan.first, plan.second, plan.x1, plan.y, plan.x2)
    if not all(map(math.isfinite, numbers)):
        return True
    return min(plan.first, plan.second) < 0 or plan.first + plan.second > 1 + 1e-9


def nonsense(request: LinkRequest, parameters: LinkParameters) -> Refusal | None:
    """Return why the request itself makes no sense, as CREATE, or None."""
    complaint = ""
    if request.id.origin not in (end.node for end in parameters.ends):
        complaint = f"{request.id.origin} is no end of link {parameters.name}"
    elif _bad_plan(request.origin_plan) or _bad_plan(request.peer_plan):
        complaint = "a basis plan has probabilities or angles that mean nothing"
    else:
        complaint = senseless(request)
    return (ErrorCode.CREATE, complaint) if complaint else None


def least_ns(request: LinkRequest, parameters: LinkParameters) -> Duration:
    """Return the physical minimum of the request's duration, in ns.

    The arm's way to the station, as many cycles as it takes if each mode of each succeeds,
    and the herald's way back.
    """
    cycles = -(-request.number // max(1, parameters.modes))
    return 2 * max(end.delay_ns for end in parameters.ends) + cycles * parameters.cycle_ns


def unsupported(
    request: LinkRequest, parameters: LinkParameters, unit: FidelityUnit
) -> Refusal | None:
    """Return why not even an idle link can do it, as UNSUPPORTED, or None."""
    if request.kind is not PairKind.MEASURE and not parameters.keep:
        return ErrorCode.UNSUPPORTED, f"link {parameters.name} gives measured pairs only"
    if unit.choose(request) is None:
        return (
            ErrorCode.UNSUPPORTED,
            f"fidelity {request.fidelity_min:.4f} at delivery is asked for; the link stands for "
            f"{unit.best_bound(request):.4f} at most",
        )
    least = least_ns(request, parameters)
    if 0 < request.remaining_ns < least:
        return (
            ErrorCode.UNSUPPORTED,
            f"{request.remaining_ns} ns are given; {request.number} pairs take {least} ns at least",
        )
    return None


def shut(request: LinkRequest, link: LinkName, closed_ns: Duration) -> Refusal | None:
    """Return NO_TIME where the maximum time ends before the link opens, by its windows."""
    if 0 < request.remaining_ns <= closed_ns:
        given = in_words(request.remaining_ns)
        return ErrorCode.NO_TIME, f"{link} is closed for {in_words(closed_ns)}; {given} are given"
    return None


def too_long(
    request: LinkRequest,
    queue: Queue,
    progress: Progress,
    scheduler: Scheduler,
    unit: FidelityUnit,
    *,
    room_ns: Callable[[Owner, Duration], tuple[Duration, Duration]],
) -> Refusal | None:
    """Return NO_TIME where what goes before leaves no time for even the fastest run.

    `room_ns`: how much of the time to come is an owner's alone, and how much is anybody's. What
    is queued of others goes before only where their own time does not suffice.
    """
    setting = unit.choose(request)
    if request.remaining_ns == 0 or setting is None:
        return None
    parameters, mine = unit.parameters, _owner(request)
    cycles = unit.pair_ns(request, setting) / parameters.cycle_ns
    queued: dict[Owner, float] = {mine: 0.0}
    for item in scheduler.ahead(queue.items, progress, request, cycles):
        work = wanted(item, progress) * item.cycles_per_pair * parameters.cycle_ns
        who = _owner(item.request)
        queued[who] = queued.get(who, 0.0) + work
    expected, least = sum(queued.values()), least_ns(request, parameters)
    own, free = room_ns(mine, request.remaining_ns)
    if own + free < min(least, request.remaining_ns):
        return (
            ErrorCode.NO_TIME,
            f"{least} ns are needed; of {request.remaining_ns} ns, "
            f"bins or windows leave {own + free} ns",
        )
    before = sum(
        max(0.0, work - room_ns(who, request.remaining_ns)[0])
        for who, work in queued.items()
        if who != mine
    )
    if expected > 0 and queued[mine] + least > own + max(0.0, free - before):
        return (
            ErrorCode.NO_TIME,
            f"what is queued takes {expected:.0f} ns; {request.remaining_ns} ns are given",
        )
    return None


def _owner(request: LinkRequest) -> Owner:
    return request.id.origin, request.purpose


def too_big(
    request: LinkRequest,
    parameters: LinkParameters,
    stated: tuple[NodeName, tuple[int, int]] | None,
) -> Refusal | None:
    """Return NO_RESOURCES where the memories that hold the pairs could never do so.

    Stored halves need storage at each end that keeps one; an atomic request needs room for
    all pairs at once: in storage if they are stored, in communication slots otherwise.
    `stated` is what the other end said itself: its name and (communication, storage).
    """
    for end in holders(parameters, request):
        communication, storage = len(end.communication), len(end.storage)
        if stated is not None and end.node == stated[0]:
            communication = min(communication, stated[1][0])
            storage = min(storage, stated[1][1])
        room = storage if request.store else communication
        what = "storage" if request.store else "communication"
        if room < (request.number if request.atomic else 1):
            return (
                ErrorCode.NO_RESOURCES,
                f"{end.node} has {room} {what} slots for {request.number} pairs",
            )
    return None

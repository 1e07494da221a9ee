"""How often pairs of two kinds meet, where the one that waits too long is discarded.

Both kinds are made all the time until there is one of each; the first waits for the second. What
is discarded is made anew. Attempts of hardware end at the ends of *slots*: a cutoff of a few slots
counts them, one of many may take time as continuous.

Sources: elementary probability; for equal probabilities case O12 of the project's validation
dossier.
"""

from __future__ import annotations

import math

from qstack.network.budget import Correlators, Storage, fading, mean_fading
from qstack.units import Duration

FEW_SLOTS = 32
"""Up to so many slots in a cutoff they are counted when halves fade: 2 % of the wait then."""


def meeting_rate(
    first_hz: float,
    second_hz: float,
    cutoff_ns: Duration = 0,
    slot_ns: float = 0.0,
    back_ns: tuple[Duration, Duration] = (0, 0),
) -> float:
    """Return how often two kinds of pairs meet, each made until there is one, all at once.

    The first waits for the second; one that waited longer than the cutoff (0: none) is
    discarded and made anew: `back_ns` later if it is of the first kind, of the second, since its
    other end must hear of that. Exponential waits, without a cutoff the inverse of the mean of the
    later, ``1/a + 1/b - 1/(a+b)``; with a cutoff and `slot_ns` geometric ones, and 0 for a cutoff
    shorter than a slot: what is not made at the same instant never meets then.
    """
    if first_hz <= 0 or second_hz <= 0:
        return 0.0
    if cutoff_ns and slot_ns > 0:
        return _in_slots((first_hz, second_hz), cutoff_ns, slot_ns, back_ns)
    total = first_hz + second_hz
    kept, spent = 0.0, 1 / total
    for mine, other, back in ((first_hz, second_hz, back_ns[0]), (second_hz, first_hz, back_ns[1])):
        in_time = -math.expm1(-other * cutoff_ns * 1e-9) if cutoff_ns else 1.0
        kept += mine / total * in_time
        spent += mine / total * (in_time / other + (1 - in_time) * back * 1e-9)
    return kept / spent


def whole_slots(cutoff_ns: Duration, slot_ns: float) -> int:
    """Return for how many slots a pair is kept; what comes at the end of the cutoff is late."""
    return math.ceil(cutoff_ns / slot_ns) - 1


def _in_slots(
    rates_hz: tuple[float, float],
    cutoff_ns: Duration,
    slot_ns: float,
    back_ns: tuple[Duration, Duration],
) -> float:
    slots = whole_slots(cutoff_ns, slot_ns)
    if slots < 1:
        return 0.0
    # A pair that is discarded as a slot begins keeps its qubit from the attempt of that slot.
    missed = cutoff_ns // slot_ns - slots
    p, q = (min(1.0, rate * slot_ns * 1e-9) for rate in rates_hz)
    some = p + q - p * q
    kept, spent = p * q / some, 1 / some
    for mine, other, back in ((p, q, back_ns[0]), (q, p, back_ns[1])):
        alone = mine * (1 - other) / some
        in_time = 1 - (1 - other) ** slots
        kept += alone * in_time
        spent += alone * (in_time / other + (1 - in_time) * (back / slot_ns + missed))
    return kept / spent / (slot_ns * 1e-9)


def waiting(
    storage: Storage, rate_hz: float, cutoff_ns: Duration = 0, slot_ns: float = 0.0
) -> Correlators:
    """Return the mean of fading over the wait for something that comes at this rate.

    As :func:`~qstack.network.budget.mean_fading`; where the cutoff is a few slots, the wait is one
    or more whole slots.
    """
    slots = whole_slots(cutoff_ns, slot_ns) if cutoff_ns and slot_ns > 0 else 0
    if not 0 < slots <= FEW_SLOTS or rate_hz <= 0:
        return mean_fading(storage, rate_hz, cutoff_ns)
    p = min(1.0, rate_hz * slot_ns * 1e-9)
    total = phase = level = 0.0
    weight = p
    for slot in range(1, slots + 1):
        x, _, z = fading(storage, slot * slot_ns)
        total, phase, level = total + weight, phase + weight * x, level + weight * z
        weight *= 1 - p
    return phase / total, phase / total, level / total

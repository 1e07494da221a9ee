"""Numbers that say how a run of pairs went."""

from __future__ import annotations

import math
from collections.abc import Callable

from qstack.messages.common import PairInfo

QUANTILES = (0.5, 0.9, 0.99)
"""What reports of times show."""


def quantiles(values: list[int], at: tuple[float, ...] = QUANTILES) -> tuple[int, ...]:
    """Return the quantiles of these values (nearest rank), or none where there are no values."""
    ordered = sorted(values)
    return tuple(
        ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))]
        for q in at
        if ordered
    )


def mean_of(infos: list[PairInfo], value: Callable[[PairInfo], float]) -> float | None:
    """Return the mean of what `value` says of these pairs, None where there are none."""
    return sum(map(value, infos)) / len(infos) if infos else None

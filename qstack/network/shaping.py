"""How much of a link's time a user's own request to a neighbour may take from everybody else.

Circuits hold parts of a link's time for requests with a promised rate. Under weighted fair
scheduling a request gets its weight's part of what is asked for at a time, and what others
leave over. So weights are not the user's to choose: a request without a maximum time weighs as
little as a circuit without a promise, times the weight that it was given among its like; one with
a maximum time weighs the part of the link that it needs, at most what circuits have left over.
"""

from __future__ import annotations

import math
from typing import Any, cast

import attrs

from qstack.messages.link import LinkRequest
from qstack.messages.network import LinkOffer
from qstack.network.dry import need_hz

LEAST_WEIGHT = 1e-3
"""Of a circuit or a request without a promise. All of them together take little from promises."""
MOST_LIKE = 10.0
"""A user's weight counts up to this."""


def share_of(request: LinkRequest, offers: tuple[LinkOffer, ...], free: float) -> float:
    """Return the part of a link that a request needs, of the part that is `free`; 0: no promise.

    All of it where the link's rate is not known.
    """
    need = need_hz(request)
    if need <= 0:
        return 0.0
    able = [o.rate_hz for o in offers if o.weights[0] >= request.fidelity_min]
    return min(max(0.0, free), need / max(able) if able else 1.0)


def shaped(request: LinkRequest, share: float) -> LinkRequest:
    """Return the request as its link is asked, with a share that is promised, or 0.

    A weight that makes no sense is left for the link to refuse.
    """
    if not (math.isfinite(request.weight) and request.weight > 0):
        return request
    weight = share if share > 0 else LEAST_WEIGHT * min(request.weight, MOST_LIKE)
    # The type checker does not see that our records are attrs classes.
    return cast(LinkRequest, attrs.evolve(cast(Any, request), weight=weight))

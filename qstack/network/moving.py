"""Requests that wait for a link whose station, or whose other end, is gone: another way for them.

A link that is missed waits, and so does what runs on it: it goes on when the link is back. Where
routes know another way, requests of which no pair was delivered go there instead, as soon as
routes tell of the link: a circuit's head-end takes it down, and it begins anew. A request on
the link to a neighbour alone is cancelled there, and becomes that of a circuit. A request that has
pairs already, or a circuit's that has a maximum time, stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from qstack.messages.link import LinkRequest
from qstack.messages.network import RouteUpdate
from qstack.network.places import Place
from qstack.units import Instant, LinkName, NodeName


def missed(database: Mapping[NodeName, RouteUpdate], place: Place) -> LinkName | None:
    """Return the first link of a circuit of which an end says that it waits; None for none."""
    before = place.id.origin
    for leg in place.install.legs:
        for name in (before, leg.node):
            said = database[name].links if name in database else ()
            if any(metric.waits for metric in said if metric.link == leg.link):
                return leg.link
        before = leg.node
    return None


def remaining(request: LinkRequest, since: Instant, now: Instant) -> LinkRequest:
    """Return a request of `since` with what is left now of its maximum time, if it has one."""
    if not request.remaining_ns:
        return request
    # The type checker does not see that our records are attrs classes.
    left: LinkRequest = attrs.evolve(
        cast(Any, request), remaining_ns=max(1, request.remaining_ns - (now - since))
    )
    return left

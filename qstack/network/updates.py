"""What an update of a node says: whether it can be, whether it is newer, and whether it is news."""

from __future__ import annotations

from qstack.messages.network import LinkMetric, NodeMetric, RouteUpdate
from qstack.network.hours import same_links, wrong_windows
from qstack.units import BootId, Duration, NodeName

_ROUNDING = 1e-6
"""So far from one the weights of an offer may sum."""


def order(update: RouteUpdate) -> tuple[int, BootId]:
    """Larger is newer. Two lives with one number are told apart, until the origin outdoes both."""
    return update.sequence, update.boot


def leads(update: RouteUpdate) -> bool:
    """Whether a way may lead to the origin, as it says itself."""
    return any(link.up for link in update.links)


def takes_away(held: RouteUpdate, update: RouteUpdate) -> bool:
    """Whether ways that led over the origin may lead there no more."""
    if held.boot != update.boot or (update.node.draining and not held.node.draining):
        return True
    up = {link.link for link in update.links if link.up}
    return any(link.up and link.link not in up for link in held.links)


def check(
    origin: NodeName, node: NodeMetric, links: tuple[LinkMetric, ...], error: type[Exception]
) -> None:
    """Raise `error` where an update says what cannot be."""
    wrong = not (
        0 <= node.keep <= 1
        and 0 <= node.readout <= 1
        and 0 <= node.success <= 1
        and 0 <= node.turn <= 1
        and min(node.t1_ns, node.t2_ns, *node.memories) >= 0
        and node.exponent > 0
    )
    for link in links:
        for offer in link.offers:
            i, z, x, y = offer.weights
            right = 0 <= i <= 1 and 0 <= z <= 1 and 0 <= x <= 1 and 0 <= y <= 1
            right = right and 0 <= offer.fidelity_low <= 1 and offer.slot_ns >= 0
            if not right or offer.rate_hz < 0 or not abs(i + z + x + y - 1) <= _ROUNDING:
                raise error(f"{origin}: {link.link} offers {offer}")
        if link.windows or link.repeats_ns:
            reason = wrong_windows(link)
            if reason is not None:
                raise error(f"{origin}: {link.link} has windows that cannot be: {reason}")
        right = link.latency_ns >= 0 and link.halves >= 0 and link.turn_ns >= 0
        wrong = wrong or not right or not 0 <= link.reserved <= 1
    if wrong:
        raise error(f"{origin} advertises what cannot be: {node}, {links}")
    if len({link.link for link in links}) < len(links):
        raise error(f"{origin} advertises a link twice")


def is_news(held: RouteUpdate, age_ns: Duration, update: RouteUpdate) -> bool:
    """Whether an update says something else than what is held, which is of this age by now.

    That is of the origin's life, or of its content.
    """
    return (
        held.boot != update.boot
        or (held.node is not update.node and held.node != update.node)
        or not same_links(held.links, update.links, age_ns - update.age_ns)
    )

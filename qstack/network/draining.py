"""What takes nothing new, as nodes advertise it: nodes and links that an operator drains.

A draining node or link finishes what runs. Routes avoid it, installs and requests on circuits that
are there already are refused by it, and neighbours do not ask its links for pairs of their users.
It is a state of one life of a node: who starts it again finds it ready for everything.
"""

from __future__ import annotations

from collections.abc import Mapping

from qstack.errors import ErrorCode
from qstack.messages.network import RouteUpdate
from qstack.network.admission import Verdict
from qstack.units import LinkName, NodeName


def drains_there(
    database: Mapping[NodeName, RouteUpdate], remote: NodeName, link: LinkName
) -> bool:
    """Whether the node at the other end says that nothing new is taken on a link."""
    update = database.get(remote)
    if update is None:
        return False
    return update.node.draining or any(m.draining for m in update.links if m.link == link)


def drained(database: Mapping[NodeName, RouteUpdate]) -> list[str]:
    """Return everything that drains, in words, in the order of names."""
    found = []
    for name in sorted(database):
        update = database[name]
        if update.node.draining:
            found.append(f"node {name}")
        found += [f"link {m.link} at {name}" for m in update.links if m.draining]
    return found


def explained(verdict: Verdict, database: Mapping[NodeName, RouteUpdate]) -> Verdict:
    """Return a refusal for want of any way, with what drains, which may be why."""
    names = drained(database) if verdict.code is ErrorCode.NO_RESOURCES else []
    if not names:
        return verdict
    reason = f"{verdict.reason}; draining: {', '.join(names)}"
    return Verdict(verdict.code, reason, verdict.link, verdict.node)

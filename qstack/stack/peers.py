"""The peers of a host: who may say what to whom, and what is known of each."""

from __future__ import annotations

from functools import cache
from typing import Any

from qstack.adjacency import Adjacency
from qstack.hal.commands import COMMANDS
from qstack.messages.physical import Arm, Confirm
from qstack.messages.wire import KIND_OF, Layer
from qstack.units import Instant, NodeName

ALLOWED: dict[tuple[str, str], frozenset[Layer]] = {
    ("node", "node"): frozenset({Layer.LINK, Layer.NETWORK}),
    ("node", "station"): frozenset({Layer.PHYSICAL}),
    ("station", "node"): frozenset({Layer.PHYSICAL}),
    ("node", "world"): frozenset({Layer.DEVICE}),
    ("station", "world"): frozenset({Layer.DEVICE}),
    ("world", "node"): frozenset({Layer.DEVICE}),
    ("world", "station"): frozenset({Layer.DEVICE}),
    ("node", "user"): frozenset({Layer.APPLICATION}),
    ("station", "user"): frozenset({Layer.APPLICATION}),
    ("user", "node"): frozenset({Layer.APPLICATION}),
    ("user", "station"): frozenset({Layer.APPLICATION}),
}
"""Which layers' messages a party of the first role takes from one of the second."""

OF_ENDS = frozenset({Arm, Confirm})
"""What a node says to its station; the rest of that layer is what a station says to its nodes."""

NEVER: Instant = (1 << 62) - 1
"""An instant that does not come: nearly a century and a half of lab time."""


@cache
def kinds_between(mine: str, theirs: str) -> frozenset[type[Any]]:
    """Return the messages that a party of the first role takes from one of the second."""
    layers = ALLOWED.get((mine, theirs), frozenset())
    kinds = frozenset(cls for cls, kind in KIND_OF.items() if kind.layer in layers)
    if mine == "world":
        return kinds & COMMANDS
    if (mine, theirs) == ("station", "node"):
        return kinds & OF_ENDS
    return kinds - OF_ENDS - COMMANDS


class Peer:
    """What a host knows of one peer. `adjacency` is None for a user of this process.

    `take`: the messages that are taken from it, None while it is not there. `due`: when its
    adjacency wanted a TICK when last asked; `stepped`: it was stepped since.
    """

    __slots__ = ("adjacency", "due", "name", "port", "role", "stepped", "take", "undrained")

    def __init__(self, name: NodeName, role: str, port: str, adjacency: Adjacency | None) -> None:
        self.adjacency = adjacency
        self.due = NEVER
        self.stepped = self.undrained = False
        self.take: frozenset[type[Any]] | None = None
        self.name = name
        self.role = role
        self.port = port

    @property
    def wanted(self) -> Instant:
        """When its adjacency wants a TICK; NEVER if it does not."""
        due = None if self.adjacency is None else self.adjacency.deadline
        return NEVER if due is None else due

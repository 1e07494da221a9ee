"""The users of a node: what the application layer hears of them, and what belongs to each."""

from __future__ import annotations

from typing import Any

from qstack.machine import record
from qstack.messages.common import Qubit, RequestId
from qstack.units import NodeName


@record
class UserUp:
    """A user's adjacency came up."""

    user: NodeName


@record
class UserDown:
    """A user is gone; what belongs to it ends."""

    user: NodeName
    reason: str


@record
class FromUser:
    """A message of a user."""

    user: NodeName
    message: Any


class User:
    """What belongs to a user."""

    __slots__ = ("purposes", "qubits", "requests")

    def __init__(self) -> None:
        self.purposes: set[int] = set()
        self.requests: set[RequestId] = set()
        self.qubits: set[Qubit] = set()

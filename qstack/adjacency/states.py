"""The states of an adjacency, its events, and what may follow what."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeAlias

from qstack.adjacency.service import Dormant, Open, Post, Shut
from qstack.machine import Arrived, Drained, Tick


class State(IntEnum):
    """The life of an adjacency."""

    CLOSED = 0
    """Not opened, or shut: nothing is sent, what arrives is dropped."""
    WAITING = 1
    """Waiting to be called."""
    CALLING = 2
    """Sending hellos."""
    UP = 3
    """The peer's life is confirmed; messages flow."""


Event: TypeAlias = Arrived | Post | Tick | Drained | Open | Shut | Dormant

_CLOSED = frozenset({State.CLOSED})
_WAITING = frozenset({State.WAITING})
_CALLING = frozenset({State.CALLING})
_UP = frozenset({State.UP})
_FALL = frozenset({State.UP, State.WAITING, State.CALLING})

TABLE: dict[State, dict[type[Any], frozenset[State]]] = {
    State.CLOSED: {
        Arrived: _CLOSED,
        Post: _CLOSED,
        Tick: _CLOSED,
        Drained: _CLOSED,
        Dormant: _CLOSED,
        Open: _WAITING | _CALLING,
    },
    State.WAITING: {
        Arrived: _WAITING | _UP,
        Post: _WAITING,
        Tick: _WAITING,
        Drained: _WAITING,
        Dormant: _WAITING,
        Shut: _CLOSED,
    },
    State.CALLING: {
        Arrived: _CALLING | _UP,
        Post: _CALLING,
        Tick: _CALLING,
        Drained: _CALLING,
        Dormant: _CALLING,
        Shut: _CLOSED,
    },
    State.UP: {
        Arrived: _FALL,
        Post: _UP,
        Tick: _FALL,
        Drained: _UP,
        Dormant: _UP,
        Shut: _CLOSED,
    },
}
"""What may follow. A missing row is our own caller's mistake: a peer can only cause Arrived."""

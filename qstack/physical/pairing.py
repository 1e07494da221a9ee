"""When a link's analyser is open: the states of a link at its station."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

from qstack.machine import Tick
from qstack.messages.devices import (
    Aborted,
    Completed,
    DeviceState,
    Exhausted,
    Faulted,
    Rejected,
    StationClicks,
)
from qstack.physical.events import Deferred, EndReachable, EndUnreachable, FromEnd, Granted


class LinkState(IntEnum):
    """The life of a link at its station."""

    IDLE = auto()
    """No end wants anything."""
    HALF = auto()
    """One end wants something."""
    APART = auto()
    """Both want something, but not the same."""
    DEFERRED = auto()
    """Both want the same, but the analyser is with another link, or the link is closed."""
    PAIRED = auto()
    """Both want the same, and the analyser is open for it."""
    CLOSED = auto()
    """The analyser cannot work, or an end does not confirm what it was told."""


_ALL = frozenset(LinkState)
_ARMS = frozenset({LinkState.IDLE, LinkState.HALF})


def _may(state: LinkState, *more: LinkState) -> dict[type[Any], frozenset[LinkState]]:
    """The row of a state in which the analyser works; `more` are reached by an arm."""
    same_or_closed = frozenset({state, LinkState.CLOSED})
    return {
        FromEnd: frozenset({state, *more}),
        EndReachable: frozenset({state}) | _ARMS,
        EndUnreachable: frozenset({state}) | _ARMS,
        StationClicks: same_or_closed,
        Completed: same_or_closed,
        Exhausted: frozenset({state}),
        Aborted: same_or_closed,
        Rejected: same_or_closed,
        Faulted: same_or_closed,
        DeviceState: same_or_closed,
        Granted: frozenset({state}),
        Deferred: frozenset({state}),
        Tick: same_or_closed,
    }


_BOTH = (LinkState.APART, LinkState.PAIRED, LinkState.DEFERRED, LinkState.CLOSED)

TABLE: dict[LinkState, dict[type[Any], frozenset[LinkState]]] = {
    LinkState.IDLE: _may(LinkState.IDLE, LinkState.HALF, LinkState.CLOSED),
    LinkState.HALF: _may(LinkState.HALF, LinkState.IDLE, *_BOTH),
    LinkState.APART: _may(LinkState.APART, LinkState.HALF, *_BOTH),
    LinkState.DEFERRED: {
        **_may(LinkState.DEFERRED, LinkState.HALF, *_BOTH),
        Granted: frozenset({LinkState.DEFERRED, LinkState.PAIRED, LinkState.CLOSED}),
        Deferred: frozenset({LinkState.DEFERRED, LinkState.CLOSED}),
        Exhausted: frozenset({LinkState.DEFERRED, LinkState.CLOSED}),
        Aborted: frozenset({LinkState.DEFERRED, LinkState.CLOSED}),
        Completed: frozenset({LinkState.DEFERRED, LinkState.PAIRED, LinkState.CLOSED}),
        Tick: frozenset({LinkState.DEFERRED, LinkState.PAIRED, LinkState.CLOSED}),
    },
    LinkState.PAIRED: {
        **_may(LinkState.PAIRED, LinkState.HALF, *_BOTH),
        Completed: frozenset({LinkState.PAIRED, LinkState.DEFERRED, LinkState.CLOSED}),
        Deferred: frozenset({LinkState.DEFERRED}),
        Exhausted: frozenset({LinkState.PAIRED, LinkState.DEFERRED, LinkState.CLOSED}),
        Aborted: frozenset({LinkState.PAIRED, LinkState.DEFERRED, LinkState.CLOSED}),
        Tick: frozenset({LinkState.PAIRED, LinkState.DEFERRED, LinkState.CLOSED}),
    },
    LinkState.CLOSED: dict.fromkeys(_may(LinkState.CLOSED), _ALL),
}
"""The states of a link that each event may lead to. Whoever opens is CLOSED until able again."""

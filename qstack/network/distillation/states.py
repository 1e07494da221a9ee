"""The life of a distillery at one end, and all that it may be told."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from qstack.machine import Drained, Tick
from qstack.messages.devices import Aborted, Completed, Faulted, MemoryResult, Rejected
from qstack.messages.network import DistilEnd, DistilOutcome, DistilRound, DistilVoid
from qstack.network.distillation.service import Deliver, Expire, PeerGone, Stop


class DistilleryState(StrEnum):
    """Where a distillery stands."""

    RUNNING = "pairs meet"
    ENDING = "no more rounds; a device still works"
    ENDED = "nothing is held"


FromMemory: TypeAlias = Completed | MemoryResult | Rejected | Aborted | Faulted
Event: TypeAlias = (
    Deliver | Expire | Stop | PeerGone | Tick | Drained | FromMemory
    | DistilRound | DistilOutcome | DistilVoid | DistilEnd
)  # fmt: skip

_D = DistilleryState
_BUSY, _OVER = frozenset({_D.ENDING}), frozenset({_D.ENDED})
_PLAIN = (Deliver, Expire, Tick, Drained, DistilRound, DistilOutcome, DistilVoid)
_LAST = (Stop, PeerGone, DistilEnd)
_MEMORY = (Completed, MemoryResult, Rejected, Aborted, Faulted)
TABLE: dict[DistilleryState, dict[type, frozenset[DistilleryState]]] = {
    _D.RUNNING: {
        **dict.fromkeys((*_PLAIN, *_MEMORY), frozenset({_D.RUNNING})),
        **dict.fromkeys(_LAST, _BUSY | _OVER),
    },
    _D.ENDING: {
        **dict.fromkeys((*_PLAIN, *_LAST), _BUSY),
        **dict.fromkeys(_MEMORY, _BUSY | _OVER),
    },
    _D.ENDED: dict.fromkeys((*_PLAIN, *_LAST, *_MEMORY), _OVER),
}
"""The allowed successors. Pairs that come late are given back, messages that do say nothing."""

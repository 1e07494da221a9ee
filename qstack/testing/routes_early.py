"""Halves that users have before they are known to be of a pair: notices, and what was read."""

from __future__ import annotations

from typing import Any

from qstack.messages.application import (
    HalfDiscarded,
    HalfReady,
    Measured,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import Basis, PairId, Qubit, RequestId
from qstack.stack import NodeLost, NodeReached
from qstack.testing.judge import Checker
from qstack.testing.routes_checkers import RouteOutcomes, parity_of
from qstack.testing.truth import TruthError
from qstack.units import Instant, NodeName


class EarlyHalves(Checker):
    """Of each half that a user has early one notice comes, and before the request's end.

    The judge shows a confirmation as a PairReady with the same qubit. Where both users measured
    theirs along one axis before, the outcomes are compared in the frame that the notices told;
    what comes of it is for statistics, with those of measured pairs.
    """

    def __init__(self, outcomes: RouteOutcomes) -> None:
        self.confirmed = self.discarded = 0
        self._outcomes = outcomes
        self._waiting: dict[tuple[NodeName, Qubit], RequestId] = {}
        self._read: dict[tuple[NodeName, Qubit], tuple[Basis, int]] = {}
        self._first: dict[PairId, tuple[NodeName, PairReady]] = {}

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Follow each half to its notice."""
        match message:
            case HalfReady():
                self._waiting[node, message.qubit] = message.request
            case HalfDiscarded():
                self.discarded += 1
                self._noticed(node, message.request, message.qubit)
            case PairReady() if (node, message.qubit) in self._waiting:
                self.confirmed += 1
                self._noticed(node, message.request, message.qubit)
                self._pair(node, message)
            case Measured():
                self._read[node, message.qubit] = message.basis, message.outcome
            case RequestDone() | RequestEnded():
                left = [
                    q for (n, q), r in self._waiting.items() if (n, r) == (node, message.request)
                ]
                if left:
                    raise TruthError(f"{node}: {message}, but no word of {left}")

    def _noticed(self, node: NodeName, request: RequestId, qubit: Qubit) -> None:
        if self._waiting.pop((node, qubit), None) != request:
            raise TruthError(f"{node}: a notice for {qubit} of {request}, which its user never had")

    def _pair(self, node: NodeName, ready: PairReady) -> None:
        first = self._first.pop(ready.info.pair, None)
        if first is None:
            self._first[ready.info.pair] = node, ready
            return
        mine, theirs = (
            self._read.get((node, ready.qubit)),
            self._read.get((first[0], first[1].qubit)),
        )
        if mine is not None and theirs is not None and mine[0] == theirs[0]:
            goodness = min(ready.info.goodness, first[1].info.goodness)
            found = parity_of(ready.info, mine[0], (mine[1], theirs[1]), goodness)
            if found is not None:
                self._outcomes.parities.append(found)

    def contact(self, event: NodeReached | NodeLost, now: Instant) -> None:
        """Of what a node held for a user that lost it no notice comes."""
        self.user_crashed(event.node, now)

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """Nobody hears a notice."""
        self._waiting = {key: r for key, r in self._waiting.items() if key[0] != node}

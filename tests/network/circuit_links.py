"""Links without anything below them, for tests of circuits: they keep the link's service.

Requests enter in order, the peer hears of each before its pairs, every request ends once at each
end that knows it. A pair takes a qubit at both ends at once, and is told to each end at its own
time. Whoever drives the lab says when something happens.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs

from qstack.errors import ErrorCode
from qstack.link.service import (
    LinkAccepted,
    LinkCancel,
    LinkCreate,
    LinkDone,
    LinkExpired,
    LinkFailed,
    LinkListen,
    LinkPairReady,
)
from qstack.messages.common import PairId, PairInfo, Qubit, RequestId
from qstack.messages.link import LinkRequest
from qstack.physical.service import LinkParameters
from qstack.physical.slots import Owner, Slots
from qstack.units import Instant, LinkName, NodeName
from tests.network.circuit_truth import Place, Truth

STATION = 77
evolve: Any = attrs.evolve  # mypy does not know records for attrs classes


@attrs.define(eq=False)
class Wanted:
    """A request in the queue. `left`: pairs to come. `known`: ends that heard of it."""

    creator: NodeName
    request: LinkRequest
    left: int
    known: set[NodeName]


class FakeLink:
    """One link. `bring`: per end, what it is to be told, in order."""

    def __init__(
        self,
        parameters: LinkParameters,
        slots: dict[NodeName, Slots],
        truth: Truth,
    ) -> None:
        self.parameters = parameters
        self.name: LinkName = parameters.name
        self.ends: tuple[NodeName, NodeName] = (parameters.ends[0].node, parameters.ends[1].node)
        self.slots = slots
        self.truth = truth
        self.works = True
        self.made = 0
        self.emitted: dict[RequestId, int] = {}
        self.created = 0
        self.purposes: dict[NodeName, set[int]] = {end: set() for end in self.ends}
        self.bring: dict[NodeName, deque[Any]] = {end: deque() for end in self.ends}
        self.calls: deque[tuple[NodeName, Any]] = deque()
        self.queue: dict[RequestId, Wanted] = {}
        self.open: dict[NodeName, dict[RequestId, None]] = {end: {} for end in self.ends}
        self.recent: list[tuple[PairId, RequestId]] = []
        self.recent_at = 0

    def other(self, node: NodeName) -> NodeName:
        return self.ends[1] if node == self.ends[0] else self.ends[0]

    # --- what nodes ask ----------------------------------------------------------------------

    def asked(self, node: NodeName, body: Any) -> None:
        match body:
            case LinkListen(purpose, True):
                self.purposes[node].add(purpose)
            case LinkListen(purpose, _):
                self.purposes[node].discard(purpose)
            case LinkCreate(request):
                self.created += 1
                self.open[node][request.id] = None
                if self.works:
                    self.calls.append((node, request))
                else:
                    self._end(node, request.id, ErrorCode.NO_RESOURCES, "the link is down", 0)
            case LinkCancel():
                if self.works:
                    self.calls.append((node, body))

    def _end(
        self, node: NodeName, request: RequestId, code: ErrorCode, reason: str, got: int
    ) -> None:
        if request in self.open[node]:
            del self.open[node][request]
            self.bring[node].append(LinkFailed(request, code, reason, got))

    # --- what may happen ---------------------------------------------------------------------

    def admit(self) -> None:
        """The next request or cancellation reaches the queue."""
        node, call = self.calls.popleft()
        if isinstance(call, LinkCancel):
            self.queue.pop(call.request, None)
            for end in self.ends:
                self._end(end, call.request, ErrorCode.OTHER, call.reason, 0)
            return
        peer = self.other(node)
        if call.id not in self.open[node]:
            return
        if call.purpose not in self.purposes[peer]:
            self._end(node, call.id, ErrorCode.REJECTED, f"{peer} does not listen", 0)
            return
        self.queue[call.id] = Wanted(node, call, call.number, {node, peer})
        self.open[peer][call.id] = None
        self.bring[peer].append(LinkAccepted(call))

    def ready(self) -> list[Wanted]:
        """Requests for which a pair could be made now: a free qubit at both ends."""
        if not self.works or not all(self._free(end) for end in self.ends):
            return []
        return list(self.queue.values())

    def _free(self, node: NodeName) -> bool:
        return bool(self._slots_of(node) - set(self.slots[node].held()))

    def _slots_of(self, node: NodeName) -> set[int]:
        return set(self.parameters.end(node).communication)

    def emit(self, wanted: Wanted, bell: int, now: Instant = 0) -> PairId:
        """A pair is made. It is told to the ends later."""
        self.recent_at = now
        request = wanted.request
        self.made += 1
        self.emitted[request.id] = self.emitted.get(request.id, 0) + 1
        pair = PairId(self.name, STATION, self.made)
        places = []
        for end in self.ends:
            taken = self.slots[end].take(
                Owner("link", request.id), among=self.parameters.end(end).communication
            )
            assert taken is not None
            places.append(Place(end, taken))
            origin = end == wanted.creator
            info = PairInfo(pair, bell, 1, "s", 0.97, 0.96, 1_000, 1_000_000, origin)
            ready = LinkPairReady(
                request.id, self.other(end), request.purpose, info, taken, None, None, False
            )
            self.bring[end].append(ready)
        self.truth.pair(places[0], places[1], bell)
        wanted.left -= 1
        if not wanted.left:
            del self.queue[request.id]
            for end in self.ends:
                del self.open[end][request.id]
                self.bring[end].append(LinkDone(request.id, request.number, 0))
        self.recent = [*self.recent[-7:], (pair, request.id)]
        return pair

    def stuck(self, node: NodeName) -> bool:
        """Whether the next word for an end is a half that waits for room in storage."""
        queue = self.bring[node]
        return bool(queue) and self._stores(node, queue[0]) and not self.slots[node].free("storage")

    def _stores(self, node: NodeName, body: Any) -> bool:
        return isinstance(body, LinkPairReady) and bool(self.parameters.end(node).storage)

    def tell(self, node: NodeName) -> Any:
        """Return the next word for an end; a half changes hands, and moves to storage first."""
        body = self.bring[node].popleft()
        if isinstance(body, LinkPairReady):
            slots, qubit = self.slots[node], body.qubit
            if self._stores(node, body):
                stored = slots.take(Owner("link", body.request), "storage")
                assert stored is not None
                slots.release(qubit, "link")
                self.truth.move(Place(node, qubit), Place(node, stored))
                qubit = stored
            slots.give(qubit, "link", Owner("network", body.request))
            return evolve(body, qubit=qubit)
        return body

    def void(self, which: int) -> None:
        """A pair of late turns out to be none: each end that was told of it is told so."""
        pair, request = self.recent.pop(which % len(self.recent))
        for end in self.ends:
            if not self._withdraw(end, pair):
                self.bring[end].append(LinkExpired(request, pair, "the station missed it"))

    def _withdraw(self, node: NodeName, pair: PairId) -> bool:
        for body in self.bring[node]:
            if isinstance(body, LinkPairReady) and body.info.pair == pair:
                self.bring[node].remove(body)
                self._drop(node, body.qubit)
                return True
        return False

    def _drop(self, node: NodeName, qubit: Qubit) -> None:
        self.slots[node].release(qubit, "link")
        self.truth.gone(Place(node, qubit))

    # --- loss --------------------------------------------------------------------------------

    def lost(self) -> None:
        """The adjacency of its ends is gone; each end finds out later, see `found_out`."""
        self.works = False
        self.queue.clear()
        self.calls.clear()
        self.recent.clear()

    def found_out(self, node: NodeName) -> list[Any]:
        """This end sees the loss: return its last words on every request."""
        for body in list(self.bring[node]):
            if isinstance(body, LinkPairReady):
                self.bring[node].remove(body)
                self._drop(node, body.qubit)
        words = [*self.bring[node]]
        self.bring[node].clear()
        for request in self.open[node]:
            words.append(LinkFailed(request, ErrorCode.EXPIRED, "the peer is lost", 0))
        self.open[node].clear()
        return words

    def forget(self, node: NodeName) -> None:
        """This end restarts: it knows nothing any more."""
        self.bring[node].clear()
        self.open[node].clear()
        self.purposes[node].clear()

    def back(self) -> None:
        self.works = True

"""What a node asks of the link after it, for a circuit: pairs, in small requests, while needed.

Small requests let circuits that share a link take turns under any scheduler of the link; two at
a time leave it no gap. Where memories are shared they are as large as both ends have room for.
"""

from __future__ import annotations

from qstack.link.service import LinkCancel, LinkCreate
from qstack.messages.common import PLAIN_Z, PairKind, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.desk import Desk
from qstack.network.places import Place, Side
from qstack.network.room import UNLIMITED
from qstack.network.shaping import LEAST_WEIGHT

CHUNK = 8
"""Pairs in one request, for each qubit that a link attempts with.

The last pairs of a request keep only as many qubits busy as there are pairs missing: with eight
to each, a tenth to a quarter of the link's time is lost to that.
"""
AT_ONCE = 2
"""Requests that are open at a time."""


class Supply:
    """The link requests of one circuit at a node that has one after it."""

    __slots__ = (
        *("_cancelled", "_desk", "_held", "_limit", "_more", "_most", "_open", "_place"),
        *("_priority", "_since", "_wanted"),
    )

    def __init__(self, desk: Desk, place: Place) -> None:
        self._desk = desk
        self._place = place
        self._open: dict[RequestId, int] = {}
        self._cancelled: dict[RequestId, int] = {}  # until they end they may bring pairs
        self._priority = 0
        self._wanted = False
        self._more = UNLIMITED
        self._since: dict[RequestId, int] = {}
        self._limit = 0
        self._held = 0
        self._most = CHUNK * desk.parallel(self.link)

    @property
    def link(self) -> str:
        """The link that is asked."""
        return self._place.link(Side.DOWN)

    def start(self, priority: int) -> None:
        """Ask for pairs from now on."""
        self._wanted, self._priority = True, priority
        self._fill()

    def _fill(self) -> None:
        while self._wanted and len(self._open) < AT_ONCE:
            count = min(self._most, self._allowed())
            if count <= 0:
                return
            self._ask(count)

    def _allowed(self) -> int:
        """How many more pairs both ends of the link have room for."""
        allowed = self._most
        if self._more != UNLIMITED:
            allowed = self._more - sum(self._since.values())
        if self._limit:
            coming = sum(self._open.values()) + sum(self._cancelled.values())
            allowed = min(allowed, self._limit - self._held - coming)
        return allowed

    def told(self, seen: int, more: int) -> None:
        """The node after this one says how much room it has."""
        if self._more == UNLIMITED != more:
            self._recall()  # what was asked before is more than there is room for
        self._more = more
        self._since = {r: count for r, count in self._since.items() if r.number > seen}
        self._fill()

    def balance(self, limit: int, held: int) -> None:
        """So many halves may be here, 0 for any number, and so many are."""
        less = limit and (not self._limit or limit < self._limit)
        self._limit, self._held = limit, held
        if less and sum(self._open.values()) > limit - held:
            self._recall()
        self._fill()

    def stop(self) -> None:
        """Want no more."""
        self._wanted = False
        self._recall()

    def _recall(self) -> None:
        """Take back all that was asked."""
        for request in sorted(self._open, key=lambda each: each.number):
            self._cancelled[request] = self._open[request]
            cancel = LinkCancel(request, f"circuit {self._place.id} wants fewer pairs now")
            self._desk.down(self.link, cancel)
        self._open.clear()

    def arrived(self, request: RequestId) -> None:
        """One of them brought a half."""
        for coming in (self._open, self._cancelled):
            left = coming.get(request, 0) if coming else 0
            if left > 0:
                coming[request] = left - 1

    def ended(self, request: RequestId, *, done: bool) -> bool:
        """One of them ended; return whether that was wanted. `done`: its number was reached."""
        if not done:
            self._since.pop(request, None)  # the other end counts on it no more
        if self._cancelled.pop(request, None) is not None:
            self._fill()
            return True
        self._open.pop(request, None)
        return False

    def renew(self) -> None:
        """Ask for more after one that was served."""
        self._fill()

    def _ask(self, count: int) -> None:
        place, leg = self._place, self._place.leg(Side.DOWN)
        request = LinkRequest(
            self._desk.requests.next(),
            PairKind.KEEP,
            count,
            leg.fidelity_min,
            0,
            place.label_down,
            self._priority,
            max(leg.share, LEAST_WEIGHT),
            False,
            False,
            leg.store,
            PLAIN_Z,
            PLAIN_Z,
            None,
        )
        self._open[request.id] = count
        if self._more != UNLIMITED:
            self._since[request.id] = count
        self._desk.own(request.id, place.id, Side.DOWN)
        self._desk.down(self.link, LinkCreate(request))

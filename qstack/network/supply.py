"""What a node asks of the link after it, for a circuit: pairs, in small requests, while needed.

Small requests let circuits that share a link take turns under any scheduler of the link; two at
a time leave it no gap.
"""

from __future__ import annotations

from qstack.link.service import LinkCancel, LinkCreate
from qstack.messages.common import PLAIN_Z, PairKind, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.desk import Desk
from qstack.network.places import Place, Side

CHUNK = 8
"""Pairs in one request, for each qubit that a link attempts with.

The last pairs of a request keep only as many qubits busy as there are pairs missing: with eight
to each, a tenth to a quarter of the link's time is lost to that.
"""
AT_ONCE = 2
"""Requests that are open at a time."""
LEAST_WEIGHT = 0.01


class Supply:
    """The link requests of one circuit at a node that has one after it."""

    def __init__(self, desk: Desk, place: Place) -> None:
        self._desk = desk
        self._place = place
        self._open: set[RequestId] = set()
        self._cancelled: set[RequestId] = set()
        self._priority = 0
        self._wanted = False

    @property
    def link(self) -> str:
        """The link that is asked."""
        return self._place.link(Side.DOWN)

    def start(self, priority: int) -> None:
        """Ask for pairs from now on."""
        self._wanted, self._priority = True, priority
        while len(self._open) < AT_ONCE:
            self._ask()

    def stop(self) -> None:
        """Want no more."""
        self._wanted = False
        for request in sorted(self._open, key=lambda each: each.number):
            self._cancelled.add(request)
            cancel = LinkCancel(request, f"circuit {self._place.id} needs no more pairs")
            self._desk.down(self.link, cancel)
        self._open.clear()

    def ended(self, request: RequestId) -> bool:
        """One of them ended; return whether that was wanted, or its number was reached."""
        if request in self._cancelled:
            self._cancelled.discard(request)
            return True
        self._open.discard(request)
        return False

    def renew(self) -> None:
        """Ask for more after one that was served."""
        if self._wanted:
            self.start(self._priority)

    def _ask(self) -> None:
        place, leg = self._place, self._place.leg(Side.DOWN)
        request = LinkRequest(
            self._desk.requests.next(),
            PairKind.KEEP,
            CHUNK * self._desk.parallel(self.link),
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
        self._open.add(request.id)
        self._desk.own(request.id, place.id, Side.DOWN)
        self._desk.down(self.link, LinkCreate(request))

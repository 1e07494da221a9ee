"""Requests of users that the link to a neighbour serves by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from qstack.errors import ErrorCode
from qstack.link.service import (
    LinkAccepted,
    LinkCancel,
    LinkCreate,
    LinkDone,
    LinkExpired,
    LinkFailed,
    LinkOutcomeReady,
    LinkPairReady,
)
from qstack.messages.application import (
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import RequestId
from qstack.network.admission import Reservations
from qstack.network.advertise import offers
from qstack.network.demand import Demand
from qstack.network.desk import Desk
from qstack.network.service import NetworkCreate, RequestAccepted
from qstack.network.shaping import shaped, share_of
from qstack.units import Instant, LinkName, NodeName


class Direct:
    """Those of one node, and what links say of them. One that asks too much becomes a circuit's."""

    def __init__(
        self,
        desk: Desk,
        remote_of: Mapping[LinkName, NodeName],
        demand: Demand,
        reservations: Reservations,
    ) -> None:
        self._desk = desk
        self._remote_of = remote_of
        self._demand = demand
        self._reservations = reservations
        self._offers = {name: offers(link) for name, link in desk.links.items()}
        self._link_of: dict[RequestId, LinkName] = {}
        self._fresh: dict[RequestId, tuple[NetworkCreate, Instant]] = {}

    def __len__(self) -> int:
        return len(self._link_of)

    def create(self, link: LinkName, event: NetworkCreate) -> None:
        """Ask a link for what a user wants."""
        self._link_of[event.request.id] = link
        self._fresh[event.request.id] = event, self._desk.now
        share = share_of(event.request, self._offers[link], self._reservations.free(link))
        self._reservations.promise(link, event.request.id, share)
        self._desk.down(link, LinkCreate(shaped(event.request, share)))

    def cancel(self, request: RequestId, reason: str) -> bool:
        """End a request of either end; return whether there was one."""
        link = self._link_of.get(request)
        if link is not None:
            self._desk.down(link, LinkCancel(request, reason))
        return link is not None

    def accepted(self, link: LinkName, body: LinkAccepted) -> None:
        """One of the neighbour's users entered the queue."""
        request = body.request
        self._link_of[request.id] = link
        if request.remaining_ns > 0:
            share = min(request.weight, self._reservations.free(link))
            self._reservations.promise(link, request.id, share)
        self._desk.up(RequestAccepted(request.id, self._remote_of[link], request.purpose))

    def told(self, body: Any) -> None:
        """Take the indication of a link that belongs to a user."""
        up = self._desk.up
        match body:
            case LinkPairReady():
                self._desk.hand_up(body.qubit, body.request)
                up(
                    PairReady(
                        body.request,
                        body.remote,
                        body.purpose,
                        body.info,
                        body.qubit,
                        body.outcome,
                        body.basis,
                        body.corrected,
                    )
                )
            case LinkOutcomeReady():
                who = (body.request, body.remote, body.purpose)
                up(OutcomeReady(*who, body.info, body.basis, body.outcome))
            case LinkDone():
                self._over(body.request)
                self._fresh.pop(body.request, None)
                up(RequestDone(body.request, body.delivered, body.tested))
            case LinkFailed():
                self._over(body.request)
                if not self._rescued(body):
                    up(RequestEnded(body.request, body.code, body.reason, body.delivered))
            case LinkExpired():
                up(PairExpired(body.request, body.pair, body.reason))

    def _over(self, request: RequestId) -> None:
        link = self._link_of.pop(request, None)
        if link is not None:
            self._reservations.settle(link, request)

    def _rescued(self, failed: LinkFailed) -> bool:
        """Whether a request that asks more of its link than it can give is a circuit's now."""
        found = self._fresh.pop(failed.request, None)
        if found is None or failed.code is not ErrorCode.UNSUPPORTED or failed.delivered:
            return False
        event, since = found
        request = event.request
        if request.remaining_ns:
            left = max(1, request.remaining_ns - (self._desk.now - since))
            # The type checker does not see that our records are attrs classes.
            request = attrs.evolve(cast(Any, request), remaining_ns=left)
        return self._demand.rescue(event.remote, request, event.trust_min)

"""Requests of users that the link to a neighbour serves by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

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
from qstack.network.moving import remaining
from qstack.network.service import NetworkCreate, RequestAccepted
from qstack.network.shaping import shaped, share_of
from qstack.units import Instant, LinkName, NodeName


class Direct:
    """Those of one node, and what links say of them. One that asks too much becomes a circuit's."""

    __slots__ = (
        *("_demand", "_desk", "_fresh", "_link_of", "_moving", "_offers", "_remote_of"),
        "_reservations",
    )

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
        self._moving: set[RequestId] = set()

    @property
    def may_move(self) -> bool:
        """Whether there are requests that have no pairs yet."""
        return bool(self._fresh)

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
        self._fresh.pop(request, None)  # wherever it fails now, it goes nowhere else
        if link is not None:
            self._desk.down(link, LinkCancel(request, reason))
        return link is not None

    def move(self, waiting: Collection[LinkName]) -> None:
        """Leave links that wait, with requests that have no pairs, where there is another way."""
        for request, (event, since) in self._fresh.items():
            link = self._link_of[request]
            if link not in waiting or request in self._moving:
                continue
            left = remaining(event.request, since, self._desk.now)
            if self._demand.ways.offers(event.remote, left, event.trust_min):
                self._moving.add(request)
                reason = f"{link} is down or closed; another way is free"
                self._desk.down(link, LinkCancel(request, reason))

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
        if self._fresh and (type(body) is LinkPairReady or type(body) is LinkOutcomeReady):
            self._fresh.pop(body.request, None)
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
        """Whether a request that its link cannot serve, or that has left it, is a circuit's now."""
        found, moving = self._fresh.pop(failed.request, None), failed.request in self._moving
        self._moving.discard(failed.request)
        if found is None or failed.delivered:
            return False
        event, since = found
        request = remaining(event.request, since, self._desk.now)
        if moving:
            self._demand.create(event.remote, request, event.trust_min)
            return True
        supported = failed.code is not ErrorCode.UNSUPPORTED
        return not supported and self._demand.rescue(event.remote, request, event.trust_min)

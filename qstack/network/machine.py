"""The network layer of a node, as long as routes are one hop long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qstack.errors import ErrorCode
from qstack.link.service import (
    LinkAccepted,
    LinkCancel,
    LinkCreate,
    LinkDone,
    LinkExpired,
    LinkFailed,
    LinkListen,
    LinkOutcomeReady,
    LinkPairReady,
)
from qstack.machine import Action, Down, Up, record
from qstack.messages.application import (
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import RequestId
from qstack.network.service import (
    NetworkCancel,
    NetworkCreate,
    NetworkListen,
    RequestAccepted,
)
from qstack.physical.slots import Owner, Slots
from qstack.units import Instant, LinkName, NodeName


@record
class OnLink:
    """A request for, or an indication of, the link of this name."""

    link: LinkName
    body: Any


class Network:
    """Chooses the link of each request and passes its pairs up.

    Events: requests of :mod:`qstack.network.service`, and :class:`OnLink` around the
    indications of a link. Actions: ``Down(OnLink(...))`` and ``Up(<indication>)``.
    """

    def __init__(self, node: NodeName, links: Iterable[tuple[LinkName, NodeName]], slots: Slots):
        self.node = node
        self._by_remote: dict[NodeName, LinkName] = {}
        self._remote_of: dict[LinkName, NodeName] = {}
        for link, remote in sorted(links):
            self._by_remote.setdefault(remote, link)
            self._remote_of[link] = remote
        self._slots = slots
        self._link_of: dict[RequestId, LinkName] = {}

    @property
    def deadline(self) -> Instant | None:
        """One hop needs no timers of its own."""
        return None

    @property
    def running(self) -> int:
        """How many requests have not ended."""
        return len(self._link_of)

    def handle(self, event: Any, now: Instant) -> list[Action]:
        """Take a request from above or an indication from a link."""
        match event:
            case OnLink():
                return self._indicated(event.link, event.body)
            case NetworkCreate():
                return self._create(event)
            case NetworkCancel():
                link = self._link_of.get(event.request)
                if link is None:
                    return []
                return [Down(OnLink(link, LinkCancel(event.request, event.reason)))]
            case NetworkListen():
                listen = LinkListen(event.purpose, event.accept)
                return [Down(OnLink(link, listen)) for link in self._remote_of]
            case _:
                return []

    def _create(self, event: NetworkCreate) -> list[Action]:
        link = self._by_remote.get(event.remote)
        if link is None:
            known = ", ".join(self._by_remote) or "nobody"
            reason = f"{self.node} has no link to {event.remote!r}: it reaches {known}"
            return [Up(RequestEnded(event.request.id, ErrorCode.CREATE, reason, 0))]
        self._link_of[event.request.id] = link
        return [Down(OnLink(link, LinkCreate(event.request)))]

    def _indicated(self, link: LinkName, body: Any) -> list[Action]:
        match body:
            case LinkPairReady():
                self._slots.give(body.qubit, "network", Owner("application", body.request))
                return [
                    Up(
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
                ]
            case LinkOutcomeReady():
                ready = OutcomeReady(
                    body.request, body.remote, body.purpose, body.info, body.basis, body.outcome
                )
                return [Up(ready)]
            case LinkAccepted():
                request = body.request
                self._link_of[request.id] = link
                return [Up(RequestAccepted(request.id, self._remote_of[link], request.purpose))]
            case LinkDone():
                self._link_of.pop(body.request, None)
                return [Up(RequestDone(body.request, body.delivered, body.tested))]
            case LinkFailed():
                self._link_of.pop(body.request, None)
                ended = RequestEnded(body.request, body.code, body.reason, body.delivered)
                return [Up(ended)]
            case LinkExpired():
                return [Up(PairExpired(body.request, body.pair, body.reason))]
            case _:
                return []

"""The network layer of a node: pairs with neighbours by their link, with others by circuits."""

from __future__ import annotations

from typing import Any, cast

import attrs

from qstack.errors import ErrorCode
from qstack.hal.commands import CommandIds
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
from qstack.machine import TICK, Action, Tick, Up, earliest, record
from qstack.messages.application import (
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import RequestId
from qstack.messages.devices import Aborted, BellResult, Completed, Faulted, MemoryResult, Rejected
from qstack.messages.link import LinkRequest
from qstack.messages.network import RouteDigest, RouteUpdate
from qstack.network.admission import Reservations
from qstack.network.advertise import link_metric, node_metric
from qstack.network.demand import Demand
from qstack.network.desk import Desk, NetworkParameters, OnLink
from qstack.network.intake import Intake
from qstack.network.linkstate import (
    Advertise,
    FromNeighbour,
    LinkState,
    NeighbourLost,
    NeighbourUp,
    RoutesChanged,
)
from qstack.network.report import report_circuits, report_routes
from qstack.network.service import (
    FIRST_LABEL,
    NetworkCancel,
    NetworkCreate,
    NetworkDrain,
    NetworkListen,
    NetworkTry,
    RequestAccepted,
)
from qstack.network.talk import Talk
from qstack.physical.slots import Owner, Slots
from qstack.units import BootId, Chance, Duration, Instant, LinkName, NodeName

__all__ = [
    "FromPeer",
    "LinkSeen",
    "Network",
    "NetworkParameters",
    "OnLink",
    "PeerGone",
    "PeerThere",
]


@record
class PeerThere:
    """The adjacency with a neighbouring node is up."""

    peer: NodeName


@record
class PeerGone:
    """It is lost; `reason` is for people."""

    peer: NodeName
    reason: str


@record
class FromPeer:
    """A message of a neighbouring node for the network layer."""

    peer: NodeName
    message: Any


@record
class LinkSeen:
    """Whether pairs can be had on a link, as far as this end can see.

    `latency_ns`: one way, of control messages to the other end.
    """

    link: LinkName
    up: bool
    latency_ns: Duration


@attrs.define
class _View:
    up: bool = False
    latency_ns: Duration = 0


class Network:
    """The pure machine of a node's network layer.

    Events: requests of :mod:`qstack.network.service`; :class:`OnLink` around the indications of a
    link; :class:`PeerThere`, :class:`PeerGone`, :class:`FromPeer`, :class:`LinkSeen`; terminal
    events of its own device commands; Tick. Actions: ``Down(OnLink(...))``, ``Up(<indication>)``,
    ``Send(neighbour, message)``, ``Device(memory, command)``, Note. Raises RemoteProtocolError
    for what a peer must not send.
    """

    def __init__(
        self,
        node: NodeName,
        boot: BootId,
        parameters: NetworkParameters,
        slots: Slots,
        commands: CommandIds,
        *,
        chance: Chance | None = None,
    ) -> None:
        self.node = node
        self.desk = Desk(node, boot, parameters, slots, commands, chance=chance)
        self._by_remote: dict[NodeName, LinkName] = {}
        self._remote_of: dict[LinkName, NodeName] = {}
        for link in sorted(parameters.links, key=lambda each: each.name):
            remote = link.other(node).node
            self._by_remote.setdefault(remote, link.name)
            self._remote_of[link.name] = remote
        self._views = {name: _View() for name in self._remote_of}
        self._slots = slots
        self._link_of: dict[RequestId, LinkName] = {}
        self._fresh: dict[RequestId, tuple[LinkRequest, Instant]] = {}
        self.flood = LinkState(node, boot)
        self.reservations = Reservations(node, parameters.links)
        self.demand = Demand(self.desk, self.reservations, self.flood)
        self.intake = Intake(self.desk, self.demand.circuits)
        self.talk = Talk(self.desk, self.demand.circuits)
        self.desk.storage_at = self.demand.storage_at
        self.desk.operations_at = self.demand.operations_at
        self._offers_made: tuple[Any, ...] | None = None

    # --- what is known -------------------------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """When a lease, a request, a waiting pair or an advertisement needs a Tick."""
        demand = self.demand
        return earliest(self.flood.deadline, demand.deadline, demand.circuits.deadline)

    @property
    def work_deadline(self) -> Instant | None:
        """When requests and pairs need one; upkeep of routes and circuits goes on for ever."""
        return earliest(self.demand.work_deadline, self.demand.circuits.work_deadline)

    @property
    def running(self) -> int:
        """How many requests of this node's users have not ended."""
        return len(self._link_of) + self.demand.running

    def report(self, now: Instant) -> dict[str, Any]:
        """What routes and circuits this node knows, in JSON's types."""
        self.desk.now = now
        return {
            "routes": report_routes(self.node, self.flood.database, self.demand.graph),
            "circuits": report_circuits(self.demand.circuits, now),
            "counters": dict(self.desk.counters),
        }

    # --- stepping ------------------------------------------------------------------------------

    def handle(self, event: Any, now: Instant) -> list[Action]:
        """Take one event; return what is to be done about it."""
        self.desk.now = now
        match event:
            case OnLink():
                self._indicated(event.link, event.body)
            case FromPeer(peer, message):
                self._told(peer, message)
            case NetworkCreate():
                self._create(event)
            case NetworkCancel():
                self._cancel(event)
            case NetworkListen():
                self._listen(event)
            case NetworkTry(remote, request):
                self.demand.look(remote, request)
            case NetworkDrain():
                self.reservations.drain(event.link, event.drain)
            case BellResult() | MemoryResult() | Completed() | Rejected() | Aborted() | Faulted():
                self.desk.answered(event)
            case Tick():
                self._flood(TICK)
                self.demand.tick()
            case PeerThere(peer):
                self._flood(NeighbourUp(peer))
            case PeerGone(peer, reason):
                self._flood(NeighbourLost(peer))
                for link, remote in self._remote_of.items():
                    if remote == peer:
                        self._seen(LinkSeen(link, False, self._views[link].latency_ns))
                self._advertise()
                self.demand.circuits.neighbour_lost(peer, f"{self.node} lost {peer}: {reason}")
            case LinkSeen():
                self._seen(event)
            case _:
                return []
        self.demand.conclude()
        self.demand.circuits.balance()
        self._advertise()
        return self.desk.take_actions()

    # --- requests ------------------------------------------------------------------------------

    def _create(self, event: NetworkCreate) -> None:
        link = self._by_remote.get(event.remote)
        drains = link is not None and self.reservations.drains(link)
        usable = link is not None and self._views[link].up and not drains
        # What no link does by itself a circuit does, also over one link: it means the same there.
        beyond = event.request.early or event.request.within_ns != 0
        away = not usable and self.demand.reaches(event.remote)
        if link is None or drains or beyond or away:
            self.demand.create(event.remote, event.request)
            return
        self._link_of[event.request.id] = link
        self._fresh[event.request.id] = event.request, self.desk.now
        self.desk.down(link, LinkCreate(event.request))

    def _cancel(self, event: NetworkCancel) -> None:
        link = self._link_of.get(event.request)
        if link is not None:
            self.desk.down(link, LinkCancel(event.request, event.reason))
        else:
            self.demand.cancel(event.request, event.reason)

    def _listen(self, event: NetworkListen) -> None:
        if event.accept:
            self.demand.circuits.purposes.add(event.purpose)
        else:
            self.demand.circuits.purposes.discard(event.purpose)
        for link in self._remote_of:
            self.desk.down(link, LinkListen(event.purpose, event.accept))

    # --- links ---------------------------------------------------------------------------------

    def _indicated(self, link: LinkName, body: Any) -> None:
        """An indication for a circuit, if its request is one's; otherwise for a user."""
        intake = self.intake
        if type(body) is LinkAccepted:
            if body.request.purpose >= FIRST_LABEL:
                intake.accepted(link, body.request)
            else:
                self._accepted(link, body)
            return
        if not self.desk.owns(body.request):
            self._of_user(body)
            return
        match body:
            case LinkPairReady():
                intake.pair(link, body.info, body.qubit, body.request)
            case LinkDone():
                intake.ended(body.request, None)
            case LinkFailed():
                intake.ended(body.request, body)
            case LinkExpired():
                intake.expired(body.request, body.pair, body.reason)

    def _accepted(self, link: LinkName, body: LinkAccepted) -> None:
        request = body.request
        self._link_of[request.id] = link
        self.desk.up(RequestAccepted(request.id, self._remote_of[link], request.purpose))

    def _of_user(self, body: Any) -> None:
        up = self.desk.up
        match body:
            case LinkPairReady():
                self._slots.give(body.qubit, "network", Owner("application", body.request))
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
                self._link_of.pop(body.request, None)
                self._fresh.pop(body.request, None)
                up(RequestDone(body.request, body.delivered, body.tested))
            case LinkFailed():
                link = self._link_of.pop(body.request, None)
                if link is not None and self._rescued(link, body):
                    return
                up(RequestEnded(body.request, body.code, body.reason, body.delivered))
            case LinkExpired():
                up(PairExpired(body.request, body.pair, body.reason))

    def _rescued(self, link: LinkName, failed: LinkFailed) -> bool:
        """Whether a request that asks more of its link than it can give is a circuit's now."""
        found = self._fresh.pop(failed.request, None)
        if found is None or failed.code is not ErrorCode.UNSUPPORTED or failed.delivered:
            return False
        request, since = found
        if request.remaining_ns:
            left = max(1, request.remaining_ns - (self.desk.now - since))
            # The type checker does not see that our records are attrs classes.
            request = attrs.evolve(cast(Any, request), remaining_ns=left)
        return self.demand.rescue(self._remote_of[link], request)

    def _seen(self, event: LinkSeen) -> None:
        view = self._views[event.link]
        view.up, view.latency_ns = event.up, event.latency_ns
        self.reservations.usable[event.link] = event.up

    # --- routes --------------------------------------------------------------------------------

    def _told(self, peer: NodeName, message: Any) -> None:
        if isinstance(message, RouteUpdate | RouteDigest):
            self._flood(FromNeighbour(peer, message))
        else:
            self.talk.told(peer, message)

    def _flood(self, event: Any) -> None:
        out: list[Action] = []
        for action in self.flood.handle(event, self.desk.now):
            if type(action) is Up and type(action.event) is RoutesChanged:
                self.demand.routes_changed()
            else:
                out.append(action)
        self.desk.add(out)

    def _advertise(self) -> None:
        """Say what has changed of this node and its links since it last said so."""
        links = tuple(
            (
                name,
                view.up and name not in self.reservations.drained,
                view.latency_ns,
                round(self.reservations.share(name), 3),
            )
            for name, view in self._views.items()
        )
        made = (*links, self.reservations.draining)
        if made == self._offers_made:
            return
        self._offers_made = made
        parameters = self.desk.parameters
        ends = [link.end(self.node) for link in parameters.links]
        communication = {slot for end in ends for slot in end.communication}
        storage = {slot for end in ends for slot in end.storage}
        node = node_metric(
            [end.model for end in ends],
            (len(communication), len(storage)),
            self.desk.operations,
            swaps=self.desk.swaps,
            trust=parameters.trust,
            draining=self.reservations.draining,
        )
        metrics = tuple(
            link_metric(self.desk.links[name], self.node, up=up, latency_ns=ns, reserved=share)
            for name, up, ns, share in links
        )
        self._flood(Advertise(node, metrics))

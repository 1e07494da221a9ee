"""The network layer of a node: pairs with neighbours by their link, with others by circuits."""

from __future__ import annotations

from typing import Any

from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.link.service import (
    LinkAccepted,
    LinkClock,
    LinkDone,
    LinkExpired,
    LinkFailed,
    LinkListen,
    LinkPairReady,
    LinkWindows,
)
from qstack.machine import TICK, Action, Tick, Up
from qstack.messages.common import PairKind
from qstack.messages.devices import Aborted, BellResult, Completed, Faulted, MemoryResult, Rejected
from qstack.messages.link import LinkRequest
from qstack.messages.network import RouteDigest, RouteUpdate
from qstack.network.admission import Reservations
from qstack.network.advertise import View, link_metric, memories_of, node_metric
from qstack.network.demand import Demand
from qstack.network.desk import Desk, NetworkParameters, OnLink
from qstack.network.direct import Direct
from qstack.network.draining import drains_there
from qstack.network.events import FromPeer, LinkSeen, PeerGone, PeerThere
from qstack.network.hours import Hours
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
)
from qstack.network.talk import Talk
from qstack.physical.slots import Slots
from qstack.units import BootId, Chance, Duration, Instant, LinkName, NodeName, earliest

__all__ = [
    "FromPeer",
    "LinkSeen",
    "Network",
    "NetworkParameters",
    "OnLink",
    "PeerGone",
    "PeerThere",
]


class Network:
    """The pure machine of a node's network layer.

    Events: requests of :mod:`qstack.network.service`; :class:`OnLink` around the indications of a
    link; :class:`PeerThere`, :class:`PeerGone`, :class:`FromPeer`, :class:`LinkSeen`; terminal
    events of its own device commands; Tick. Actions: ``Down(OnLink(...))``, ``Up(<indication>)``,
    ``Send(neighbour, message)``, ``Device(memory, command)``, Note. Raises RemoteProtocolError
    for what a peer must not send.
    """

    __slots__ = (
        *("_by_remote", "_changes", "_divided", "_hours", "_offered", "_offers_made", "_remote_of"),
        *("_seen_changes", "_timed", "_turns", "_views", "demand", "desk", "direct", "division"),
        *("flood", "intake", "node", "reservations", "talk"),
    )

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
        self._views = {name: View(False) for name in self._remote_of}
        self._hours = Hours(parameters.links)
        self.flood = LinkState(node, boot)
        self.reservations = Reservations(node, parameters.links)
        self.reservations.night_ns = self._night_ns
        self.demand = Demand(self.desk, self.reservations, self.flood)
        self.direct = Direct(self.desk, self._remote_of, self.demand, self.reservations)
        self.intake = Intake(self.desk, self.demand.circuits)
        self.talk = Talk(self.desk, self.demand.circuits)
        self.desk.storage_at = self.demand.ways.storage_at
        self.desk.operations_at = self.demand.ways.operations_at
        self.desk.qubits_at = self._qubits_at
        self.desk.life_of = self.flood.life_of
        self.division = self.demand.circuits.division
        self._seen_changes = 0
        self._offered: NetworkParameters | None = None
        self._changes = self._turns = 0
        """Of views and of reservations: so many are advertised, and the parameters above, and so
        often did hours turn by then."""
        self._timed = bool(self._hours)
        self._divided = parameters.division is not None
        self._offers_made: tuple[Any, ...] | None = None

    # --- what is known -------------------------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        """When a lease, a request, a waiting pair or an advertisement needs a Tick."""
        first, flood = self.demand.circuits.deadline, self.flood.deadline
        if flood is not None and (first is None or flood < first):
            first = flood
        if self._divided or self._timed:
            first = earliest(first, self.division.deadline, self._hours.due)
        demand = self.demand.deadline
        return demand if first is None or (demand is not None and demand < first) else first

    @property
    def work_deadline(self) -> Instant | None:
        """When requests and pairs need one; upkeep of routes and circuits goes on for ever."""
        return earliest(self.demand.work_deadline, self.demand.circuits.work_deadline)

    @property
    def running(self) -> int:
        """How many requests of this node's users have not ended."""
        return len(self.direct) + self.demand.running

    def report(self, now: Instant) -> dict[str, Any]:
        """What routes and circuits this node knows, in JSON's types."""
        self.desk.now = now
        return {
            "routes": report_routes(
                self.node, self.flood.database, self.demand.graph, self.flood.ages(now)
            ),
            "circuits": report_circuits(self.demand.circuits, now),
            "bins": self.division.report(now),
            "counters": dict(self.desk.counters),
            "draining": {
                "node": self.reservations.draining,
                "links": sorted(self.reservations.drained),
            },
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
            case NetworkTry(remote, request, trust_min):
                self.demand.look(remote, request, trust_min)
            case NetworkDrain():
                self._drain(event)
            case BellResult() | MemoryResult() | Completed() | Rejected() | Aborted() | Faulted():
                self.desk.answered(event)
            case Tick():
                self._flood(TICK)
                self.demand.tick()
                self.division.tick()
            case PeerThere(peer, boot):
                if peer in self._by_remote:
                    self._flood(NeighbourUp(peer))
                self.division.there(peer, boot)
            case PeerGone(peer, reason):
                self.division.gone(peer)
                if peer in self._by_remote:
                    self._flood(NeighbourLost(peer))
                for link, remote in self._remote_of.items():
                    if remote == peer:
                        view = self._views[link]
                        self._seen(LinkSeen(link, False, view.latency_ns, view.turn_ns))
                self._advertise()
                self.demand.circuits.neighbour_lost(peer, f"{self.node} lost {peer}: {reason}")
            case LinkSeen():
                self._seen(event)
            case _:
                return []
        self._conclude()
        return self.desk.take_actions()

    def _conclude(self) -> None:
        """What may follow from any event."""
        demand = self.demand
        if self.division.own:
            self.division.take_turns()
        demand.conclude()
        demand.circuits.balance()
        changes = self._seen_changes + self.reservations.changes
        if changes != self._changes or self.desk.parameters is not self._offered or self._timed:
            self._advertise()
        if demand.changed:
            demand.reconsider()
            if self.direct.may_move:
                self.direct.move({name for name in self._views if not self._works(name)})

    # --- requests ------------------------------------------------------------------------------

    def _create(self, event: NetworkCreate) -> None:
        link = self._by_remote.get(event.remote)
        drains = link is not None and (
            self.reservations.drains(link) or drains_there(self.flood.database, event.remote, link)
        )
        usable = link is not None and self._works(link) and not drains
        # What no link does by itself a circuit does, also over one link: it means the same there.
        beyond = event.request.early or event.request.within_ns != 0
        if (
            link is None
            or drains
            or beyond
            or self._needs_bins(link, event.request)
            or (not usable and self.demand.ways.reaches(event.remote))
        ):
            self.demand.create(event.remote, event.request, event.trust_min)
            return
        self.direct.create(link, event)

    def _needs_bins(self, link: LinkName, request: LinkRequest) -> bool:
        """Whether a request to a neighbour is to have bins of their link, as a circuit has.

        What only links can do is left to them: all at once, measured or prepared by the emitter.
        """
        plain = request.kind is PairKind.KEEP and not (request.atomic or request.consecutive)
        divided = self.desk.parameters.division is not None and self._views[link].up
        return plain and divided and request.remaining_ns > 0

    def _cancel(self, event: NetworkCancel) -> None:
        if not self.direct.cancel(event.request, event.reason):
            self.demand.cancel(event.request, event.reason)

    def _listen(self, event: NetworkListen) -> None:
        if event.accept:
            self.demand.circuits.purposes.add(event.purpose)
        else:
            self.demand.circuits.purposes.discard(event.purpose)
        for link in self._remote_of:
            accept = event.accept and not self.reservations.drains(link)
            self.desk.down(link, LinkListen(event.purpose, accept))

    def _drain(self, event: NetworkDrain) -> None:
        """Links on which nothing new is taken accept no requests of neighbours for users."""
        before = {link for link in self._remote_of if self.reservations.drains(link)}
        self.reservations.drain(event.link, event.drain)
        for link in self._remote_of:
            accept = not self.reservations.drains(link)
            if accept is (link in before):
                for purpose in sorted(self.demand.circuits.purposes):
                    self.desk.down(link, LinkListen(purpose, accept))

    # --- links ---------------------------------------------------------------------------------

    def _night_ns(self, link: LinkName) -> Duration:
        return self._hours.night_ns(link, self.desk.now)

    def _works(self, link: LinkName) -> bool:
        """Whether a link is neither missed nor closed for long."""
        return self._views[link].up and not self._night_ns(link)

    def _indicated(self, link: LinkName, body: Any) -> None:
        """An indication for a circuit, if its request is one's; otherwise for a user."""
        intake, kind = self.intake, type(body)
        if kind is LinkClock:
            self.division.clock(link, body)
            return
        if kind is LinkWindows:
            self._hours.see(link, body.began)
            return
        if kind is LinkAccepted:
            if body.request.purpose >= FIRST_LABEL:
                intake.accepted(link, body.request)
            else:
                self.direct.accepted(link, body)
            return
        owner = self.desk.owner_of(body.request)
        if owner is None:
            self.direct.told(body)
            return
        match body:
            case LinkPairReady():
                intake.pair(link, body, owner)
            case LinkDone():
                intake.ended(body.request, None, owner)
            case LinkFailed():
                intake.ended(body.request, body, owner)
            case LinkExpired():
                intake.expired(body.pair, body.reason, owner)

    def _seen(self, event: LinkSeen) -> None:
        self._seen_changes += 1
        self._views[event.link] = View(event.up, event.latency_ns, event.turn_ns)
        self.reservations.usable[event.link] = event.up
        self.division.seen(event.link, event.up)

    # --- routes --------------------------------------------------------------------------------

    def _told(self, peer: NodeName, message: Any) -> None:
        if self.division.is_ours(message):
            self.division.told(peer, message)
        elif peer not in self._by_remote:
            raise RemoteProtocolError(f"{peer} is no neighbour of {self.node}")
        elif isinstance(message, RouteUpdate | RouteDigest):
            self._flood(FromNeighbour(peer, message))
        else:
            self.talk.told(peer, message)

    def _qubits_at(self, node: NodeName) -> int | None:
        update = self.flood.database.get(node)
        return None if update is None else update.node.memories[0]

    def _flood(self, event: Any) -> None:
        out: list[Action] = []
        for action in self.flood.handle(event, self.desk.now):
            if type(action) is Up and type(action.event) is RoutesChanged:
                self.demand.routes_changed(action.event.origins)
            else:
                out.append(action)
        self.desk.add(out)

    def _advertise(self) -> None:
        """Say what has changed of this node and its links since it last said so."""
        changes = self._seen_changes + self.reservations.changes
        turns = self._hours.turns(self.desk.now)
        said = changes == self._changes and turns == self._turns
        if said and self.desk.parameters is self._offered:
            return
        self._changes, self._turns = changes, turns
        self._offered = self.desk.parameters
        views = [
            View(
                *(view.up, view.latency_ns, view.turn_ns, name in self.reservations.drained),
                night=bool(self._night_ns(name)),
            )
            for name, view in self._views.items()
        ]
        shares = [round(self.reservations.share(name), 6) for name in self._views]
        parameters = self.desk.parameters
        periods = tuple(self._hours.periods.items())
        made = (views, shares, self.reservations.draining, periods, parameters)
        if made == self._offers_made:
            return
        self._offers_made = made
        ends = [link.end(self.node) for link in parameters.links]
        node = node_metric(
            [end.model for end in ends],
            memories_of(ends),
            self.desk.operations,
            swaps=self.desk.swaps,
            trust=parameters.trust,
            draining=self.reservations.draining,
        )
        metrics = tuple(
            link_metric(
                *(self.desk.links[name], self.node, view, share),
                phase_ns=self._hours.phase_ns(name, self.desk.now),
            )
            for name, view, share in zip(self._views, views, shares, strict=True)
        )
        self._flood(Advertise(node, metrics))

"""Many network machines, ordered wires, links and memories that do what the driver draws.

All choices come from one seed: which message arrives next, which link makes a pair, when a
memory answers. `Lab.audit` compares what users were told with what is true.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from typing import Any

import attrs

from qstack.errors import RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import TICK, Device, Down, Note, Send, Up
from qstack.messages.application import (
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import (
    PLAIN_Z,
    Basis,
    BasisPlan,
    BasisSet,
    PairId,
    PairKind,
    Qubit,
    RequestId,
)
from qstack.messages.devices import (
    BellResult,
    Completed,
    Faulted,
    Gate,
    MemoryBell,
    MemoryGate,
    MemoryMeasure,
    MemoryResult,
    Rejected,
)
from qstack.messages.link import LinkRequest
from qstack.network.machine import (
    FromPeer,
    LinkSeen,
    Network,
    NetworkParameters,
    OnLink,
    PeerGone,
    PeerThere,
)
from qstack.network.service import NetworkCancel, NetworkCreate, NetworkListen, RequestAccepted
from qstack.physical.slots import Slots
from qstack.units import MICROSECOND, MILLISECOND, SECOND, Chance, Instant, LinkName, NodeName
from tests.network.circuit_links import FakeLink, evolve
from tests.network.circuit_truth import Place, Truth
from tests.network.links import link_between, memory

PURPOSE = 3
LATENCY = 100 * MICROSECOND
XYZ = BasisPlan(BasisSet.XYZ, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)
PAULI = {Gate.Z: 1, Gate.X: 2, Gate.Y: 3}

Edge = tuple[NodeName, NodeName]


@attrs.define
class Delivery:
    """What a user was told of a pair, and what was true of its qubit when the last end was."""

    event: Any
    qubit: Place | None
    at: Instant
    expired: bool = False
    seen: Any = None


@attrs.define(eq=False)
class User:
    """Of one request at one end: pairs by id, and how it ended.

    `early`: halves of which no notice came; the outcome of those that were measured.
    """

    accepted: int = 0
    early: dict[PairId, tuple[Basis, int] | None] = attrs.field(factory=dict)
    notices: int = 0
    pairs: dict[PairId, Delivery] = attrs.field(factory=dict)
    ends: list[Any] = attrs.field(factory=list)

    @property
    def valid(self) -> set[PairId]:
        return {pair for pair, delivery in self.pairs.items() if not delivery.expired}


@attrs.define
class Chances:
    """How likely is what goes wrong, per choice of the driver."""

    swap_fails: float = 0.0
    device_fails: float = 0.0
    void: float = 0.0
    hurry: float = 0.02
    """That time goes on to a deadline though there is something else to do."""


def chain(hops: int) -> list[Edge]:
    return [(f"n{index}", f"n{index + 1}") for index in range(hops)]


class Lab:
    """`comm` qubits for each link of a node, or for all of its links together if `shared`."""

    def __init__(
        self,
        edges: list[Edge],
        seed: int,
        *,
        comm: int = 2,
        storage: int = 0,
        shared: bool = False,
        chances: Chances | None = None,
        **parameters: Any,
    ) -> None:
        self.random = random.Random(seed)
        self.truth = Truth(Chance(seed))
        self.now: Instant = 0
        self.chances = chances or Chances()
        self.edges = [(min(edge), max(edge)) for edge in edges]
        self.names = sorted({name for edge in edges for name in edge})
        self.errors: list[tuple[NodeName, str]] = []
        self.sent: dict[str, int] = {}
        self.asked: dict[RequestId, LinkRequest] = {}
        self.turned: dict[NodeName, int] = {}
        self.users: dict[tuple[NodeName, RequestId], User] = defaultdict(User)
        self.pending: dict[NodeName, list[Any]] = {name: [] for name in self.names}
        self.session = dict.fromkeys(self.edges, 1)
        self.view: dict[tuple[NodeName, NodeName], int] = {}
        self.wires: dict[tuple[NodeName, NodeName], deque[Any]] = {}
        self._layout(comm, storage, shared)
        self._parameters = parameters
        self.nodes: dict[NodeName, Network] = {}
        self.boots: dict[NodeName, int] = {}
        self.dead: set[NodeName] = set()
        for one, other in self.edges:
            for ends in ((one, other), (other, one)):
                self.wires[ends] = deque([PeerThere(ends[0])])
                self.view[ends] = 0
        for name in self.names:
            self._start(name)
        self.settle()

    def _layout(self, comm: int, storage: int, shared: bool) -> None:
        self.slots: dict[NodeName, Slots] = {}
        lists: dict[tuple[NodeName, Edge], tuple[int, ...]] = {}
        rooms: dict[NodeName, int] = {}
        for name in self.names:
            mine = [edge for edge in self.edges if name in edge]
            for index, edge in enumerate(mine):
                first = 0 if shared else index * comm
                lists[name, edge] = tuple(range(first, first + comm))
            rooms[name] = comm if shared else comm * len(mine)
            stored = range(rooms[name], rooms[name] + storage)
            self.slots[name] = Slots(range(rooms[name]), stored)
        self.links: dict[LinkName, FakeLink] = {}
        for edge in self.edges:
            parameters = link_between(
                "-".join(edge),
                *edge,
                fidelity=0.97,
                slots=(lists[edge[0], edge], lists[edge[1], edge]),
                model=memory(max(rooms.values()) + storage),
            )
            ends = tuple(
                evolve(
                    end,
                    storage=tuple(range(rooms[end.node], rooms[end.node] + storage)),
                )
                for end in parameters.ends
            )
            parameters = evolve(parameters, ends=ends)
            self.links[parameters.name] = FakeLink(parameters, self.slots, self.truth)

    def _start(self, name: NodeName) -> None:
        links = tuple(link.parameters for link in self.links.values() if name in link.ends)
        parameters = NetworkParameters(links, f"{name}/memory", **self._parameters)
        self.boots[name] = self.boots.get(name, 0) + 1
        boot = (self.names.index(name) + 1) * 1000 + self.boots[name]
        self.nodes[name] = Network(name, boot, parameters, self.slots[name], CommandIds())
        self.step(name, NetworkListen(PURPOSE, True))

    # --- one node ------------------------------------------------------------------------------

    def step(self, name: NodeName, event: Any) -> None:
        try:
            actions = self.nodes[name].handle(event, self.now)
        except RemoteProtocolError as error:
            self.errors.append((name, str(error)))
            return
        for action in actions:
            match action:
                case Send(peer, message):
                    edge = (min(name, peer), max(name, peer))
                    kind = type(message).__name__
                    self.sent[kind] = self.sent.get(kind, 0) + 1
                    if self.view[peer, name] == self.session[edge]:
                        self.wires[name, peer].append(message)
                case Down(OnLink(link, body)):
                    self.links[link].asked(name, body)
                case Device(_, command):
                    self.pending[name].append(command)
                case Up(indication):
                    self._told(name, indication)
                case Note():
                    pass

    def _told(self, name: NodeName, event: Any) -> None:
        user = self.users[name, event.request]
        match event:
            case RequestAccepted():
                user.accepted += 1
            case PairReady():
                place = Place(name, event.qubit)
                self.slots[name].check(event.qubit, "application")
                self._delivered(name, event, place)
            case OutcomeReady():
                self._delivered(name, event, None)
            case HalfReady() | HalfConfirmed() | HalfDiscarded():
                self._early(name, event, user)
            case PairExpired(_, pair, _):
                delivery = user.pairs[pair]
                assert not delivery.expired, f"{pair} expired twice at {name}"
                delivery.expired = True
                self._free(delivery)
            case RequestDone() | RequestEnded():
                user.ends.append(event)
            case _:
                user.ends.append(event)

    def _early(self, name: NodeName, event: Any, user: User) -> None:
        """Half of the users measure their halves at once, the others keep them."""
        place = Place(name, event.qubit)
        if isinstance(event, HalfReady):
            self.slots[name].check(event.qubit, "application")
            assert event.half not in user.early, f"{event.half} is {name}'s twice"
            assert len(user.ends) < user.accepted, f"{event.half} after the end at {name}"
            user.early[event.half] = None
            if self.random.random() < 0.5:
                user.early[event.half] = self.truth.measure(place, XYZ)
                self.slots[name].release(event.qubit, "application")
            return
        user.notices += 1
        read = user.early.pop(event.half)
        if isinstance(event, HalfDiscarded):
            self._free(Delivery(event, None if read else place, self.now))
            return
        who = (event.request, event.remote, event.purpose, event.info)
        if read is None:
            self._delivered(name, PairReady(*who, event.qubit, None, None, False), place)
        else:
            self._delivered(name, OutcomeReady(*who, *read), None)

    def _delivered(self, name: NodeName, event: Any, place: Place | None) -> None:
        user = self.users[name, event.request]
        pair = event.info.pair
        assert pair not in user.pairs, f"{pair} was delivered twice at {name}"
        assert not user.ends or user.accepted > len(user.ends), f"{pair} after the end at {name}"
        mine = user.pairs[pair] = Delivery(event, place, self.now)
        twin = self._twin(name, event.request)
        if twin is None or pair not in twin.pairs:
            return
        if twin.pairs[pair].expired:
            self._free(mine)  # the circuit broke in between, see the audit
            return
        other = twin.pairs[pair]
        for one, far in ((mine, other), (other, mine)):
            if one.qubit is not None:
                half = self.truth.half(one.qubit)
                one.seen = half if half is not None else self.truth.vector(one.qubit)
                if half is not None:
                    assert half.partner == far.qubit, f"{pair}: the ends hold different pairs"
        for one in (mine, other):
            self._free(one)

    def _twin(self, name: NodeName, request: RequestId) -> User | None:
        others = [u for (n, r), u in self.users.items() if r == request and n != name]
        return others[0] if others else None

    def _free(self, delivery: Delivery) -> None:
        """The user is done with its qubit."""
        if delivery.qubit is None:
            return
        node, qubit = delivery.qubit
        if self.slots[node].holds(qubit, "application"):
            self.slots[node].release(qubit, "application")
            self.truth.gone(delivery.qubit)

    # --- what users do -------------------------------------------------------------------------

    def create(
        self, head: NodeName, tail: NodeName, number: int = 1, trust_min: int = 0, **changes: Any
    ) -> RequestId:
        identity = self.nodes[head].desk.requests.next()
        values: dict[str, Any] = {
            "kind": PairKind.KEEP,
            "fidelity_min": 0.5,
            "remaining_ns": 0,
            "purpose": PURPOSE,
            "priority": 0,
            "weight": 1.0,
            "atomic": False,
            "consecutive": False,
            "store": False,
            "origin_plan": PLAIN_Z,
            "peer_plan": PLAIN_Z,
            "final_bell": None,
        }
        request = LinkRequest(id=identity, number=number, **(values | changes))
        self.asked[identity] = request
        self.users[head, identity] = User(accepted=1)
        self.step(head, NetworkCreate(tail, request, trust_min))
        return identity

    def trust(self, **trusts: int) -> None:
        """The operators of these nodes judge them anew, and everybody hears of it."""
        for name, trust in trusts.items():
            desk = self.nodes[name].desk
            desk.parameters = evolve(desk.parameters, trust=trust)
            self.step(name, TICK)
        self.settle()

    def cancel(self, name: NodeName, request: RequestId) -> None:
        self.step(name, NetworkCancel(request, f"{name} had enough"))

    # --- what breaks ---------------------------------------------------------------------------

    def cut(self, one: NodeName, other: NodeName) -> None:
        """The adjacency of two neighbours is lost: what is on the wire is too."""
        edge = (min(one, other), max(one, other))
        self.session[edge] += 1
        self.link(*edge).lost()
        for source, target in (edge, edge[::-1]):
            self.wires[source, target].clear()
            self.wires[source, target].append(PeerGone(source, "the wire was cut"))

    def join(self, one: NodeName, other: NodeName) -> None:
        """It comes up again, after both have seen the loss."""
        edge = (min(one, other), max(one, other))
        for source, target in (edge, edge[::-1]):
            while self.wires[source, target]:
                self.arrive(source, target)
        self.link(*edge).back()
        for source, target in (edge, edge[::-1]):
            self.wires[source, target].append(PeerThere(source))

    def restart(self, name: NodeName) -> None:
        """A node's process is killed and started: its memory, and all it knew, is lost."""
        peers = [other for edge in self.edges if name in edge for other in edge if other != name]
        for peer in peers:
            self.cut(name, peer)
            self.wires[peer, name].clear()
            self.view[peer, name] = 0
            self.link(*sorted((name, peer))).forget(name)
        self.pending[name].clear()
        for slot, owner in list(self.slots[name].held().items()):
            qubit = Qubit(slot, self.slots[name]._generation[slot])
            self.slots[name].release(qubit, owner.room)
            self.truth.gone(Place(name, qubit))
        for (node, _), user in list(self.users.items()):
            if node == name:
                for delivery in user.pairs.values():
                    delivery.expired = True
                user.early.clear()
                user.ends += ["restarted"] * (user.accepted - len(user.ends))
        self._start(name)
        for peer in peers:
            self.join(name, peer)

    def link(self, one: NodeName, other: NodeName) -> FakeLink:
        return self.links["-".join(sorted((one, other)))]

    # --- what happens --------------------------------------------------------------------------

    def arrive(self, source: NodeName, target: NodeName) -> None:
        """The next message of a wire arrives, or news of the adjacency."""
        message = self.wires[source, target].popleft()
        link = self.link(source, target)
        if isinstance(message, PeerGone):
            self.view[source, target] = 0
            for word in link.found_out(target):
                self.step(target, OnLink(link.name, word))
            self.step(target, message)
            self.step(target, LinkSeen(link.name, False, LATENCY))
        elif isinstance(message, PeerThere):
            self.view[source, target] = self.session[min(source, target), max(source, target)]
            self.step(target, message)
            self.step(target, LinkSeen(link.name, True, LATENCY))
        else:
            self.step(target, FromPeer(source, message))

    def work(self, name: NodeName, which: int) -> None:
        """A memory ends one of its commands, well or not."""
        command = self.pending[name].pop(which)
        fails = self.random.random()
        device = command.device
        swaps = isinstance(command, MemoryBell)
        both = (command.slot, command.other) if swaps else (command.slot,)
        places = [self._place(name, slot) for slot in both]
        bad = self.chances.swap_fails if swaps else self.chances.device_fails
        if fails < bad:
            for place in places:
                self.truth.gone(place)
            if swaps and fails < bad / 3:
                self.step(
                    name,
                    BellResult(device, command.command, command.slot, command.other, None, 0, 0),
                )
            elif fails < 2 * bad / 3:
                self.step(name, Faulted(device, command.command, "broken"))
            else:
                self.step(name, Rejected(device, command.command, False, "busy"))
            return
        match command:
            case MemoryBell():
                outcome = self.truth.swap(places[0], places[1])
                result = BellResult(
                    device, command.command, command.slot, command.other, outcome, 1_000, 1_000
                )
                self.step(name, result)
            case MemoryGate():
                self.turned[name] = self.turned.get(name, 0) + 1
                self.truth.turn(places[0], PAULI[command.gate])
                self.step(name, Completed(device, command.command))
            case MemoryMeasure():
                basis, value = self.truth.measure(places[0], command.plan)
                self.step(
                    name, MemoryResult(device, command.command, command.slot, basis, value, 0)
                )

    def _place(self, name: NodeName, slot: int) -> Place:
        return Place(name, Qubit(slot, self.slots[name]._generation[slot]))

    def enabled(self, *, pairs: bool = True) -> list[tuple[Any, ...]]:
        """All that can happen now."""
        found: list[tuple[Any, ...]] = []
        found += [(self.arrive, *wire) for wire, queue in self.wires.items() if queue]
        for link in self.links.values():
            if link.calls:
                found.append((link.admit,))
            for end in link.ends:
                if link.bring[end] and not link.stuck(end):
                    found.append((self._bring, link, end))
            if pairs:
                found += [(self._emit, link, wanted) for wanted in link.ready()]
        for name, commands in self.pending.items():
            found += [(self.work, name, index) for index in range(len(commands))]
        for name, node in self.nodes.items():
            if node.deadline is not None and node.deadline <= self.now:
                found.append((self.step, name, TICK))
        return found

    def _bring(self, link: FakeLink, end: NodeName) -> None:
        self.step(end, OnLink(link.name, link.tell(end)))

    def _emit(self, link: FakeLink, wanted: Any) -> None:
        link.emit(wanted, self.random.randrange(4), self.now)

    def turn(self, *, pairs: bool = True) -> bool:
        """Let one thing happen that can; return whether there was any."""
        self.now += self.random.randrange(5 * MICROSECOND)
        if self.random.random() < self.chances.void:
            fresh = self.now - MILLISECOND  # no EXPIRE after the horizon of a link
            links = [link for link in self.links.values() if link.recent and link.recent_at > fresh]
            if links:
                self.random.choice(links).void(self.random.randrange(8))
        found = self.enabled(pairs=pairs)
        if found and self.random.random() >= self.chances.hurry:
            call, *arguments = self.random.choice(found)
            call(*arguments)
            return True
        due = [node.deadline for node in self.nodes.values() if node.deadline is not None]
        if not due or (not found and self.idle):
            return False
        if not found or min(due) < self.now + 50 * MILLISECOND:  # nothing is on its way for longer
            self.now = max(self.now, min(due))
        return True

    @property
    def idle(self) -> bool:
        """Whether no circuit and no request is left anywhere."""
        return not any(n.demand.running or n.demand.circuits.members for n in self.nodes.values())

    def settle(self) -> None:
        """Let all messages arrive, and routes be known everywhere; no pairs are made."""
        horizon = self.now + 300 * MILLISECOND
        while True:
            found = self.enabled(pairs=False)
            if found:
                call, *arguments = self.random.choice(found)
                call(*arguments)
                continue
            due = [node.deadline for node in self.nodes.values() if node.deadline is not None]
            if not due or min(due) > horizon:
                return
            self.now = max(self.now, min(due))

    def run(self, turns: int) -> None:
        for _ in range(turns):
            if not self.turn():
                return

    def finish(self, turns: int = 20_000) -> None:
        """Go on until nothing is left to do; everything must have ended by then."""
        limit = self.now + 600 * SECOND
        for _ in range(turns):
            if not self.turn() or self.now > limit:
                break
        assert self.idle, f"not idle at {self.now}: {self.state()}"

    def state(self) -> dict[NodeName, Any]:
        return {
            name: (node.report(self.now)["circuits"], self.slots[name].held())
            for name, node in self.nodes.items()
        }

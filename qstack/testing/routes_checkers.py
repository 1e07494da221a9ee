"""Checkers of global truth for pairs over several links; those of one link are judged as ever.

What an end was told of a pair can still be taken back while the other end does not know it. So
what is wrong with a state is kept as a complaint, and counts at the end if the pair was never void.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from qstack.codec import decode_body
from qstack.hal.server import Reported
from qstack.machine import Transmit, Up, record
from qstack.messages.application import OutcomeReady, PairReady
from qstack.messages.circuits import CircuitInstall, CircuitRelease
from qstack.messages.common import Basis, PairId, PairInfo, RequestId
from qstack.messages.devices import MemoryResult
from qstack.messages.wire import KIND_OF
from qstack.sim.network import VirtualNetwork
from qstack.testing.checkers import SamePairs
from qstack.testing.judge import Account, Checker, Ledger
from qstack.testing.origins import Light, Origins, Outcomes
from qstack.testing.truth import TruthError
from qstack.units import Instant, NodeName

_TOLD = (KIND_OF[CircuitInstall].number, KIND_OF[CircuitRelease].number)


class Paths(Checker):
    """By which nodes each circuit goes, and which circuits broke: books for others.

    A circuit broke when it was released with an error, when a node on it died, or when two
    neighbours on it lost each other; what became of its last pairs neither end can be sure of.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[NodeName, ...]] = {}
        self.links: dict[str, tuple[str, ...]] = {}
        self.broken: set[str] = set()
        self.of_request: dict[RequestId, str] = {}
        self._before: dict[RequestId, set[PairId]] = {}
        self._told: dict[RequestId, set[PairId]] = {}

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Note over which circuit a request is served; over another only when that one broke."""
        if type(message) is not PairReady and type(message) is not OutcomeReady:
            return
        if message.info.hops > 1 or message.info.setting in self.nodes:
            request, circuit = message.request, message.info.setting
            if circuit not in self.nodes:
                raise TruthError(f"{message} is of a circuit that nobody installed")
            former = self.of_request.setdefault(request, circuit)
            told = self._told.setdefault(request, set())
            if former != circuit:
                if former not in self.broken:
                    raise TruthError(f"{request} is served by {former} and by {message}")
                self.of_request[request] = circuit
                self._before.setdefault(request, set()).update(told)
            told.add(message.info.pair)

    def check_former(self, request: RequestId, valid: Iterable[PairId]) -> None:
        """Raise TruthError where a pair of a circuit that the request has left is valid."""
        left = self._before.get(request, set()) & set(valid)
        if left:
            raise TruthError(f"{request} left the circuit of {[str(pair) for pair in left]}")

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """Read what is said of circuits."""
        for action in actions:
            if type(action) is Transmit:
                for frame in action.datagram.frames:
                    if frame.kind in _TOLD:
                        body = frame.body
                        said = decode_body(frame.kind, body) if type(body) is bytes else body
                        self._said(said)
            elif getattr(action, "name", "") == "peer-lost":
                self._parted(name, dict(action.fields)["peer"])

    def _said(self, message: Any) -> None:
        circuit = str(message.circuit)
        if type(message) is CircuitInstall:
            ends = (leg.node for leg in message.legs)
            self.nodes[circuit] = (message.circuit.origin, *ends)
            self.links[circuit] = tuple(leg.link for leg in message.legs)
        elif message.code is not None:
            self.broken.add(circuit)

    def _parted(self, one: NodeName, other: NodeName) -> None:
        for circuit, nodes in self.nodes.items():
            if {(one, other), (other, one)} & set(pairwise(nodes)):
                self.broken.add(circuit)

    def crashed(self, name: NodeName, now: Instant) -> None:
        """Circuits by a node that dies are broken."""
        self.broken |= {circuit for circuit, nodes in self.nodes.items() if name in nodes}


class RouteSamePairs(SamePairs):
    """Both ends of each request were told the same pairs, and the same end.

    Where the circuit broke, what one end still counts as valid was at least told to the other.
    Over several links the ends may be told of pairs in different orders: a correction at one of
    them lets another pair pass.
    """

    def __init__(self, ledger: Ledger, paths: Paths) -> None:
        super().__init__(ledger)
        self._paths = paths

    def finish(self, now: Instant) -> None:
        """Compare the accounts of every request."""
        over_links: dict[RequestId, dict[NodeName, Account]] = {}
        for request, both in self._ledger.accounts.items():
            circuit = self._paths.of_request.get(request)
            if circuit is None:
                over_links[request] = both
                continue
            nodes = self._paths.nodes[circuit]
            one, other = (self._ledger.look(node, request) for node in (nodes[0], nodes[-1]))
            for account in (one, other):
                if account.node not in self._ledger.blind:
                    self._paths.check_former(request, account.valid)
            self._routed(one, other, circuit)
        self._over_links(over_links)

    def _over_links(self, accounts: dict[RequestId, dict[NodeName, Account]]) -> None:
        for request, both in accounts.items():
            links = {pair.link for account in both.values() for pair in account.told}
            if len(links) > 1:
                raise TruthError(f"{request} was served by several links: {sorted(links)}")
            if links:
                ends = self._ledger.ends[min(links)]
                one, other = (self._ledger.look(node, request) for node in ends)
                self._compare(one, other)

    def _routed(self, one: Account, other: Account, circuit: str) -> None:
        for mine, theirs in ((one, other), (other, one)):
            known = not {mine.node, theirs.node} & self._ledger.blind
            if known and not set(mine.valid) <= theirs.told.keys():
                raise TruthError(
                    f"{mine.request} over {circuit}: valid at {mine.node} are "
                    f"{[str(pair) for pair in mine.valid]}, but {theirs.node} was only ever told "
                    f"{[str(pair) for pair in theirs.told]}"
                )
        blind = {one.node, other.node} & self._ledger.blind
        if circuit in self._paths.broken or blind:
            return
        if set(one.valid) != set(other.valid):
            raise TruthError(
                f"{one.request} over {circuit}: {one.node} was told "
                f"{[str(pair) for pair in one.valid]} and {other.node} "
                f"{[str(pair) for pair in other.valid]}"
            )
        if type(one.end) is not type(other.end):
            raise TruthError(
                f"{one.request} ended at {one.node} with {one.end} and at {other.node} "
                f"with {other.end}"
            )


@record
class Parity:
    """Two outcomes of a pair along one axis: whether they were as its Bell state has them.

    `chance`: with which probability, by the pair's goodness, they might not be.
    """

    hops: int
    right: bool
    chance: float


class RouteOutcomes(Outcomes):
    """Outcomes over circuits are what a memory read, and fit to each other.

    `parities` are those along one axis. One run is refuted by itself where the wrong ones are so
    many that chance would make them so with less than one in :data:`ALARM`.
    """

    def __init__(self, origins: Origins, ledger: Ledger) -> None:
        super().__init__(origins)
        self.parities: list[Parity] = []
        self._ledger = ledger
        self._read: Counter[tuple[NodeName, Basis, int]] = Counter()
        self._first: dict[PairId, tuple[NodeName, OutcomeReady]] = {}
        self._settings: set[str] = set()

    def begin(self, net: VirtualNetwork) -> None:
        """Note by which names the pairs of links are told, rather than those of circuits."""
        super().begin(net)
        self._settings = {setting.id for link in net.links for setting in link.settings}

    def world(self, event: Any, now: Instant, actions: list[Any]) -> None:
        """Note what memories read."""
        for action in actions:
            if type(action) is Up and type(action.event) is Reported:
                body = action.event.body
                if type(body) is MemoryResult:
                    self._read[action.event.owner, body.basis, body.outcome] += 1

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Look an outcome up, and compare it with the other end's."""
        if type(message) is not OutcomeReady or message.info.setting in self._settings:
            super().told(node, message, now)
            return
        read = (node, message.basis, message.outcome)
        if not self._read[read]:
            raise TruthError(f"{message}, but no memory at {node} read that")
        self._read[read] -= 1
        self.seen += 1
        pair = message.info.pair
        first = self._first.pop(pair, None)
        if first is None:
            self._first[pair] = (node, message)
        elif first[0] != node and first[1].basis == message.basis:
            self._compare(first[1], message)

    def _compare(self, one: OutcomeReady, other: OutcomeReady) -> None:
        if one.info.bell != other.info.bell:
            raise TruthError(f"the ends were told {one} and {other}")
        goodness = min(one.info.goodness, other.info.goodness)
        found = parity_of(one.info, one.basis, (one.outcome, other.outcome), goodness)
        if found is not None:
            self.parities.append(found)


def parity_of(
    info: PairInfo, basis: Basis, outcomes: tuple[int, int], goodness: float
) -> Parity | None:
    """Return whether two outcomes along one axis fit to a pair's Bell state."""
    x, z = info.bell >> 1, info.bell & 1
    flips = {Basis.Z: x, Basis.X: z, Basis.Y: 1 ^ x ^ z}.get(basis)
    if flips is None:
        return None
    return Parity(info.hops, outcomes[0] ^ outcomes[1] == flips, 1 - goodness)


class RouteLight(Light):
    """Nothing is known earlier than light allows, along all links of a circuit."""

    def __init__(self, origins: Origins, paths: Paths) -> None:
        super().__init__(origins)
        self._paths = paths

    def begin(self, net: VirtualNetwork) -> None:
        """Note the delays."""
        super().begin(net)
        self._ends = {link.name: tuple(end.node for end in link.ends) for link in net.links}

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """No end hears of a pair before light from the first link's station can be there."""
        if type(message) is not PairReady and type(message) is not OutcomeReady:
            return
        if message.info.hops < 2:
            super().told(node, message, now)
            return
        pair, links = message.info.pair, self._paths.links[message.info.setting]
        nodes = self._paths.nodes[message.info.setting]
        clicked = self._origins.clicked.get(pair)
        if clicked is None or pair.link != links[0]:
            raise TruthError(f"{node} is told of {message}, of which no station told")
        way = self._delays[links[0], nodes[0 if node == nodes[0] else 1]]
        if node != nodes[0]:
            way += sum(self._delays[name, end] for name in links[1:] for end in self._ends[name])
        if now < clicked + way:
            raise TruthError(f"{node} told of {pair} at {now}; clicks at {clicked}, light {way}")

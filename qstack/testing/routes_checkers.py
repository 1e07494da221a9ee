"""Checkers of global truth for pairs over several links; those of one link are judged as ever.

What an end was told of a pair can still be taken back while the other end does not know it. So
what is wrong with a state is kept as a complaint, and counts at the end if the pair was never void.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from qstack.bell import NAMES
from qstack.codec import decode_body
from qstack.hal.server import Reported
from qstack.machine import Transmit, Up, record
from qstack.messages.application import HalfReady, OutcomeReady, PairReady
from qstack.messages.circuits import CircuitInstall, CircuitRelease
from qstack.messages.common import Basis, PairId, PairInfo, Qubit, RequestId
from qstack.messages.devices import MemoryResult
from qstack.messages.wire import KIND_OF
from qstack.sim.network import VirtualNetwork
from qstack.sim.states import bell_projector
from qstack.sim.world.peek import born_at, pair_state, partners, qubit_state
from qstack.testing.checkers import SLACK, SamePairs, Seen, States
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

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Note over which circuit a request is served; never over two."""
        if type(message) is not PairReady and type(message) is not OutcomeReady:
            return
        if message.info.hops > 1 or message.info.setting in self.nodes:
            circuit = self.of_request.setdefault(message.request, message.info.setting)
            if circuit != message.info.setting:
                raise TruthError(f"{message.request} is served by {circuit} and by {message}")
            if circuit not in self.nodes:
                raise TruthError(f"{message} is of a circuit that nobody installed")

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


class RouteStates(States):
    """Each kept pair over several links is, in the world, what its ends were told.

    When the first end is told, its qubit is joint with one of the other end and nothing else: all
    swaps between are done. When the second is told, or the head-end, the state is looked at as in
    :class:`~qstack.testing.checkers.States`; with `exact` false, where gates fail now and then,
    single states are not judged. A prepared qubit points to where its head-end's outcome says.
    """

    def __init__(
        self, origins: Origins, ledger: Ledger, *, ages_hold: bool = True, exact: bool = True
    ) -> None:
        super().__init__(origins, ages_hold=ages_hold)
        self.routed = 0
        self._ledger = ledger
        self._exact = exact
        self._half: dict[PairId, tuple[NodeName, PairReady, Instant]] = {}
        self._early: set[tuple[NodeName, Qubit]] = set()
        self._complaints: list[tuple[RequestId, PairId, str]] = []

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Look at what is told of kept and of prepared pairs."""
        if type(message) is HalfReady:
            self._early.add((node, message.qubit))
        early = type(message) is PairReady and (node, message.qubit) in self._early
        if type(message) is not PairReady or (message.info.hops < 2 and not early):
            super().told(node, message, now)
        elif message.outcome is None:
            self._keep(node, message, now)
        else:
            self._prepared(node, message, now)

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """What a node held for a user that is gone is nothing to look at."""
        super().user_crashed(node, now)
        for holder, ready, _ in self._half.values():
            if holder == node:
                self._freed.add((node, ready.qubit.slot, ready.qubit.generation))

    def _keep(self, node: NodeName, ready: PairReady, now: Instant) -> None:
        pair, info = ready.info.pair, ready.info
        first = self._half.pop(pair, None)
        place = (self._memory[node], ready.qubit.slot)
        if first is None:
            self._half[pair] = (node, ready, now)
            # A user who has its half early may have used it: then the other half stands alone.
            if (node, ready.qubit) not in self._early:
                self._joined(node, ready, place, now)
            return
        other, theirs, since = first
        if info.bell != theirs.info.bell or ready.request != theirs.request:
            raise TruthError(f"{pair}: the ends were told {ready} and {theirs}")
        if info.origin == theirs.info.origin or other != ready.remote:
            raise TruthError(f"{pair}: its two ends are {node} and {other}: {ready}, {theirs}")
        ends = ((other, theirs.qubit), (node, ready.qubit))
        if any((name, qubit.slot, qubit.generation) in self._freed for name, qubit in ends):
            self.gone += 1
            return
        there = (self._memory[other], theirs.qubit.slot)
        self._judge(ready, (place, there), (node, other), (theirs, since, now))

    def _joined(self, node: NodeName, ready: PairReady, place: Any, now: Instant) -> None:
        """The first of both ends has it: the other half is at the other end already."""
        try:
            others = partners(self.net.world, place)
        except KeyError:
            others = ()
        far = self._memory[ready.remote]
        if [memory for memory, _ in others] != [far]:
            if not self._lost(place, (node, ready.remote), ready, now):
                what = f"{node} is told of it at {now} ns, when its qubit is joint with {others}"
                self._complain(ready, what)
            return
        self.routed += 1
        if ready.info.origin:
            ends = (node, ready.remote)
            self._judge(ready, (place, others[0]), ends, (ready, now, now))

    def _judge(self, ready: PairReady, places: Any, ends: Any, when: Any) -> None:
        told, since, now = when
        info = ready.info
        try:
            state = pair_state(self.net.world, places[0], places[1], now)
            born = min(born_at(self.net.world, place) for place in places)
        except KeyError as error:
            if not self._lost(places[0], ends, ready, now):
                self._complain(ready, f"there is no qubit in {error} at {now} ns")
            return
        fidelity = float(np.real(np.trace(bell_projector(info.bell) @ state)))
        fades = (1 + self._coherence(ends[0], ends[1], now - since)) / 2
        expected = told.info.goodness * fades
        hops = f"{info.hops} hops"
        self.seen.append(Seen(info.pair, hops, 0, fidelity, expected, info.age_ns, now - since))
        half = told.info.goodness / 2
        least = (expected + half) / 2 if self._ages_hold else half
        if self._exact and fidelity < least - SLACK and not self._disturbed(ends, born):
            self._complain(
                ready,
                f"it is told as {NAMES[info.bell]} at {places[0]} and {places[1]} at {now} ns, but "
                f"its fidelity to that is {fidelity:.3f}, and {expected:.3f} is expected",
            )

    def _prepared(self, node: NodeName, ready: PairReady, now: Instant) -> None:
        place, info = (self._memory[node], ready.qubit.slot), ready.info
        try:
            state, born = qubit_state(self.net.world, place, now), born_at(self.net.world, place)
        except KeyError:
            return
        axis = {Basis.Z: (0, 0, 1), Basis.X: (1, 0, 0), Basis.Y: (0, 1, 0)}.get(
            Basis.Z if ready.basis is None else ready.basis
        )
        if axis is None or not (self._exact and self._ages_hold) or info.goodness < 0.8:
            return
        x, z = info.bell >> 1, info.bell & 1
        flips = (z, 1 ^ x ^ z, x)[axis.index(1)] ^ (0 if ready.corrected else ready.outcome or 0)
        vector = (2 * state[1, 0].real, 2 * state[1, 0].imag, (state[0, 0] - state[1, 1]).real)
        along = float(sum(a * v for a, v in zip(axis, vector, strict=True))) * (1 - 2 * flips)
        if along < 0 and not self._disturbed((node, ready.remote), born):
            self._complain(ready, f"{node} holds {vector} for outcome {ready.outcome}")

    def _complain(self, ready: PairReady, what: str) -> None:
        self._complaints.append((ready.request, ready.info.pair, what))

    def _lost(self, place: Any, ends: tuple[NodeName, NodeName], ready: Any, now: Instant) -> bool:
        """Whether an end may have lost its half since the first of both was made."""
        head = self._origins.emitted_at(ready.info.pair)
        since = [now - ready.info.age_ns] + ([] if head is None else [head])
        with suppress(KeyError):
            since.append(born_at(self.net.world, place))
        return self._disturbed(ends, min(since))

    def _disturbed(self, ends: tuple[NodeName, NodeName], since: Instant) -> bool:
        return max(self._origins.disturbed.get(node, -1) for node in ends) >= since

    def finish(self, now: Instant) -> None:
        """What was never taken back at any end is as it was told."""
        for request, pair, what in self._complaints:
            both = self._ledger.accounts.get(request, {})
            if not any(pair in account.expired for account in both.values()) and not (
                both.keys() & self._ledger.blind
            ):
                raise TruthError(f"{request}, {pair}: {what}")


class RouteOutcomes(Outcomes):
    """Outcomes over several links are what a memory read, and fit to each other.

    `parities` are those along one axis. One run is refuted by itself where the wrong ones are so
    many that chance would make them so with less than one in :data:`ALARM`.
    """

    def __init__(self, origins: Origins, ledger: Ledger) -> None:
        super().__init__(origins)
        self.parities: list[Parity] = []
        self._ledger = ledger
        self._read: Counter[tuple[NodeName, Basis, int]] = Counter()
        self._first: dict[PairId, tuple[NodeName, OutcomeReady]] = {}

    def world(self, event: Any, now: Instant, actions: list[Any]) -> None:
        """Note what memories read."""
        for action in actions:
            if type(action) is Up and type(action.event) is Reported:
                body = action.event.body
                if type(body) is MemoryResult:
                    self._read[action.event.owner, body.basis, body.outcome] += 1

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Look an outcome up, and compare it with the other end's."""
        if type(message) is not OutcomeReady or message.info.hops < 2:
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

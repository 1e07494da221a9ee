"""Pairs of a running chain, one by one or round by round, with their true states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from qstack.messages.application import FreeQubit, PairReady, RequestEnded
from qstack.messages.common import PairId
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.sim.states import bell_projector
from qstack.sim.world.peek import pair_state
from qstack.stack import Timing
from qstack.stack.policy import Policy
from qstack.testing.chains import ChainLab
from qstack.testing.parties import Party, hold, terms
from qstack.testing.truth import TruthError
from qstack.units import MILLISECOND, SECOND, Duration, Instant, NodeName

CALM = Timing(
    keepalive_ns=5 * SECOND,
    retransmit_floor_ns=20 * MILLISECOND,
    ack_delay_ns=5 * MILLISECOND,
    hello_interval_ns=20 * MILLISECOND,
    lab_per_wall=1.0,
)
"""Few keepalives, so that long cycles cost no events."""


@attrs.frozen
class Delivered:
    """A pair when its second end was told of it: what was said at both ends, and what is true.

    `state` as it is then, (4, 4) over alice's and bob's half; `states` as it was when alice, and
    when bob, was told, which is what each end's claim is about.
    """

    at: Instant
    one: PairReady
    other: PairReady
    state: np.ndarray
    states: tuple[np.ndarray, np.ndarray]

    @property
    def bell(self) -> int:
        """The announced index."""
        return self.one.info.bell

    @property
    def fidelity(self) -> float:
        """The true fidelity to the announced state."""
        return fidelity_to(self.state, self.bell)

    @property
    def fidelities(self) -> tuple[float, float]:
        """The true fidelities when alice and when bob was told."""
        return fidelity_to(self.states[0], self.bell), fidelity_to(self.states[1], self.bell)

    @property
    def claimed(self) -> tuple[float, float]:
        """The goodness that each end was told."""
        return self.one.info.goodness, self.other.info.goodness


@attrs.frozen
class Round:
    """One pair, asked for when the chain was at rest, and the cycles that it took.

    `cycles`: how many cycles began between the asking and the delivery. All links attempt from
    the first one on.
    """

    cycles: int
    pair: Delivered


def fidelity_to(state: np.ndarray, bell: int) -> float:
    """Return the fidelity of a (4, 4) state to a Bell state."""
    return float(np.real(np.trace(bell_projector(bell) @ state)))


class Chain:
    """A running chain; `alice` and `bob` are the scripted users of its ends.

    The joint state of each pair is looked up when the second end is told of it, and both
    halves are freed then.
    """

    def __init__(self, lab: ChainLab, seed: int, timing: Timing = CALM) -> None:
        self.lab = lab
        policies = tuple((node, Policy(methods=lab.methods)) for node in lab.nodes)
        around = Surroundings(Wire(lab.wire_ns), timing=timing, policies=policies)
        self.net = VirtualNetwork(lab.links(), lab.world(), seed, around)
        self.heap = self.net.heap
        self.pairs: list[Delivered] = []
        self._first: dict[PairId, tuple[PairReady, Instant]] = {}
        self.alice, self.bob = self._party("alice"), self._party("bob")
        self.bob.accept()
        self.run(lambda: len(self.bob.answers) == 1)
        self.settle(100 * MILLISECOND)

    def _party(self, node: NodeName) -> Party:
        party = Party(self.heap, f"user-{node}", node, hold)
        self.net.user(party.name, [node], party.listen)
        party.policy = lambda pair, now: self._told(party, pair, now)
        self.run(lambda: party.reached)
        return party

    def _told(self, party: Party, pair: PairReady, now: Instant) -> Any:
        identity = pair.info.pair
        found = self._first.pop(identity, None)
        if found is None:
            self._first[identity] = pair, now
            return None
        first, then = found
        if first.info.bell != pair.info.bell:
            raise TruthError(f"the ends disagree: {first} and {pair}")
        alices = party is self.alice
        mine, theirs = (pair, first) if alices else (first, pair)
        earlier, late = self._state(mine, theirs, then), self._state(mine, theirs, now)
        both = (late, earlier) if alices else (earlier, late)
        self.pairs.append(Delivered(now, mine, theirs, late, both))
        (self.bob if alices else self.alice).release(identity)
        return FreeQubit(pair.qubit)

    def _state(self, mine: PairReady, theirs: PairReady, at: Instant) -> np.ndarray:
        where = ("alice.memory", mine.qubit.slot), ("bob.memory", theirs.qubit.slot)
        return pair_state(self.net.world, *where, at)

    # --- asking ------------------------------------------------------------------------------

    def ask(
        self, count: int, fidelity_min: float = 0.0, limit_ns: Duration = 60 * SECOND
    ) -> list[Delivered]:
        """Return `count` pairs of one request; TruthError where it ends otherwise, or is late."""
        before = len(self.pairs)
        self._request(count, fidelity_min, limit_ns)
        return self.pairs[before:]

    def refusal(self, fidelity_min: float) -> RequestEnded:
        """Ask for what cannot be had; return how the request ended. TruthError if it is served."""
        ended, done = len(self.alice.ended), len(self.alice.done)
        self.alice.keep(terms("bob", 1, fidelity_min=fidelity_min))
        self.run(lambda: len(self.alice.ended) > ended or len(self.alice.done) > done)
        if len(self.alice.done) > done:
            raise TruthError(f"fidelity {fidelity_min} was delivered: {self.alice.pairs[-1]}")
        return self.alice.ended[-1]

    def rounds(self, count: int, fidelity_min: float = 0.0, phase: float = 0.1) -> list[Round]:
        """Ask for one pair, `count` times, each at this phase of a cycle with the chain at rest.

        Cycles of all links begin together, shortly after each multiple of `cycle_ns`.
        """
        cycle = self.lab.cycle_ns
        found = []
        for _ in range(count):
            began = -(-self.heap.now // cycle) * cycle
            self.settle(began + round(phase * cycle) - self.heap.now)
            self._request(1, fidelity_min)
            pair = self.pairs[-1]
            found.append(Round(pair.at // cycle - began // cycle, pair))
        return found

    def _request(self, count: int, fidelity_min: float, limit_ns: Duration = 60 * SECOND) -> None:
        parties = self.alice, self.bob
        ends, ended = [len(party.done) + 1 for party in parties], len(self.alice.ended)
        self.alice.keep(terms("bob", count, fidelity_min=fidelity_min))
        self.run(
            lambda: (
                len(self.alice.ended) > ended
                or all(len(p.done) >= n for p, n in zip(parties, ends, strict=True))
            ),
            limit_ns,
        )
        if len(self.alice.ended) > ended:
            raise TruthError(f"the request ended: {self.alice.ended[-1]}")

    def report(self, node: NodeName) -> dict[str, Any]:
        """Return what a node knows of routes and circuits."""
        known: dict[str, Any] = self.net.host(node).network.report(self.heap.now)
        return known

    def run(self, stop: Callable[[], bool], limit_ns: Duration = 60 * SECOND) -> None:
        """Turn the heap until `stop`; TruthError if so much virtual time passes first."""
        self.heap.run(self.heap.now + limit_ns, stop=stop)
        if not stop():
            raise TruthError(f"not reached by {self.heap.now / 1e9:.3f} s")

    def settle(self, duration_ns: Duration) -> None:
        """Let the network rest."""
        self.heap.run(self.heap.now + duration_ns)

"""Two nodes and a station on the heap, with a scripted user at each node."""

from __future__ import annotations

from typing import Any

import numpy as np

from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.sim.world.peek import pair_state
from qstack.testing import PairTruth, Party, Policy, free_at_once
from qstack.testing.lab import ALPHA, CYCLE_NS, EFFICIENCY, Lab
from qstack.units import SECOND, Duration

__all__ = ["ALPHA", "CYCLE_NS", "EFFICIENCY", "Lab", "Rig"]


class Rig:
    """A running small network; `alice` and `bob` are the scripted users of the two nodes."""

    def __init__(
        self, lab: Lab | None = None, seed: int = 1, surroundings: Surroundings | None = None
    ) -> None:
        self.lab = lab or Lab()
        around = surroundings or Surroundings()
        self.net = VirtualNetwork(self.lab.links(), self.lab.world(), seed, around)
        self.heap = self.net.heap
        self.alice = self._party("alice")
        self.bob = self._party("bob")
        self.bob.accept()
        self.alice.accept()
        self.run(lambda: len(self.alice.answers) == 1 and len(self.bob.answers) == 1)
        self.settle(5_000_000)

    def _party(self, node: str, policy: Policy = free_at_once) -> Party:
        party = Party(self.heap, f"user-{node}", node, policy)
        self.net.user(party.name, [node], party.listen)
        self.run(lambda: party.reached)
        return party

    def run(self, stop: Any, limit_ns: Duration = 100 * SECOND) -> None:
        """Turn the heap until `stop`; fails if the virtual time limit passes first."""
        until = self.heap.now + limit_ns
        self.heap.run(until, stop=stop)
        assert stop(), f"not reached by {self.heap.now / 1e9:.3f} s"

    def settle(self, duration_ns: Duration = SECOND) -> None:
        """Let the network rest."""
        self.heap.run(self.heap.now + duration_ns)

    def truth(self) -> PairTruth:
        """Put the checker of joint states between the two users."""
        checker = PairTruth(self.alice, self.bob, self.state_of)
        self.alice.policy = checker.policy_of(self.alice)
        self.bob.policy = checker.policy_of(self.bob)
        return checker

    def state_of(self, one: int, other: int, now: int) -> np.ndarray | None:
        """The joint state of a slot of alice's and one of bob's; None if one is empty."""
        try:
            return pair_state(self.net.world, ("alice.memory", one), ("bob.memory", other), now)
        except KeyError:
            return None

    def free_slots(self) -> tuple[int, int]:
        """How many communication slots are free at alice and at bob."""
        return self.net.host("alice").slots.free(), self.net.host("bob").slots.free()

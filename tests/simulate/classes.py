"""Pairs kept by their users for less and more long, until every class of them can be judged.

The seeds of the swarm see few old pairs, and few of the rarer working points. Here users of a
network without faults hold whole pairs for the times of :data:`KEPT_NS` by turns; each pair is
looked at when it is told and when it is given back. One run for each working point makes every
class of click pattern and age as large as :data:`~qstack.testing.statistics.ENOUGH` demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qstack.machine import record
from qstack.messages.application import FreeQubit, PairReady
from qstack.messages.common import PairId, Qubit
from qstack.testing import Judge, Origins, Party, States, terms
from qstack.testing.statistics import ENOUGH, Classes
from qstack.units import MICROSECOND, MILLISECOND, Duration, Instant
from tests.whole.rig import Lab, Rig

KEPT_NS: tuple[Duration, ...] = (400 * MICROSECOND, 4 * MILLISECOND, 14 * MILLISECOND)
"""One in each of the age classes but the youngest, in which every pair is when it is told."""

AT_ONCE = 1_000
"""Pairs of one request."""

LABS: dict[str, Lab] = {
    "one click": Lab(qubits=16, t2_ns=20 * MILLISECOND),
    "one click, fine": Lab(qubits=16, t2_ns=20 * MILLISECOND, alpha=0.03),
    "two photons": Lab(qubits=16, t2_ns=20 * MILLISECOND, two_photons=True),
}
"""The working points of the swarm, with memories whose decay shows at these ages."""


@record
class _First:
    """The half of a pair that was told first."""

    party: Party
    qubit: Qubit


class Keepers:
    """The two users of a small network: both free a pair some time after both were told of it.

    `kept_ns`: for how long, by turns after the number of its herald.
    """

    def __init__(self, lab: Lab, seed: int, kept_ns: Sequence[Duration] = KEPT_NS) -> None:
        self.rig = Rig(lab, seed)
        self._kept_ns = kept_ns
        self._first: dict[PairId, _First] = {}
        for party in (self.rig.alice, self.rig.bob):
            party.policy = self._policy_of(party)
        origins = Origins()
        self.states = States(origins)
        users = {party.name: party.node for party in (self.rig.alice, self.rig.bob)}
        Judge(self.rig.net, users, (origins, self.states))

    def _policy_of(self, party: Party) -> Any:
        def policy(pair: PairReady, now: Instant) -> None:
            identity = pair.info.pair
            first = self._first.pop(identity, None)
            if first is None:
                self._first[identity] = _First(party, pair.qubit)
                return
            kept_ns = self._kept_ns[identity.sequence % len(self._kept_ns)]
            for holder, qubit in ((first.party, first.qubit), (party, pair.qubit)):
                holder.say(FreeQubit(qubit), kept_ns)

        return policy

    def make(self, pairs: int) -> None:
        """Let so many pairs be delivered, kept and given back."""
        rig = self.rig
        ended = len(rig.alice.done)
        rig.alice.keep(terms("bob", pairs))
        rig.run(lambda: min(len(rig.alice.done), len(rig.bob.done)) > ended)
        rig.settle(2 * max(self._kept_ns))


def classes_of(name: str, enough: int = ENOUGH) -> Classes:
    """Return the classes of a working point, each of so many pairs at least."""
    keepers, classes = Keepers(LABS[name], seed=31), Classes()
    patterns = 4 if LABS[name].two_photons else 2
    wanted = patterns * (len(KEPT_NS) + 1)
    while True:
        keepers.make(AT_ONCE)
        classes.add(keepers.states.seen)
        keepers.states.seen.clear()
        counts = [mean.count for mean in classes.means().values()]
        if len(counts) == wanted and min(counts) >= enough:
            return classes

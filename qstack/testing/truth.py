"""The joint state of each kept pair, and the lists of both ends: two scripted users compared."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from qstack.messages.application import FreeQubit, PairReady
from qstack.messages.common import PairId
from qstack.sim.states import bell_projector
from qstack.testing.parties import Party, Policy
from qstack.units import Instant, NodeName


class TruthError(AssertionError):
    """What the protocols said is not what the world holds."""


@attrs.define
class PairTruth:
    """Checks each kept pair at the moment when both ends have it.

    Use :meth:`policy` as the policy of both parties. When the second end has delivered, the joint
    state is looked up in the world, its fidelity to the announced Bell state is recorded, and
    both halves are freed, or given to `then`. `state_of(slot, other slot, now)` returns None where
    a half is gone, as it is when its node crashed after the delivery; `gone` lists those.
    """

    one: Party
    other: Party
    state_of: Callable[[int, int, Instant], np.ndarray | None]
    then: Callable[[PairReady, PairReady, Instant], None] | None = None
    fidelities: list[tuple[PairId, float, float]] = attrs.field(factory=list)
    gone: list[PairId] = attrs.field(factory=list)
    _waiting: dict[PairId, tuple[NodeName, PairReady]] = attrs.field(factory=dict)

    def policy_of(self, party: Party) -> Policy:
        """Return the policy for one of the two parties."""
        return lambda pair, now: self._delivered(party, pair, now)

    @property
    def one_sided(self) -> int:
        """How many pairs only one end has been told of so far."""
        return len(self._waiting)

    def _delivered(self, party: Party, pair: PairReady, now: Instant) -> None:
        identity = pair.info.pair
        first = self._waiting.pop(identity, None)
        if first is None:
            self._waiting[identity] = (party.name, pair)
            return
        if first[0] == party.name:
            raise TruthError(f"{identity} was delivered twice to {party.name}")
        mine, theirs = pair, first[1]
        if party is self.other:
            mine, theirs = theirs, mine
        self._check(mine, theirs, now)
        if self.then is not None:
            self.then(mine, theirs, now)
            return
        # The second policy call is still running: what it holds is entered after it returns.
        party.say(FreeQubit(pair.qubit))
        (self.one if party is self.other else self.other).release(identity)

    def _check(self, mine: PairReady, theirs: PairReady, now: Instant) -> None:
        if mine.info.bell != theirs.info.bell or mine.request != theirs.request:
            raise TruthError(f"the ends disagree: {mine} and {theirs}")
        state = self.state_of(mine.qubit.slot, theirs.qubit.slot, now)
        if state is None:
            self.gone.append(mine.info.pair)
            return
        fidelity = float(np.real(np.trace(bell_projector(mine.info.bell) @ state)))
        self.fidelities.append((mine.info.pair, fidelity, mine.info.goodness))


def check_same_pairs(one: Party, other: Party) -> None:
    """Both ends were told the same pairs in the same order; raises TruthError otherwise."""
    if one.pair_ids != other.pair_ids:
        raise TruthError(
            f"{one.name} has {len(one.pair_ids)} pairs and {other.name} {len(other.pair_ids)}: "
            f"first difference at {_first_difference(one.pair_ids, other.pair_ids)}"
        )


def _first_difference(one: list[PairId], other: list[PairId]) -> str:
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return f"place {place}: {mine} against {theirs}"
    return f"place {min(len(one), len(other))}: the shorter list ends"

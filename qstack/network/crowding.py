"""Links whose qubits circuits fill for each other, so that none of them gets on.

A circuit takes as many qubits of a link as come free: that serves it best, and usually the others
too. But two circuits may each have filled a link that the other needs, and would then wait until a
cutoff, and again after it. A node that sees all qubits of a link taken by halves that wait, while
a circuit that runs over it has fewer than it needs at once, is patient for a part of the cutoff.
Then it divides the qubits among the circuits (`Reservations.limit`) for a while, in which each gets
on: a portion is room for what it needs (`qubits_of`), one half where nothing is purified.

A node between discards what exceeds a portion. At an end that is not its own to decide: the other
end may have the pair. Its halves fill a link while those that they were joined to wait far away,
where nothing is full. So it asks for them back, along the circuit, from whoever has the far end of
what was joined so far (`recall` in `ends`, `forwarding`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import attrs

from qstack.messages.circuits import CircuitId
from qstack.network.admission import qubits_of
from qstack.network.places import Place
from qstack.physical.service import LinkParameters
from qstack.units import MILLISECOND, Duration, Instant, LinkName, NodeName

PATIENCE = 16
"""A link may be crowded for this part of the shortest cutoff."""
DIVIDED = 4
"""For this part of it its qubits are divided then.

Soon and for a short time serves promises best. Six seeds of the grid at 0.7 of the links' time,
100 requests (`tests/simulate/test_promised_rates.py`): all got the rate that they were promised;
with a whole cutoff 7 did not, with a patience of a quarter and four cutoffs more.
"""
LONGEST_CUTOFF_NS: Duration = 4 * MILLISECOND
"""Stands for the cutoff where circuits have none, or a longer one.

Memories may last for seconds: circuits whose cutoffs rest on that would stand still for a third of
one before the link between them is divided.
"""


@attrs.define(eq=False)
class _Crowd:
    """`patience`: so long it may be crowded, None while it is not. `until`: so long divided.

    `circuits`: those that run over the link.
    """

    patience: Instant | None = None
    until: Instant = 0
    circuits: frozenset[CircuitId] = frozenset()


class Crowding:
    """Which links of a node are crowded, and which are divided for that reason."""

    __slots__ = ("_clock", "_qubits", "crowds")

    def __init__(
        self, node: NodeName, links: Iterable[LinkParameters], clock: Callable[[], Instant]
    ) -> None:
        self._qubits = {link.name: len(link.end(node).communication) for link in links}
        self._clock = clock
        self.crowds: dict[LinkName, _Crowd] = {}
        """The links that are crowded or divided."""

    @property
    def deadline(self) -> Instant | None:
        """When the patience with a link ends, or the time for which one is divided."""
        crowds = self.crowds.values()
        found = (c.until if c.patience is None else c.patience for c in crowds)
        return min(found, default=None)

    @property
    def any(self) -> bool:
        """Whether any link is crowded or divided."""
        return bool(self.crowds)

    def sharing(self, link: LinkName) -> frozenset[CircuitId]:
        """Return among which circuits the qubits of a link are divided now, if they are."""
        crowd = self.crowds.get(link)
        divided = crowd is not None and self._clock() < crowd.until
        return crowd.circuits if crowd is not None and divided else frozenset()

    def look(self, link: LinkName, running: Collection[tuple[Place, int]]) -> None:
        """Look at the circuits that run over a link, each with the number of its halves here."""
        held = sum(halves for _, halves in running)
        full = (
            len(running) > 1
            and held >= self._qubits[link]
            and any(halves < qubits_of(place, place.side_on(link)) for place, halves in running)
        )
        crowd = self.crowds.get(link)
        if crowd is None:
            if not full:
                return
            crowd = self.crowds[link] = _Crowd()
        now = self._clock()
        crowd.circuits = frozenset(place.id for place, _ in running)
        if not full or now < crowd.until:
            crowd.patience = None
            if now >= crowd.until:
                del self.crowds[link]
            return
        cutoff = cutoff_of(place for place, _ in running)
        if crowd.patience is None:
            crowd.patience = now + cutoff // PATIENCE
        if now >= crowd.patience:
            crowd.patience, crowd.until = None, now + cutoff // DIVIDED


def cutoff_of(places: Iterable[Place]) -> Duration:
    """Return the shortest cutoff of some circuits, in ns, :data:`LONGEST_CUTOFF_NS` at most."""
    cutoffs = [leg.cutoff_ns for place in places for leg in place.install.legs if leg.cutoff_ns]
    return min([*cutoffs, LONGEST_CUTOFF_NS])

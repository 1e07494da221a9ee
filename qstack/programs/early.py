"""Use halves before they are known to be of a pair, and learn afterwards what they were.

Both ends ask for their halves early, measure each when it comes, on an axis that the hardware
draws, and keep the outcome until the notice. A confirmation names the pair and the Bell state that
it was in, so that outcomes of one axis can be turned into those of Phi+
(:func:`qstack.bell.flip`); what is discarded counts for nothing. Nothing ages while words travel.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import trio

from qstack.application.service import Delivery, Node
from qstack.errors import RequestFailed
from qstack.machine import record
from qstack.messages.application import (
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    PairExpired,
    Terms,
)
from qstack.messages.common import PairId, PairInfo
from qstack.programs.halves import Halves
from qstack.programs.pairs_report import AXIS_OF
from qstack.programs.tomography import Correlator, correlators, fidelity_of


@record
class EarlyPair:
    """A pair whose halves were measured early. `axes` and `outcomes` in the order (a, b)."""

    info: PairInfo
    axes: tuple[str, str]
    outcomes: tuple[int, int]


@record
class EarlyReport:
    """What came of a run. `discarded`: halves of no pair, at a and at b.

    `in_advance`: outcomes, at a and at b, that were there before the notice of their half.
    """

    pairs: tuple[EarlyPair, ...]
    discarded: tuple[int, int]
    in_advance: tuple[int, int]

    @property
    def correlators(self) -> dict[str, Correlator]:
        """By axis, as of Phi+, of the pairs that both ends measured along it."""
        return correlators((each.info.bell, each.axes, each.outcomes) for each in self.pairs)

    @property
    def fidelity(self) -> tuple[float, float] | None:
        """The measured fidelity and its standard error; None where an axis is missing."""
        return fidelity_of(self.correlators)


@attrs.define(eq=False)
class _End:
    """One end: its halves, and which of them belong to which pair."""

    node: Node
    halves: Halves = attrs.field(factory=Halves)
    of: dict[PairId, HalfConfirmed] = attrs.field(factory=dict)

    async def follow(self, deliveries: AsyncIterator[Delivery], nursery: trio.Nursery) -> None:
        """Take all that is delivered at this end."""
        async for delivery in deliveries:
            match delivery:
                case HalfReady():
                    nursery.start_soon(self.halves.measure, self.node, delivery)
                case HalfConfirmed():
                    self.halves.confirm(delivery, 0)
                    self.of[delivery.info.pair] = delivery
                case HalfDiscarded():
                    self.halves.discard(delivery)
                case PairExpired():
                    self.of.pop(delivery.pair, None)

    def reading(self, pair: PairId) -> tuple[str, int] | None:
        """Return axis and outcome of a pair's half here, None where it has none."""
        told = self.of.get(pair)
        found = None if told is None else self.halves.settled(told.half)
        read = None if found is None else found[1]
        return None if read is None else (AXIS_OF[read.basis], read.outcome)


async def measure_early(a: Node, b: Node, terms: Terms) -> EarlyReport:
    """Ask `a` for pairs with `b` on these terms, measure all halves early, and report.

    `b` listens on the purpose meanwhile. RequestFailed where the request fails.
    """
    ends = _End(a), _End(b)
    incoming = await b.listen(terms.purpose)
    failure: RequestFailed | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends[1].follow, aiter(incoming), nursery)
        request = await a.create_keep(terms, early=True)
        try:
            await ends[0].follow(aiter(request), nursery)
        except RequestFailed as error:
            failure = error
        # What was told of at b before the request ended there is delivered first.
        await incoming.close()
    if failure is not None:
        raise failure
    return _report(ends)


def _report(ends: tuple[_End, _End]) -> EarlyReport:
    pairs = []
    for pair, told in ends[0].of.items():
        one, other = (end.reading(pair) for end in ends)
        if one is not None and other is not None:
            pairs.append(EarlyPair(told.info, (one[0], other[0]), (one[1], other[1])))
    a, b = (end.halves for end in ends)
    return EarlyReport(tuple(pairs), (a.discarded, b.discarded), (a.in_advance, b.in_advance))

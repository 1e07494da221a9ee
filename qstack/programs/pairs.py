"""Deliver pairs between two nodes, measure them, and compare with what was promised.

For KEEP both ends measure each half when it is delivered, on an axis that both derive from the
pair's sequence number (X, Y, Z in turn), so nothing has to be agreed. For MEASURE the hardware
draws an axis at each end from X, Y and Z, and pairs with unequal axes say nothing about the
fidelity. For PREPARE the creator's hardware draws, and the receiver measures on the same axis.
Halves that are handed over early are measured when they come, on axes that are drawn too.

Fidelity: outcomes are first turned into those of Phi+ (:func:`qstack.bell.flip`), so that pairs
heralded in different Bell states add up; then ``F = (1 + <XX> - <YY> + <ZZ>) / 4``, with the
standard error of three independent means. The errors of the readouts, where they are known, are
undone (:mod:`qstack.programs.tomography`); the uncorrected value is reported beside.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import pairwise

import attrs
import trio

from qstack.application.service import Delivery, Incoming, Node, Request
from qstack.bell import NAMES
from qstack.errors import QstackError, RequestFailed
from qstack.messages.application import (
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    OutcomeReady,
    PairExpired,
    PairReady,
    Tried,
)
from qstack.messages.common import PairId, PairInfo, PairKind
from qstack.programs.figures import mean_of, quantiles
from qstack.programs.halves import Halves
from qstack.programs.pairs_report import (
    AXIS_OF,
    DRAWN,
    PLANS,
    PairRecord,
    PairsOptions,
    PairsReport,
)
from qstack.programs.tomography import AXES, correlators, fidelity_of
from qstack.units import Duration, Instant

__all__ = [
    "PairRecord",
    "PairsOptions",
    "PairsReport",
    "measure_pairs",
    "try_pairs",
]

GRACE = 10
"""After the request has ended, the other end may take this many hundredths of the run longer."""

_GRACE_FLOOR_NS = 1_000_000_000


@attrs.define
class _Half:
    """What one end knows of a pair."""

    info: PairInfo
    axis: str
    outcome: int
    latency_ns: Duration


@attrs.define(eq=False)
class _Tally:
    """What has come in so far."""

    options: PairsOptions
    begun: Instant
    request_at: Instant
    delivered: list[int] = attrs.field(factory=lambda: [0, 0])
    halves: tuple[dict[PairId, _Half], dict[PairId, _Half]] = attrs.field(factory=lambda: ({}, {}))
    expired: set[PairId] = attrs.field(factory=set)
    complete: list[PairRecord] = attrs.field(factory=list)
    oks: list[Instant] = attrs.field(factory=list)
    infos: list[PairInfo] = attrs.field(factory=list)
    latencies: list[Duration] = attrs.field(factory=list)
    oldest: list[Duration] = attrs.field(factory=list)
    early: tuple[Halves, Halves] = attrs.field(factory=lambda: (Halves(), Halves()))
    changed: trio.Event = attrs.field(factory=trio.Event)

    def ok(self, end: int, info: PairInfo) -> Duration:
        """Count an OK; return its latency."""
        now = self.options.now()
        self.delivered[end] += 1
        if end == 0:
            self.oks.append(now)
            self.infos.append(info)
            self.latencies.append(now - self.request_at)
        return now - self.request_at

    def measured(self, end: int, half: _Half) -> None:
        """Take the outcome of one half; when the other is there, the pair is complete."""
        pair = half.info.pair
        self.halves[end][pair] = half
        other = self.halves[1 - end].get(pair)
        if other is not None and pair not in self.expired:
            a, b = (half, other) if end == 0 else (other, half)
            item = PairRecord(pair, a.info, (a.axis, b.axis), (a.outcome, b.outcome), a.latency_ns)
            self.complete.append(item)
            if self.options.on_pair is not None:
                self.options.on_pair(item)
        self.notify()

    def void(self, pair: PairId) -> None:
        """A pair expired: what was measured of it counts for nothing."""
        self.expired.add(pair)
        self.complete = [item for item in self.complete if item.pair != pair]
        self.notify()

    def notify(self) -> None:
        """Wake who waits for the tally to change."""
        self.changed.set()
        self.changed = trio.Event()

    @property
    def settled(self) -> bool:
        """Whether every OK of `a` is complete or void."""
        return all(
            info.pair in self.expired
            or (info.pair in self.halves[0] and info.pair in self.halves[1])
            for info in self.infos
        )


async def measure_pairs(a: Node, b: Node, options: PairsOptions) -> PairsReport:
    """Ask `a` for pairs with `b`, measure both halves, and report.

    `b` listens on the purpose. A request that fails ends the run; its error is in the report.
    Other errors (a lost node) propagate.
    """
    started = options.now()
    tally = _Tally(options, started, started)
    incoming = await b.listen(options.purpose)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_receive, b, 1, incoming, tally, nursery)
            failure = await _ask(a, b.name, tally, nursery)
            await _settle(tally)
            await incoming.close()
            nursery.cancel_scope.cancel()
    except* QstackError as group:
        # What ends one task ends the run; the first cause is the one to tell.
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from None
    return _report(tally, failure)


async def try_pairs(a: Node, remote: str, options: PairsOptions) -> Tried:
    """Return whether and how the first of the requests would be served now; nothing is made."""
    return await a.try_pairs(options.terms(remote, options.per_request or options.count))


async def _ask(a: Node, remote: str, tally: _Tally, nursery: trio.Nursery) -> RequestFailed | None:
    """Make all requests, one after the other; return the error that ended them, or none."""
    options = tally.options
    left = options.count
    try:
        while left > 0:
            number = min(left, options.per_request or left)
            await _one_request(a, remote, number, tally, nursery)
            left -= number
    except RequestFailed as failure:
        return failure
    return None


async def _one_request(
    a: Node, remote: str, number: int, tally: _Tally, nursery: trio.Nursery
) -> None:
    """Make one request and take all that it delivers at `a`."""
    options = tally.options
    terms = options.terms(remote, number)
    before = len(tally.infos)
    tally.request_at = options.now()
    request: Request
    if options.kind is PairKind.KEEP:
        request = await a.create_keep(terms, early=options.early)
    elif options.kind is PairKind.MEASURE:
        request = await a.create_measure(terms, DRAWN, DRAWN)
    else:
        request = await a.create_prepare(terms, DRAWN)
    async for delivery in request:
        _take(a, 0, delivery, tally, nursery)
    if options.within_ns:
        tally.oldest.append(max(info.age_ns for info in tally.infos[before:]))


async def _receive(
    node: Node, end: int, incoming: Incoming, tally: _Tally, nursery: trio.Nursery
) -> None:
    """Take all that comes in at `node` until cancelled."""
    async for delivery in incoming:
        _take(node, end, delivery, tally, nursery)


def _take(node: Node, end: int, delivery: Delivery, tally: _Tally, nursery: trio.Nursery) -> None:
    match delivery:
        case PairReady():
            latency = tally.ok(end, delivery.info)
            # Not waited for here: the next OK may be in the same datagram.
            nursery.start_soon(_measure, node, end, delivery, latency, tally)
        case OutcomeReady():
            latency = tally.ok(end, delivery.info)
            axis = AXIS_OF.get(delivery.basis, "")
            tally.measured(end, _Half(delivery.info, axis, delivery.outcome, latency))
        case PairExpired():
            tally.void(delivery.pair)
        case HalfReady():
            nursery.start_soon(_measure_early, node, end, delivery, tally)
        case HalfConfirmed():
            tally.early[end].confirm(delivery, tally.ok(end, delivery.info))
            _early(end, delivery.half, tally)
        case HalfDiscarded():
            tally.early[end].discard(delivery)


async def _measure_early(node: Node, end: int, ready: HalfReady, tally: _Tally) -> None:
    await tally.early[end].measure(node, ready)
    _early(end, ready.half, tally)


def _early(end: int, half: PairId, tally: _Tally) -> None:
    """Count a half that came early, once it is known what it is of and what was read of it."""
    found = tally.early[end].settled(half)
    if found is not None:
        info, read, latency = found
        if read is None:
            tally.void(info.pair)
        else:
            tally.measured(end, _Half(info, AXIS_OF[read.basis], read.outcome, latency))


async def _measure(
    node: Node, end: int, ready: PairReady, latency: Duration, tally: _Tally
) -> None:
    """Measure a delivered half on the axis of its pair; a failed readout voids the pair."""
    if ready.basis is None:
        axis = AXES[ready.info.pair.sequence % len(AXES)]
    else:
        axis = AXIS_OF.get(ready.basis, "Z")
    try:
        measured = await node.measure(ready.qubit, PLANS[axis])
    except RequestFailed:
        tally.void(ready.info.pair)
        return
    tally.measured(end, _Half(ready.info, axis, measured.outcome, latency))


async def _settle(tally: _Tally) -> None:
    """Wait until every OK of `a` is complete or void, within reason."""
    now = tally.options.now
    elapsed = now() - tally.begun
    limit = now() + max(_GRACE_FLOOR_NS, elapsed * GRACE // 100)
    while not tally.settled and now() < limit:
        changed = tally.changed
        with trio.move_on_after((limit - now()) / 1e9):
            await changed.wait()


# --- the report ---------------------------------------------------------------------------


def _report(tally: _Tally, failure: RequestFailed | None) -> PairsReport:
    options = tally.options
    measured = [(item.info.bell, item.axes, item.outcomes) for item in tally.complete]
    raw = correlators(measured)
    found = correlators(measured, options.readouts)
    fidelity, uncorrected = fidelity_of(found), fidelity_of(raw)
    infos = [info for info in tally.infos if info.pair not in tally.expired]
    oks, (a, b) = tally.oks, tally.early
    span = oks[-1] - oks[0] if oks else 0
    bells = dict.fromkeys(NAMES, 0)
    for item in tally.complete:
        bells[NAMES[item.info.bell]] += 1
    mean = partial(mean_of, infos)
    intervals = [late - early for early, late in pairwise(oks)]
    return PairsReport(
        wanted=options.count,
        delivered=(tally.delivered[0], tally.delivered[1]),
        complete=len(tally.complete),
        used=sum(each.count for each in found.values()),
        expired=len(tally.expired),
        bells=tuple(bells.items()),
        correlators=tuple(  # type: ignore[arg-type]  # three, one per axis
            found[axis].value if axis in found else None for axis in AXES
        ),
        fidelity=None if fidelity is None else fidelity[0],
        fidelity_error=None if fidelity is None else fidelity[1],
        fidelity_raw=None if uncorrected is None else uncorrected[0],
        predicted_fidelity=mean(lambda info: info.goodness),
        predicted_fidelity_low=mean(lambda info: info.goodness_low),
        rate_hz=(len(oks) - 1) * 1e9 / span if span > 0 else None,
        predicted_rate_hz=options.predicted_rate_hz or None,
        latency_ns=quantiles(tally.latencies),
        interval_ns=quantiles(intervals),
        elapsed_ns=options.now() - tally.begun,
        error="" if failure is None else str(failure),
        failure=failure,
        records=tuple(tally.complete),
        latencies=tuple(tally.latencies),
        intervals=tuple(intervals),
        promised_fidelity=options.promised_fidelity or None,
        hops=tuple(sorted(Counter(info.hops for info in infos).items())),
        age_ns=quantiles([info.age_ns for info in infos]),
        oldest_ns=quantiles(tally.oldest),
        discarded=(a.discarded, b.discarded) if options.early else None,
        in_advance=(a.in_advance, b.in_advance) if options.early else None,
    )

"""The fidelity estimation unit: what a working point gives, and how sure that is.

Per setting and click pattern there is a *prior* from the datasheets (Bell weights, with the
spread of the heralded one) and, per axis, a *tally* of test rounds. All correlators are signed
so that a perfect pair has (1, 1, 1); ``F = (1 + x + y + z) / 4``.

**One test round** along an axis gives q = +1 or -1, the product of both outcomes and the
heralded state's sign. Readout that reads 0 and 1 right with r0 and r1 turns a mean m into
``(r0 - r1) + (r0 + r1 - 1) m``, waiting shrinks correlators (:mod:`qstack.link.decay`), so the
expectation of q is ``offset + gain * e`` with e the correlator at emission. A tally sums
(count, q, offset, gain); ``e = (sum q - sum offset) / sum gain`` is unbiased whatever the
rounds' ages were. This is the correction of readout bias; the raw mean is kept beside it.

**Interval.** The prior gives each axis ``mean +- 2 * (4 / 3) * spread``, i.e. F +- 2 spread. Tests
bound the raw mean by Hoeffding's inequality in its relative-entropy form,
``P(mean <= m) <= exp(-n KL(m || p))``, which holds for any n and for Bernoulli variables of unequal
probability (normal and Wilson intervals fail for the few rounds and the probabilities near one
that are usual here); offset and gain map it to the correlator.

The datasheet *stands* as long as ``sum n KL(m || p)`` over the axes, with p the nearest mean that
it allows, stays below 17: each term exceeds t with ``2 exp(-t)`` at most, so the sum of three
does with ``8 exp(-t) (1 + t + t t / 2)``, 5e-5 at 17. That little, because it is looked at again
after every announcement: an honest datasheet survives the few dozen looks of a link's day with
more than 99 %. While it stands its bounds hold, and the point is the mean of prior and tests
within them, the prior weighing ``(1 - e e) / ((4 / 3) spread) ** 2`` pseudo-counts. Once it is
refuted for a pattern only tests count there, at ``delta / 3`` per axis, so that the three bounds
hold together with ``1 - delta``, delta = 0.05. Until then a datasheet that is a little wrong is
believed.

Sources: fidelity from correlators, e.g. Guehne and Toth 2009; Hoeffding 1963, theorem 1; the
idea of test rounds in a link layer: Dahlberg et al. 2019 (with the quadratic bound, wider).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from qstack.bell import BellIndex, sign
from qstack.link.decay import NO_SHRINK, Shrink, age_at_delivery, until_delivery, waiting
from qstack.link.service import PRIOR_SIGMAS
from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.messages.link import LinkRequest
from qstack.physical.service import LinkParameters, PatternPrior, Setting
from qstack.units import Duration

AXES = "XYZ"
CONFIDENT = math.log(2 / (0.05 / 3))
"""Exponent of a two-sided bound at delta / 3, delta = 0.05."""
REFUTING = 17.0
"""Sum of the three axes' exponents at which tests refute a datasheet."""
UNLIMITED = 1e12
KNOWN_LIMIT = 1024


@record
class Tally:
    """Sums over the test rounds of one axis; see the module's text."""

    count: int
    total: float
    offset: float
    gain: float


EMPTY = Tally(0, 0.0, 0.0, 0.0)
Tallies: TypeAlias = tuple[Tally, Tally, Tally]
NO_TALLIES: Tallies = (EMPTY, EMPTY, EMPTY)
Table: TypeAlias = Mapping[tuple[str, int], Tallies]
"""By (setting id, clicks)."""


@record
class Round:
    """A finished test round: what was tested, and both ends' outcomes and holding times.

    `first` and `second` are (outcome, held_ns) in the order of the link's ends.
    """

    setting: str
    clicks: int
    bell: BellIndex
    axis: str
    first: tuple[int, Duration]
    second: tuple[int, Duration]


@record
class Estimate:
    """A fidelity with the bounds of its confidence interval."""

    fidelity: float
    low: float
    high: float


@record
class AxisEstimate:
    """A signed correlator at emission with its bounds, all in [-1, 1]."""

    mean: float
    low: float
    high: float


def pattern_of(setting: Setting, clicks: int) -> PatternPrior:
    """Return the prior of this pattern; the least good one where the setting lists it not."""
    for pattern in setting.patterns:
        if pattern.clicks == clicks:
            return pattern
    return min(setting.patterns, key=lambda pattern: pattern.weights[pattern.bell])


def prior_correlators(pattern: PatternPrior) -> tuple[float, float, float]:
    """Return the signed correlators along X, Y, Z that the datasheets predict."""
    x, y, z = (
        sign(pattern.bell, axis)
        * sum((w * sign(b, axis) for b, w in enumerate(pattern.weights)), 0.0)
        for axis in AXES
    )
    return x, y, z


def _divergence(share: float, probability: float) -> float:
    """Return the relative entropy of two Bernoulli laws, in nats; infinite where impossible."""
    total = 0.0
    for one, other in ((share, probability), (1 - share, 1 - probability)):
        if one > 0:
            total += one * math.log(one / other) if other > 0 else math.inf
    return total


def _reach(share: float, count: int, exponent: float, limit: float) -> float:
    """Return the probability towards `limit` that `count` rounds of this mean just allow."""
    near, far = share, limit
    if count * _divergence(share, far) <= exponent:
        return far
    for _ in range(50):
        middle = (near + far) / 2
        if count * _divergence(share, middle) <= exponent:
            near = middle
        else:
            far = middle
    return near


def _test_interval(tally: Tally) -> tuple[float, float]:
    """Return the interval of a correlator from tests alone."""
    count = tally.count
    if count == 0 or tally.gain <= 1e-6 * count:
        return -1.0, 1.0
    share = min(1.0, max(0.0, (1 + tally.total / count) / 2))
    offset, gain = tally.offset / count, tally.gain / count
    low, high = (
        (2 * _reach(share, count, CONFIDENT, limit) - 1 - offset) / gain for limit in (0.0, 1.0)
    )
    return max(-1.0, min(1.0, low)), max(-1.0, min(1.0, high))


def _evidence(tally: Tally, low: float, high: float) -> float:
    """Return the exponent at which the rounds deny that the correlator is in [low, high]."""
    count = tally.count
    if count == 0:
        return 0.0
    share = min(1.0, max(0.0, (1 + tally.total / count) / 2))
    least, most = (
        min(1.0, max(0.0, (1 + (tally.offset + tally.gain * e) / count) / 2)) for e in (low, high)
    )
    return count * _divergence(share, min(most, max(least, share)))


def _pooled(prior: float, sigma: float, tally: Tally) -> float:
    """Return the mean of prior and tests, by pseudo-counts."""
    if tally.count == 0 or tally.gain <= 0:
        return prior
    tested = (tally.total - tally.offset) / tally.gain
    weight = tally.gain * tally.gain / tally.count
    pseudo = UNLIMITED if sigma <= 0 else max(1.0, (1 - prior * prior) / (sigma * sigma))
    return (prior * pseudo + tested * weight) / (pseudo + weight)


def _tested(tally: Tally) -> AxisEstimate:
    """Return what tests alone say."""
    low, high = _test_interval(tally)
    mean = (tally.total - tally.offset) / tally.gain if tally.gain > 0 else 0.0
    return AxisEstimate(min(high, max(low, mean)), low, high)


@lru_cache(maxsize=1024)
def estimate(pattern: PatternPrior, tallies: Tallies) -> tuple[AxisEstimate, ...]:
    """Return the correlators at emission along X, Y, Z from the prior and the tests."""
    sigma = 4 * pattern.spread / 3
    promised, against = [], 0.0
    for prior, tally in zip(prior_correlators(pattern), tallies, strict=True):
        low, high = prior - PRIOR_SIGMAS * sigma, prior + PRIOR_SIGMAS * sigma
        against += _evidence(tally, low, high)
        mean = min(high, max(low, _pooled(prior, sigma, tally)))
        promised.append(AxisEstimate(mean, low, high))
    if against > REFUTING:
        return tuple(_tested(each) for each in tallies)
    return tuple(promised)


def delivered(correlators: tuple[AxisEstimate, ...], shrink: Shrink) -> Estimate:
    """Return the fidelity to the heralded (or corrected) Bell state after `shrink`."""
    factors = (shrink.x, shrink.y, shrink.z)
    pairs = list(zip(factors, correlators, strict=True))
    mean = (1 + sum((f * e.mean for f, e in pairs), 0.0)) / 4
    low = (1 + sum((f * e.low for f, e in pairs), 0.0) - shrink.doubt) / 4
    high = (1 + sum((f * e.high for f, e in pairs), 0.0) + shrink.doubt) / 4
    return Estimate(mean, min(mean, max(0.0, low)), max(mean, min(1.0, high)))


def add_round(parameters: LinkParameters, table: Table, done: Round) -> Tallies:
    """Return the tallies of the round's setting and pattern, with the round added."""
    one, two = parameters.ends
    shrink = waiting((one.model, done.first[1]), (two.model, done.second[1]))
    factor = {"X": shrink.x, "Y": shrink.y, "Z": shrink.z}[done.axis]
    signed = sign(done.bell, done.axis)
    product = (1 - 2 * done.first[0]) * (1 - 2 * done.second[0])
    offset, gain = float(signed), factor
    for end in parameters.ends:
        zero, one_right = end.model.readout
        offset *= zero - one_right
        gain *= zero + one_right - 1
    which = AXES.index(done.axis)
    tallies = list(table.get((done.setting, done.clicks), NO_TALLIES))
    old = tallies[which]
    tallies[which] = Tally(
        old.count + 1, old.total + signed * product, old.offset + offset, old.gain + gain
    )
    return tallies[0], tallies[1], tallies[2]


class FidelityUnit:
    """The settings of a link, judged by a table of test tallies.

    It holds three tables: what this end measured with its peer; what the master announced
    last, by which requests are admitted; and what is agreed for pairs heralded now, which
    follows the announced one when the station confirms the version that brought it.
    """

    __slots__ = ("_chosen", "_known", "agreed", "announced", "measured", "parameters")

    def __init__(self, parameters: LinkParameters) -> None:
        self.parameters = parameters
        self.measured: dict[tuple[str, int], Tallies] = {}
        self.announced: dict[tuple[str, int], Tallies] = {}
        self.agreed: dict[tuple[str, int], Tallies] = {}
        self._known: dict[tuple[Any, ...], tuple[Estimate, Duration]] = {}
        self._chosen: dict[tuple[Any, ...], Setting | None] = {}

    def reset(self) -> None:
        """Forget what was shared with the peer's former life: both ends start from the priors."""
        self.measured, self.announced, self.agreed = {}, {}, {}
        self._known.clear()
        self._chosen.clear()

    def announce(self, setting: str, clicks: int, tallies: Tallies) -> None:
        """From now on requests are admitted by these tallies."""
        self.announced[setting, clicks] = tallies
        self._chosen.clear()

    def agree(self, setting: str, clicks: int, tallies: Tallies) -> None:
        """From now on heralded pairs are judged by these tallies."""
        self.agreed[setting, clicks] = tallies
        self._known.clear()

    def of_pair(self, request: LinkRequest, setting: str, clicks: int) -> tuple[Estimate, Duration]:
        """Return the goodness of a pair that was heralded now, and the age it is stated for.

        From the agreed table; age in ns since emission.
        """
        # All that waiting and correcting depend on: the pairs of many requests are alike.
        free = request.final_bell is None
        key = (request.kind, request.store, free, request.id.origin, setting, clicks)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            goodness = self.goodness(request, setting, clicks, self.agreed)
            known = goodness, age_at_delivery(self.parameters, request)
            self._known[key] = known
        return known

    def add(self, done: Round) -> None:
        """Take a finished test round."""
        key = (done.setting, done.clicks)
        self.measured[key] = add_round(self.parameters, self.measured, done)

    def rounds(self, setting: str, clicks: int) -> int:
        """Return how many test rounds of this setting and pattern were finished here."""
        return sum(t.count for t in self.measured.get((setting, clicks), NO_TALLIES))

    def at_emission(self, setting: str, clicks: int) -> Estimate:
        """Return the fidelity before any waiting, from all rounds that this end knows."""
        pattern = pattern_of(self.parameters.setting(setting), clicks)
        tallies = self.measured.get((setting, clicks), NO_TALLIES)
        return delivered(estimate(pattern, tallies), NO_SHRINK)

    def due(self, setting: str, clicks: int) -> bool:
        """Return whether enough was measured since the last announcement for a new one.

        At a quarter more rounds, and eight at least: the number of announcements grows with
        the logarithm of the number of rounds.
        """
        known = sum(t.count for t in self.announced.get((setting, clicks), NO_TALLIES))
        return self.rounds(setting, clicks) - known >= max(8, known // 4)

    def goodness(self, request: LinkRequest, setting: str, clicks: int, table: Table) -> Estimate:
        """Return the fidelity at delivery of a pair, with the tests of this table."""
        chosen = self.parameters.setting(setting)
        known = table.get((setting, clicks), NO_TALLIES)
        correlators = estimate(pattern_of(chosen, clicks), known)
        return delivered(correlators, until_delivery(self.parameters, request))

    def meets(self, request: LinkRequest, setting: str) -> bool:
        """Return whether every pattern's announced lower bound meets the request."""
        return all(
            self.goodness(request, setting, pattern.clicks, self.announced).low
            >= request.fidelity_min - 1e-12
            for pattern in self.parameters.setting(setting).patterns
        )

    def best_bound(self, request: LinkRequest) -> float:
        """Return the highest lower bound at delivery that any setting can stand for."""
        return max(
            (
                min(
                    self.goodness(request, setting.id, pattern.clicks, self.announced).low
                    for pattern in setting.patterns
                )
                for setting in self.parameters.settings
                if setting.patterns
            ),
            default=0.0,
        )

    def choose(self, request: LinkRequest) -> Setting | None:
        """Return the fastest setting whose lower bound at delivery meets the request."""
        shape = (
            request.kind,
            request.fidelity_min,
            request.store,
            request.final_bell,
            request.id.origin,
        )
        if shape not in self._chosen:
            if len(self._chosen) >= KNOWN_LIMIT:
                self._chosen.clear()
            self._chosen[shape] = self._choose(request)
        return self._chosen[shape]

    def _choose(self, request: LinkRequest) -> Setting | None:
        fit = [
            setting
            for setting in self.parameters.settings
            if setting.patterns and self.meets(request, setting.id)
        ]
        return max(fit, key=lambda setting: setting.success_probability, default=None)

    def pair_ns(self, request: LinkRequest, setting: Setting) -> float:
        """Return the expected time per pair on an idle link, in ns.

        Attempts are limited by the modes of a cycle and, where halves are kept, by how many
        memories can wait for their herald at once.
        """
        parameters = self.parameters
        at_once = float(parameters.modes)
        if request.kind is not PairKind.MEASURE and parameters.ends:
            slots = [
                len(end.communication)
                for end in parameters.ends
                if request.kind is PairKind.KEEP or end.node != request.id.origin
            ]
            at_once = min(at_once, *slots) if slots else at_once
        probability = setting.success_probability * max(at_once, 1e-9)
        return parameters.cycle_ns / max(probability, 1e-18)

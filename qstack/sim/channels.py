"""Fibres, frequency converters, and losses that wander in time.

Losses are in decibel (10 log10), lengths in km, delays in integer nanoseconds. Source of the
fibre's figures (0.2 dB/km, group index 1.468): conventions of the project's validation dossier.
"""

from __future__ import annotations

import math
from functools import lru_cache

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.units import Chance, Duration, Instant

GROUP_VELOCITY = 2.0419e8
"""Speed of light in silica fibre at 1550 nm, metres per second (c / 1.4682)."""


@record
class Fibre:
    """A fibre: `length_km`, `attenuation_db_per_km`, fixed `extra_db` of splices and connectors.

    `velocity` is the group velocity in metres per second.
    """

    length_km: float
    attenuation_db_per_km: float = 0.2
    extra_db: float = 0.0
    velocity: float = GROUP_VELOCITY

    @property
    def loss_db(self) -> float:
        """The total loss."""
        return self.length_km * self.attenuation_db_per_km + self.extra_db

    @property
    def transmission(self) -> float:
        """The probability that a photon which enters also leaves."""
        return transmission(self.loss_db)

    @property
    def delay_ns(self) -> Duration:
        """The one-way delay, rounded to a nanosecond."""
        return round(self.length_km * 1e12 / self.velocity)


@record
class FrequencyConversion:
    """A converter to a wavelength that fibre likes.

    `efficiency` from port to port; `noise_hz`: unwanted photons per second that it adds in the
    wanted band, at its output.
    """

    efficiency: float
    noise_hz: float

    def noise_clicks(self, after: float, window_ps: float) -> float:
        """Return the mean number of noise clicks per window.

        `after` is the efficiency from the converter's output to a click (fibre, detector).
        """
        return self.noise_hz * after * window_ps * 1e-12


def transmission(loss_db: float) -> float:
    """Return the transmission of a loss in decibel."""
    return float(10 ** (-loss_db / 10))


def decibel(transmission: float) -> float:
    """Return the loss in decibel of a transmission in (0, 1]."""
    return -10 * math.log10(transmission)


@record
class LossProcess:
    """A loss that wanders about its mean; a pure function of (seed, instant).

    The loss is normal with `mean_db` and `sigma_db` and its correlation falls as
    ``exp(-|t| / correlation_ns)`` (an Ornstein-Uhlenbeck process), cut at 0 dB. It is defined
    on a grid of knots, each a weighted sum of independent normal numbers that depend on seed and
    knot alone, with straight lines in between: whoever asks, whenever and in what order, gets
    the same.
    """

    mean_db: float
    sigma_db: float
    correlation_ns: Duration
    seed: int | str

    def loss_db(self, now: Instant) -> float:
        """Return the loss at an instant. LocalProtocolError for a correlation time below 8 ns."""
        if not self.sigma_db:
            return max(0.0, self.mean_db)
        spacing = self._spacing()
        knot, rest = divmod(now, spacing)
        share = rest / spacing
        near, far = _wander(self.seed, knot), _wander(self.seed, knot + 1)
        # Between knots the variance of the line would sag; this keeps it at one.
        spread = math.sqrt((1 - share) ** 2 + share**2 + 2 * share * (1 - share) * _MEMORY)
        value = ((1 - share) * near + share * far) / spread
        return max(0.0, self.mean_db + self.sigma_db * value)

    def step(self, now: Instant) -> tuple[float, Instant | None]:
        """Return the loss at the last knot, and the instant of the next (None: no change)."""
        if not self.sigma_db:
            return max(0.0, self.mean_db), None
        spacing = self._spacing()
        begin = now // spacing * spacing
        return self.loss_db(begin), begin + spacing

    def _spacing(self) -> Duration:
        spacing = self.correlation_ns // _KNOTS
        if spacing < 1:
            raise LocalProtocolError(f"correlation_ns = {self.correlation_ns} is below {_KNOTS}")
        return spacing

    def transmission(self, now: Instant) -> float:
        """Return the transmission at an instant."""
        return transmission(self.loss_db(now))


@record
class ArmLosses:
    """The additional losses of a link's two arms, in steps: the law `Loss` of a simulated link.

    Each step holds the value that its arm's process has at the beginning of the step.
    """

    a: LossProcess
    b: LossProcess

    def piece(self, now: Instant) -> tuple[tuple[float, float], Instant | None]:
        """Return both losses in dB at `now`, and when that ends (None: never)."""
        (loss_a, end_a), (loss_b, end_b) = self.a.step(now), self.b.step(now)
        ends = [end for end in (end_a, end_b) if end is not None]
        return (loss_a, loss_b), min(ends, default=None)


_KNOTS = 8
"""Knots per correlation time."""

_MEMORY = math.exp(-1 / _KNOTS)

_TAPS = 20 * _KNOTS
"""Knots of the past that count: what is older has a weight below exp(-20)."""


@lru_cache(maxsize=65536)
def _shock(seed: int | str, knot: int) -> float:
    return Chance(f"loss/{seed}/{knot}").gauss(0.0, 1.0)


@lru_cache(maxsize=8192)
def _wander(seed: int | str, knot: int) -> float:
    """The stationary first-order autoregression at a knot, of variance one."""
    total = 0.0
    for age in range(_TAPS, -1, -1):
        total = total * _MEMORY + _shock(seed, knot - age)
    return total * math.sqrt(1 - _MEMORY**2)

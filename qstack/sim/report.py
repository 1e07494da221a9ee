"""What a run for pairs came to, for people who hold it in their hands."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qstack.machine import record
from qstack.programs.figures import quantiles
from qstack.programs.pairs import PairRecord, PairsReport
from qstack.programs.tomography import AXES
from qstack.units import Duration, NodeName

_SHOWN = (0.5, 0.9, 0.99)


@record
class Durations:
    """Spans of lab time in nanoseconds, in the order in which they came about."""

    values: tuple[Duration, ...]

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Duration]:
        return iter(self.values)

    def quantile(self, share: float) -> Duration:
        """Return the least span that this share of all does not exceed; ValueError without any."""
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share of {share} is not from 0 to 1")
        if not self.values:
            raise ValueError("there are no spans to take a quantile of")
        return quantiles(list(self.values), (share,))[0]

    @property
    def mean(self) -> float:
        """The mean in nanoseconds; not a number without any."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    def __str__(self) -> str:
        shown = ", ".join(f"{value / 1e6:.3f}" for value in quantiles(list(self.values), _SHOWN))
        return f"{shown or '-'} ms ({', '.join(f'p{round(100 * q)}' for q in _SHOWN)})"


@record
class Report:
    """Measured against predicted; see :class:`qstack.programs.pairs.PairsReport` (`found`).

    `a` asked, `b` is the other end. `error` is empty where all pairs came.
    """

    a: NodeName
    b: NodeName
    found: PairsReport

    @property
    def rate_per_s(self) -> float | None:
        """Pairs per second of lab time, the first not counted; None with fewer than two."""
        return self.found.rate_hz

    @property
    def fidelity(self) -> float | None:
        """Measured fidelity, errors of the readouts undone; None where too little was measured."""
        return self.found.fidelity

    @property
    def fidelity_error(self) -> float | None:
        """Its standard error."""
        return self.found.fidelity_error

    @property
    def predicted_fidelity(self) -> float | None:
        """Mean of what the link stood for at each delivery."""
        return self.found.predicted_fidelity

    @property
    def latency_ns(self) -> Durations:
        """From a request to each of its OKs, at `a`."""
        return Durations(self.found.latencies)

    @property
    def interval_ns(self) -> Durations:
        """From each OK to the next, at `a`."""
        return Durations(self.found.intervals)

    @property
    def records(self) -> tuple[PairRecord, ...]:
        """Every pair of which both ends have reported and which is not void."""
        return self.found.records

    @property
    def elapsed_ns(self) -> Duration:
        """How long the run took, in lab time."""
        return self.found.elapsed_ns

    @property
    def error(self) -> str:
        """What ended the run early; empty where all pairs came."""
        return self.found.error

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        fidelity = _number(self.fidelity, "{:.4f}")
        rate = _number(self.rate_per_s, "{:,.1f}")
        text = f"<Report {self.a} - {self.b}: {len(self)} pairs, fidelity {fidelity}, {rate} per s"
        return f"{text}, {self.error}>" if self.error else f"{text}>"

    def __str__(self) -> str:
        found = self.found
        fidelity = _number(self.fidelity, "{:.4f}")
        if self.fidelity_error is not None:
            fidelity += f" ± {self.fidelity_error:.4f} ({found.used} pairs used)"
        heralded = ", ".join(f"{name} {count}" for name, count in found.bells if count)
        kept = zip(AXES, found.correlators, strict=True)
        axes = ", ".join(f"{axis}{axis} {_number(value, '{:+.4f}')}" for axis, value in kept)
        rows = [
            ("pairs", f"{len(self)} of {found.wanted}, {found.expired} expired"),
            ("links from end to end", ", ".join(str(hops) for hops, _ in found.hops) or "-"),
            ("heralded states", heralded or "-"),
            ("fidelity", fidelity),
            ("  predicted", _number(self.predicted_fidelity, "{:.4f}")),
            ("  promised by the route", _number(found.promised_fidelity, "{:.4f}")),
            ("  correlators, as of Phi+", axes),
            ("pairs per second", _number(self.rate_per_s, "{:,.1f}")),
            ("  predicted, at most", _number(found.predicted_rate_hz, "{:,.1f}")),
            ("request to OK", str(self.latency_ns)),
            ("OK to OK", str(self.interval_ns)),
            ("lab time", f"{self.elapsed_ns / 1e9:.6f} s"),
        ]
        if found.oldest_ns:
            shown = ", ".join(f"{value / 1e6:.3f}" for value in found.oldest_ns)
            rows.append(("oldest pair of a set", f"{shown} ms (p50, p90, p99)"))
        if self.error:
            rows.append(("ended by", self.error))
        lines = [f"{name:<26}{value}" for name, value in rows]
        return "\n".join([f"{self.a} - {self.b}", *lines])


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)

"""Which pairs were handed over, for as long as they may still expire."""

from __future__ import annotations

from qstack.machine import record
from qstack.messages.common import PairId
from qstack.units import Duration, Instant


@record
class Report:
    """A pair that was handed over, all pairs that it is made of, and until when it may expire."""

    pair: PairId
    names: tuple[PairId, ...]
    until: Instant


class Reports:
    """The reports of one distillery, by each of the pairs that they are made of."""

    __slots__ = ("_horizon_ns", "_reports")

    def __init__(self, horizon_ns: Duration) -> None:
        self._horizon_ns = horizon_ns
        self._reports: dict[PairId, Report] = {}

    def __bool__(self) -> bool:
        return bool(self._reports)

    def __contains__(self, pair: PairId) -> bool:
        return pair in self._reports

    @property
    def deadline(self) -> Instant | None:
        """The instant at which the oldest report can be forgotten."""
        return next((report.until + 1 for report in self._reports.values()), None)

    def add(self, pair: PairId, names: tuple[PairId, ...], now: Instant) -> None:
        """Remember what is handed over now."""
        report = Report(pair, names, now + self._horizon_ns)
        for name in names:
            self._reports[name] = report

    def take(self, pair: PairId) -> Report | None:
        """Return the report that this pair is part of, and forget it."""
        report = self._reports.get(pair)
        if report is not None:
            for name in report.names:
                del self._reports[name]
        return report

    def all(self) -> tuple[Report, ...]:
        """All reports, in the order of the hand-overs."""
        return tuple(dict.fromkeys(self._reports.values()))

    def forget(self, now: Instant) -> None:
        """Forget the reports that cannot expire any more."""
        while (due := self.deadline) is not None and due <= now:
            self.take(next(iter(self._reports)))

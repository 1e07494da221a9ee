"""What a station tells its analyser, and whether that can work."""

from __future__ import annotations

from qstack.machine import Device
from qstack.messages.devices import DeviceState, DeviceStatus, StationClock, StationOpen
from qstack.physical.service import LinkParameters, Setting
from qstack.units import Duration, Instant

STANDING_CYCLES = 1 << 32
"""How many cycles one opening lasts; then it is renewed."""


class Health:
    """Whether the analyser of a link can work. `patience_ns`: of the first rest after a fault."""

    __slots__ = ("_failures", "_fault", "_patience_ns", "_trouble", "retry_at")

    def __init__(self, patience_ns: Duration) -> None:
        self._patience_ns = patience_ns
        self._trouble = ""
        self._fault = ""
        self._failures = 0
        self.retry_at: Instant | None = None

    @property
    def reason(self) -> str:
        """Why it cannot; empty where it can."""
        return self._trouble or self._fault

    def works(self) -> None:
        """What it was told last it did."""
        self._failures = 0

    def failed(self, reason: str, now: Instant) -> None:
        """A command failed: rest for a while, longer each time."""
        self._fault = reason or "the analyser failed"
        self.retry_at = now + (self._patience_ns << min(self._failures, 6))
        self._failures += 1

    def told(self, event: DeviceState) -> bool:
        """Take what it says of itself; return whether it is gone, and its commands with it."""
        if event.status in (DeviceStatus.READY, DeviceStatus.DEGRADED):
            self._trouble = self._fault = ""
            self.retry_at, self._failures = None, 0
            return False
        self._trouble = event.reason or f"the analyser is {event.status.name.lower()}"
        return event.status is DeviceStatus.OFFLINE

    def tick(self, now: Instant) -> None:
        """Let a rest end."""
        if self.retry_at is not None and self.retry_at <= now:
            self.retry_at, self._fault = None, ""


def clock_command(parameters: LinkParameters, command: int) -> Device:
    """Begin cycle 0 of the link now."""
    name = parameters.analyser
    clock = StationClock(name, command, parameters.name, parameters.cycle_ns)
    return Device(name, clock)


def open_command(
    parameters: LinkParameters, setting: Setting, where: tuple[int, int, int], failures: bool
) -> Device:
    """Open the analyser, standing; `where` is (command, first cycle, number of cycles)."""
    command, first_cycle, cycles = where
    name = parameters.analyser
    opening = StationOpen(
        name,
        command,
        parameters.name,
        setting.station_values,
        first_cycle,
        cycles,
        parameters.modes,
        setting.window_ps,
        failures,
    )
    return Device(name, opening)

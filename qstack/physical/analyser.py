"""What a station tells its analyser."""

from __future__ import annotations

from qstack.machine import Device
from qstack.messages.devices import StationClock, StationOpen
from qstack.physical.service import LinkParameters, Setting

STANDING_CYCLES = 1 << 32
"""How many cycles one opening lasts; then it is renewed."""


def clock_command(parameters: LinkParameters, command: int) -> Device:
    """Begin cycle 0 of the link now."""
    name = parameters.analyser
    clock = StationClock(name, command, parameters.name, parameters.cycle_ns)
    return Device(name, clock)


def open_command(
    parameters: LinkParameters, setting: Setting, where: tuple[int, int], failures: bool
) -> Device:
    """Open the analyser, standing; `where` is (command, first cycle)."""
    command, first_cycle = where
    name = parameters.analyser
    opening = StationOpen(
        name,
        command,
        parameters.name,
        setting.station_values,
        first_cycle,
        STANDING_CYCLES,
        parameters.modes,
        setting.window_ps,
        failures,
    )
    return Device(name, opening)

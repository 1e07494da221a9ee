"""Every setting of every shipped network: what the stack predicts is what the world gives.

Predictions are closed forms over datasheets (qstack.link); the world draws from mode algebra. A
run is 2,000 pairs on each of three axes; success probability and fidelity are compared at 4
standard errors (false alarm 6e-5 each, 20 comparisons), seeds fixed.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, cast

import attrs
import pytest

from qstack.bell import sign
from qstack.config import NetworkFile, link_parameters, load
from qstack.hal.plugins import Plugin
from qstack.messages.common import Basis
from qstack.messages.devices import (
    EmitterMeasure,
    EmitterOutcome,
    StationClicks,
    StationClock,
    StationOpen,
)
from qstack.physical.service import LinkParameters, Setting
from qstack.sim import Network
from qstack.sim import devices as simulated
from qstack.sim.devices import MemoryParameters
from qstack.sim.from_file import world_parameters
from qstack.sim.world import WorldDevice, WorldParameters
from tests.sim.worlds import LONG, XY_PLAN, Driver

SETTINGS = [
    ("ions_230m", "wide"),
    ("ions_230m", "medium"),
    ("ions_230m", "narrow"),
    ("nv_lab", "fast"),
    ("nv_lab", "fine"),
    ("source_in_the_middle", "clean"),
    ("source_in_the_middle", "bright"),
    ("two_nodes", "fast"),
    ("two_nodes", "fair"),
    ("two_nodes", "fine"),
]
PAIRS = 2_000


def find(group: str, name: str) -> Plugin:
    return {plugin.name: plugin for plugin in simulated.PLUGINS[group]}[name]


def shipped(name: str) -> NetworkFile:
    return load(name, find=find)


def with_perfect_readout(world: WorldParameters) -> WorldParameters:
    """The same world with memories that are read without error: their error is not the link's."""
    devices = []
    for name, device in world.devices:
        parameters = device.parameters
        if isinstance(parameters, MemoryParameters):
            parameters = attrs.evolve(cast(Any, parameters), readout=(1.0, 1.0))
        devices.append((name, WorldDevice(device.owner, parameters)))
    return WorldParameters(tuple(devices), world.links)


def run(
    driver: Driver, link: LinkParameters, setting: Setting, axis: Basis
) -> tuple[int, list[tuple[int, int]]]:
    """Measure PAIRS pairs along an axis; returns the attempts and (Bell index, parity) each."""
    begun = driver.world.attempted(link.name)
    driver.seen.clear()
    driver.send(StationClock, link.analyser, link.name, link.cycle_ns)
    window = (0, LONG, 1, setting.window_ps, False)
    driver.send(StationOpen, link.analyser, link.name, setting.station_values, *window)
    for end in link.ends:
        values = setting.values_of(end.node)
        rest = (link.name, values, XY_PLAN[axis], PAIRS, 0, False, LONG)
        driver.send(EmitterMeasure, end.emitter, *rest)
    outcomes: dict[int, int] = {}
    for event in driver.wait_for(EmitterOutcome, 2 * PAIRS):
        outcomes[event.cycle] = outcomes.get(event.cycle, 0) ^ event.outcome
    bells = {prior.clicks: prior.bell for prior in setting.patterns}
    heralds = {event.cycle: bells[event.clicks] for event in driver.of(StationClicks)}
    found = [(heralds[cycle], parity) for cycle, parity in outcomes.items()]
    return driver.world.attempted(link.name) - begun, found


def test_these_are_all_settings_of_all_shipped_networks() -> None:
    found = []
    for name in sorted({name for name, _ in SETTINGS}):
        network = shipped(name)
        for link in network.links:
            found += [(name, setting.id) for setting in link.settings]
    assert sorted(found) == sorted(SETTINGS)


@pytest.mark.parametrize(("name", "setting_id"), SETTINGS)
def test_rate_and_fidelity_in_the_world_are_the_predicted_ones(name: str, setting_id: str) -> None:
    network = shipped(name)
    link = link_parameters(network, network.links[0].name)
    setting = next(each for each in link.settings if each.id == setting_id)
    driver = Driver(with_perfect_readout(world_parameters(network)), seed=61)
    attempts, total, variance = 0, 1.0, 0.0
    for axis in (Basis.X, Basis.Y, Basis.Z):
        tried, found = run(driver, link, setting, axis)
        attempts += tried
        assert len(found) == PAIRS
        mean = sum(sign(bell, axis.name) * (-1) ** parity for bell, parity in found) / PAIRS
        total += mean
        variance += (1 - mean**2) / PAIRS
    predicted = setting.success_probability
    error = sqrt((1 - predicted) / (3 * PAIRS))
    assert abs(3 * PAIRS / attempts / predicted - 1) < 4 * error
    shares = [(prior.share, prior.weights[prior.bell]) for prior in setting.patterns]
    fidelity = sum(share * good for share, good in shares) / predicted
    assert abs(total / 4 - fidelity) < 4 * sqrt(variance) / 4


def test_weighted_fair_links_cost_a_lone_circuit_nothing_beside_first_come_ones() -> None:
    """Counted in steps of machines, and in lab time: to a circuit its requests are one flow."""
    found = []
    for scheduler in ("first-come", "weighted-fair"):
        network = Network.load("chain3", seed=2, changes={"links.*.scheduler": scheduler})
        before = network.virtual.heap.steps
        network.pairs("alice", "bob", count=60)
        found.append((network.virtual.heap.steps - before, network.now))
    assert found[0] == found[1]

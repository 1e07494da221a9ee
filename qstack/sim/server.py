"""The process of the simulated world: the server of every simulated device of a network."""

from __future__ import annotations

from qstack.config import NetworkFile
from qstack.drivers.places import (
    WORLD,
    Process,
    device_process,
    identity_of,
    neighbours_of,
    node_of,
    role_of,
)
from qstack.errors import ConfigError
from qstack.sim.from_file import world_parameters
from qstack.sim.world import World
from qstack.stack import DeviceHost
from qstack.units import Chance


def world_host(network: NetworkFile, seed: int) -> DeviceHost:
    """Return the machine of the world's process.

    `seed` is that of this life (boot id); what the world draws comes from the network file's.
    """
    if network.world is None:
        raise ConfigError([f"{network.file}: world: there is none in this network"])
    identity = identity_of(network, WORLD, "world", Chance(seed))
    owners = tuple(
        (name, role_of(node_of(network, name))) for name in sorted(neighbours_of(network, WORLD))
    )
    truth = World(world_parameters(network), Chance(network.world.seed).fork("world"))
    return DeviceHost(identity, owners, truth)


def world_process(network: NetworkFile, seed: int, text: str) -> Process:
    """Return the world's process, its port open. Raises ConfigError and PortUnavailable."""
    return device_process(network, world_host(network, seed), seed, text)

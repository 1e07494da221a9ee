"""One process of a network, for one testbed machine: ``qstack node NETWORK NAME``."""

from __future__ import annotations

from qstack.config import load
from qstack.drivers.places import WORLD, Process, network_text, node_process
from qstack.drivers.serving import Serving, run
from qstack_nodes.host import become_host


def run_process(network_name: str, name: str, serving: Serving) -> int:
    """Serve one node, station or world of a network until told to stop; return the exit code.

    A device host is somebody else's program: this process becomes it, and never returns. Raises
    ConfigError for a wrong network file or name.
    """
    network = load(network_name)
    if any(host.name == name for host in network.hosts):
        return become_host(network, network_name, name)
    text = network_text(network_name)

    def make(seed: int) -> Process:
        if name == WORLD and network.world is not None:
            # Only a network with simulated devices needs the simulated world.
            from qstack.sim.server import world_process  # noqa: PLC0415  heavy, and for it alone

            return world_process(network, seed, text)
        return node_process(network, name, seed, text)

    return run(make, serving)

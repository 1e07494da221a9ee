"""``qstack sim``: the verbs of a live network on one in virtual time, in this process."""

from __future__ import annotations

import sys
from typing import Any

from qstack.config import load
from qstack.machine import record
from qstack.sim.clock import Stalled
from qstack.sim.embedding import Network, Wanted
from qstack_nodes.asking import PairsArguments, conclude, watcher
from qstack_nodes.command import FAILED
from qstack_nodes.draining import DrainArguments, Place, conclude_drain, places_of, runs
from qstack_nodes.trying import conclude_try
from qstack_nodes.viewing import Viewing, names_of, show


@record
class Loading:
    """Which network, of which seed (None: that of the file's world), and what of it drains."""

    network: str
    seed: int | None = None
    drained: tuple[str, ...] = ()

    def load(self) -> Network:
        """Return it when all its nodes have found each other, and have heard of what drains."""
        network = Network(load(self.network), self.seed)
        for place in places_of(network.file, self.drained):
            network.drain(place.node, place.link)
        return network


def sim_view(loading: Loading, viewing: Viewing) -> int:
    """Show a view of a network in virtual time that has just been loaded."""
    network = loading.load()
    return show({name: network.status(name) for name in names_of(network.file, viewing)}, viewing)


def sim_drain(arguments: DrainArguments, loading: Loading) -> int:
    """Drain nodes and links of a network in virtual time, or take it back; return the exit code.

    What is printed is that of ``qstack drain``. Nothing runs in a network that has just been
    loaded, so there is nothing to wait for.
    """
    network = loading.load()
    found: dict[Place, dict[str, Any]] = {}
    for place in places_of(network.file, arguments.names):
        network.drain(place.node, place.link, undo=arguments.undo)
        status = network.status(place.node)
        drains = status["network"]["draining"]
        said = drains["node"] if place.link is None else place.link in drains["links"]
        found[place] = {"draining": said, "runs": runs(status, place.link)}
    return conclude_drain(found, arguments)


def sim_pairs(arguments: PairsArguments, loading: Loading) -> int:
    """Deliver and measure pairs in virtual time; print the report; return the exit code.

    The program, the report and the codes are those of ``qstack pairs``.
    """
    network = loading.load()
    try:
        with watcher(arguments) as on_pair:
            found = network.measure(arguments.a, arguments.b, wanted_of(arguments), on_pair)
    except Stalled as stalled:
        print(f"qstack: {stalled}", file=sys.stderr)
        return FAILED
    return conclude(found, arguments)


def sim_dry_run(arguments: PairsArguments, loading: Loading) -> int:
    """See whether and how a request would be served; return the exit code."""
    network = loading.load()
    found = network.try_pairs(arguments.a, arguments.b, wanted_of(arguments))
    return conclude_try(found, arguments)


def wanted_of(arguments: PairsArguments) -> Wanted:
    """Return the same for a network in virtual time."""
    return Wanted(
        count=arguments.count,
        kind=arguments.kind,
        fidelity_min=arguments.fidelity_min,
        timeout_s=arguments.timeout_s,
        per_request=arguments.per_request,
        trust_min=arguments.trust_min,
        within_s=arguments.within_s,
        early=arguments.early,
    )

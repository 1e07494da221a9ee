"""``qstack sim``: the verbs of a live network on one in virtual time, in this process."""

from __future__ import annotations

import sys

from qstack.config import load
from qstack.sim.clock import Stalled
from qstack.sim.embedding import Network, Wanted
from qstack_nodes.asking import PairsArguments, conclude, watcher
from qstack_nodes.command import FAILED
from qstack_nodes.trying import conclude_try
from qstack_nodes.viewing import Viewing, names_of, show


def sim_view(network_name: str, seed: int | None, viewing: Viewing) -> int:
    """Show a view of a network in virtual time as soon as all its nodes have found each other."""
    network = Network(load(network_name), seed)
    return show({name: network.status(name) for name in names_of(network.file, viewing)}, viewing)


def sim_pairs(arguments: PairsArguments, seed: int | None) -> int:
    """Deliver and measure pairs in virtual time; print the report; return the exit code.

    The program, the report and the codes are those of ``qstack pairs``. `seed`: None for that of
    the file's world.
    """
    network = Network(load(arguments.network), seed)
    try:
        with watcher(arguments) as on_pair:
            found = network.measure(arguments.a, arguments.b, wanted_of(arguments), on_pair)
    except Stalled as stalled:
        print(f"qstack: {stalled}", file=sys.stderr)
        return FAILED
    return conclude(found, arguments)


def sim_dry_run(arguments: PairsArguments, seed: int | None) -> int:
    """See whether and how a request would be served; return the exit code."""
    network = Network(load(arguments.network), seed)
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
    )

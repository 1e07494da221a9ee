"""``python -m qstack.sim NETWORK``: the process of the simulated world."""

from __future__ import annotations

import argparse
import sys

from qstack.config import load
from qstack.drivers.places import Process, network_text
from qstack.drivers.serving import USAGE, Serving, run
from qstack.errors import ConfigError
from qstack.sim.server import world_process


def main(arguments: list[str] | None = None) -> int:
    """Serve the world of a network until told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m qstack.sim", description=__doc__)
    parser.add_argument("network", help="a network file, or the bare name of a shipped one")
    parser.add_argument("--watched", action="store_true", help="end when standard input closes")
    parser.add_argument("--traces", metavar="FOLDER", help="write a trace into this folder")
    parser.add_argument("--seed", type=int, help="of this life of the process")
    parser.add_argument("--verbose", action="store_true", help="write notes to standard error")
    given = parser.parse_args(arguments)
    try:
        network = load(given.network)
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return USAGE
    text = network_text(given.network)

    def make(seed: int) -> Process:
        return world_process(network, seed, text)

    return run(make, Serving(given.watched, given.traces, given.seed, given.verbose))


if __name__ == "__main__":
    sys.exit(main())

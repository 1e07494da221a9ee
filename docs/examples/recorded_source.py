"""A source in the middle, from recorded time tags: the process that serves it to a live network.

Two recordings, one of each end, play from the first request on. The process finds the delay between
them and gives each coincidence to both nodes as a measured pair:

    python recorded_source.py --network recorded_source.toml --name correlator \\
        --first tags.npz:a --second tags.npz:b

The ends are in the alphabetical order of their nodes. `FILE:ARRAY` names an array of times in
an archive of numpy, float seconds or integer picoseconds, with one time base for both. For
real taggers put their machines in the place of `replay.detector`.
"""

from __future__ import annotations

import argparse
import sys

from qstack.config import NetworkFile, load
from qstack.drivers.laboratory import Laboratory, host_process, wanted_of
from qstack.drivers.places import Process, network_text
from qstack.drivers.serving import USAGE, Serving, run
from qstack.errors import ConfigError
from qstack.hal.coincidence import Scan
from qstack.hal.pair_analyser import Correlation, PairAnalyser
from qstack.hal.receivers import Channel
from qstack.hal.replay import ReplayParameters, build
from qstack.machine import Machine
from qstack.messages.common import Basis

LEAD_PS = 100_000_000_000
"""The records begin so long after their origin: both ends measure by then."""


def tagger(name: str, record: str, channel: int, origin_ps: int) -> tuple[str, Machine]:
    """Return a tagger that plays this array."""
    file, _, array = record.rpartition(":")
    played = ReplayParameters(file, array=array, channel=channel, origin_ps=origin_ps)
    return name, build(name, played)


def laboratory_of(network: NetworkFile, given: argparse.Namespace) -> Laboratory:
    """Return the analyser and both receivers that the network file leaves to this host."""
    wanted = wanted_of(network, given.name)
    (station,) = (each for each in wanted if each.role == "analyser")
    ends = sorted(each.device for each in wanted if each.role == "detectors")
    if len(ends) != 2:
        raise ConfigError([f"{network.file}: hosts.{given.name}: {len(ends)} receivers, not two"])
    origin = round(given.origin_s * 1e12) - LEAD_PS
    first, second = (
        tagger(f"{name}.tagger", record, channel, origin)
        for channel, (name, record) in enumerate(
            zip(ends, (given.first, given.second), strict=True)
        )
    )
    # One detector at each end, and no analyser before it: each click is a 0 along Z.
    detectors = tuple(Channel(channel, Basis.Z, 0) for channel in range(2))
    scan = Scan(round(given.range_ns * 1_000), round(given.resolution_ns * 1_000))
    analyser = PairAnalyser(
        station.device,
        ((ends[0], detectors), (ends[1], detectors)),
        (first, second),
        Correlation(given.learn, round(given.lean_ns * 1_000), scan),
    )
    return Laboratory({each.name: each for each in (analyser, *analyser.receivers)})


def arguments() -> argparse.ArgumentParser:
    """Return the command line of this example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", required=True, help="the network file")
    parser.add_argument("--name", required=True, help="of this process in the network file")
    parser.add_argument("--first", required=True, metavar="FILE:ARRAY", help="tags of one end")
    parser.add_argument("--second", required=True, metavar="FILE:ARRAY", help="of the other end")
    parser.add_argument("--origin-s", type=float, default=0.0, help="first time of the records")
    parser.add_argument("--learn", type=int, default=1_000, help="tags before the first scan")
    parser.add_argument("--range-ns", type=float, default=1e6, help="largest delay looked for")
    parser.add_argument("--resolution-ns", type=float, default=10.0, help="of the delay")
    parser.add_argument("--lean-ns", type=float, default=0.0, help="from the peak to the window")
    parser.add_argument("--watched", action="store_true", help="end when standard input closes")
    return parser


def main() -> int:
    """Serve until told to stop; return the exit code."""
    given = arguments().parse_args()
    try:
        network = load(given.network)
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return USAGE
    text = network_text(given.network)

    def make(seed: int) -> Process:
        return host_process(network, given.name, laboratory_of(network, given), seed, text)

    return run(make, Serving(watched=given.watched))


if __name__ == "__main__":
    sys.exit(main())

"""The `qstack` command: verbs and arguments.

Nothing heavy is imported before a verb runs, so that help is instant. Exit codes: 0 done, 1 the
work failed, 2 bad usage or configuration, 3 the network could not be reached.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from qstack_nodes.arguments import (
    drain_arguments,
    names,
    pairs_arguments,
    pairs_complaint,
    positive,
    seed,
)
from qstack_nodes.guarding import DONE, FAILED, UNREACHABLE, USAGE, UsageError, guarded

__all__ = ["DONE", "FAILED", "UNREACHABLE", "USAGE", "main", "parser"]

T = TypeVar("T")

NETWORK_HELP = "a network file, or the bare name of a shipped one"
LIVE_HELP = (
    f"{NETWORK_HELP}; without it the network of QSTACK_NETWORK, which `qstack up` sets for its "
    "command, or else the only one that is up on this machine"
)
EPILOG = "Exit codes: 0 done, 1 the work failed, 2 bad usage or configuration, 3 unreachable."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. Ends in SystemExit for bad usage and for help."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Cut here: argparse would take options of the verb that follow NETWORK for the command's.
    end = words.index("--") if "--" in words else len(words)
    top = parser()
    given = top.parse_args(words[:end])
    given.command = tuple(words[end + 1 :])
    if given.command and given.verb_function is not _up:
        top.error("only `qstack up` takes a command after --")
    complaint = pairs_complaint(given) if hasattr(given, "early") else ""
    if complaint:
        top.error(complaint)
    return guarded(given.verb_function, given)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="qstack",
        description="Run quantum networks: live processes, or virtual time.",
        epilog=EPILOG,
    )
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    adders = (_add_up, _add_node, _add_pairs, _add_views, _add_drain, _add_sim, _add_sweep)
    for add in (*adders, _add_link, _add_check, _add_trace, _add_topology):
        add(verbs)
    return top


def _verb(
    verbs: Any, name: str, function: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=EPILOG
    )
    made.set_defaults(verb_function=function)
    return made


def _add_up(verbs: Any) -> None:
    verb = _verb(verbs, "up", _up, "start every process of a network on this machine")
    verb.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    verb.add_argument("--json", action="store_true", help="one JSON object per line")
    verb.add_argument("--traces", metavar="FOLDER", help="write a trace of every process")
    verb.add_argument("--verbose", action="store_true", help="show what the processes note")
    verb.add_argument("--only", metavar="NAMES", help="start these alone, as alice,bob,world")
    verb.usage = (
        "qstack up [--json] [--traces FOLDER] [--verbose] [--only NAMES] NETWORK [-- COMMAND ...]"
    )
    verb.description = (
        f"{verb.description}"
        " With a COMMAND, run it against the live network, stop everything, and return its code."
    )


def _add_node(verbs: Any) -> None:
    verb = _verb(verbs, "node", _node, "start one process of a network on this machine")
    verb.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    verb.add_argument("name", metavar="NAME", help="a node, station or device host of it, or world")
    verb.add_argument("--traces", metavar="FOLDER", help="write a trace into this folder")
    verb.add_argument("--seed", type=int, help="of this life of the process; default: random")
    verb.add_argument("--watched", action="store_true", help="end when standard input closes")
    verb.add_argument("--verbose", action="store_true", help="write notes to standard error")


VIEWS = {
    "status": "show what the network knows and has counted",
    "routes": "show the ways that every node knows, and what nodes say of their links",
    "circuits": "show the circuits that nodes take part in, and the requests on them",
}
DRAIN_HELP = "let nodes or links finish what runs and take nothing new, for maintenance"
PAIRS_HELP = "deliver pairs between two nodes, measure them, compare with the prediction"


def _add_pairs(verbs: Any) -> None:
    verb = _verb(verbs, "pairs", _pairs, PAIRS_HELP)
    pairs_arguments(verb)
    verb.add_argument("--network", metavar="NETWORK", help=LIVE_HELP)


def _add_sim(verbs: Any) -> None:
    verb = _verb(verbs, "sim", _sim_view, "run a network in virtual time, in one process")
    verb.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    verb.add_argument(
        "--seed", type=seed, metavar="S", help="what all chance follows from; default: the file's"
    )
    verb.add_argument(
        "--drained", type=names, default=(), metavar="NAMES", help="drain these first, as r1,r1-bob"
    )
    inner = verb.add_subparsers(title="verbs", metavar="VERB", required=True)
    pairs_arguments(_verb(inner, "pairs", _sim_pairs, PAIRS_HELP))
    drain_arguments(_verb(inner, "drain", _sim_drain, DRAIN_HELP))
    for name, summary in VIEWS.items():
        _view_arguments(_verb(inner, name, _sim_view, summary), name)


def _add_sweep(verbs: Any) -> None:
    summary = "run a grid of parameters times seeds in virtual time, on all cores or a cluster"
    verb = _verb(verbs, "sweep", _sweep, summary)
    verb.add_argument("file", metavar="FILE", help="a sweep file; how to write one: docs/how-to")
    verb.add_argument(
        "--out", metavar="FOLDER", help="where results go; default: FILE without its ending"
    )
    verb.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a dask cluster, as tcp://host:8786"
    )
    verb.add_argument(
        "--workers", type=positive, metavar="N", help="processes here; default: one for each core"
    )
    verb.add_argument("--no-plot", action="store_true", help="results and tables only")
    verb.add_argument("--json", action="store_true", help="one JSON object per point, then summary")


def _add_views(verbs: Any) -> None:
    for name, summary in VIEWS.items():
        verb = _verb(verbs, name, _view, summary)
        _view_arguments(verb, name)
        verb.add_argument("--network", metavar="NETWORK", help=LIVE_HELP)


def _view_arguments(verb: argparse.ArgumentParser, name: str) -> None:
    verb.add_argument("nodes", metavar="NODE", nargs="*", help="only these; default: all")
    verb.add_argument("--json", action="store_true", help="one JSON object per node, then summary")
    verb.set_defaults(view=name)


def _add_drain(verbs: Any) -> None:
    verb = _verb(verbs, "drain", _drain, DRAIN_HELP)
    drain_arguments(verb)
    verb.add_argument("--network", metavar="NETWORK", help=LIVE_HELP)


def _add_link(verbs: Any) -> None:
    verb = _verb(verbs, "link", _link, "show what a link's hardware comes to")
    verb.add_argument("a", metavar="A")
    verb.add_argument("b", metavar="B")
    verb.add_argument(
        "--budget", action="store_true", required=True, help="decibel by decibel to rate, fidelity"
    )
    verb.add_argument("--json", action="store_true", help="one JSON object per link, then summary")
    verb.add_argument("--network", metavar="NETWORK", help=LIVE_HELP)


def _add_check(verbs: Any) -> None:
    summary = "find every error of a network file, ports in use, peers out of reach"
    verb = _verb(verbs, "check", _check, summary)
    verb.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    verb.add_argument("--json", action="store_true", help="one JSON object per process")


def _add_trace(verbs: Any) -> None:
    verb = _verb(verbs, "trace", _trace, "print a trace, one line for each record and frame")
    verb.add_argument("file", metavar="FILE")
    verb.add_argument("--grep", metavar="TEXT", help="only records that contain this text")
    verb.add_argument("--ticks", action="store_true", help="ticks and ends of batches too")
    verb = _verb(verbs, "replay", _replay, "step a process again with what its trace recorded")
    verb.add_argument("file", metavar="FILE")


def _add_topology(verbs: Any) -> None:
    from qstack_nodes.shaping import add_kinds  # noqa: PLC0415  read by this verb alone

    verb = _verb(verbs, "topology", _topology, "write the network file of a chain, ring, grid ...")
    add_kinds(verb, _topology)


# --- verbs --------------------------------------------------------------------------------


def _up(given: argparse.Namespace) -> int:
    from qstack_nodes.running import UpOptions, up  # noqa: PLC0415  help must stay instant

    only = () if given.only is None else tuple(given.only.split(","))
    return up(
        UpOptions(
            network=given.network,
            command=given.command,
            json=given.json,
            traces=given.traces,
            verbose=given.verbose,
            only=only,
        )
    )


def _node(given: argparse.Namespace) -> int:
    from qstack.drivers.serving import Serving  # noqa: PLC0415  help must stay instant
    from qstack_nodes.process import run_process  # noqa: PLC0415  help must stay instant

    serving = Serving(given.watched, given.traces, given.seed, given.verbose)
    return run_process(given.network, given.name, serving)


def _pairs(given: argparse.Namespace) -> int:
    from qstack_nodes.asking import PairsArguments, pairs  # noqa: PLC0415  help stays instant

    arguments = _wanted(given, PairsArguments, _network(given))
    if given.dry_run:
        from qstack_nodes.trying import dry_run  # noqa: PLC0415  help must stay instant

        return dry_run(arguments)
    return pairs(arguments)


def _sim_pairs(given: argparse.Namespace) -> int:
    from qstack_nodes.asking import PairsArguments  # noqa: PLC0415  help must stay instant
    from qstack_nodes.simulating import Loading, sim_dry_run, sim_pairs  # noqa: PLC0415  as above

    arguments = _wanted(given, PairsArguments, given.network)
    loading = Loading(given.network, given.seed, given.drained)
    return (sim_dry_run if given.dry_run else sim_pairs)(arguments, loading)


def _wanted(given: argparse.Namespace, arguments: Callable[..., T], network: str) -> T:
    """Return the arguments of `pairs`, of a record that is not loaded before a verb runs."""
    return arguments(
        network=network,
        a=given.a,
        b=given.b,
        count=given.count or 1,
        kind=given.kind,
        fidelity_min=given.fidelity_min,
        timeout_s=given.timeout,
        per_request=given.per_request,
        each=given.list,
        json=given.json,
        trust_min=given.trust,
        within_s=given.within,
        early=given.early,
    )


def _drain(given: argparse.Namespace) -> int:
    from qstack_nodes.draining import DrainArguments, drain  # noqa: PLC0415  help stays instant

    named = _network(given), tuple(given.names)
    return drain(DrainArguments(*named, given.undo, given.wait, given.json))


def _sim_drain(given: argparse.Namespace) -> int:
    from qstack_nodes.draining import DrainArguments  # noqa: PLC0415  help must stay instant
    from qstack_nodes.simulating import Loading, sim_drain  # noqa: PLC0415  as above

    named = given.network, tuple(given.names)
    arguments = DrainArguments(*named, given.undo, given.wait, given.json)
    return sim_drain(arguments, Loading(given.network, given.seed, given.drained))


def _sweep(given: argparse.Namespace) -> int:
    from qstack_nodes.sweep import SweepOptions, sweep  # noqa: PLC0415  help must stay instant

    return sweep(
        SweepOptions(
            file=given.file,
            out=given.out,
            scheduler=given.scheduler,
            workers=given.workers,
            plot=not given.no_plot,
            json=given.json,
        )
    )


def _view(given: argparse.Namespace) -> int:
    from qstack_nodes.viewing import Viewing, view  # noqa: PLC0415  help must stay instant

    return view(_network(given), Viewing(given.view, given.nodes, given.json))


def _sim_view(given: argparse.Namespace) -> int:
    from qstack_nodes.simulating import Loading, sim_view  # noqa: PLC0415  help must stay instant
    from qstack_nodes.viewing import Viewing  # noqa: PLC0415  help must stay instant

    loading = Loading(given.network, given.seed, given.drained)
    return sim_view(loading, Viewing(given.view, given.nodes, given.json))


def _check(given: argparse.Namespace) -> int:
    from qstack_nodes.probe import check  # noqa: PLC0415  help must stay instant

    return check(given.network, as_json=given.json)


def _link(given: argparse.Namespace) -> int:
    from qstack_nodes.looking import link_budget  # noqa: PLC0415  help must stay instant

    return link_budget(_network(given), given.a, given.b, as_json=given.json)


def _topology(given: argparse.Namespace) -> int:
    from qstack_nodes.shaping import write_topology  # noqa: PLC0415  help must stay instant

    return write_topology(given)


def _trace(given: argparse.Namespace) -> int:
    from qstack_nodes.looking import show_trace  # noqa: PLC0415  help must stay instant

    return show_trace(given.file, grep=given.grep, ticks=given.ticks)


def _replay(given: argparse.Namespace) -> int:
    from qstack_nodes.looking import replay_file  # noqa: PLC0415  help must stay instant

    return replay_file(given.file)


# --- arguments ----------------------------------------------------------------------------


def _network(given: argparse.Namespace) -> str:
    """Return the network that is meant: the argument's, that of the environment, or what is up."""
    name = given.network or os.environ.get("QSTACK_NETWORK", "")
    if name:
        return str(name)
    from qstack_nodes.noted import running  # noqa: PLC0415  help must stay instant

    up = running()
    if len(up) == 1:
        return up[0]
    which = f"Up are {', '.join(up)}" if up else "None is up on this machine"
    raise UsageError(
        f"which network? {which}. Give --network NETWORK, set QSTACK_NETWORK, or run this under "
        "qstack up NETWORK -- ..."
    )


if __name__ == "__main__":
    sys.exit(main())

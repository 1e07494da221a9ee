"""``qstack pairs --dry-run``: whether and how a request would be served, and what is shown."""

from __future__ import annotations

import json
import sys
from typing import Any

import trio
from rich.console import Console
from rich.table import Table

from qstack.config import NetworkFile, load
from qstack.drivers.client import connect
from qstack.drivers.serving import DONE, FAILED
from qstack.messages.application import Tried
from qstack.messages.circuits import Method
from qstack.programs.pairs import try_pairs
from qstack_nodes.asking import CONNECT_S, PairsArguments, check_ends, options_of


def dry_run(arguments: PairsArguments) -> int:
    """Ask a running network; print what it says; return the exit code."""
    return conclude_try(trio.run(_ask, load(arguments.network), arguments), arguments)


async def _ask(network: NetworkFile, arguments: PairsArguments) -> Tried:
    check_ends(network, arguments.a, arguments.b)
    async with connect(network, arguments.a, timeout_s=CONNECT_S) as (node,):
        return await try_pairs(node, arguments.b, options_of(arguments, node.now))


def conclude_try(found: Tried, arguments: PairsArguments) -> int:
    """Print what a dry run found; return the exit code."""
    if arguments.json:
        print(json.dumps({"summary": fields(found)}), flush=True)
    elif found.code is None:
        _show(found, f"{arguments.a} - {arguments.b}, dry run")
    if found.code is not None:
        print(f"qstack: {found.code.name}: {found.reason}", file=sys.stderr)
        return FAILED
    return DONE


def fields(found: Tried) -> dict[str, Any]:
    """Return what a dry run found in JSON's types."""
    return {
        "served": found.code is None,
        "code": None if found.code is None else found.code.name,
        "reason": found.reason,
        "nodes": list(found.nodes),
        "links": list(found.links),
        "rate_hz": found.rate_hz,
        "promised_hz": found.promised_hz,
        "fidelity": found.fidelity,
        "latency_ns": found.latency_ns,
        "cutoffs_ns": dict(zip(found.nodes[1:-1], found.cutoffs_ns, strict=True)),
        "method": method_name(found.method),
        "rounds": found.rounds,
    }


def method_name(method: Method) -> str:
    """Return how a network file calls a method of purification."""
    return method.name.lower().replace("_", "-")


def _show(found: Tried, title: str) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    promised = f"{found.promised_hz:,.1f}" if found.promised_hz else "nothing: no --timeout"
    cutoffs = zip(found.nodes[1:-1], found.cutoffs_ns, strict=True)
    waits = ", ".join(f"{name} {cutoff / 1e6:.3f}" for name, cutoff in cutoffs)
    rounds = f"{found.rounds} {method_name(found.method)}" if found.rounds else "none"
    for name, value in (
        ("by", " ".join(found.nodes[1:-1]) or "directly"),
        ("links", " ".join(found.links)),
        ("pairs per second, at most", f"{found.rate_hz:,.1f}"),
        ("pairs per second, promised", promised),
        ("fidelity, on average", f"{found.fidelity:.4f}"),
        ("cutoffs, ms", waits or "-"),
        ("rounds of purification", rounds),
        ("control messages end to end, ms", f"{found.latency_ns / 1e6:.3f}"),
    ):
        table.add_row(name, value)
    Console(file=sys.stdout).print(table)

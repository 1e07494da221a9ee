"""``qstack link --budget``, ``qstack trace`` and ``qstack replay``: nothing live is needed."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from qstack.config import NetworkFile, budget, load
from qstack.drivers.places import WORLD, node_host
from qstack.drivers.replay import replay
from qstack.drivers.serving import DONE, FAILED, USAGE
from qstack.drivers.trace import Kind, TraceHeader, describe, read_trace
from qstack_nodes import report

_QUIET = (Kind.TICK, Kind.DRAINED)


def link_budget(network_name: str, a: str, b: str, *, as_json: bool) -> int:
    """Print the budget of every link between two nodes (or a node and its station)."""
    network = load(network_name)
    names = [
        link.name
        for link in network.links
        if {a, b} <= {link.station, *(arm.node for arm in link.arms)}
    ]
    if not names:
        have = ", ".join(f"{link.arms[0].node} {link.arms[1].node}" for link in network.links)
        print(f"{network.file}: no link joins {a} and {b}; there are: {have}", file=sys.stderr)
        return USAGE
    for name in names:
        found = budget(network, name)
        if as_json:
            print(json.dumps(report.budget_fields(found)))
        else:
            report.show_budget(found)
    if as_json:
        print(json.dumps({"summary": {"links": names}}))
    return DONE


def show_trace(file: str, *, grep: str | None, ticks: bool) -> int:
    """Print a trace: instant in lab seconds, direction, kind, what it says."""
    header, records = read_trace(Path(file))
    sha = header.network_sha256[:12]
    print(
        f"# {header.name} boot {header.boot:016x}, qstack {header.qstack}, seed {header.seed}, "
        + ("in virtual time" if header.virtual else f"network file {sha}")
    )
    for item in records:
        if item.kind in _QUIET and not ticks:
            continue
        first, *more = describe(item)
        arrow = ">" if item.is_event else "<"
        lines = [f"{item.now / 1e9:.9f} {arrow} {item.kind.name.lower():11} {first}".rstrip()]
        lines += more
        if grep is None or any(grep in line for line in lines):
            print("\n".join(lines))
    return DONE


def replay_file(file: str) -> int:
    """Step the host of a trace again; 1 where it does something else than was recorded."""
    header, records = read_trace(Path(file))
    host = host_of(header)
    if host.boot != header.boot:
        print(f"{file}: this seed now gives boot {host.boot:016x}", file=sys.stderr)
        return FAILED
    result = replay(host, records)
    if result.difference:
        print("\n".join(result.difference))
        return FAILED
    end = "" if result.complete else "; the recording is cut there"
    print(f"the same: {result.events} events, {result.actions} actions{end}")
    return DONE


def host_of(header: TraceHeader) -> Any:
    """Build the machine of a trace again, from what its header says of it."""
    if header.virtual:
        from qstack.testing.recording import virtual_host  # noqa: PLC0415  only for these

        return virtual_host(header)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.toml"
        path.write_text(header.network, encoding="utf-8")
        network: NetworkFile = load(path)
    if header.name == WORLD and network.world is not None:
        from qstack.sim.server import world_host  # noqa: PLC0415  heavy, and for it alone

        return world_host(network, header.seed)
    return node_host(network, header.name, header.seed)

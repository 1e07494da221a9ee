"""A live chain whose links are divided in time, with a controller that is no neighbour of all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.nodes.live_rig import NETWORKS, environment_for, on_own_ports, qstack

COUNT = 12


def test_live_circuits_get_bins_from_a_controller_and_their_pairs_in_them(tmp_path: Path) -> None:
    """Six processes; alice asks bob, to whom she has no link, over an adjacency of their own."""
    text = (NETWORKS / "chain3.toml").read_text()
    more = '[controller]\nnode = "bob"\n'
    file = on_own_ports(f'traces = "{tmp_path}/traces"\n{text}\n{more}', tmp_path)
    environment = environment_for(tmp_path)
    command = f"'{sys.executable}' -m qstack_nodes.command"
    asking = f"{command} pairs alice bob --count {COUNT} --timeout 1.0 --json"
    program = f"{asking} && {command} circuits --json"
    result = qstack(("up", str(file), "--", "sh", "-c", program), environment)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    (pairs,) = (line["summary"] for line in lines if "delivered" in line.get("summary", {}))
    assert pairs["delivered"] == [COUNT, COUNT]
    views = {line["node"]: line["bins"] for line in lines if "bins" in line}
    assert set(views) == {"alice", "r1", "bob"}
    assert all(view["there"] and view["controller"] == "bob" for view in views.values())
    assert views["bob"]["granted"] == [], "the request is over, and its bins are free"
    (trace,) = (tmp_path / "traces").glob("alice-*.qtrace")
    said = qstack(("trace", str(trace)), environment).stdout
    assert all(kind in said for kind in ("BinsAsk", "BinsAnswer", "BinsPlan", "LinkBins"))

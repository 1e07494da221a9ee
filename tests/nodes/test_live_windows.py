"""A live link with windows: four processes, and pairs in more than one window."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.nodes.live_rig import NETWORKS, environment_for, on_own_ports, qstack

COUNT = 40
PERIOD_NS, OPEN_NS = 400_000_000, 50_000_000
FEW = 20
"""So many pairs a request, so that whatever speed the computer has, two windows are needed."""


def test_live_pairs_come_in_more_than_one_window_of_a_link(tmp_path: Path) -> None:
    text = (NETWORKS / "two_nodes.toml").read_text()
    more = f"[links.alice-bob.windows]\nperiod_ns = {PERIOD_NS}\nopen_ns = [[0, {OPEN_NS}]]\n"
    file = on_own_ports(f'traces = "{tmp_path}/traces"\n{text}\n{more}', tmp_path)
    environment = environment_for(tmp_path)
    command = f"'{sys.executable}' -m qstack_nodes.command"
    asking = f"{command} pairs alice bob --count {COUNT} --per-request {FEW} --json"
    program = f"{asking} && {command} status --json"
    result = qstack(("up", str(file), "--", "sh", "-c", program), environment)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    (pairs,) = (line["summary"] for line in lines if "delivered" in line.get("summary", {}))
    assert pairs["delivered"] == [COUNT, COUNT]
    closed = {line["node"]: line["links"]["alice-bob"] for line in lines if "slots" in line}
    assert set(closed) == {"alice", "bob"}
    # How long is a matter of when it was asked: tests/nodes/test_windows_views.py has the numbers.
    assert all(0 <= said["closed_ns"] <= PERIOD_NS - OPEN_NS for said in closed.values())

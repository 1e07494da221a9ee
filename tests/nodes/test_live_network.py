"""The whole live stack: processes, sockets, world, programs, traces."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.nodes.live_rig import (
    LIMIT_S,
    QSTACK,
    ROOT,
    children_of,
    environment_for,
    qstack,
    two_nodes,
)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return two_nodes(tmp_path)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_for(tmp_path)


@contextmanager
def up_for(
    network: Path, environment: dict[str, str], *words: str
) -> Iterator[subprocess.Popen[str]]:
    """Run `qstack up`; it is told to end with the block, however the block ends."""
    with subprocess.Popen(
        (*QSTACK, "up", str(network), *words),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as up:
        try:
            yield up
        finally:
            if up.poll() is None:
                up.send_signal(signal.SIGTERM)


def test_a_smoke_run_of_each_kind_is_as_good_as_predicted(
    network: Path, environment: dict[str, str]
) -> None:
    """200 kept, 200 measured, 100 prepared: the same ids at both ends, fidelity as predicted.

    The limit is five standard errors of the measured fidelity (false alarm 6e-7 each).
    """
    asked = {"keep": 200, "measure": 200, "prepare": 100}
    program = " && ".join(
        f"'{sys.executable}' -m qstack_nodes.command pairs alice bob --count {count} "
        f"--kind {kind} --json"
        for kind, count in asked.items()
    )
    result = qstack(("up", str(network), "--", "sh", "-c", program), environment)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for kind, count in asked.items():
        end = next(place for place, line in enumerate(lines) if "summary" in line)
        pairs, summary = lines[:end], lines[end]["summary"]
        lines = lines[end + 1 :]
        # A line stands for a pair whose id both ends delivered.
        assert len({pair["pair"] for pair in pairs}) == len(pairs) == count, kind
        assert summary["delivered"] == [count, count], kind
        assert summary["expired"] == 0, kind
        away = abs(summary["fidelity"] - summary["predicted_fidelity"])
        assert away < 5 * summary["fidelity_error"], kind
    assert not lines


def test_pairs_are_delivered_measured_and_replayed(
    network: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """150 pairs: the error is at most sqrt(3 / 50) / 4 over the readout, 0.064; the limit is five.

    So a false alarm is rarer than one run in a million. The prediction is without readout
    errors, which lower it by at most 0.03.
    """
    traces = tmp_path / "traces"
    command = (*QSTACK, "pairs", "alice", "bob", "--count", "150", "--json")
    up = ("up", str(network), "--traces", str(traces), "--", *command)
    result = qstack(up, environment)
    assert result.returncode == 0, result.stderr
    *pairs, last = map(json.loads, result.stdout.splitlines())
    summary = last["summary"]
    assert len(pairs) == 150
    assert len({pair["pair"] for pair in pairs}) == 150
    assert summary["delivered"] == [150, 150]
    assert summary["error"] == ""
    assert summary["fidelity_error"] < 0.065
    assert abs(summary["fidelity"] - summary["predicted_fidelity"]) < 0.25 + 0.03
    files = sorted(traces.iterdir())
    assert [file.name.partition("-")[0] for file in files] == ["alice", "bob", "midpoint", "world"]
    for file in files:
        replayed = qstack(("replay", str(file)), environment)
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert "the same" in replayed.stdout
    shown = qstack(("trace", str(files[0]), "--grep", "PairReady"), environment)
    assert shown.stdout.count("PairReady(") >= 150


def test_status_and_check_know_the_running_network(
    network: Path, environment: dict[str, str]
) -> None:
    program = " && ".join(
        (f"'{sys.executable}' -m qstack_nodes.command {verb} --json")
        for verb in ("status", f"check '{network}'")
    )
    result = qstack(("up", str(network), "--", "sh", "-c", program), environment)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["node"] for line in lines[:3]] == ["alice", "bob", "midpoint"]
    assert lines[3] == {"summary": {"nodes": 3, "silent": []}}
    states = {line["name"]: line["state"] for line in lines[4:-1]}
    assert states == dict.fromkeys(("world", "alice", "bob", "midpoint"), "running")


def test_a_command_returns_its_own_code(network: Path, environment: dict[str, str]) -> None:
    result = qstack(("up", str(network), "--", "sh", "-c", "exit 7"), environment)
    assert result.returncode == 7, result.stderr


def test_a_port_in_use_stops_the_start_with_its_owner_and_its_number(
    network: Path, environment: dict[str, str]
) -> None:
    address = tomllib.loads(network.read_text())["nodes"]["bob"]["user"]
    host, _, port = address.partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((host, int(port)))
        started = qstack(("up", str(network), "--", "true"), environment)
        checked = qstack(("check", str(network)), environment)
    assert started.returncode == 3
    assert checked.returncode == 3
    for text in (started.stderr, checked.stdout):
        assert "bob" in text
        assert address in text
        assert "in use" in text


def test_a_network_that_does_not_run_is_unreachable_and_says_so(
    network: Path, environment: dict[str, str]
) -> None:
    status = qstack(("status", "--network", str(network)), environment)
    assert status.returncode == 3
    assert "qstack up" in status.stdout.replace("\n", " ")
    asked = ("pairs", "alice", "bob", "--count", "1", "--network", str(network))
    pairs = qstack(asked, environment)
    assert pairs.returncode == 3
    assert "alice at" in pairs.stderr
    checked = qstack(("check", str(network)), environment)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stops_on_a_signal_and_leaves_no_process(
    network: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    with up_for(network, environment) as up:
        assert up.stdout is not None
        assert "two_nodes is up" in up.stdout.readline()
        pids = children_of(up.pid)
        assert len(pids) == 4
        up.send_signal(number)
        assert up.wait(LIMIT_S) == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_killed_node_comes_back_on_its_ports_and_serves_again(
    network: Path, environment: dict[str, str]
) -> None:
    with up_for(network, environment, "--json") as up:
        assert up.stdout is not None
        events = map(json.loads, up.stdout)
        assert any(event["event"] == "up" for event in events)
        alice = next(
            pid
            for pid in children_of(up.pid)
            if b"\0alice\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(alice, signal.SIGKILL)
        seen: list[str] = []
        for event in events:
            if event.get("name") == "alice":
                seen.append(event["event"])
            if seen[-1:] == ["linked"]:
                break
        assert [each for each in seen if each in ("ended", "ready")] == ["ended", "ready"]
        asked = ("pairs", "alice", "bob", "--count", "10", "--network", str(network), "--json")
        pairs = qstack(asked, environment)
        up.send_signal(signal.SIGTERM)
        assert pairs.returncode == 0, pairs.stderr
        # What is left in the pipe is read to its end, so that the writer never waits.
        assert list(events)[-1] == {"summary": {"exit_code": 0, "error": ""}}

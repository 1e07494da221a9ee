"""Purified pairs on live processes, as in virtual time: the same file, program and report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from qstack.config import load
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode
from qstack.programs.pairs import PairsOptions, PairsReport, measure_pairs
from qstack.sim import Network
from tests.nodes.live_rig import LIMIT_S, NETWORKS, environment_for, on_own_ports, up
from tests.whole.test_purified import nested, segment

PAIRS = 24
WINDOW_PS = 20_000
DEVICES = {
    r"sim.colour-centre": "sim.trapped-ion",
    r"\nefficiency = 1.0.*": "\nefficiency = 0.1",
    r"double_excitation = .*\n": "",
    r"phase_sigma = .*\n": "",
    r"t1_ns = .*": "t1_ns = 1_000_000_000_000",
    r"t2_ns = .*": "t2_ns = 1_000_000_000_000",
    r"\ngate_fidelity = .*": "\ngate_fidelity = 1.0",
    r"two_qubit_fidelity = .*": "two_qubit_fidelity = 0.985",  # keeps 0.98
    r'measurement = "single-click"': 'measurement = "polarisation"',
    r"visibility = .*": "visibility = 1.0",
    r"\nefficiency = 0.95.*": "\nefficiency = 1.0",
    r"db_per_km = .*": "db_per_km = 0.0",
}


def noisy(folder: Path) -> Path:
    """Two nodes, photons of a tenth of all attempts, dark counts that make Werner pairs of 0.9."""
    text = (NETWORKS / "two_nodes.toml").read_text()
    for old, new in DEVICES.items():
        text, count = re.subn(old, new, text)
        assert count, old
    dark_hz = segment(0.9).dark / (WINDOW_PS * 1e-12)
    text = re.sub(r"dark_hz = .*", f"dark_hz = {dark_hz:.1f}", text)
    text = text[: text.index("[[links.alice-bob.settings]]")]
    text += f'[[links.alice-bob.settings]]\nid = "only"\nwindow_ps = {WINDOW_PS}\n'
    return on_own_ports(text, folder)


async def program(alice: LiveNode, bob: LiveNode) -> tuple[PairsReport, list[dict[str, Any]]]:
    options = PairsOptions(PAIRS, alice.now, fidelity_min=0.95)
    report = await measure_pairs(alice, bob, options)
    status = [await node.status() for node in (alice, bob)]
    return report, [each["network"]["circuits"][0] for each in status]


async def live(file: Path, environment: dict[str, str]) -> tuple[PairsReport, list[dict[str, Any]]]:
    with trio.fail_after(LIMIT_S):
        async with up(file, environment), connect(load(file), "alice", "bob") as (alice, bob):
            return await program(alice, bob)


def test_purified_pairs_are_delivered_and_reported_live_as_in_virtual_time(tmp_path: Path) -> None:
    """24 pairs at 0.95 of pairs at 0.9. Fidelity within five standard errors (false alarm 1e-6).

    Both ends are told what the closed form of two nested rounds says: memories are good enough
    that nothing is lost while processes talk.
    """
    file = noisy(tmp_path)
    _, weights = nested(segment(0.9).weights, 2)
    found = {
        "live": trio.run(live, file, environment_for(tmp_path)),
        "virtual": Network(load(file), seed=8).run(program, "alice", "bob"),
    }
    for where, (report, circuits) in found.items():
        assert report.error == "", where
        assert report.delivered == (PAIRS, PAIRS), where
        assert len(report.records) == report.complete == PAIRS, where
        assert report.predicted_fidelity == pytest.approx(weights[0], abs=3e-3), where
        assert report.fidelity is not None
        assert report.fidelity_error is not None
        # Nothing corrects the readout here: 1 % at either end.
        assert abs(report.fidelity - weights[0]) < 5 * report.fidelity_error + 0.04, where
        for circuit in circuits:
            assert (circuit["method"], circuit["rounds"]) == ("nested_dejmps", 2), where
            assert circuit["purified"]["purified"] >= PAIRS, where

"""Swarm runs inside the tests: 500 seeds of two nodes under all faults, on all cores."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from qstack.drivers.replay import replay
from qstack.drivers.trace import Kind, describe, read_trace
from qstack.sim.faults import KINDS
from qstack.testing.lab import RING, ROW
from qstack.testing.recording import Recorder, virtual_host
from qstack.testing.scenario import FAULTS, FEATURES, draw
from qstack.testing.swarm import PROBE_PAIRS, Result, run
from tests.simulate.telling import Switches
from tests.simulate.work import run_seed

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(500)
LEAST_PAIRS = 4 * PROBE_PAIRS
"""Two requests at the end of each run, told at both ends."""


@pytest.fixture(scope="module")
def results() -> list[Result]:
    work = partial(run_seed, Switches((), None))
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(work, SEEDS, 10)


def test_five_hundred_seeds_pass_every_checker_and_each_moves_traffic(
    results: list[Result],
) -> None:
    failed = [
        f"{each.checker}: {each.problem}; again: python -m tests.simulate --seed {each.seed}"
        for each in results
        if each.checker
    ]
    assert failed == []
    assert min(each.delivered for each in results) >= LEAST_PAIRS
    assert sum(each.delivered for each in results) > 30 * len(SEEDS)


@pytest.mark.parametrize(
    "seed",
    [
        # Bits that were flipped there and back are no corruption.
        2606,
        # Words about the end of a request took longer than the grace: one end timed out with all.
        6490,
        # A device was late for longer than the grace: one end had delivered all, the other nothing.
        3509,
        # A memory broke while it was stalled, so that nobody was told.
        8660,
        # Who was cut off until the faults healed was still lost by silence when asked.
        17636,
    ],
)
def test_seeds_that_once_failed_pass(seed: int) -> None:
    assert run_seed(Switches((), None), seed).checker == ""


def test_what_is_corrupted_on_the_way_is_found_by_codec_and_seals_and_survived(
    results: list[Result],
) -> None:
    """In the runs with that fault, and in no others; never was anything believed."""
    with_it = {seed for seed in SEEDS if "corrupt" in draw(seed).features}
    assert all(draw(seed).sealed and draw(seed).wire_bytes for seed in with_it)
    rejected = {each.seed: each.rejected for each in results}
    assert not any(rejected[seed] for seed in SEEDS if seed not in with_it)
    assert sum(rejected[seed] > 0 for seed in with_it) > len(with_it) / 2
    assert sum(rejected.values()) > 4 * len(with_it)


def test_networks_of_three_nodes_use_their_links_at_once() -> None:
    """In rows and in rings there are requests between every two neighbours."""
    for shape, joints in ((ROW, 2), (RING, 3)):
        drawn = [draw(seed) for seed in SEEDS if draw(seed).lab.shape == shape]
        assert len(drawn) > len(SEEDS) / 8
        asked = [{frozenset((ask.node, ask.remote)) for ask in each.asks} for each in drawn]
        assert max(map(len, asked)) == joints
        assert sum(len(each) > 1 for each in asked) > len(drawn) / 2


def test_every_feature_and_every_fault_is_drawn_by_many_seeds() -> None:
    drawn = [draw(seed) for seed in SEEDS]
    for name in (*FEATURES, *FAULTS):
        assert sum(name in scenario.features for scenario in drawn) > len(SEEDS) / 8, name
    kinds = {fault.kind for scenario in drawn for fault in scenario.schedule.faults}
    assert kinds == set(KINDS) & set(FAULTS)
    assert any(not scenario.schedule.faults and not scenario.mishaps for scenario in drawn)


def test_what_is_switched_off_is_not_drawn_and_changes_no_other_fault() -> None:
    seed = next(s for s in SEEDS if {"loss", "crash-node"} <= set(draw(s).features))
    whole, less = draw(seed), draw(seed, without=["loss"])
    kept = [fault for fault in whole.schedule.faults if fault.kind != "loss"]
    assert list(less.schedule.faults) == kept
    assert less.asks == whole.asks
    assert draw(seed, only=[]).features == ()


# --- one seed again -----------------------------------------------------------------------


def recorded(seed: int, folder: Path) -> list[Path]:
    """Run a seed with traces; return the files."""
    recorders: list[Recorder] = []
    run(draw(seed), lambda net: recorders.append(Recorder(net, folder)))
    recorders[0].close()
    return sorted(recorders[0].files)


@pytest.mark.parametrize("in_bytes", [True, False])
def test_the_traces_of_a_run_in_virtual_time_are_replayed_to_the_last_action(
    in_bytes: bool, tmp_path: Path
) -> None:
    """Every host of a run with a crash, also where datagrams never become bytes."""
    seed = next(
        seed
        for seed in SEEDS
        for features in (draw(seed).features,)
        if "crash-node" in features and ("bytes" in features) is in_bytes
    )
    files = recorded(seed, tmp_path)
    names = {file.name for file in files}
    assert {"alice-1.trace", "bob-1.trace", "station-1.trace", "user-bob-1.trace"} <= names
    assert any(name.endswith("-2.trace") for name in names), "somebody lived twice"
    for file in files:
        header, records = read_trace(file)
        host = virtual_host(header)
        assert host.boot == header.boot
        replayed = replay(host, records)
        assert replayed.difference == ()
        assert replayed.complete
        assert replayed.events > 1


def test_a_recorded_event_that_is_missing_shows_in_the_replay(tmp_path: Path) -> None:
    recorded(next(s for s in SEEDS if "crash-node" not in draw(s).features), tmp_path)
    header, records = read_trace(tmp_path / "bob-1.trace")
    kept = list(records)
    herald = next(place for place, item in enumerate(kept) if item.kind is Kind.FROM_DEVICE)
    assert "Emitter" in describe(kept.pop(herald))[0]
    assert replay(virtual_host(header), kept).difference


def test_the_command_runs_one_seed_and_its_traces_are_read_by_the_qstack_command(
    tmp_path: Path,
) -> None:
    def python(*arguments: str) -> str:
        command = (sys.executable, "-m", *arguments)
        told = subprocess.run(
            command, cwd=ROOT, text=True, stdout=-1, stderr=subprocess.STDOUT, check=False
        )
        assert told.returncode == 0, told.stdout
        return told.stdout

    said = python("tests.simulate", "--seed", "3", "--trace", str(tmp_path))
    assert "all well" in said
    file = str(tmp_path / "alice-1.trace")
    assert f"qstack trace {file}" in said
    assert "the same" in python("qstack_nodes.command", "replay", file)
    assert "in virtual time" in python("qstack_nodes.command", "trace", file)


def test_a_scenario_is_a_value_and_its_schedule_is_one_line() -> None:
    scenario = draw(5)
    assert scenario == draw(5)
    assert "\n" not in scenario.schedule.line()

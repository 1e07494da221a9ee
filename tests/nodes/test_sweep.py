"""Sweeps: grids of points, interrupted and resumed, on cores and clusters, into tables."""

from __future__ import annotations

import csv
import json
import math
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from qstack_nodes.command import DONE, FAILED, UNREACHABLE, USAGE, main
from qstack_nodes.sweep import verb
from qstack_nodes.sweep.plan import read_plan
from qstack_nodes.sweep.results import cells_of
from qstack_nodes.sweep.running import run_here

from tests.nodes.live_rig import LIMIT_S, QSTACK, children_of

GRID = """
network = "two_nodes"
seeds = [3, 4]

[parameters]
"links.alice-bob.arms.*.km" = [0.5, 2.0, 1.0]
"pairs.fidelity_min" = { from = 0.0, to = 0.85, steps = 2 }

[pairs]
a = "alice"
b = "bob"
count = 12
"""
POINTS = 2 * 3 * 2

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    file = tmp_path / "grid.toml"
    file.write_text(GRID)
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of the grid, made at one go."""
    file = tmp_path_factory.mktemp("whole") / "grid.toml"
    file.write_text(GRID)
    assert main(["sweep", str(file), "--workers", "1", "--no-plot"]) == DONE
    return (file.parent / "grid" / "results.csv").read_bytes()


def rows(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(table.decode().splitlines()))


def summary_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.splitlines()[-1])["summary"]
    return found


# --- the grid -----------------------------------------------------------------------------


def test_every_point_of_the_grid_is_a_row_in_the_order_of_the_file(whole: bytes) -> None:
    found = rows(whole)
    order = [(r["links.alice-bob.arms.*.km"], r["pairs.fidelity_min"], r["seed"]) for r in found]
    assert order == [
        (km, least, seed)
        for km in ("0.5", "2.0", "1.0")
        for least in ("0.0", "0.85")
        for seed in ("3", "4")
    ]
    for row in found:
        assert row["complete"] == "12"
        assert row["error"] == ""
        # Nothing is delivered before light has been at the station and back.
        way_ns = float(row["links.alice-bob.arms.*.km"]) * 1e12 / 2.0e8
        assert int(row["latency_p50_ns"]) > 2 * way_ns
        assert float(row["predicted_fidelity"]) >= float(row["pairs.fidelity_min"])
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert (one["seed"], other["seed"]) == ("3", "4")
        assert any(one[name] != other[name] for name in ("elapsed_ns", "fidelity"))


def test_ranges_have_both_ends_and_the_values_that_people_would_write(tmp_path: Path) -> None:
    file = tmp_path / "ranges.toml"
    file.write_text(
        'network = "two_nodes"\nseeds = 2\n[parameters]\n'
        '"links.*.settings.0.alpha" = { from = 0.1, to = 0.3, steps = 3 }\n'
        '"links.*.arms.bob.km" = { from = 0.01, to = 10, steps = 4, scale = "log" }\n'
        '[pairs]\na = "alice"\nb = "bob"\ncount = 1\n'
    )
    plan = read_plan(str(file))
    assert plan.seeds == (1, 2)
    assert [each.values for each in plan.parameters] == [(0.1, 0.2, 0.3), (0.01, 0.1, 1.0, 10.0)]
    tasks = list(plan.tasks())
    assert len(tasks) == plan.points == 3 * 4 * 2
    assert len({task.key for task in tasks}) == len(tasks)


def test_the_seeds_of_a_point_come_to_a_mean_with_its_standard_error(grid: Path) -> None:
    """By hand: rates 90 and 110, fidelities 0.7 and 0.9 with errors 0.03 and 0.04."""
    plan = read_plan(str(grid))
    done = {}
    for task in plan.tasks():
        other = task.seed == 4
        found = {
            "rate_hz": 110.0 if other else 90.0,
            "fidelity": 0.9 if other else 0.7,
            "fidelity_error": 0.04 if other else 0.03,
            "complete": 12,
        }
        done[task.key] = {"error": "TIMEOUT: late" if other else "", "found": found}
    cells = cells_of(plan, done)
    assert len(cells) == POINTS // 2
    for cell in cells:
        assert (cell.seeds, cell.failed) == (2, 1)
        assert cell.rate == pytest.approx(100.0)
        assert cell.rate_error == pytest.approx(10.0)
        assert cell.fidelity == pytest.approx(0.8)
        assert cell.fidelity_error == pytest.approx(0.025)
    first = next(iter(plan.tasks()))
    (alone,) = cells_of(plan, {first.key: done[first.key]})
    assert alone.rate_error == pytest.approx(90.0 / math.sqrt(11))


def test_a_point_that_fails_keeps_its_row_with_the_reason_and_the_code_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hard.toml"
    text = GRID.replace("to = 0.85", "to = 0.99").replace("[3, 4]", "1")
    file.write_text(text.replace("[0.5, 2.0, 1.0]", "[1.0]"))
    assert main(["sweep", str(file), "--workers", "1", "--no-plot"]) == FAILED
    good, bad = rows((tmp_path / "hard" / "results.csv").read_bytes())
    assert good["error"] == ""
    assert bad["error"].startswith("UNSUPPORTED")
    assert bad["complete"] == "0"
    assert "1 of 2 points" in capsys.readouterr().err


# --- interrupted --------------------------------------------------------------------------


def interrupted(file: Path, results: int, how: signal.Signals) -> tuple[int, list[int]]:
    """Start a sweep on two cores, end it after so many results; its code and its workers.

    However late the signal is, results are left to make: what they are printed into holds no more
    than four, and is read byte by byte.
    """
    # A shell lets what it starts in the background ignore interruptions, and so their children.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        (*QSTACK, "sweep", str(file), "--workers", "2", "--no-plot", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        pipesize=4096,
    )
    signal.signal(signal.SIGINT, former)
    with running:
        assert running.stdout is not None
        for _ in range(results):
            assert b'"key"' in running.stdout.readline()
        workers = children_of(running.pid)
        watched = [os.pidfd_open(worker) for worker in workers]

        running.send_signal(how)
        running.stdout.read()
        code = running.wait(LIMIT_S)
        for each in watched:
            # Readable when the process has ended.
            assert select.select([each], [], [], LIMIT_S)[0] == [each]
            os.close(each)
    return code, workers


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_sweep_goes_on_where_it_stopped_and_ends_in_the_same_table(
    grid: Path, whole: bytes, how: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    code, workers = interrupted(grid, 3, how)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert len(workers) >= 2
    record = grid.parent / "grid" / "results.jsonl"
    kept = record.read_bytes()
    done = kept.count(b"\n")
    assert 3 <= done < POINTS
    with record.open("ab") as file:
        file.write(b'{"key": "torn')  # as when the power goes in the middle of a line
    assert main(["sweep", str(grid), "--workers", "1", "--no-plot", "--json"]) == DONE
    assert summary_of(capsys.readouterr().out)["ran"] == POINTS - done
    assert record.read_bytes().startswith(kept)
    assert (record.parent / "results.csv").read_bytes() == whole
    assert main(["sweep", str(grid), "--workers", "1", "--no-plot", "--json"]) == DONE
    assert summary_of(capsys.readouterr().out)["ran"] == 0


def test_a_sweep_that_is_done_runs_nothing_and_one_more_value_runs_only_that(
    grid: Path, whole: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", str(grid), "--workers", "1", "--no-plot", "--json"]
    ran = []
    for text in (GRID, GRID, GRID.replace("[3, 4]", "[3, 4, 5]"), GRID.replace("12", "13")):
        grid.write_text(text)
        assert main(command) == DONE
        ran.append(summary_of(capsys.readouterr().out)["ran"])
        if text == GRID:
            assert (grid.parent / "grid" / "results.csv").read_bytes() == whole
    assert ran == [POINTS, 0, POINTS // 2, POINTS]


def test_a_record_that_is_none_is_left_alone(
    grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = grid.parent / "grid"
    folder.mkdir()
    (folder / "results.jsonl").write_text("my diary\n")
    assert main(["sweep", str(grid), "--workers", "1"]) == USAGE
    assert "line 1 is no result" in capsys.readouterr().err
    assert (folder / "results.jsonl").read_text() == "my diary\n"


def test_a_cluster_of_dask_gives_the_same_table(grid: Path, whole: bytes) -> None:
    """A scheduler and a worker with two threads, reached over loopback."""
    program = (
        "import sys, dask, distributed\n"
        "from qstack_nodes.command import main\n"
        "dask.config.set({'distributed.worker.use-file-locking': False})\n"
        "if __name__ == '__main__':\n"
        "    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False,\n"
        "            host='127.0.0.1', protocol='tcp', dashboard_address=None) as cluster:\n"
        "        address = cluster.scheduler_address\n"
        "        sys.exit(main(['sweep', sys.argv[1], '--no-plot', '--scheduler', address]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(grid)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == DONE, done.stderr
    assert (grid.parent / "grid" / "results.csv").read_bytes() == whole


def test_a_cluster_that_does_not_answer_is_named(grid: Path) -> None:
    # In a process of its own: the client of dask leaves threads behind.
    done = subprocess.run(
        (*QSTACK, "sweep", str(grid), "--scheduler", "tcp://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == UNREACHABLE
    assert "no dask scheduler answers at tcp://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["nonsense://x", "127.0.0.1", "tcp://localhost:x"])
def test_an_address_that_is_none_is_named(
    grid: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(grid), "--scheduler", address]) == USAGE
    assert f"{address!r} is no address" in capsys.readouterr().err


# --- pictures -----------------------------------------------------------------------------


def test_pictures_of_rate_and_fidelity_are_written(
    grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(grid), "--workers", "1", "--out", str(grid.parent / "o")]) == DONE
    printed = capsys.readouterr().out.split()
    names = ["results.csv", "summary.csv", "rate.png", "fidelity.png"]
    assert [Path(each).name for each in printed] == names
    for name in names[2:]:
        picture = (grid.parent / "o" / name).read_bytes()
        assert picture.startswith(PNG)
        assert len(picture) > 5_000


def test_without_matplotlib_there_are_tables_and_a_word(
    grid: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "can_plot", lambda: False)
    assert main(["sweep", str(grid), "--workers", "1"]) == DONE
    assert "qstack[plot]" in capsys.readouterr().err
    assert sorted(path.suffix for path in (grid.parent / "grid").iterdir()) == [
        ".csv",
        ".csv",
        ".jsonl",
    ]


# --- wrong files --------------------------------------------------------------------------


def test_a_wrong_sweep_file_is_refused_with_every_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(
        'network = "two_nodes"\nseeds = 0\nwhat = 1\n[parameters]\n'
        '"links.*.arms.bob.kmm" = [0.5]\n'
        '"links.nowhere.modes" = [1]\n'
        '"links.*.arms.bob.km" = { from = 1.0, too = 3.0, steps = 2 }\n'
        '"links.*.settings.0.alpha" = { from = 0, to = 1, steps = 3, scale = "log" }\n'
        '"links.*.settings.1.alpha" = { from = 0.1, to = 0.2, steps = 1 }\n'
        '"pairs.fidelity_min" = [0.0, 1.85]\n'
        '"pairs.count" = [1.5]\n'
        '"pairs.a" = ["bob"]\n'
        'time_scale = "x"\n'
        '[pairs]\na = "alice"\nb = "carol"\ncount = 1\nkind = "teleport"\n'
    )
    assert main(["sweep", str(file)]) == USAGE
    lines = capsys.readouterr().err.splitlines()
    for words in (
        "what: unknown key",
        "seeds: 0 is neither",
        "parameters.links.*.arms.bob.kmm: 0.5: links.alice-bob.arms.bob.kmm: unknown key",
        "links.nowhere.modes: 1: links.nowhere.modes: leads to nothing",
        "parameters.links.*.arms.bob.km.too: unknown key; known are from, to, steps, scale",
        "parameters.links.*.arms.bob.km.to: is missing",
        "on a log scale lies above 0",
        "steps is 1",
        "fidelity_min is 1.85",
        "parameters.pairs.count: 1.5: count: expected a whole number",
        "parameters.pairs.a: 'bob': a: unknown key",
        "parameters.time_scale: 'x' is neither a list",
        "pairs.b: 'carol' is no end node of alice, bob",
        "kind is 'teleport'",
    ):
        assert any(words in line for line in lines), words
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["network: is missing", "pairs: is missing"]),
        ("network = 3\n[pairs]\na = 'alice'\n", ["3 is no name", "pairs.b: is missing"]),
        ("network = 'nowhere'\n", ["no such network"]),
        ("= 1", ["not TOML"]),
    ],
)
def test_what_a_sweep_file_lacks_is_said(
    tmp_path: Path, text: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    assert main(["sweep", str(file)]) == USAGE
    found = capsys.readouterr().err
    assert [each for each in words if each not in found] == []


def test_values_that_are_wrong_only_together_are_an_error_of_their_point(tmp_path: Path) -> None:
    """A cycle must outlast the round trip of light: at 2 km 12 us do, at 20 km they do not."""
    file = tmp_path / "together.toml"
    file.write_text(
        'network = "two_nodes"\n[parameters]\n'
        '"links.*.arms.*.km" = [0.9, 20.0]\n"links.*.cycle_ns" = [12_000, 250_000]\n'
        '[pairs]\na = "alice"\nb = "bob"\ncount = 1\n'
    )
    plan = read_plan(str(file))
    errors = [result["error"] for result in run_here(plan.tasks())]
    assert [bool(error) for error in errors] == [False, False, True, False]
    assert "cycle_ns" in errors[2]

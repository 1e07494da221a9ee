"""``qstack sim``: the verbs of a live network in virtual time, from the same code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from qstack_nodes.command import DONE, FAILED, USAGE, main

from tests.nodes.live_rig import (
    LIMIT_S,
    NETWORKS,
    QSTACK,
    environment_for,
    qstack,
    two_nodes,
)

Printed = pytest.CaptureFixture[str]


def sim(printed: Printed, *words: str) -> tuple[int, str, str]:
    code = main(["sim", *words])
    found = printed.readouterr()
    return code, found.out, found.err


def shape(value: Any) -> Any:
    """What there is, without the numbers."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def rows(lines: list[str]) -> list[str]:
    """The first column of tables."""
    return [re.split(r"│ *", line)[1].strip() for line in lines if "│" in line]


def words(text: str) -> str:
    """How many pairs count for the fidelity is a matter of chance where axes are drawn."""
    return re.sub(r"[0-9]+ used", "used", text)


def test_it_prints_what_the_live_verb_prints(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lines of JSON but for the values, and the same rows of the table."""
    monkeypatch.setenv("COLUMNS", "200")  # no row of the table is broken
    file, environment = two_nodes(tmp_path), environment_for(tmp_path)
    asked = ("pairs", "alice", "bob", "--count", "40")
    live = f"'{sys.executable}' -m qstack_nodes.command {' '.join(asked)}"
    program = f"{live} --json && {live} && {live} --early"
    up = qstack(("up", str(file), "--", "sh", "-c", program), environment)
    assert up.returncode == DONE, up.stderr
    code, lines, _ = sim(capsys, str(file), "--seed", "5", *asked, "--json")
    assert code == DONE
    code, table, _ = sim(capsys, str(file), "--seed", "5", *asked)
    assert code == DONE
    here = [json.loads(line) for line in lines.splitlines()]
    there = up.stdout.splitlines()
    assert [shape(json.loads(line)) for line in there[:41]] == [shape(line) for line in here]
    names = rows(table.splitlines())
    assert "fidelity (40 used)" in names
    early = names.index("lab time, s") + 1
    assert rows(there)[:early] == names
    # Halves that are measured before they are known to be of pairs, on drawn axes.
    _, table, _ = sim(capsys, str(file), "--seed", "5", *asked, "--early")
    names = rows(table.splitlines())
    assert [*map(words, rows(there)[early:])] == [*map(words, names)]
    assert "halves of no pair" in names


def test_one_seed_prints_one_report_and_another_seed_another(capsys: Printed) -> None:
    asked = ("pairs", "alice", "bob", "--count", "20", "--kind", "measure", "--json")
    first = sim(capsys, "two_nodes", "--seed", "1", *asked)
    assert sim(capsys, "two_nodes", "--seed", "1", *asked) == first
    assert sim(capsys, "two_nodes", "--seed", "2", *asked) != first
    # That of the file's world.
    assert "seed = 1 " in (NETWORKS / "two_nodes.toml").read_text()
    assert sim(capsys, "two_nodes", *asked) == first


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["two_nodes", "pairs", "alice", "carol", "--count", "1"], USAGE, "'carol'"),
        (["two_nodes", "pairs", "alice", "midpoint", "--count", "1"], USAGE, "end nodes"),
        (["nowhere", "pairs", "alice", "bob", "--count", "1"], USAGE, "no such network"),
        (
            ["two_nodes", "pairs", "alice", "bob", "--count", "1", "--fidelity-min", "0.999"],
            FAILED,
            "UNSUPPORTED",
        ),
    ],
)
def test_its_exit_codes_are_those_of_the_live_verb(
    words: list[str], code: int, reason: str, capsys: Printed
) -> None:
    found, _, error = sim(capsys, *words)
    assert found == code
    assert reason in error


@pytest.mark.parametrize(
    "words",
    [
        ["sim", "two_nodes"],
        ["sim", "two_nodes", "--seed", "-1", "pairs", "alice", "bob", "--count", "1"],
        ["sim", "two_nodes", "pairs", "alice", "bob"],
        ["sim", "two_nodes", "fly"],
        ["sim", "two_nodes", "drain"],
        ["sim", "two_nodes", "--drained", "", "status"],
        ["sim", "two_nodes", "pairs", "alice", "bob", "--count", "1", "--early", "--within", "1"],
        ["pairs", "alice", "bob", "--count", "1", "--early", "--kind", "measure"],
        ["sim", "two_nodes", "pairs", "alice", "bob", "--early", "--dry-run"],
        ["sweep"],
        ["sweep", "grid.toml", "--workers", "0"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_two(words: list[str], capsys: Printed) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == USAGE
    assert "usage" in capsys.readouterr().err


def test_an_interrupted_run_ends_without_a_traceback(tmp_path: Path) -> None:
    """Ctrl-C reaches whichever task of the run is at work; it comes out of nurseries in groups."""
    command = ("sim", "two_nodes", "pairs", "alice", "bob", "--count", "1000000", "--json")
    errors = tmp_path / "errors.txt"
    # A shell lets what it starts in the background ignore interruptions.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    with errors.open("wb") as file:
        running = subprocess.Popen((*QSTACK, *command), stdout=subprocess.PIPE, stderr=file)
    signal.signal(signal.SIGINT, former)
    with running:
        assert running.stdout is not None
        assert b'"pair"' in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        running.stdout.read()
        assert running.wait(LIMIT_S) == 128 + signal.SIGINT
    assert errors.read_text() == ""


def test_drain_prints_what_the_live_verb_prints_and_what_drains_first_is_seen_by_other_verbs(
    capsys: Printed,
) -> None:
    code, lines, _ = sim(capsys, "ring6", "drain", "n2", "n1-n6", "--json")
    assert code == DONE
    fields = {"draining": True, "runs": []}
    places = [("n2", None), ("n1", "n1-n6"), ("n6", "n1-n6")]
    *told, last = (json.loads(line) for line in lines.splitlines())
    assert told == [{"node": node, "link": link} | fields for node, link in places]
    assert last == {"summary": {"places": 3, "undo": False, "silent": []}}
    assert sim(capsys, "ring6", "drain", "n2", "n1-n6")[1].count("nothing new") == 3
    undone = sim(capsys, "ring6", "--drained", "n2", "drain", "n2", "--undo", "--wait")
    assert (undone[0], "requests again" in undone[1]) == (DONE, True)
    code, _, error = sim(capsys, "ring6", "drain", "zoe")
    assert (code, "zoe is neither a node nor a link" in error) == (USAGE, True)
    asked = ("pairs", "n1", "n3", "--dry-run", "--json")
    ways = {
        drained: json.loads(sim(capsys, "ring6", "--drained", drained, *asked)[1])["summary"]
        for drained in ("n5", "n2", "n2-n3", "n2,n5")
    }
    assert ways["n5"]["nodes"] == ["n1", "n2", "n3"]
    assert ways["n2"]["nodes"] == ways["n2-n3"]["nodes"] == ["n1", "n6", "n5", "n4", "n3"]
    assert not ways["n2,n5"]["served"]
    assert "node n2" in ways["n2,n5"]["reason"]
    _, shown, _ = sim(capsys, "ring6", "--drained", "n2", "routes", "n1")
    assert "up, node" in shown
    code, _, error = sim(capsys, "ring6", "--drained", "n2,n5", *asked[:3], "--count", "1")
    assert (code, "draining: node n2, node n5" in error) == (FAILED, True)

"""``qstack sim``: the verbs of a live network in virtual time, from the same code."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from qstack_nodes.command import DONE, FAILED, USAGE, main

from tests.nodes.live_rig import NETWORKS, environment_for, qstack, two_nodes

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


def test_it_prints_what_the_live_verb_prints(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lines of JSON but for the values, and the same rows of the table."""
    monkeypatch.setenv("COLUMNS", "200")  # no row of the table is broken
    file, environment = two_nodes(tmp_path), environment_for(tmp_path)
    asked = ("pairs", "alice", "bob", "--count", "40")
    live = f"'{sys.executable}' -m qstack_nodes.command {' '.join(asked)}"
    up = qstack(("up", str(file), "--", "sh", "-c", f"{live} --json && {live}"), environment)
    assert up.returncode == DONE, up.stderr
    code, lines, _ = sim(capsys, str(file), "--seed", "5", *asked, "--json")
    assert code == DONE
    code, table, _ = sim(capsys, str(file), "--seed", "5", *asked)
    assert code == DONE
    here = [json.loads(line) for line in lines.splitlines()]
    there = up.stdout.splitlines()
    assert [shape(json.loads(line)) for line in there[:41]] == [shape(line) for line in here]
    names = [re.split(r"│ *", line)[1].strip() for line in table.splitlines() if "│" in line]
    assert "fidelity (40 used)" in names
    assert [re.split(r"│ *", line)[1].strip() for line in there[41:] if "│" in line] == names


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

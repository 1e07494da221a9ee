"""The command line: instant help, exit codes, one-line errors."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from qstack_nodes.command import DONE, FAILED, UNREACHABLE, USAGE, main
from qstack_nodes.noted import noted, running

HEAVY = ("trio", "numpy", "rich", "msgpack", "attrs", "cattrs")
VERBS = ("up", "node", "pairs", "status", "sim", "sweep", "link", "check", "trace", "replay")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from qstack_nodes.command import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    print('LOADED', *sorted(sys.modules), file=sys.stderr)\n"
    )
    result = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=False
    )
    assert result.returncode == DONE
    for verb in VERBS:
        assert verb in result.stdout
    loaded = set(result.stderr.rpartition("LOADED")[2].split())
    assert "qstack_nodes.command" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_its_exit_codes(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == DONE
    text = capsys.readouterr().out
    assert f"qstack {verb}" in text
    assert "Exit codes" in text


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["pairs", "alice", "bob"],
        ["pairs", "alice", "bob", "--count", "0"],
        ["pairs", "alice", "bob", "--count", "1", "--fidelity-min", "1.5"],
        ["pairs", "alice", "bob", "--count", "1", "--timeout", "nan"],
        ["pairs", "alice", "bob", "--count", "1", "--kind", "teleport"],
        ["status", "--", "ls"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_two_and_a_reason(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == USAGE
    assert "usage" in capsys.readouterr().err


@pytest.fixture
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is up, as far as this user's files tell."""
    monkeypatch.delenv("QSTACK_NETWORK", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "qstack"


@pytest.mark.usefixtures("quiet_machine")
def test_without_a_network_the_ways_to_name_one_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status"]) == USAGE
    text = capsys.readouterr().err
    for way in ("--network", "QSTACK_NETWORK", "qstack up", "None is up"):
        assert way in text


def test_the_only_network_that_is_up_need_not_be_named_and_of_two_the_names_are_told(
    capsys: pytest.CaptureFixture[str], quiet_machine: Path
) -> None:
    """What a launcher left behind that was killed is no network; link needs nobody to answer."""
    quiet_machine.mkdir(0o700)
    (quiet_machine / "7").write_text("chain5")
    words = ["link", "alice", "bob", "--budget"]
    with noted("nv_lab"):
        assert running() == ["nv_lab"]
        assert main(words) == DONE
        (quiet_machine / "8").write_text("chain5")
        with (quiet_machine / "8").open() as another:
            fcntl.flock(another, fcntl.LOCK_EX)
            assert main(words) == USAGE
    assert "Up are chain5, nv_lab" in capsys.readouterr().err
    assert running() == []
    assert list(quiet_machine.iterdir()) == []


def test_a_folder_that_others_can_write_into_tells_of_nothing(quiet_machine: Path) -> None:
    with noted("nv_lab"):
        quiet_machine.chmod(0o777)
        assert running() == []


@pytest.mark.parametrize(
    "words",
    [
        ["up", "{file}"],
        ["check", "{file}"],
        ["node", "{file}", "alice"],
        ["status", "--network", "{file}"],
        ["link", "a", "b", "--budget", "--network", "{file}"],
        ["pairs", "a", "b", "--count", "1", "--network", "{file}"],
    ],
    ids=" ".join,
)
def test_a_wrong_network_file_ends_with_two_and_every_error(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lab.toml"
    file.write_text("name = 'lab'\ntime_scale = -1.0\nfoo = 3\n[nodes]\n[links]\n")
    assert main([word.format(file=file) for word in words]) == USAGE
    text = capsys.readouterr().err
    assert "time_scale" in text
    assert "foo" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("verb", ["trace", "replay"])
def test_a_file_that_is_missing_or_no_trace_is_named(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.qtrace"
    assert main([verb, str(missing)]) == USAGE
    assert "missing.qtrace" in capsys.readouterr().err
    other = tmp_path / "other.qtrace"
    other.write_text("something else")
    assert main([verb, str(other)]) == FAILED
    assert "not a qstack trace" in capsys.readouterr().err


def test_the_codes_are_those_of_the_design() -> None:
    assert (DONE, FAILED, USAGE, UNREACHABLE) == (0, 1, 2, 3)


def test_output_that_nobody_reads_any_more_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        (sys.executable, "-m", "qstack_nodes.command", "--help"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert "Traceback" not in result.stderr

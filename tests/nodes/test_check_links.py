"""`qstack check` names the links that the simulated world cannot skip ahead on, and why."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from qstack_nodes.command import main

from qstack.config import load
from qstack.errors import ConfigError
from qstack.sim.from_file import attempt_by_attempt

FOLDER = resources.files("qstack_nodes") / "networks"
NAMES = ("ions_230m", "nv_lab", "source_in_the_middle", "two_nodes")


def changed(tmp_path: Path, name: str, old: str, new: str) -> Path:
    text = (FOLDER / f"{name}.toml").read_text("utf-8")
    assert old in text
    path = tmp_path / "network.toml"
    path.write_text(text.replace(old, new), "utf-8")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_all_links_of_shipped_networks_skip_ahead(name: str) -> None:
    assert attempt_by_attempt(load(name)) == ()


def test_a_dead_time_longer_than_the_cycle_is_named_for_each_setting(tmp_path: Path) -> None:
    path = changed(tmp_path, "two_nodes", "dark_hz = 10.0", "dark_hz = 10.0\ndead_ns = 20_000")
    ((link, reason),) = attempt_by_attempt(load(str(path)))
    assert link == "alice-bob"
    for setting in ("fast", "fair", "fine"):
        assert f"in setting {setting} a dead time of 20000 ns" in reason


def test_receivers_of_a_source_are_looked_at_too(tmp_path: Path) -> None:
    after = "dark_hz = 100.0\nafterpulse = 0.02\nafterpulse_ns = 5_000"
    path = changed(tmp_path, "source_in_the_middle", "dark_hz = 100.0", after)
    ((_, reason),) = attempt_by_attempt(load(str(path)))
    assert "afterpulses a click come later" in reason


def test_an_emitter_without_herald_line_is_a_reason(tmp_path: Path) -> None:
    after = "prepare_ns = 5_400\nherald_line = false"
    path = changed(tmp_path, "nv_lab", "prepare_ns = 5_400", after)
    ((_, reason),) = attempt_by_attempt(load(str(path)))
    assert reason == "alice.emitter has no herald line; bob.emitter has no herald line"


def test_afterpulses_without_their_time_are_an_error_of_the_file(tmp_path: Path) -> None:
    path = changed(tmp_path, "two_nodes", "dark_hz = 10.0", "dark_hz = 10.0\nafterpulse = 0.1")
    with pytest.raises(ConfigError, match="afterpulse needs its mean time, afterpulse_ns"):
        load(str(path))


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_the_link_and_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """Whatever it says of ports, which other processes of this machine may have."""
    path = changed(tmp_path, "two_nodes", "dark_hz = 10.0", "dark_hz = 10.0\ndead_ns = 20_000")
    main(["check", str(path), *(["--json"] if as_json else [])])
    lines = capsys.readouterr().out.splitlines()
    if as_json:
        told = [json.loads(line) for line in lines]
        assert [line["link"] for line in told if "link" in line] == ["alice-bob"]
        assert told[-1]["summary"]["stepwise"] == 1
    else:
        (line,) = [line for line in lines if "attempt by attempt" in line]
        assert line.startswith("link alice-bob runs attempt by attempt in the simulated world: in")

"""Devices that other processes serve, as network files name them: what holds, what is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from qstack.config import link_parameters, load
from qstack.config.hosts import filled
from qstack.drivers.laboratory import Laboratory, laboratory_host, wanted_of
from qstack.drivers.places import neighbours_of, node_host
from qstack.errors import ConfigError
from qstack.hal.memory import MemorySheet
from qstack.hal.remote import PLUGINS
from qstack.hal.replay import ReplayDetector
from qstack.machine import Machine
from tests.test_config import changed, write
from tests.test_config import find as find_simulated

BENCH = Path(__file__).resolve().parents[1] / "docs" / "examples" / "emulated_bench.toml"


def find(group: str, name: str) -> Any:
    return PLUGINS[group] if name == "remote" else find_simulated(group, name)


def remote_bench() -> dict[str, Any]:
    return tomllib.loads(BENCH.read_text())


def problems_of(folder: Path, data: dict[str, Any]) -> list[str]:
    """What is wrong with a file, without its name."""
    with pytest.raises(ConfigError) as caught:
        load(write(folder, data), find=find)
    return [line.partition("lab.toml: ")[2] for line in caught.value.problems]


def test_every_device_can_be_left_to_another_process(tmp_path: Path) -> None:
    network = load(write(tmp_path, remote_bench()), find=find)
    assert not network.simulated()
    (host,) = network.hosts
    assert (host.name, host.address, host.started) == ("bench", "127.0.0.1:47400", "here")
    sheet = network.node("alice").device("memory").sheet
    assert isinstance(sheet, MemorySheet)
    assert (sheet.communication, sheet.readout, sheet.abort_ns) == (2, (1.0, 1.0), 0)
    ends = link_parameters(network, "alice-bob").ends
    assert [(end.emitter, end.herald_line, end.model.gate_ns) for end in ends] == [
        ("alice.emitter", True, 1_000),
        ("bob.emitter", True, 1_000),
    ]


def test_owners_and_hosts_are_neighbours_and_what_nobody_commands_is_not_served(
    tmp_path: Path,
) -> None:
    network = load(write(tmp_path, remote_bench()), find=find)
    assert neighbours_of(network, "bench") == {"alice", "bob", "midpoint"}
    assert neighbours_of(network, "alice") == {"bench", "bob", "midpoint"}
    owned = {each.device: each.owner for each in wanted_of(network, "bench")}
    # The detectors are behind the analyser.
    assert owned == {
        "alice.emitter": "alice",
        "alice.memory": "alice",
        "bob.emitter": "bob",
        "bob.memory": "bob",
        "midpoint.analyser": "midpoint",
    }
    alice = node_host(network, "alice", seed=1)
    assert alice.devices.hosts == {"bench"}


def test_a_process_that_lacks_a_device_says_which(tmp_path: Path) -> None:
    network = load(write(tmp_path, remote_bench()), find=find)
    devices: dict[str, Machine] = {
        each.device: ReplayDetector(each.device, (), 1) for each in wanted_of(network, "bench")
    }
    del devices["bob.memory"]
    with pytest.raises(ConfigError, match=r"hosts\.bench: its process does not serve bob\.memory"):
        laboratory_host(network, "bench", Laboratory(devices), 1)
    with pytest.raises(ConfigError, match="there is no host 'lab': there are bench"):
        wanted_of(network, "lab")


def test_what_is_wrong_with_hosts_is_reported_at_once_each_with_its_key(tmp_path: Path) -> None:
    data = remote_bench()
    data["hosts"] = {
        "bench": {"address": "nowhere", "command": ["x", "{folder}/{where}"], "colour": "red"},
        "silent": {"address": "127.0.0.1:47401"},
        "away": {"address": "127.0.0.1:1", "started": "yesterday"},
        "alice": {"command": ["x"]},
        "two words": {"address": "127.0.0.1:2", "started": "elsewhere"},
    }
    data["nodes"]["bob"]["devices"]["memory"]["host"] = "bunch"
    data["nodes"]["bob"]["devices"]["emitter"]["host"] = 5
    sheet = data["nodes"]["alice"]["devices"]["memory"]["sheet"]
    sheet["readout"] = [1.0, 2.0]
    sheet["colour"] = "red"
    del data["nodes"]["alice"]["devices"]["emitter"]["sheet"]["efficiency"]
    found = problems_of(tmp_path, data)
    for wanted in (
        "hosts.alice: a node has this name already",
        "hosts.alice.address: is missing",
        "hosts.two words: is no name",
        "hosts.bench.colour: unknown key; known are address, command, started",
        "hosts.bench.command: {where} stands for nothing; known: {python}",
        "hosts.bench.address: 'nowhere' is not host:port",
        "hosts.silent.command: is missing: what shall qstack up start?",
        "hosts.silent.address: 127.0.0.1:47401 is the nodes.alice.address already",
        "hosts.silent: serves no device",
        "hosts.away.started: 'yesterday' is neither 'here' nor 'elsewhere'",
        "nodes.bob.devices.memory.host: there is no host 'bunch'; there are alice, away, bench",
        "nodes.bob.devices.emitter.host: expected text, found 5",
        "nodes.alice.devices.emitter.sheet.efficiency: is missing",
        "nodes.alice.devices.memory.sheet",
    ):
        assert any(line.startswith(wanted) for line in found), (wanted, found)


def test_a_datasheet_of_what_cannot_be_is_refused(tmp_path: Path) -> None:
    data = remote_bench()
    data["nodes"]["alice"]["devices"]["memory"]["sheet"]["readout"] = [1.0, 2.0]
    data["nodes"]["midpoint"]["devices"]["analyser"]["sheet"]["abort_ns"] = -1
    found = problems_of(tmp_path, data)
    assert "nodes.alice.devices.memory.sheet.readout: 2.0 is not in [0, 1]" in found
    assert "nodes.midpoint.devices.analyser.sheet.abort_ns: -1 is negative" in found


def test_a_link_that_is_simulated_in_part_is_refused(tmp_path: Path) -> None:
    data = changed()
    data["hosts"] = {"lab": {"address": "127.0.0.1:47990", "started": "elsewhere"}}
    devices = data["nodes"]["middle"]["devices"]
    sheet = remote_bench()["nodes"]["midpoint"]["devices"]["analyser"]["sheet"]
    devices["analyser"] = {"plugin": "remote", "host": "lab", "sheet": sheet}
    (line,) = problems_of(tmp_path, data)
    assert line == (
        "links.ab: middle.detectors is simulated, but middle.analyser is not: "
        "no light joins the two"
    )


def test_the_words_of_a_command_are_filled_in_one_by_one() -> None:
    words = ("{python}", "-m", "lab{name}", "a b {folder}/x", "plain")
    places = {"python": "/usr/bin/python3", "name": "7", "folder": "/etc", "network": "n"}
    assert filled(words, **places) == ("/usr/bin/python3", "-m", "lab7", "a b /etc/x", "plain")

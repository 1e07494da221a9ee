"""Devices that other processes serve, as network files name them: what holds, what is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qstack.config import link_parameters, load
from qstack.config.hosts import filled
from qstack.drivers.laboratory import Laboratory, laboratory_host, wanted_of
from qstack.drivers.places import neighbours_of, node_devices, node_host
from qstack.errors import ConfigError
from qstack.hal.memory import MemorySheet
from qstack.hal.remote import PLUGINS
from qstack.hal.replay import REPLAY, ReplayDetector
from qstack.hal.software_station import SOFTWARE
from qstack.machine import Machine
from qstack.messages.devices import Completed, DetectorOpen, Faulted, StationClock, StationOpen
from tests.test_config import changed, write
from tests.test_config import find as find_simulated

BENCH = Path(__file__).resolve().parents[1] / "docs" / "examples" / "emulated_bench.toml"


def find(group: str, name: str) -> Any:
    own = {"replay.detector": REPLAY, "software.station": SOFTWARE, "remote": PLUGINS[group]}
    return own[name] if name in own else find_simulated(group, name)


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
    data["keys"] = {"cypher": "rot13", "folder": 7}
    data["nodes"]["bob"]["devices"]["memory"]["host"] = "bunch"
    data["nodes"]["bob"]["devices"]["emitter"]["host"] = 5
    sheet = data["nodes"]["alice"]["devices"]["memory"]["sheet"]
    sheet["readout"] = [1.0, 2.0]
    sheet["colour"] = "red"
    del data["nodes"]["alice"]["devices"]["emitter"]["sheet"]["efficiency"]
    found = problems_of(tmp_path, data)
    for wanted in (
        "keys.cypher: unknown key; known are cipher, folder",
        "keys.folder: expected text, found 7",
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
    data["nodes"]["bob"]["devices"]["memory"]["sheet"] |= {"swap_success": -1, "bell_ns": -1}
    data["nodes"]["midpoint"]["devices"]["analyser"]["sheet"]["abort_ns"] = -1
    found = problems_of(tmp_path, data)
    assert "nodes.alice.devices.memory.sheet.readout: 2.0 is not in [0, 1]" in found
    assert "nodes.bob.devices.memory.sheet.swap_success: -1.0 is not in [0, 1]" in found
    assert "nodes.bob.devices.memory.sheet.bell_ns: -1 is negative" in found
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


def with_software_station(folder: Path) -> dict[str, Any]:
    """The bench, but for its analyser: that is software around a recorded detector."""
    np.savez(folder / "tags.npz", t=np.array([5], dtype=np.int64))
    data = remote_bench()
    data["nodes"]["midpoint"]["devices"] = {
        "analyser": {
            "plugin": "software.station",
            "measurement": "single-click",
            "detector": "tagger",
            "patterns": [[1, 2], [2, 3]],
        },
        "tagger": {
            "role": "detectors",
            "plugin": "replay.detector",
            "record": str(folder / "tags.npz"),
            "array": "t",
        },
    }
    return data


def test_a_software_station_is_built_around_the_detector_that_the_file_configures(
    tmp_path: Path,
) -> None:
    network = load(write(tmp_path, with_software_station(tmp_path)), find=find)
    assert network.link("alice-bob").detectors == "tagger"
    devices = node_devices(network, "midpoint")
    assert devices is not None
    clock = StationClock("midpoint.analyser", 1, "alice-bob", 1_000)
    assert devices.command("midpoint.analyser", clock, 0) == [Completed("midpoint.analyser", 1)]
    # The detector belongs to the station alone.
    (answer,) = devices.command("midpoint.tagger", DetectorOpen("midpoint.tagger", 2, 0), 0)
    assert isinstance(answer, Faulted)
    opened = StationOpen("midpoint.analyser", 3, "alice-bob", (), 0, 5, 1, 1_000, True)
    assert devices.command("midpoint.analyser", opened, 0) == []
    assert devices.deadline is not None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "midpoint has no device 'nothing'"),
        ("analyser", "'analyser' is of qstack.stations, not qstack.detectors"),
        ("far", "'far' lives in another process, and cannot be inside a device of this one"),
    ],
)
def test_what_cannot_be_inside_a_device_is_named(tmp_path: Path, name: str, reason: str) -> None:
    data = with_software_station(tmp_path)
    devices = data["nodes"]["midpoint"]["devices"]
    devices["far"] = remote_bench()["nodes"]["midpoint"]["devices"]["detectors"]
    devices["far"]["role"] = "detectors"
    devices["analyser"]["detector"] = name
    assert f"nodes.midpoint.devices.analyser.detector: {reason}" in problems_of(tmp_path, data)


def test_one_detector_is_not_inside_two_stations(tmp_path: Path) -> None:
    data = with_software_station(tmp_path)
    devices = data["nodes"]["midpoint"]["devices"]
    devices["second"] = {**devices["analyser"], "role": "analyser"}
    data["links"]["alice-bob"]["analyser"] = "analyser"
    assert problems_of(tmp_path, data) == [
        "nodes.midpoint.devices.second.detector: 'tagger' is inside 'analyser' already"
    ]


def test_the_words_of_a_command_are_filled_in_one_by_one() -> None:
    words = ("{python}", "-m", "lab{name}", "a b {folder}/x", "plain")
    places = {"python": "/usr/bin/python3", "name": "7", "folder": "/etc", "network": "n"}
    assert filled(words, **places) == ("/usr/bin/python3", "-m", "lab7", "a b /etc/x", "plain")

"""Network files: every problem at once, each with its key; and nothing but ConfigError, ever."""

from __future__ import annotations

import copy
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.config import budget, host_and_port, link_parameters, load
from qstack.errors import ConfigError
from qstack.hal.memory import MemorySheet
from qstack.hal.plugins import Plugin
from qstack.machine import record
from qstack.sim import devices as simulated

MEMORY = {"plugin": "sim.memory", "communication": 2, "storage": 2, "t1_ns": 10**9, "t2_ns": 10**9}
EMITTER = {"plugin": "sim.colour-centre", "efficiency": 0.5, "prepare_ns": 1_000}

VALID: dict[str, Any] = {
    "name": "lab",
    "time_scale": 2.0,
    "traces": "traces",
    "control": {"keepalive_ns": 10**8, "max_datagram": 1_200},
    "world": {"address": "127.0.0.1:47900", "seed": 7},
    "nodes": {
        "alice": {
            "kind": "end",
            "address": "127.0.0.1:47901",
            "user": "127.0.0.1:47902",
            "devices": {"emitter": dict(EMITTER), "memory": dict(MEMORY)},
        },
        "bob": {
            "kind": "end",
            "address": "127.0.0.1:47903",
            "user": "127.0.0.1:47904",
            "devices": {"nv": {"role": "emitter", **EMITTER}, "memory": dict(MEMORY)},
        },
        "middle": {
            "kind": "station",
            "address": "127.0.0.1:47905",
            "devices": {
                "analyser": {
                    "plugin": "sim.analyser",
                    "measurement": "single-click",
                    "detector": "detectors",
                    "visibility": 0.9,
                },
                "detectors": {"plugin": "sim.threshold", "efficiency": 0.8, "dark_hz": 10.0},
            },
        },
    },
    "links": {
        "ab": {
            "scheme": "midpoint-bsm",
            "station": "middle",
            "modes": 2,
            "test_rate": 0.1,
            "arms": {
                "bob": {"km": 2.0, "db_per_km": 0.2, "communication": [0]},
                "alice": {"km": 10.0, "db_per_km": 0.2, "extra_db": 0.5},
            },
            "settings": [
                {"id": "plain", "alpha": 0.1, "window_ps": 100_000},
                {"id": "split", "alpha": {"alice": 0.2, "bob": 0.1}, "window_ps": 100_000},
            ],
        }
    },
}


def find(group: str, name: str) -> Plugin:
    found = {plugin.name: plugin for plugin in simulated.PLUGINS[group]}
    if name not in found:
        raise ConfigError([f"no plugin {name!r} in {group}: installed are {', '.join(found)}"])
    return found[name]


def toml(value: Any) -> str:
    """Write a TOML value in one line; numbers and texts as JSON has them, but nan and inf."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


def write(folder: Path, data: dict[str, Any], name: str = "lab") -> Path:
    path = folder / f"{name}.toml"
    path.write_text("".join(f"{json.dumps(k)} = {toml(v)}\n" for k, v in data.items()), "utf-8")
    return path


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy of the valid file with values (None: nothing) at dotted keys."""
    data = copy.deepcopy(VALID)
    for dotted, value in changes:
        *way, last = dotted.split(".")
        place: Any = data
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if value is None:
            del place[last]
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return data


def problems_of(folder: Path, *changes: tuple[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, changed(*changes)), find=find)
    return caught.value.problems


def test_a_valid_file_comes_out_as_records(tmp_path: Path) -> None:
    network = load(write(tmp_path, VALID), find=find)
    assert (network.name, network.time_scale, network.traces) == ("lab", 2.0, "traces")
    assert network.world is not None
    assert network.world.seed == 7
    assert network.control.keepalive_ns == 10**8
    assert network.control.retransmit_floor_ns == 2_000_000
    assert network.simulated()
    assert network.node("bob").device("nv").name == "bob.nv"
    assert set(network.devices()) == {
        "alice.emitter",
        "alice.memory",
        "bob.nv",
        "bob.memory",
        "middle.analyser",
        "middle.detectors",
    }


def test_link_parameters_say_what_the_ends_and_the_station_need(tmp_path: Path) -> None:
    network = load(write(tmp_path, VALID), find=find)
    link = link_parameters(network, "ab")
    alice, bob = link.ends
    assert (alice.node, bob.node, link.master) == ("alice", "bob", "alice")
    assert (alice.emitter, bob.emitter, bob.memory) == ("alice.emitter", "bob.nv", "bob.memory")
    assert (link.station, link.analyser) == ("middle", "middle.analyser")
    assert alice.communication == (0, 1)
    assert alice.storage == (2, 3)
    assert bob.communication == (0,)
    assert alice.delay_ns == 48974  # 10 km at 2.0419e8 m/s
    assert link.cycle_ns == 1_000 + 97_948
    assert link.keep
    # Wall-bound patience, in lab time: 50 ms at two lab seconds a second, and four delays.
    assert link.confirm_ns == 100_000_000 + 4 * 48974
    assert link.setting("split").values == (
        ("alice", (("alpha", 0.2),)),
        ("bob", (("alpha", 0.1),)),
    )
    assert {p.clicks: p.bell for p in link.patterns()} == {1: 2, 2: 3}


def test_budget_and_link_parameters_promise_the_same(tmp_path: Path) -> None:
    network = load(write(tmp_path, VALID), find=find)
    link, found = link_parameters(network, "ab"), budget(network, "ab")
    assert [arm.node for arm in found.arms] == ["alice", "bob"]
    # 2 dB of fibre, 0.5 dB of connectors, 0.8 of the detector, 0.5 of the emitter.
    assert found.arms[0].rows[-1].left == pytest.approx(0.4 * 10**-0.25, rel=1e-12)
    for point, setting in zip(found.points, link.settings, strict=True):
        assert point.success == pytest.approx(setting.success_probability, rel=1e-12)
        assert point.patterns == setting.patterns


def test_a_given_cycle_is_kept(tmp_path: Path) -> None:
    network = load(write(tmp_path, changed(("links.ab.cycle_ns", 200_000))), find=find)
    assert link_parameters(network, "ab").cycle_ns == 200_000


WRONG: list[tuple[str, Any, str, str]] = [
    ("colour", "blue", "colour", "unknown key"),
    ("name", None, "name", "is missing"),
    ("time_scale", 0.0, "time_scale", "is not between"),
    ("time_scale", "fast", "time_scale", "expected a number"),
    ("control.max_datagram", 9_000, "control.max_datagram", "between 512 and 1200"),
    ("control.keepalive_ns", 1.5, "control.keepalive_ns", "expected a whole number"),
    ("control.speed", 1, "control.speed", "unknown key"),
    ("world", None, "world", "is missing, but alice.emitter is simulated"),
    ("world.address", "127.0.0.1", "world.address", "is not host:port"),
    ("nodes.alice.kind", "router", "nodes.alice.kind", "neither 'end' nor 'station'"),
    ("nodes.alice.user", None, "nodes.alice.user", "is missing"),
    ("nodes.alice.user", "127.0.0.1:47901", "nodes.alice.user", "nodes.alice.address already"),
    ("nodes.bob.address", "127.0.0.1:47900", "nodes.bob.address", "world.address already"),
    ("nodes.bob.address", "127.0.0.1:0", "nodes.bob.address", "is not a port"),
    ("nodes.bob.devices.nv.role", None, "nodes.bob.devices.nv.role", "says its role"),
    ("nodes.bob.devices.memory.plugin", None, "nodes.bob.devices.memory.plugin", "is missing"),
    ("nodes.bob.devices.nv.plugin", "acme.nv", "nodes.bob.devices.nv.plugin", "no plugin"),
    ("nodes.bob.devices.nv.efficiency", 1.2, "nodes.bob.devices.nv", "is not in [0, 1]"),
    ("nodes.bob.devices.nv.efficiency", None, "nodes.bob.devices.nv.efficiency", "is missing"),
    ("nodes.bob.devices.nv.colour", 1, "nodes.bob.devices.nv.colour", "unknown key"),
    ("nodes.bob.devices.memory.t2_ns", 3 * 10**9, "nodes.bob.devices.memory", "longer than twice"),
    ("nodes.middle.kind", "end", "links.ab.station", "are the two exchanged?"),
    ("links.alice", {}, "links.alice", "a node has this name already"),
    ("links.world", {}, "links.world", "reserved"),
    ("links.a b", {}, "links.a b", "is no name"),
    ("links.ab.scheme", "direct", "links.ab.scheme", "not yet supported"),
    ("links.ab.scheme", "carrier-pigeon", "links.ab.scheme", "neither"),
    ("links.ab.scheme", "midpoint-source", "links.ab.source", "has no source"),
    ("links.ab.station", "nowhere", "links.ab.station", "there is no node 'nowhere'"),
    ("links.ab.station", "bob", "links.ab.station", "are the two exchanged?"),
    ("links.ab.arms.carol", {"km": 1.0, "db_per_km": 0.2}, "links.ab.arms", "two ends, not 3"),
    ("links.ab.arms.alice", None, "links.ab.arms", "two ends, not 1"),
    ("links.ab.arms.alice.km", -1.0, "links.ab.arms.alice.km", "is not between 0 and"),
    ("links.ab.arms.alice.km", 1e308, "links.ab.arms.alice.km", "is not between 0 and"),
    ("nodes.bob.devices.memory.storage", 2**62, "nodes.bob.devices.memory", "1 to 4096 slots"),
    ("nodes.bob.devices.nv.prepare_ns", 10**400, "nodes.bob.devices.nv.prepare_ns", "too large"),
    ("nodes.bob.devices.nv.efficiency", 0.0, "links.ab.settings.0", "no pattern stands out"),
    ("nodes.bob.devices.nv.phase_sigma", 1e200, "links.ab.settings.0", "no pattern stands out"),
    ("links.ab.arms.alice.emitter", "x", "links.ab.arms.alice.emitter", "it has emitter"),
    ("links.ab.arms.bob.communication", [0, 2], "links.ab.arms.bob.communication", "slot 2"),
    ("links.ab.cycle_ns", 50_000, "links.ab.cycle_ns", "round trip of light: 98948"),
    ("links.ab.modes", 0, "links.ab.modes", "is not positive"),
    ("links.ab.test_rate", 1.0, "links.ab.test_rate", "is not in [0, 1)"),
    ("links.ab.scheduler", "lottery", "links.ab.scheduler", "is none of first-come"),
    ("links.ab.settings", [], "links.ab.settings", "at least one"),
    ("links.ab.settings.0.id", "split", "links.ab.settings.1.id", "there twice"),
    ("links.ab.settings.0.alpha", None, "links.ab.settings.0.alpha", "is missing"),
    ("links.ab.settings.0.alpha", 1.5, "links.ab.settings.0.alpha", "bright population"),
    ("links.ab.settings.1.alpha", {"alice": 0.1}, "links.ab.settings.1.alpha", "the ends are"),
    ("links.ab.settings.0.window_ps", 0, "links.ab.settings.0.window_ps", "is not positive"),
    (
        "nodes.middle.devices.detectors.dark_hz",
        1e7,
        "links.ab.settings.0",
        "no pattern stands out of the noise",
    ),
    (
        "nodes.middle.devices.analyser.measurement",
        "polarisation",
        "links.ab.analyser",
        "does not suit photons of alice",
    ),
]


@pytest.mark.parametrize(("key", "value", "path", "reason"), WRONG)
def test_each_mistake_is_named_by_file_key_and_reason(
    tmp_path: Path, key: str, value: Any, path: str, reason: str
) -> None:
    found = problems_of(tmp_path, (key, value))
    start = f"{tmp_path / 'lab.toml'}: {path}"
    assert any(line.startswith(start) and reason in line for line in found), found


def test_a_file_with_a_dozen_mistakes_reports_all_of_them(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        ("colour", "blue"),
        ("time_scale", -1.0),
        ("control.max_datagram", 100),
        ("world.seed", "x"),
        ("nodes.alice.user", "127.0.0.1:47903"),
        ("nodes.alice.devices.emitter.efficiency", 2.0),
        ("nodes.alice.devices.memory.t2_ns", 10**10),
        ("nodes.bob.devices.nv.plugin", "acme.nv"),
        ("nodes.bob.devices.memory.readout", [1.0]),
        ("nodes.middle.devices.detectors.dark_hz", True),
        ("links.ab.station", "nowhere"),
        ("links.ab.scheduler", "lottery"),
        ("links.ab.arms.bob.metres", 3),
        ("links.ab.settings.0.window_ps", -5),
        ("links.ab.settings.1.id", "plain"),
    )
    keys = (
        "colour",
        "time_scale",
        "control.max_datagram",
        "world.seed",
        "nodes.bob.address",
        "nodes.alice.devices.emitter",
        "nodes.alice.devices.memory",
        "nodes.bob.devices.nv.plugin",
        "nodes.bob.devices.memory.readout",
        "nodes.middle.devices.detectors.dark_hz",
        "links.ab.station",
        "links.ab.scheduler",
        "links.ab.arms.bob.metres",
        "links.ab.settings.0.window_ps",
        "links.ab.settings.1.id",
    )
    start = f"{tmp_path / 'lab.toml'}: "
    for key in keys:
        assert any(line.startswith(f"{start}{key}: ") for line in found), (key, found)


@record
class Bare:
    size: int = 1


def test_what_a_plugin_leaves_unchecked_is_checked_in_its_datasheet(tmp_path: Path) -> None:
    sheet = MemorySheet(
        0, 0, 10, 50, 0.0, 2.0, 0.0, 1.0, 0, 1.0, 1.0, -1, 1.0, 0, (1.0, 1.5), ((0, 0),)
    )
    careless = Plugin("careless", Bare, lambda parameters: sheet, None)

    def lookup(group: str, name: str) -> Plugin:
        return careless if name == "careless" else find(group, name)

    data = changed(("nodes.bob.devices.memory", {"plugin": "careless", "size": 3}))
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, data), find=lookup)
    text = "\n".join(caught.value.problems)
    for key in ("t2_ns", "exponent", "equilibrium", "move_ns", "readout", "coupled"):
        assert f"nodes.bob.devices.memory.{key}: " in text
    assert "a memory has 1 to 4096 slots, not 0" in text


def test_a_plugin_that_gives_the_sheet_of_another_group_is_named(tmp_path: Path) -> None:
    wrong = Plugin("wrong", Bare, lambda parameters: simulated.emitter_sheet(GOOD), None)

    def lookup(group: str, name: str) -> Plugin:
        return wrong if name == "wrong" else find(group, name)

    with pytest.raises(ConfigError, match=r"gives a EmitterSheet in qstack\.memories"):
        load(
            write(tmp_path, changed(("nodes.bob.devices.memory", {"plugin": "wrong"}))),
            find=lookup,
        )


GOOD = simulated.ColourCentreParameters(efficiency=0.5)


def test_a_plugin_that_cannot_be_imported_is_a_problem_of_its_key(tmp_path: Path) -> None:
    def broken(group: str, name: str) -> Plugin:
        if name == "sim.memory":
            raise ImportError("no module named driver")
        return find(group, name)

    with pytest.raises(ConfigError, match=r"memory\.plugin: 'sim\.memory' cannot be imported"):
        load(write(tmp_path, VALID), find=broken)


def test_bare_names_are_looked_up_in_the_folder_of_networks(tmp_path: Path) -> None:
    write(tmp_path, VALID, "mine")
    assert load("mine", networks=tmp_path, find=find).file == "mine.toml"
    with pytest.raises(ConfigError, match="no such network of mine"):
        load("yours", networks=tmp_path, find=find)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "yours.toml", find=find)


def test_shipped_networks_are_missed_by_name_where_the_command_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(anchor: str) -> Path:
        raise ModuleNotFoundError(anchor)

    monkeypatch.setattr(resources, "files", nothing)
    with pytest.raises(ConfigError, match="qstack_nodes"):
        load("no_such_network", find=find)


@pytest.mark.parametrize("text", ["= 3", "name = 'a'\nname = 'b'", "\x00", "[" * 5_000])
def test_what_is_not_toml_is_one_problem(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="not TOML"):
        load(path, find=find)


def test_what_is_not_text_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path, find=find)


@pytest.mark.parametrize(
    ("text", "parts"), [("127.0.0.1:1", ("127.0.0.1", 1)), ("::1:47000", ("::1", 47000))]
)
def test_addresses_split_at_the_last_colon(text: str, parts: tuple[str, int]) -> None:
    assert host_and_port(text) == parts


# --- mutations ------------------------------------------------------------------------------


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way] if way else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*way, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*way, index))
    return found


JUNK = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=8),
    st.sampled_from([[], {}, [[]], [{}], {"": 0}, "end", "station", "middle", "alice", "emitter"]),
)
NEW_KEYS = st.sampled_from(
    ["role", "alpha", "memory", "source", "keep", "arms", "", "x.y", "a @ b"]
)
MUTATION = st.tuples(
    st.sampled_from(places(VALID)),
    st.sampled_from(["replace", "remove", "insert", "copy"]),
    JUNK,
    NEW_KEYS,
    st.sampled_from(places(VALID)),
)


def inside(data: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        data = data[step]
    return data


def mutate(data: Any, way: tuple[Any, ...], kind: str, value: Any, key: str) -> None:
    """Change one place, if an earlier mutation has left it there."""
    try:
        parent = inside(data, way[:-1])
        if kind == "remove":
            del parent[way[-1]]
        elif kind == "insert" and isinstance(parent[way[-1]], dict):
            parent[way[-1]][key] = value
        else:
            parent[way[-1]] = value
    except (KeyError, IndexError, TypeError):
        return


@given(st.lists(MUTATION, min_size=1, max_size=3))
def test_no_mutation_of_a_valid_file_does_anything_but_load_or_raise_configerror(
    tmp_path_factory: pytest.TempPathFactory,
    mutations: list[tuple[tuple[Any, ...], str, Any, str, tuple[Any, ...]]],
) -> None:
    data = copy.deepcopy(VALID)
    for way, kind, junk, key, other in mutations:
        value = copy.deepcopy(inside(VALID, other) if kind == "copy" else junk)
        mutate(data, way, kind, value, key)
    path = write(tmp_path_factory.getbasetemp(), data, "mutant")
    problems: tuple[str, ...] = ()
    network = None
    try:
        network = load(path, find=find)
    except ConfigError as error:
        problems = error.problems
    assert (network is None) == bool(problems)
    assert all(line.startswith(str(path)) for line in problems)
    if network is None:
        return
    for link in network.links:
        parameters = link_parameters(network, link.name)
        assert all(0 < setting.success_probability <= 1 for setting in parameters.settings)

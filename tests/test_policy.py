"""What operators decide of circuits: from the network file to what nodes say and do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qstack.config import load, parse, read_text
from qstack.drivers.places import node_host, policy_of
from qstack.errors import ConfigError
from qstack.messages.circuits import Method
from qstack.sim import Network


def chain(**changes: Any) -> Any:
    file, text = read_text("chain3")
    return parse(text, file, changes=dict(changes))


def test_what_is_not_said_is_thirty_seconds_half_a_second_and_no_trust() -> None:
    network = chain(time_scale=2.0)
    policy = policy_of(network, network.node("r1"))
    # Wall time; two seconds of lab time pass in one of it.
    assert (policy.trust, policy.lease_ns, policy.idle_ns) == (0, 60 * 10**9, 10**9)


def test_a_node_is_told_what_its_operator_decided() -> None:
    network = chain(
        **{"nodes.r1.trust": 7, "nodes.r1.lease_ns": 10**9, "nodes.r1.idle_ns": 0, "time_scale": 1},
        **{"nodes.r1.purify": ["pumped-bbpssw"]},
    )
    told = node_host(network, "r1", 1).network.desk.parameters
    assert (told.trust, told.lease_ns, told.idle_ns) == (7, 10**9, 1)
    assert told.methods == (Method.PUMPED_BBPSSW,)
    told = node_host(network, "alice", 1).network.desk.parameters
    assert told.trust == 0
    assert told.methods == (
        Method.NESTED_DEJMPS,
        Method.PUMPED_DEJMPS,
        Method.NESTED_LOSS,
    )


def test_all_others_hear_how_far_a_node_is_trusted() -> None:
    network = Network.load("chain3", 3, changes={"nodes.bob.trust": 5})
    for name in network.nodes:
        routes = network.status(name)["network"]["routes"]
        assert {each: said["trust"] for each, said in routes.items()} == {
            "alice": 0,
            "bob": 5,
            "r1": 0,
        }


def test_an_idle_circuit_is_taken_down_after_the_time_that_its_head_end_was_told() -> None:
    network = Network.load(
        "chain3", 3, changes={"nodes.alice.idle_ns": 2 * 10**9, "time_scale": 1.0}
    )
    network.pairs("alice", "bob", count=1)
    heap, ended = network.virtual.heap, network.now

    def circuits() -> list[int]:
        return [len(network.status(name)["network"]["circuits"]) for name in network.nodes]

    heap.run(ended + 1_990_000_000)
    assert circuits() == [1, 1, 1]
    heap.run(ended + 2_010_000_000)
    assert circuits() == [0, 0, 0]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("nodes.r1.trust", -1, "is negative"),
        ("nodes.r1.trust", 1.5, "expected a whole number"),
        ("nodes.r1.lease_ns", 99_999_999, "is shorter than 100000000"),
        ("nodes.r1.idle_ns", -1, "is negative"),
        ("nodes.r1.purify", ["by-magic"], "'by-magic' is none of nested-dejmps, "),
        ("nodes.s1.trust", 1, "means nothing for a station"),
        ("nodes.s1.lease_ns", 10**9, "means nothing for a station"),
        ("nodes.s1.idle_ns", 0, "means nothing for a station"),
    ],
)
def test_what_no_operator_can_decide_is_named_by_key(key: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chain(**{key: value})
    (line,) = caught.value.problems
    assert line.startswith(f"chain3.toml: {key}: ")
    assert reason in line


def test_a_shipped_file_loads_with_a_trusted_repeater(tmp_path: Path) -> None:
    _, text = read_text("chain3")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[nodes.r1]\n", "[nodes.r1]\ntrust = 2\n"))
    assert load(path).node("r1").trust == 2

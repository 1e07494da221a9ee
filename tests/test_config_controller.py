"""The controller in a network file: what it makes of links and nodes, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qstack.config import load, parse, read_text
from qstack.drivers.places import needed_by, neighbours_of, node_host, policy_of
from qstack.network.service import TimeDivision
from tests.test_config import changed, find, problems_of, write

NAMED = ("controller", {"node": "alice"})


def chain(controller: str) -> Any:
    """The shipped chain alice, r1, bob, with these lines at its end."""
    file, text = read_text("chain3")
    return parse(f"{text}\n[controller]\n{controller}\n", file)


def test_with_a_controller_links_are_divided_in_time_and_without_one_they_are_not(
    tmp_path: Path,
) -> None:
    network = load(write(tmp_path, changed(NAMED)), find=find)
    assert network.controller is not None
    assert (network.controller.node, network.controller.bin_ns) == ("alice", 100_000_000)
    assert network.link("ab").scheduler == "time-division"
    network = load(write(tmp_path, changed()), find=find)
    assert network.controller is None
    assert network.link("ab").scheduler == "first-come"


def test_every_node_is_told_who_divides_in_lab_time() -> None:
    network = chain('node = "bob"\nbin_ns = 40_000_000\nlease_ns = 2_000_000_000')
    # A second of wall time is a twentieth of lab time there.
    division = TimeDivision("bob", 2_000_000, 100_000_000, ("alice", "bob", "r1"))
    for name in ("alice", "r1", "bob"):
        assert policy_of(network, network.node(name)).division == division
        told = node_host(network, name, 1).network
        assert told.desk.parameters.division == division
        assert (told.division.controller is not None) is (name == "bob")


def test_who_asks_has_an_address_of_the_controller_and_can_do_without_it() -> None:
    network = chain('node = "bob"')
    assert neighbours_of(network, "alice") == {"world", "s1", "r1", "bob"}
    assert needed_by(network, "alice") == {"world", "s1", "r1"}
    assert neighbours_of(network, "bob") == {"world", "s2", "r1", "alice"}
    assert neighbours_of(network, "s1") == {"world", "alice", "r1"}


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (("controller", {"node": "carol"}), "controller.node", "no node 'carol': there are alice"),
        (("controller", {"node": "middle"}), "controller.node", "middle is a station"),
        (("controller", {}), "controller.node", "is missing"),
        (("controller", 7), "controller", "expected a table"),
        (("controller", {"node": "bob", "bins": 3}), "controller.bins", "unknown key"),
        (("controller", {"node": "bob", "bin_ns": 0}), "controller.bin_ns", "is not between 1 and"),
        (
            ("controller", {"node": "bob", "bin_ns": 10**12}),
            "controller.bin_ns",
            "is not between 1 and",
        ),
        (("controller", {"node": "bob", "lease_ns": 5}), "controller.lease_ns", "is shorter than"),
    ],
)
def test_a_wrong_controller_is_named_with_key_and_reason(
    change: tuple[str, Any], key: str, reason: str, tmp_path: Path
) -> None:
    (problem,) = problems_of(tmp_path, change)
    assert f": {key}: " in problem
    assert reason in problem


def test_a_link_with_another_scheduler_does_not_go_together_with_a_controller(
    tmp_path: Path,
) -> None:
    found = problems_of(tmp_path, NAMED, ("links.ab.scheduler", "first-come"))
    (problem,) = found
    assert ": links.ab.scheduler: 'first-come' keeps to no bins" in problem

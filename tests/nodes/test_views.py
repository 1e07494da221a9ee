"""``qstack routes`` and ``qstack circuits``: what tired operators see."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qstack_nodes.command import DONE, UNREACHABLE, USAGE, main
from qstack_nodes.viewing import Viewing, show

from qstack.config import parse, read_text
from qstack.sim import Network
from tests.network.views import circuit, routes_of

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row of a table is broken."""
    monkeypatch.setenv("COLUMNS", "200")


def rows(printed: str) -> list[list[str]]:
    """The cells of each row of the tables that were printed."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in printed.splitlines()
        if line.startswith("│")
    ]


def sim(printed: Printed, *words: str) -> tuple[int, str, str]:
    code = main(["sim", *words])
    found = printed.readouterr()
    return code, found.out, found.err


# --- in virtual time ----------------------------------------------------------------------


def test_every_node_of_a_chain_knows_the_way_to_every_other(capsys: Printed) -> None:
    code, out, _ = sim(capsys, "chain5", "--seed", "4", "routes", "--json")
    assert code == DONE
    *nodes, last = map(json.loads, out.splitlines())
    assert last == {"summary": {"nodes": 5, "silent": []}}
    chain = ["alice", "r1", "r2", "r3", "bob"]
    assert sorted(each["node"] for each in nodes) == sorted(chain)
    for each in nodes:
        here = chain.index(each["node"])
        for there, name in enumerate(chain):
            known = each["routes"][name]
            if there == here:
                assert "way" not in known
                continue
            step = 1 if there > here else -1
            assert known["way"] == [chain[i] for i in range(here, there + step, step)]
            assert known["rate_hz"] > 0
            assert 0.5 < known["fidelity"] < 1
            assert all(link["up"] for link in known["links"].values())


def test_the_table_of_routes_says_by_whom_and_how_good(capsys: Printed) -> None:
    code, out, _ = sim(capsys, "chain3", "routes", "alice")
    assert code == DONE
    found = rows(out)
    (far,) = [row for row in found if row[:2] == ["alice", "bob"]]
    (near,) = [row for row in found if row[:2] == ["alice", "r1"]]
    assert far[2:4] == ["r1", "2"]
    assert near[2:4] == ["directly", "1"]
    assert [row[3:6] for row in found if len(row) == 8] == [
        ["alice-r1", "r1", "up"],
        ["r1-bob", "r1", "up"],
        ["alice-r1", "alice", "up"],
        ["r1-bob", "bob", "up"],
    ]


def test_circuits_of_a_quiet_network_are_none(capsys: Printed) -> None:
    code, out, _ = sim(capsys, "chain3", "circuits")
    assert code == DONE
    assert "no circuits" in out


def test_bins_are_shown_with_whose_they_are_and_who_cannot_reach_the_controller(
    capsys: Printed,
) -> None:
    file, text = read_text("chain3")
    network = Network(parse(f'{text}\n[controller]\nnode = "bob"\n', file), 5)
    seen: dict[str, Any] = {}

    def look(_: Any) -> None:
        seen.update({name: network.status(name) for name in ("alice", "r1", "bob")})

    network.pairs("alice", "bob", count=20, timeout_s=0.1, on_pair=look)
    (granted,) = seen["bob"]["network"]["bins"]["granted"]
    assert granted["links"] == ["alice-r1", "r1-bob"]
    seen["r1"]["network"]["bins"]["there"] = False
    assert show(seen, Viewing("circuits", (), False)) == DONE
    out = capsys.readouterr().out
    shown = " ".join(out.split())
    assert "bins of links, granted by bob, whom r1 cannot reach" in shown
    for link in granted["links"]:
        (row,) = [row for row in rows(out) if row[0] == link]
        assert row[1] == granted["circuit"]
        assert row[3] == "ready"
    (bare,) = [row for row in rows(out) if row[:2] == ["alice-r1", granted["circuit"]]]
    first, last = bare[2].split(" to ")
    assert int(last) - int(first) + 1 >= granted["bins"] >= 1


def test_a_circuit_is_shown_at_each_of_its_nodes_with_its_request(capsys: Printed) -> None:
    network = Network.load("chain5", 5)
    seen: dict[str, Any] = {}

    def look(_: Any) -> None:
        seen.update({name: network.status(name) for name in network.nodes})

    network.pairs("alice", "bob", count=3, on_pair=look)
    assert show(seen, Viewing("circuits", (), True)) == DONE
    *nodes, _ = map(json.loads, capsys.readouterr().out.splitlines())
    roles = {each["node"]: each["circuits"][0]["role"] for each in nodes}
    assert roles == {
        "alice": "head",
        "r1": "between",
        "r2": "between",
        "r3": "between",
        "bob": "tail",
    }
    for each in nodes:
        (member,) = each["circuits"]
        assert member["path"] == ["alice", "r1", "r2", "r3", "bob"]
        assert (member["lease_ns"] is None) == (each["node"] == "alice")
        # Half a minute of wall time, of which a few milliseconds of lab time have passed.
        assert each["node"] == "alice" or 1_400_000_000 < member["lease_ns"] < 1_500_000_000
    show(seen, Viewing("circuits", (), False))
    found = rows(capsys.readouterr().out)
    assert [row[1:4] for row in found if row[3:4] == ["ready"]] == [
        ["alice", "head", "ready"],
        ["r1", "between", "ready"],
        ["r2", "between", "ready"],
        ["r3", "between", "ready"],
        ["bob", "tail", "ready"],
    ]
    (counted,) = [row for row in found if row[0] == "r2"]
    assert int(counted[1]) >= 3


def test_what_nobody_has_done_for_circuits_has_no_column_so_that_heads_fit_a_terminal(
    capsys: Printed,
) -> None:
    code, out, _ = sim(capsys, "chain3", "circuits")
    assert code == DONE
    assert "swaps" in out
    assert "expired" not in out
    network = Network.load("chain3", 5)
    network.pairs("alice", "bob", count=3)
    status = network.status("r1")
    status["network"]["counters"]["expired"] = 2
    show({"r1": status}, Viewing("circuits", (), False))
    out = capsys.readouterr().out
    assert "expired" in out
    assert "\u2026" not in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["chain3", "routes", "zoe"], "'zoe'"),
        (["chain3", "routes", "s1"], "s1 has neither routes nor circuits"),
    ],
)
def test_a_name_without_routes_is_told_in_one_line(
    words: list[str], reason: str, capsys: Printed
) -> None:
    code, out, error = sim(capsys, *words)
    assert (code, out) == (USAGE, "")
    assert len(error.splitlines()) == 1
    assert reason in error


def test_pairs_are_listed_with_id_state_goodness_bound_hops_and_age(capsys: Printed) -> None:
    asked = ("chain3", "--seed", "4", "pairs", "alice", "bob", "--count", "5")
    _, lines, _ = sim(capsys, *asked, "--json")
    *pairs, _ = map(json.loads, lines.splitlines())
    code, out, _ = sim(capsys, *asked, "--list")
    assert code == DONE
    listed = [row for row in rows(out) if len(row) == 6]
    assert listed == [
        [
            pair["pair"],
            f"{pair['bell']} ({pair['bell_index']})",
            f"{pair['goodness']:.4f}",
            f"{pair['goodness_low']:.4f}",
            "2",
            f"{pair['age_ns'] / 1e6:.3f}",
        ]
        for pair in pairs
    ]
    (promised,) = [row for row in rows(out) if row[0] == "promised by the route"]
    assert promised[2].endswith("on average")
    (rate,) = [row for row in rows(out) if row[0] == "pairs per second"]
    assert rate[2].startswith("at most ")


# --- what is unusual ----------------------------------------------------------------------


def test_a_link_that_is_down_and_a_node_that_is_behind_stand_out(capsys: Printed) -> None:
    new = routes_of(("a", 7, {"ab": ("b", False)}), ("b", 2, {"ab": ("a", True)}))
    old = routes_of(("a", 6, {"ab": ("b", True)}), ("b", 2, {"ab": ("a", True)}))
    assert show({"a": new, "b": old}, Viewing("routes", (), False)) == DONE
    found = rows(capsys.readouterr().out)
    assert found[0][:3] == ["a", "b", "no way"]
    (down,) = [row for row in found if row[0] == "a" and row[3:4] == ["ab"]]
    assert down[5] == "DOWN"
    assert down[7] == "b"


def test_who_does_not_answer_is_named_and_ends_with_three(capsys: Printed) -> None:
    answers: dict[str, Any] = {"a": routes_of(("a", 1, {})), "b": "b is asleep"}
    for view in ("routes", "circuits"):
        assert show(answers, Viewing(view, (), False)) == UNREACHABLE
        assert "b: b is asleep" in capsys.readouterr().out
        assert show(answers, Viewing(view, (), True)) == UNREACHABLE
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines[1:] == [
            {"node": "b", "error": "b is asleep"},
            {"summary": {"nodes": 2, "silent": ["b"]}},
        ]


def test_requests_are_shown_with_what_they_have_and_leases_in_seconds(capsys: Printed) -> None:
    head = circuit("head", lease_ns=None, requests=[("alice.1", "running", 3, 9)])
    tail = circuit("tail", lease_ns=2_500_000_000)
    answers: dict[str, Any] = {"bob": tail, "alice": head}
    show(answers, Viewing("circuits", (), False))
    first, second = [row for row in rows(capsys.readouterr().out) if len(row) == 8]
    assert first == [
        "c",
        "alice",
        "head",
        "ready",
        "0",
        "1.500",
        "its own",
        "alice.1 running 3 of 9",
    ]
    assert second == ["", "bob", "tail", "ready", "0", "1.500", "2.5", ""]


def test_what_drains_and_what_rests_is_shown_as_such(capsys: Printed) -> None:
    said = routes_of(("a", 7, {"ab": ("b", False)}), ("b", 2, {"ab": ("a", True)}))
    said["network"]["routes"]["a"]["links"]["ab"]["draining"] = True
    said["network"]["routes"]["b"]["draining"] = True
    show({"a": said}, Viewing("routes", (), False))
    found = rows(capsys.readouterr().out)
    assert [row[5] for row in found if row[3:4] == ["ab"]] == ["draining", "up, node draining"]
    resting = circuit("head", lease_ns=None)
    resting["network"]["circuits"][0]["rests"] = True
    show({"alice": resting}, Viewing("circuits", (), False))
    (row,) = [row for row in rows(capsys.readouterr().out) if len(row) == 8]
    assert row[3] == "resting"
    status: dict[str, Any] = {
        "node": "a",
        "kind": "end",
        "links": {},
        "network": {"draining": {"node": True, "links": ["ab"]}},
    }
    show({"a": status}, Viewing("status", (), False))
    out = capsys.readouterr().out
    assert "end, draining" in out
    assert "draining: takes nothing new" in out

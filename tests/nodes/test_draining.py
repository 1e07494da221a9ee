"""Draining and dry runs as users meet them: in virtual time, and as commands on live processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from qstack_nodes.asking import has_way, on_circuit
from qstack_nodes.command import DONE, FAILED, UNREACHABLE, USAGE, main
from qstack_nodes.draining import Place, places_of, runs

from qstack.config import load
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode
from qstack.errors import ConfigError, RequestFailed
from qstack.messages.application import PairReady, Terms
from qstack.sim import Network
from qstack.sim.embedding import Wanted
from tests.nodes.live_rig import (
    LIMIT_S,
    NETWORKS,
    Book,
    environment_for,
    nobody_has,
    on_own_ports,
    plain,
    up,
)

Printed = pytest.CaptureFixture[str]


def terms(remote: str, number: int, **changes: Any) -> Terms:
    values: dict[str, Any] = {
        "fidelity_min": 0.0,
        "max_time_ns": 0,
        "purpose": 0,
        "priority": 0,
        "weight": 1.0,
        "atomic": False,
        "consecutive": False,
    }
    return Terms(remote, number, **(values | changes))


def emitted(network: Network) -> int:
    """How many orders to send light there were, to emitters."""
    frames = network.virtual.heap.frames
    return sum(count for kind, count in frames.items() if "Emit" in kind)


# --- dry runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(2),
        Wanted(2, fidelity_min=0.8),
        Wanted(2, fidelity_min=0.99),
        Wanted(20, timeout_s=0.1),
        Wanted(1_000_000, timeout_s=0.1),
        Wanted(2, trust_min=1),
    ],
    ids=str,
)
def test_a_dry_run_says_what_the_request_itself_is_told_then_and_nothing_is_emitted(
    wanted: Wanted,
) -> None:
    network = Network.load("chain3", seed=3)
    found = network.try_pairs("alice", "bob", wanted)
    assert emitted(network) == 0
    assert all(not network.status(name)["network"]["circuits"] for name in network.nodes)
    made = network.measure("alice", "bob", wanted)
    assert (found.code is None) is (made.error == "")
    if made.failure is not None:
        assert (found.code, found.reason) == (made.failure.code, made.failure.reason)
        assert found.nodes == found.links == ()
        return
    assert found.nodes == ("alice", "r1", "bob")
    assert found.promised_hz == (wanted.count / wanted.timeout_s if wanted.timeout_s else 0)
    assert found.fidelity >= wanted.fidelity_min
    assert len(found.cutoffs_ns) == 1
    assert emitted(network) > 0


def test_the_rate_that_a_dry_run_states_is_where_requests_begin_to_be_refused() -> None:
    network = Network.load("chain3", seed=3)
    rate = network.try_pairs("alice", "bob", Wanted(1)).rate_hz
    for part, served in ((0.99, True), (1.01, False)):
        asked = Wanted(int(part * rate * 10), timeout_s=10.0)
        assert (network.try_pairs("alice", "bob", asked).code is None) is served


def test_the_command_prints_way_rates_fidelity_cutoffs_and_rounds(capsys: Printed) -> None:
    words = ["sim", "chain3", "pairs", "alice", "bob", "--dry-run"]
    assert main([*words, "--json", "--count", "50", "--timeout", "1"]) == DONE
    (line,) = capsys.readouterr().out.splitlines()
    summary = json.loads(line)["summary"]
    assert summary["served"]
    assert (summary["nodes"], summary["promised_hz"]) == (["alice", "r1", "bob"], 50.0)
    assert (summary["method"], summary["rounds"]) == ("none", 0)
    assert main(words) == DONE
    out = capsys.readouterr().out
    for words_shown in (
        *("alice-r1 r1-bob", f"{summary['rate_hz']:,.1f}", f"{summary['fidelity']:.4f}"),
        *("nothing: no --timeout", f"r1 {summary['cutoffs_ns']['r1'] / 1e6:.3f}"),
    ):
        assert words_shown in out


def test_a_dry_run_that_is_refused_ends_with_one_and_the_reason(capsys: Printed) -> None:
    words = ["sim", "chain3", "pairs", "alice", "bob", "--dry-run", "--trust", "1"]
    assert main(words) == FAILED
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err == (
        "qstack: UNSUPPORTED: trust 1 is asked for of all nodes on the way; the network stands for "
        "0 at most: r1 has 0\n"
    )
    assert main([*words, "--json"]) == FAILED
    assert json.loads(capsys.readouterr().out)["summary"]["code"] == "UNSUPPORTED"


def test_pairs_need_a_count_unless_the_run_is_dry(capsys: Printed) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sim", "chain3", "pairs", "alice", "bob"])
    assert ended.value.code == USAGE
    assert "--count" in capsys.readouterr().err


def test_rounds_of_purification_are_told_by_their_method(tmp_path: Path, capsys: Printed) -> None:
    file = str(tmp_path / "rich.toml")
    made = ("--nodes", "3", "--km", "2", "--qubits", "4", "--output", file)
    assert main(["topology", "chain", *made]) == DONE
    words = ["sim", file, "pairs", "alice", "bob", "--dry-run", "--fidelity-min", "0.96", "--json"]
    assert main(words) == DONE
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["method"] in ("nested-dejmps", "pumped-dejmps")
    assert summary["rounds"] >= 1
    assert summary["fidelity"] >= 0.96


# --- draining in virtual time -------------------------------------------------------------------


def test_what_runs_over_a_node_that_drains_finishes_and_what_is_new_goes_around_it() -> None:
    network = Network.load("ring6", seed=1)

    async def program(one: LiveNode, other: LiveNode, between: LiveNode) -> list[int]:
        incoming = await other.listen(0)
        running = await one.create_keep(terms("n3", 40))
        hops: list[int] = []
        ten = trio.Event()

        async def take(deliveries: Any, node: LiveNode) -> None:
            async for ready in deliveries:
                assert isinstance(ready, PairReady)
                if node is one:
                    hops.append(ready.info.hops)
                    if len(hops) == 10:
                        ten.set()
                await node.free(ready.qubit)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, incoming, other)
            async with trio.open_nursery() as first:
                first.start_soon(take, running, one)
                await ten.wait()
                await between.drain()
                assert on_circuit(await one.status(), "n3")
            assert len(hops) == 40
            await take(await one.create_keep(terms("n3", 5)), one)
            nursery.cancel_scope.cancel()
        await between.drain(undo=True)
        return hops

    assert network.run(program, "n1", "n3", "n2") == [2] * 40 + [4] * 5


def test_a_network_that_drains_where_there_is_no_other_way_refuses_and_says_so() -> None:
    network = Network.load("chain3", seed=1)
    for name, link in (("r1", None), ("bob", "r1-bob")):
        network.drain(name, link)
        with pytest.raises(RequestFailed, match="drain"):
            network.pairs("alice", "bob", count=1)
        assert network.status(name)["network"]["draining"]["node"] is (link is None)
        network.drain(name, link, undo=True)
        assert network.pairs("alice", "bob", count=1).fidelity is None
    with pytest.raises(RequestFailed, match="no link 'r1-bob' is here"):
        network.drain("alice", "r1-bob")


def test_a_request_is_given_up_where_its_circuit_is_down_but_not_where_it_drains() -> None:
    def status(**view: Any) -> dict[str, Any]:
        link = {"peer": "r", "up": True, "draining": False}
        back = {"peer": "b", "up": False, "draining": True} | view
        circuit = {"role": "head", "path": ["a", "r", "b"], "requests": ["x"]}
        routes = {"a": {"links": {"ar": link}}, "r": {"links": {"rb": back}}}
        return {"network": {"routes": routes, "circuits": [circuit]}}

    assert on_circuit(status(), "b")
    assert not on_circuit(status(draining=False), "b")
    assert not on_circuit(status(), "r")


# --- the command ----------------------------------------------------------------------------


def test_a_link_drains_at_both_ends_and_other_names_are_told() -> None:
    network = load("chain3")
    assert places_of(network, ("r1-bob", "alice", "alice")) == [
        *(Place("bob", "r1-bob"), Place("r1", "r1-bob")),
        Place("alice", None),
    ]
    with pytest.raises(ConfigError, match="s1 is neither a node nor a link that can be drained"):
        places_of(network, ("s1",))


def test_what_runs_is_what_circuits_and_links_of_the_place_serve() -> None:
    circuits = [{"requests": [{"request": "a.1"}], "share": {"ar": 0.0}}]
    rooms: dict[str, Any] = {
        "ar": {"link": {"requests": []}},
        "rb": {"link": {"requests": [{"request": "b.7"}]}},
    }
    status = {"network": {"circuits": circuits}, "links": rooms}
    assert runs(status, None) == ["a.1", "b.7"]
    assert runs(status, "ar") == ["a.1"]
    assert runs(status, "rb") == ["b.7"]


async def lived(file: Path, environment: dict[str, str], printed: Printed) -> None:
    """A repeater is drained while a request runs over it, looked at, and used again."""
    number = 60

    async def say(*words: str) -> tuple[int, str, str]:
        code = await trio.to_thread.run_sync(main, [*words, "--network", str(file)])
        found = printed.readouterr()
        return code, found.out, found.err

    async with (
        up(file, environment),
        connect(str(file), "alice", "bob", timeout_s=LIMIT_S) as (alice, bob),
        trio.open_nursery() as nursery,
    ):
        one, other = Book(alice), Book(bob)
        await nursery.start(other.receive)
        running = await alice.create_keep(plain("bob", number))
        nursery.start_soon(one.fulfil, running)
        await one.reaches(5)
        code, out, _ = await say("drain", "r1", "--json")
        assert code == DONE
        told = json.loads(out.splitlines()[0])
        assert (told["node"], told["link"], told["draining"]) == ("r1", None, True)
        assert str(running.id) in told["runs"]
        code, out, _ = await say("drain", "r1", "--wait", "--json")
        assert json.loads(out.splitlines()[0])["runs"] == []
        await one.reaches(number)
        await other.reaches(number)
        assert one.valid == other.valid
        code, _, error = await say("pairs", "alice", "bob", "--dry-run")
        assert code == FAILED
        assert "r1 takes nothing new: it is draining" in error or "draining: node r1" in error
        _, out, _ = await say("routes", "alice", "--json")
        assert json.loads(out.splitlines()[0])["routes"]["r1"]["draining"]
        _, out, _ = await say("status", "r1")
        assert "end, draining" in out
        code, _, error = await say("pairs", "alice", "bob", "--count", "1")
        assert code == UNREACHABLE
        assert "node r1 drains" in error
        code, out, _ = await say("drain", "r1", "--undo")
        assert code == DONE
        assert "requests again" in out
        while not has_way(await alice.status(), "bob"):
            pass
        served = await alice.try_pairs(plain("bob", 3))
        assert (served.code, served.nodes) == (None, ("alice", "r1", "bob"))
        await one.fulfil(await alice.create_keep(plain("bob", 3)))
        assert len(one.ids) == number + 3
        code, _, error = await say("drain", "zoe")
        assert code == USAGE
        assert "zoe is neither a node nor a link" in error
        nursery.cancel_scope.cancel()


def test_live_a_repeater_drains_while_a_request_runs_over_it_and_is_used_again(
    tmp_path: Path, capsys: Printed
) -> None:
    file = on_own_ports((NETWORKS / "chain3.toml").read_text(), tmp_path)
    environment = environment_for(tmp_path)

    async def limited() -> None:
        with trio.fail_after(2 * LIMIT_S):
            await lived(file, environment, capsys)

    trio.run(limited)
    assert nobody_has(file)


def test_live_a_node_that_does_not_answer_ends_the_command_with_three(
    tmp_path: Path, capsys: Printed
) -> None:
    file = on_own_ports((NETWORKS / "chain3.toml").read_text(), tmp_path)
    assert main(["drain", "r1-bob", "--network", str(file), "--json"]) == UNREACHABLE
    *told, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [each["node"] for each in told] == last["summary"]["silent"] == ["bob", "r1"]
    assert all("no answer from" in each["error"] for each in told)

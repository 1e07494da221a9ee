"""The benchmark tells the truth about its targets; how fast anything is, nobody asserts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from qstack.config import link_parameters, load
from tests.benchmarks import __main__ as command
from tests.benchmarks import (
    calibration,
    circuits,
    live,
    networks,
    peer,
    programs,
    relay,
    ring,
    routing,
    virtual,
)
from tests.benchmarks.table import ABSENT, MET, MISSED, Figure, plain, render

WITHIN_S = 20.0


def test_a_table_shows_value_target_ratio_and_verdict_of_each_figure() -> None:
    figures = [
        Figure("slow enough", 12.34, "us", 20.0, ratio=6.17, ratio_of="times the floor"),
        Figure("too few", 999.0, "pairs/s", 1_500.0, at_most=False),
        Figure("unknown here", None, "MB", 80.0),
        Figure("for information", 5.0, "us"),
    ]
    head, _, slow, few, unknown, information = render(figures).split("\n")
    assert head.split("  ")[0] == "figure"
    assert "12.3 us" in slow
    assert "<= 20" in slow
    assert "6.17 times the floor" in slow
    assert slow.endswith(MET)
    assert ">= 1,500" in few
    assert few.endswith(MISSED)
    assert unknown.endswith(ABSENT)
    assert information.endswith("5 us")


def test_figures_survive_the_way_through_json() -> None:
    figure = Figure("rate", 2_000.0, "pairs/s", 1_500.0, at_most=False, ratio=0.9, ratio_of="x")
    read = json.loads(json.dumps(plain(figure)))
    assert read["verdict"] == MET
    assert (read["value"], read["target"], read["ratio"]) == (2_000.0, 1_500.0, 0.9)


@pytest.mark.parametrize("qubits", [1, 4, 16])
def test_variants_of_two_nodes_are_valid_and_have_ports_of_their_own(
    tmp_path: Path, qubits: int
) -> None:
    network = load(str(networks.write(tmp_path, qubits)))
    link = network.links[0]
    assert link.modes == qubits
    assert [len(arm.communication) for arm in link.arms] == [qubits, qubits]
    shipped = load("two_nodes")
    assert not {node.address for node in network.nodes} & {node.address for node in shipped.nodes}


@pytest.mark.parametrize("graph", relay.GRAPHS.values(), ids=relay.GRAPHS)
async def test_the_relay_graph_passes_each_message_along_all_hops(graph: relay.Graph) -> None:
    sockets = {role: relay.open_socket(role) for role in (*relay.ROLES, relay.USER)}
    places = {role: socket.address for role, socket in sockets.items()}
    async with trio.open_nursery() as nursery:
        for role in relay.ROLES:
            nursery.start_soon(relay.relay, sockets[role], places, graph)
        with trio.fail_after(WITHIN_S):
            took = await relay.ask(sockets[relay.USER], places, graph, 3)
        nursery.cancel_scope.cancel()
    for socket in sockets.values():
        socket.close()
    assert len(took) == 3
    hops = [sum(1 for hop in graph if hop.source == role) for role in relay.ROLES]
    assert [sockets[role].sent for role in relay.ROLES] == [3 * count for count in hops]


def test_the_relay_graph_also_runs_as_five_processes() -> None:
    assert len(relay.measure(2, timeout_s=WITHIN_S)) == 2


@pytest.mark.parametrize("graph", relay.GRAPHS.values(), ids=relay.GRAPHS)
def test_each_hop_of_the_relay_graph_leaves_from_where_its_cause_arrived(
    graph: relay.Graph,
) -> None:
    caused = [effect for hop in graph for effect in hop.causes]
    assert sorted(caused) == list(range(1, len(graph)))
    for hop in graph:
        assert {graph[effect].source for effect in hop.causes} <= {hop.target}


def test_the_critical_path_is_part_of_the_relay_graph_and_leads_to_its_end() -> None:
    here = 0
    for hop, following in zip(relay.PATH, relay.PATH[1:], strict=False):
        assert relay.HOPS[here]._replace(causes=()) == hop._replace(causes=())
        (here,) = (
            effect
            for effect in relay.HOPS[here].causes
            if relay.HOPS[effect]._replace(causes=()) == following._replace(causes=())
        )
    assert here == len(relay.HOPS) - 1


def test_efficiencies_give_the_success_probabilities_they_stand_for() -> None:
    for probability in (virtual.LIKELY, virtual.UNLIKELY):
        e, a = virtual.efficiency_of(probability), 0.5
        found = 2 * a * (1 - a) * e + a**2 * (e**2 + 2 * e * (1 - e))
        assert found == pytest.approx(probability, rel=1e-6)


def test_circuits_are_measured_over_several_hops_and_install_in_one_round_trip() -> None:
    figures = {figure.name: figure for figure in circuits.figures((2, 3), 4)}
    assert len(figures) == 7
    ahead = figures.pop("pairs of inner links ahead of the ends over 3 hops").value
    assert ahead is not None
    assert abs(ahead) <= 1  # next to an end no node is further ahead than the next pair
    assert all(figure.value is not None and figure.value > 0 for figure in figures.values())
    install = figures["install over 5 hops, in round trips of the path"]
    # The heap's own time, on every machine alike: a round trip and the way from user to node.
    assert install.value is not None
    assert install.value <= 1.2


def test_every_virtual_figure_can_be_measured_with_few_pairs() -> None:
    figures = list(virtual.figures(calibration.heap_operation_us(1_000), 8, 1))
    assert len(figures) == 19
    assert all(figure.value is not None and figure.value > 0 for figure in figures)


def test_every_figure_of_programs_can_be_measured_with_few_wake_ups() -> None:
    figures = list(programs.figures(calibration.heap_operation_us(1_000), 500, 1))
    assert [figure.value is not None for figure in figures] == [True] * 3


def test_a_network_that_cannot_be_measured_gives_figures_without_values() -> None:
    figures = [*live.rates(4, live.NOTHING, 500.0), *live.latency(live.NOTHING, 500.0)]
    assert [figure.verdict for figure in figures] == [ABSENT] * 3


def test_the_command_knows_its_parts() -> None:
    with pytest.raises(ValueError, match="no part"):
        list(command.measured("everything", 1.0))


@pytest.mark.parametrize(
    ("work", "probability"),
    [
        (peer.DOUBLE, (0.9 * 10**-0.01) ** 2 / 2),
        (peer.SINGLE, (0.9 * 10**-0.01) ** 2 / 2),
        (peer.RARE_DOUBLE, 1e-4),
    ],
)
def test_both_sides_of_the_comparison_have_the_success_law_and_fidelity_of_the_work(
    tmp_path: Path, work: peer.Work, probability: float
) -> None:
    patterns = setting_of(tmp_path, work).patterns
    assert sum(each.share for each in patterns) == pytest.approx(probability, rel=1e-3)
    assert [each.weights[each.bell] for each in patterns] == pytest.approx([0.95] * len(patterns))


def test_the_single_click_beside_the_comparison_has_the_same_fidelity(tmp_path: Path) -> None:
    for each in setting_of(tmp_path, peer.ONE_CLICK).patterns:
        assert each.weights[each.bell] == pytest.approx(0.95, abs=1e-3)


def setting_of(folder: Path, work: peer.Work) -> Any:
    path = folder / "peer.toml"
    path.write_text(peer.network_text(work), encoding="utf-8")
    return link_parameters(load(str(path)), "alice-bob").settings[0]


def test_our_side_of_the_comparison_delivers_what_it_is_asked_for() -> None:
    pace = peer.own_pace(peer.DOUBLE, 20)
    assert pace.pairs == 20
    assert pace.per_s is not None
    assert pace.per_s > 0


def test_without_the_peer_our_side_is_measured_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peer, "environment", lambda: "no such release")
    figures = list(peer.figures(peer.Asked(own=5, chain=5, rounds=1)))
    assert all(figure.value for figure in figures)
    assert not any("SeQUeNCe" in figure.name for figure in figures)
    assert "skipped, it cannot be had: no such release" in capsys.readouterr().err


def test_a_peer_that_fails_gives_figures_without_values() -> None:
    figures = list(peer.beside("work", 5.0, None, 25.0))
    assert [figure.verdict for figure in figures] == [ABSENT] * 2
    there = peer.best([None, peer.Pace(2, 2.0, 1), peer.Pace(4, 2.0, 1), peer.Pace(0, 2.0, 1)])
    assert [each.value for each in peer.beside("work", 50.0, there, 25.0)] == [2, 25]


def test_the_figures_of_routing_can_be_measured_on_a_small_network() -> None:
    figures = list(routing.figures(40, 0.25))
    assert all(figure.value is not None and figure.value > 0 for figure in figures)
    assert [figure.target for figure in figures if figure.target] == [routing.RATIO]


def test_the_figures_of_the_ring_can_be_measured_on_a_small_one() -> None:
    """Each in a process of its own. Every link makes its pairs, or it would raise."""
    figures = list(ring.figures(4, 3))
    assert all(figure.value is not None and figure.value > 0 for figure in figures)
    assert {figure.target for figure in figures} == {None, ring.MEMORY_MB, ring.RATIO}
    assert figures[0].value is not None
    assert 10 < figures[0].value < ring.MEMORY_MB

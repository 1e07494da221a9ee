"""Generated networks: shapes that are what they are called, and files that run."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qstack_nodes import topology
from qstack_nodes.command import main
from qstack_nodes.fibre import read_fibre
from qstack_nodes.network_text import Look, network_text
from qstack_nodes.topology import Shape

from qstack.config import link_parameters, load
from qstack.errors import ConfigError
from qstack.sim.from_file import world_parameters
from qstack.sim.network import VirtualNetwork
from qstack.testing import Party, check_same_pairs, terms
from qstack.units import MILLISECOND, SECOND

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "topologies"
LOOK = Look("made", "A test", "a test")

SHAPES = {
    "chain": topology.chain(5, 2.0),
    "ring": topology.ring(6, 2.0),
    "star": topology.star(4, 2.0, repeater=True),
    "shared station": topology.star(4, 2.0, repeater=False),
    "grid": topology.grid(3, 4, 2.0),
    "geometric": topology.geometric(14, 50.0, 12.0, 1),
    "small world": topology.small_world(12, 4, 0.3, 2.0, 1),
    "scale free": topology.scale_free(12, 2, 2.0, 1),
    "hierarchical": topology.hierarchical(3, 2, 2.0),
}


def degrees(shape: Shape) -> dict[str, int]:
    count = Counter(end for edge in shape.edges for end in (edge.one, edge.other))
    return {node: count[node] for node in shape.nodes}


def distances(shape: Shape, start: str) -> dict[str, float]:
    near: dict[str, list[tuple[str, float]]] = {node: [] for node in shape.nodes}
    for edge in shape.edges:
        near[edge.one].append((edge.other, edge.km))
        near[edge.other].append((edge.one, edge.km))
    found: dict[str, float] = {}
    heap = [(0.0, start)]
    while heap:
        km, node = heapq.heappop(heap)
        if node not in found:
            found[node] = km
            for other, more in near[node]:
                heapq.heappush(heap, (km + more, other))
    return found


# --- shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_one_piece_without_loops_or_double_edges(name: str) -> None:
    shape = SHAPES[name]
    assert len(set(shape.nodes)) == len(shape.nodes)
    pairs = {frozenset((edge.one, edge.other)) for edge in shape.edges}
    assert len(pairs) == len(shape.edges)
    assert all(len(pair) == 2 for pair in pairs)
    assert set(distances(shape, shape.nodes[0])) == set(shape.nodes)
    assert all(edge.km > 0 for edge in shape.edges)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_becomes_a_network_file_without_a_problem(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    path = tmp_path / "made.toml"
    path.write_text(network_text(shape, LOOK), encoding="utf-8")
    network = load(path)
    assert [node.name for node in network.nodes if node.kind == "end"] == list(shape.nodes)
    assert len(network.links) == len(shape.edges)
    for link, edge in zip(network.links, shape.edges, strict=True):
        assert {arm.node for arm in link.arms} == {edge.one, edge.other}
        assert sum(arm.km for arm in link.arms) == pytest.approx(edge.km, rel=1e-5)
    world_parameters(network)


def test_no_two_links_of_a_node_share_an_emitter_or_a_qubit(tmp_path: Path) -> None:
    path = tmp_path / "made.toml"
    path.write_text(network_text(SHAPES["grid"], Look("made", "A test", "", 2)), encoding="utf-8")
    network = load(path)
    for node in SHAPES["grid"].nodes:
        arms = [arm for link in network.links for arm in link.arms if arm.node == node]
        assert len({arm.emitter for arm in arms}) == len(arms)
        slots = [slot for arm in arms for slot in arm.communication]
        assert sorted(slots) == list(range(2 * len(arms)))


def test_a_row_has_its_users_at_the_ends() -> None:
    assert SHAPES["chain"].nodes == ("alice", "r1", "r2", "r3", "bob")
    assert distances(SHAPES["chain"], "alice")["bob"] == pytest.approx(8.0)


def test_rings_stars_and_grids_have_the_degrees_that_they_are_known_for() -> None:
    assert set(degrees(SHAPES["ring"]).values()) == {2}
    assert degrees(SHAPES["star"]) == {"hub": 4, "n1": 1, "n2": 1, "n3": 1, "n4": 1}
    assert degrees(SHAPES["shared station"]) == {f"n{n}": 3 for n in range(1, 5)}
    assert Counter(degrees(SHAPES["grid"]).values()) == {2: 4, 3: 6, 4: 2}


def test_from_leaf_to_leaf_of_a_star_it_is_as_far_over_either_hub() -> None:
    for name in ("star", "shared station"):
        assert distances(SHAPES[name], "n1")["n4"] == pytest.approx(2.0)


def test_random_geometric_edges_are_those_within_reach_and_what_joins_the_pieces() -> None:
    shape = SHAPES["geometric"]
    long = [edge for edge in shape.edges if edge.km > 12.0]
    # Removing any edge that is out of reach leaves two pieces: it was there to join them.
    for edge in long:
        rest = Shape(shape.nodes, tuple(e for e in shape.edges if e is not edge))
        assert len(distances(rest, edge.one)) < len(shape.nodes)
    assert 0 < len(long) < len(shape.nodes)


def test_a_small_world_has_the_edges_of_its_ring_and_shorter_ways() -> None:
    rewired, plain = SHAPES["small world"], topology.small_world(12, 4, 0.0, 2.0, 1)
    assert len(rewired.edges) == len(plain.edges) == 24
    assert set(degrees(plain).values()) == {4}
    hops = []
    for shape in (plain, rewired):
        edges = tuple(topology.Edge(edge.one, edge.other, 1.0) for edge in shape.edges)
        unit = Shape(shape.nodes, edges)
        hops.append(sum(sum(distances(unit, node).values()) for node in unit.nodes))
    assert hops[1] < hops[0]


def test_a_scale_free_network_has_a_few_nodes_with_many_links() -> None:
    shape = topology.scale_free(300, 2, 2.0, 5)
    found = sorted(degrees(shape).values())
    assert len(shape.edges) == 3 + 2 * 297
    assert found[0] == 2
    assert found[len(found) // 2] <= 3
    # The largest degree grows as the root of the size: far beyond what chance alone would give.
    assert found[-1] > 20


def test_a_hierarchy_has_a_core_ring_and_shorter_links_below() -> None:
    shape = SHAPES["hierarchical"]
    assert len(shape.nodes) == 2 + 4 + 8
    assert Counter(edge.km for edge in shape.edges) == {2.0: 1, 1.0: 4, 0.5: 8}
    assert degrees(shape)["c1"] == 3
    assert degrees(shape)["c1_1_1"] == 1
    assert set(degrees(topology.hierarchical(2, 3, 2.0)).values()) == {5, 1}


def test_the_same_seed_gives_the_same_network_and_another_another() -> None:
    makers: tuple[Callable[[int], Shape], ...] = (
        lambda seed: topology.geometric(30, 50.0, 8.0, seed),
        lambda seed: topology.small_world(20, 4, 0.3, 2.0, seed),
        lambda seed: topology.scale_free(40, 2, 2.0, seed),
    )
    for make in makers:
        assert make(1) == make(1)
        assert make(1) != make(2)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["ring", "--nodes", "2"], "--nodes"),
        (["chain", "--nodes", "100000"], "--nodes"),
        (["small-world", "--degree", "3"], "--degree"),
        (["scale-free", "--nodes", "5", "--links", "5"], "--links"),
        (["hierarchical", "--branches", "1"], "--branches"),
        (["hierarchical", "--levels", "40"], "--levels"),
        (["grid", "--rows", "30", "--columns", "30", "--port", "64000"], "--port"),
        (["chain", "--km", "-1"], "--km"),
        (["chain", "--km", "nan"], "--km"),
        (["chain", "--qubits", "0"], "--qubits"),
        (["chain", "--name", "no name"], "--name"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_argument_that_forbids_it(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["topology", *arguments]) == 2
    said = capsys.readouterr()
    assert word in said.err
    assert said.out == ""


# --- the command, and what it writes ------------------------------------------------------


def test_pairs_are_delivered_to_both_neighbours_of_a_repeater_at_once(tmp_path: Path) -> None:
    path = tmp_path / "chain.toml"
    assert main(["topology", "chain", "--nodes", "3", "--output", str(path)]) == 0
    deliver(path, ("r1", "alice"), ("r1", "bob"))


def test_pairs_are_delivered_over_one_station_that_all_links_share(tmp_path: Path) -> None:
    path = tmp_path / "star.toml"
    assert main(["topology", "star", "--hub", "station", "--output", str(path)]) == 0
    deliver(path, ("n1", "n2"), ("n3", "n4"), ("n1", "n4"))


def deliver(path: Path, *pairs: tuple[str, str], count: int = 5) -> None:
    """Ask for pairs between neighbours at once, and check that both ends get them."""
    file = load(path)
    links = [link_parameters(file, link.name) for link in file.links]
    network = VirtualNetwork(links, world_parameters(file), seed=1)
    heap = network.heap
    users = []
    for one, other in pairs:
        both = [Party(heap, f"user-{one}-{other}-{node}", node) for node in (one, other)]
        for user in both:
            network.user(user.name, [user.node], user.listen)
        users.append((both[0], both[1]))
    heap.run(200 * MILLISECOND)
    for purpose, (asking, taking) in enumerate(users):
        taking.accept(purpose)
        asking.keep(terms(taking.node, count, purpose=purpose))
    everybody = [user for both in users for user in both]
    heap.run(20 * SECOND, stop=lambda: all(user.finished() for user in everybody))
    for asking, taking in users:
        assert len(asking.pairs) == count, (asking.node, taking.node, asking.ended)
        check_same_pairs(asking, taking)


# --- real fibres --------------------------------------------------------------------------


def write(folder: Path, data: Any) -> Path:
    path = folder / "net.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_fibres_are_cut_into_equal_links_no_longer_than_the_spacing(tmp_path: Path) -> None:
    data = {
        "nodes": [{"id": 0, "name": "Köln"}, {"id": 1, "name": "Bad Ems"}, {"id": 2}],
        "edges": [
            {"source": 0, "target": 1, "dist": 50.0},
            {"source": 1, "target": 2, "dist": 20.0},
            {"source": 1, "target": 0, "dist": 90.0},
        ],
    }
    shape = read_fibre(write(tmp_path, data), 20.0)
    assert shape.nodes == ("koln", "bad_ems", "n3", "r1", "r2")
    assert [(e.one, e.other, round(e.km, 4)) for e in shape.edges] == [
        ("bad_ems", "r1", 16.6667),
        ("r1", "r2", 16.6667),
        ("r2", "koln", 16.6667),
        ("bad_ems", "n3", 20.0),
    ]


def test_an_imported_network_is_a_network_file_that_names_its_source(tmp_path: Path) -> None:
    data = {"nodes": [{"id": 1}, {"id": 2}], "edges": [{"source": 1, "target": 2, "km": 30}]}
    path = tmp_path / "made.toml"
    words = ["topology", "fibre", str(write(tmp_path, data)), "--spacing-km", "15"]
    assert main([*words, "--output", str(path)]) == 0
    assert [link.name for link in load(path).links] == ["n1-r1", "r1-n2"]
    assert "km = 7.5  # [R] net.json, cut into links" in path.read_text(encoding="utf-8")


def test_cities_of_one_name_are_told_apart(tmp_path: Path) -> None:
    nodes = [
        {"id": "a", "name": "Halle"},
        {"id": "b", "name": "halle"},
        {"id": "c", "name": "東京"},
    ]
    data = {"nodes": nodes, "links": [{"source": "a", "target": "b", "km": 1}]}
    assert read_fibre(write(tmp_path, data), 5.0).nodes == ("halle", "halle2", "n3")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "nodes: expected a list"),
        ({"nodes": [{"name": "x"}], "edges": []}, "nodes.0: has no id"),
        ({"nodes": [{"id": 1}, {"id": 1}], "edges": []}, "there twice"),
        ({"nodes": [{"id": 1}]}, "edges: expected a list"),
        ({"nodes": [{"id": 1}], "edges": [{"source": 1, "target": 2, "km": 1}]}, "no node '2'"),
        ({"nodes": [{"id": 1}], "edges": [{"source": 1, "target": 1}]}, "no kilometres"),
        ({"nodes": [{"id": 1}], "edges": [{"source": 1, "target": 1, "km": -1}]}, "no kilometres"),
    ],
)
def test_a_file_that_is_no_fibre_network_is_refused_with_its_reason(
    tmp_path: Path, data: Any, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_fibre(write(tmp_path, data), 5.0)


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_fibre(tmp_path / "none.json", 5.0)
    path = tmp_path / "net.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not JSON"):
        read_fibre(path, 5.0)


ROW = {
    "nodes": [{"id": n, "name": name} for n, name in enumerate(("Aa", "Bb", "Cc", "Dd"))],
    "edges": [
        {"source": 0, "target": 1, "dist": 10.0},
        {"source": 1, "target": 2, "dist": 45.5},
        {"source": 2, "target": 3, "dist": 7.25},
        {"source": 1, "target": 3, "dist": 60.0},
    ],
}
KNOWN: list[tuple[str, int, float]] = [("row", 4, 62.75)]
if DATA.is_dir():
    KNOWN += [("topozoo_Surfnet", 50, 395.27), ("sndlib_nobel-germany", 17, 790.48)]


@pytest.mark.parametrize(("name", "count", "diameter_km"), KNOWN)
def test_a_network_that_is_cut_keeps_its_cities_and_its_diameter(
    tmp_path: Path, name: str, count: int, diameter_km: float
) -> None:
    path = write(tmp_path, ROW) if name == "row" else DATA / f"{name}.json"
    shape = read_fibre(path, 20.0)
    cities = [node for node in shape.nodes if not (node[0] == "r" and node[1:].isdigit())]
    assert len(cities) == count
    assert max(edge.km for edge in shape.edges) <= 20.0
    far = [distances(shape, one) for one in cities]
    assert max(each[other] for each in far for other in cities) == pytest.approx(
        diameter_km, abs=0.01
    )
    assert network_text(shape, LOOK).count("scheme =") == len(shape.edges)

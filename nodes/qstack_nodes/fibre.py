"""Real fibre networks: node-link JSON with kilometres, cut into links of a length that works.

The format is that of networkx (`nodes` with `id` and `name`, `edges` or `links` with `source`,
`target` and a length), as the collections of the Internet Topology Zoo and SNDlib have it in the
package topohub, where the length is called `dist`.
"""

from __future__ import annotations

import json
import math
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

from qstack.errors import ConfigError
from qstack_nodes.topology import MOST_NODES, Edge, Shape

LENGTHS = ("dist", "km", "length_km", "length", "weight")
"""What the kilometres of an edge may be called, the first that is there."""

_LONGEST = 12
"""Characters of a name from a file, which leaves room for what is added to it."""


def read_fibre(path: Path, spacing_km: float) -> Shape:
    """Return the network of a file with repeaters so that no link is longer than `spacing_km`.

    A fibre of d kilometres becomes ``ceil(d / spacing)`` links of equal length. Parallel fibres
    become one, the shortest. ConfigError names what is wrong with the file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: not JSON: {error}"]) from error
    if not 0 < spacing_km < math.inf:
        raise ConfigError([f"--spacing-km: {spacing_km} is not positive"])
    problems: list[str] = []
    names = _node_names(data, problems)
    fibres = _fibres(data, names, problems)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return _cut(list(names.values()), fibres, spacing_km)


def _node_names(data: Any, problems: list[str]) -> dict[str, str]:
    raw = data.get("nodes") if isinstance(data, dict) else None
    if not isinstance(raw, list) or not raw:
        problems.append("nodes: expected a list of nodes")
        return {}
    found: dict[str, str] = {}
    taken: set[str] = {"world"}
    for index, node in enumerate(raw):
        if not isinstance(node, dict) or "id" not in node:
            problems.append(f"nodes.{index}: has no id")
            continue
        if str(node["id"]) in found:
            problems.append(f"nodes.{index}.id: {node['id']!r} is there twice")
            continue
        name = plain = _plain(str(node.get("name", node["id"])), index)
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}{number}"
        taken.add(name.lower())
        found[str(node["id"])] = name
    return found


def _plain(name: str, index: int) -> str:
    """A name that network files allow: letters without accents, digits, and underscores."""
    bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = "".join(each if each.isalnum() else " " for each in bare).split()
    text = "_".join(words)[:_LONGEST].rstrip("_").lower()
    return text if text[:1].isalpha() else f"n{index + 1}"


def _fibres(data: Any, names: dict[str, str], problems: list[str]) -> dict[tuple[str, str], float]:
    raw = None
    if isinstance(data, dict):
        raw = data.get("edges", data.get("links"))
    if not isinstance(raw, list):
        problems.append("edges: expected a list of edges")
        return {}
    found: dict[tuple[str, str], float] = {}
    for index, edge in enumerate(raw):
        where = f"edges.{index}"
        if not isinstance(edge, dict):
            problems.append(f"{where}: expected an object")
            continue
        ends = [str(edge.get(key)) for key in ("source", "target")]
        strange = [end for end in ends if end not in names]
        if strange:
            problems.append(f"{where}: there is no node {strange[0]!r}")
            continue
        km = next((edge[key] for key in LENGTHS if key in edge), None)
        if isinstance(km, bool) or not isinstance(km, int | float) or not 0 <= km < math.inf:
            problems.append(f"{where}: no kilometres under any of {', '.join(LENGTHS)}")
            continue
        one, other = sorted(names[end] for end in ends)
        if one != other:
            found[one, other] = min(float(km), found.get((one, other), math.inf))
    return found


def _cut(cities: list[str], fibres: dict[tuple[str, str], float], spacing_km: float) -> Shape:
    nodes, edges = list(cities), []
    for (one, other), km in sorted(fibres.items()):
        pieces = max(1, math.ceil(km / spacing_km - 1e-9))
        between = [f"r{len(nodes) - len(cities) + step}" for step in range(1, pieces)]
        nodes += between
        row = [one, *between, other]
        # Two cities in one place still have a building between them.
        length = max(km / pieces, 0.001)
        edges += [Edge(a, b, round(length, 6)) for a, b in pairwise(row)]
    if len(nodes) > MOST_NODES:
        raise ConfigError([f"--spacing-km: {len(nodes)} nodes are more than {MOST_NODES}"])
    return Shape(tuple(nodes), tuple(edges))

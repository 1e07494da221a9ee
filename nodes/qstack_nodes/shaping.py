"""The verb `qstack topology KIND`: its arguments, and the network file that it writes.

What makes the shapes is imported when the verb runs: the arguments are part of all help.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qstack_nodes.topology import Shape

NUMBERS: dict[str, tuple[type, Any, str]] = {
    "nodes": (int, None, "nodes, or leaves of a star"),
    "km": (float, 2.0, "kilometres of fibre of each link"),
    "rows": (int, 3, "rows of the grid"),
    "columns": (int, 3, "columns of the grid"),
    "side-km": (float, 50.0, "side of the square that nodes lie in"),
    "reach-km": (float, 15.0, "nodes no further apart than this are joined"),
    "degree": (int, 4, "neighbours of each node before links are rewired, even"),
    "rewired": (float, 0.2, "probability that a link which is not of the ring leads elsewhere"),
    "links": (int, 2, "links that each new node brings"),
    "levels": (int, 2, "levels of the hierarchy, the core ring included"),
    "branches": (int, 3, "nodes of the core, and below each node"),
    "spacing-km": (float, 20.0, "no link is longer: repeaters cut the fibres"),
    "seed": (int, 1, "of all that is drawn"),
}

KINDS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "chain": ("a row of repeaters between alice and bob", ("nodes", "km"), 3),
    "ring": ("a closed row", ("nodes", "km"), 6),
    "star": ("leaves around a repeater, or around one station that all links share",
             ("nodes", "km"), 4),
    "grid": ("a rectangle", ("rows", "columns", "km"), 0),
    "geometric": ("nodes at random in a square", ("nodes", "side-km", "reach-km", "seed"), 20),
    "small-world": ("a ring with shortcuts", ("nodes", "degree", "rewired", "km", "seed"), 20),
    "scale-free": ("few nodes with many links", ("nodes", "links", "km", "seed"), 20),
    "hierarchical": ("a core ring with trees below it", ("levels", "branches", "km"), 0),
    "fibre": ("a real fibre network from node-link JSON with kilometres", ("spacing-km",), 0),
}  # fmt: skip
"""Per kind: what it is, which numbers it takes, and how many nodes if nobody says."""


def add_kinds(verb: argparse.ArgumentParser, function: Callable[..., int]) -> None:
    """Give the verb its kinds, each with the arguments that mean something for it."""
    kinds = verb.add_subparsers(title="kinds", metavar="KIND", dest="kind", required=True)
    for kind, (summary, numbers, nodes) in KINDS.items():
        each = kinds.add_parser(kind, help=summary, description=summary[0].upper() + summary[1:])
        each.set_defaults(verb_function=function)
        if kind == "fibre":
            each.add_argument("file", metavar="FILE", help="nodes and edges with lengths, as JSON")
        if kind == "star":
            each.add_argument("--hub", choices=("repeater", "station"), default="repeater")
        for name in numbers:
            of, default, meaning = NUMBERS[name]
            given = nodes if name == "nodes" else default
            metavar = "N" if of is int else "X"
            each.add_argument(f"--{name}", type=of, default=given, metavar=metavar, help=meaning)
        each.add_argument("--name", default=kind.replace("-", "_"), help="of the network")
        each.add_argument(
            "--qubits", type=int, default=1, metavar="N", help="of each end of each link"
        )
        each.add_argument("--port", type=int, default=48_000, metavar="N", help="the first used")
        each.add_argument("--output", metavar="FILE", help="written there; default: printed")


def write_topology(given: argparse.Namespace) -> int:
    """Write the network file of a kind; ConfigError for arguments that cannot be met."""
    from qstack_nodes.network_text import Look, network_text  # noqa: PLC0415  help stays instant

    shape = _shape(given)
    summary = KINDS[given.kind][0]
    links = f"{len(shape.edges)} link{'s' if len(shape.edges) > 1 else ''}"
    mark = f"[R] {Path(given.file).name}, cut into links" if given.kind == "fibre" else "[chosen]"
    look = Look(
        name=given.name,
        description=f"{summary[0].upper()}{summary[1:]}: {len(shape.nodes)} nodes, {links}",
        made_by=_command(given),
        qubits=given.qubits,
        port=given.port,
        mark=mark,
    )
    text = network_text(shape, look)
    if given.output is None:
        sys.stdout.write(text)
    else:
        Path(given.output).write_text(text, encoding="utf-8")
    return 0


def _shape(given: argparse.Namespace) -> Shape:
    from qstack_nodes import topology  # noqa: PLC0415  help must stay instant
    from qstack_nodes.fibre import read_fibre  # noqa: PLC0415  help must stay instant

    match given.kind:
        case "chain":
            return topology.chain(given.nodes, given.km)
        case "ring":
            return topology.ring(given.nodes, given.km)
        case "star":
            return topology.star(given.nodes, given.km, repeater=given.hub == "repeater")
        case "grid":
            return topology.grid(given.rows, given.columns, given.km)
        case "geometric":
            return topology.geometric(given.nodes, given.side_km, given.reach_km, given.seed)
        case "small-world":
            return topology.small_world(
                given.nodes, given.degree, given.rewired, given.km, given.seed
            )
        case "scale-free":
            return topology.scale_free(given.nodes, given.links, given.km, given.seed)
        case "hierarchical":
            return topology.hierarchical(given.levels, given.branches, given.km)
        case _:
            return read_fibre(Path(given.file), given.spacing_km)


def _command(given: argparse.Namespace) -> str:
    """The command line that writes this file again, whatever defaults become."""
    words = ["qstack topology", given.kind]
    if given.kind == "fibre":
        words.append(Path(given.file).name)
    if given.kind == "star":
        words.append(f"--hub {given.hub}")
    for name in (*KINDS[given.kind][1], "name", "qubits", "port"):
        words.append(f"--{name} {getattr(given, name.replace('-', '_'))}")
    return " ".join(words)

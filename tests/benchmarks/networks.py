"""Variants of the shipped network ``two_nodes``: other numbers of qubits, ports of their own."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path

from qstack.drivers.places import network_text

_PORTS = 7


def two_nodes(qubits: int, ports: list[int]) -> str:
    """Return the text of ``two_nodes`` with this many communication qubits, and modes, per node.

    `ports` replace the file's own, in their order. Fidelities and times stay as shipped.
    """
    text = network_text("two_nodes")
    found = sorted(set(re.findall(r'"127\.0\.0\.1:(\d+)"', text)))
    for old, new in zip(found, ports[: len(found)], strict=True):
        text = text.replace(f'"127.0.0.1:{old}"', f'"127.0.0.1:{new}"')
    text = re.sub(r"(?m)^(communication|modes) = \d+", rf"\g<1> = {qubits}", text)
    # Gates between qubits that are not there would be an error; the benchmark needs none.
    return re.sub(r"(?m)^coupled = .*$", "coupled = []", text)


def free_ports(count: int = _PORTS) -> list[int]:
    """Return UDP ports of loopback that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(count)
        ]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def write(folder: Path, qubits: int) -> Path:
    """Write a variant into a folder and return its file."""
    path = folder / f"two_nodes_{qubits}.toml"
    path.write_text(two_nodes(qubits, free_ports()), encoding="utf-8")
    return path

"""Hand-made statuses of nodes, as :meth:`qstack.network.machine.Network.report` gives them."""

from __future__ import annotations

from typing import Any


def routes_of(*said: tuple[str, int, dict[str, tuple[str, bool]]]) -> dict[str, Any]:
    """The status of a node that heard this: (node, sequence, its links: (peer, up))."""
    routes = {
        name: {
            "sequence": sequence,
            "trust": 0,
            "draining": False,
            "links": {
                link: {"peer": peer, "up": up, "reserved": 0.0, "draining": False}
                for link, (peer, up) in links.items()
            },
        }
        for name, sequence, links in said
    }
    network = {"routes": routes, "circuits": [], "counters": {"swaps": 0}}
    return {"node": said[0][0], "network": network}


def circuit(
    role: str, *, lease_ns: int | None, requests: list[tuple[str, str, int, int]] | None = None
) -> dict[str, Any]:
    """The status of alice or bob at an end of the circuit c between them."""
    fields = ("request", "state", "delivered", "number")
    member = {
        "circuit": "c",
        "path": ["alice", "bob"],
        "role": role,
        "state": "ready",
        "rests": False,
        "share": {},
        "cutoff_ns": 1_500_000,
        "held": 0,
        "requests": [dict(zip(fields, each, strict=True)) for each in requests or []],
        "lease_ns": lease_ns,
    }
    network = {"routes": {}, "circuits": [member], "counters": {"swaps": 0}}
    return {"node": "alice" if role == "head" else "bob", "network": network}

"""What parts of a node tell people, in JSON's types."""

from __future__ import annotations

from typing import Any

from qstack.link.machine import Link
from qstack.physical.machine import NodePhysical
from qstack.physical.service import LinkParameters
from qstack.physical.slots import Slots
from qstack.units import Instant, NodeName


def status_of_slots(slots: Slots) -> dict[str, Any]:
    """Return how many qubits there are, how many are free, and who holds the others."""
    held = {str(slot): f"{owner.room}:{owner.what}" for slot, owner in slots.held().items()}
    return {
        "communication_free": slots.free(),
        "communication": slots.total(),
        "storage_free": slots.free("storage"),
        "storage": slots.total("storage"),
        "held": held,
    }


def status_of_link(
    link: LinkParameters, node: NodeName, machines: tuple[NodePhysical, Link], now: Instant
) -> dict[str, Any]:
    """Return what a node knows of one of its links; `closed_ns`: it opens so long from now."""
    physical, machine = machines
    return {
        "station": link.station,
        "remote": link.other(node).node,
        "closed_ns": machine.closed_ns(now),
        "physical": physical.report(),
        "link": machine.report(),
    }

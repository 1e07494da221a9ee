"""Devices that live in another process: what their server's machine takes and gives.

The server may be the simulated world, or the process beside a laboratory's controller. It is a
pure machine whose events are :class:`Commanded`, :class:`OwnerGone` and TICK, and whose actions
are ``Up(Reported(...))``.
"""

from __future__ import annotations

from typing import Any

from qstack.machine import record
from qstack.units import NodeName


@record
class Commanded:
    """A device command from the process `owner`."""

    owner: NodeName
    body: Any


@record
class Reported:
    """A device event for the process `owner`."""

    owner: NodeName
    body: Any


@record
class OwnerGone:
    """The process `owner` ended or restarted: its commands end, its qubits are lost."""

    owner: NodeName

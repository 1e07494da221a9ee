"""The live node: a program's view of its nodes, over their user ports.

``async with connect("two_nodes", "alice", "bob") as (alice, bob):`` gives two
:class:`qstack.application.service.Node`. All of them share one socket and one pure machine
(:class:`qstack.stack.UserHost`) in a pump that lives as long as the block. When it ends, the
nodes are told, and free what the program still held.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from qstack.config import NetworkFile, load
from qstack.drivers.live import LiveNode, Unreachable
from qstack.drivers.places import identity_of, node_of, role_of, user_address_of
from qstack.drivers.pump import LabClock, Outside, Port, Pump
from qstack.drivers.udp import Address, UdpSocket, format_address, is_loopback
from qstack.stack import FromNode, NodeLost, NodeReached, UserHost
from qstack.units import Chance, Instant, NodeName

CONNECT_S = 5.0
"""How long a node may take to answer, in wall seconds."""


class _Users:
    """Hands what the user host indicates to the live nodes."""

    def __init__(self, places: dict[NodeName, Address]) -> None:
        self.nodes: dict[NodeName, LiveNode] = {}
        self._places = places
        self._reached: dict[NodeName, trio.Event] = {name: trio.Event() for name in places}

    def on_up(self, event: Any, now: Instant) -> None:
        """Take an indication of the host."""
        match event:
            case FromNode():
                self.nodes[event.node].told(event.message)
            case NodeReached():
                self._reached[event.node].set()
            case NodeLost():
                where = format_address(self._places[event.node])
                self.nodes[event.node].lost(
                    Unreachable(
                        f"{event.node} at {where} was lost: {event.reason}; what it held for "
                        "this program is gone: see whether its process still runs, then reconnect"
                    )
                )

    async def wait_for_all(self, seconds: float) -> None:
        """Return when every node has answered; Unreachable names those that did not."""
        with trio.move_on_after(seconds):
            for event in self._reached.values():
                await event.wait()
        missing = [name for name, event in self._reached.items() if not event.is_set()]
        if missing:
            who = ", ".join(f"{name} at {format_address(self._places[name])}" for name in missing)
            raise Unreachable(
                f"no answer from {who} within {seconds:g} s: start the network (qstack up), or "
                "see with qstack check which process is missing"
            )


@asynccontextmanager
async def connect(
    network: NetworkFile | str, *names: NodeName, timeout_s: float = CONNECT_S
) -> AsyncIterator[tuple[LiveNode, ...]]:
    """Reach these nodes of a running network, by its file, bare name or record.

    Raises ConfigError for a wrong file or name and :class:`Unreachable` when a node does not
    answer within `timeout_s` wall seconds; each call raises it when its node is lost later.
    """
    file = load(network) if isinstance(network, str) else network
    chance = Chance(secrets.randbits(63))
    roles = tuple((name, role_of(node_of(file, name))) for name in names)
    places = {name: user_address_of(file, name) for name in names}
    identity = identity_of(file, f"user-{chance.bits(48):012x}", "user", chance)
    socket = _client_socket(identity.name, places)
    users = _Users(places)
    port = Port("user", socket, dict(places))
    outside = Outside(on_up=users.on_up)
    pump = Pump(UserHost(identity, roles), (port,), LabClock(file.time_scale), outside)
    users.nodes = {name: LiveNode(name, pump) for name in names}
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(pump.run)
            try:
                await users.wait_for_all(timeout_s)
                yield tuple(users.nodes[name] for name in names)
            finally:
                pump.farewell("the program ended")
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # What the program raised leaves as it was, not inside the group of our own nursery.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
    finally:
        socket.close()


def _client_socket(name: str, places: dict[NodeName, Address]) -> UdpSocket:
    """Open a port that can reach all of these: on loopback, unless one is elsewhere."""
    addresses = list(places.values())
    six = any(":" in host for host, _ in addresses)
    if all(is_loopback(address) for address in addresses):
        host = "::1" if six else "127.0.0.1"
    else:
        host = "::" if six else "0.0.0.0"  # noqa: S104  a client that only known peers reach
    return UdpSocket((host, 0), owner=name, port_name="user")

"""Ports: a socket, and who may be heard by it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from qstack.codec import Keys
from qstack.drivers.udp import Address, UdpSocket, is_loopback
from qstack.units import NodeName

MAX_LEARNED = 128
"""How many addresses of strangers a learning port remembers; the longest silent one goes."""


def _holds_none(name: NodeName) -> bool:
    return False


class Port:
    """A socket and who may be heard by it.

    `peers` have fixed addresses. A port that `learns` also takes others, by name, from
    loopback; from elsewhere only where the network file bound it to another address. The
    latest address of a name counts: a restarted client comes from another port. But of a name
    that `holds`, because an adjacency with it stands, strangers can neither take nor move the
    address; the pump asks its host who that is.

    `keys` seal what leaves by this port and open what comes in; see :mod:`qstack.drivers.keys`.
    """

    def __init__(
        self,
        name: str,
        socket: UdpSocket,
        peers: dict[NodeName, Address],
        *,
        learns: bool = False,
        keys: Keys | None = None,
    ) -> None:
        self.name = name
        self.socket = socket
        self.peers = peers
        self.learns = learns
        self.learned: OrderedDict[NodeName, Address] = OrderedDict()
        self.holds: Callable[[NodeName], bool] = _holds_none
        self.keys = keys

    def admits(self, name: NodeName, address: Address) -> bool:
        """Whether a datagram that says it is from `name` may come from `address`."""
        fixed = self.peers.get(name)
        if fixed is not None:
            return fixed == address
        if not self.learns:
            return False
        known = self.learned.get(name)
        if known != address:
            if is_loopback(self.socket.address) and not is_loopback(address):
                return False
            if known is not None and self.holds(name):
                return False
            if known is None and len(self.learned) >= MAX_LEARNED and not self._forget_one():
                return False
            self.learned[name] = address
        self.learned.move_to_end(name)
        return True

    def _forget_one(self) -> bool:
        """Forget the longest silent name without an adjacency; False where there is none."""
        for name in self.learned:
            if not self.holds(name):
                del self.learned[name]
                return True
        return False

    def address_of(self, name: NodeName) -> Address | None:
        """Return where to send what is for `name`."""
        return self.peers.get(name) or self.learned.get(name)

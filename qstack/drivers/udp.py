"""UDP sockets: drained until they would block, sent to directly, with their losses counted.

Why not trio's socket calls: a drain loop over a plain non-blocking socket costs a third less
processor time per datagram (DESIGN section 9). Only the waiting goes through trio.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import TypeAlias

import trio

from qstack.errors import QstackError

Address: TypeAlias = tuple[str, int]
"""Numeric host and port."""

RECEIVE_BUFFER_BYTES = 4 << 20
"""What is asked of the kernel; it may grant less (net.core.rmem_max)."""

_DATAGRAM_BYTES = 2_048
"""More than any legal datagram: a longer one is cut, and then fails to decode."""

# The constants of Linux that the socket module does not name; elsewhere drops go uncounted.
_SO_RXQ_OVFL = 40
_ANCILLARY_BYTES = socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0
_DROPS = struct.Struct("=I")


class PortUnavailable(QstackError):
    """A port could not be opened; the message says for whom, where, why, and what to do."""


def parse_address(text: str) -> Address:
    """Return ("127.0.0.1", 7000) for "127.0.0.1:7000"; IPv6 hosts stand in brackets.

    Names are not resolved here. ValueError, with the reason, for anything else.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets, as in [::1]:7000")
    if not colon or not host:
        raise ValueError(f"{text!r} is not of the form host:port")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise ValueError(f"{text!r}: the port is not a number from 0 to 65535")
    return host, int(port)


def format_address(address: Address) -> str:
    """Return the text that :func:`parse_address` reads."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(address: Address) -> Address:
    """Return the address with its host as a number; PortUnavailable if nobody knows the name."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise PortUnavailable(
            f"{format_address(address)}: the host name is not known ({error.strerror}): "
            "write a number, or add it to the hosts file"
        ) from error
    host, port = found[0][4][:2]
    return str(host), int(port)


def is_loopback(address: Address) -> bool:
    """Whether a numeric address can be reached from this machine only."""
    return ipaddress.ip_address(address[0].partition("%")[0]).is_loopback


class UdpSocket:
    """A bound, non-blocking UDP socket. Counters only grow; `receive_buffer` is in bytes.

    `kernel_dropped` is what the kernel threw away because the receive buffer was full, and
    `errors` counts sends and receives that the system refused (ICMP errors among them); the
    datagram is lost then, which the protocols expect of any datagram.
    """

    def __init__(self, address: Address, *, owner: str, port_name: str) -> None:
        """Bind to `address`; `owner` and `port_name` are for the error message alone.

        Raises PortUnavailable.
        """
        self.received = 0
        self.sent = 0
        self.kernel_dropped = 0
        self.send_full = 0
        self.errors = 0
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._counts_drops = self._prepare()
        try:
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise PortUnavailable(_explain(error, address, owner, port_name)) from error
        host, port = self._socket.getsockname()[:2]
        self.address: Address = (host, port)
        self.receive_buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def _prepare(self) -> bool:
        """Enlarge the buffer, ask for the count of drops; return whether it will come."""
        options = self._socket.setsockopt
        options(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if not _ANCILLARY_BYTES:
            return False
        try:
            options(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        except OSError:
            return False
        return True

    @property
    def descriptor(self) -> int:
        """The number of its file descriptor."""
        return self._socket.fileno()

    async def readable(self) -> None:
        """Return when there is something to receive."""
        await trio.lowlevel.wait_readable(self._socket)

    def receive(self, limit: int = 64) -> Iterator[tuple[bytes, Address]]:
        """Yield up to `limit` datagrams with where they came from, until none is there.

        What arrives while the caller handles one is yielded too.
        """
        receive = self._socket.recvfrom
        taken = 0
        try:
            if self._counts_drops and limit > 0:
                first = self._receive_with_drops()
                taken = 1
                self.received += 1
                yield first
            while taken < limit:
                data, source = receive(_DATAGRAM_BYTES)
                taken += 1
                self.received += 1
                yield data, source[:2]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # An ICMP error of an earlier send; there may be datagrams behind it, and the
            # socket is then still readable.
            self.errors += 1

    def _receive_with_drops(self) -> tuple[bytes, Address]:
        """Take one datagram and the kernel's total of drops, which rides on it."""
        data, ancillary, _, source = self._socket.recvmsg(_DATAGRAM_BYTES, _ANCILLARY_BYTES)
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                # The total is 32 bits wide and wraps.
                total = _DROPS.unpack(value[: _DROPS.size])[0]
                self.kernel_dropped += (total - self.kernel_dropped) & 0xFFFF_FFFF
        return data, source[:2]

    def send(self, data: bytes, address: Address) -> bool:
        """Send a datagram now or not at all; return whether the system took it."""
        try:
            self._socket.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            self.send_full += 1
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self.send_full += 1
            else:
                self.errors += 1
            return False
        self.sent += 1
        return True

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def report(self) -> dict[str, int]:
        """Return the counters by name."""
        return {
            "received": self.received,
            "sent": self.sent,
            "kernel_dropped": self.kernel_dropped,
            "send_full": self.send_full,
            "errors": self.errors,
            "receive_buffer": self.receive_buffer,
        }


def _explain(error: OSError, address: Address, owner: str, port_name: str) -> str:
    """Return one line: who, where, why, what to do."""
    where = f"{owner}: the {port_name} port {format_address(address)}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} is in use: another process, perhaps the same network started twice, has "
            "it; stop that one, or give this port another number in the network file"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{where} is not an address of this machine: start {owner} on the machine that has "
            "it, or correct the address in the network file"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} is not allowed to this user: take a port above 1023"
    return f"{where} cannot be opened: {error.strerror}"

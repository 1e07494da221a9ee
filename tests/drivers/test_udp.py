"""Sockets over loopback: draining, losses, errors that say what to do."""

from __future__ import annotations

import socket
import sys

import pytest
import trio

from qstack.drivers import udp
from qstack.drivers.udp import (
    PortUnavailable,
    UdpSocket,
    format_address,
    is_loopback,
    parse_address,
    resolve,
)
from tests.drivers.hosts import LOOPBACK

LIMIT_S = 20


def opened() -> UdpSocket:
    return UdpSocket(LOOPBACK, owner="alice", port_name="peer")


@pytest.mark.parametrize("text", ["127.0.0.1:7000", "[::1]:7000", "lab.example:0"])
def test_an_address_survives_parsing_and_formatting(text: str) -> None:
    assert format_address(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "7000", ":7000", "::1:7000", "host:", "host:x", "host:70000", "host:-1", "host:\u0661"],
)
def test_a_malformed_address_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        parse_address(text)


def test_a_loopback_address_is_told_from_others() -> None:
    assert is_loopback(("127.0.0.9", 1))
    assert is_loopback(("::1", 1))
    assert not is_loopback(("192.0.2.1", 1))


def test_a_numeric_host_resolves_to_itself() -> None:
    assert resolve(("127.0.0.1", 7000)) == ("127.0.0.1", 7000)


async def test_a_socket_is_drained_until_it_would_block() -> None:
    a, b = opened(), opened()
    for number in range(10):
        assert a.send(bytes((number,)), b.address)
    with trio.fail_after(LIMIT_S):
        await b.readable()
    taken = list(b.receive())
    assert [data for data, _ in taken] == [bytes((number,)) for number in range(10)]
    assert {source for _, source in taken} == {a.address}
    assert list(b.receive()) == []
    assert (a.sent, b.received) == (10, 10)
    a.close()
    b.close()


async def test_a_batch_is_bounded_and_the_rest_stays() -> None:
    a, b = opened(), opened()
    for number in range(5):
        a.send(bytes((number,)), b.address)
    assert [len(list(b.receive(limit))) for limit in (2, 2, 2)] == [2, 2, 1]
    a.close()
    b.close()


async def test_what_the_kernel_drops_is_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sys.platform == "linux", "only Linux counts drops"
    monkeypatch.setattr(udp, "RECEIVE_BUFFER_BYTES", 4_096)
    a, b = opened(), opened()
    for _ in range(200):
        a.send(bytes(500), b.address)
    while list(b.receive()):
        pass
    # The count rides on a datagram that comes after the drops.
    a.send(b"last", b.address)
    with trio.fail_after(LIMIT_S):
        await b.readable()
    list(b.receive())
    assert 0 < b.received < 201
    assert b.received + b.kernel_dropped == 201
    a.close()
    b.close()


async def test_sending_to_a_closed_port_is_survived() -> None:
    a, b = opened(), opened()
    nowhere = b.address
    b.close()
    for _ in range(3):
        a.send(b"anybody", nowhere)
    assert list(a.receive()) == []
    a.close()


def test_sending_what_no_datagram_holds_is_counted_and_survived() -> None:
    a = opened()
    assert not a.send(bytes(100_000), a.address)
    assert (a.errors, a.sent) == (1, 0)
    a.close()


def test_a_port_in_use_says_who_where_and_what_to_do() -> None:
    a = opened()
    with pytest.raises(PortUnavailable) as caught:
        UdpSocket(a.address, owner="bob", port_name="user")
    text = str(caught.value)
    for part in ("bob", "user", format_address(a.address), "in use", "stop"):
        assert part in text
    assert "\n" not in text
    a.close()


def test_an_address_of_another_machine_says_so() -> None:
    # 192.0.2.0/24 is reserved for documentation (RFC 5737): no machine has it.
    with pytest.raises(PortUnavailable, match="not an address of this machine"):
        UdpSocket(("192.0.2.1", 0), owner="bob", port_name="peer")


def test_the_receive_buffer_is_larger_than_the_default() -> None:
    a = opened()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        assert a.receive_buffer >= plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert a.report()["receive_buffer"] == a.receive_buffer
    a.close()

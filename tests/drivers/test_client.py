"""The live node, over real sockets, against a node that answers by a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from qstack.application.service import Node
from qstack.drivers.client import connect
from qstack.drivers.live import Unreachable
from qstack.drivers.udp import UdpSocket, format_address
from qstack.errors import ConfigError, ErrorCode, LocalProtocolError, RequestFailed
from qstack.messages.application import (
    FreeQubit,
    Listen,
    OutcomeReady,
    PairExpired,
    PairReady,
    StopListen,
)
from qstack.messages.common import PLAIN_Z, Basis, Qubit
from qstack.messages.devices import Gate
from tests.drivers.fake_node import LATE, info, lab, running, terms
from tests.drivers.hosts import LOOPBACK

LIMIT_S = 30


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a port that is open, but where nobody answers."""
    socket = UdpSocket(LOOPBACK, owner="nobody", port_name="user")
    yield format_address(socket.address)
    socket.close()


async def test_a_request_delivers_in_order_and_its_loop_ends() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, _), connect(network, "alice") as (alice,):
            request = await alice.create_keep(terms(40))
            assert request.id.origin == "alice"
            got = [delivery async for delivery in request]
    assert [each.info for each in got if isinstance(each, PairReady)] == [
        info(n) for n in range(40)
    ]


async def test_measured_pairs_come_as_outcomes() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, _), connect(network, "alice") as (alice,):
            request = await alice.create_measure(terms(3), PLAIN_Z, PLAIN_Z)
            got = [delivery async for delivery in request]
    assert [each.outcome for each in got if isinstance(each, OutcomeReady)] == [0, 1, 0]


async def test_a_request_that_fails_raises_its_code_in_the_loop() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, _), connect(network, "alice") as (alice,):
            request = await alice.create_keep(terms(101))
            with pytest.raises(RequestFailed, match="too many") as caught:
                await anext(aiter(request))
    assert caught.value.code is ErrorCode.UNSUPPORTED


async def test_a_cancelled_request_ends_its_loop_with_other() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, _), connect(network, "alice") as (alice,):
            request = await alice.create_keep(terms(0))
            await request.cancel()
            with pytest.raises(RequestFailed) as caught:
                await anext(aiter(request))
    assert caught.value.code is ErrorCode.OTHER


async def test_a_pair_that_expires_after_its_loop_has_ended_reaches_the_program() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, scope), connect(network, "alice") as (alice,):
            request = await alice.create_keep(terms(LATE))
            got = [delivery async for delivery in request]
            assert [type(each) for each in got] == [PairReady, PairExpired, PairReady]
            node: Node = alice
            expired = await anext(node.expired)
            assert (expired.request, expired.pair) == (request.id, info(1).pair)
            scope.cancel()
            with pytest.raises(Unreachable):
                await anext(node.expired)
            with pytest.raises(Unreachable):
                await anext(node.expired)


async def test_a_pair_for_a_listener_expires_in_its_loop_even_after_its_request_ended() -> None:
    with trio.fail_after(LIMIT_S):
        async with running(LATE) as (network, _, _), connect(network, "alice") as (alice,):
            incoming = aiter(await alice.listen(7))
            got = [await anext(incoming) for _ in range(LATE + 1)]
            assert isinstance(got[-1], PairExpired)
            assert got[-1].pair == info(0).pair


async def test_calls_are_answered_each_with_its_own_answer() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, _), connect(network, "alice") as (alice,):
            node: Node = alice
            await node.gate(Gate.H, Qubit(3, 1))
            measured = await node.measure(Qubit(3, 1), PLAIN_Z)
            with pytest.raises(RequestFailed, match="not yours"):
                await node.measure(Qubit(51, 1), PLAIN_Z)
            status = await node.status()
    assert (measured.qubit, measured.basis, measured.outcome) == (Qubit(3, 1), Basis.Z, 1)
    assert status["node"] == "alice"
    assert len(status["long"]) == 3_000


async def test_a_qubit_that_is_used_up_is_refused_before_anything_is_sent() -> None:
    spent, fresh = Qubit(3, 1), Qubit(3, 2)
    with trio.fail_after(LIMIT_S):
        async with running() as (network, fake, _), connect(network, "alice") as (alice,):
            await alice.measure(spent, PLAIN_Z)
            told = len(fake.told)
            for use in (
                alice.measure(spent, PLAIN_Z),
                alice.free(spent),
                alice.gate(Gate.H, spent),
            ):
                with pytest.raises(LocalProtocolError, match=r"alice.*slot=3.*already"):
                    await use
            assert len(fake.told) == told
            await alice.measure(fresh, PLAIN_Z)


async def test_what_others_ask_for_comes_to_the_listener_until_it_closes() -> None:
    with trio.fail_after(LIMIT_S):
        async with running(incoming=3) as (network, node, _), connect(network, "alice") as (alice,):
            incoming = await alice.listen(7)
            first = await anext(aiter(incoming))
            assert isinstance(first, PairReady)
            assert first.purpose == 7
            await incoming.close()
            assert [each async for each in incoming] == []
            # The two that nobody took are given back.
            await node.freed.wait()
            await alice.status()
            kinds = [type(message) for message in node.told]
    assert kinds.count(FreeQubit) == 2
    assert kinds.index(Listen) < kinds.index(StopListen) < kinds.index(FreeQubit)


async def test_a_node_that_does_not_answer_is_named_with_its_address(nobody: str) -> None:
    with trio.fail_after(LIMIT_S), pytest.raises(Unreachable) as caught:
        async with connect(lab(nobody), "alice", timeout_s=0.1):
            pytest.fail("nobody was reached")
    for part in ("alice", nobody, "qstack up", "qstack check"):
        assert part in str(caught.value)


async def test_a_name_that_is_not_in_the_network_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'carol'.*alice"):
        async with connect(lab("127.0.0.1:1"), "carol"):
            pytest.fail("nobody was reached")


async def test_a_node_that_is_lost_ends_what_waits_for_it() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, scope), connect(network, "alice") as (alice,):
            request = await alice.create_keep(terms(0))
            scope.cancel()
            with pytest.raises(Unreachable, match="alice"):
                await anext(aiter(request))
            with pytest.raises(Unreachable):
                await alice.status()


async def test_an_error_of_the_program_leaves_the_block_as_it_was() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, _, _):
            with pytest.raises(ZeroDivisionError, match="mine"):
                async with connect(network, "alice"):
                    raise ZeroDivisionError("mine")


async def test_the_node_notices_that_the_program_is_gone() -> None:
    with trio.fail_after(LIMIT_S):
        async with running() as (network, node, _):
            async with connect(network, "alice") as (alice,):
                await alice.status()
                assert not node.gone.is_set()
            await node.gone.wait()

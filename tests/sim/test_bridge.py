"""Node programs on the heap: whose time it is, who is woken when, and what never comes."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
from trio._core import _run as trio_run

from qstack.application.service import Node
from qstack.drivers.live import Unreachable
from qstack.errors import ConfigError, ErrorCode, LocalProtocolError, RequestFailed
from qstack.machine import TICK
from qstack.messages.application import PairReady
from qstack.messages.common import PLAIN_Z
from qstack.messages.devices import Gate
from qstack.sim import Network, Session, Stalled
from qstack.sim.clock import HeapClock
from qstack.testing import terms
from qstack.units import MILLISECOND, SECOND
from tests.other_pythons import ROOT, others

lab_sleep = trio.sleep
"""In lab time: no test here waits for a clock on the wall."""


@pytest.fixture
def net() -> Network:
    return Network.load("two_nodes", seed=3)


def free_memories(net: Network) -> list[int]:
    return [net.status(name)["slots"]["communication_free"] for name in net.nodes]


async def take_one(a: Node, b: Node) -> tuple[PairReady, PairReady]:
    """A pair, both halves held by their programs."""
    incoming = await b.listen(0)
    request = await a.create_keep(terms("bob", 1))
    mine, theirs = await anext(aiter(request)), await anext(aiter(incoming))
    assert isinstance(mine, PairReady)
    assert isinstance(theirs, PairReady)
    assert mine.info.pair == theirs.info.pair
    return mine, theirs


# --- time ---------------------------------------------------------------------------------


def test_sleeping_tasks_wake_in_order_each_exactly_at_its_instant_of_lab_time(
    net: Network,
) -> None:
    begun, woken = net.now, []

    async def sleeper(duration_ms: int) -> None:
        await lab_sleep(duration_ms / 1e3)
        woken.append((duration_ms, net.now - begun))

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            for duration_ms in (700, 1, 250, 3):
                nursery.start_soon(sleeper, duration_ms)

    net.run(program)
    assert woken == [(each, each * MILLISECOND) for each in (1, 3, 250, 700)]


def test_a_deadline_ends_a_wait_at_its_instant_and_not_a_nanosecond_later(net: Network) -> None:
    async def program(node: Node) -> tuple[int, float]:
        await node.status()
        begun = net.now
        incoming = await node.listen(5)
        with trio.move_on_after(0.125) as scope:
            async for _ in incoming:
                pytest.fail("nobody asks for anything")
        assert scope.cancelled_caught
        return net.now - begun, trio.current_time()

    waited, shown = net.run(program, "alice")
    assert 0.125 * SECOND <= waited < 0.126 * SECOND  # listening took some of it
    assert shown == pytest.approx(net.now / SECOND, abs=1e-4)  # closing took the rest


def test_a_deadline_between_two_nanoseconds_is_reached(net: Network) -> None:
    async def program() -> tuple[float, float]:
        deadline = math.nextafter(round(trio.current_time()) + 1.5, math.inf)
        await trio.sleep_until(deadline)
        return deadline, trio.current_time()

    deadline, shown = net.run(program)
    assert shown == deadline
    assert net.now == pytest.approx(deadline * SECOND, abs=10_000)


def test_lab_time_stands_still_between_calls_and_goes_on_in_the_next(net: Network) -> None:
    begun = net.now
    net.run(_sleep_a_second)
    between = net.now
    assert between - begun >= SECOND
    assert net.now == between
    net.run(_sleep_a_second)
    assert net.now - between >= SECOND


async def _sleep_a_second() -> None:
    await lab_sleep(1.0)


def test_lab_time_stands_still_while_threads_work(net: Network) -> None:
    seen: list[int] = []

    def work() -> None:
        for _ in range(20):  # each goes through the whole loop of trio
            seen.append(trio.from_thread.run_sync(lambda: net.now))

    async def program(node: Node) -> int:
        await node.status()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1e-6)
            begun = net.now
            await trio.to_thread.run_sync(work)
            return begun

    begun = net.run(program, "alice")
    assert seen == [begun] * 20
    assert net.now > begun


def test_a_thread_that_waits_for_lab_time_gets_it(net: Network) -> None:
    def work() -> int:
        trio.from_thread.run(trio.sleep, 2.0)
        return net.now

    async def program() -> int:
        return await trio.to_thread.run_sync(work)

    begun = net.now
    assert net.run(program) == begun + 2 * SECOND


async def test_waiting_for_all_tasks_to_block_takes_no_lab_time(net: Network) -> None:
    async with net.running() as session, trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 5)
        begun = session.now
        await trio.testing.wait_all_tasks_blocked()
        assert session.now == begun
        nursery.cancel_scope.cancel()


async def test_clock_and_order_of_the_run_are_put_back_after_the_block(net: Network) -> None:
    module: Any = trio_run
    before = trio.lowlevel.current_clock()
    chances, switch = module._r, module._ALLOW_DETERMINISTIC_SCHEDULING
    state = chances.getstate()
    async with net.running() as session:
        assert isinstance(trio.lowlevel.current_clock(), HeapClock)
        assert session.now == pytest.approx(trio.current_time() * SECOND)
        assert module._ALLOW_DETERMINISTIC_SCHEDULING
    with pytest.raises(Stalled):
        async with net.running():
            await trio.sleep_forever()
    assert trio.lowlevel.current_clock() is before
    assert module._r is chances
    assert chances.getstate() == state
    assert switch == module._ALLOW_DETERMINISTIC_SCHEDULING


@pytest.mark.parametrize("seconds", [1.0, 1e9])
async def test_a_deadline_from_outside_the_block_is_refused_as_it_means_another_time(
    net: Network, seconds: float
) -> None:
    with trio.fail_after(seconds), pytest.raises(LocalProtocolError, match="set the deadline"):
        async with net.running():
            pytest.fail("the block began")


async def test_one_trio_run_is_in_the_time_of_one_network_alone(net: Network) -> None:
    other = Network.load("two_nodes", seed=4)
    async with net.running():
        for each, reason in ((other, "virtual time already"), (net, "in use already")):
            with pytest.raises(LocalProtocolError, match=reason):
                async with each.running():
                    pytest.fail("the block began")


# --- who is woken -------------------------------------------------------------------------


class Steps(trio.abc.Instrument):
    """Counts the steps of each task by its name."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        name = task.name.rpartition(".")[2]
        self.count[name] = self.count.get(name, 0) + 1


def test_a_program_is_woken_for_what_it_waits_for_and_nothing_else(net: Network) -> None:
    steps, pairs = Steps(), 40

    async def receive(node: Node) -> None:
        async for delivery in await node.listen(0):
            assert isinstance(delivery, PairReady)
            await node.free(delivery.qubit)

    async def idle(node: Node) -> None:
        async for _ in await node.listen(9):
            pytest.fail("nobody asks with this purpose")

    async def ask(a: Node) -> None:
        for _ in range(pairs):
            async for delivery in await a.create_keep(terms("bob", 1)):
                assert isinstance(delivery, PairReady)
                await a.free(delivery.qubit)

    async def program(a: Node, b: Node) -> None:
        trio.lowlevel.add_instrument(steps)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, b)
            nursery.start_soon(idle, b)
            await ask(a)
            nursery.cancel_scope.cancel()

    turned = net.virtual.heap.entries
    net.run(program, "alice", "bob")
    # Its first step, the answer to its call, and the end.
    assert steps.count["idle"] == 3
    # The same for the receiver, and one more for each pair.
    assert steps.count["receive"] == 3 + pairs
    assert net.virtual.heap.entries - turned > 20 * pairs


HISTORY = """
import hashlib, random, sys, trio
from qstack.errors import RequestFailed
from qstack.sim import Network
from qstack.testing import terms

net = Network.load("two_nodes", seed=11)
found = hashlib.sha256()
net.virtual.heap.watch = lambda *step: found.update(repr(step).encode())

async def ask(node, number, log):
    request = await node.create_keep(terms("bob", 2))
    async for delivery in request:
        log.append((number, net.now, str(delivery.info.pair)))
        async with trio.open_nursery() as nursery:
            for part in range(3):
                nursery.start_soon(trio.sleep, 1e-6 * (number % 2))
        await node.free(delivery.qubit)

async def hide(number, log):
    try:
        await trio.sleep_forever()
    finally:
        log.append(("cancelled", number))

async def take(node):
    async for delivery in await node.listen(0):
        await node.free(delivery.qubit)

async def program(alice, bob):
    log = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, bob)
        for number in range(12):
            nursery.start_soon(hide, number, log)
        async with trio.open_nursery() as inner:
            for number in range(8):
                inner.start_soon(ask, alice, number, log)
        nursery.cancel_scope.cancel()
    return log

# Holes in memory, so that objects have other addresses, in another order.
order = random.Random(sys.argv[1])
junk = [bytes(size) for size in range(16, 512, 16) for _ in range(200)]
order.shuffle(junk)
del junk[::2]
log = net.run(program, "alice", "bob")
print(hashlib.sha256(repr(log).encode()).hexdigest(), found.hexdigest(), len(log), net.now)
print([number for what, number, *_ in log if what == "cancelled"])
"""


def printed_by(python: str, hashes: str) -> str:
    done = subprocess.run(
        [python, "-c", HISTORY, hashes],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hashes},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_one_seed_makes_one_history_also_with_nurseries_and_cancelled_tasks() -> None:
    """Other hash seeds, other addresses of objects, in processes of their own."""
    printed = {printed_by(sys.executable, hashes) for hashes in ("0", "1", "77")}
    assert len(printed) == 1
    first = printed.pop().split("\n")
    assert first[0].split()[2] == str(8 * 2 + 12)
    # The order is not that of the tasks' age: interleavings are explored, by the seed.
    assert first[1] != str(list(range(12)))


NETWORKS = "from qstack.config import load; load('two_nodes')"


@pytest.mark.parametrize("another_python_with_qstack_installed", others(NETWORKS))
def test_programs_with_nurseries_have_the_same_history_in_another_version_of_python(
    another_python_with_qstack_installed: str,
) -> None:
    """Skipped, with the parameter's name as the word, where none is installed."""
    there = printed_by(another_python_with_qstack_installed, "5")
    assert there == printed_by(sys.executable, "0")


def test_the_order_of_tasks_does_not_depend_on_chances_drawn_elsewhere() -> None:
    def order(seed: int) -> list[int]:
        log: list[int] = []

        async def enter(number: int) -> None:
            log.append(number)

        async def program() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(enter, number)

        random.random()
        Network.load("two_nodes", seed=seed).run(program)
        return log

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_networks_in_several_threads_do_not_disturb_each_other_s_order() -> None:
    def order(seed: int, together: threading.Barrier) -> list[int]:
        log: list[int] = []

        async def enter(number: int) -> None:
            log.append(number)

        async def program() -> None:
            for _ in range(5):
                together.wait()
                async with trio.open_nursery() as nursery:
                    for number in range(10):
                        nursery.start_soon(enter, number)

        Network.load("two_nodes", seed=seed).run(program)
        return log

    alone = [order(seed, threading.Barrier(1)) for seed in (1, 2)]
    pair = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(order, (1, 2), (pair, pair))) == alone


# --- what never comes ---------------------------------------------------------------------


def test_a_program_that_waits_in_vain_is_told_for_what_and_what_each_node_does(
    net: Network,
) -> None:
    async def wait_for_nobody(node: Node) -> None:
        async for _ in await node.listen(7):
            pytest.fail("nobody asks for anything")

    with pytest.raises(Stalled) as caught:
        net.run(wait_for_nobody, "bob")
    text = str(caught.value)
    for part in ("wait_for_nobody", "test_bridge.py", "bob: the program waits", "purpose 7"):
        assert part in text
    for node in ("alice", "bob", "midpoint"):
        assert f"\n  {node}: link alice-bob" in text


def test_a_request_that_nobody_can_fulfil_any_more_names_who_is_missing(net: Network) -> None:
    async def program(a: Node, b: Node) -> None:
        await b.listen(0)
        request = await a.create_keep(terms("bob", 10_000))
        net.virtual.crash("midpoint")
        async for delivery in request:
            assert isinstance(delivery, PairReady)
            await a.free(delivery.qubit)

    with pytest.raises(Stalled) as caught:
        net.run(program, "alice", "bob")
    text = str(caught.value)
    assert "the next of 10000 pairs with bob" in text
    assert "alice: no contact with midpoint" in text
    assert "midpoint: is down" in text
    assert "generating" in text or "queued" in text or "request alice" in text


def test_an_event_that_nobody_sets_is_found_with_every_task_that_waits(net: Network) -> None:
    async def first() -> None:
        await trio.sleep_forever()

    async def second() -> None:
        await trio.Event().wait()

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)

    with pytest.raises(Stalled, match=r"(?s)task first.*task second"):
        net.run(program)


def test_a_task_that_cannot_be_cancelled_does_not_hide_that_nothing_comes(net: Network) -> None:
    async def program() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with pytest.raises(Stalled, match="in program"):
        net.run(program)


def test_events_that_are_still_to_come_on_the_heap_are_worth_waiting_for(net: Network) -> None:
    later = 1_000 * SECOND

    async def program(a: Node, b: Node) -> int:
        incoming = await b.listen(0)
        request = await a.create_keep(terms("bob", 1, max_time_ns=later))
        net.virtual.crash("midpoint")
        with pytest.raises(RequestFailed) as caught:
            await anext(aiter(request))
        await incoming.close()
        return caught.value.code

    begun = net.now
    assert net.run(program, "alice", "bob") is ErrorCode.TIMEOUT
    assert later <= net.now - begun < later + SECOND


def test_a_station_that_is_started_again_much_later_is_worth_waiting_for(net: Network) -> None:
    later = 500 * SECOND

    async def program(a: Node, b: Node) -> int:
        incoming = await b.listen(0)
        net.virtual.crash("midpoint")
        net.virtual.heap.call(net.now + later, lambda: net.virtual.start("midpoint"))
        async for _ in await a.create_keep(terms("bob", 1)):
            await anext(aiter(incoming))
        return net.now

    begun = net.now
    assert later <= net.run(program, "alice", "bob") - begun < later + 10 * SECOND


def test_a_wait_longer_than_the_patience_of_a_run_ends_though_the_network_is_busy(
    net: Network,
) -> None:
    async def program(a: Node) -> None:
        async with trio.open_nursery():
            await a.listen(0)
            for _ in range(2_000):
                net.virtual.heap.post("alice", TICK, 1)  # as a device would that never ends
            net.virtual.heap.post("alice", TICK, 10_000 * SECOND)
            await trio.sleep_forever()

    with pytest.raises(Stalled, match="patience"):
        net.run(program, "alice", patience_s=50.0)
    assert net.now < 150 * SECOND


# --- errors -------------------------------------------------------------------------------


def test_a_consumed_pair_is_refused_in_every_use(net: Network) -> None:
    async def program(a: Node, b: Node) -> None:
        mine, theirs = await take_one(a, b)
        await a.measure(mine.qubit, PLAIN_Z)
        await b.free(theirs.qubit)
        for use in (
            a.measure(mine.qubit, PLAIN_Z),
            a.free(mine.qubit),
            b.gate(Gate.X, theirs.qubit),
        ):
            with pytest.raises(LocalProtocolError, match="already"):
                await use

    net.run(program, "alice", "bob")


def test_an_unknown_node_is_refused_with_those_that_there_are(net: Network) -> None:
    async def program() -> None:
        pytest.fail("it began")

    with pytest.raises(ConfigError, match=r"'carol'.*alice, bob, midpoint"):
        net.run(program, "carol")


async def test_unknown_nodes_far_ends_and_fidelities_have_one_clear_exception_each(
    net: Network,
) -> None:
    async with net.running() as session:
        with pytest.raises(ConfigError, match=r"'carol'.*alice, bob, midpoint"):
            session.node("carol")
        alice = session.node("alice")
        for wanted, code, words in (
            (terms("carol", 1), ErrorCode.CREATE, "knows no 'carol': it knows bob"),
            (terms("bob", 1, fidelity_min=0.9999), ErrorCode.UNSUPPORTED, "0.9999"),
            (terms("bob", 1, fidelity_min=1.5), ErrorCode.CREATE, "between 0 and 1"),
        ):
            with pytest.raises(RequestFailed, match=words) as caught:
                await anext(aiter(await alice.create_keep(wanted)))
            assert caught.value.code is code


def test_what_a_program_raises_leaves_the_run_as_it_was(net: Network) -> None:
    async def program(node: Node) -> None:
        await node.status()
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        net.run(program, "alice")
    assert net.run(_name_of, "alice") == "alice"


async def _name_of(node: Node) -> str:
    found: str = (await node.status())["node"]
    return found


class _Broken:
    deadline = None

    def handle(self, event: Any, now: int) -> list[Any]:
        raise ZeroDivisionError("a bug of a machine")


def test_a_bug_of_a_machine_ends_the_program_with_itself(net: Network) -> None:
    async def program(node: Node) -> None:
        net.virtual.heap.add("broken", _Broken())
        net.virtual.heap.post("broken", TICK)
        await trio.sleep_forever()

    with pytest.raises(ZeroDivisionError, match="a bug of a machine"):
        net.run(program, "alice")


# --- nodes --------------------------------------------------------------------------------


def test_what_a_program_leaves_behind_is_freed_when_it_ends(net: Network) -> None:
    async def program(a: Node, b: Node) -> list[int]:
        await take_one(a, b)
        return free_memories(net)

    before = free_memories(net)
    during = net.run(program, "alice", "bob")
    assert during == [each - 1 for each in before]
    assert free_memories(net) == before


async def test_a_node_that_crashes_is_lost_and_can_be_asked_for_again(net: Network) -> None:
    async with net.running() as session:
        alice = session.node("alice")
        incoming = await alice.listen(0)
        net.virtual.crash("alice")
        with pytest.raises(Unreachable, match="alice was lost"):
            await anext(aiter(incoming))
        with pytest.raises(Unreachable):
            await alice.status()
        net.virtual.start("alice")
        again = session.node("alice")
        assert again is not alice
        assert (await again.status())["node"] == "alice"


async def test_a_session_that_has_ended_gives_out_no_nodes_and_its_nodes_answer_no_more(
    net: Network,
) -> None:
    kept: list[Session] = []
    async with net.running() as session:
        alice: Node = session.node("alice")
        kept.append(session)
        assert session.node("alice") is alice
    with pytest.raises(LocalProtocolError, match="has ended"):
        kept[0].node("alice")
    with pytest.raises(Unreachable, match="the program ended"):
        await alice.status()

"""What happens to a chain of repeaters: one story, told of live processes and in virtual time.

A chapter asks for pairs between the ends of the chain, again and again, while parties between them
are killed as kill -9 does and started again. A :class:`Stage` says how: live, the processes of
``qstack up``; in virtual time, the hosts on a heap. What must hold is the same:

- a request completes, or ends with one reason;
- both ends know the same pairs, but for those that expired at either end;
- afterwards a request completes, and no node holds a qubit or a circuit for a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
import trio

from qstack.drivers.live import LiveNode
from qstack.errors import RequestFailed
from qstack.messages.application import PairReady
from qstack.messages.common import PairId
from tests.nodes.live_rig import Book, plain

PAIRS = 12
"""In a request."""
KILL_AT = 4
"""After so many of them the victim dies."""


class Stage(Protocol):
    """Where the story is played."""

    async def kill(self, name: str) -> None:
        """End a party at once; it stays dead until :meth:`back`, or is started again by itself."""

    async def back(self, name: str) -> None:
        """Return when the party lives again, and its neighbours have found it."""

    async def status(self, name: str) -> dict[str, Any]:
        """Return what an end node says of itself."""

    async def wait(self) -> None:
        """Let a little time pass, of whatever kind it is here."""


@attrs.define
class Ending:
    """How a request ended: the reason, empty where it completed."""

    reason: str
    delivered: int


async def ask(one: Book, number: int = PAIRS) -> Ending:
    """Make a request of the first end for pairs with bob, and take all that it delivers."""
    before = len(one.valid)
    try:
        await one.fulfil(await one.node.create_keep(plain("bob", number)))
    except RequestFailed as failure:
        return Ending(str(failure), len(one.valid) - before)
    return Ending("", len(one.valid) - before)


def common(one: Book, other: Book) -> tuple[list[PairId], list[PairId]]:
    """What both programs were told, in order, without what expired at either end."""
    void = one.void | other.void
    return (
        [pair for pair in one.ids if pair not in void],
        [pair for pair in other.ids if pair not in void],
    )


async def agree(one: Book, other: Book, stage: Stage) -> None:
    """Return when both ends know the same pairs; what is on its way must come, or expire."""
    while sorted(map(str, common(one, other)[0])) != sorted(map(str, common(one, other)[1])):
        await stage.wait()


async def until(holds: Callable[[], Awaitable[bool]], stage: Stage) -> None:
    """Return when something holds; whoever calls sets the limit."""
    while not await holds():
        await stage.wait()


async def knows_a_way(stage: Stage, name: str = "alice", remote: str = "bob") -> None:
    """Return when a node knows a way to another."""

    async def known() -> bool:
        routes = (await stage.status(name))["network"]["routes"]
        return "way" in routes.get(remote, {})

    await until(known, stage)


async def nothing_is_held(stage: Stage, names: tuple[str, ...]) -> None:
    """Return when no node has a qubit in use, nor a circuit with a request on it."""

    async def idle() -> bool:
        for name in names:
            status = await stage.status(name)
            slots, circuits = status["slots"], status["network"]["circuits"]
            if slots["held"] or slots["communication_free"] != slots["communication"]:
                return False
            if any(circuit["requests"] or circuit["held"] for circuit in circuits):
                return False
        return True

    await until(idle, stage)


async def killed_in_a_request(stage: Stage, one: Book, other: Book, victim: str) -> Ending:
    """Play a chapter: the victim dies while a request runs, and is started again."""
    before = len(one.ids)
    endings: list[Ending] = []

    async def asking() -> None:
        endings.append(await ask(one))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking)
        await one.reaches(before + KILL_AT)
        await stage.kill(victim)
        await stage.back(victim)
    (ending,) = endings
    assert ending.reason or ending.delivered == PAIRS
    await agree(one, other, stage)
    return ending


async def killed_between_requests(stage: Stage, victim: str) -> None:
    """Play a chapter: the victim dies while nobody asks for anything, and is started again."""
    await stage.kill(victim)
    await stage.back(victim)


async def serves_again(stage: Stage, one: Book, other: Book) -> None:
    """Play a chapter: a whole request, of which both ends know every pair.

    It is made again where it is refused: for as long as not all nodes know what has happened to
    one of them, what this one believes of the way may be wrong.
    """
    ending = Ending("not asked", 0)
    while ending.reason:
        await knows_a_way(stage)
        ending = await ask(one)
        await agree(one, other, stage)
        if ending.reason:
            await stage.wait()
    assert ending.delivered == PAIRS


class EndToEnd(Book):
    """A program that also minds what it is told of each pair."""

    async def take(self, delivery: Any) -> None:
        """Enter one delivery: over four links, with a goodness that the state can have."""
        if isinstance(delivery, PairReady):
            info = delivery.info
            assert info.hops == 4
            assert info.bell in range(4)
            assert 0.25 < info.goodness < 1
            assert 0 <= info.goodness_low <= info.goodness
            assert info.age_ns > 0
        await super().take(delivery)


def programs(alice: LiveNode, bob: LiveNode) -> tuple[EndToEnd, EndToEnd]:
    """A program at each end of the chain."""
    return EndToEnd(alice), EndToEnd(bob)


NODES = ("alice", "r1", "r2", "r3", "bob")
VICTIMS = ("r2", "s2")
"""A repeater and a station in the middle."""


async def story(stage: Stage, one: Book, other: Book) -> list[Ending]:
    """Play all of it; how the requests ended in which somebody died."""
    await serves_again(stage, one, other)
    endings = []
    for victim in VICTIMS:
        endings.append(await killed_in_a_request(stage, one, other, victim))
        await serves_again(stage, one, other)
        await killed_between_requests(stage, victim)
        await serves_again(stage, one, other)
    await nothing_is_held(stage, NODES)
    mine, theirs = common(one, other)
    assert len(set(mine)) == len(mine)
    assert set(mine) == set(theirs)
    return endings
